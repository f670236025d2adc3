"""Chats on the disk. Each call is one transaction: when it returns, it is saved; when it raises, nothing has changed.

All calls block for some milliseconds (five seconds when another program holds the file) and may come from any thread.
Chats that are in use stay in memory, so that saving a growing reply writes one row and reads none.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
import zlib
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from webui.core.chat import Chat, Message, new_id
from webui.core.errors import Conflict, NotFound, PatchbayError, StoreError
from webui.runtime.stores import rows, search
from webui.runtime.stores.database import Database
from webui.runtime.stores.rows import ChatSummary
from webui.runtime.stores.search import Hit

CACHED = 8  # chats kept in memory; one of 1,000 long messages takes about 3 MB
KEPT_DAYS = 30  # that deleted chats and messages can be brought back
_CLOSING = 3.0  # seconds that the backup at the end may take
_DAY = 86400.0


class ChatStore:
    """The chats in ``folder/chats.sqlite3``. ``notices`` are sentences for the person from opening it."""

    def __init__(self, folder: Path | str) -> None:
        self._database = Database(Path(folder))
        self.notices = self._database.notices
        self._cache: OrderedDict[str, Chat] = OrderedDict()
        self._lock = threading.RLock()  # held from before a transaction until the cache agrees with it
        self._seen = self._database.changes()
        self._copying: threading.Thread | None = None
        self._copied = time.monotonic()
        self._closed = False
        if not self.readonly:
            with contextlib.suppress(StoreError):  # a full disk must not keep the chats from being read
                self._purge()
            self._backup_soon()

    @property
    def readonly(self) -> str:
        """Why nothing can be saved, as a sentence; "" when everything can."""
        return self._database.readonly

    # ---- chats

    def create(self, **fields: Any) -> Chat:
        """A new, empty chat; the fields are those of ``update``."""
        now = time.time()
        values = {"id": new_id(), "created": now, "updated": now, **rows.checked_fields({**fields, "leaf": ""})}
        with self._lock, self._database.transaction() as connection:
            values["position"] = _next(connection)
            sql = f"INSERT INTO chats({', '.join(values)}) VALUES ({', '.join('?' * len(values))})"  # noqa: S608  # CHANGEABLE
            connection.execute(sql, tuple(values.values()))
        return self.open(values["id"])

    def open(self, chat_id: str) -> Chat:
        """The whole chat. Raises NotFound, also for a deleted one."""
        with self._lock:
            self._forget_foreign_changes()
            return self._load(chat_id)

    def list(self, *, limit: int = 50, offset: int = 0) -> Sequence[ChatSummary]:
        """The chats, the one changed last first."""
        with self._database.reading() as connection:
            found = rows.rows_of(
                connection,
                "SELECT chats.id, chats.title, chats.updated, coalesce(substr(messages.text, 1, 300), '') FROM chats "
                "LEFT JOIN messages ON messages.id = chats.leaf WHERE chats.deleted IS NULL "
                "ORDER BY chats.position DESC LIMIT ? OFFSET ?",
                max(0, limit), max(0, offset),
            )  # fmt: skip
        return [ChatSummary(row[0], row[1], row[2], rows.first_words(row[3], 100)) for row in found]

    def search(self, query: str, limit: int = 50) -> Sequence[Hit]:
        """Messages and titles that match, the best first; see ``webui.runtime.stores.search``."""
        try:
            with self._database.reading() as connection:
                return search.find(connection, query, limit)
        except StoreError as error:
            if not _damaged(error) or self.readonly:
                raise
        self._database.reindex()
        with self._database.reading() as connection:
            return search.find(connection, query, limit)

    def update(self, chat_id: str, *, version: int | None = None, **fields: Any) -> Chat:
        """Change what the chat remembers. Raises Conflict when ``version`` is given and the chat has moved on.

        An empty title becomes the first words of the first message.
        """
        values = rows.checked_fields(fields)
        with self._lock:
            chat = self.open(chat_id)
            if version is not None and version != chat.version:
                raise Conflict(
                    "This chat was changed in another tab.", "It shows the newer state now; make your change again."
                )
            if values.get("leaf"):
                _ = chat[values["leaf"]]
            if values.get("title") == "":
                values["title"] = next(
                    (rows.first_words(m.text) for m in chat.messages.values() if m.role == "user"), ""
                )
            plain: dict[str, Any] = {n: rows.loaded(v) if n == "settings" else v for n, v in values.items()}
            return self._save(replace(chat, **plain), values)

    def delete(self, chat_id: str) -> None:
        """Take the chat out of the list; ``restore`` brings it back for 30 days."""
        self._mark(chat_id, time.time())

    def restore(self, chat_id: str) -> Chat:
        """Bring a deleted chat back."""
        self._mark(chat_id, None)
        return self.open(chat_id)

    def branch(self, chat_id: str, message_id: str, **fields: Any) -> Chat:
        """A new chat that holds copies of the messages up to this one and remembers what the old one did."""
        with self._lock:
            old = self.open(chat_id)
            path = old.path(message_id)
            kept = {name: getattr(old, name) for name in rows.CHANGEABLE if name != "leaf"}
            new = self.create(**{**kept, **fields})
            ids = {"": ""}
            copies = []
            for message in path:
                ids[message.id] = new_id()
                status = "interrupted" if message.status == "streaming" else message.status
                copies.append(
                    replace(message, id=ids[message.id], parent=ids[message.parent], status=status, deleted=False)
                )
            try:
                return self._add(new, copies)
            except PatchbayError:
                with contextlib.suppress(StoreError):
                    self.delete(new.id)
                raise

    # ---- messages

    def append(self, chat_id: str, message: Message) -> Chat:
        """Add a message and show it. Raises Conflict when its parent is not in the chat or its id is taken."""
        with self._lock:
            chat = self.open(chat_id)
            if message.parent and message.parent not in chat.messages:
                raise Conflict(
                    "The message that this one answers is not in the chat.", "Reload the page and send it again."
                )
            self._backup_daily()
            return self._add(chat, [message])

    def write(self, chat_id: str, message: Message) -> Chat:
        """Save a message anew: the progress or the end of a reply. The version stays: a reply that grows is no edit."""
        row = rows.message_row(message, chat_id)
        final = message.status != "streaming"
        now = time.time()
        with self._lock:
            chat = self._load(chat_id, deleted=True)
            old = chat.messages.get(message.id)
            if old is None:
                raise NotFound("This message is not in the chat.", "Reload the page.")

            def save(connection: sqlite3.Connection) -> None:
                if connection.execute(rows.WRITE_MESSAGE, row).rowcount != 1:
                    raise NotFound("This message is not in the chat.", "Reload the page.")
                if final:
                    moved = (now, _next(connection), chat_id)
                    connection.execute("UPDATE chats SET updated = ?, position = ? WHERE id = ?", moved)

            self._transact(save, progress=not final)
            kept = replace(message, parent=old.parent, deleted=old.deleted, created=row["created"])
            chat = chat.put(kept)
            return self._remember(replace(chat, updated=now) if final else chat)

    def hide(self, chat_id: str, message_id: str, hidden: bool) -> Chat:
        """Delete a message with what follows: the version beside it or what was before is on show. Or bring it back."""
        with self._lock:
            chat = self.open(chat_id)
            message = replace(chat[message_id], deleted=hidden)
            shown = any(m.id == message_id for m in chat.path())
            chat = chat.put(message)
            beside = chat.children(message.parent)
            if not hidden:
                leaf = chat.newest_leaf(message_id)
            elif shown:
                leaf = chat.newest_leaf(beside[-1].id) if beside else message.parent
            else:
                leaf = chat.leaf

            def also(connection: sqlite3.Connection) -> None:
                connection.execute(
                    "UPDATE messages SET deleted = ? WHERE id = ?", (time.time() if hidden else None, message_id)
                )

            return self._save(replace(chat, leaf=leaf), {"leaf": leaf}, also)

    def chat_of(self, message_id: str) -> str:
        """The id of the chat that a message is in. Raises NotFound."""
        with self._database.reading() as connection:
            row = connection.execute("SELECT chat FROM messages WHERE id = ?", (message_id,)).fetchone()
        if row is None:
            raise NotFound("This message is not stored.", "Its chat may have been deleted.")
        return str(row[0])

    def save_prompt(self, message_id: str, text: str, **details: Any) -> None:
        """Keep the exact prompt that a reply was made from, with what else is known of it."""
        data = zlib.compress(text.encode("utf-8", "surrogatepass"), 3)
        with self._database.transaction() as connection:
            if not connection.execute("SELECT 1 FROM messages WHERE id = ?", (message_id,)).fetchone():
                raise NotFound("This message is not stored.", "Its chat may have been deleted.")
            connection.execute(
                "INSERT OR REPLACE INTO prompts VALUES (?, ?, ?)", (message_id, data, rows.dumped(details))
            )

    def prompt(self, message_id: str) -> str:
        """The exact prompt of a reply. Raises NotFound when none was kept."""
        return self.prompt_record(message_id)[0]

    def prompt_record(self, message_id: str) -> tuple[str, dict[str, Any]]:
        """The exact prompt of a reply and the details that were kept with it."""
        with self._database.reading() as connection:
            row = connection.execute("SELECT text, details FROM prompts WHERE message = ?", (message_id,)).fetchone()
        if row is None:
            raise NotFound(
                "The prompt of this message was not kept.", "Prompts are kept for replies that were started here."
            )
        return zlib.decompress(row[0]).decode("utf-8", "surrogatepass"), rows.loaded(row[1])

    def recover(self) -> int:
        """Mark the replies that were being written when the program ended; returns how many."""
        if self.readonly:
            return 0
        with self._lock:
            self._cache.clear()
            with self._database.transaction() as connection:
                return connection.execute(
                    "UPDATE messages SET status = 'interrupted' WHERE status = 'streaming'"
                ).rowcount

    # ---- backups and the end

    def backup(self) -> Path | None:
        """Copy everything to ``backups/`` if something changed since the last copy; returns the new file."""
        if self.readonly:
            return None
        return self._database.copies.save_changed(self._database.path, _CLOSING if self._closed else None)

    def close(self) -> None:
        """Save a copy if something changed, and let the file go. Calling it twice does no harm."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        if self._copying is not None:
            self._copying.join(_CLOSING)
        with contextlib.suppress(StoreError):
            self.backup()
        self._database.close()

    def _backup_soon(self) -> None:
        self._copied = time.monotonic()

        def copy() -> None:
            try:
                self.backup()
            except StoreError as error:
                self.notices.append(str(error))

        self._copying = threading.Thread(target=copy, name="backup", daemon=True)
        self._copying.start()

    def _backup_daily(self) -> None:
        if time.monotonic() - self._copied > _DAY and not self.readonly:
            self._backup_soon()

    # ---- within

    def _load(self, chat_id: str, deleted: bool = False) -> Chat:
        """The chat from memory or, the first time, from the file."""
        chat = self._cache.get(chat_id)
        if chat is not None:
            self._cache.move_to_end(chat_id)
            return chat
        with self._database.reading() as connection:
            row = rows.rows_of(connection, rows.SELECT_CHAT, chat_id)
            if not row or (row[0][-1] is not None and not deleted):
                raise NotFound("There is no such chat.", "It may have been deleted.")
            found = rows.rows_of(connection, rows.SELECT_MESSAGES, chat_id)
        chat = rows.chat(row[0], {message[0]: rows.message(message) for message in found})
        return chat if deleted else self._remember(chat)

    def _remember(self, chat: Chat) -> Chat:
        if chat.id in self._cache or not self._is_deleted(chat.id):
            self._cache[chat.id] = chat
            self._cache.move_to_end(chat.id)
            while len(self._cache) > CACHED:
                self._cache.popitem(last=False)
        return chat

    def _is_deleted(self, chat_id: str) -> bool:
        with self._database.reading() as connection:
            row = connection.execute("SELECT deleted FROM chats WHERE id = ?", (chat_id,)).fetchone()
        return row is None or row[0] is not None

    def _forget_foreign_changes(self) -> None:
        seen = self._database.changes()
        if seen != self._seen:
            self._seen = seen
            self._cache.clear()

    def _add(self, chat: Chat, messages: Iterable[Message]) -> Chat:
        inserted = []
        values: dict[str, Any] = {}
        for message in messages:
            row = rows.message_row(message, chat.id)
            chat = chat.add(replace(message, created=row["created"]))
            inserted.append(row)
            if not chat.title and message.role == "user":
                values["title"] = rows.first_words(message.text)
                chat = replace(chat, title=values["title"])

        def also(connection: sqlite3.Connection) -> None:
            try:
                connection.executemany(rows.INSERT_MESSAGE, inserted)
            except sqlite3.IntegrityError as error:
                if error.sqlite_errorcode == sqlite3.SQLITE_CONSTRAINT:  # not one of the table's: a damaged index
                    raise
                raise Conflict("This message is stored already.", "Reload the page.") from None

        return self._save(chat, {**values, "leaf": chat.leaf}, also)

    def _save(self, chat: Chat, values: dict[str, Any], also: Any = None) -> Chat:
        """Save changed columns, and what ``also`` does, as the next version of the chat."""
        chat = replace(chat, version=chat.version + 1, updated=time.time())

        def save(connection: sqlite3.Connection) -> None:
            if also is not None:
                also(connection)
            columns = {**values, "version": chat.version, "updated": chat.updated, "position": _next(connection)}
            sql = f"UPDATE chats SET {', '.join(f'{name} = :{name}' for name in columns)} WHERE id = :id"  # noqa: S608  # CHANGEABLE
            connection.execute(sql, {**columns, "id": chat.id})

        self._transact(save)
        return self._remember(chat)

    def _transact(self, save: Any, progress: bool = False) -> None:
        """One transaction; a damaged search index is made anew instead of losing the message."""
        try:
            with self._database.transaction(progress=progress) as connection:
                save(connection)
        except StoreError as error:
            if not _damaged(error):
                raise
            self._database.reindex()
            with self._database.transaction() as connection:
                save(connection)

    def _mark(self, chat_id: str, deleted: float | None) -> None:
        with self._lock:
            with self._database.transaction() as connection:
                found = connection.execute(
                    "UPDATE chats SET deleted = ?, position = ?, version = version + 1 WHERE id = ?",
                    (deleted, _next(connection), chat_id),
                ).rowcount
            if not found:
                raise NotFound("There is no such chat.", "It may have been deleted for good.")
            self._cache.pop(chat_id, None)

    def _purge(self) -> None:
        """Remove for good what was deleted 30 days ago, and chats that were begun a day ago and never used."""
        now = time.time()
        with self._database.transaction() as connection:
            connection.execute("DELETE FROM chats WHERE deleted < ?", (now - KEPT_DAYS * _DAY,))
            connection.execute("DELETE FROM messages WHERE deleted < ?", (now - KEPT_DAYS * _DAY,))
            connection.execute(
                "DELETE FROM chats WHERE updated < ? AND title || system || prefix || character = '' "
                "AND settings = '{}' AND NOT EXISTS (SELECT 1 FROM messages WHERE chat = chats.id)",
                (now - _DAY,),
            )


def _next(connection: sqlite3.Connection) -> int:
    """The place of the chat that changes now: before all others in the list."""
    return int(connection.execute("SELECT coalesce(max(position), 0) + 1 FROM chats").fetchone()[0])


def _damaged(error: StoreError) -> bool:
    """Whether a search index may be what failed."""
    code = getattr(error.__cause__, "sqlite_errorcode", 0) or 0
    return code & 0xFF == sqlite3.SQLITE_CORRUPT or code == sqlite3.SQLITE_CONSTRAINT
