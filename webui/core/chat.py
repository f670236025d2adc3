"""Messages, characters, chats and turns: pure values.

A chat is a tree that only grows: editing and regenerating add siblings, and the chat remembers which leaf is shown.
Ids are made by the caller (:func:`new_id`), sort by time, and are unique.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from webui.core.errors import NotFound
from webui.core.settings import GenerationSettings

Role = Literal["system", "user", "assistant"]
Status = Literal["done", "streaming", "stopped", "interrupted", "failed"]

_lock = threading.Lock()
_last = 0


def new_id() -> str:
    """A unique id of 20 hexadecimal letters that sorts by the time it was made."""
    global _last  # the one counter that keeps ids of one process in order
    with _lock:
        _last = max(_last + 1, time.time_ns() // 1000)
        return f"{_last:014x}{os.urandom(3).hex()}"


@dataclass(frozen=True, slots=True)
class Character:
    """Who answers: a name, a system prompt, a greeting, and a preset and voice of its own."""

    name: str
    system: str = ""
    greeting: str = ""
    preset: str = ""
    voice: str = ""


@dataclass(frozen=True, slots=True)
class Message:
    """One message. ``details`` holds what is known of how a reply was made (see ``Reply.details``)."""

    id: str
    parent: str  # "" for a first message
    role: Role
    text: str
    thought: str = ""
    status: Status = "done"
    created: float = 0.0  # seconds since 1970
    model: str = ""
    loader: str = ""
    preset: str = ""
    error: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)
    deleted: bool = False  # hidden with everything below it; undo clears it


@dataclass(frozen=True, slots=True)
class Chat:
    """A conversation: a tree of messages, the leaf on show, and what it remembers of model and settings.

    ``version`` grows with every change that is saved; a save with an old version is refused (Conflict).
    ``settings`` are the values changed by hand, laid over the preset.
    """

    id: str
    title: str = ""
    created: float = 0.0
    updated: float = 0.0
    version: int = 0
    leaf: str = ""
    model: str = ""
    loader: str = ""
    preset: str = ""
    system: str = ""
    prefix: str = ""  # "start reply with"
    character: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    messages: Mapping[str, Message] = field(default_factory=dict)

    def __getitem__(self, message_id: str) -> Message:
        try:
            return self.messages[message_id]
        except KeyError:
            raise NotFound("This message is not in the chat.", "Reload the page.") from None

    def path(self, leaf: str | None = None) -> tuple[Message, ...]:
        """The messages from the first to ``leaf`` (the one on show unless given), oldest first."""
        found: list[Message] = []
        at = self.leaf if leaf is None else leaf
        while at:
            message = self[at]
            found.append(message)
            at = message.parent
        return tuple(reversed(found))

    def children(self, parent: str) -> tuple[Message, ...]:
        """The visible messages directly below ``parent`` ("" for the first ones), oldest first."""
        return tuple(m for m in self.messages.values() if m.parent == parent and not m.deleted)

    def siblings(self, message_id: str) -> tuple[Message, ...]:
        """All visible versions of a message, itself included, oldest first."""
        return self.children(self[message_id].parent)

    def newest_leaf(self, below: str) -> str:
        """The leaf reached from ``below`` by always taking the newest visible child."""
        newest: dict[str, Message] = {}
        for m in self.messages.values():
            if not m.deleted:
                newest[m.parent] = m  # messages are kept in the order they were added, whatever the clock said
        at = below
        while at in newest:
            at = newest[at].id
        return at

    def add(self, message: Message) -> Chat:
        """The chat with one message more, on show."""
        return replace(self, messages={**self.messages, message.id: message}, leaf=message.id)

    def put(self, message: Message) -> Chat:
        """The chat with a message replaced by a newer value of itself."""
        return replace(self, messages={**self.messages, message.id: message})


@dataclass(frozen=True, slots=True)
class Turn:
    """What is asked of a model: the conversation so far and how to answer. Extensions may change it."""

    messages: tuple[Message, ...]
    settings: GenerationSettings = GenerationSettings()
    system: str = ""
    prefix: str = ""  # the reply begins with this text (start reply with, continue)
    model: str = ""  # name in the catalogue; "" = the default
    loader: str = ""  # "" = the best that accepts the file
    preset: str = ""  # its name, for the record
    chat: str = ""  # id of the chat, "" when there is none (API)
    reply: str = ""  # id of the message that is being written
