"""The page's side without a browser: requests to the whole site, and event streams read piece by piece."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx

from tests.runtime.driving import drive
from webui.runtime.app import App
from webui.server.site import Site, create_site

HOST = "127.0.0.1:7860"


class Stream:
    """One viewer of one reply, who does with the events what the page does."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.number = 0
        self.blocks: list[str] = []
        self.thought: list[str] = []
        self.tokens = 0
        self.progress: list[dict[str, Any]] = []
        self.end: dict[str, Any] | None = None
        self.bytes = 0
        self.events = 0
        self.wholes = 0
        self.comments = 0

    def take(self, data: bytes) -> None:
        self.bytes += len(data)
        self.comments += data.startswith(b":")
        for part in data.decode().split("\n\n"):
            lines = dict(line.split(": ", 1) for line in part.split("\n") if ": " in line and not line.startswith(":"))
            if "id" in lines:
                self.number = int(lines["id"])
            if "data" in lines:
                self.events += 1
                self.change(json.loads(lines["data"]))

    def change(self, change: dict[str, Any]) -> None:
        if "b" in change:
            self.blocks, self.thought = list(change["b"]), list(change["hb"])
            self.wholes += 1
        for key, blocks in (("o", self.blocks), ("h", self.thought)):
            if key in change:
                del blocks[change.get("c", len(blocks)) :]
                for i, keep, tail in change[key]:
                    if i == len(blocks):
                        blocks.append("")
                    blocks[i] = blocks[i].encode("utf-16-le")[: 2 * keep].decode("utf-16-le") + tail
        self.tokens = change.get("t", self.tokens)
        if "p" in change:
            self.progress.append(change["p"])
        self.end = change.get("e", self.end)


class Page:
    """Requests as the page makes them."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.site: Site = create_site(app)
        self.client = httpx.AsyncClient(transport=httpx.ASGITransport(self.site), base_url=f"http://{HOST}")

    async def ask(self, method: str, path: str, body: Any = None, status: int = 200) -> Any:
        options = {} if body is None else {"json": body}
        answer = await self.client.request(method, path, **options)
        assert answer.status_code == status, answer.text
        return answer.json()

    async def get(self, path: str, status: int = 200) -> Any:
        return await self.ask("GET", path, status=status)

    async def post(self, path: str, body: Any = None, status: int = 200) -> Any:
        return await self.ask("POST", path, body or {}, status)

    async def raw(self, path: str, body: bytes) -> httpx.Response:
        return await self.client.post(path, content=body, headers={"content-type": "application/json"})

    async def follow(
        self, reply: str, number: int = 0, stream: Stream | None = None, until: Callable[[Stream], bool] | None = None
    ) -> Stream:
        """Follow a reply to its end, or until ``until`` is true: then the viewer leaves without a word."""
        stream = stream or Stream()
        gone = asyncio.Event()

        async def receive() -> dict[str, Any]:
            if not asked:
                asked.append(True)
                return {"type": "http.request", "body": b"", "more_body": False}
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                stream.status = message["status"]
                stream.headers = {k.decode(): v.decode() for k, v in message["headers"]}
            else:
                stream.take(message.get("body", b""))
                if until is not None and until(stream):
                    gone.set()

        asked: list[bool] = []
        scope = {
            "type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1", "method": "GET",
            "scheme": "http", "path": f"/ui/replies/{reply}/follow", "raw_path": b"", "root_path": "",
            "query_string": f"number={number}".encode(), "headers": [(b"host", HOST.encode())],
            "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 7860),
        }  # fmt: skip
        await self.site(scope, receive, send)
        return stream


def browse(folder: Path, test: Callable[[Page], Awaitable[None]], **values: Any) -> None:
    """Run an async test with a page and an app of its own."""

    async def run(app: App) -> None:
        page = Page(app)
        try:
            await test(page)
        finally:
            await page.client.aclose()

    drive(folder, run, **values)


async def eventually(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    """Wait until something is so."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def in_background(work: Awaitable[Any]) -> AsyncIterator[asyncio.Future[Any]]:
    """Work that goes on beside the test and ends with it."""
    task = asyncio.ensure_future(work)
    try:
        yield task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await task
