"""Gradio's part of the site: imported behind the first page, checked, and kept to what the page uses.

Gradio is a large import, so the server answers first and a thread brings it in. Until then its addresses answer 503.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import io
import logging
import os
import re
import secrets
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from webui.gate import UPLOAD_LIMIT
from webui.refusal import Refusal

if TYPE_CHECKING:
    import gradio

    from webui.runtime.app import App

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
#: First parts of Gradio's addresses: before Gradio is there, these answer 503 and not 404.
PREFIXES = ("/config", "/theme.css", "/assets/", "/gradio_api/")
SHOWN = re.compile(rb"image/(?:png|jpeg|gif|webp|avif|bmp)|audio/[\w.+-]+|video/[\w.+-]+")
INERT = b"default-src 'none'; sandbox; frame-ancestors 'none'"
SECRET = secrets.token_hex(16)  # what the self-test tries to get at
SOURCE = Path(__file__).resolve()
QUEUE = 64  # waiting events, beyond which a new one is refused


class Panels:
    """The Gradio app once it is there. ``app.panels`` tells the page: ready, or the reason why it never will be."""

    def __init__(self, app: App) -> None:
        self.app = app
        self._gradio: ASGIApp | None = None
        self._blocks: gradio.Blocks | None = None

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
            made = await _in_thread(lambda: prepare(self.app))
            if made is None:
                self.app.panels["reason"] = "This installation has no panels."
                return
            blocks, gradio_app = made
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
        self._gradio = gradio_app
        self.app.panels |= {"script": script, "style": style, "ready": True}
        log.info("The panels are there after %.1f s", time.monotonic() - started)

    def close(self) -> None:
        """End Gradio's streams and its queue."""
        self.app.panels["ready"] = False
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


async def _in_thread(work: Callable[[], Any]) -> Any:
    """Run work in a thread that does not keep the program from ending."""
    loop = asyncio.get_running_loop()
    result: asyncio.Future[Any] = loop.create_future()

    def settle(value: Any, error: BaseException | None) -> None:
        if not result.done():
            result.set_exception(error) if error else result.set_result(value)

    def run() -> None:
        value, error = None, None
        try:
            value = work()
        except BaseException as caught:
            error = caught if isinstance(caught, Exception) else RuntimeError(repr(caught))
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle, value, error)

    threading.Thread(target=run, daemon=True, name="gradio").start()
    return await result


def prepare(app: App) -> tuple[gradio.Blocks, ASGIApp] | None:
    """Import Gradio, build the panels and the app that serves them (in a thread); None when there are no panels."""
    import_gradio(app.config.data / "tmp")
    try:
        from webui.ui import panels
    except ImportError as error:
        if error.name != "webui.ui.panels" and "panels" not in str(error):
            raise
        log.warning("There are no panels in webui/ui yet")
        return None
    blocks = panels.build(app)
    look = {name: getattr(panels, name.upper()) for name in ("theme", "css") if hasattr(panels, name.upper())}
    return blocks, mount(blocks, app.config.port, **look)


def import_gradio(temporary: Path) -> None:
    """Import Gradio in half its usual time, without the files that it writes beside the source and its calls home.

    It reads its own source to regenerate type stubs for each component; told that there is none, it goes on. Its
    environment variables would change what is served, so all of them go.
    """
    for name in [n for n in os.environ if n.startswith("GRADIO_")]:
        del os.environ[name]
    temporary.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary.chmod(0o700)
    os.environ |= {
        "GRADIO_ANALYTICS_ENABLED": "False",
        "GRADIO_ANALYTICS_MAX_EVENTS": "100",
        "GRADIO_TEMP_DIR": str(temporary),
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    if "gradio" in sys.modules:
        return
    real = inspect.getfile

    def without_gradio(subject: Any) -> str:
        if isinstance(subject, type) and getattr(subject, "__module__", "").startswith("gradio."):
            raise OSError("source code not available")
        return real(subject)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(0.001)  # the page is served at the same time and must not wait for the import
    inspect.getfile = without_gradio  # type: ignore[assignment]  # wider in what it takes, on purpose
    try:
        import gradio
        import gradio.component_meta
    finally:
        inspect.getfile = real
        sys.setswitchinterval(interval)
    gradio.component_meta.create_or_modify_pyi = lambda *_, **__: None


def mount(blocks: gradio.Blocks, port: int, **look: Any) -> ASGIApp:
    """The ASGI app of some Blocks, every option said so that nothing outside decides; ``look`` is theme and css."""
    import gradio
    from starlette.applications import Starlette

    blocks.queue(api_open=False, max_size=QUEUE, default_concurrency_limit=8)
    blocks.has_launched = True  # without this Gradio does not check where an uploaded file's path leads
    outer: Any = Starlette()
    gradio.mount_gradio_app(
        outer,
        blocks,
        path="/",
        server_name="127.0.0.1",
        server_port=port,
        footer_links=[],
        run_history=False,
        auth=None,
        allowed_paths=[],
        blocked_paths=[],
        show_error=False,  # what is meant for people is a gr.Error and is shown all the same
        max_file_size=UPLOAD_LIMIT,
        ssr_mode=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
        **look,
    )
    inner: ASGIApp = next(route.app for route in outer.routes if hasattr(route, "app"))
    return inner


def frontend() -> tuple[str, str]:
    """The addresses of Gradio's script and style, as its own page names them."""
    import gradio

    text = (Path(gradio.__file__).parent / "templates" / "frontend" / "index.html").read_text(encoding="utf-8")
    script = re.search(r'<script type="module"[^>]* src="\./(assets/index-[\w-]+\.js)"', text)
    style = re.search(r'<link rel="stylesheet"[^>]* href="\./(assets/index-[\w-]+\.css)"', text)
    if not script or not style:
        raise RuntimeError("this version of Gradio has another page than the one that is known")
    return "/" + script.group(1), "/" + style.group(1)


async def self_test(data: Path) -> None:
    """Raise unless Gradio, mounted as we mount it, refuses a path that nobody uploaded.

    Gradio skips that check for an app that it takes for not launched; a new version could change how it decides.
    """
    made = await _in_thread(lambda: _probe(data / "tmp"))
    canary, gradio_app = made
    try:
        body = {"data": [{"path": str(canary), "meta": {"_type": "gradio.FileData"}}]}
        with contextlib.redirect_stderr(io.StringIO()):  # Gradio prints the refusal that is wished for
            status, answer = await _ask(gradio_app, "POST", "/gradio_api/run/read", body)
        if status == 200 or SECRET.encode() in answer:
            raise RuntimeError("Gradio hands out files that nobody uploaded")
        await refuses_files(gradio_app, canary)
    finally:
        canary.unlink(missing_ok=True)


async def refuses_files(gradio_app: ASGIApp, path: Path = SOURCE) -> None:
    """Raise unless Gradio refuses to serve a file of this machine by its path."""
    folder = f"{os.environ['GRADIO_TEMP_DIR']}/x/../.."
    for asked in (str(path), f"{folder}{path}", "/etc/passwd"):
        status, _ = await _ask(gradio_app, "GET", f"/gradio_api/file={asked}")
        if status == 200:
            raise RuntimeError("Gradio serves files of this machine by their path")


def _probe(folder: Path) -> tuple[Path, ASGIApp]:
    """A file outside every folder that may be read, and a Gradio app that would read it."""
    import tempfile

    import gradio

    # Beside the private folder: not in it, where uploads are, and not in the working directory.
    handle, name = tempfile.mkstemp(prefix=".canary-", dir=folder.parent)
    with os.fdopen(handle, "w") as file:
        file.write(SECRET)
    with gradio.Blocks(analytics_enabled=False) as blocks:
        asked = gradio.File(visible=False)
        text = gradio.Textbox(visible=False)
        button = gradio.Button(visible=False)
        button.click(lambda path: Path(path).read_text(), asked, text, api_name="read", queue=False)
    return Path(name), mount(blocks, 0)


async def _ask(app: ASGIApp, method: str, path: str, body: object = None) -> tuple[int, bytes]:
    """Ask an ASGI app in this process; its status and the whole answer."""
    import httpx

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app, raise_app_exceptions=False)) as client:
        request = client.build_request(method, "http://127.0.0.1/", json=body)
        request.url = httpx.URL(f"http://127.0.0.1{path}")
        response = await client.send(request)
        return response.status_code, response.content
