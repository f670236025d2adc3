"""What the chat store promises when the folder is closed, the disk is full, or the program is killed."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from tests.runtime.test_stores_faults import filled
from webui import DiskFull, Message
from webui.core.chat import new_id
from webui.runtime.stores import ChatStore

ROOT = Path(__file__).resolve().parents[2]

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


# Nothing can grow: every write behind the first page fails as on a full disk. The first copy goes to another disk.
FULL = CHILD.replace(
    "if os.geteuid() == 0:\n    os.setgid(65534); os.setuid(65534)\n",
    "import errno, resource, shutil, tempfile\n"
    "real = shutil.copyfile\n"
    "def copy(*names):\n"
    "    resource.setrlimit(resource.RLIMIT_FSIZE, (limits[1], limits[1]))\n"
    "    return real(*names)\n"
    "shutil.copyfile = copy\n"
    "limits = resource.getrlimit(resource.RLIMIT_FSIZE)\n"
    "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))\n",
)


@pytest.fixture
def open_path():
    """A folder that another user can reach, unlike pytest's own."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)  # noqa: S103  # that is what it is for
        yield Path(name)


def as_nobody(folder, chat_id):
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
def test_a_folder_that_cannot_be_written_is_read_and_the_error_names_it(open_path):
    chat_id = filled(open_path / "data")
    before = sorted(p.name for p in (open_path / "data").iterdir())
    out = as_nobody(open_path / "data", chat_id)
    assert out["messages"] == 40 and out["hits"] == 40
    assert str(open_path / "data") in out["error"] and str(open_path / "data") in out["notices"][0]
    assert sorted(p.name for p in (open_path / "data").iterdir()) == before


@pytest.mark.skipif(os.name == "nt", reason="permissions work otherwise there")
def test_a_folder_that_cannot_be_written_shows_what_is_only_in_the_journal_too(open_path):
    chat_id = filled(open_path / "data")
    store = ChatStore(open_path / "data")
    store.append(chat_id, Message(new_id(), store.open(chat_id).leaf, "user", "one more"))
    copy = open_path / "copy"
    copy.mkdir()
    for name in ("chats.sqlite3", "chats.sqlite3-wal"):
        (copy / name).write_bytes((open_path / "data" / name).read_bytes())
    store.close()
    assert as_nobody(copy, chat_id)["messages"] == 41


@pytest.mark.skipif(os.name == "nt", reason="permissions work otherwise there")
def test_a_folder_that_cannot_even_be_made_is_an_empty_store_that_says_so(open_path):
    closed = open_path / "closed"
    closed.mkdir()
    out = as_nobody(closed, "x")
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


@pytest.mark.parametrize("journal", [False, True])
def test_a_disk_that_is_full_at_the_start_leaves_the_chats_readable_and_in_place(tmp_path, journal):
    folder = tmp_path / "data"
    chat_id = filled(folder)
    expected = 40
    if journal:  # as after kill -9: the last message is only in the journal
        store = ChatStore(folder)
        store.append(chat_id, Message(new_id(), store.open(chat_id).leaf, "user", "one more"))
        content = {n: (folder / n).read_bytes() for n in ("chats.sqlite3", "chats.sqlite3-wal")}
        store.close()
        for name, data in content.items():
            (folder / name).write_bytes(data)
        expected = 41
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(ROOT), str(folder), chat_id], capture_output=True, text=True, timeout=60
    )
    out = json.loads(done.stdout)
    assert out["messages"] == expected and "full" in out["notices"][0] and str(folder) in out["error"], out
    assert not list(folder.glob("*corrupt*"))
    store = ChatStore(folder)
    assert len(store.open(chat_id).messages) == expected and not store.notices
    store.close()


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
            bufsize=0,  # what readline does not return stays in the pipe
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


@pytest.mark.soak
def test_kill_9_loses_and_doubles_nothing_in_a_hundred_rounds(tmp_path):
    kill_rounds(tmp_path, 100)
