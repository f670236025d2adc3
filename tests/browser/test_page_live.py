"""Replies while they are written: stop, reload, second tab, two chats, a lost server."""

from __future__ import annotations

import re
import time

from playwright.sync_api import expect

SLOW = "/speed 25 " + " ".join(f"word{n}" for n in range(400))


def test_stop_keeps_what_was_said_and_is_quick(chat):
    chat.say(SLOW)
    expect(chat.last.locator(".body")).to_contain_text("word5")
    chat.page.get_by_role("button", name="Stop the reply").click()
    chat.wait("stopped")
    said = chat.texts[-1]
    assert "word5" in said and "word399" not in said
    expect(chat.page.locator("#announcer")).to_have_text("Reply stopped")
    last = int(re.findall(r"word(\d+)", said)[-1])
    chat.act("Continue")
    expect(chat.last.locator(".body")).to_contain_text(f"word{last + 3}")
    chat.page.keyboard.press("Escape")
    chat.wait("stopped")


def test_one_can_write_while_the_reply_is_written(chat):
    chat.say(SLOW)
    expect(chat.last.locator(".body")).to_contain_text("word2")
    chat.box.fill("next")
    chat.box.press("Enter")
    expect(chat.page.locator(".toast")).to_contain_text("still being written")
    expect(chat.box).to_have_value("next")
    chat.page.keyboard.press("Escape")
    chat.wait("stopped")


def test_a_reload_picks_the_reply_up_where_it_is(chat):
    chat.say(SLOW)
    expect(chat.last.locator(".body")).to_contain_text("word10")
    chat.page.reload()
    expect(chat.last.locator(".body")).to_contain_text("word10", timeout=1500)
    expect(chat.last.locator(".body")).to_contain_text("word40")
    chat.page.keyboard.press("Escape")
    chat.wait("stopped")
    numbers = [int(n) for n in re.findall(r"word(\d+)", chat.texts[-1])]
    assert numbers == list(range(len(numbers)))


def test_a_second_tab_shows_the_same_reply(chat, new_chat):
    chat.say(SLOW)
    expect(chat.last.locator(".body")).to_contain_text("word3")
    other = new_chat(beside=chat).open(chat.page.url.removeprefix(chat.url))
    expect(other.last.locator(".body")).to_contain_text("word20")
    other.page.get_by_role("button", name="Stop the reply").click()
    other.wait("stopped")
    chat.wait("stopped")
    assert chat.texts == other.texts


def test_two_chats_stream_at_once_and_a_dot_shows_the_other(chat):
    chat.say(SLOW)
    expect(chat.last.locator(".body")).to_contain_text("word2")
    first = chat.page.url
    chat.page.get_by_role("button", name="New chat", exact=True).click()
    chat.say(SLOW.replace("word", "other"))
    expect(chat.last.locator(".body")).to_contain_text("other3")
    expect(chat.page.locator("#chats .pb-dot")).to_have_count(2)
    chat.page.keyboard.press("Escape")
    chat.wait("stopped")
    expect(chat.page.locator("#chats .pb-dot")).to_have_count(1)
    chat.page.goto(first)
    expect(chat.last.locator(".body")).to_contain_text("word20")
    chat.page.keyboard.press("Escape")
    chat.wait("stopped")


def test_an_idle_page_holds_no_connection_and_a_streaming_one_holds_one(chat):
    held: set[str] = set()
    chat.page.on("request", lambda r: held.add(r.url))
    chat.page.on("requestfinished", lambda r: held.discard(r.url))
    chat.page.on("requestfailed", lambda r: held.discard(r.url))
    chat.say(SLOW)
    expect(chat.last.locator(".body")).to_contain_text("word8")
    assert len([url for url in held if "/follow" in url]) == 1
    chat.page.keyboard.press("Escape")
    chat.wait("stopped")
    chat.page.wait_for_timeout(400)
    assert held == set()


def test_reading_further_up_is_not_disturbed_by_the_reply(chat):
    chat.ask("/speed 0 /tokens 600")
    chat.say(SLOW)
    expect(chat.last.locator(".body")).to_contain_text("word3")
    scroller = chat.page.locator("#scroller")
    scroller.hover()
    chat.page.mouse.wheel(0, -900)
    expect(chat.page.get_by_role("button", name="Jump to latest")).to_be_visible()
    before = scroller.evaluate("s => s.scrollTop")
    expect(chat.last.locator(".body")).to_contain_text("word60")
    assert abs(scroller.evaluate("s => s.scrollTop") - before) < 3
    chat.page.get_by_role("button", name="Jump to latest").click()
    expect(chat.last.locator(".pb-actions, .body").last).to_be_in_viewport()
    chat.page.keyboard.press("Escape")
    chat.wait("stopped")


def test_a_long_prompt_shows_how_far_it_is_read_and_can_be_stopped(chat):
    chat.say("/prefill 6 hello")
    expect(chat.page.locator("#work")).to_be_visible()
    expect(chat.page.locator("#work-text")).to_contain_text("eading the prompt")
    begun = time.monotonic()
    chat.page.keyboard.press("Escape")
    chat.wait("stopped")
    assert time.monotonic() - begun < 1.0
    expect(chat.page.locator("#work")).to_be_hidden()


def test_a_page_left_open_goes_on_after_the_program_was_killed_and_started_again(new_chat, start_program):
    program = start_program()
    chat = new_chat(at=program).open()
    chat.watch.allowed += ["ERR_CONNECTION", "ERR_INCOMPLETE", "ERR_EMPTY", "network error", "503"]
    chat.ask("/speed 0 before")
    chat.say(SLOW)
    expect(chat.last.locator(".body")).to_contain_text("word40")
    program.stop(kill=True)
    expect(chat.page.locator("#connection")).to_be_visible()
    expect(chat.box).to_be_editable()
    program.start()
    expect(chat.page.locator("#connection")).to_be_hidden(timeout=15000)
    expect(chat.last).to_have_attribute("data-status", "interrupted")
    assert "word10" in chat.texts[-1]
    chat.last.get_by_role("button", name="Continue").first.click()
    expect(chat.last.locator(".body")).to_contain_text("word60")
    chat.page.keyboard.press("Escape")
    chat.wait("stopped")
    chat.ask("/speed 0 after")
    assert chat.texts[-1] == "after"
