"""What a request of the page may hold: JSON objects with known keys of known types, and small numbers in the query."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from starlette.requests import Request

from webui.core.errors import SettingError
from webui.core.fields import did_you_mean

NAME = 300  # letters in a name
TEXT = 1_000_000  # letters in a message


@dataclass(frozen=True, slots=True)
class Key:
    """One key of a body: its type, how long its text may be, whether it must be there, whether null will do."""

    type: type
    longest: int = NAME
    required: bool = False
    null: bool = False


_WORDS = {str: "text", int: "a whole number", dict: "an object", bool: "true or false"}


async def read(request: Request, keys: Mapping[str, Key]) -> dict[str, Any]:
    """The JSON object in the body. Raises SettingError for whatever is not as ``keys`` says; nothing is guessed."""
    raw = await request.body()
    try:
        content = orjson.loads(raw) if raw else {}
    except orjson.JSONDecodeError as error:
        raise SettingError("body", f"The body is not JSON: {error.msg}.", "Send a JSON object.") from None
    if not isinstance(content, dict):
        raise SettingError("body", "The body is not a JSON object.", 'Send an object such as {"text": "Hello"}.')
    for name, value in content.items():
        if name not in keys:
            raise SettingError(name, f"There is no key {name[:60]!r}.", did_you_mean(name[:60], keys))
        _check(name, keys[name], value)
    for name, key in keys.items():
        if key.required and name not in content:
            raise SettingError(name, f"{name} is missing.", f"It takes {_WORDS[key.type]}.")
    return content


def _check(name: str, key: Key, value: Any) -> None:
    if value is None and key.null:
        return
    if not isinstance(value, key.type) or (key.type is int and isinstance(value, bool)):
        raise SettingError(name, f"{name} is of the wrong type.", f"It takes {_WORDS[key.type]}.")
    if isinstance(value, str) and len(value) > key.longest:
        raise SettingError(name, f"{name} has {len(value)} letters.", f"It takes at most {key.longest}.")
    if isinstance(value, str) and key.longest <= NAME and any(c < " " or c == "\x7f" for c in value):
        raise SettingError(name, f"{name} holds control characters.", "Leave them out.")


def number(request: Request, name: str, default: int, low: int, high: int) -> int:
    """A whole number from the query, brought into its range."""
    text = request.query_params.get(name, "")
    if not text:
        return default
    if not (text.isascii() and text.lstrip("-").isdigit() and len(text) < 20):
        raise SettingError(name, f"{name} is {text[:40]!r}.", "It takes a whole number.")
    return min(max(int(text), low), high)
