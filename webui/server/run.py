"""Serving: sockets first, then the site, then what may take longer; and an end within five seconds."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Coroutine, Iterator
from dataclasses import replace
from typing import Any

import uvicorn

from webui.core.config import Config
from webui.runtime.app import App, create_app
from webui.server import logs
from webui.server.connection import HEADER_BYTES, KEEP_ALIVE_SECONDS, Connection, raise_file_limit, sweep
from webui.server.hosts import BACKLOG, bracketed, listen, network_address
from webui.server.site import Site, create_site

AFTER_PAGE = 0.3  # how long after the first page Gradio is imported, in seconds
AT_LATEST = 1.5  # how long after the start, when nobody asks for the page
CLOSE_SECONDS = 2.5  # for the app to save and to end its workers
STREAM_SECONDS = 1  # for streams to send their last event
FEWEST_FILES = 1024  # enough for the most connections beside chats, models and logs
LAST_SECONDS = 4.8  # then the process ends, whoever still holds on

log = logging.getLogger("patchbay.server")


def serve(config: Config) -> int:
    """Serve until a signal asks to end; the exit status. PatchbayError says why it cannot."""
    sockets, port = listen(config)
    with contextlib.ExitStack() as opened:
        for one in sockets:
            opened.enter_context(one)
        config = replace(config, port=port)
        logs.set_up(config.data / "logs")
        files = raise_file_limit()
        if files < FEWEST_FILES:
            log.warning("Only %d files may be open at once; many connections would exhaust that (ulimit -n)", files)
        app = create_app(config)
        asyncio.run(Server(app, create_site(app), alone=True).serve(sockets))
    return 0


class Server(uvicorn.Server):
    """Uvicorn around one site: tells when it answers, brings the panels in, and ends the app before the connections."""

    def __init__(self, app: App, site: Site, *, alone: bool = False) -> None:
        super().__init__(
            uvicorn.Config(
                site,
                http=Connection,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                date_header=False,
                proxy_headers=False,
                backlog=BACKLOG,
                h11_max_incomplete_event_size=HEADER_BYTES,
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=STREAM_SECONDS,
            )
        )
        self.app = app
        self.site = site
        self.alone = alone  # the process is ours to end
        self._background: set[asyncio.Task[None]] = set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen; then start the app and say where the page is."""
        await super().startup(sockets)
        await self.app.start()
        self._keep(sweep(self.server_state.connections))
        self._keep(self._announce())
        self._keep(self._bring_panels())

    def _keep(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _announce(self) -> None:
        """Say where the page is once it really answers."""
        config = self.app.config
        if not await answers(config):
            log.error("The server does not answer at %s", config.url)
        address = config.url + "/"
        if self.site.login is not None:
            address = config.url + self.site.login.link()
            if config.listen:
                network = config.bind if config.host else network_address()
                if network:
                    link = f"http://{bracketed(network)}:{config.port}{self.site.login.link()}"
                    print(f"From another machine, once and within ten minutes: {link}", flush=True)
        await asyncio.get_running_loop().run_in_executor(None, config.ready, address)

    async def _bring_panels(self) -> None:
        """Import Gradio, but not while the first page is on its way."""
        latest = time.monotonic() + AT_LATEST
        while time.monotonic() < latest:
            if self.site.first_page and time.monotonic() >= self.site.first_page + AFTER_PAGE:
                break
            await asyncio.sleep(0.05)
        await self.site.panels.load()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the replies, the workers and Gradio, so that streams end with an event; then the connections."""
        if self.alone:
            _end_by_force_in(LAST_SECONDS)
        for listener in self.servers:
            listener.close()
        for task in list(self._background):
            task.cancel()
        self.site.panels.close()
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self.app.close()
        except TimeoutError:
            log.error("The app did not end within %s s", CLOSE_SECONDS)
        except Exception:
            log.exception("The app did not end well")
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """A signal ends the program in order, with status 0; uvicorn would raise it again at the end."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        names = ("SIGINT", "SIGTERM", "SIGBREAK", "SIGHUP")
        wanted = [getattr(signal, name) for name in names if hasattr(signal, name)]
        before = {one: signal.signal(one, self.handle_exit) for one in wanted}
        try:
            yield
        finally:
            for one, handler in before.items():
                signal.signal(one, handler)


async def answers(config: Config) -> bool:
    """Whether the server answers on its own address."""
    name = "127.0.0.1" if config.bind in ("0.0.0.0", "localhost") else config.bind  # noqa: S104  # compared
    name = "::1" if name == "::" else name
    for _ in range(20):
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(2):
                reader, writer = await asyncio.open_connection(name, config.port)
                host = f"{bracketed(name)}:{config.port}"
                writer.write(f"GET /health HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
                line = await reader.readline()
                writer.close()
            if b" 200 " in line:
                return True
        await asyncio.sleep(0.1)
    return False


def _end_by_force_in(seconds: float) -> None:
    """End the process then, whatever is still running: an extension's thread cannot be stopped otherwise."""

    def end() -> None:
        log.error("Something did not end; the process is ended")
        logging.shutdown()
        os._exit(0)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
