"""Extensions around the events of a reply: they may change them, and whatever happens to them, no event is lost.

All wrappers of one reply run in one thread with an event loop of its own, so that a wrapper that blocks holds up
nothing but this reply, and that only for the budget: then it is left out, and what it was given passes untouched.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import inspect
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Any

from webui.core.events import Attachment, Event, Failed, Finish, Progress, Started, Token
from webui.runtime.plugins.calls import Marker, Threads, quieted

_EVENTS = (Started, Progress, Token, Attachment, Finish, Failed)
_LOOK = 0.1  # seconds between two looks at whether a wrapper overruns
_LINGER = 0.3  # seconds that the end of a reply waits for wrappers to close
_END = object()


#: Told which plugin failed, how, and whether it hung.
Failing = Callable[[str, BaseException | str, bool], None]


@dataclass
class Stage:
    """One wrapper: how to begin it, what it has taken since it last gave something, and since when it runs."""

    plugin: str
    begin: Callable[[Any], Any]  # given the events, returns the wrapped ones or None
    taken: list[Event] = field(default_factory=list)
    since: float = 0.0  # 0: not running
    over: bool = False  # it has failed, or asked to be left out


class Taken:
    """The events as a wrapper gets them: an async iterator, and for plain generators an iterator."""

    def __init__(self, stream: Stream, stage: Stage, source: AsyncIterator[Event]) -> None:
        self._stream, self._stage, self._source = stream, stage, source

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        if self._stage.over:
            raise StopAsyncIteration
        self._stream.rest(self._stage)
        try:
            event = await anext(self._source)
        finally:
            self._stream.work(self._stage)
        self._stage.taken.append(event)
        return event

    def __iter__(self) -> Iterator[Event]:
        while not self._ended():
            future = _begun(self._stream.loop, lambda: _next(self))
            while not self._ended():  # an abandoned reply must not keep this thread
                with contextlib.suppress(concurrent.futures.TimeoutError):
                    event = future.result(_LOOK)
                    break
            else:
                return
            if event is _END:
                return
            yield event

    async def aclose(self) -> None:
        """Nothing to do: the source belongs to the reply."""

    def _ended(self) -> bool:
        return self._stage.over


def _begun(
    loop: asyncio.AbstractEventLoop, make: Callable[[], Coroutine[Any, Any, Any]]
) -> concurrent.futures.Future[Any]:
    """What a coroutine of another thread's loop will return; it is made only there, so none is left unawaited."""
    future: concurrent.futures.Future[Any] = concurrent.futures.Future()

    def start() -> None:
        if future.cancelled():
            return
        task = asyncio.ensure_future(make())
        task.add_done_callback(finish)

        def given_up(_: object) -> None:
            if future.cancelled():
                with contextlib.suppress(RuntimeError):  # the loop is closed: its tasks are gone
                    loop.call_soon_threadsafe(task.cancel)

        future.add_done_callback(given_up)

    def finish(task: asyncio.Future[Any]) -> None:
        error = None if task.cancelled() else task.exception()
        with contextlib.suppress(concurrent.futures.InvalidStateError):  # cancelled at this moment
            if task.cancelled():
                future.cancel()
            elif error is not None:
                future.set_exception(error)
            else:
                future.set_result(task.result())

    loop.call_soon_threadsafe(start)
    return future


class Stream:
    """The events of one reply on their way through the wrappers. Iterate it once, from the app's event loop."""

    def __init__(
        self,
        events: AsyncIterator[Event],
        stages: list[Stage],
        marker: Marker,
        failed: Failing,
        threads: Threads,
        budget: float,
    ) -> None:
        self._events, self._stages, self._marker, self._failed = events, stages, marker, failed
        self._threads, self._budget = threads, budget
        self.loop: asyncio.AbstractEventLoop
        self._main: asyncio.AbstractEventLoop | None = None
        self._pull: asyncio.Future[Any] | None = None
        self._error: Exception | None = None  # of the source: the wrappers see an end, the reader gets it

    def work(self, stage: Stage) -> None:
        """The wrapper runs from now on."""
        stage.since = time.monotonic()
        self._marker.enter(stage.plugin)

    def rest(self, stage: Stage) -> None:
        """The wrapper waits for us."""
        stage.since = 0.0
        self._marker.leave(stage.plugin)

    async def run(self) -> AsyncIterator[Event]:
        """The wrapped events."""
        self._main, self.loop = asyncio.get_running_loop(), asyncio.new_event_loop()
        thread = threading.Thread(target=self._serve, name="extension stream", daemon=True)
        thread.start()
        chain: AsyncIterator[Event] = self._source()
        for stage in self._stages:
            chain = self._guarded(stage, chain)
        hung = None
        try:
            while True:
                future = asyncio.wrap_future(_begun(self.loop, lambda: _next(chain)))
                hung = await self._watched(future)
                if hung is not None:
                    break
                event = future.result()
                if event is _END:
                    break
                yield event
            if hung is not None:
                async for event in self._untouched():
                    yield event
            if self._error is not None:
                raise self._error
        finally:
            await self._end(chain, hung)

    def _serve(self) -> None:
        asyncio.set_event_loop(self.loop)
        with quieted():
            self.loop.run_forever()
            with contextlib.suppress(Exception):
                self.loop.run_until_complete(self.loop.shutdown_asyncgens())
            self.loop.close()

    async def _watched(self, future: asyncio.Future[Any]) -> Stage | None:
        """Wait for the next event; the wrapper that overran, if one did."""
        try:
            while True:
                await asyncio.wait({future}, timeout=_LOOK)
                if future.done():
                    return None
                now = time.monotonic()
                for stage in self._stages:
                    if stage.since and now - stage.since > self._budget:
                        stage.over = True
                        self._failed(stage.plugin, f"it took more than {self._budget:g} seconds", True)
                        return stage
        finally:
            if not future.done():
                future.cancel()

    async def _untouched(self) -> AsyncIterator[Event]:
        """What the wrappers were given and have not answered, and the rest."""
        for stage in reversed(self._stages):
            stage.over = True
            taken, stage.taken = stage.taken, []
            for event in taken:
                yield event
        if self._pull is not None:
            event = await self._pull
            self._pull = None
            if event is _END:
                return
            yield event
        async for event in self._events:
            yield event

    async def _source(self) -> AsyncIterator[Event]:
        """The events, fetched from the app's loop."""
        assert self._main is not None  # noqa: S101  # set before the first event is asked for
        while True:
            event = await asyncio.wrap_future(_begun(self._main, self._fetch))
            if event is _END:
                return
            yield event

    async def _fetch(self) -> Any:
        self._pull = asyncio.ensure_future(_next(self._events))
        try:
            return await asyncio.shield(self._pull)
        except Exception as error:
            self._error = error
            return _END
        finally:
            if self._pull is not None and self._pull.done():
                self._pull = None

    async def _guarded(self, stage: Stage, source: AsyncIterator[Event]) -> AsyncIterator[Event]:
        """The events after one wrapper; when it fails, those it was given and the rest."""
        wrapped: Any = None
        self.work(stage)
        try:
            given = stage.begin(Taken(self, stage, source))
            wrapped = self._adapted(stage, given)
            if wrapped is not None:
                while (event := await _next(wrapped)) is not _END:
                    if not isinstance(event, _EVENTS):
                        raise TypeError(f"it gave a {type(event).__name__} instead of an event")
                    stage.taken.clear()
                    self.rest(stage)
                    yield event
                    self.work(stage)
                if not any(isinstance(e, Finish | Failed) for e in stage.taken):
                    stage.taken.clear()  # what it took and did not give it meant to drop, but never the end
        except (GeneratorExit, asyncio.CancelledError, KeyboardInterrupt):
            raise
        except BaseException as error:
            if not stage.over:
                self._failed(stage.plugin, error, False)
        finally:
            await self._close(stage, wrapped)
        taken, stage.taken = stage.taken, []
        for event in taken:
            yield event
        async for event in source:
            yield event

    async def _close(self, stage: Stage, wrapped: Any) -> None:
        """End a wrapper that has not ended by itself."""
        stage.over = True
        close = getattr(wrapped, "aclose", None)
        try:
            if close is not None:
                self.work(stage)
                await close()
        except BaseException as error:
            self._failed(stage.plugin, error, False)
        finally:
            self.rest(stage)

    def _adapted(self, stage: Stage, given: Any) -> AsyncIterator[Any] | None:
        if given is None:
            return None
        if hasattr(given, "__anext__"):
            return given  # type: ignore[no-any-return]  # checked by what it has
        if hasattr(given, "__aiter__"):
            return given.__aiter__()  # type: ignore[no-any-return]
        if hasattr(given, "__next__") and not inspect.iscoroutine(given):
            return self._threaded(given)
        if inspect.iscoroutine(given):
            given.close()
        raise TypeError(f"it returned a {type(given).__name__} instead of an iterator of events")

    async def _threaded(self, events: Iterator[Any]) -> AsyncIterator[Any]:
        """A plain generator, run in a thread so that it may wait."""

        def step() -> Any:
            with quieted():
                return next(events, _END)

        try:
            while (event := await asyncio.wrap_future(self._threads.submit(step))) is not _END:
                yield event
        finally:
            close = getattr(events, "close", None)
            if close is not None:
                self._threads.submit(close)  # nobody waits: it may be waiting itself

    async def _end(self, chain: AsyncIterator[Event], hung: Stage | None) -> None:
        """Close the wrappers, in their thread and within the budget, then the source."""
        for stage in self._stages:
            stage.over = True
        if self._pull is not None:
            self._pull.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await self._pull
        closing = asyncio.run_coroutine_threadsafe(self._finish(chain), self.loop)
        if hung is None:
            with contextlib.suppress(Exception):
                await asyncio.wait({asyncio.wrap_future(closing)}, timeout=_LINGER)
            if not closing.done():
                threading.Timer(self._budget, self._judge).start()
        close = getattr(self._events, "aclose", None)
        if close is not None:
            with contextlib.suppress(RuntimeError):
                await close()

    async def _finish(self, chain: Any) -> None:
        """Close what is left of the chain, in its own thread, and end that thread."""
        try:
            waiting = asyncio.all_tasks() - {asyncio.current_task()}
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
            await chain.aclose()
        finally:
            self.loop.stop()

    def _judge(self) -> None:
        """A wrapper that is still closing after its budget has hung."""
        for stage in self._stages:
            if stage.since:
                self._failed(stage.plugin, "closing it took too long", True)
                self.rest(stage)


async def _next(events: AsyncIterator[Any]) -> Any:
    """The next event, or _END: StopAsyncIteration does not travel through futures."""
    try:
        return await anext(events)
    except StopAsyncIteration:
        return _END
