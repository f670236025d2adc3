"""The command line: reads the options, takes the data folder, and serves. Nothing heavy is imported here."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import traceback
import webbrowser
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from webui.core.config import COMMANDS, Config, load
from webui.core.errors import PatchbayError
from webui.core.fields import did_you_mean
from webui.instance import end_with, only_one, prepare_folder, read_key, take_running_hook

FAILED = 2  # what the program ends with after an error in words; the watcher does not start it again


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command (``serve`` when none is named); the exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    command = words.pop(0) if words and not words[0].startswith("-") else "serve"
    try:
        if command == "serve":
            return serve(words)
        if command == "doctor":
            from webui.doctor import doctor

            return doctor(words)
        if command in COMMANDS:
            raise PatchbayError(f"{command} is a command of start.py.", f"Run: python start.py {command}")
        raise PatchbayError(f"There is no command {command}.", did_you_mean(command, COMMANDS))
    except PatchbayError as error:
        print(f"Patchbay: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        return 130
    except Exception:
        traceback.print_exc()  # an error of the program itself: starting again would only meet it again
        return FAILED


def serve(arguments: Sequence[str]) -> int:
    """Serve the page until stopped."""
    watcher = os.environ.pop("PATCHBAY_WATCHER", "")
    crashed = os.environ.pop("PATCHBAY_CRASHED", "")
    if watcher.isdigit():
        end_with(int(watcher))
    config = load(arguments)
    if config.window and find_spec("webview") is None:
        pip = Path(sys.prefix, "Scripts" if sys.platform == "win32" else "bin", "pip")
        raise PatchbayError("--window needs pywebview, which is not installed.", f'Run: "{pip}" install pywebview')
    os.umask(0o077)
    prepare_folder(config.data)
    harden(config.data)
    with only_one(config.data) as tell:
        config = replace(config, ready=lambda url: greet(config, url, tell))
        if config.listen:
            config = with_key(config)
        if crashed:
            config = after_crash(config, crashed)
        from webui.server import serve as run_server

        return run_server(config)


def harden(data: Path) -> None:
    """Take out of this process what a stray environment could turn on, and what would leak when it dies."""
    for name in [name for name in os.environ if name.startswith("GRADIO_")]:
        del os.environ[name]
    private = data / "tmp"
    private.mkdir(exist_ok=True, mode=0o700)
    os.environ |= {
        "GRADIO_ANALYTICS_ENABLED": "False",
        "GRADIO_TEMP_DIR": str(private),
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "DO_NOT_TRACK": "1",
    }
    if sys.platform == "win32":
        return
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core file would hold every chat


def with_key(config: Config) -> Config:
    """The key that other machines must give: the person's, or one that is made and shown once."""
    if config.api_key:
        if len(config.api_key) < 16:
            raise PatchbayError("The key is too short to keep anybody out.", "Give at least 16 characters, or none.")
        return config
    key, new = read_key(config.data)
    if new:
        print(f"A key was made for other machines and kept in {config.data / 'api-key'}:\n    {key}", flush=True)
    return replace(config, api_key=key)


def after_crash(config: Config, reason: str) -> Config:
    """Leave out the extension whose hook was running when the program died."""
    culprit = take_running_hook(config.data)
    if culprit:
        print(f"The extension {culprit} was running when Patchbay ended; it is left out this time.", flush=True)
    return replace(config, crashed=reason, without=(culprit,) if culprit else ())


def greet(config: Config, url: str, tell: Callable[[str], None]) -> None:
    """Say where the page is, to people and to a second start, and open it; called once the server answers."""
    tell(urlunsplit((*urlsplit(url)[:2], "/", "", "")))  # without the one-time token that a link may hold
    print(f"Patchbay is at {url}  (Ctrl+C ends it)", flush=True)
    if config.window:
        threading.Thread(target=_own_window, args=(url,), daemon=True, name="window").start()
    elif not config.no_browser and _has_screen():
        threading.Thread(target=webbrowser.open, args=(url,), daemon=True, name="browser").start()


def _has_screen() -> bool:
    """Whether a browser could show anything; without a screen one would take over the terminal."""
    if os.environ.get("CI"):
        return False
    return sys.platform in ("win32", "darwin") or any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")))


def _own_window(url: str) -> None:
    """Show the page in a window of its own; the program ends when it is closed."""
    show = (
        "import sys, webview; webview.create_window('Patchbay', sys.argv[1], width=1200, height=850); webview.start()"
    )
    subprocess.call([sys.executable, "-c", show, url])
    os.kill(os.getpid(), signal.SIGTERM)
