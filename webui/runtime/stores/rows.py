"""Chats and messages as rows of the chat file, and back."""

from __future__ import annotations

import dataclasses
import json
import sqlite3
import time
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from webui.core.chat import Chat, Message
from webui.core.errors import SettingError
from webui.core.fields import did_you_mean, plain

#: What ``ChatStore.update`` may change.
CHANGEABLE: Final = ("title", "leaf", "model", "loader", "preset", "system", "prefix", "character", "settings")

SELECT_CHAT: Final = (
    "SELECT id, title, created, updated, version, leaf, model, loader, preset, system, prefix, character, settings, "
    "deleted FROM chats WHERE id = ?"
)
SELECT_MESSAGES: Final = (
    "SELECT id, coalesce(parent, ''), role, text, thought, status, created, model, loader, preset, error, details, "
    "deleted IS NOT NULL FROM messages WHERE chat = ? ORDER BY number"
)
_CHAT_FIELDS: Final = tuple(f.name for f in dataclasses.fields(Chat))[:13]  # the order of SELECT_CHAT
_MESSAGE_FIELDS: Final = tuple(f.name for f in dataclasses.fields(Message))  # the order of SELECT_MESSAGES
INSERT_MESSAGE: Final = (
    "INSERT INTO messages(id, chat, parent, role, text, thought, status, created, model, loader, preset, error, "
    "details, deleted) VALUES (:id, :chat, :parent, :role, :text, :thought, :status, :created, :model, :loader, "
    ":preset, :error, :details, :deleted)"
)
# ``deleted`` stays: who hides a message while it is being written finds it hidden when it is finished.
WRITE_MESSAGE: Final = (
    "UPDATE messages SET role = :role, text = :text, thought = :thought, status = :status, created = :created, "
    "model = :model, loader = :loader, preset = :preset, error = :error, details = :details "
    "WHERE id = :id AND chat = :chat"
)


@dataclass(frozen=True, slots=True)
class ChatSummary:
    """A chat as a list shows it."""

    id: str
    title: str
    updated: float
    preview: str  # beginning of the message on show


def message_row(message: Message, chat_id: str) -> dict[str, Any]:
    """The values of a message for its row. Raises SettingError for text that is not Unicode."""
    row: dict[str, Any] = {
        "id": message.id,
        "chat": chat_id,
        "parent": message.parent or None,
        "role": message.role,
        "text": message.text,
        "thought": message.thought,
        "status": message.status,
        "created": message.created or time.time(),
        "model": message.model,
        "loader": message.loader,
        "preset": message.preset,
        "error": message.error,
        "details": dumped(message.details),
        "deleted": time.time() if message.deleted else None,
    }
    check_text(row)
    return row


def message(row: tuple[Any, ...]) -> Message:
    """The message in a row of SELECT_MESSAGES."""
    named: dict[str, Any] = dict(zip(_MESSAGE_FIELDS, row, strict=True))
    return Message(**{**named, "details": loaded(row[11]), "deleted": bool(row[12])})


def chat(row: tuple[Any, ...], messages: Mapping[str, Message]) -> Chat:
    """The chat in a row of SELECT_CHAT, with its messages."""
    named: dict[str, Any] = dict(zip(_CHAT_FIELDS, row[:13], strict=True))
    if named["leaf"] and named["leaf"] not in messages:
        named["leaf"] = list(messages)[-1] if messages else ""
    return Chat(**{**named, "settings": loaded(named["settings"]), "messages": messages})


def checked_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Values for columns of a chat. Raises SettingError for an unknown name or a wrong type."""
    values: dict[str, Any] = {}
    for name, value in fields.items():
        if name not in CHANGEABLE:
            raise SettingError(name, f"A chat has no {name!r}.", did_you_mean(name, CHANGEABLE))
        if name == "settings":
            if not isinstance(value, Mapping):
                raise SettingError(name, "The settings of a chat are a mapping of names to values.")
            value = dumped(value)
        elif not isinstance(value, str):
            raise SettingError(name, f"{name} is {value!r}.", "It takes text.")
        values[name] = value
    check_text(values)
    return values


def check_text(row: Mapping[str, Any]) -> None:
    """Refuse text that cannot be stored, naming the field."""
    for name, value in row.items():
        if isinstance(value, str):
            try:
                value.encode("utf-8")
            except UnicodeEncodeError:
                raise SettingError(
                    name, f"{name} holds half of a surrogate pair.", "Send valid Unicode text."
                ) from None


def dumped(values: Mapping[str, Any]) -> str:
    """Plain values as JSON."""
    try:
        return json.dumps(plain(values), ensure_ascii=False, separators=(",", ":"))
    except (TypeError, ValueError) as error:
        raise SettingError("settings", f"These values cannot be stored: {error}.") from None


def loaded(text: Any) -> dict[str, Any]:
    """The mapping in a JSON column; an unreadable one counts as empty, so that the text beside it stays readable."""
    try:
        found = json.loads(text)
    except (TypeError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def first_words(text: str, longest: int = 60) -> str:
    """A title from the beginning of a text: one line, no invisible characters, cut between words."""
    visible = "".join(c if unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Co", "Cn") else " " for c in text[:1000])
    line = " ".join(visible.split()).strip("#*`_> ")
    if len(line) <= longest:
        return line
    cut = line[:longest].rsplit(" ", 1)[0] if " " in line[longest // 2 : longest] else line[:longest]
    return cut.rstrip(" ,.;:-–") + "…"


def rows_of(connection: sqlite3.Connection, sql: str, *values: Any) -> list[tuple[Any, ...]]:
    """All rows of a query; bytes that are not UTF-8 (a damaged file) become replacement characters."""
    try:
        return connection.execute(sql, values).fetchall()
    except sqlite3.OperationalError as error:
        if "decode" not in str(error):
            raise
    connection.text_factory = lambda data: data.decode("utf-8", "replace")
    try:
        return connection.execute(sql, values).fetchall()
    finally:
        connection.text_factory = str
