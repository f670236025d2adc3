"""A live reply: every viewer sees what was written, in time, whatever happens to the viewers."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from tests.ui.browsing import Page, Stream, browse, eventually, in_background
from webui.ui.page.markdown import render


async def say(page: Page, text: str) -> tuple[str, str]:
    """A new chat in which something was said; its id and the reply's."""
    chat = (await page.post("/ui/chats"))["chat"]["id"]
    told = await page.post(f"/ui/chats/{chat}/send", {"text": text, "parent": ""})
    return chat, told["reply"]["id"]


def test_what_a_viewer_puts_together_is_the_message_as_it_is_stored(tmp_path: Path) -> None:
    async def test(page: Page) -> None:
        text = (
            "# T\n\n- a *b*\n- c 😀\n\n```python\ndef f(): pass\n```\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n$x_1$ 你好"
        )
        chat, reply = await say(page, f"/speed 100 {text}")
        seen = await page.follow(reply)
        opened = await page.get(f"/ui/chats/{chat}")
        assert seen.status == 200 and seen.headers["content-type"].startswith("text/event-stream")
        assert seen.headers["cache-control"] == "no-store" and seen.headers["x-accel-buffering"] == "no"
        assert seen.blocks == opened["messages"][-1]["blocks"] == render(text)
        assert seen.end is not None and "blocks" not in seen.end
        assert {**opened["messages"][-1], **seen.end} == opened["messages"][-1]
        assert seen.end["status"] == "done" and seen.tokens == seen.end["details"]["tokens"]

    browse(tmp_path, test)


def test_two_hundred_tokens_a_second_arrive_in_few_small_messages_and_the_last_one_at_once(tmp_path: Path) -> None:
    async def test(page: Page) -> None:
        _, reply = await say(page, "/tokens 400 /speed 200 words")
        seen = Stream()
        last = 0.0

        def look(stream: Stream) -> bool:
            nonlocal last
            if stream.tokens >= 400 and not last:
                last = time.monotonic()
            return False

        began = time.monotonic()
        await page.follow(reply, stream=seen, until=look)
        took = time.monotonic() - began
        assert seen.tokens == 400
        assert seen.bytes / 400 <= 100
        assert seen.events / took <= 31
        assert last - page.app.replies[reply]._last <= 0.3  # some 40 ms on a machine with nothing else to do

    browse(tmp_path, test)


def test_a_viewer_who_was_cut_off_goes_on_from_the_last_event(tmp_path: Path) -> None:
    async def test(page: Page) -> None:
        chat, reply = await say(page, "/tokens 150 /speed 100 words")
        seen = Stream()
        while seen.end is None:
            step = seen.tokens + 20
            await page.follow(reply, seen.number, seen, until=lambda s, step=step: s.tokens >= step)
        assert seen.wholes == 1
        assert seen.blocks == (await page.get(f"/ui/chats/{chat}"))["messages"][-1]["blocks"]

    browse(tmp_path, test)


def test_a_viewer_from_too_long_ago_gets_everything_anew(tmp_path: Path) -> None:
    async def test(page: Page) -> None:
        _, reply = await say(page, "/tokens 50 /speed 100 words")
        seen = Stream()
        seen.blocks = ["something else"]
        await page.follow(reply, 10**9, seen)
        assert seen.wholes == 1 and "something else" not in seen.blocks and seen.end is not None

    browse(tmp_path, test)


def test_all_viewers_see_the_same_and_closing_ends_nothing(tmp_path: Path) -> None:
    async def test(page: Page) -> None:
        _, reply = await say(page, "/tokens 120 /speed 100 words")
        leaving = page.follow(reply, until=lambda s: s.tokens >= 10)
        first, second, _ = await asyncio.gather(page.follow(reply), page.follow(reply), leaving)
        assert first.blocks == second.blocks and first.end == second.end
        assert first.tokens == 120

    browse(tmp_path, test)


def test_a_reply_that_nobody_watches_is_not_drawn_but_written(tmp_path: Path) -> None:
    async def test(page: Page) -> None:
        _, reply = await say(page, "/tokens 100 /speed 200 words")
        await page.follow(reply, until=lambda s: s.tokens >= 10)
        tasks = len(asyncio.all_tasks())
        await page.app.replies[reply].wait()
        assert len(asyncio.all_tasks()) <= tasks
        late = await page.follow(reply)
        assert late.wholes == 1 and late.end is not None and late.tokens == 100

    browse(tmp_path, test)


def test_a_reload_finds_the_reply_where_it_is_and_gets_only_what_is_new(tmp_path: Path) -> None:
    async def test(page: Page) -> None:
        chat, reply = await say(page, "/tokens 100 /speed 50 words")
        async with in_background(page.follow(reply)):
            await eventually(lambda: page.app.replies[reply].tokens > 20)
            opened = await page.get(f"/ui/chats/{chat}")
            assert opened["reply"]["id"] == reply and opened["reply"]["number"] > 0
            message = opened["messages"][-1]
            assert message["status"] == "streaming" and message["blocks"]
            seen = Stream()
            seen.blocks = message["blocks"]
            await page.follow(reply, opened["reply"]["number"], seen)
        assert seen.wholes == 0
        assert seen.blocks == (await page.get(f"/ui/chats/{chat}"))["messages"][-1]["blocks"]

    browse(tmp_path, test)


def test_a_reply_that_ended_long_ago_is_told_in_one_go(tmp_path: Path) -> None:
    async def test(page: Page) -> None:
        _, reply = await say(page, "hello")
        await page.app.replies[reply].wait()
        del page.app.replies[reply]
        seen = await page.follow(reply)
        assert seen.blocks == ['<p dir="auto">hello</p>'] and seen.end is not None and seen.end["status"] == "done"
        assert (await page.follow("unknown")).status == 404

    browse(tmp_path, test)


def test_thoughts_come_beside_the_answer(tmp_path: Path) -> None:
    async def test(page: Page) -> None:
        chat, reply = await say(page, "<think>\nfirst *this*\n</think>\n\nthen **that**")
        seen = await page.follow(reply)
        message = (await page.get(f"/ui/chats/{chat}"))["messages"][-1]
        assert seen.blocks == message["blocks"] == ['<p dir="auto">then <strong>that</strong></p>']
        assert seen.thought == message["thought"] == ['<p dir="auto">first <em>this</em></p>']

    browse(tmp_path, test)


def test_stopping_is_seen_at_once_and_what_was_said_stays(tmp_path: Path) -> None:
    async def test(page: Page) -> None:
        _, reply = await say(page, "/tokens 2000 /speed 100 words")
        async with in_background(page.follow(reply)) as following:
            await eventually(lambda: page.app.replies[reply].tokens > 20)
            assert await page.post(f"/ui/replies/{reply}/stop") == {"stopped": True}
            stopped = time.monotonic()
            seen = await following
            assert time.monotonic() - stopped < 1.0
        assert seen.end["status"] == "stopped" and seen.blocks
        assert await page.post(f"/ui/replies/{reply}/stop") == {"stopped": False}

    browse(tmp_path, test)


def test_a_reply_that_fails_says_why_and_what_to_do(tmp_path: Path) -> None:
    async def test(page: Page) -> None:
        _, reply = await say(page, "/tokens 50 /speed 100 /fail 10 words")
        seen = await page.follow(reply)
        assert seen.end is not None and seen.end["status"] == "failed" and seen.end["error"]
        assert seen.tokens == 10

    browse(tmp_path, test)


def test_a_silent_reply_keeps_its_connection_with_comments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("webui.ui.page.live.SILENCE", 0.1)

    async def test(page: Page) -> None:
        _, reply = await say(page, "/tokens 3 /speed 2 words")
        seen = await page.follow(reply)
        assert seen.comments >= 3 and seen.tokens == 3 and seen.end is not None

    browse(tmp_path, test)


def test_many_viewers_that_come_and_go_leave_nothing_behind(tmp_path: Path) -> None:
    async def test(page: Page) -> None:
        _, reply = await say(page, "/tokens 2000 /speed 100 words")
        await page.follow(reply, until=lambda s: s.tokens > 0)
        tasks = len(asyncio.all_tasks())
        for _ in range(5):
            await asyncio.gather(*(page.follow(reply, until=lambda s: s.events > 2) for _ in range(8)))
        await asyncio.sleep(0.1)
        assert len(asyncio.all_tasks()) <= tasks
        page.app.replies[reply].stop()
        await page.app.replies[reply].wait()

    browse(tmp_path, test)


def test_hostile_text_streams_as_text(tmp_path: Path) -> None:
    async def test(page: Page) -> None:
        payload = "<img src=x onerror=alert(1)> ![i](http://127.0.0.1:7999/leak) [c](javascript:alert(1))"
        _, reply = await say(page, f"/speed 200 {payload}")
        seen = await page.follow(reply)
        assert "<img" not in "".join(seen.blocks) and "href" not in "".join(seen.blocks)
        assert "remote image blocked: http://127.0.0.1:7999/leak" in seen.blocks[0]

    browse(tmp_path, test)
