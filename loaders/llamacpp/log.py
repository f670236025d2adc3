"""What the engine says while it works: kept, so that an error can be told in its own words."""

from __future__ import annotations

import re
import sys
from collections import deque
from typing import Any, ClassVar

import llama_cpp.llama_cpp as C  # the C library

WARNING, ERROR, CONTINUED = 3, 4, 5
TELLING = re.compile(r"(?:error loading model(?: \w+)?|failed to \w+[^:]*|error): (.+)")


class Log:
    """The last lines of llama.cpp's log. There is one in a process, because the library has one log."""

    _only: ClassVar[Log | None] = None

    def __init__(self) -> None:
        self._lines: deque[tuple[int, str]] = deque(maxlen=200)
        self._level = 0

        @C.llama_log_callback  # type: ignore[untyped-decorator]  # ctypes ships no types for it
        def hear(level: int, text: bytes, _data: Any) -> None:
            self._hear(level, text.decode(errors="replace"))

        self._callback = hear  # kept: the library holds only its address
        C.llama_log_set(hear, None)

    @classmethod
    def get(cls) -> Log:
        """The log of this process."""
        if cls._only is None:
            cls._only = cls()
        return cls._only

    def _hear(self, level: int, text: str) -> None:
        if level != CONTINUED:
            self._level = level
            self._lines.append((level, text.rstrip("\n")))
        elif self._lines:
            self._lines.append((self._level, self._lines.pop()[1] + text.rstrip("\n")))
        if self._level >= WARNING:
            sys.stderr.write(text)

    def clear(self) -> None:
        """Forget what was said."""
        self._lines.clear()

    def reason(self) -> str:
        """Why the last thing failed, as the engine puts it."""
        errors = [text.strip() for level, text in self._lines if level >= ERROR and text.strip()]
        for text in errors:
            if match := TELLING.search(text):
                return match[1].rstrip(".")
        return errors[0].rstrip(".") if errors else "the engine gave no reason"
