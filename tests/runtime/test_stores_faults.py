"""What the chat store promises when something breaks: disks, files, locks, crashes."""

from __future__ import annotations

import random
import sqlite3
import time

import pytest

from webui import Message, StoreError
from webui.core.chat import new_id
from webui.runtime.stores import ChatStore
from webui.runtime.stores.database import Database
from webui.runtime.stores.schema import MIGRATIONS


def filled(folder, messages=40):
    """A closed store with one chat, and a backup of it; returns the chat's id."""
    store = ChatStore(folder)
    chat = store.create(title="kept")
    for n in range(messages):
        chat = store.append(chat.id, Message(new_id(), chat.leaf, "user", f"message {n} " + "word " * 200))
    store.close()
    return chat.id


def texts(store, chat_id):
    return [m.text.split(" word")[0].strip() for m in store.open(chat_id).path()]


def damage(path, what):
    size = path.stat().st_size
    with open(path, "r+b") as file:
        if what == "the first byte":
            file.write(b"X")
        elif what == "the header":
            file.seek(16)
            file.write(bytes(100))
        elif what == "the middle":
            file.seek(size // 2 // 4096 * 4096)
            file.write(random.Random(1).randbytes(8192))
        elif what == "a random text":
            file.truncate(0)
            file.write(b"not a database at all " * 1000)
        elif what == "no byte at all":
            file.truncate(0)
        elif what == "half of it":
            file.truncate(size // 2)


KINDS = ["the first byte", "the header", "the middle", "a random text", "no byte at all", "half of it"]


@pytest.mark.parametrize("what", KINDS)
def test_a_damaged_file_is_kept_aside_and_the_backup_comes_back(tmp_path, what):
    chat_id = filled(tmp_path)
    damage(tmp_path / "chats.sqlite3", what)
    bad = (tmp_path / "chats.sqlite3").read_bytes()
    store = ChatStore(tmp_path)
    assert texts(store, chat_id) == [f"message {n}" for n in range(40)]
    (kept,) = tmp_path.glob("chats.corrupt-*.sqlite3")
    assert kept.read_bytes() == bad
    assert any("was restored" in notice and kept.name in notice for notice in store.notices)
    store.append(chat_id, Message(new_id(), store.open(chat_id).leaf, "user", "on we go"))
    store.close()
    again = ChatStore(tmp_path)
    assert again.notices == [] and len(again.open(chat_id).messages) == 41
    again.close()


@pytest.mark.parametrize("what", KINDS)
def test_without_a_backup_a_damaged_file_is_kept_and_a_new_one_begun(tmp_path, what):
    filled(tmp_path)
    for path in (tmp_path / "backups").iterdir():
        path.unlink()
    damage(tmp_path / "chats.sqlite3", what)
    store = ChatStore(tmp_path)
    assert store.list() == []
    if what != "no byte at all":
        assert any("no backup" in notice for notice in store.notices) and list(tmp_path.glob("chats.corrupt-*"))
    store.create()
    store.close()


def test_a_damaged_backup_is_passed_over_for_the_one_before(tmp_path):
    chat_id = filled(tmp_path)
    (good,) = (tmp_path / "backups").iterdir()
    (tmp_path / "backups" / "chats-29990101-000000.sqlite3").write_bytes(b"rubbish")
    damage(tmp_path / "chats.sqlite3", "the header")
    store = ChatStore(tmp_path)
    assert len(store.open(chat_id).messages) == 40 and good.exists()
    store.close()


@pytest.mark.parametrize("content", [b"rubbish" * 5000, b"", bytes(4096)])
def test_a_journal_that_is_rubbish_does_no_harm(tmp_path, content):
    chat_id = filled(tmp_path)
    (tmp_path / "chats.sqlite3-wal").write_bytes(content)
    store = ChatStore(tmp_path)
    assert len(store.open(chat_id).messages) == 40
    store.close()


def test_the_journal_of_another_file_is_kept_aside(tmp_path):
    chat_id = filled(tmp_path / "mine", 100)
    running = Database(tmp_path / "other")
    with running.transaction() as connection:
        connection.execute("INSERT INTO chats(id, created, updated, position) VALUES ('x', 0, 0, 1)")
    journal = (tmp_path / "other" / "chats.sqlite3-wal").read_bytes()
    running.close()
    (tmp_path / "mine" / "chats.sqlite3-wal").write_bytes(journal)
    store = ChatStore(tmp_path / "mine")
    assert len(store.open(chat_id).messages) == 100
    assert store.notices and list((tmp_path / "mine").glob("*corrupt-*"))
    store.close()


def test_a_journal_of_an_earlier_state_does_not_take_the_file_back(tmp_path):
    store = ChatStore(tmp_path)
    chat = store.create(title="kept")
    for n in range(60):
        chat = store.append(chat.id, Message(new_id(), chat.leaf, "user", f"message {n} " + "word " * 200))
        if n == 5:
            early = (tmp_path / "chats.sqlite3-wal").read_bytes()
    store.close()
    (tmp_path / "chats.sqlite3-wal").write_bytes(early)
    again = ChatStore(tmp_path)
    assert len(again.open(chat.id).messages) == 60 and "journal" in again.notices[0]
    again.close()


def test_a_file_that_is_gone_is_said_and_its_backups_are_named(tmp_path):
    filled(tmp_path)
    (tmp_path / "chats.sqlite3").unlink()
    store = ChatStore(tmp_path)
    assert store.list() == [] and "backups" in store.notices[0]
    store.close()


def test_a_damaged_search_index_is_made_anew_and_no_message_is_lost(tmp_path):
    chat_id = filled(tmp_path)
    with sqlite3.connect(tmp_path / "chats.sqlite3") as connection:
        connection.execute("DELETE FROM words_data WHERE id > 10")
    connection.close()
    store = ChatStore(tmp_path)
    assert len(store.search("word")) == 40
    connection = sqlite3.connect(tmp_path / "chats.sqlite3")
    connection.execute("DELETE FROM words_data WHERE id > 10")
    connection.execute("UPDATE words_data SET block = x'ffff' WHERE id = 10")
    connection.commit()
    connection.close()
    chat = store.append(chat_id, Message(new_id(), store.open(chat_id).leaf, "user", "another word"))
    assert len(chat.messages) == 41 and len(store.search("another word")) == 1
    store.close()


def test_damaged_columns_do_not_take_the_text_with_them(tmp_path):
    chat_id = filled(tmp_path, 3)
    connection = sqlite3.connect(tmp_path / "chats.sqlite3")
    connection.execute("UPDATE messages SET details = '{broken', model = CAST(x'ff41' AS TEXT)")
    connection.execute("UPDATE chats SET settings = '[1]', leaf = 'nowhere'")
    connection.commit()
    connection.close()
    store = ChatStore(tmp_path)
    found = store.open(chat_id)
    assert len(found.path()) == 3 and found.settings == {} and found.path()[0].model == "\ufffdA"
    store.close()


def test_another_program_that_holds_the_file_is_waited_for_and_then_named(tmp_path):
    database = Database(tmp_path, wait=0.3)
    other = sqlite3.connect(tmp_path / "chats.sqlite3", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    started = time.monotonic()
    with pytest.raises(StoreError, match="Another program has held"), database.transaction():
        pass
    assert 0.2 < time.monotonic() - started < 3
    other.execute("ROLLBACK")
    other.close()
    with database.transaction():
        pass
    database.close()


def test_a_short_lock_only_delays(tmp_path):
    store = ChatStore(tmp_path)
    chat = store.create()
    other = sqlite3.connect(tmp_path / "chats.sqlite3", isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    import threading

    threading.Timer(0.5, lambda: other.execute("ROLLBACK")).start()
    store.append(chat.id, Message(new_id(), "", "user", "waited"))
    other.close()
    store.close()


def test_changes_of_another_program_are_seen(tmp_path):
    store = ChatStore(tmp_path)
    chat = store.create(title="before")
    other = sqlite3.connect(tmp_path / "chats.sqlite3")
    other.execute("UPDATE chats SET title = 'after'")
    other.commit()
    other.close()
    assert store.open(chat.id).title == "after"
    store.close()


def test_a_newer_format_is_read_and_not_written(tmp_path):
    chat_id = filled(tmp_path)
    connection = sqlite3.connect(tmp_path / "chats.sqlite3")
    connection.execute("PRAGMA user_version = 999")
    connection.execute("ALTER TABLE chats ADD COLUMN novelty TEXT")
    connection.commit()
    connection.close()
    before = (tmp_path / "chats.sqlite3").read_bytes()
    store = ChatStore(tmp_path)
    assert "newer version" in store.notices[0] and len(store.open(chat_id).messages) == 40 and store.search("word")
    assert store.recover() == 0
    with pytest.raises(StoreError, match="newer version"):
        store.create()
    store.close()
    assert (tmp_path / "chats.sqlite3").read_bytes() == before


def test_an_older_format_is_brought_up_to_date_with_a_backup_first(tmp_path):
    chat_id = filled(tmp_path)
    later = (*MIGRATIONS, "ALTER TABLE chats ADD COLUMN colour TEXT NOT NULL DEFAULT 'blue'", "CREATE TABLE more(x)")
    database = Database(tmp_path, migrations=later)
    with database.reading() as connection:
        assert connection.execute("SELECT id, colour FROM chats").fetchall() == [(chat_id, "blue")]
        assert connection.execute("PRAGMA user_version").fetchone() == (3,)
    database.close()
    (saved,) = (tmp_path / "backups").glob("chats-format1-*")
    old = Database(tmp_path / "old")
    old.close()
    (tmp_path / "old" / "chats.sqlite3").write_bytes(saved.read_bytes())
    store = ChatStore(tmp_path / "old")
    assert len(store.open(chat_id).messages) == 40
    store.close()


def test_a_migration_that_fails_changes_nothing(tmp_path):
    chat_id = filled(tmp_path)
    later = (*MIGRATIONS, "ALTER TABLE chats ADD COLUMN colour TEXT; SELECT nonsense FROM nowhere")
    with pytest.raises(StoreError, match=r"format 2.*backup"):
        Database(tmp_path, migrations=later)
    store = ChatStore(tmp_path)
    assert len(store.open(chat_id).messages) == 40
    store.close()


def test_backups_are_made_only_when_something_changed_and_the_old_ones_go(tmp_path, monkeypatch):
    store = ChatStore(tmp_path)
    store._copying.join()
    clock = [1_800_000_000.0]
    monkeypatch.setattr(time, "strftime", lambda form: _stamp(clock[0]))
    for day in range(12):
        for minute in range(3):
            clock[0] = 1_800_000_000.0 + day * 86400 + minute * 60
            store.create(title=f"day {day}")
            assert store.backup() is not None
            assert store.backup() is None
    names = sorted(p.name for p in (tmp_path / "backups").iterdir())
    assert len(names) == 10 + 3  # the ten latest span four days; three more days have one each
    store.close()


def _stamp(seconds):
    t = time.gmtime(seconds)
    return f"{t.tm_year}{t.tm_mon:02}{t.tm_mday:02}-{t.tm_hour:02}{t.tm_min:02}{t.tm_sec:02}"


def test_leftovers_of_interrupted_writes_are_swept_at_the_start(tmp_path):
    filled(tmp_path)
    (tmp_path / ".tmp-abc").write_text("half")
    ChatStore(tmp_path).close()
    assert not list(tmp_path.glob(".tmp-*"))
