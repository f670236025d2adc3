"""Chats from the first message to the stored reply, on the echo loader."""

from __future__ import annotations

import asyncio
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from tests.runtime.driving import drive
from webui.core.chat import Chat, Message
from webui.core.errors import Conflict, NotFound, SettingError
from webui.core.events import Finish, Token
from webui.runtime import conversation as talk
from webui.runtime.app import App


async def say(app: App, chat: Chat, text: str, parent: str | None = None) -> tuple[Chat, Message]:
    chat, reply = await talk.send(app, chat.id, text, parent)
    message = await reply.wait()
    return app.chats.open(chat.id), message


def texts(chat: Chat) -> list[str]:
    return [m.text for m in chat.path()]


def test_a_message_is_answered_and_both_are_stored(tmp_path: Path) -> None:
    async def test(app: App) -> None:
        chat = await talk.create(app)
        chat, message = await say(app, chat, "hello there")
        assert texts(chat) == ["hello there", "hello there"]
        assert message.status == "done" and message.model == "echo" and message.loader == "echo"
        details = message.details
        assert details["tokens"] > 0 and details["prompt_tokens"] > 0 and details["seed"] >= 0
        assert details["first_token_seconds"] >= 0
        assert "hello there" in app.chats.prompt(message.id)

    drive(tmp_path, test)


def test_the_persons_message_is_there_before_the_reply(tmp_path: Path) -> None:
    async def test(app: App) -> None:
        chat = await talk.create(app)
        chat, reply = await talk.send(app, chat.id, "/tokens 500 /speed 50 x")
        stored = app.chats.open(chat.id)
        assert [m.role for m in stored.path()] == ["user", "assistant"]
        assert stored.path()[1].status == "streaming"
        reply.stop()
        await reply.wait()

    drive(tmp_path, test)


def test_regenerating_adds_a_version_and_showing_goes_back(tmp_path: Path) -> None:
    async def test(app: App) -> None:
        chat = await talk.create(app)
        chat, first = await say(app, chat, "one")
        chat, more = await say(app, chat, "two")
        chat, reply = await talk.regenerate(app, chat.id, first.id)
        second = await reply.wait()
        chat = app.chats.open(chat.id)
        assert [m.id for m in chat.siblings(first.id)] == [first.id, second.id]
        assert chat.leaf == second.id
        chat = await talk.show(app, chat.id, first.id)
        assert chat.leaf == more.id

    drive(tmp_path, test)


def test_editing_ones_own_message_makes_a_version_that_is_answered(tmp_path: Path) -> None:
    async def test(app: App) -> None:
        chat = await talk.create(app)
        chat, _ = await say(app, chat, "one")
        mine = chat.path()[0]
        chat, reply = await talk.edit(app, chat.id, mine.id, "uno")
        assert reply is not None
        await reply.wait()
        chat = app.chats.open(chat.id)
        assert texts(chat) == ["uno", "uno"]
        assert len(chat.siblings(chat.path()[0].id)) == 2

    drive(tmp_path, test)


def test_editing_a_reply_keeps_the_old_one_beside_it(tmp_path: Path) -> None:
    async def test(app: App) -> None:
        chat = await talk.create(app)
        chat, answer = await say(app, chat, "one")
        chat, reply = await talk.edit(app, chat.id, answer.id, "eins")
        assert reply is None and texts(chat) == ["one", "eins"]
        assert chat[answer.id].text == "one"

    drive(tmp_path, test)


def test_deleting_can_be_undone(tmp_path: Path) -> None:
    async def test(app: App) -> None:
        chat = await talk.create(app)
        chat, _ = await say(app, chat, "one")
        chat, _ = await say(app, chat, "two")
        mine = chat.path()[2]
        chat = await talk.delete(app, chat.id, mine.id)
        assert texts(chat) == ["one", "one"]
        chat = await talk.undelete(app, chat.id, mine.id)
        assert texts(chat) == ["one", "one", "two", "two"]

    drive(tmp_path, test)


def test_a_branch_is_a_chat_of_its_own(tmp_path: Path) -> None:
    async def test(app: App) -> None:
        chat = await talk.create(app)
        chat, first = await say(app, chat, "one")
        chat, _ = await say(app, chat, "two")
        other = await talk.branch(app, chat.id, first.id)
        assert texts(other) == ["one", "one"] and other.id != chat.id
        await say(app, other, "three")
        assert texts(app.chats.open(chat.id)) == ["one", "one", "two", "two"]

    drive(tmp_path, test)


def test_stop_keeps_what_was_written_and_continue_goes_on(tmp_path: Path) -> None:
    async def test(app: App) -> None:
        chat = await talk.create(app)
        chat, reply = await talk.send(app, chat.id, "/tokens 60 /speed 60 x")
        while reply.tokens < 8:
            await reply.changed(reply.number, 1)
        reply.stop()
        message = await reply.wait()
        assert message.status == "stopped" and message.text and message.details["reason"] == "cancelled"
        chat, again = await talk.continue_(app, chat.id, message.id)
        longer = await again.wait()
        assert longer.id == message.id and longer.text.startswith(message.text) and longer.status == "done"

    drive(tmp_path, test)


def test_two_chats_stream_at_once_and_one_chat_does_not(tmp_path: Path) -> None:
    async def test(app: App) -> None:
        first, second = await talk.create(app), await talk.create(app)
        _, a = await talk.send(app, first.id, "/tokens 50 /speed 100 x")
        _, b = await talk.send(app, second.id, "/tokens 50 /speed 100 y")
        with pytest.raises(Conflict):
            await talk.send(app, first.id, "me too")
        assert (await a.wait()).details["tokens"] == 50
        assert (await b.wait()).details["tokens"] == 50

    drive(tmp_path, test)


def test_viewers_only_look_and_see_the_same(tmp_path: Path) -> None:
    async def test(app: App) -> None:
        chat = await talk.create(app)
        chat, reply = await talk.send(app, chat.id, "/tokens 30 /speed 300 x")

        async def watch(after: int, give_up: int = 10_000) -> str:
            text, seen = "", 0
            async for _, event in reply.follow(after):
                seen += 1
                if isinstance(event, Token):
                    text += event.text
                if isinstance(event, Finish) or seen >= give_up:
                    break
            return text

        one, _gone, two = await asyncio.gather(watch(0), watch(0, 3), watch(0))
        assert one == two == (await reply.wait()).text

    drive(tmp_path, test)


def test_a_worker_that_is_killed_leaves_a_sentence_and_the_next_message_works(tmp_path: Path) -> None:
    async def test(app: App) -> None:
        chat = await talk.create(app)
        chat, reply = await talk.send(app, chat.id, "/tokens 1000 /speed 100 x")
        while reply.tokens < 5:
            await reply.changed(reply.number, 1)
        os.kill(app.models.process("echo").pid, signal.SIGKILL)
        message = await reply.wait()
        assert message.status == "failed" and "signal 9" in message.error and message.text
        chat, after = await say(app, chat, "still there?")
        assert after.status == "done" and after.text == "still there?"

    drive(tmp_path, test)


def test_unloading_while_writing_says_so(tmp_path: Path) -> None:
    async def test(app: App) -> None:
        chat = await talk.create(app)
        chat, reply = await talk.send(app, chat.id, "/tokens 1000 /speed 100 x")
        while reply.tokens < 5:
            await reply.changed(reply.number, 1)
        await app.models.unload("echo")
        message = await reply.wait()
        assert message.status == "failed" and "unloaded" in message.error

    drive(tmp_path, test)


def test_an_empty_message_and_an_unknown_model_are_sentences(tmp_path: Path) -> None:
    async def test(app: App) -> None:
        chat = await talk.create(app)
        with pytest.raises(SettingError, match="empty"):
            await talk.send(app, chat.id, "  \n")
        chat = app.chats.update(chat.id, model="nope")
        with pytest.raises(NotFound, match="no model 'nope'"):
            await talk.send(app, chat.id, "hi")
        assert texts(app.chats.open(chat.id)) == ["hi"]  # what was said is kept

    drive(tmp_path, test)


def test_the_chats_own_values_lie_over_its_preset(tmp_path: Path) -> None:
    async def test(app: App) -> None:
        chat = await talk.create(app, preset="Deterministic", settings={"max_tokens": 7, "auto_max_tokens": False})
        settings, name = talk.effective(app, chat)
        assert name == "Deterministic" and settings.temperature == 0 and settings.max_tokens == 7

    drive(tmp_path, test)


def test_neighbours_of_one_role_are_joined_for_the_model() -> None:
    m = Message("1", "", "user", "a")
    joined = talk.spoken((m, replace(m, id="2", role="assistant", text=""), replace(m, id="3", text="b")))
    assert [(j.role, j.text) for j in joined] == [("user", "a\n\nb")]


def test_closing_the_app_marks_what_was_being_written(tmp_path: Path) -> None:
    chat_id = ""

    async def first(app: App) -> None:
        nonlocal chat_id
        chat = await talk.create(app)
        chat_id = chat.id
        _, reply = await talk.send(app, chat.id, "/tokens 1000 /speed 100 x")
        while reply.tokens < 5:
            await reply.changed(reply.number, 1)

    async def second(app: App) -> None:
        message = app.chats.open(chat_id).path()[-1]
        assert message.status == "interrupted" and message.text
        _, reply = await talk.continue_(app, chat_id, message.id)
        reply.stop()
        await reply.wait()

    drive(tmp_path, first)
    drive(tmp_path, second)


def test_a_model_that_keeps_crashing_waits_for_a_person(tmp_path: Path) -> None:
    async def test(app: App) -> None:
        chat = await talk.create(app)
        for _ in range(3):
            chat, reply = await talk.send(app, chat.id, "/tokens 1000 /speed 100 x")
            while reply.tokens < 2:
                await reply.changed(reply.number, 1)
            os.kill(app.models.process("echo").pid, signal.SIGKILL)
            await reply.wait()
        chat, message = await say(app, chat, "hello")
        assert message.status == "failed" and "crashed 3 times" in message.error
        await app.models.load("echo")
        chat, message = await say(app, chat, "hello")
        assert message.status == "done"

    drive(tmp_path, test)


def test_deleting_a_version_shows_the_one_beside_it_with_what_follows(tmp_path: Path) -> None:
    async def test(app: App) -> None:
        chat = await talk.create(app)
        chat, first = await say(app, chat, "one")
        chat, more = await say(app, chat, "two")
        chat, reply = await talk.regenerate(app, chat.id, first.id)
        second = await reply.wait()
        chat = await talk.delete(app, chat.id, second.id)
        assert chat.leaf == more.id
        hidden = await talk.delete(app, chat.id, first.id)
        assert texts(hidden) == ["one"]

    drive(tmp_path, test)


def test_deleting_while_it_is_written_stops_it_and_undo_brings_it_back(tmp_path: Path) -> None:
    async def test(app: App) -> None:
        chat, other = await talk.create(app), await talk.create(app)
        chat, _ = await say(app, chat, "one")
        started = asyncio.gather(
            talk.send(app, chat.id, "/tokens 900 /speed 200 x"), talk.send(app, other.id, "/tokens 900 /speed 200 x")
        )
        await asyncio.sleep(0)
        gone = await talk.delete(app, chat.id, chat.path()[0].id)  # while the reply is being set up
        (_, reply), (_, untouched) = await started
        assert reply.status == "stopped" and not untouched.done
        assert gone.path() == () and app.chats.open(chat.id).path() == ()
        back = await talk.undelete(app, chat.id, chat.path()[0].id)
        assert texts(back)[:3] == ["one", "one", "/tokens 900 /speed 200 x"]
        untouched.stop()
        await untouched.wait()

    drive(tmp_path, test)


def test_a_second_tab_that_writes_below_an_older_or_a_deleted_message(tmp_path: Path) -> None:
    async def test(app: App) -> None:
        chat = await talk.create(app)
        chat, first = await say(app, chat, "one")
        chat, _ = await say(app, chat, "two")
        chat, _ = await say(app, chat, "two from the other tab", first.id)
        assert {m.text for m in chat.children(first.id)} == {"two", "two from the other tab"}
        await talk.delete(app, chat.id, first.id)
        for action in (
            talk.send(app, chat.id, "three", first.id),
            talk.regenerate(app, chat.id, first.id),
            talk.continue_(app, chat.id, first.id),
            talk.edit(app, chat.id, first.id, "eins"),
            talk.show(app, chat.id, first.id),
        ):
            with pytest.raises(Conflict, match="deleted"):
                await action
        assert "three" not in {m.text for m in app.chats.open(chat.id).messages.values()}

    drive(tmp_path, test)


def test_words_that_were_not_answered_are_not_said_twice(tmp_path: Path) -> None:
    async def test(app: App) -> None:
        chat = app.chats.update((await talk.create(app)).id, model="nope")
        for _ in range(2):
            with pytest.raises(NotFound):
                await talk.send(app, chat.id, "hi", "")
        chat = app.chats.update(chat.id, model="echo")
        chat, _ = await say(app, chat, "hi", "")
        assert texts(chat) == ["hi", "hi"] and len(chat.messages) == 2
        chat, _ = await say(app, chat, "hi")  # answered: said again
        assert texts(chat) == ["hi"] * 4

    drive(tmp_path, test)


def test_continuing_shows_the_version_that_grows_and_one_that_only_thought_begins_anew(tmp_path: Path) -> None:
    async def test(app: App) -> None:
        chat = await talk.create(app)
        chat, reply = await talk.send(app, chat.id, "/say <think>hm hm</think>yes and no")
        first = await reply.wait()
        assert (first.thought, first.text) == ("hm hm", "yes and no")
        chat, reply = await talk.regenerate(app, chat.id, first.id)
        second = await reply.wait()
        app.chats.write(chat.id, replace(first, text="yes", status="stopped"))
        chat, reply = await talk.continue_(app, chat.id, first.id)
        assert chat.leaf == first.id != second.id
        assert (await reply.wait()).thought == "hm hm"
        app.chats.write(chat.id, replace(second, text="", thought="hm", status="stopped"))
        chat, reply = await talk.continue_(app, chat.id, second.id)
        again = await reply.wait()
        assert (again.id, again.thought, again.text) == (second.id, "hm hm", "yes and no")

    drive(tmp_path, test)


def test_a_chat_that_is_deleted_while_it_is_written_keeps_what_was_written(tmp_path: Path) -> None:
    async def test(app: App) -> None:
        chat = await talk.create(app)
        chat, reply = await talk.send(app, chat.id, "/tokens 200 /speed 200 x")
        app.chats.delete(chat.id)
        message = await reply.wait()
        assert message.status == "done" and not reply.unsaved
        assert app.chats.restore(chat.id)[reply.id].text == message.text

    drive(tmp_path, test)


def test_a_long_chat_is_branched_in_one_step(tmp_path: Path) -> None:
    async def test(app: App) -> None:
        chat = await talk.create(app)
        for n in range(60):
            parent = app.chats.open(chat.id).leaf
            app.chats.append(chat.id, Message(f"m{n}", parent, ("user", "assistant")[n % 2], f"message {n}"))
        other = await talk.branch(app, chat.id, "m59")
        assert texts(other) == [f"message {n}" for n in range(60)] and other.title.endswith("(branch)")
        assert other.version < 5

    drive(tmp_path, test)


def test_a_preset_that_is_gone_is_passed_over_and_said(tmp_path: Path) -> None:
    async def test(app: App) -> None:
        app.presets.save("Mine", {"temperature": 0.3})
        chat = await talk.create(app, preset="Mine")
        app.presets.delete("Mine")
        chat, message = await say(app, chat, "hello")
        assert message.status == "done" and message.preset == "Balanced"
        assert any("Mine is gone" in note for note in message.details["notes"])

    drive(tmp_path, test)


def test_an_echo_forgets_the_oldest_messages_when_its_context_is_full(tmp_path: Path) -> None:
    async def test(app: App) -> None:
        app.models.save_settings("echo", options={"context": 256})
        chat = await talk.create(app)
        for number in range(6):
            chat, message = await say(app, chat, f"{number} " + "many words " * 60)
            assert message.status == "done" and message.text.startswith(f"{number} many"), message.error
        assert message.details["dropped"]

    drive(tmp_path, test)
