"""The live reply: drawn once for all who look at it, sent to each as what changed since they last heard.

Viewers only look. The drawing rests while nobody does, and the reply goes on without it.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from webui.core.events import Progress
from webui.ui.page.markdown import Blocks, changes
from webui.ui.page.wire import HEARTBEAT, event

PACE = 1 / 18  # seconds between two drawings at least; faster costs without looking better
SHARE = 1 / 15  # of the time goes into drawing at most: a block that is slow to draw is drawn less often
SLOWEST = 1.0  # seconds between two drawings at most
REMEMBERED = 100  # drawings that a viewer who was cut off can go on from
GLANCE = 0.01  # seconds between two looks whether the reply has ended meanwhile
SILENCE = 15.0  # seconds after which a comment keeps the connection open
HEAVY = 6000  # letters at once that are drawn off the event loop, as is code, whose colours may come any moment


class Source(Protocol):
    """What is drawn: a reply that is being written."""

    text: str
    thought: str
    tokens: int
    number: int
    progress: Progress | None

    @property
    def done(self) -> bool:
        """Whether nothing more will come."""
        ...

    async def changed(self, number: int, timeout: float) -> int:
        """Wait until ``number`` is left behind or the time is over; the number then."""
        ...


class _Growing:
    """Blocks of a text that is looked at again and again and has only grown, as a rule."""

    def __init__(self) -> None:
        self.blocks = Blocks()
        self.restarts = 0
        self.seen = ""
        self._finished = False

    def update(self, text: str, *, finished: bool) -> None:
        if self._finished and text == self.seen:
            return
        if self._finished or not text.startswith(self.seen):
            self.blocks = Blocks()
            self.restarts += 1
            self.seen = ""
        if len(text) > len(self.seen):
            self.blocks.feed(text[len(self.seen) :])
            self.seen = text
        if finished:
            self.blocks.finish()
        self._finished = finished


@dataclass(frozen=True, slots=True)
class Drawing:
    """What there was to see at one moment."""

    number: int
    answer: tuple[str, ...] = ()
    thought: tuple[str, ...] = ()
    settled: tuple[int, int] = (0, 0)  # blocks of the answer and the thought that stay as they are
    restarts: int = 0
    tokens: int = 0
    progress: Progress | None = None
    done: bool = False


@dataclass(slots=True)
class Live:
    """One reply as its viewers see it.

    ``ending`` gives the last message's content: what is known of the finished reply.
    """

    source: Source
    ending: Callable[[], Awaitable[Any]]
    drawing: Drawing = field(default_factory=lambda: Drawing(-1))
    cost: float = 0.0  # seconds that the last drawing took
    _answer: _Growing = field(default_factory=_Growing)
    _thought: _Growing = field(default_factory=_Growing)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _past: deque[Drawing] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    _news: asyncio.Event = field(default_factory=asyncio.Event)
    _viewers: int = 0
    _task: asyncio.Task[None] | None = None

    async def draw(self) -> Drawing:
        """What there is to see now."""
        source = self.source
        if self.drawing.number == source.number and self.drawing.done == source.done:
            return self.drawing
        fresh = len(source.text) + len(source.thought) - sum(map(len, (self._answer.seen, self._thought.seen)))
        if fresh > HEAVY or self.cost > PACE or self._answer.blocks.in_code:
            return await asyncio.to_thread(self._draw)
        return self._draw()

    def _draw(self) -> Drawing:
        with self._lock:
            source = self.source
            number, done, text, thought = source.number, source.done, source.text, source.thought
            if done and self._answer.blocks.in_code and self._answer.seen != text:
                done = False  # the last words first, then the colours
            started = time.perf_counter()
            self._thought.update(thought, finished=done)
            self._answer.update(text, finished=done)
            self.cost = time.perf_counter() - started
            answer, thinking = self._answer.blocks, self._thought.blocks
            self.drawing = Drawing(
                number=number,
                answer=tuple(answer.html),
                thought=tuple(thinking.html),
                settled=(answer.settled, thinking.settled),
                restarts=self._answer.restarts + self._thought.restarts,
                tokens=source.tokens,
                progress=source.progress,
                done=done,
            )
            self._past.append(self.drawing)
            return self.drawing

    async def follow(self, number: int = 0) -> AsyncIterator[bytes]:
        """The event stream of one viewer who has seen everything up to ``number``."""
        self._viewers += 1
        try:
            if self._task is None or self._task.done():
                self._task = asyncio.create_task(self._run())
            seen = next((d for d in reversed(self._past) if d.number == number > 0), None)
            if seen is None:
                seen = await self.draw()
                yield _whole(seen)
            while True:
                now = self.drawing
                if now is not seen:
                    for message in _difference(seen, now):
                        yield message
                    seen = now
                if seen.done:
                    yield event({"e": await self.ending()}, seen.number)
                    return
                news = self._news
                if self.drawing is not seen:
                    continue
                try:
                    await asyncio.wait_for(news.wait(), SILENCE)
                except TimeoutError:
                    yield HEARTBEAT
        finally:
            self._viewers -= 1
            if self._viewers == 0 and self._task is not None:
                self._task.cancel()
                self._task = None

    async def _run(self) -> None:
        """Draw whenever there is something new, as often as the pace allows."""
        while True:
            begun = time.monotonic()
            await self.draw()
            self._news.set()
            self._news = asyncio.Event()
            if self.drawing.done:
                return
            if self.source.done:
                await asyncio.sleep(PACE)  # the last words leave before the colours take the processor
            rest = begun + min(SLOWEST, max(PACE, self.cost / SHARE))
            while not self.source.done and (left := rest - time.monotonic()) > 0:
                await asyncio.sleep(min(left, GLANCE))
            while self.source.number <= self.drawing.number and not self.source.done:
                await self.source.changed(self.drawing.number, SILENCE)


def _whole(drawing: Drawing) -> bytes:
    content: dict[str, Any] = {"b": drawing.answer, "hb": drawing.thought, "t": drawing.tokens}
    if drawing.progress is not None and not drawing.tokens:
        content["p"] = _progress(drawing.progress)
    return event(content, drawing.number)


def _difference(old: Drawing, new: Drawing) -> list[bytes]:
    """The messages that make ``new`` of ``old``; only the last has the number, since all are needed to be there."""
    if old.restarts != new.restarts:
        return [_whole(new)]
    contents: list[dict[str, Any]] = []
    if new.progress is not None and new.progress != old.progress and not new.tokens:
        contents.append({"p": _progress(new.progress)})
    thought = _operations("h", old.thought, new.thought, old.settled[1])
    answer = _operations("o", old.answer, new.answer, old.settled[0])
    if thought:
        contents.append(thought)
    if answer or new.tokens != old.tokens:
        contents.append({**(answer or {"o": []}), "t": new.tokens})
    return [event(content, new.number if content is contents[-1] else None) for content in contents]


def _operations(key: str, old: tuple[str, ...], new: tuple[str, ...], start: int) -> dict[str, Any]:
    """How the blocks changed; empty when they did not."""
    found: dict[str, Any] = {}
    steps = changes(old, new, start)
    if len(new) < len(old):
        found = {"c": len(new), key: steps}
    elif steps:
        found = {key: steps}
    return found


def _progress(progress: Progress) -> dict[str, Any]:
    return {"stage": progress.stage, "done": progress.done, "total": progress.total, "text": progress.text}
