"""What the chat store promises when something breaks: disks, files, locks, crashes."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from webui import DiskFull, Message, StoreError
from webui.core.chat import new_id
from webui.runtime.stores import ChatStore
from webui.runtime.stores.database import Database
from webui.runtime.stores.schema import MIGRATIONS

ROOT = Path(__file__).resolve().parents[2]


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


# ---- a folder that cannot be written, a disk that is full

CHILD = """
import json, os, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from webui import Message, StoreError
from webui.core.chat import new_id
from webui.runtime.stores import ChatStore
folder, chat_id = Path(sys.argv[2]), sys.argv[3]
if os.geteuid() == 0:
    os.setgid(65534); os.setuid(65534)
store = ChatStore(folder)
out = {"notices": store.notices, "readonly": store.readonly}
try:
    out["messages"] = len(store.open(chat_id).messages)
    out["hits"] = len(store.search("word"))
except StoreError as error:
    out["open"] = str(error)
try:
    store.create()
    out["saved"] = True
except StoreError as error:
    out["error"] = str(error)
store.close()
print(json.dumps(out))
"""


def as_nobody(folder, chat_id, tmp_path):
    for parent in [folder, *folder.parents]:
        if parent.is_relative_to(tmp_path.parents[1]):
            parent.chmod(parent.stat().st_mode | 0o055)
    for path in folder.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    folder.chmod(0o555)
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(ROOT), str(folder), chat_id], capture_output=True, text=True, timeout=60
    )
    folder.chmod(0o755)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.skipif(os.name == "nt", reason="permissions work otherwise there")
def test_a_folder_that_cannot_be_written_is_read_and_the_error_names_it(tmp_path):
    chat_id = filled(tmp_path / "data")
    before = sorted(p.name for p in (tmp_path / "data").iterdir())
    out = as_nobody(tmp_path / "data", chat_id, tmp_path)
    assert out["messages"] == 40 and out["hits"] == 40
    assert str(tmp_path / "data") in out["error"] and str(tmp_path / "data") in out["notices"][0]
    assert sorted(p.name for p in (tmp_path / "data").iterdir()) == before


@pytest.mark.skipif(os.name == "nt", reason="permissions work otherwise there")
def test_a_folder_that_cannot_be_written_shows_what_is_only_in_the_journal_too(tmp_path):
    chat_id = filled(tmp_path / "data")
    store = ChatStore(tmp_path / "data")
    store.append(chat_id, Message(new_id(), store.open(chat_id).leaf, "user", "one more"))
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("chats.sqlite3", "chats.sqlite3-wal"):
        (copy / name).write_bytes((tmp_path / "data" / name).read_bytes())
    store.close()
    assert as_nobody(copy, chat_id, tmp_path)["messages"] == 41


@pytest.mark.skipif(os.name == "nt", reason="permissions work otherwise there")
def test_a_folder_that_cannot_even_be_made_is_an_empty_store_that_says_so(tmp_path):
    closed = tmp_path / "closed"
    closed.mkdir()
    out = as_nobody(closed, "x", tmp_path)
    assert out["readonly"] and "error" in out


def fill_and_retry(folder, make_full, make_room):
    """Append until the disk is full, then check that nothing acknowledged is gone and that a retry works."""
    store = ChatStore(folder)
    chat = store.create(title="kept")
    saved = []
    make_full()
    with pytest.raises(DiskFull) as raised:
        for n in range(2000):
            message = Message(new_id(), chat.leaf, "user", f"message {n} " + "word " * 2000)
            chat = store.append(chat.id, message)
            saved.append(message.id)
    assert str(folder) in str(raised.value)
    assert list(store.open(chat.id).messages) == saved
    with pytest.raises(DiskFull):
        for _ in range(50):
            store.append(chat.id, Message(new_id(), chat.leaf, "user", "word " * 20000))
    assert list(store.open(chat.id).messages) == saved
    make_room()
    chat = store.append(chat.id, message)
    saved.append(message.id)
    store.close()
    again = ChatStore(folder)
    assert list(again.open(chat.id).messages) == saved
    assert [n for n in again.notices if "damaged" in n] == []
    again.close()


def test_a_full_disk_is_said_and_everything_saved_before_is_whole(tmp_path):
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode == 0:
        ballast = folder / "ballast"
        ballast.write_bytes(bytes(1_000_000))
        try:
            fill_and_retry(folder, lambda: None, ballast.unlink)
        finally:
            subprocess.run(["umount", "-l", str(folder)], check=True)
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        fill_and_retry(
            folder,
            lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard)),
            lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard)),
        )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_quota_on_file_sizes_is_said_like_a_full_disk(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        fill_and_retry(
            tmp_path,
            lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard)),
            lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard)),
        )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


# ---- kill -9

WRITER = """
import os, sys
sys.path.insert(0, sys.argv[1])
from dataclasses import replace
from pathlib import Path
from webui import Message
from webui.core.chat import new_id
from webui.runtime.stores import ChatStore
store = ChatStore(Path(sys.argv[2]))
store.recover()
chat = store.open(sys.argv[3])
say = lambda *words: os.write(1, (" ".join(map(str, words)) + "\\n").encode())
while True:
    message = Message(new_id(), chat.leaf, "user", "question " * 30)
    chat = store.append(chat.id, message)
    say("append", message.id, len(message.text))
    reply = Message(new_id(), chat.leaf, "assistant", "", status="streaming")
    chat = store.append(chat.id, reply)
    say("append", reply.id, 0)
    for n in range(1, 12):
        reply = replace(reply, text="token " * n * 20, status="done" if n == 11 else "streaming")
        chat = store.write(chat.id, reply)
        say("write", reply.id, len(reply.text))
"""


def kill_rounds(folder, rounds):
    store = ChatStore(folder)
    chat_id = store.create(title="kept").id
    store.close()
    told: dict[str, int] = {}
    chooser = random.Random(rounds)
    for _ in range(rounds):
        child = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(ROOT), str(folder), chat_id],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        first = child.stdout.readline()  # it is at work
        time.sleep(chooser.random() * 0.4)
        child.send_signal(signal.SIGKILL)
        output, errors = child.communicate()
        output = first + output
        assert not errors, errors
        lines = output.split(b"\n")[:-1]
        for line in lines:
            _, message_id, length = line.decode().split()
            told[message_id] = int(length)
        store = ChatStore(folder)
        assert store.notices == []
        store.recover()
        chat = store.open(chat_id)
        path = chat.path()
        assert len(path) == len(chat.messages) == len({m.id for m in path})
        for message_id, length in told.items():
            assert len(chat[message_id].text) >= length
        assert len(chat.messages) - len(told) in (0, 1)  # one may have been saved and killed before it could say so
        told.update({m.id: len(m.text) for m in path})
        assert not [m for m in path if m.status == "streaming"]
        store.close()
    assert len(told) > rounds


def test_kill_9_loses_and_doubles_nothing(tmp_path):
    kill_rounds(tmp_path, 6)


@pytest.mark.slow
@pytest.mark.parametrize("rounds", [30, 100])
def test_kill_9_loses_and_doubles_nothing_in_many_rounds(tmp_path, rounds):
    kill_rounds(tmp_path, rounds)
