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
from webui.core.errors import ExtensionFailed, NotFound, PatchbayError
from webui.core.events import Attachment, Event, Failed, Finish, Progress, Started, Token
from webui.runtime.transcript import Reader, Transcript

if TYPE_CHECKING:
    from webui.runtime.app import App
    from webui.runtime.process import EngineProcess

_SAVE_SECONDS = 0.5
_RETRY_SECONDS = 3.0
_SILENCE = 15.0


class Reply:
    """One reply, from the first hook to the stored message.

    Its events come in this order: Progress while it waits or the model loads, Started, Progress of the prompt, Token
    and Attachment, and at the end, whatever happened, one Finish or one Failed. Nothing follows that.
    """

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
        self.number = 0  # of the latest event; it grows with every change
        self._events_so_far = Transcript(len(self.text), len(self.thought))
        self._news = asyncio.Event()  # a new one after each change
        self._begun = time.monotonic()
        self._first = 0.0  # when the first token came
        self._last = 0.0
        self._saved = -1  # the number that is stored
        self._hopeless = False  # it cannot be stored however often that is tried
        self._prompt = ""  # to be stored
        self._given_up: Status | None = None  # why the writer was told to end
        self._worker: EngineProcess | None = None
        self._concluded = asyncio.Event()
        self._writer = asyncio.create_task(self._write())
        self._task = asyncio.create_task(self._run())

    @property
    def done(self) -> bool:
        """Whether nothing more will come."""
        return self.status != "streaming"

    @property
    def ending(self) -> bool:
        """Whether it is done or was told to end: ``wait`` does not take long."""
        return self.done or self._given_up is not None

    def stop(self) -> None:
        """End the reply; what was written stands."""
        self._give_up("stopped")

    def _give_up(self, why: Status) -> None:
        if self.ending:
            return
        self._given_up = why
        if self._worker is not None:
            self._worker.cancel(self.id)  # the engine is told at once, whatever the extensions do
        self._writer.cancel()

    async def wait(self) -> Message:
        """The message when the reply is done and saving it was tried; ``unsaved`` says whether that failed."""
        await self._concluded.wait()
        return self.message

    async def settled(self) -> None:
        """Wait until the reply is stored and the extensions were told."""
        await asyncio.wait({self._task})

    async def changed(self, number: int, timeout: float) -> int:
        """Wait until ``self.number`` is greater than ``number`` or the reply is done, at most ``timeout`` seconds.

        Returns ``self.number``.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while self.number <= number and not self.done:
                    await self._news.wait()
        return self.number

    async def follow(self, after: int = 0) -> AsyncIterator[tuple[int, Event]]:
        """All events after number ``after``, past and to come, each with its number.

        Tokens that came while nobody asked are joined: whoever comes late or is slow gets the same text in fewer
        events. Joined ones carry the number of the last.
        """
        reader = Reader(self._events_so_far, after)
        while True:
            while (event := reader.next(self.id, self.text, self.thought)) is not None:
                yield reader.number, event
            if self.done:
                return
            await self.changed(reader.number, _SILENCE)

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
        if self.notes:
            found["notes"] = list(self.notes)
        if self.attachments:
            found["attachments"] = [{"kind": a.kind, "title": a.title, "text": a.text} for a in self.attachments]
        return found

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

    # ---- writing

    async def _run(self) -> None:
        try:
            await self._save_often()
            self._conclude()
            await self._save()
        finally:
            self._concluded.set()
        await self._save_until_it_works()
        said = len(self.notes)
        await self._app.plugins.notify(
            "after_reply", told=self._told, app=self._app, turn=self.turn, message=self.message
        )
        if len(self.notes) > said:
            await self._save()

    async def _write(self) -> None:
        app = self._app
        turn = await app.plugins.fold("before_reply", self.turn, told=self._told, app=app)
        if (turn.model, turn.loader) != (self.turn.model, self.turn.loader):
            self.message = replace(self.message, model=turn.model, loader=turn.loader or self.message.loader)
        self.turn, self.model = turn, turn.model
        events: Any = app.plugins.wrap("wrap_stream", self._events(turn), told=self._told, app=app, turn=turn)
        async with contextlib.aclosing(events):
            async for event in events:
                self._take(event)
                if self.done:
                    return

    async def _events(self, turn: Turn) -> AsyncIterator[Event]:
        """The engine's events, with the model's loading before them."""
        app = self._app
        async with contextlib.aclosing(app.models.ensure(turn.model, turn.loader, self.id)) as loading:
            async for progress in loading:
                yield progress
        self._worker = app.models.process(turn.model)
        async with contextlib.aclosing(self._worker.generate(app.request(turn, self.id))) as events:
            async for event in events:
                yield event

    def _take(self, event: Event) -> None:
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
            self._prompt = event.prompt
            self.started = event = replace(event, prompt="")
        elif isinstance(event, Progress):
            self.progress = event
        elif isinstance(event, Attachment):
            self.attachments.append(event)
        elif isinstance(event, Finish):
            self.finish = event
            self.status = "stopped" if event.reason == "cancelled" else "done"
        elif isinstance(event, Failed):
            if self._given_up == "interrupted":
                self.status = "interrupted"
            else:
                self.status, self.error, self.hint = "failed", event.message, event.hint
        self._events_so_far.add(event)
        self.number = len(self._events_so_far)
        self._news.set()
        self._news = asyncio.Event()

    def _conclude(self) -> None:
        """Say how the reply ended, unless the engine has."""
        error = None if self._writer.cancelled() else self._writer.exception()
        if error is not None and not isinstance(error, PatchbayError):
            self._app.log.error("a reply failed", exc_info=error)
        if self.done:
            return
        if self._given_up == "interrupted":
            self._take(Failed(self.id, "The program ended.", "The reply can be continued.", "Interrupted"))
        elif isinstance(error, PatchbayError):
            self._take(Failed(self.id, error.message, error.hint, error.code))
        elif error is not None:
            self._take(Failed(self.id, f"Something went wrong inside the program: {error}."))
        else:
            counted = self.started.prompt_tokens if self.started is not None else 0
            self._take(Finish(self.id, "cancelled" if self._writer.cancelled() else "stop", counted, self.tokens))

    def _told(self, failure: ExtensionFailed) -> None:
        self.notes.append(str(failure))

    async def interrupt(self) -> None:
        """End because the app ends: what was written is saved and marked interrupted."""
        self._give_up("interrupted")
        await self._concluded.wait()

    # ---- saving

    async def _save(self) -> None:
        number, message = self.number, self.value()
        if not self.chat:
            self.message = message
            return
        if self._app.replies.get(self.id, self) is not self:  # another one goes on with the message
            self.unsaved = ""
            return
        chats, call = self._app.chats, self._app.call
        try:
            await call(chats.write, self.chat, message)
            if self._prompt:
                await call(chats.save_prompt, self.id, self._prompt)
                self._prompt = ""
        except PatchbayError as error:
            self.unsaved = str(error)
            self._hopeless = isinstance(error, NotFound) or bool(chats.readonly)
        except Exception as error:
            self._app.log.exception("a reply could not be saved")
            self.unsaved, self._hopeless = f"It could not be saved: {error}.", True
        else:
            self.unsaved = ""
            self._saved = number
        self.message = message

    async def _save_often(self) -> None:
        """Until the writer has ended, so that the last save comes after all others."""
        while not self._writer.done():
            await asyncio.wait({self._writer}, timeout=_SAVE_SECONDS)
            if self.number != self._saved and not self._writer.done():
                await self._save()

    async def _save_until_it_works(self) -> None:
        while self.unsaved and not self._hopeless and not self._app.closing:
            await asyncio.sleep(_RETRY_SECONDS)
            await self._save()
