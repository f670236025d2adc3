"""The gate: what every request passes before anything else, and every answer on its way out.

Pure ASGI, outside all routes, so that nothing can be mounted past it. It lets in what this machine's own page sends
(exact Host, exact Origin, ``Sec-Fetch-Site``), bounds how much and how long a body may be, and adds the headers that
tell a browser what the page may do. There is no CORS: no other site may read anything.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import time
from collections.abc import Callable, Container
from dataclasses import dataclass
from typing import Any

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from webui.refusal import Refusal, answer

JSON_LIMIT = 2 * 1024 * 1024
UPLOAD_LIMIT = 20 * 1024 * 1024
FORM_LIMIT = 4 * 1024
#: Paths with these endings take ``multipart/form-data`` up to the upload limit; all others take JSON only.
UPLOADS = ("/upload", "/transcriptions", "/translations", "/files")
#: Paths that take an HTML form.
FORMS = ("/login", "/logout")
BODY_SECONDS = 25.0  # a JSON body is here by then
UPLOAD_SECONDS = 300.0  # a large upload over a slow network, as long as it moves
SEND_SECONDS = 60.0  # a client that reads nothing for this long is gone
CLOSED = 499  # what the log says when the client left before it was answered
DRAIN_SECONDS = 1.0  # how long a refused body is still read, so that its sender gets to see the answer

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; media-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; "
    "object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
)
HEADERS: tuple[tuple[bytes, bytes], ...] = (
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"x-frame-options", b"DENY"),
)
_OURS = frozenset(name for name, _ in HEADERS)
_LEAKS = frozenset({b"server", b"x-powered-by", b"date"})
# Headers by which a proxy speaks for its client; nobody stands between unless a person says so.
_PROXY = re.compile(rb"x-forwarded-.*|forwarded|x-real-ip|x-gradio-.*|x-direct-url")
_TRICKS = re.compile(r"[\x00-\x1f\x7f\\]|%(?:2e|2f|5c|25|00)|(?:^|/)\.\.(?:/|$)", re.IGNORECASE)

log = logging.getLogger("patchbay.gate")
access = logging.getLogger("patchbay.access")


@dataclass(frozen=True)
class Body:
    """What a path takes: how many bytes, of which kinds, and how long they may take to arrive."""

    limit: int
    kinds: tuple[str, ...]
    seconds: float


JSON = Body(JSON_LIMIT, ("application/json",), BODY_SECONDS)
UPLOAD = Body(UPLOAD_LIMIT, ("application/json", "multipart/form-data"), UPLOAD_SECONDS)
FORM = Body(FORM_LIMIT, ("application/json", "application/x-www-form-urlencoded"), BODY_SECONDS)


def takes(path: str) -> Body:
    """What a path takes as a body."""
    if path in FORMS:
        return FORM
    return UPLOAD if path.endswith(UPLOADS) else JSON


class Gate:
    """Lets in what our own page and our own programs send, and nothing else.

    ``hosts`` are the values of Host that are ours (``127.0.0.1:7860``); an Origin is http:// and one of them.
    """

    def __init__(self, app: ASGIApp, hosts: Container[str], clock: Callable[[], float] = time.monotonic) -> None:
        self.app = app
        self.hosts = hosts
        self.clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":
            try:
                self.check(scope)
            except Refusal:
                await receive()
                await send({"type": "websocket.close", "code": 1008, "reason": ""})
            else:
                await self.app(scope, receive, send)
        else:
            await _Exchange(self, scope, receive, send).run()

    def check(self, scope: Scope) -> None:
        """Raises the Refusal that a request meets before its body is looked at."""
        values: dict[bytes, list[str]] = {}
        for key, value in scope["headers"]:
            values.setdefault(key, []).append(value.decode("latin-1"))
        if any(len(values.get(key, ())) > 1 for key in (b"host", b"origin", b"content-type", b"content-length")):
            raise Refusal(400, "malformed", "A header of this request stands in it twice.")
        host = values.get(b"host", [""])[0].lower()
        if host not in self.hosts:
            raise Refusal(
                421, "wrong_host", "This address is not served here.", "Open the address printed at the start."
            )
        _check_path(scope["path"])
        websocket = scope["type"] == "websocket"
        if not websocket and scope["method"] not in METHODS:
            allow = {"allow": ", ".join(sorted(METHODS))}
            raise Refusal(405, "method_not_allowed", "This method is not served.", headers=allow)
        origin = values.get(b"origin")
        if origin is not None and not self.ours(origin[0]):
            raise Refusal(403, "foreign_origin", "This request comes from another site.", "Use Patchbay's own page.")
        if websocket and origin is None:
            raise Refusal(403, "foreign_origin", "A socket says which page opens it.")
        site = values.get(b"sec-fetch-site", ["none"])[0]
        if site not in ("same-origin", "none"):
            opened = values.get(b"sec-fetch-mode", [""])[0] == "navigate"
            top = values.get(b"sec-fetch-dest", ["document"])[0] == "document"
            if websocket or not (opened and top and scope["method"] in ("GET", "HEAD")):
                raise Refusal(403, "cross_site", "This request was caused by another site.", "Use Patchbay's own page.")
        if not websocket:
            self._check_body(scope["path"], values)

    def ours(self, origin: str) -> bool:
        """Whether an Origin is a page of ours: the scheme, a host of ours, and the port."""
        scheme, separator, host = origin.lower().partition("://")
        return separator != "" and scheme == "http" and host in self.hosts

    def _check_body(self, path: str, values: dict[bytes, list[str]]) -> None:
        length = values.get(b"content-length", ["0"])[0]
        if not (length.isascii() and length.isdigit() and len(length) <= 19):
            raise Refusal(400, "malformed", "Content-Length is not a number.")
        body = takes(path)
        if int(length) > body.limit:
            raise too_large(body)
        if int(length) or b"transfer-encoding" in values:
            kind = values.get(b"content-type", [""])[0].partition(";")[0].strip().lower()
            if kind not in body.kinds:
                raise Refusal(415, "wrong_type", f"The body must be {' or '.join(body.kinds)}.", "Set Content-Type.")


def _check_path(path: str) -> None:
    if not path.startswith("/") or path.startswith("//") or _TRICKS.search(path) or len(path) > 8192:
        raise Refusal(400, "bad_path", "This path is not served.")


def too_large(body: Body) -> Refusal:
    """The answer to a body beyond its limit."""
    return Refusal(413, "too_large", f"The body is larger than {body.limit // 1024} KB.", "Send less at once.")


class _Exchange:
    """One request and its answer on their way through the gate."""

    def __init__(self, gate: Gate, scope: Scope, receive: Receive, send: Send) -> None:
        self.gate = gate
        self.scope = scope
        self._receive = receive
        self._send = send
        self.started = gate.clock()
        self.status = 0  # of the answer, once it has begun
        self.sent = 0
        self.body: Body = takes(scope["path"])
        self.received = 0
        self.complete = False  # the whole body is here
        self.refusal: Refusal | None = None  # why the rest of the body is not read
        self.finished = False

    async def run(self) -> None:
        """Answer, whatever happens."""
        scope = self.scope
        try:
            self.gate.check(scope)
            scope["headers"] = [pair for pair in scope["headers"] if not _PROXY.fullmatch(pair[0])]
            await self.gate.app(scope, self.receive, self.send)
        except _Gone:
            pass
        except ClientDisconnect:
            self.status = CLOSED
        except Refusal as refusal:
            self.refusal = self.refusal or refusal
        except Exception:
            if not self.refusal:
                log.exception("%s %s failed", scope["method"], scope["path"])
                self.refusal = Refusal(500, "failed", "Patchbay failed to answer this.", "The log says why.")
        if self.refusal and not self.finished:
            with contextlib.suppress(_Gone):
                await self.refuse(self.refusal)
        client = (scope.get("client") or ("-",))[0]
        took = (self.gate.clock() - self.started) * 1000
        access.info("%s %s %s %d %d %.0f ms", client, scope["method"], scope["path"], self.status, self.sent, took)

    async def refuse(self, refusal: Refusal) -> None:
        """Answer with a refusal unless an answer has begun; then close the connection."""
        if self.status:
            return  # the server cuts the connection, so that nobody takes half an answer for a whole one
        more = not self.complete and self.has_body()
        for message in answer(self.scope, refusal, more=more):
            await self.out(message)
        if more:
            await self.drain()
            await self.out({"type": "http.response.body", "body": b""})

    def has_body(self) -> bool:
        """Whether the request said that it brings a body."""
        return any(
            key == b"transfer-encoding" or (key == b"content-length" and value not in (b"0", b""))
            for key, value in self.scope["headers"]
        )

    async def drain(self) -> None:
        """Read on for a moment, so that a client that is still writing gets to read the answer."""
        try:
            async with asyncio.timeout(DRAIN_SECONDS):
                while True:
                    message = await self._receive()
                    if message["type"] != "http.request" or not message.get("more_body"):
                        return
        except TimeoutError:
            return

    async def receive(self) -> Message:
        """A part of the body, counted and timed."""
        if self.complete:
            return await self._receive()
        left = self.started + self.body.seconds - self.gate.clock()
        try:
            async with asyncio.timeout(max(0.0, min(left, BODY_SECONDS))):
                message = await self._receive()
        except TimeoutError:
            self.refusal = Refusal(408, "too_slow", "The body took too long to arrive.", "Try again.")
            raise _Gone from None
        if message["type"] == "http.request":
            self.received += len(message.get("body", b""))
            if self.received > self.body.limit:
                self.refusal = too_large(self.body)
                raise _Gone
            self.complete = not message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        """A part of the answer; nothing once the request is refused."""
        if self.refusal and not self.status:
            return
        await self.out(message)

    async def out(self, message: Message) -> None:
        """Send, with our headers on it, to a client that reads."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message = {**message, "headers": outgoing(message.get("headers", ()))}
        elif message["type"] == "http.response.body":
            self.sent += len(message.get("body", b""))
            self.finished = not message.get("more_body", False)
        try:
            async with asyncio.timeout(SEND_SECONDS):
                await self._send(message)
        except TimeoutError:
            raise _Gone from None


class _Gone(Exception):
    """The request ends here: its client is gone, too slow, or has sent too much."""


def outgoing(headers: Any) -> list[tuple[bytes, bytes]]:
    """Headers of an answer with ours added and with what no client needs to know left out."""
    kept: list[tuple[bytes, bytes]] = []
    policy = b""
    kind = b""
    cached = False
    for key, value in headers:
        name = key.lower()
        if name == b"content-security-policy":
            policy = value  # a route may be stricter than the page
        elif name in _OURS or name in _LEAKS or name.startswith(b"access-control-"):
            continue
        else:
            kept.append((name, value))
            if name == b"content-type":
                kind = value
            cached = cached or name == b"cache-control"
    kept += [(name, policy or value if name == b"content-security-policy" else value) for name, value in HEADERS]
    if not cached and (not kind or kind.startswith((b"application/json", b"text/html", b"text/plain"))):
        kept.append((b"cache-control", b"no-store"))
    return kept
