"""JSON as the page reads it: never a NaN, never half a character, no traceback."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import orjson

_SURROGATE = re.compile("[\ud800-\udfff]")


def dumps(value: Any) -> bytes:
    """The value as JSON. NaN becomes null, half of a surrogate pair U+FFFD, and what JSON lacks its text."""
    try:
        return orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS)
    except TypeError:
        return orjson.dumps(_whole(value), default=str, option=orjson.OPT_NON_STR_KEYS)


def _whole(value: Any) -> Any:
    if isinstance(value, str):
        return _SURROGATE.sub("\ufffd", value)
    if isinstance(value, Mapping):
        return {_whole(str(k)): _whole(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_whole(v) for v in value]
    if isinstance(value, int) and not isinstance(value, bool) and not -(2**63) <= value < 2**64:
        return str(value)
    return value


def event(value: Any, number: int | None = None) -> bytes:
    """One message of an event stream; with a number, the place from which a reader may go on."""
    head = b"" if number is None else b"id: %d\n" % number
    return head + b"data: " + dumps(value) + b"\n\n"


HEARTBEAT = b": \n\n"
