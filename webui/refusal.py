"""The answer to a request that is refused: a status, and an error in words as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from starlette.types import Message, Scope

from webui.core.errors import PatchbayError


class Refusal(PatchbayError):
    """A request that is not served. ``name`` is the machine-readable code, ``headers`` go with the answer."""

    def __init__(
        self, status: int, name: str, message: str, hint: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message, hint)
        self.status = status  # of this answer rather than of the class
        self.name = name
        self.headers = dict(headers or {})

    @property
    def code(self) -> str:
        """The machine-readable name."""
        return self.name


def body(code: str, message: str, hint: str = "") -> bytes:
    """The JSON of an error."""
    return json.dumps({"error": {"code": code, "message": message, "hint": hint}}, ensure_ascii=False).encode()


def answer(scope: Scope, refusal: Refusal, *, more: bool = False) -> Iterator[Message]:
    """The messages that answer a request with a refusal; with ``more`` the caller sends the last, empty one."""
    content = body(refusal.code, refusal.message, refusal.hint)
    headers = {
        "content-type": "application/json",
        "content-length": str(len(content)),
        **refusal.headers,
    }
    if refusal.status in (400, 408, 413, 415, 421, 500):
        headers["connection"] = "close"  # part of the request may still be on its way
    yield {
        "type": "http.response.start",
        "status": refusal.status,
        "headers": [(key.encode(), value.encode("latin-1")) for key, value in headers.items()],
    }
    yield {
        "type": "http.response.body",
        "body": b"" if scope.get("method") == "HEAD" else content,
        "more_body": more,
    }
