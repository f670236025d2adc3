"""Gradio's part of the site: imported behind the first page, checked, and kept to what the page uses.

Gradio is a large import, so the server answers first and a thread brings it in. Until then its addresses answer 503.
"""

from __future__ import annotations

import asyncio
import logging
import re
import shutil
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from webui.refusal import Refusal
from webui.server.gradio_app import frontend, import_gradio, in_thread, mount, refuses_files, self_test
from webui.server.listeners import Listeners

if TYPE_CHECKING:
    import gradio

    from webui.runtime.app import App

#: Makes the Blocks of an app (in a thread, once Gradio is imported), and the theme and css to mount them with.
Build = Callable[["App"], tuple["gradio.Blocks", dict[str, Any]]]

log = logging.getLogger("patchbay.panels")

#: What the page needs of Gradio: method and address. Everything else that Gradio brings is not served.
ALLOWED: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (method, re.compile(pattern))
    for method, pattern in (
        ("GET", r"/config"),
        ("GET", r"/gradio_api/info"),
        ("GET", r"/theme\.css"),
        ("GET", r"/assets/[\w./-]+"),
        ("GET", r"/static/(?:fonts|img)/[\w./-]+"),
        ("GET", r"/gradio_api/heartbeat/\w{1,64}"),
        ("GET", r"/gradio_api/queue/data"),
        ("POST", r"/gradio_api/queue/join"),
        ("POST", r"/gradio_api/cancel"),
        ("POST", r"/gradio_api/reset"),
        ("POST", r"/gradio_api/upload"),
        ("GET", r"/gradio_api/upload_progress"),
        ("GET", r"/gradio_api/file=/[^:]+"),
        ("GET", r"/gradio_api/file=[A-Za-z]:/[^:]+"),  # Windows
    )
)
SHOWN = re.compile(rb"image/(?:png|jpeg|gif|webp|avif|bmp)|audio/[\w.+-]+|video/[\w.+-]+")
INERT = b"default-src 'none'; sandbox; frame-ancestors 'none'"


class Panels:
    """The Gradio app once it is there. ``app.panels`` tells the page: ready, or the reason why it never will be."""

    def __init__(self, app: App, build: Build) -> None:
        self.app = app
        self._build = build
        self._gradio: ASGIApp | None = None
        self._blocks: gradio.Blocks | None = None
        self._listeners: Listeners | None = None
        self._watch: asyncio.Task[None] | None = None

    @property
    def ready(self) -> bool:
        """Whether Gradio is served."""
        return bool(self.app.panels["ready"])

    @property
    def reason(self) -> str:
        """Why it never will be; "" while it may."""
        return str(self.app.panels["reason"])

    async def load(self) -> None:
        """Import Gradio, build the panels, check them, and serve them from then on. Never raises."""
        started = time.monotonic()
        try:
            blocks, gradio_app = await in_thread(self._prepare)
            await self_test(self.app.config.data)
            await refuses_files(gradio_app)
            script, style = frontend()
        except Exception as error:
            log.exception("The panels are not served")
            self.app.panels["reason"] = f"The other tabs cannot be shown: {error}"
            self.app.notices.append(self.reason)
            return
        self._blocks = blocks
        blocks.run_startup_events()
        await blocks.run_extra_startup_events()
        self._listeners = Listeners(blocks._queue)
        self._watch = asyncio.create_task(self._listeners.watch())
        self._gradio = gradio_app
        self.app.panels |= {"script": script, "style": style, "ready": True}
        log.info("The panels are there after %.1f s", time.monotonic() - started)

    def _prepare(self) -> tuple[gradio.Blocks, ASGIApp]:
        folder = self.app.config.data / "tmp" / "gradio"
        shutil.rmtree(folder, ignore_errors=True)  # what was uploaded to another run
        folder.parent.mkdir(mode=0o700, exist_ok=True)
        import_gradio(folder)
        blocks, look = self._build(self.app)
        return blocks, mount(blocks, self.app.config.port, **look)

    def close(self) -> None:
        """End Gradio's streams and its queue."""
        self.app.panels["ready"] = False
        if self._watch is not None:
            self._watch.cancel()
        if self._blocks is not None:
            gradio_app: Any = self._gradio
            self._blocks._queue.close()  # type: ignore[no-untyped-call]  # Gradio's own
            gradio_app.stop_event.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await receive()
            await send({"type": "websocket.close", "code": 1000, "reason": ""})
            return
        path = scope["path"]
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        if not any(method == m and p.fullmatch(path) for m, p in ALLOWED):
            raise Refusal(404, "not_found", "There is nothing at this address.")
        if self._gradio is None or not self.ready:
            if self.reason:
                raise Refusal(404, "no_panels", self.reason)
            hint = "Try again in a moment."
            raise Refusal(503, "starting", "This part is still starting.", hint, headers={"retry-after": "1"})
        if path == "/config":
            scope["query_string"] = b""  # a stored state by name is nothing we offer
        if path == "/gradio_api/queue/data" and self._listeners is not None:
            await self._listeners.listen(self._gradio, scope, receive, send)
            return
        await self._gradio(scope, receive, _inert(send) if path.startswith("/gradio_api/file=") else _kept(send, path))


def _inert(send: Send) -> Send:
    """Files of people are shown when they are pictures or sound, else handed over as a download; none may act."""

    async def out(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = [(k.lower(), v) for k, v in message.get("headers", ())]
            kind = next((v for k, v in headers if k == b"content-type"), b"").partition(b";")[0].strip().lower()
            headers = [(k, v) for k, v in headers if k != b"content-security-policy"]
            headers.append((b"content-security-policy", INERT))
            if not SHOWN.fullmatch(kind):
                headers = [(k, v) for k, v in headers if k != b"content-type"]
                headers.append((b"content-type", b"application/octet-stream"))
                if not any(k == b"content-disposition" and v.startswith(b"attachment") for k, v in headers):
                    headers = [(k, v) for k, v in headers if k != b"content-disposition"]
                    headers.append((b"content-disposition", b"attachment"))
            message = {**message, "headers": headers}
        await send(message)

    return out


def _kept(send: Send, path: str) -> Send:
    """Files whose names carry their content's hash stay with the browser."""

    async def out(message: Message) -> None:
        if message["type"] == "http.response.start" and path.startswith("/assets/") and message["status"] == 200:
            headers = [(k, v) for k, v in message.get("headers", ()) if k.lower() != b"cache-control"]
            message = {**message, "headers": [*headers, (b"cache-control", b"public, max-age=31536000, immutable")]}
        await send(message)

    return out


def shipped(app: App) -> tuple[gradio.Blocks, dict[str, Any]]:
    """The panels that come with Patchbay, with their theme."""
    from webui.ui import panels

    return panels.build(app), {"theme": panels.THEME}
