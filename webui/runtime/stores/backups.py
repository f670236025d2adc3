"""Copies of the chat file: ten of the latest, one for each of the last days, and one before each change of format."""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

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

    def save_changed(self, path: Path, seconds: float | None = None) -> Path | None:
        """Copy the file if something changed since the last copy, within the given seconds; None when nothing did."""
        connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=5, check_same_thread=False
        )
        with contextlib.closing(connection):
            try:
                latest = self.all()
                if latest and _state(connection) == _state_of(latest[0]):
                    return None
            except sqlite3.Error as error:
                raise self._failed(error) from error
            timer = threading.Timer(seconds or 0, connection.interrupt)
            timer.daemon = True
            if seconds is not None:
                timer.start()
            try:
                return self.save(connection)
            finally:
                timer.cancel()

    def save(self, connection: sqlite3.Connection, label: str = "") -> Path:
        """Copy the state behind ``connection`` into a new file; nothing half-written ever gets the name of a copy.

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
                raise self._failed(error) from error
            finally:
                with contextlib.suppress(OSError):
                    temporary.unlink()
        self._prune()
        return target

    def _failed(self, error: sqlite3.Error) -> StoreError:
        return StoreError(f"No backup could be made in {self.folder}: {error}.", "The chats are not affected.")

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


def _state(connection: sqlite3.Connection) -> tuple[Any, ...]:
    """What tells two states of the file apart: the number of the last change, and how much there is."""
    row: tuple[Any, ...] = connection.execute(
        "SELECT coalesce(max(position), 0), count(*), (SELECT coalesce(max(number), 0) FROM messages) FROM chats"
    ).fetchone()
    return row


def _state_of(path: Path) -> tuple[Any, ...]:
    try:
        with contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            return _state(connection)
    except sqlite3.Error:
        return ()
