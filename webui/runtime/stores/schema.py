"""The tables of the chat store, as a list of migrations: entry n takes format n to format n + 1.

An entry that has been released is never changed; a new format is a new entry at the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

#: Marks the file as ours ("PBch").
APPLICATION: Final = 0x50426368

# Scripts that are written without spaces: their words cannot be found by a tokenizer that looks for spaces.
SPACELESS: Final = (
    "*[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff]*"
)

_FIRST = """
CREATE TABLE about (identity TEXT NOT NULL);   -- tells the journal of this file from that of another one
INSERT INTO about VALUES (lower(hex(randomblob(8))));

CREATE TABLE chats (
    id TEXT PRIMARY KEY,
    title TEXT NOT NULL DEFAULT '',
    created REAL NOT NULL,
    updated REAL NOT NULL,
    position INTEGER NOT NULL,             -- grows with every change; the order of the list, whatever the clock says
    version INTEGER NOT NULL DEFAULT 0,
    leaf TEXT NOT NULL DEFAULT '',
    model TEXT NOT NULL DEFAULT '',
    loader TEXT NOT NULL DEFAULT '',
    preset TEXT NOT NULL DEFAULT '',
    system TEXT NOT NULL DEFAULT '',
    prefix TEXT NOT NULL DEFAULT '',
    character TEXT NOT NULL DEFAULT '',
    settings TEXT NOT NULL DEFAULT '{}',
    deleted REAL                           -- when; NULL: not deleted
);
CREATE INDEX chats_by_position ON chats(position);

CREATE TABLE messages (
    number INTEGER PRIMARY KEY AUTOINCREMENT,  -- the order in which messages were added
    id TEXT NOT NULL UNIQUE,
    chat TEXT NOT NULL REFERENCES chats(id) ON DELETE CASCADE,
    parent TEXT REFERENCES messages(id) ON DELETE CASCADE,
    role TEXT NOT NULL,
    text TEXT NOT NULL,
    thought TEXT NOT NULL DEFAULT '',
    status TEXT NOT NULL,
    created REAL NOT NULL,
    model TEXT NOT NULL DEFAULT '',
    loader TEXT NOT NULL DEFAULT '',
    preset TEXT NOT NULL DEFAULT '',
    error TEXT NOT NULL DEFAULT '',
    details TEXT NOT NULL DEFAULT '{}',
    deleted REAL
);
CREATE INDEX messages_by_chat ON messages(chat);
CREATE INDEX messages_by_parent ON messages(parent);
CREATE INDEX messages_streaming ON messages(status) WHERE status = 'streaming';
CREATE INDEX messages_deleted ON messages(chat) WHERE deleted IS NOT NULL;

CREATE TABLE prompts (
    message TEXT PRIMARY KEY REFERENCES messages(id) ON DELETE CASCADE,
    text BLOB NOT NULL,                    -- zlib
    details TEXT NOT NULL DEFAULT '{}'
);

-- A reply enters the indexes when it is finished: while it streams, saving it touches one row.
CREATE VIRTUAL TABLE words USING fts5(
    text, content = 'messages', content_rowid = 'number', tokenize = 'porter unicode61 remove_diacritics 2');
CREATE TRIGGER words_insert AFTER INSERT ON messages WHEN new.status <> 'streaming'
    BEGIN INSERT INTO words(rowid, text) VALUES (new.number, new.text); END;
CREATE TRIGGER words_delete AFTER DELETE ON messages WHEN old.status <> 'streaming'
    BEGIN INSERT INTO words(words, rowid, text) VALUES ('delete', old.number, old.text); END;
CREATE TRIGGER words_update_old AFTER UPDATE ON messages
    WHEN old.status <> 'streaming' AND (old.text IS NOT new.text OR new.status = 'streaming')
    BEGIN INSERT INTO words(words, rowid, text) VALUES ('delete', old.number, old.text); END;
CREATE TRIGGER words_update_new AFTER UPDATE ON messages
    WHEN new.status <> 'streaming' AND (old.text IS NOT new.text OR old.status = 'streaming')
    BEGIN INSERT INTO words(rowid, text) VALUES (new.number, new.text); END;

CREATE VIRTUAL TABLE pieces USING fts5(
    text, content = 'messages', content_rowid = 'number', tokenize = 'trigram');
CREATE TRIGGER pieces_insert AFTER INSERT ON messages WHEN new.status <> 'streaming' AND new.text GLOB 'SPACELESS'
    BEGIN INSERT INTO pieces(rowid, text) VALUES (new.number, new.text); END;
CREATE TRIGGER pieces_delete AFTER DELETE ON messages WHEN old.status <> 'streaming' AND old.text GLOB 'SPACELESS'
    BEGIN INSERT INTO pieces(pieces, rowid, text) VALUES ('delete', old.number, old.text); END;
CREATE TRIGGER pieces_update_old AFTER UPDATE ON messages
    WHEN old.status <> 'streaming' AND (old.text IS NOT new.text OR new.status = 'streaming')
        AND old.text GLOB 'SPACELESS'
    BEGIN INSERT INTO pieces(pieces, rowid, text) VALUES ('delete', old.number, old.text); END;
CREATE TRIGGER pieces_update_new AFTER UPDATE ON messages
    WHEN new.status <> 'streaming' AND (old.text IS NOT new.text OR old.status = 'streaming')
        AND new.text GLOB 'SPACELESS'
    BEGIN INSERT INTO pieces(rowid, text) VALUES (new.number, new.text); END;
""".replace("SPACELESS", SPACELESS)

#: Each entry is the SQL that makes the next format from the one before.
MIGRATIONS: Final[Sequence[str]] = (_FIRST,)

#: Fills the search indexes anew from the messages, when they were found damaged.
REINDEX: Final = """
INSERT INTO words(words) VALUES ('delete-all');
INSERT INTO words(rowid, text) SELECT number, text FROM messages WHERE status <> 'streaming';
INSERT INTO pieces(pieces) VALUES ('delete-all');
INSERT INTO pieces(rowid, text) SELECT number, text FROM messages
    WHERE status <> 'streaming' AND text GLOB 'SPACELESS';
""".replace("SPACELESS", SPACELESS)
