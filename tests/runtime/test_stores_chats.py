"""What the chat store promises while everything goes well."""

from __future__ import annotations

import os
import stat
import threading
import time
from dataclasses import replace

import pytest

from webui import Conflict, Message, NotFound, SettingError
from webui.core.chat import new_id
from webui.runtime.stores import ChatStore


@pytest.fixture
def store(tmp_path):
    made = ChatStore(tmp_path / "data")
    yield made
    made.close()


def say(store, chat, text, role="user", parent=None, **more):
    message = Message(new_id(), chat.leaf if parent is None else parent, role, text, **more)
    return store.append(chat.id, message), message


def reopened(store):
    folder = store._database.folder
    store.close()
    return ChatStore(folder)


def test_a_chat_comes_back_from_the_disk_as_it_was(store):
    chat = store.create(model="m", loader="l", preset="p", system="be kind", settings={"temperature": 0.5})
    chat, first = say(store, chat, "Hello there, how are you today?")
    chat, second = say(
        store, chat, "Fine.", "assistant", thought="hm", model="m", details={"seed": 1, "dropped": ("a",)}
    )
    again = reopened(store)
    found = again.open(chat.id)
    assert found == replace(chat, messages=found.messages)
    assert [m.text for m in found.path()] == [first.text, "Fine."]
    assert found[second.id].details == {"seed": 1, "dropped": ["a"]}
    again.close()


def test_the_title_is_the_first_words_until_somebody_sets_one(store):
    chat = store.create()
    chat, _ = say(
        store, chat, "## What is\n\n a `preset` and why would I ever want to have one in this program?\x00\u202e"
    )
    assert chat.title == "What is a `preset` and why would I ever want to have one in…"
    assert store.update(chat.id, title="Mine").title == "Mine"
    chat, _ = say(store, store.open(chat.id), "More")
    assert chat.title == "Mine"
    assert store.update(chat.id, title="").title.startswith("What is")


def test_a_message_whose_parent_is_elsewhere_is_refused_and_nothing_changes(store):
    one, other = store.create(), store.create()
    other, message = say(store, other, "there")
    with pytest.raises(Conflict):
        say(store, one, "here", parent=message.id)
    assert store.open(one.id) == one


def test_the_same_message_is_never_stored_twice(store):
    chat, message = say(store, store.create(), "once")
    with pytest.raises(Conflict):
        store.append(chat.id, replace(message, parent=""))
    assert len(store.open(chat.id).messages) == 1


def test_a_stale_version_is_refused_and_a_reply_that_grows_is_not_a_new_version(store):
    chat, _ = say(store, store.create(), "hi")
    chat, reply = say(store, chat, "", "assistant", status="streaming")
    store.write(chat.id, replace(reply, text="so far"))
    newer = store.update(chat.id, version=chat.version, title="A")
    with pytest.raises(Conflict, match="another tab"):
        store.update(chat.id, version=chat.version, title="B")
    assert store.open(chat.id).title == "A" and newer.version == chat.version + 1


def test_unknown_fields_and_wrong_types_are_named(store):
    chat = store.create()
    with pytest.raises(SettingError, match="Did you mean preset"):
        store.update(chat.id, pre_set="x")
    with pytest.raises(SettingError, match="takes text"):
        store.update(chat.id, title=5)
    with pytest.raises(SettingError, match="mapping"):
        store.update(chat.id, settings="x")
    with pytest.raises(NotFound):
        store.update(chat.id, leaf="nowhere")


def test_text_is_data_whatever_it_holds(store):
    odd = [
        "nul\x00inside",
        "\u202eright to left",
        "👩‍👩‍👧 emoji",
        "x" * 300,
        "../../etc/passwd",
        "'; DROP TABLE chats; --",
        "\r\n\t",
    ]
    chat = store.create(title="\x00\u202e" + "T" * 300)
    for text in odd:
        chat, _ = say(store, chat, text)
    again = reopened(store)
    found = again.open(chat.id)
    assert [m.text for m in found.path()] == odd and found.title == "\x00\u202e" + "T" * 300
    again.close()


def test_half_a_surrogate_pair_is_refused_with_the_name_of_the_field(store):
    chat = store.create()
    with pytest.raises(SettingError, match="text holds half of a surrogate"):
        say(store, chat, "\ud800")
    assert not store.open(chat.id).messages


def test_a_streaming_reply_is_marked_interrupted_after_a_restart_and_can_be_finished(store):
    chat, _ = say(store, store.create(), "tell me")
    chat, reply = say(store, chat, "", "assistant", status="streaming")
    store.write(chat.id, replace(reply, text="once upon", status="streaming"))
    again = reopened(store)
    assert again.recover() == 1 and again.recover() == 0
    found = again.open(chat.id)[reply.id]
    assert (found.status, found.text) == ("interrupted", "once upon")
    done = again.write(chat.id, replace(found, text="once upon a time", status="done"))
    assert done[reply.id].status == "done"
    again.close()


def test_deleting_a_chat_can_be_undone(store):
    chat, _ = say(store, store.create(), "keep me")
    store.delete(chat.id)
    assert store.list() == []
    with pytest.raises(NotFound):
        store.open(chat.id)
    assert not store.search("keep")
    assert store.restore(chat.id).title == "keep me"
    assert [c.id for c in store.list()] == [chat.id]
    with pytest.raises(NotFound):
        store.delete("nosuch")


def test_a_reply_to_a_chat_that_was_deleted_meanwhile_is_saved_without_bringing_it_back(store):
    chat, reply = say(store, store.create(), "", "assistant", status="streaming")
    store.delete(chat.id)
    store.write(chat.id, replace(reply, text="late", status="done"))
    assert store.list() == []
    with pytest.raises(NotFound):
        store.open(chat.id)
    assert store.restore(chat.id)[reply.id].text == "late"


def test_deleting_a_message_hides_what_follows_and_can_be_undone(store):
    chat, first = say(store, store.create(), "one")
    chat, second = say(store, chat, "two", "assistant")
    chat, third = say(store, chat, "three")
    chat = store.hide(chat.id, second.id, True)
    assert chat.leaf == first.id and chat.children(first.id) == ()
    assert not store.search("three") and store.search("one")
    chat = store.hide(chat.id, second.id, False)
    assert chat.leaf == third.id and store.search("three")
    again = reopened(store)
    assert again.open(chat.id).leaf == third.id
    again.close()


def test_deleting_the_version_on_show_shows_the_one_beside_it(store):
    chat, question = say(store, store.create(), "q")
    chat, one = say(store, chat, "a", "assistant")
    chat, after = say(store, chat, "go on")
    chat, two = say(store, chat, "b", "assistant", parent=question.id)
    assert store.hide(chat.id, two.id, True).leaf == after.id
    assert store.hide(chat.id, one.id, True).leaf == question.id
    assert store.hide(chat.id, two.id, False).leaf == two.id


def test_the_chat_of_a_message_is_known(store):
    chat, message = say(store, store.create(), "q")
    assert store.chat_of(message.id) == chat.id
    with pytest.raises(NotFound):
        store.chat_of("nosuch")


def test_hiding_a_version_that_is_not_on_show_leaves_the_one_that_is(store):
    chat, question = say(store, store.create(), "q")
    chat, one = say(store, chat, "a", "assistant")
    chat, two = say(store, chat, "b", "assistant", parent=question.id)
    assert store.hide(chat.id, one.id, True).leaf == two.id


def test_a_branch_is_a_chat_of_its_own(store):
    chat, _ = say(store, store.create(preset="p", settings={"top_k": 5}), "one")
    chat, two = say(store, chat, "two", "assistant")
    chat, _ = say(store, chat, "three")
    new = store.branch(chat.id, two.id)
    assert [m.text for m in new.path()] == ["one", "two"] and new.preset == "p" and new.settings == {"top_k": 5}
    assert not set(new.messages) & set(chat.messages)
    say(store, new, "other")
    assert [m.text for m in store.open(chat.id).path()] == ["one", "two", "three"]


def test_the_list_shows_what_changed_last_first_whatever_the_clock_says(store, monkeypatch):
    old, new = store.create(title="old"), store.create(title="new")
    assert [c.title for c in store.list()] == ["new", "old"]
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() - 86400)
    say(store, old, "hello")
    assert [c.title for c in store.list()] == ["old", "new"]
    assert store.list()[0].preview == "hello"
    assert [c.title for c in store.list(limit=1, offset=1)] == ["new"]
    assert new.id


def test_messages_keep_the_order_they_were_added_in_when_the_clock_jumps_back(store):
    chat, question = say(store, store.create(), "q")
    late = Message("ffffffffffffffffffff", question.id, "assistant", "first answer")
    chat = store.append(chat.id, late)
    chat, early = say(store, chat, "second answer", "assistant", parent=question.id)
    again = reopened(store)
    found = again.open(chat.id)
    assert [m.text for m in found.siblings(early.id)] == ["first answer", "second answer"]
    assert found.newest_leaf(question.id) == early.id
    again.close()


@pytest.mark.parametrize(
    ("text", "query", "marked"),
    [
        ("The cats were running home", "run", "running"),
        ("Voilà une crème brûlée", "creme", "crème"),
        ("a function called frobnicate_widget", "frobnic", "frobnicate"),
        ("今日は東京で日本語を勉強します", "日本語", "日本語"),
        ("今日は東京で勉強します", "東京", "東京"),
        ("오늘 날씨가 좋습니다", "날씨가", "날씨가"),
        ("exact words in this order", '"words in this"', "words in this"),
    ],
)
def test_search_finds(store, text, query, marked):
    chat, message = say(store, store.create(title="t"), text)
    say(store, store.create(title="u"), "something else entirely")
    (hit,) = store.search(query)
    assert (hit.chat, hit.message) == (chat.id, message.id)
    assert f"<mark>{marked}</mark>" in hit.html


@pytest.mark.parametrize(
    "query", ["", " ", '"', "*", "'", "a OR", "NEAR(", "x:y", "-x", "(", "\x00", "%", "_", "💥", "y" * 5000]
)
def test_no_query_is_an_error(store, query):
    say(store, store.create(), "nothing of that")
    assert store.search(query) == []


def test_a_hit_is_safe_html_and_titles_are_found(store):
    chat, _ = say(store, store.create(title="All about <b>gardens</b>"), "<script>alert('tulip')</script>")
    (hit,) = store.search("tulip")
    assert "<script>" not in hit.html and "&lt;script&gt;" in hit.html
    (titled,) = store.search("gardens")
    assert titled.message == "" and titled.chat == chat.id and "<mark>gardens</mark>" in titled.html


def test_a_reply_is_found_when_it_is_finished_and_again_after_it_was_continued(store):
    chat, reply = say(store, store.create(title="t"), "", "assistant", status="streaming")
    store.write(chat.id, replace(reply, text="zebra"))
    assert not store.search("zebra")
    store.write(chat.id, replace(reply, text="zebra", status="done"))
    assert len(store.search("zebra")) == 1
    store.write(chat.id, replace(reply, text="zebra crossing"))
    store.write(chat.id, replace(reply, text="a crossing", status="done"))
    assert not store.search("zebra") and len(store.search("crossing")) == 1


def test_the_exact_prompt_of_a_reply_is_kept(store):
    _chat, reply = say(store, store.create(), "x", "assistant")
    store.save_prompt(reply.id, "<|user|>\x00 hi " * 500, dropped=["a"])
    assert store.prompt(reply.id) == "<|user|>\x00 hi " * 500
    assert store.prompt_record(reply.id)[1] == {"dropped": ["a"]}
    with pytest.raises(NotFound):
        store.prompt("nosuch")
    with pytest.raises(NotFound):
        store.save_prompt("nosuch", "x")


def test_files_and_folders_are_private(tmp_path):
    old = os.umask(0)
    try:
        store = ChatStore(tmp_path / "a" / "data")
        _chat, _ = say(store, store.create(), "x")
        store.backup()
        modes = {p: stat.S_IMODE(p.stat().st_mode) for p in (tmp_path / "a" / "data").rglob("*")}
        store.close()
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "a" / "data").stat().st_mode) == 0o700
    assert all(mode == (0o700 if path.is_dir() else 0o600) for path, mode in modes.items()), modes


def test_what_was_deleted_a_month_ago_and_chats_that_were_never_used_are_gone_for_good(store, monkeypatch):
    gone, _ = say(store, store.create(), "gone")
    store.delete(gone.id)
    part, message = say(store, store.create(), "kept")
    part, below = say(store, part, "hidden", "assistant")
    part, deeper = say(store, part, "deeper")
    store.hide(part.id, below.id, True)
    unused, named = store.create(), store.create(title="named")
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 31 * 86400)
    again = reopened(store)
    assert {c.id for c in again.list()} == {part.id, named.id} and unused.id
    assert list(again.open(part.id).messages) == [message.id] and deeper.id
    with pytest.raises(NotFound):
        again.restore(gone.id)
    again.close()


def test_many_threads_may_use_one_store(store):
    chats = [store.create(title=str(n)) for n in range(4)]
    errors = []

    def work(chat):
        try:
            for n in range(25):
                chat, message = say(store, chat, f"{chat.title}-{n}", "assistant", status="streaming")
                chat = store.write(chat.id, replace(message, status="done"))
                store.list()
                store.search(chat.title)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(chat,)) for chat in chats for _ in range(1)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert not errors
    for chat in chats:
        assert [m.text for m in store.open(chat.id).path()] == [f"{chat.title}-{n}" for n in range(25)]


def test_two_tabs_that_send_into_one_chat_lose_nothing(store):
    chat, first = say(store, store.create(), "first")

    def tab(name):
        parent = first.id
        for n in range(20):
            message = Message(new_id(), parent, "user", f"{name}{n}")
            store.append(chat.id, message)
            parent = message.id

    threads = [threading.Thread(target=tab, args=(name,)) for name in "ab"]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert len(store.open(chat.id).messages) == 41


def test_saving_a_growing_reply_takes_less_than_a_millisecond(store):
    chat = store.create()
    for _ in range(200):
        message = Message(new_id(), chat.leaf, "user", "word " * 500)
        chat = store.append(chat.id, message)
    chat, reply = say(store, chat, "", "assistant", status="streaming")
    times = []
    for n in range(200):
        started = time.perf_counter()
        store.write(chat.id, replace(reply, text="word " * n))
        times.append(time.perf_counter() - started)
    assert sorted(times)[100] < 0.001
