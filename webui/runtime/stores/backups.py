"""Copies of the chat file: ten of the latest states, one for each of the last days, and one before each change of format."""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

from webui.core.errors import StoreError
from webui.runtime.stores import files

LATEST = 10  # copies kept whatever their day
DAYS = 7  # newest copy of each of so many days

_STAMP = re.compile(r"-(\d{8})-(\d{6})")


class Backups:
    """The copies of one file in a folder."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self.name = name

    def all(self) -> list[Path]:
        """Every copy, newest first by the time in its name."""
        try:
            found = [p for p in self.folder.glob(f"{self.name}-*.sqlite3") if _STAMP.search(p.name)]
        except OSError:
            return []
        return sorted(found, key=lambda p: ("".join(_STAMP.findall(p.name)[-1]), p.name), reverse=True)

    def newest_sound(self, sound: Callable[[Path], bool]) -> Path | None:
        """The newest copy that passes the check."""
        return next((path for path in self.all() if sound(path)), None)

    def save(self, connection: sqlite3.Connection, label: str = "") -> Path:
        """Copy the whole state behind ``connection`` into a new file; nothing half-written ever gets the name of a copy.

        Raises StoreError or DiskFull.
        """
        files.private_folder(self.folder)
        files.sweep(self.folder, older=3600)
        stamp = time.strftime("%Y%m%d-%H%M%S")
        target = self.folder / f"{self.name}-{f'{label}-' if label else ''}{stamp}.sqlite3"
        temporary = self.folder / f"{files.TEMPORARY}{self.name}-{os.getpid()}-{time.monotonic_ns()}.sqlite3"
        with files.explained(self.folder):
            os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
            try:
                connection.execute("VACUUM INTO ?", (str(temporary),))
                with open(temporary, "rb+") as file:
                    os.fsync(file.fileno())
                os.replace(temporary, target)
                files.sync_folder(self.folder)
            except sqlite3.Error as error:
                raise StoreError(f"No backup could be made in {self.folder}: {error}.", "The chats are not affected.") from error
            finally:
                with contextlib.suppress(OSError):
                    temporary.unlink()
        self._prune()
        return target

    def _prune(self) -> None:
        plain = [p for p in self.all() if re.fullmatch(rf"{self.name}-\d{{8}}-\d{{6}}\.sqlite3", p.name)]
        keep = set(plain[:LATEST])
        days: set[str] = set()
        for path in plain:
            day = _STAMP.findall(path.name)[-1][0]
            if day not in days and len(days) < DAYS:
                days.add(day)
                keep.add(path)
        for path in plain:
            if path not in keep:
                with contextlib.suppress(OSError):
                    path.unlink()


def described(path: Path) -> str:
    """When a copy was made, for a sentence: 2026-11-23 14:50."""
    day, clock = _STAMP.findall(path.name)[-1]
    return f"{day[:4]}-{day[4:6]}-{day[6:]} {clock[:2]}:{clock[2:4]}"
