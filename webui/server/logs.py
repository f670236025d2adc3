"""The log of the web process: a file that rotates, one line an event, nothing that a terminal would obey."""

from __future__ import annotations

import logging
import logging.handlers
import re
import sys
from pathlib import Path

LARGEST = 10 * 1024 * 1024
KEPT = 5
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def plain(text: str) -> str:
    """Text with control characters written out (``\\x1b``), so that it stays in one line and moves no cursor."""
    return _CONTROL.sub(lambda found: found.group().encode("unicode_escape").decode(), text)


class PlainLines(logging.Formatter):
    """One line an event; a traceback follows in marked lines that no event can look like."""

    def format(self, record: logging.LogRecord) -> str:
        """The lines of one event."""
        line = plain(f"{self.formatTime(record)} {record.levelname} {record.name}: {record.getMessage()}")
        if record.exc_info and record.exc_info[0]:
            trace = self.formatException(record.exc_info)
            line += "".join(f"\n    | {plain(part)}" for part in trace.split("\n"))
        return line


def set_up(folder: Path) -> Path | None:
    """Log to ``folder`` and warnings to the terminal; the file, or None when the folder cannot be written."""
    root = logging.getLogger()
    for handler in [h for h in root.handlers if getattr(h, "patchbay", False)]:
        root.removeHandler(handler)
        handler.close()
    terminal = logging.StreamHandler(sys.stderr)
    terminal.setLevel(logging.WARNING)
    handlers: list[logging.Handler] = [terminal]
    path: Path | None = folder / "patchbay.log"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        assert path is not None  # noqa: S101  # tells the type checker what the line above says
        handlers.append(
            logging.handlers.RotatingFileHandler(path, maxBytes=LARGEST, backupCount=KEPT, encoding="utf-8")
        )
        path.chmod(0o600)
    except OSError:
        path = None
    for handler in handlers:
        handler.setFormatter(PlainLines())
        handler.patchbay = True  # type: ignore[attr-defined]  # a mark to find ours by
        root.addHandler(handler)
    root.setLevel(logging.WARNING)
    logging.getLogger("patchbay").setLevel(logging.INFO)
    logging.getLogger("webui").setLevel(logging.INFO)
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)  # what strangers send is no warning
    logging.raiseExceptions = False  # a full disk must not fill the terminal
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    return path
