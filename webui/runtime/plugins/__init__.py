"""Plugins: found, switched on and off, called so that none of them can stop the program."""

from __future__ import annotations

from webui.runtime.plugins.records import Problem, Record
from webui.runtime.plugins.registry import Plugins

__all__ = ["Plugins", "Problem", "Record"]
