"""Files that are whole or absent: atomic writes, private folders, and readings that refuse what is not a plain file.

Errors come out as sentences that name the folder: DiskFull, or StoreError with the system's reason.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from webui.core.errors import BadName, DiskFull, NotFound, StoreError

TEMPORARY = ".tmp-"  # begins the name of a file that is being written
LARGEST_TEXT = 256 * 1024  # bytes of a preset or settings file


def private_folder(folder: Path) -> None:
    """Make a folder that only its owner may enter; one that is there already is left as it is."""
    with explained(folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)


def write_atomic(path: Path, data: str | bytes) -> None:
    """Replace a file by new content, readable by its owner only: after a crash the old or the new content is there.

    Raises DiskFull or StoreError; the old content is then untouched.
    """
    content = data.encode("utf-8") if isinstance(data, str) else data
    private_folder(path.parent)
    with explained(path.parent):
        handle, temporary = tempfile.mkstemp(prefix=TEMPORARY, dir=path.parent)  # made with mode 0600
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make a rename in the folder survive a power cut, where the system knows how."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems
            raise
    finally:
        os.close(handle)


def read_text(path: Path, *, largest: int = LARGEST_TEXT, links: bool = False) -> str:
    """The text of a plain file. Raises NotFound, BadName for a link or a device, StoreError for anything else.

    ``links`` allows symbolic and hard links, for folders that only the owner of the program writes to.
    """
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | (0 if links else getattr(os, "O_NOFOLLOW", 0))
    try:
        handle = os.open(path, flags)
    except FileNotFoundError:
        raise NotFound(f"There is no file {path.name}.", "It may have been moved or deleted.") from None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise BadName(f"{path.name} is a link.", "Copy the file itself there.") from None
        raise StoreError(f"{path} cannot be read: {error.strerror}.", "Check who may read it.") from None
    try:
        facts = os.fstat(handle)
        if not stat.S_ISREG(facts.st_mode):
            raise BadName(f"{path.name} is not a plain file.", "Move it away.")
        if not links and facts.st_nlink > 1:
            raise BadName(f"{path.name} is a link.", "Copy the file itself there.")
        if facts.st_size > largest:
            raise StoreError(f"{path.name} has {facts.st_size:,} bytes.", f"At most {largest:,} are read.")
        with os.fdopen(handle, "rb", closefd=False) as file:
            content = file.read(largest + 1)
    finally:
        os.close(handle)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise StoreError(f"{path.name} is not UTF-8 text (line {line}).", "Save it as UTF-8.") from None


def sweep(folder: Path, older: float = 0.0) -> int:
    """Delete what interrupted writes have left in the folder; returns how many files."""
    count = 0
    with contextlib.suppress(OSError):
        for path in folder.glob(TEMPORARY + "*"):
            with contextlib.suppress(OSError):
                if path.is_file() and path.stat().st_mtime <= time.time() - older:
                    path.unlink()
                    count += 1
    return count


def set_aside(path: Path, word: str) -> Path:
    """Rename a file that cannot be used to ``<stem>.<word>-<time><ending>`` and return where it is now."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    for number in range(1000):
        target = path.with_name(f"{path.stem}.{word}-{stamp}{f'-{number}' if number else ''}{path.suffix}")
        if not target.exists():
            break
    with explained(path.parent):
        os.replace(path, target)
    return target


@contextlib.contextmanager
def explained(folder: Path) -> Iterator[None]:
    """Turn an OSError into DiskFull or StoreError with a sentence that names the folder."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise disk_full(folder) from error
        reason = error.strerror or str(error)
        raise StoreError(
            f"{folder} cannot be written: {reason}.", "Check who owns the folder and who may write to it."
        ) from error


def disk_full(folder: Path) -> DiskFull:
    """The error for a disk, or a quota, without room."""
    return DiskFull(
        f"The disk is full: nothing more can be saved in {folder}.",
        "Free some space and try again; everything saved before is whole.",
    )
