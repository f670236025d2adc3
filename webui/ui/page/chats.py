"""The routes of a single chat: reading it, what a person does in it, and the reply that is being written."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.types import Send

from webui.core.chat import Chat, Message
from webui.core.errors import NotFound
from webui.core.fields import build, did_you_mean, plain
from webui.core.settings import GenerationSettings
from webui.runtime import conversation
from webui.ui.page import view
from webui.ui.page.bodies import TEXT, Key, number, read
from webui.ui.page.live import Drawing, Live
from webui.ui.page.view import ChatView, Drawings
from webui.ui.page.wire import event

if TYPE_CHECKING:
    from webui.runtime.app import App
    from webui.runtime.reply import Reply

WINDOW = 16  # messages in one answer unless asked for more
SAVING = 0.3  # seconds that the end of a reply waits to be saved before viewers are told

_MESSAGE = Key(str, required=True)
_FIELDS = {
    "title": Key(str, 200),
    "model": Key(str),
    "loader": Key(str),
    "preset": Key(str),
    "system": Key(str, TEXT),
    "prefix": Key(str, TEXT),
    "character": Key(str),
    "settings": Key(dict),
}
#: What is kept for new chats; the rest of an empty chat goes with it.
_BEGINNING = ("preset", "settings")


class EventStream(StreamingResponse):
    """Events as they come. Whoever leaves is forgotten at once; the reply goes on."""

    media_type = "text/event-stream"

    def __init__(self, events: AsyncIterator[bytes]) -> None:
        super().__init__(events, headers={"cache-control": "no-store", "x-accel-buffering": "no"})

    async def stream_response(self, send: Send) -> None:
        """Send what comes, and end the source with the answer."""
        async with contextlib.aclosing(self.body_iterator):  # type: ignore[type-var]  # ours is a generator
            await super().stream_response(send)


class Chats:
    """Handlers of ``/ui/chats/…`` and ``/ui/replies/…``."""

    def __init__(self, app: App) -> None:
        self.app = app
        self._drawings = Drawings()
        self._lives: dict[str, Live] = {}

    # ---- reading

    async def open(self, request: Request) -> dict[str, Any]:
        """A part of a chat: its newest messages, those before one, or those around one."""
        chat = await self.app.call(self.app.chats.open, _id(request, "chat"))
        asked = request.query_params
        limit = number(request, "limit", WINDOW, 1, 200)
        return await self._opened(chat, limit, asked.get("before", ""), asked.get("around", ""))

    async def _opened(self, chat: Chat, limit: int = WINDOW, before: str = "", around: str = "") -> dict[str, Any]:
        shown = ChatView(chat, self.app.replies, self._drawings)
        messages, older = shown.window(limit, before, around)
        reply, drawing = await self._writing(chat)
        live = (reply.id, drawing) if reply is not None and drawing is not None else None
        return {
            "chat": view.chat_json(chat),
            "messages": await self.app.call(lambda: [shown.message(m, live) for m in messages]),
            "older": older,
            "reply": {"id": live[0], "number": max(0, live[1].number)} if live else None,
            "meter": view.meter(chat, self.app.replies, view.context_of(self.app, chat)),
        }

    async def _writing(self, chat: Chat) -> tuple[Reply | None, Drawing | None]:
        """The reply that is being written in a chat, and how it looks now."""
        for reply in self.app.replies.values():
            if reply.chat == chat.id and not reply.done:
                return reply, await self._live(reply).draw()
        return None, None

    async def source(self, request: Request) -> dict[str, Any]:
        """A message as it was written, to edit and to copy."""
        chat = await self.app.call(self.app.chats.open, _id(request, "chat"))
        message, _ = self._now(chat, _id(request, "message"))
        return {"text": message.text, "thought": message.thought}

    def _now(self, chat: Chat, message_id: str) -> tuple[Message, str]:
        reply = self.app.replies.get(message_id)
        return view.current(chat[message_id], reply if reply is not None and reply.chat == chat.id else None)

    # ---- the chat itself

    async def create(self, request: Request) -> dict[str, Any]:
        """A new chat; a character greets first."""
        fields = await self._checked(await read(request, _FIELDS))
        return {"chat": view.chat_json(await conversation.create(self.app, **fields))}

    async def begin(self, request: Request) -> dict[str, Any]:
        """Change what a new chat begins with."""
        fields = await self._checked(await read(request, {k: _FIELDS[k] for k in _BEGINNING}))
        section = conversation.NEW_CHAT
        kept = {**self.app.settings.section(section), **fields}
        await self.app.call(self.app.settings.save_section, section, kept)
        return {k: kept[k] for k in _BEGINNING if k in kept}

    async def change(self, request: Request) -> dict[str, Any]:
        """Change what a chat remembers."""
        body = await read(request, {**_FIELDS, "version": Key(int)})
        version = body.pop("version", None)
        fields = await self._checked(body)
        chat = await self.app.call(self.app.chats.update, _id(request, "chat"), version=version, **fields)
        return {"chat": view.chat_json(chat)}

    async def _checked(self, fields: dict[str, Any]) -> dict[str, Any]:
        """Names that exist and values that settings take; "" is always "what the default is"."""
        app = self.app
        if fields.get("model"):
            app.models.get(fields["model"])
        if fields.get("loader") and fields["loader"] not in app.loaders:
            raise NotFound(f"There is no loader {fields['loader']!r}.", did_you_mean(fields["loader"], app.loaders))
        if fields.get("preset"):
            await app.call(app.presets.get, fields["preset"])
        if "settings" in fields:
            built = build(GenerationSettings, fields["settings"])
            fields["settings"] = {name: plain(getattr(built, name)) for name in fields["settings"]}
        return fields

    async def delete(self, request: Request) -> dict[str, Any]:
        """Take a chat out of the list; a reply that is being written in it ends."""
        chat_id = _id(request, "chat")
        for reply in list(self.app.replies.values()):
            if reply.chat == chat_id and not reply.done:
                reply.stop()
        await self.app.call(self.app.chats.delete, chat_id)
        return {}

    async def restore(self, request: Request) -> dict[str, Any]:
        """Bring a deleted chat back."""
        return {"chat": view.chat_json(await self.app.call(self.app.chats.restore, _id(request, "chat")))}

    # ---- what a person does in it

    async def send(self, request: Request) -> dict[str, Any]:
        """Say something and have it answered."""
        body = await read(request, {"text": Key(str, TEXT, required=True), "parent": Key(str, null=True)})
        chat, reply = await conversation.send(self.app, _id(request, "chat"), body["text"], body.get("parent"))
        return await self._changed(chat, reply, [chat[reply.id].parent, reply.id])

    async def regenerate(self, request: Request) -> dict[str, Any]:
        """Another version of a reply."""
        body = await read(request, {"message": _MESSAGE})
        chat, reply = await conversation.regenerate(self.app, _id(request, "chat"), body["message"])
        return await self._changed(chat, reply, [reply.id])

    async def go_on(self, request: Request) -> dict[str, Any]:
        """Let a reply go on from where it ended."""
        body = await read(request, {"message": _MESSAGE})
        chat, reply = await conversation.continue_(self.app, _id(request, "chat"), body["message"])
        return await self._changed(chat, reply, [reply.id])

    async def edit(self, request: Request) -> dict[str, Any]:
        """Another version of a message, with another text."""
        body = await read(request, {"message": _MESSAGE, "text": Key(str, TEXT, required=True)})
        chat, reply = await conversation.edit(self.app, _id(request, "chat"), body["message"], body["text"])
        return await self._changed(chat, reply, [chat[reply.id].parent, reply.id] if reply else [chat.leaf])

    async def _changed(self, chat: Chat, reply: Reply | None, ids: Sequence[str]) -> dict[str, Any]:
        shown = ChatView(chat, self.app.replies, self._drawings)
        messages = [chat[i] for i in ids if i]
        return {
            "chat": view.chat_json(chat),
            "messages": await self.app.call(lambda: [shown.message(m) for m in messages]),
            "reply": {"id": reply.id} if reply is not None else None,
        }

    async def show(self, request: Request) -> dict[str, Any]:
        """Switch to another version of a message."""
        body = await read(request, {"message": _MESSAGE})
        return await self._opened(await conversation.show(self.app, _id(request, "chat"), body["message"]))

    async def hide(self, request: Request) -> dict[str, Any]:
        """Delete a message with what follows it."""
        body = await read(request, {"message": _MESSAGE})
        return await self._opened(await conversation.delete(self.app, _id(request, "chat"), body["message"]))

    async def unhide(self, request: Request) -> dict[str, Any]:
        """Take a delete back."""
        body = await read(request, {"message": _MESSAGE})
        return await self._opened(await conversation.undelete(self.app, _id(request, "chat"), body["message"]))

    async def branch(self, request: Request) -> dict[str, Any]:
        """A new chat with the conversation up to a message."""
        body = await read(request, {"message": _MESSAGE})
        return {"chat": view.chat_json(await conversation.branch(self.app, _id(request, "chat"), body["message"]))}

    # ---- the reply

    async def stop(self, request: Request) -> dict[str, Any]:
        """End a reply; what was written stands. One that has ended already is left as it is."""
        reply = self.app.replies.get(_id(request, "message"))
        running = reply is not None and bool(reply.chat) and not reply.done
        if reply is not None and running:
            reply.stop()
        return {"stopped": running}

    async def prompt(self, request: Request) -> dict[str, Any]:
        """The exact text that the model read for a reply, and what did not fit."""
        message_id = _id(request, "message")
        text = await self.app.call(self.app.chats.prompt, message_id)
        chat = await self._chat_of(message_id)
        message, _ = self._now(chat, message_id)
        dropped = [chat.messages[i] for i in message.details.get("dropped", ()) if i in chat.messages]
        return {
            "prompt": text,
            "tokens": message.details.get("prompt_tokens", 0),
            "context": message.details.get("context", 0),
            "dropped": [{"id": m.id, "role": m.role, "text": m.text[:500]} for m in dropped],
        }

    async def _chat_of(self, message_id: str) -> Chat:
        return await self.app.call(lambda: self.app.chats.open(self.app.chats.chat_of(message_id)))

    async def follow(self, request: Request) -> EventStream:
        """The reply as it is written. Whoever was cut off goes on from the number of the last event."""
        message_id = _id(request, "message")
        seen = number(request, "number", 0, 0, 10**12)
        again = request.headers.get("last-event-id", "")
        if again.isascii() and again.isdigit() and len(again) < 13:
            seen = max(seen, int(again))
        reply = self.app.replies.get(message_id)
        if reply is not None and reply.chat:
            return EventStream(self._live(reply).follow(seen))
        chat = await self._chat_of(message_id)
        shown = ChatView(chat, self.app.replies, self._drawings)
        ended = await self.app.call(shown.message, chat[message_id])
        return EventStream(_ended(ended))

    def _live(self, reply: Reply) -> Live:
        """The drawing of a reply, shared by all who look at it."""
        live = self._lives.get(reply.id)
        if live is None or live.source is not reply:
            for gone in [i for i in self._lives if i not in self.app.replies]:
                del self._lives[gone]
            live = self._lives[reply.id] = Live(reply, lambda: self._ending(reply))
        return live

    async def _ending(self, reply: Reply) -> dict[str, Any]:
        """What is known of a reply that has ended, saved if that goes quickly."""
        waiting = asyncio.ensure_future(reply.wait())
        await asyncio.wait({waiting}, timeout=SAVING)
        waiting.cancel()
        live = self._lives.get(reply.id)
        if live is not None and live.source is reply and live.drawing.done:
            self._drawings.keep(reply.id, reply.text, live.drawing.answer)
            self._drawings.keep(reply.id + "-thought", reply.thought, live.drawing.thought)
        try:
            chat = await self.app.call(self.app.chats.open, reply.chat)
        except NotFound:  # the chat was deleted meanwhile
            chat = Chat(reply.chat)
        return ChatView(chat, {reply.id: reply}, self._drawings).head(reply.value())


async def _ended(message: dict[str, Any]) -> AsyncIterator[bytes]:
    """A reply that ended long ago, in one go."""
    blocks, thought = message.pop("blocks"), message.pop("thought")
    yield event({"b": blocks, "hb": thought, "t": message["details"].get("tokens", 0)})
    yield event({"e": message})


def _id(request: Request, name: str) -> str:
    """A part of the path."""
    return str(request.path_params[name])[:100]
