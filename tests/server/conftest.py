"""A real server on a free port of this machine, in a thread of its own, around a small app."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route

from webui.core.config import Config
from webui.core.errors import Busy, NotFound
from webui.server.hosts import listen
from webui.server.run import Server
from webui.server.site import Site

KEY = "a-key-that-nobody-guesses-0123456789"


@dataclass
class Record:
    name: str
    enabled: bool = True
    status: str = "ok"


@dataclass
class Plugins:
    """An extension with routes that do what the tests ask for."""

    routes: list[Route]
    records: list[Record] = field(default_factory=lambda: [Record("probe")])

    def collect(self, hook: str, **_: Any) -> list[tuple[str, Any]]:
        return [("probe", self.routes)] if hook == "register_routes" and self.records[0].enabled else []


class Probe:
    """An app whose one extension counts, echoes, streams, fails and takes its time."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.notices: list[str] = []
        self.panels: dict[str, Any] = {"ready": False, "script": "", "style": "", "reason": ""}
        self.calls = 0
        self.ended = 0
        self.closed = threading.Event()
        self.plugins = Plugins(
            [
                Route("/probe/echo", self.echo, methods=["POST"]),
                Route("/probe/upload", self.echo, methods=["POST"]),
                Route("/probe/stream", self.stream),
                Route("/probe/fail", self.fail),
                Route("/probe/missing", self.missing),
                Route("/probe/busy", self.busy),
            ]
        )

    async def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return await asyncio.to_thread(function, *args, **kwargs)

    async def start(self) -> None:
        return None

    async def close(self) -> None:
        self.closed.set()

    async def echo(self, request: Request) -> JSONResponse:
        self.calls += 1
        body = await request.body()
        return JSONResponse({"bytes": len(body), "headers": dict(request.headers)})

    async def stream(self, request: Request) -> StreamingResponse:
        async def events() -> Any:
            try:
                while not self.closed.is_set():
                    yield b"data: x\n\n"
                    await asyncio.sleep(0.05)
                yield b"event: error\ndata: ended\n\n"
            finally:
                self.ended += 1

        return StreamingResponse(events(), media_type="text/event-stream")

    async def fail(self, request: Request) -> JSONResponse:
        raise RuntimeError(f"secret {request.headers.get('authorization')}"[:7])

    async def missing(self, request: Request) -> JSONResponse:
        raise NotFound("There is no such chat.", "Look again.")

    async def busy(self, request: Request) -> JSONResponse:
        raise Busy("Too much.", "Later.")


@dataclass
class Running:
    """A running server and how to ask it things."""

    app: Probe
    site: Site
    server: Server
    port: int

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop that serves."""
        return self.server.servers[0].get_loop()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def ask(
        self, path: str = "/", method: str = "GET", body: bytes | None = None, timeout: float = 10, **headers: str
    ) -> Answer:
        """One request, with exactly these headers besides Host; underscores in names become hyphens."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            sent = {name.replace("_", "-"): value for name, value in headers.items()}
            sent.setdefault("Host", self.host)
            if body is not None:
                sent.setdefault("Content-Length", str(len(body)))
            for name, value in sent.items():
                connection.putheader(name, value.encode() if isinstance(value, str) else value)
            connection.endheaders(body)
            response = connection.getresponse()
            return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        finally:
            connection.close()

    def post(self, path: str, value: Any = None, **headers: str) -> Answer:
        body = json.dumps({} if value is None else value).encode()
        return self.ask(path, "POST", body, **{"Content_Type": "application/json", **headers})

    def raw(self, data: bytes, timeout: float = 10) -> bytes:
        """Send bytes; everything that comes back until the server closes or is silent."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=timeout) as connection:
            connection.sendall(data)
            received = b""
            try:
                while part := connection.recv(65536):
                    received += part
            except (TimeoutError, ConnectionResetError):
                pass
            return received


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@pytest.fixture(scope="session")
def run_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Running]]:
    """Start servers; all are ended at the end."""
    stops: list[Callable[[], None]] = []

    def start(*, build: Callable[..., Any] | None = None, **options: Any) -> Running:
        folder: Path = tmp_path_factory.mktemp("data")
        config = Config(data_dir=str(folder), port=free_port(), **options)
        sockets, port = listen(config)
        app = Probe(replace(config, port=port))
        site = Site(app, [], build) if build else Site(app, [])  # type: ignore[arg-type]
        server = Server(app, site)  # type: ignore[arg-type]
        if build is None:
            site.panels.load = lambda: asyncio.sleep(0)  # type: ignore[method-assign]
        thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets)), daemon=True)
        thread.start()

        def stop() -> None:
            server.should_exit = True
            thread.join(15)
            for opened in sockets:
                opened.close()

        stops.append(stop)
        end = time.monotonic() + 20
        while not server.started and time.monotonic() < end:
            time.sleep(0.02)
        return Running(app, site, server, port)

    yield start
    for stop in stops:
        stop()


@pytest.fixture(scope="session")
def site(run_site: Callable[..., Running]) -> Running:
    """A server for this machine only."""
    return run_site()


@pytest.fixture(scope="session")
def guarded(run_site: Callable[..., Running]) -> Running:
    """A server for the network, with a key."""
    return run_site(listen=True, api_key=KEY)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
