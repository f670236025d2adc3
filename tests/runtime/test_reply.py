"""What a reply promises: its events, its end, its text on the disk, whatever happens meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import signal
import sqlite3
import textwrap
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.runtime.driving import drive
from webui.core.chat import Chat, Message, Turn
from webui.core.errors import Busy, Conflict, DiskFull, PatchbayError, StoreError
from webui.core.events import Event, Failed, Finish, Progress, Started, Token
from webui.runtime import conversation as talk
from webui.runtime.app import App
from webui.runtime.reply import Reply
from webui.runtime.transcript import Reader, Transcript


async def begin(app: App, text: str, tokens: int = 3) -> tuple[Chat, Reply]:
    """A reply that is being written."""
    chat = await talk.create(app)
    chat, reply = await talk.send(app, chat.id, text)
    async with asyncio.timeout(20):
        while reply.tokens < tokens and not reply.done:
            await reply.changed(reply.number, 1)
    return chat, reply


def extension(folder: Path, name: str, source: str) -> None:
    """An extension in the data folder, switched on."""
    where = folder / "data" / "extensions"
    where.mkdir(parents=True, exist_ok=True)
    head = "import time, asyncio\nfrom dataclasses import replace\nfrom webui import hookimpl\n"
    (where / f"{name}.py").write_text(head + textwrap.dedent(source))
    (folder / "data" / "settings.yaml").write_text(f"extensions:\n  {name}:\n    enabled: true\n")


async def all_of(events: AsyncIterator[tuple[int, Event]]) -> list[tuple[int, Event]]:
    return [pair async for pair in events]


def text_of(events: list[tuple[int, Event]]) -> str:
    return "".join(e.text for _, e in events if isinstance(e, Token))


# ---- events


@pytest.mark.parametrize(
    ("said", "last"),
    [
        ("/prefill 0.3 /tokens 30 /speed 300 x", Finish),
        ("/fail 5 /tokens 30 x", Failed),
        ("/die 5 /tokens 30 x", Failed),
    ],
)
def test_events_come_in_order_and_end_once(tmp_path: Path, said: str, last: type) -> None:
    async def test(app: App) -> None:
        _, reply = await begin(app, said, 0)
        kinds = [type(e) for _, e in await all_of(reply.follow())]
        assert kinds.count(Started) == 1 and kinds[-1] is last
        assert sum(k in (Finish, Failed) for k in kinds) == 1
        assert set(kinds[: kinds.index(Started)]) <= {Progress}
        assert kinds.index(Started) < kinds.index(Token)

    drive(tmp_path, test)


def test_a_stopped_reply_ends_with_finish_and_nothing_after(tmp_path: Path) -> None:
    async def test(app: App) -> None:
        _, reply = await begin(app, "/tokens 3000 /speed 300 x")
        reply.stop()
        message = await reply.wait()
        events = await all_of(reply.follow())
        assert isinstance(events[-1][1], Finish) and events[-1][1].reason == "cancelled"
        number = reply.number
        await asyncio.sleep(0.2)
        assert reply.number == number and reply.text == message.text

    drive(tmp_path, test)


def test_whoever_follows_from_any_number_gets_every_letter_once(tmp_path: Path) -> None:
    async def test(app: App) -> None:
        _, reply = await begin(app, "/tokens 60 /speed 300 x", 1)
        live = asyncio.create_task(all_of(reply.follow()))
        message = await reply.wait()
        events = await live
        assert text_of(events) == message.text
        assert sum(e.count for _, e in events if isinstance(e, Token)) == 60
        for number, _ in events:
            rest = await all_of(reply.follow(number))
            seen = text_of([pair for pair in events if pair[0] <= number])
            assert seen + text_of(rest) == message.text
            assert all(n > number for n, _ in rest)
        assert await all_of(reply.follow(reply.number)) == []

    drive(tmp_path, test)


def test_changed_comes_back_with_news_with_the_end_and_with_the_time(tmp_path: Path) -> None:
    async def test(app: App) -> None:
        _, reply = await begin(app, "/prefill 1 /tokens 3 x", 0)
        before = reply.number
        assert await reply.changed(before, 5) > before  # news
        began = time.monotonic()
        number = await reply.changed(10_000, 0.2)  # the time
        assert number < 10_000 and 0.15 < time.monotonic() - began < 1
        waiting = asyncio.create_task(reply.changed(10_000, 30))
        await reply.wait()
        assert await asyncio.wait_for(waiting, 1) == reply.number  # the end

    drive(tmp_path, test)


def test_a_long_reply_is_remembered_in_few_bytes() -> None:
    import tracemalloc

    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    transcript = Transcript(0, 0)
    transcript.add(Started("j"))
    for n in range(100_000):
        transcript.add(Token("j", f"word{n % 7} ", "thought" if n < 50 else "answer"))
    transcript.add(Finish("j", "stop"))
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert after - before < 4_000_000
    text = "".join(f"word{n % 7} " for n in range(100_000))
    cut = 50 * 6
    reader = Reader(transcript, 0)
    events: list[Event] = []
    while (event := reader.next("j", text[cut:], text[:cut])) is not None:
        events.append(event)
    assert [type(e) for e in events] == [Started, Token, Token, Finish]
    assert "".join(e.text for e in events if isinstance(e, Token)) == text


def test_a_slow_extension_does_not_let_events_pile_up(tmp_path: Path) -> None:
    extension(
        tmp_path,
        "slow",
        """
        @hookimpl
        async def wrap_stream(events):
            async for event in events:
                await asyncio.sleep(0.02)
                yield event
        """,
    )

    async def test(app: App) -> None:
        _, reply = await begin(app, "/tokens 6000 /speed 0 x", 1)
        waiting = 0
        while not reply.done:
            worker = app.models.process("echo")
            waiting = max([waiting, *(len(i._events) for i in worker._jobs.values())])
            await reply.changed(reply.number, 1)
        assert reply.status == "done" and reply.tokens == 6000, reply.error
        assert waiting < 300

    drive(tmp_path, test)


# ---- stopping


@pytest.mark.parametrize("said", ["/prefill 30 x", "/hang 3 /tokens 100 /speed 100 x", "/tokens 9000 /speed 400 x"])
def test_stop_is_quick_whatever_the_engine_does(tmp_path: Path, said: str) -> None:
    async def test(app: App) -> None:
        await app.models.load("echo")
        _, reply = await begin(app, said, 0)
        await asyncio.sleep(0.5)
        began = time.monotonic()
        reply.stop()
        await reply.wait()
        assert time.monotonic() - began < 0.5 and reply.status == "stopped"
        began = time.monotonic()
        await app.models.unload("echo")
        assert time.monotonic() - began < 4
        _, after = await begin(app, "hello", 0)
        assert (await after.wait()).text == "hello"

    drive(tmp_path, test)


def test_stop_is_quick_while_the_worker_is_frozen_with_a_long_message_on_its_way(tmp_path: Path) -> None:
    async def test(app: App) -> None:
        await app.models.load("echo")
        app.models.process("echo")._process.send_signal(signal.SIGSTOP)
        _, reply = await begin(app, "word " * 150_000, -1)
        await asyncio.sleep(0.5)
        began = time.monotonic()
        reply.stop()
        await reply.wait()
        assert time.monotonic() - began < 1
        began = time.monotonic()
        await app.models.unload("echo")
        assert time.monotonic() - began < 5

    drive(tmp_path, test)


def test_stop_is_quick_while_an_extension_thinks(tmp_path: Path) -> None:
    extension(tmp_path, "thinker", "@hookimpl\ndef before_reply(turn):\n    time.sleep(4)\n")

    async def test(app: App) -> None:
        _, reply = await begin(app, "hello", -1)
        await asyncio.sleep(0.2)
        began = time.monotonic()
        reply.stop()
        message = await reply.wait()
        assert time.monotonic() - began < 0.5 and message.status == "stopped"

    drive(tmp_path, test)


def test_stop_before_the_first_step_and_twice(tmp_path: Path) -> None:
    async def test(app: App) -> None:
        chat = await talk.create(app)
        chat, reply = await talk.send(app, chat.id, "hello")
        reply.stop()
        reply.stop()
        message = await reply.wait()
        assert message.status == "stopped" and message.text == ""
        chat, again = await talk.continue_(app, chat.id, message.id)
        assert (await again.wait()).text == "hello"

    drive(tmp_path, test)


def test_stop_and_continue_at_once_neither_loses_nor_doubles_a_word(tmp_path: Path) -> None:
    async def test(app: App) -> None:
        chat, reply = await begin(app, "/tokens 120 /speed 150 x", 4)
        for _ in range(6):
            reply.stop()
            chat, reply = await talk.continue_(app, chat.id, reply.id)
            while reply.tokens < 4 and not reply.done:
                await reply.changed(reply.number, 1)
        message = await reply.wait()
        _, whole = await begin(app, "/tokens 120 /speed 0 x", 0)
        assert message.status == "done" and message.text == (await whole.wait()).text
        assert app.chats.open(chat.id)[message.id].text == message.text

    drive(tmp_path, test)


def test_a_cancelled_job_that_waits_for_its_turn_is_never_written(tmp_path: Path) -> None:
    async def test(app: App) -> None:
        app.models.save_settings("echo", options={"parallel": 1})
        await app.models.load("echo")
        _, first = await begin(app, "/hang 5 /tokens 9 /speed 0 x", 0)
        await asyncio.sleep(0.3)  # the worker hears nothing new now
        _, second = await begin(app, "/tokens 100000 /speed 20 x", -1)
        await asyncio.sleep(0.1)
        second.stop()
        await second.wait()
        assert second.status == "stopped" and not second.text
        first.stop()
        await first.wait()

    drive(tmp_path, test)


# ---- extensions


def test_an_extension_that_fails_stands_in_the_notes_of_the_stored_reply(tmp_path: Path) -> None:
    extension(
        tmp_path,
        "clumsy",
        """
        @hookimpl
        def before_reply(turn):
            raise RuntimeError("no before")

        @hookimpl
        def after_reply(message):
            raise RuntimeError("no after")
        """,
    )

    async def test(app: App) -> None:
        chat, reply = await begin(app, "hello", 0)
        await reply.wait()
        await reply.settled()
        notes = app.chats.open(chat.id)[reply.id].details["notes"]
        assert "clumsy" in notes[0] and "no before" in notes[0]
        assert "no after" in notes[1]

    drive(tmp_path, test)


def test_an_extension_that_changes_the_model_is_believed(tmp_path: Path) -> None:
    extension(tmp_path, "chooser", "@hookimpl\ndef before_reply(turn):\n    return replace(turn, model='nowhere')\n")

    async def test(app: App) -> None:
        _, reply = await begin(app, "hello", 0)
        message = await reply.wait()
        assert message.status == "failed" and "no model 'nowhere'" in message.error and message.model == "nowhere"

    drive(tmp_path, test)


# ---- saving


def test_what_is_written_is_on_the_disk_within_a_second(tmp_path: Path) -> None:
    async def test(app: App) -> None:
        chat, reply = await begin(app, "/tokens 1000 /speed 200 x")
        with contextlib.closing(sqlite3.connect(tmp_path / "data" / "chats.sqlite3")) as other:
            seen = [(time.monotonic(), reply.text)]
            for _ in range(25):
                await asyncio.sleep(0.1)
                seen.append((time.monotonic(), reply.text))
                (stored,) = other.execute("SELECT text FROM messages WHERE id = ?", (reply.id,)).fetchone()
                old = [text for at, text in seen if at < time.monotonic() - 1.0]
                assert len(stored) >= len(old[-1] if old else "")
        reply.stop()
        assert (await reply.wait()).text == app.chats.open(chat.id)[reply.id].text

    drive(tmp_path, test)


@contextlib.contextmanager
def full_disk(bytes: int) -> Iterator[None]:
    """Files cannot grow beyond this."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_while_writing_is_said_and_the_text_is_saved_later(tmp_path: Path) -> None:
    async def test(app: App) -> None:
        chat, reply = await begin(app, "/tokens 2000 /speed 500 x")
        with full_disk(100_000):
            while not reply.unsaved and not reply.done:
                await reply.changed(reply.number, 1)
            assert "full" in reply.unsaved
            message = await asyncio.wait_for(reply.wait(), 15)
            assert message.status == "done" and reply.unsaved
            with pytest.raises(DiskFull):
                await talk.send(app, chat.id, "and now?")
        await asyncio.wait_for(reply.settled(), 15)
        assert not reply.unsaved
        stored = app.chats.open(chat.id)
        assert stored[reply.id].text == message.text and stored[reply.id].status == "done"
        chat, after = await talk.send(app, chat.id, "and now?")
        await after.wait()
        assert [m.text for m in app.chats.open(chat.id).path()][2:] == ["and now?", "and now?"]

    drive(tmp_path, test)


def test_a_reply_that_could_not_be_saved_can_be_continued_and_stopped_and_deleted(tmp_path: Path) -> None:
    async def test(app: App) -> None:
        chat, reply = await begin(app, "/tokens 2000 /speed 500 x")
        with full_disk(100_000):
            while not reply.unsaved:
                await reply.changed(reply.number, 1)
            reply.stop()
            message = await asyncio.wait_for(reply.wait(), 5)
        chat, more = await talk.continue_(app, chat.id, reply.id)
        longer = await more.wait()
        assert longer.text.startswith(message.text) and len(longer.text) > len(message.text)
        await asyncio.sleep(3.5)  # the first reply must not save its older text over that
        assert app.chats.open(chat.id)[reply.id].text == longer.text
        await asyncio.wait_for(talk.delete(app, chat.id, chat.path()[0].id), 5)

    drive(tmp_path, test)


def test_a_locked_database_holds_up_neither_the_words_nor_stop(tmp_path: Path) -> None:
    async def test(app: App) -> None:
        await app.models.load("echo")
        chat, first = await begin(app, "hello", 0)
        await first.wait()
        chat, reply = await talk.send(app, chat.id, "/prefill 0.5 /tokens 500 /speed 100 x")
        with contextlib.closing(sqlite3.connect(tmp_path / "data" / "chats.sqlite3", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            began = time.monotonic()
            while reply.tokens < 20:
                await reply.changed(reply.number, 1)
            assert time.monotonic() - began < 2.5
            reply.stop()
            began = time.monotonic()
            while not reply.done:
                await reply.changed(reply.number, 1)
            assert time.monotonic() - began < 7
            other.execute("ROLLBACK")
        await reply.wait()
        await asyncio.wait_for(reply.settled(), 15)
        assert not reply.unsaved and app.chats.open(chat.id)[reply.id].text == reply.text

    drive(tmp_path, test)


def test_the_last_words_are_never_overwritten_by_earlier_ones(tmp_path: Path) -> None:
    async def test(app: App) -> None:
        await app.models.load("echo")
        replies = [(await begin(app, f"/tokens {70 + n} /speed 140 x", 0)) for n in range(8)]
        for chat, reply in replies:
            message = await reply.wait()
            stored = app.chats.open(chat.id)[reply.id]
            assert (stored.status, stored.text) == ("done", message.text)
        await asyncio.sleep(0.3)
        for chat, reply in replies:
            assert app.chats.open(chat.id)[reply.id].status == "done"

    drive(tmp_path, test)


# ---- the end of the program


@pytest.mark.parametrize("moment", ["set up", "loading", "prompt", "writing", "last save", "stopping"])
def test_the_app_closes_in_every_state_and_everything_is_stored(tmp_path: Path, moment: str) -> None:
    kept: list[tuple[str, str, str]] = []

    async def test(app: App) -> None:
        if moment == "loading":
            app.models.save_settings("echo", options={"load_seconds": 30})
        said = {"prompt": "/prefill 20 x", "last save": "/tokens 3 /speed 0 x"}.get(moment, "/tokens 900 /speed 300 x")
        chat, reply = await begin(app, said, 5 if moment in ("writing", "stopping") else -1)
        if moment in ("loading", "prompt"):
            await asyncio.sleep(0.6)
        if moment == "last save":
            while not reply.done:
                await reply.changed(reply.number, 1)
        if moment == "stopping":
            reply.stop()
        began = time.monotonic()
        await app.close()
        assert time.monotonic() - began < 5
        kept.append((chat.id, reply.id, reply.text))
        assert reply.done and not reply.unsaved
        with pytest.raises(Busy):
            app.reply(Turn(()))
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert len(left) == 1, left  # the one that waits for this test

    drive(tmp_path, test)

    async def again(app: App) -> None:
        assert not app.notices
        chat, reply, text = kept[0]
        message: Message = app.chats.open(chat)[reply]
        ended = {"last save": "done", "stopping": "stopped"}.get(moment, "interrupted")
        assert (message.status, message.text) == (ended, text)

    drive(tmp_path, again)


def test_a_data_folder_that_takes_no_logs_still_runs_models(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "logs").write_text("a file where the folder should be")

    async def test(app: App) -> None:
        _, reply = await begin(app, "hello", 0)
        message = await reply.wait()
        assert message.status == "done" and message.text == "hello", message.error

    drive(tmp_path, test)


def test_a_store_that_became_read_only_still_shows_the_reply(tmp_path: Path) -> None:
    async def test(app: App) -> None:
        chat, reply = await begin(app, "/tokens 300 /speed 200 x")
        app.chats._database.readonly = "The folder cannot be written: chats can be read, not saved."
        message = await asyncio.wait_for(reply.wait(), 10)
        assert message.status == "done" and len(message.text) > 100 and "cannot be written" in reply.unsaved
        await asyncio.wait_for(reply.settled(), 2)  # nobody tries again and again
        with pytest.raises(StoreError):
            await talk.send(app, chat.id, "more")
        assert app.chats.open(chat.id).path()

    drive(tmp_path, test)


def test_errors_of_two_tabs_are_conflicts(tmp_path: Path) -> None:
    async def test(app: App) -> None:
        chat, reply = await begin(app, "one", 0)
        await reply.wait()

        async def tab(text: str) -> str:
            try:
                _, mine = await talk.send(app, chat.id, text)
            except Conflict:
                return "conflict"
            except PatchbayError as error:
                return error.code
            await mine.wait()
            return "said"

        results = await asyncio.gather(*(tab(f"tab {n}") for n in range(5)))
        assert results.count("said") == 1 and results.count("conflict") == 4
        stored = [m.text for m in app.chats.open(chat.id).messages.values() if m.role == "user"]
        assert len(stored) == 2  # what was refused is not stored

    drive(tmp_path, test)
