"""Gradio itself: imported fast and without calls home, mounted with every option said, tested before it is served."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import io
import os
import re
import secrets
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.types import ASGIApp

from webui.gate import UPLOAD_LIMIT

if TYPE_CHECKING:
    import gradio

SECRET = secrets.token_hex(16)  # what the self-test tries to get at
SOURCE = Path(__file__).resolve()
QUEUE = 64  # waiting events, beyond which a new one is refused


async def in_thread(work: Callable[[], Any]) -> Any:
    """Run work in a thread that does not keep the program from ending."""
    loop = asyncio.get_running_loop()
    result: asyncio.Future[Any] = loop.create_future()

    def settle(value: Any, error: BaseException | None) -> None:
        if not result.done():
            result.set_exception(error) if error else result.set_result(value)

    async def in_a_loop() -> Any:
        return work()

    def run() -> None:
        value, error = None, None
        try:
            value = asyncio.run(in_a_loop())  # where none is running, Gradio makes loops and never closes them
        except BaseException as caught:
            error = caught if isinstance(caught, Exception) else RuntimeError(repr(caught))
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle, value, error)

    threading.Thread(target=run, daemon=True, name="gradio").start()
    return await result


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
    made = await in_thread(lambda: _probe(data))
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


def _probe(data: Path) -> tuple[Path, ASGIApp]:
    """A file outside every folder that may be read, and a Gradio app that would read it."""
    import tempfile

    import gradio

    # Not where uploads are, and not in the working directory.
    handle, name = tempfile.mkstemp(prefix=".tmp-canary-", dir=data)
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
