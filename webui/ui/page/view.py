"""Chats, messages and models as the page reads them."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from webui.core.chat import Chat, Message
from webui.core.errors import NotFound, PatchbayError
from webui.core.fields import Setting, describe, plain
from webui.core.settings import GenerationSettings
from webui.ui.page.live import Drawing
from webui.ui.page.markdown import render

if TYPE_CHECKING:
    from webui.runtime.app import App
    from webui.runtime.models import Model
    from webui.runtime.reply import Reply

KEPT_LETTERS = 8_000_000  # of HTML in memory
#: The settings that the chat page offers to change by hand; all are in the Parameters tab.
QUICK = ("temperature", "top_p", "min_p", "top_k", "repetition_penalty", "max_tokens", "seed")
BYTES_PER_TOKEN = 4.0  # of text, roughly, where nothing was counted
MARKS_PER_MESSAGE = 5  # tokens that a template puts around a message, roughly


class Drawings:
    """Blocks of finished messages, drawn once and kept while there is room. For any thread."""

    def __init__(self, room: int = KEPT_LETTERS) -> None:
        self._room = room
        self._kept: OrderedDict[tuple[str, int, int], Sequence[str]] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, message_id: str, text: str) -> Sequence[str]:
        """The blocks of a message's text."""
        if not text:
            return ()
        key = (message_id, len(text), hash(text))
        with self._lock:
            found = self._kept.get(key)
            if found is not None:
                self._kept.move_to_end(key)
                return found
        blocks = render(text)
        self.keep(message_id, text, blocks)
        return blocks

    def keep(self, message_id: str, text: str, blocks: Sequence[str]) -> None:
        """Remember blocks that were drawn elsewhere."""
        key = (message_id, len(text), hash(text))
        with self._lock:
            if key in self._kept:
                return
            self._kept[key] = blocks
            self._room -= sum(map(len, blocks))
            while self._room < 0 and len(self._kept) > 1:
                _, old = self._kept.popitem(last=False)
                self._room += sum(map(len, old))


def chat_json(chat: Chat) -> dict[str, Any]:
    """A chat without its messages."""
    names = ("id", "title", "version", "leaf", "model", "loader", "preset", "system", "prefix", "character", "updated")
    return {**{name: getattr(chat, name) for name in names}, "settings": plain(chat.settings)}


def current(message: Message, reply: Reply | None) -> tuple[Message, str]:
    """A message and the hint of its error, with what its reply knows that may not be stored yet."""
    if reply is None:
        return message, ""
    message = replace(reply.value(), error=reply.error)
    if reply.done and reply.unsaved:
        hint = "The text is kept here, and saved as soon as that works again."
        return replace(message, status="failed", error=reply.unsaved), hint
    return message, reply.hint


class ChatView:
    """One chat on its way to the page: what each message needs to know of the others is looked up once."""

    def __init__(self, chat: Chat, replies: Mapping[str, Reply], drawings: Drawings) -> None:
        self.chat = chat
        self._replies = replies
        self._drawings = drawings
        self._versions: dict[str, list[str]] = {}
        for message in chat.messages.values():
            if not message.deleted:
                self._versions.setdefault(message.parent, []).append(message.id)

    def head(self, message: Message) -> dict[str, Any]:
        """A message without its text."""
        reply = self._replies.get(message.id)
        message, hint = current(message, reply if reply is not None and reply.chat == self.chat.id else None)
        versions = self._versions.get(message.parent, [])
        known = message.id in versions
        return {
            "id": message.id,
            "parent": message.parent,
            "role": message.role,
            "status": message.status,
            "versions": versions if known else [message.id],
            "index": versions.index(message.id) if known else 0,
            "created": message.created,
            "model": message.model,
            "loader": message.loader,
            "preset": message.preset,
            "error": message.error,
            "hint": hint,
            "details": plain(message.details),
        }

    def message(self, message: Message, live: tuple[str, Drawing] | None = None) -> dict[str, Any]:
        """A message with its blocks; those of ``live`` (id, drawing) when it is the one being written."""
        if live is not None and live[0] == message.id:
            blocks: Sequence[str] = live[1].answer
            thought: Sequence[str] = live[1].thought
        else:
            now, _ = current(message, self._replies.get(message.id))
            blocks = self._drawings.of(message.id, now.text)
            thought = self._drawings.of(message.id + "-thought", now.thought)
        return {**self.head(message), "blocks": blocks, "thought": thought}

    def window(self, limit: int, before: str = "", around: str = "") -> tuple[Sequence[Message], int]:
        """At most ``limit`` messages of the path on show, and how many are older.

        The newest ones; or those just before the message ``before``; or, however many these are, those from shortly
        before ``around`` to the end.
        """
        path = self.chat.path()
        places = {message.id: i for i, message in enumerate(path)}
        for asked in (before, around):
            if asked and asked not in places:
                raise NotFound("This message is not on show.", "Reload the page.")
        end = places[before] if before else len(path)
        start = max(0, end - limit)
        if around:
            start = min(start, max(0, places[around] - limit // 2))
        return path[start:end], start


def meter(chat: Chat, replies: Mapping[str, Reply], context: int) -> dict[str, Any]:
    """How full the context is: what the last reply counted, and an estimate of what came after it."""
    used, estimated = 0.0, False
    for message in reversed(chat.path()):
        reply = replies.get(message.id)
        details: Mapping[str, Any] = reply.details() if reply is not None else message.details
        counted = details.get("prompt_tokens")
        if message.role == "assistant" and isinstance(counted, int) and counted > 0:
            used += counted + _number(details.get("tokens"))
            context = context or int(_number(details.get("context")))
            break
        if message.text:
            used += len(message.text.encode("utf-8", "replace")) / BYTES_PER_TOKEN + MARKS_PER_MESSAGE
            estimated = True
    else:
        used += len(chat.system.encode("utf-8", "replace")) / BYTES_PER_TOKEN
    return {"used": round(used), "context": context, "estimated": estimated}


def _number(value: Any) -> float:
    return value if isinstance(value, int | float) and value >= 0 else 0


def context_of(app: App, chat: Chat) -> int:
    """The context of the model that a chat uses, 0 while that is not known."""
    try:
        info = app.models.get(chat.model or app.models.default()).info
    except PatchbayError:
        return 0
    return info.context if info is not None else 0


def models_json(app: App) -> list[dict[str, Any]]:
    """The catalogue, with the loaders that could open each model and why one cannot."""
    reasons = {name: loader.available() for name, loader in list(app.loaders.items())}
    return [_model(app, model, reasons) for model in app.models.list()]


def _model(app: App, model: Model, reasons: Mapping[str, str]) -> dict[str, Any]:
    loaders = [
        {"name": name, "title": app.loaders[name].title, "available": not reasons[name], "reason": reasons[name]}
        for name, _ in model.loaders
        if name in reasons
    ]
    return {
        "name": model.name,
        "loader": model.loader,
        "loaders": loaders,
        "state": model.state,
        "progress": model.progress,
        "text": model.text,
        "error": f"{model.error} {model.hint}".strip(),
        "size": model.size,
    }


def settings_json() -> list[dict[str, Any]]:
    """Every sampling setting as the page's form needs it."""
    return [_setting(s) for s in describe(GenerationSettings).values()]


def quick_json() -> list[dict[str, Any]]:
    """The settings that the chat page offers itself."""
    known = describe(GenerationSettings)
    return [_setting(known[name]) for name in QUICK]


def _setting(s: Setting) -> dict[str, Any]:
    names = {bool: "boolean", int: "integer", float: "number", str: "string"}
    kind = names.get(s.type, "array" if str(s.type).startswith("tuple") else "object")
    low, high = s.valid or (None, None)
    return {
        "name": s.name,
        "title": s.title,
        "help": s.help,
        "group": s.group,
        "type": kind,
        "default": plain(s.default),
        "neutral": plain(s.neutral),
        "form": s.form,
        "min": low,
        "max": high,
        "step": s.form[2] if s.form else 1 if kind == "integer" else None,
        "choices": list(s.choices),
    }
