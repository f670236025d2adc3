"""Frames between the web process and its children: a length and a msgpack value over a socket pair.

The child inherits one end (on Windows it is shared by process id over standard input). Nothing is pickled. A frame has
at most LIMIT bytes; writing blocks when the other side does not read, so neither side can pile up memory in the other.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from typing import Any

import msgpack  # type: ignore[import-untyped]  # ships no stubs

LIMIT = 256 * 1024 * 1024
_HEAD = struct.Struct("<I")


class ChannelClosed(Exception):
    """The other side is gone."""


def encode(value: Any) -> bytes:
    """A value as one frame."""
    body: bytes = msgpack.packb(value, use_bin_type=True, unicode_errors="replace")  # half a surrogate pair is a ?
    if len(body) > LIMIT:
        raise ValueError(f"A frame of {len(body)} bytes is too large.")
    return _HEAD.pack(len(body)) + body


class Channel:
    """The child's end: blocking, one reader thread, any number of writers."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._file = sock.makefile("rb")
        self._lock = threading.Lock()

    def send(self, value: Any) -> None:
        """Write one frame; raises ChannelClosed."""
        frame = encode(value)
        try:
            with self._lock:
                self._socket.sendall(frame)
        except OSError:
            raise ChannelClosed from None

    def receive(self) -> Any:
        """Read one frame; raises ChannelClosed at the end."""
        try:
            head = self._file.read(4)
            if len(head) < 4:
                raise ChannelClosed
            (length,) = _HEAD.unpack(head)
            if length > LIMIT:
                raise ChannelClosed
            body = self._file.read(length)
        except OSError:
            raise ChannelClosed from None
        if len(body) < length:
            raise ChannelClosed
        return msgpack.unpackb(body, raw=False, strict_map_key=False)


class AsyncChannel:
    """The web process's end."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._lock = asyncio.Lock()

    @classmethod
    async def over(cls, sock: socket.socket) -> AsyncChannel:
        """A channel over a connected socket."""
        return cls(*await asyncio.open_connection(sock=sock, limit=1024 * 1024))

    async def send(self, value: Any) -> None:
        """Write one frame and wait until the other side has room for more; raises ChannelClosed."""
        try:
            async with self._lock:
                self._writer.write(encode(value))
                await self._writer.drain()
        except OSError:
            raise ChannelClosed from None

    def post(self, value: Any) -> None:
        """Write a small frame without waiting, also to a side that does not read; nothing when this end is closed."""
        if not self._writer.is_closing():
            self._writer.write(encode(value))

    async def receive(self) -> Any:
        """Read one frame; raises ChannelClosed at the end."""
        try:
            (length,) = _HEAD.unpack(await self._reader.readexactly(4))
            if length > LIMIT:
                raise ChannelClosed
            body = await self._reader.readexactly(length)
        except (OSError, asyncio.IncompleteReadError):
            raise ChannelClosed from None
        return msgpack.unpackb(body, raw=False, strict_map_key=False)

    def close(self) -> None:
        """Close this end at once, also while the other side does not read; the child ends when it notices."""
        self._writer.transport.abort()

    async def closed(self) -> None:
        """Wait until this end is closed."""
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()
