"""A chat is a tree that only grows."""

from __future__ import annotations

import threading

import pytest

from webui import Chat, Message, NotFound
from webui.core.chat import new_id


def tree(*rows):
    """A chat from (id, parent, deleted?) rows."""
    chat = Chat("c")
    for row in rows:
        chat = chat.add(Message(row[0], row[1], "user", row[0], deleted=len(row) > 2))
    return chat


def ids(messages):
    return "".join(m.id for m in messages)


def test_ids_are_unique_and_sort_by_the_time_they_were_made_also_between_threads():
    made = []
    lock = threading.Lock()

    def work():
        mine = [new_id() for _ in range(500)]
        assert mine == sorted(mine)
        with lock:
            made.extend(mine)

    threads = [threading.Thread(target=work) for _ in range(4)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert len(set(made)) == 2000 and all(len(i) == 20 for i in made)


def test_ids_go_on_growing_when_the_clock_jumps_back(monkeypatch):
    first = new_id()
    monkeypatch.setattr("time.time_ns", lambda: 1)
    assert new_id() > first


def test_adding_shows_the_message_and_changes_no_chat_that_was_there():
    before = tree(("a", ""), ("b", "a"))
    after = before.add(Message("c", "b", "user", "x"))
    assert ids(before.path()) == "ab" and ids(after.path()) == "abc" and after.leaf == "c"


def test_a_sibling_is_another_version_and_the_old_one_stays():
    chat = tree(("a", ""), ("b", "a"), ("c", "b"), ("d", "a"), ("e", "d"))
    assert ids(chat.path()) == "ade" and ids(chat.path("c")) == "abc"
    assert ids(chat.siblings("b")) == ids(chat.siblings("d")) == "bd"
    assert ids(chat.children("")) == "a"


def test_switching_to_a_version_shows_the_newest_of_what_follows_it():
    chat = tree(("a", ""), ("b", "a"), ("c", "b"), ("d", "b"), ("e", "a"))
    assert chat.newest_leaf("b") == "d" and chat.newest_leaf("e") == "e" and chat.newest_leaf("") == "e"


def test_newest_means_added_last_whatever_the_ids_are():
    chat = tree(("a", ""), ("z", "a"), ("b", "a"))
    assert chat.newest_leaf("a") == "b"


def test_what_is_deleted_is_not_among_the_versions_but_still_there():
    chat = tree(("a", ""), ("b", "a"), ("c", "a", "deleted"))
    assert ids(chat.children("a")) == "b" and chat.newest_leaf("a") == "b" and chat["c"].deleted


def test_putting_replaces_in_place():
    chat = tree(("a", ""), ("b", "a"))
    chat = chat.put(Message("a", "", "user", "changed"))
    assert list(chat.messages) == ["a", "b"] and chat["a"].text == "changed" and chat.leaf == "b"


def test_an_empty_chat_has_an_empty_path():
    assert Chat("c").path() == () and Chat("c").newest_leaf("") == ""


def test_a_message_of_another_chat_is_not_found():
    with pytest.raises(NotFound, match="not in the chat"):
        tree(("a", ""))["b"]
    with pytest.raises(NotFound):
        tree(("a", "")).siblings("b")
