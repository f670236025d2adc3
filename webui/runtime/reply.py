"""A reply that is being written: owned by the app, followed by any number of viewers.

Viewers only look. A page that closes ends nothing; ``stop`` does. What was written so far is saved twice a second.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from webui.core.chat import Message, Status, Turn
from webui.core.errors import ExtensionFailed, PatchbayError
from webui.core.events import Attachment, Event, Failed, Finish, Progress, Started, Token

if TYPE_CHECKING:
    from webui.runtime.app import App

_SAVE_SECONDS = 0.5
_RETRY_SECONDS = 3.0


class Reply:
    """One reply, from the first hook to the stored message."""

    def __init__(self, app: App, turn: Turn, message: Message) -> None:
        self._app = app
        self.turn = turn
        self.message = message  # as stored last
        self.id = message.id
        self.chat = turn.chat
        self.model = turn.model
        self.text = message.text
        self.thought = message.thought
        self.tokens = 0
        self.status: Status = "streaming"
        self.error = ""
        self.hint = ""
        self.unsaved = ""  # why the text could not be saved, while that is so
        self.started: Started | None = None
        self.progress: Progress | None = None
        self.finish: Finish | None = None
        self.attachments: list[Attachment] = []
        self.notes: list[str] = []  # extensions that failed on this reply, each in a sentence
        self.number = 0
        self._log: list[Event] = []
        self._begun = time.monotonic()
        self._first = 0.0  # when the first token came
        self._last = 0.0
        self._saved = -1
        self._changed = asyncio.Condition()
        self._stopping = asyncio.Event()
        self._task = asyncio.create_task(self._run())

    @property
    def done(self) -> bool:
        """Whether nothing more will come."""
        return self.status != "streaming"

    def stop(self) -> None:
        """End the reply; what was written stands."""
        self._stopping.set()

    async def wait(self) -> Message:
        """The stored message, when the reply is done."""
        await asyncio.shield(self._task)
        return self.message

    async def changed(self, number: int, timeout: float) -> int:
        """Wait until ``self.number`` is greater than ``number``, at most ``timeout`` seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout), self._changed:
                await self._changed.wait_for(lambda: self.number > number or self.done)
        return self.number

    async def follow(self, after: int = 0) -> AsyncIterator[tuple[int, Event]]:
        """All events after number ``after``, past and to come, each with its number."""
        while True:
            while after < len(self._log):
                after += 1
                yield after, self._log[after - 1]
            if self.done:
                return
            await self.changed(after, 15.0)

    def details(self) -> dict[str, Any]:
        """What is known of how the reply was made; stored with the message."""
        started, finish = self.started, self.finish
        seconds = (self._last or time.monotonic()) - self._begun
        writing = self._last - self._first
        found: dict[str, Any] = {"tokens": self.tokens, "seconds": round(seconds, 3)}
        if self._first:
            found["first_token_seconds"] = round(self._first - self._begun, 3)
        if self.tokens > 1 and writing > 0:
            found["tokens_per_second"] = round((self.tokens - 1) / writing, 2)
        if started is not None:
            found |= {
                "seed": started.seed,
                "prompt_tokens": started.prompt_tokens,
                "cached_tokens": started.cached_tokens,
                "context": started.context,
                "dropped": list(started.dropped),
                "warnings": list(started.warnings),
            }
        if finish is not None:
            found["reason"] = finish.reason
            found |= finish.details
        elif self.status == "stopped":
            found["reason"] = "cancelled"
        if self.notes:
            found["notes"] = list(self.notes)
        if self.attachments:
            found["attachments"] = [{"kind": a.kind, "title": a.title, "text": a.text} for a in self.attachments]
        return found

    async def _run(self) -> None:
        saver = asyncio.create_task(self._save_often())
        try:
            await self._write()
        except PatchbayError as error:
            await self._take(Failed(self.id, error.message, error.hint, error.code))
        except asyncio.CancelledError:
            self.status = "interrupted"
        except Exception as error:
            self._app.log.exception("a reply failed")
            await self._take(Failed(self.id, f"Something went wrong inside the program: {error}."))
        finally:
            saver.cancel()
            if self.status == "streaming":
                self.status = "stopped" if self._stopping.is_set() else "done"
            await self._save()
            async with self._changed:
                self.number += 1
                self._changed.notify_all()
        if self.unsaved:
            await self._save_until_it_works()
        await self._app.plugins.notify(
            "after_reply", told=self._told, app=self._app, turn=self.turn, message=self.message
        )

    async def _write(self) -> None:
        app = self._app
        self.turn = await app.plugins.fold("before_reply", self.turn, told=self._told, app=app)
        source = self._events(self.turn)
        events = app.plugins.wrap("wrap_stream", source, told=self._told, app=app, turn=self.turn)
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            while True:
                upcoming = asyncio.ensure_future(anext(events, None))
                await asyncio.wait({upcoming, stopping}, return_when=asyncio.FIRST_COMPLETED)
                if not upcoming.done():  # stopped while nothing came: do not wait for the engine
                    upcoming.cancel()
                    with contextlib.suppress(asyncio.CancelledError, Exception):
                        await upcoming
                    return
                event = upcoming.result()
                if event is None:
                    return
                await self._take(event)
                if isinstance(event, Finish | Failed) or self._stopping.is_set():
                    return
        finally:
            stopping.cancel()
            closing = getattr(events, "aclose", None)
            if closing is not None:
                with contextlib.suppress(Exception):
                    await closing()

    async def _events(self, turn: Turn) -> AsyncIterator[Event]:
        """The engine's events, with the model's loading before them."""
        app = self._app
        async for progress in app.models.ensure(turn.model, turn.loader, self.id):
            yield progress
        worker = app.models.process(turn.model)
        source = worker.generate(app.request(turn, self.id))
        try:
            async for event in source:
                yield event
        finally:
            await source.aclose()  # type: ignore[attr-defined]  # an async generator

    async def _take(self, event: Event) -> None:
        if isinstance(event, Token):
            now = time.monotonic()
            self._first = self._first or now
            self._last = now
            self.tokens += event.count
            self.progress = None
            if event.channel == "thought":
                self.thought += event.text
            else:
                self.text += event.text
        elif isinstance(event, Started):
            self.started = event
            if event.prompt and self.chat:
                await self._keep_prompt(event.prompt)
            event = replace(event, prompt="")
        elif isinstance(event, Progress):
            self.progress = event
        elif isinstance(event, Attachment):
            self.attachments.append(event)
        elif isinstance(event, Finish):
            self.finish = event
            self.status = "stopped" if event.reason == "cancelled" else "done"
        elif isinstance(event, Failed):
            self.status, self.error, self.hint = "failed", event.message, event.hint
        self._log.append(event)
        async with self._changed:
            self.number = len(self._log)
            self._changed.notify_all()

    def _told(self, failure: ExtensionFailed) -> None:
        self.notes.append(str(failure))

    def value(self) -> Message:
        """The message as it stands now."""
        return replace(
            self.message,
            text=self.text,
            thought=self.thought,
            status=self.status,
            error=f"{self.error} {self.hint}".strip(),
            details=self.details(),
        )

    async def _keep_prompt(self, text: str) -> None:
        try:
            await self._app.call(self._app.chats.save_prompt, self.id, text)
        except PatchbayError as error:
            self.unsaved = str(error)

    async def _save(self) -> None:
        if not self.chat:
            self.message = self.value()
            return
        number, message = self.number, self.value()
        try:
            await self._app.call(self._app.chats.write, self.chat, message)
        except PatchbayError as error:
            self.unsaved = str(error)
        else:
            self.message, self._saved, self.unsaved = message, number, ""

    async def _save_often(self) -> None:
        while True:
            await asyncio.sleep(_SAVE_SECONDS)
            if self.number != self._saved:
                await self._save()

    async def _save_until_it_works(self) -> None:
        while self.unsaved and not self._app.closing:
            await asyncio.sleep(_RETRY_SECONDS)
            await self._save()

    async def interrupt(self) -> None:
        """End because the app ends: what was written is saved and marked interrupted."""
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
