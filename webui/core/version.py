"""Which version of the program this is."""

from __future__ import annotations

import importlib.metadata
import tomllib
from functools import cache

from webui.core.config import ROOT


@cache
def program_version() -> str:
    """The version of this checkout, or of the installed package where there is no checkout."""
    path = ROOT / "pyproject.toml"
    if path.is_file():
        return str(tomllib.loads(path.read_text(encoding="utf-8"))["project"]["version"])
    return importlib.metadata.version("patchbay")
