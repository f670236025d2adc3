"""One program a data folder: the folder, the lock that says who holds it, and the tie to the watcher."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from webui.core.errors import PatchbayError, StoreError


def prepare_folder(folder: Path) -> None:
    """Make the data folder, for its owner only; StoreError names it when it cannot be written to."""
    hint = "Give yourself the right to write to it, or choose another with --data-dir."
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if sys.platform != "win32" and folder.stat().st_uid == os.getuid():
            folder.chmod(0o700)
        probe = folder / f".tmp-{os.getpid()}"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise StoreError(f"The data folder {folder} cannot be used: {error.strerror or error}.", hint) from None


@contextlib.contextmanager
def only_one(folder: Path) -> Iterator[Callable[[str], None]]:
    """Hold the folder while the program runs; yields what to call with the address once there is one.

    StoreError names the process and the address of who holds it already. The lock is the operating system's, so a
    killed program leaves none behind; what is written into it is for people.
    """
    with open(folder / "instance.lock", "a+", encoding="utf-8") as file:
        if not _lock(file):
            file.seek(0)
            raise StoreError(
                f"Patchbay is running on {folder} already{_who(file.read())}.", "Open it there, or stop it."
            )

        def tell(url: str) -> None:
            file.truncate(0)
            file.write(json.dumps({"pid": os.getpid(), "url": url}) + "\n")
            file.flush()

        tell("")
        yield tell
        file.truncate(0)


def read_key(folder: Path) -> tuple[str, bool]:
    """The key of a data folder, for its owner's eyes only, and whether it was made just now."""
    path = folder / "api-key"
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        key = path.read_text(encoding="ascii", errors="replace").strip()
        if len(key) < 16:
            raise PatchbayError(f"{path} holds no key.", "Delete the file; a new key is made.") from None
        if sys.platform != "win32":
            path.chmod(0o600)
        return key, False
    key = secrets.token_urlsafe(32)
    with os.fdopen(handle, "w", encoding="ascii") as file:
        file.write(key + "\n")
        file.flush()
        os.fsync(file.fileno())
    return key, True


def take_running_hook(folder: Path) -> str:
    """The extension whose hook was running when the last program died, or nothing; asked once."""
    from webui.runtime.plugins.calls import RUNNING  # only needed after a crash

    path = folder / RUNNING
    try:
        name = path.read_text(encoding="utf-8", errors="replace").strip()
        path.unlink()
    except OSError:
        return ""
    return name


def end_with(watcher: int) -> None:
    """End this program when the process that watches it is gone, however that ended."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
        if os.getppid() != watcher:  # it was gone before we asked
            os.kill(os.getpid(), signal.SIGTERM)
    else:
        threading.Thread(target=_follow, args=(watcher,), daemon=True, name="watcher").start()


def _follow(watcher: int) -> None:
    import psutil

    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(watcher)
        while process.is_running():
            time.sleep(2)
    os.kill(os.getpid(), signal.SIGTERM)


def _lock(file: IO[str]) -> bool:
    if sys.platform == "win32":
        import msvcrt

        file.seek(2**20)  # beyond the text, which others must be able to read
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _who(text: str) -> str:
    try:
        found = json.loads(text)
        return f": process {int(found['pid'])}, {found['url'] or 'which has only just started'}"
    except (ValueError, KeyError, TypeError):
        return ""
