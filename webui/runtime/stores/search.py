"""Search across all chats: words by their stems, the last one also by its beginning, phrases in quotes.

Scripts written without spaces are found by three characters in a row through a second index, by fewer through a scan.
"""

from __future__ import annotations

import html
import re
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from webui.runtime.stores.rows import rows_of

#: Around each match in ``Hit.snippet``.
OPEN: Final = "\x02"
CLOSE: Final = "\x03"

LONGEST = 500  # characters of a query that are looked at
_SPACELESS = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff]"
)
_TERM = re.compile(r'"([^"]*)"|(\S+)')
_HIT = (
    "SELECT messages.number, chats.id, chats.title, messages.id, {snippet}, chats.updated FROM {source} "
    "JOIN chats ON chats.id = messages.chat "
    "WHERE {condition} AND chats.deleted IS NULL AND messages.status <> 'streaming' ORDER BY {order} LIMIT {limit}"
)
_BEST = (
    "SELECT rowid AS number, rank, snippet(TABLE, 0, char(2), char(3), '…', LENGTH) AS snippet FROM TABLE "
    "WHERE TABLE MATCH ? ORDER BY rank LIMIT ?"
)


@dataclass(frozen=True, slots=True)
class Hit:
    """A message, or the title of a chat (``message`` is "" then), that matches a query."""

    chat: str
    title: str
    message: str
    snippet: str  # plain text with OPEN and CLOSE around each match
    updated: float

    @property
    def html(self) -> str:
        """The snippet as safe HTML with <mark> around each match."""
        return html.escape(self.snippet).replace(OPEN, "<mark>").replace(CLOSE, "</mark>")


def find(connection: sqlite3.Connection, query: str, limit: int) -> list[Hit]:
    """The best hits, titles first. An empty query finds nothing."""
    terms = list(_terms(query[:LONGEST]))
    if not terms:
        return []
    hidden = _hidden(connection)
    limit = max(0, min(limit, 1000))
    rows = _matching(connection, terms, limit + min(len(hidden), 1000))
    hits = [Hit(*row[1:]) for row in rows if row[0] not in hidden]
    chats = {hit.chat for hit in hits}
    titled = [hit for hit in _titles(connection, query.strip()[:LONGEST], limit) if hit.chat not in chats]
    return (titled + hits)[:limit]


def _terms(query: str) -> Iterator[tuple[str, bool]]:
    """The terms of a query with whether each is a phrase in quotes."""
    text = "".join(c if c.isprintable() else " " for c in query)
    for match in _TERM.finditer(text):
        term = (match[1] if match[1] is not None else match[2]).strip('"').strip()
        if any(c.isalnum() for c in term) or _SPACELESS.search(term):
            yield term, match[1] is not None


def _matching(connection: sqlite3.Connection, terms: list[tuple[str, bool]], limit: int) -> list[tuple[Any, ...]]:
    if not any(_SPACELESS.search(term) for term, _ in terms):
        parts = [f'"{term}"' for term, _ in terms]
        if not terms[-1][1]:
            parts[-1] += "*"
        return _indexed(connection, "words", " ".join(parts), limit)
    if all(len(term) >= 3 for term, _ in terms):
        return _indexed(connection, "pieces", " ".join(f'"{term}"' for term, _ in terms), limit)
    condition = " AND ".join(["messages.text LIKE ? ESCAPE '\\'"] * len(terms))
    sql = _HIT.format(
        snippet="messages.text", source="messages", condition=condition, order="messages.number DESC", limit=limit
    )
    rows = rows_of(connection, sql, *(_like(term) for term, _ in terms))
    return [(*row[:4], _around(row[4], [term for term, _ in terms]), row[5]) for row in rows]


def _indexed(connection: sqlite3.Connection, table: str, match: str, limit: int) -> list[tuple[Any, ...]]:
    """Hits of a full-text index. Only the best are joined: a common word is in most messages."""
    best = _BEST.replace("TABLE", table).replace("LENGTH", "14" if table == "words" else "40")
    sql = _HIT.format(
        snippet="best.snippet",
        source=f"({best}) AS best JOIN messages ON messages.number = best.number",
        condition="TRUE",
        order="best.rank",
        limit=limit,
    )
    return rows_of(connection, sql, match, 2 * limit + 50)


def _titles(connection: sqlite3.Connection, text: str, limit: int) -> list[Hit]:
    rows = rows_of(
        connection,
        "SELECT id, title, '', title, updated FROM chats WHERE deleted IS NULL AND title LIKE ? ESCAPE '\\' "
        "ORDER BY position DESC LIMIT ?",
        _like(text), limit,
    )  # fmt: skip
    return [Hit(row[0], row[1], "", _around(row[3], [text]), row[4]) for row in rows]


def _hidden(connection: sqlite3.Connection) -> set[int]:
    """The numbers of all messages that are hidden themselves or below a hidden one."""
    rows = connection.execute(
        "WITH RECURSIVE below(number, id) AS (SELECT number, id FROM messages WHERE deleted IS NOT NULL "
        "UNION SELECT messages.number, messages.id FROM messages JOIN below ON messages.parent = below.id) "
        "SELECT number FROM below"
    )
    return {row[0] for row in rows}


def _like(text: str) -> str:
    return "%" + text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"


def _around(text: str, terms: list[str], width: int = 40) -> str:
    """The text around the first match, with all matches marked."""
    pattern = re.compile("|".join(re.escape(term) for term in sorted(terms, key=len, reverse=True)), re.IGNORECASE)
    first = pattern.search(text)
    if first is None:
        return text[: 2 * width]
    start, end = max(0, first.start() - width), min(len(text), first.end() + width)
    cut = ("…" if start else "") + text[start:end] + ("…" if end < len(text) else "")
    return pattern.sub(lambda match: OPEN + match[0] + CLOSE, cut)
