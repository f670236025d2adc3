"""What each hook may return, checked where it returns it."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

from webui.core.chat import Turn
from webui.core.fields import describe
from webui.core.loader import Loader


def check(hook: str, result: Any) -> str:
    """What is wrong with the answer to a hook, as a sentence; "" when nothing is."""
    test = _CHECKS.get(hook)
    return test(result) if test is not None else ""


def _loaders(result: Any) -> str:
    if not isinstance(result, list | tuple):
        return f"it returned a {_type(result)} instead of a list of loaders"
    for each in result:
        missing = [n for n in _LOADER if not hasattr(each, n)]
        if isinstance(each, type):
            return f"it returned the class {each.__name__}; return an instance: {each.__name__}()"
        if missing:
            return f"the loader {getattr(each, 'name', _type(each))} lacks {', '.join(missing)}"
    return ""


def _settings(result: Any) -> str:
    if not isinstance(result, type) or not dataclasses.is_dataclass(result):
        return f"it returned a {_type(result)} instead of a dataclass (the class, not an instance)"
    described = describe(result)
    undeclared = [f.name for f in dataclasses.fields(result) if f.name not in described]
    return f"{undeclared[0]} is not declared with setting()" if undeclared else ""


def _routes(result: Any) -> str:
    return "" if isinstance(result, list | tuple) else f"it returned a {_type(result)} instead of a list of routes"


def _turn(result: Any) -> str:
    return "" if result is None or isinstance(result, Turn) else f"it returned a {_type(result)} instead of a Turn"


def _context(result: Any) -> str:
    if (hasattr(result, "__enter__") and hasattr(result, "__exit__")) or inspect.isgenerator(result):
        return ""
    return f"it returned a {_type(result)} instead of a context manager"


def _type(value: Any) -> str:
    return type(value).__name__


_LOADER = [n for n in (*Loader.__annotations__, *vars(Loader)) if not n.startswith("_")]
_CHECKS: dict[str, Callable[[Any], str]] = {
    "register_loaders": _loaders,
    "register_settings": _settings,
    "register_routes": _routes,
    "before_reply": _turn,
    "lifespan": _context,
}
