"""What a person does in a chat. Each action is saved before anything is generated."""

from __future__ import annotations

import contextlib
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from webui.core.chat import Chat, Message, Turn, new_id
from webui.core.errors import Conflict, NotFound, PresetError, SettingError
from webui.core.fields import build
from webui.core.presets import DEFAULT
from webui.core.settings import GenerationSettings

if TYPE_CHECKING:
    from webui.runtime.app import App
    from webui.runtime.reply import Reply

#: The section of the app's settings that holds what a new chat begins with.
NEW_CHAT = "new_chat"


async def create(app: App, **fields: object) -> Chat:
    """A new chat: what was set for new chats, and ``fields`` over it; a character greets first."""
    kept = ("model", "loader", "preset", "system", "prefix", "character", "settings")
    begun = {k: v for k, v in app.settings.section(NEW_CHAT).items() if k in kept}
    chat = await app.call(app.chats.create, **{**begun, **fields})
    if chat.character and (greeting := app.character(chat.character).greeting):
        message = Message(new_id(), "", "assistant", greeting, created=time.time())
        chat = await app.call(app.chats.append, chat.id, message)
    return chat


def effective(app: App, chat: Chat) -> tuple[GenerationSettings, str]:
    """What a chat's next reply uses, and the preset's name: model's preset < character's < chat's < changed by hand.

    A preset that is gone or damaged is passed over for the next one down; the name tells which one it became.
    """
    character = app.character(chat.character).preset if chat.character else ""
    for name in (chat.preset, character, app.preset_for(chat.model), DEFAULT):
        with contextlib.suppress(NotFound, PresetError):
            if name:
                return build(GenerationSettings, dict(chat.settings), base=app.presets.settings(name)), name
    return build(GenerationSettings, dict(chat.settings)), ""


async def send(app: App, chat_id: str, text: str, parent: str | None = None) -> tuple[Chat, Reply]:
    """Say something and have it answered. ``parent`` is the message it follows; None is the one on show.

    The same words at the same place, not answered yet because something failed, are answered now and not said twice.
    """
    if not text.strip():
        raise SettingError("text", "The message is empty.", "Write something first.")
    async with app.alone(chat_id):
        chat = await _resting(app, chat_id)
        parent = chat.leaf if parent is None else parent
        if parent:
            _present(chat, parent)
        said = next((m for m in chat.children(parent) if m.text == text and _unanswered(chat, m)), None)
        if said is None:
            said = Message(new_id(), parent, "user", text, created=time.time())
            chat = await app.call(app.chats.append, chat_id, said)
        return await _answer(app, chat, said.id)


def _unanswered(chat: Chat, message: Message) -> bool:
    return message.role == "user" and not any(m.parent == message.id for m in chat.messages.values())


async def regenerate(app: App, chat_id: str, message_id: str) -> tuple[Chat, Reply]:
    """Another version of a reply, or an answer to a message that has none."""
    async with app.alone(chat_id):
        chat = await _resting(app, chat_id)
        message = _present(chat, message_id)
        return await _answer(app, chat, message.parent if message.role == "assistant" else message.id)


async def continue_(app: App, chat_id: str, message_id: str) -> tuple[Chat, Reply]:
    """Let a reply go on from where it ended; the same message grows. One that was only thought begins anew."""
    async with app.alone(chat_id):
        chat = await _resting(app, chat_id)
        message = _present(chat, message_id)
        if message.role != "assistant":
            return await _answer(app, chat, message.id)
        before = app.replies.get(message.id)
        if before is not None and before.unsaved:
            message = before.value()  # more than is stored
        chat = await app.call(app.chats.update, chat_id, leaf=message.id)
        thought = message.thought if message.text else ""
        return await _start(
            app, chat, replace(message, status="streaming", error="", thought=thought), prefix=message.text
        )


async def edit(app: App, chat_id: str, message_id: str, text: str) -> tuple[Chat, Reply | None]:
    """A new version of a message with this text. One of the person's own is answered at once."""
    if not text.strip():
        raise SettingError("text", "The message is empty.", "Delete it instead.")
    async with app.alone(chat_id):
        chat = await _resting(app, chat_id)
        old = _present(chat, message_id)
        new = replace(old, id=new_id(), text=text, created=time.time(), status="done", error="", details={})
        chat = await app.call(app.chats.append, chat_id, new)
        if new.role == "assistant":
            return chat, None
        return await _answer(app, chat, new.id)


async def show(app: App, chat_id: str, message_id: str) -> Chat:
    """Put a version of a message on show, with the newest of what follows it."""
    chat = await app.call(app.chats.open, chat_id)
    _present(chat, message_id)
    return await app.call(app.chats.update, chat_id, leaf=chat.newest_leaf(message_id))


async def delete(app: App, chat_id: str, message_id: str) -> Chat:
    """Hide a message and what follows it; the version beside it, or the message before it, is on show then."""
    async with app.alone(chat_id):
        chat = await app.call(app.chats.open, chat_id)
        message = chat[message_id]
        shown = message in chat.path()
        for reply in _running(app, chat_id):
            if reply.id in chat.messages and message in chat.path(reply.id):
                reply.stop()
                await reply.wait()
        chat = await app.call(app.chats.hide, chat_id, message_id, True)
        beside = chat.children(message.parent)
        if shown and beside:
            chat = await app.call(app.chats.update, chat_id, leaf=chat.newest_leaf(beside[-1].id))
        return chat


async def undelete(app: App, chat_id: str, message_id: str) -> Chat:
    """Take a delete back and put the message on show again."""
    await app.call(app.chats.hide, chat_id, message_id, False)
    return await show(app, chat_id, message_id)


async def branch(app: App, chat_id: str, message_id: str) -> Chat:
    """A new chat with the conversation up to a message."""
    chat = await app.call(app.chats.open, chat_id)
    title = f"{chat.title} (branch)" if chat.title else ""
    return await app.call(app.chats.branch, chat_id, message_id, title=title)


def _running(app: App, chat_id: str) -> list[Reply]:
    return [r for r in app.replies.values() if r.chat == chat_id and not r.done]


async def _resting(app: App, chat_id: str) -> Chat:
    """The chat, in which nothing is being written. Raises Conflict."""
    for reply in list(app.replies.values()):
        if reply.chat == chat_id and reply.ending:
            await reply.wait()  # its last words are on their way to the disk
    if _running(app, chat_id):
        raise Conflict("A reply is still being written in this chat.", "Wait for it or press Stop.")
    return await app.call(app.chats.open, chat_id)


def _present(chat: Chat, message_id: str) -> Message:
    """The message. Raises NotFound, or Conflict when it or one before it was deleted."""
    if any(m.deleted for m in chat.path(message_id)):
        raise Conflict("This message was deleted, perhaps in another tab.", "Reload the page.")
    return chat[message_id]


async def _answer(app: App, chat: Chat, parent: str) -> tuple[Chat, Reply]:
    prefix = chat.prefix
    message = Message(new_id(), parent, "assistant", prefix, status="streaming", created=time.time())
    return await _start(app, chat, message, prefix=prefix)


async def _start(app: App, chat: Chat, message: Message, *, prefix: str) -> tuple[Chat, Reply]:
    settings, preset = await app.call(effective, app, chat)
    system = chat.system
    if chat.character and not system:
        system = (await app.call(app.character, chat.character)).system
    model = app.models.get(chat.model or app.models.default())
    message = replace(message, model=model.name, loader=chat.loader or model.loader, preset=preset)
    write = app.chats.write if message.id in chat.messages else app.chats.append
    chat = await app.call(write, chat.id, message)
    turn = Turn(
        messages=spoken(chat.path(message.parent) if message.parent else ()),
        settings=settings,
        system=system,
        prefix=prefix,
        model=model.name,
        loader=chat.loader,
        preset=preset,
        chat=chat.id,
        reply=message.id,
    )
    reply = app.reply(turn, message)
    if chat.preset and preset != chat.preset:
        reply.notes.append(
            f"The preset {chat.preset} is gone or damaged; {preset or 'neutral settings'} took its place."
        )
    return chat, reply


def spoken(path: tuple[Message, ...]) -> tuple[Message, ...]:
    """The messages a model reads: without empty ones, neighbours of one role joined, so that roles alternate."""
    found: list[Message] = []
    for message in path:
        if not message.text.strip():
            continue
        if found and found[-1].role == message.role:
            found[-1] = replace(message, id=found[-1].id, text=f"{found[-1].text}\n\n{message.text}")
        else:
            found.append(message)
    return tuple(found)
