"""Who listens to Gradio's queue: work that was asked for and that nobody waits for is dropped.

Gradio stops an event when its listener goes, but one that never had a listener runs to its end and its messages are
kept for good. Here each session's streams are counted, and a session without any for half a minute is cleared.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs

from starlette.types import ASGIApp, Receive, Scope, Send

PATIENCE = 30.0  # seconds without a listener
SWEEP = 2.0

log = logging.getLogger("patchbay.panels")


class Listeners:
    """Counts the open streams of each session, and clears sessions that nobody listens to.

    ``queue`` is the queue of some Blocks.
    """

    def __init__(self, queue: Any, clock: Callable[[], float] = time.monotonic) -> None:
        self._queue = queue
        self._clock = clock
        self._open: dict[str, int] = {}
        self._alone_since: dict[str, float] = {}

    async def listen(self, gradio: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a stream of a session through, and know of it while it lasts."""
        session = parse_qs(scope["query_string"].decode("latin-1")).get("session_hash", [""])[0]
        self._open[session] = self._open.get(session, 0) + 1
        try:
            await gradio(scope, receive, send)
        finally:
            self._open[session] -= 1
            if not self._open[session]:
                del self._open[session]

    async def sweep(self) -> None:
        """Clear the sessions that have had no listener for too long."""
        now = self._clock()
        waiting = set(self._queue.pending_messages_per_session) | set(self._queue.pending_event_ids_session)
        self._alone_since = {s: self._alone_since.get(s, now) for s in waiting if s not in self._open}
        for session in [s for s, since in self._alone_since.items() if now - since >= PATIENCE]:
            await self._queue.clean_events(session_hash=session)
            for event in self._queue.pending_event_ids_session.pop(session, ()):
                self._queue.event_ids_to_events.pop(event, None)
            self._queue.pending_messages_per_session.pop(session, None)
            log.info("A session of the panels was dropped: nobody listened to it")

    async def watch(self) -> None:
        """Sweep for as long as the server runs."""
        while True:
            await asyncio.sleep(SWEEP)
            await self.sweep()
