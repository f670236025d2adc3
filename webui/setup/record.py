"""What should be installed (the lock file, by section) and what is (a record beside the environment)."""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any

_HEADING = re.compile(r"# \[([a-z0-9]+)\]")


def read_lock(path: Path) -> dict[str, list[str]]:
    """The requirement lines of each ``# [section]`` of a lock file."""
    sections: dict[str, list[str]] = {}
    current: list[str] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        heading = _HEADING.match(line)
        if heading:
            current = sections.setdefault(heading[1], [])
        elif line.strip() and not line.startswith("#"):
            current.append(line.strip())
    return sections


def fingerprint(lines: list[str]) -> str:
    """Changes when a section's lines do, not when they are put in another order."""
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()[:16]


class Record:
    """``.venv/patchbay.json``: a section is entered when it stands whole, so whatever is cut off is done again.

    Each section holds ``lines`` (the fingerprint of what was installed), ``state`` (``installed``, ``failed`` or
    ``left out``), ``reason``, ``how`` (what was built or chosen), and for loaders ``title`` and ``check``, the Python
    line that shows whether it works here.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            content = {}
        self.sections: dict[str, dict[str, Any]] = content.get("sections", {}) if isinstance(content, dict) else {}

    def enter(self, name: str, **facts: Any) -> None:
        """Write down how a section ended."""
        self.sections[name] = facts
        self._save()

    def strike(self, name: str) -> None:
        """Forget a section before it is touched: until it is entered again it does not count."""
        if self.sections.pop(name, None) is not None:
            self._save()

    def _save(self) -> None:
        half = self.path.with_suffix(".part")
        half.write_text(json.dumps({"sections": self.sections}, indent=1) + "\n", encoding="utf-8")
        os.replace(half, self.path)
