"""What is known of each plugin, and of what went wrong with it."""

from __future__ import annotations

import time
import traceback
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from webui.runtime.plugins.discovery import Found, Kind


@dataclass
class Record:
    """A plugin, and how it is doing. ``status`` is on, off, broken (``error`` says why) or left out (of this run)."""

    found: Found
    enabled: bool = False
    status: str = "off"
    error: str = ""
    hint: str = ""
    traceback: str = ""
    strikes: int = 0
    module: ModuleType | None = None
    running: Any = None  # its entered lifespan

    @property
    def name(self) -> str:
        """The name of the module, file or entry point."""
        return self.found.name

    @property
    def kind(self) -> Kind:
        """loader or extension."""
        return self.found.kind

    @property
    def origin(self) -> str:
        """Where it lies, for a person."""
        return self.found.origin

    @property
    def version(self) -> str:
        """What it says of its version; "" when it says nothing."""
        return str(getattr(self.module, "__version__", "") or self.found.version)

    @property
    def author(self) -> str:
        """What it says of its author."""
        return self.found.author

    @property
    def description(self) -> str:
        """The first paragraph of its docstring, or its package's summary."""
        return self.found.description


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that went wrong with a plugin."""

    when: float
    plugin: str
    hook: str
    message: str
    traceback: str = ""

    def __str__(self) -> str:
        clock = time.strftime("%H:%M:%S", time.localtime(self.when))
        return f"{clock} {self.plugin}, {self.hook}: {self.message}\n{self.traceback}".rstrip()


def formatted(error: BaseException) -> str:
    """The traceback of an error, as Python prints it."""
    try:
        return "".join(traceback.format_exception(error))
    except SystemError:  # Python 3.11 parses the source for it, which fails when two threads do so at once
        return f"{type(error).__name__}: {error}"
