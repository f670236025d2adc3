"""A line that a person can follow while pip works; the full text goes to the log."""

from __future__ import annotations

import re
import shutil
import sys
import threading
import time
from types import TracebackType

_SIZE = re.compile(r"\(([\d.]+) (bytes|kB|MB|GB)\)")
_STEP = re.compile(r"\[(\d+)/(\d+)\]|\[ *(\d+)%\]")
_UNIT = {"bytes": 1e-6, "kB": 1e-3, "MB": 1.0, "GB": 1e3}


class Progress:
    """One group of packages: what, how far, how long so far and how long it usually takes.

    On a terminal the line is redrawn; elsewhere it is written at the start, every half minute and at the end.
    """

    def __init__(self, title: str, usually: str, names: set[str]) -> None:
        self.title = title
        self.usually = usually
        self.names = set(names)
        self.done: set[str] = set()
        self.megabytes = 0.0
        self.doing = "starting"
        self.result = ""
        self._began = time.monotonic()
        self._terminal = sys.stdout.isatty()
        self._over = threading.Event()
        self._ticker = threading.Thread(target=self._tick, daemon=True)

    def __enter__(self) -> Progress:
        if not self._terminal:
            print(f"{self.title} (usually {self.usually})", flush=True)
        self._ticker.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._over.set()
        self._ticker.join()
        if kind is None:
            parts = [self.result or "done", f"{self.megabytes:.0f} MB" if self.megabytes >= 1 else "", self.elapsed]
            self._draw(f"{self.title}: " + ", ".join(part for part in parts if part))
        elif issubclass(kind, KeyboardInterrupt):
            self._draw(f"{self.title}: interrupted")
        else:
            self._draw(f"{self.title}: did not work")
        if self._terminal:
            print(flush=True)

    @property
    def elapsed(self) -> str:
        """Time since the beginning, as minutes and seconds."""
        seconds = int(time.monotonic() - self._began)
        return f"{seconds // 60}:{seconds % 60:02d}"

    def read(self, line: str) -> None:
        """Take what a line of pip's (or of a compiler's) output tells."""
        line = line.strip()
        word = line.split(maxsplit=1)[0] if line else ""
        step = _STEP.match(line)
        if step:
            share = float(step[3]) / 100 if step[3] else int(step[1]) / max(1, int(step[2]))
            self.doing = f"building, {share:.0%}"
        elif word in ("Collecting", "Requirement", "Ignoring"):
            name = re.search(r"(?:Collecting|satisfied:|Ignoring) ([A-Za-z0-9._-]+)", line)
            plain = re.sub(r"[._-]+", "-", name[1]).lower() if name else ""
            if word == "Ignoring":
                self.names.discard(plain.rstrip(":"))
            elif plain in self.names:
                self.done.add(plain)
                self.doing = f"looking up, {len(self.done)} of {len(self.names)} packages"
        elif word in ("Downloading", "Using") and ".metadata" not in line:
            size = _SIZE.search(line)
            if size:
                self.megabytes += float(size[1]) * _UNIT[size[2]]
                file = line.split()[-3].rsplit("/", 1)[-1]
                count = f", {len(self.done)} of {len(self.names)} packages" if self.done else ""
                self.doing = f"fetching {file.split('-')[0]} ({size[1]} {size[2]}{count})"
        elif line.startswith("Installing collected packages"):
            self.doing = f"unpacking {line.count(',') + 1} packages"

    def _tick(self) -> None:
        pause = 0.25 if self._terminal else 30.0
        while not self._over.wait(pause):
            self._draw(f"{self.title}: {self.doing}, {self.elapsed} (usually {self.usually})")

    def _draw(self, text: str) -> None:
        if self._terminal:
            width = shutil.get_terminal_size().columns - 1
            text = text if len(text) <= width else text[: width - 1] + "…"
            print("\r\033[K" + text, end="", flush=True)
        else:
            print(text, flush=True)
