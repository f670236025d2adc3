"""Connections: how long one may take to ask, how many there may be, and what a malformed request is answered."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from webui import refusal
from webui.gate import outgoing

HEADER_BYTES = 32 * 1024
HEADER_SECONDS = 20.0  # from the first byte, or from the start of the connection, to a whole header
KEEP_ALIVE_SECONDS = 15
MOST_CONNECTIONS = 512  # beyond this the one that has been waiting longest is closed
MOST_ANSWERED = 1536  # beyond this, when all are being answered, a new one is closed
SWEEP_SECONDS = 1.0


class Connection(H11Protocol):
    """One connection of a client. One that does not ask within the deadline is closed."""

    waiting_since = 0.0
    asking = False  # bytes of the next request have come

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in the parent
        """Count it, and make room when there are too many."""
        super().connection_made(transport)
        self.waiting_since = time.monotonic()
        if len(self.connections) > MOST_CONNECTIONS:
            slow = [c for c in self.connections if isinstance(c, Connection) and c.waits_for_client]
            if slow:
                min(slow, key=lambda c: c.waiting_since).drop()
            elif len(self.connections) > MOST_ANSWERED:
                self.drop()

    @property
    def idle(self) -> bool:
        """Whether no request is being answered on it."""
        return self.cycle is None or self.cycle.response_complete

    @property
    def waits_for_client(self) -> bool:
        """Whether the client has yet to ask, or to send the rest of what it began to."""
        return self.idle or (self.cycle.more_body and not self.cycle.response_started)

    def data_received(self, data: bytes) -> None:
        """The clock of a kept connection starts anew with the first byte of the next request."""
        if self.idle and not self.asking:
            self.asking = True
            self.waiting_since = time.monotonic()
        super().data_received(data)

    def on_response_complete(self) -> None:
        """The next request may come."""
        self.asking = False
        self.waiting_since = time.monotonic()
        super().on_response_complete()

    def drop(self) -> None:
        """Close at once, without waiting for what was not sent yet."""
        self.connections.discard(self)  # it is told that it is lost only later, and must not be chosen twice
        self.transport.abort()

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP in the shape of all errors."""
        status = getattr(sys.exc_info()[1], "error_status_hint", 400)
        content = refusal.body("malformed", "This is not a request that can be answered.", "")
        headers: list[tuple[bytes, bytes]] = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(content)).encode()),
            (b"connection", b"close"),
        ]
        with contextlib.suppress(h11.LocalProtocolError):  # an answer had begun
            self.transport.write(self.conn.send(h11.Response(status_code=status, headers=outgoing(headers))) or b"")
            self.transport.write(self.conn.send(h11.Data(data=content)) or b"")
            self.transport.write(self.conn.send(h11.EndOfMessage()) or b"")
        self.transport.close()


async def sweep(connections: set[Any]) -> None:
    """Close connections that take too long to ask. Runs as long as the server."""
    while True:
        await asyncio.sleep(SWEEP_SECONDS)
        latest = time.monotonic() - HEADER_SECONDS
        for connection in [c for c in connections if isinstance(c, Connection)]:
            if connection.idle and connection.waiting_since < latest:
                connection.drop()


def raise_file_limit(wanted: int = 4096) -> int:
    """Allow as many open files as connections, models and chats may need; the limit that holds now."""
    if sys.platform == "win32":
        return wanted
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    target = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < target:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (target, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
