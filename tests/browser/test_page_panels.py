"""The tabs beside the chat: panels of another toolkit in the same page."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

SHOWS = {"Parameters": "Temperature", "Model": "Refresh", "Extensions": "xtension", "Settings": "Folders"}


def open_tab(chat, name):
    chat.page.get_by_role("tablist", name="Parts of Patchbay").get_by_role("tab", name=name).click()


def test_each_tab_shows_its_panel_and_the_chat_is_as_it_was(chat):
    chat.ask("/speed 0 hello")
    chat.box.fill("half a thought")
    for name, word in SHOWS.items():
        open_tab(chat, name)
        expect(chat.page.locator("gradio-app").get_by_text(word).locator("visible=true").first).to_be_visible(
            timeout=30000
        )
        expect(chat.page.locator("#chat")).to_be_hidden()
    open_tab(chat, "Chat")
    expect(chat.page.locator("#panel-host")).to_be_hidden()
    expect(chat.box).to_have_value("half a thought")
    expect(chat.last.locator(".body")).to_have_text("hello")


def test_the_panels_are_told_which_chat_is_open(chat):
    chat.ask("/speed 0 hello")
    cookies = {c["name"]: c for c in chat.page.context.cookies()}
    assert cookies["patchbay_chat"]["value"] == chat.page.evaluate("window.patchbay.chat")
    assert cookies["patchbay_chat"]["sameSite"] == "Strict"
    assert chat.page.url.endswith(cookies["patchbay_chat"]["value"])


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_panels_take_the_theme_of_the_page(new_chat, scheme):
    chat = new_chat(color_scheme=scheme).open()
    open_tab(chat, "Settings")
    expect(chat.page.locator("gradio-app").get_by_text("Folders").first).to_be_visible(timeout=30000)
    assert chat.page.evaluate("document.body.classList.contains('dark')") is (scheme == "dark")


def test_the_look_of_the_chat_does_not_change_when_the_panels_come(chat):
    chat.ask("/speed 0 /say Text `code`\n\n# Head\n\n```py\nx = 1\n```\n\n- a\n\n|a|\n|-|\n|1|\n\n> q")
    look = """[...document.querySelectorAll(
      '#chat :is(p, code, pre, h3, li, th, td, blockquote, button, textarea), #sidebar *')]
      .filter(e => e.checkVisibility()).map(e => { const s = getComputedStyle(e), r = e.getBoundingClientRect();
        return [e.tagName, s.font, s.color, s.padding, s.margin, s.border, Math.round(r.width), Math.round(r.height)]
          .join(' '); })"""
    chat.page.mouse.move(5, 5)
    chat.box.focus()
    before = chat.page.evaluate(look)
    open_tab(chat, "Model")
    expect(chat.page.locator("gradio-app").get_by_text("Unload").first).to_be_visible(timeout=30000)
    open_tab(chat, "Chat")
    chat.page.mouse.move(5, 5)
    chat.box.focus()
    after = chat.page.evaluate(look)
    assert [pair for pair in zip(before, after, strict=True) if pair[0] != pair[1]] == []


def test_panels_and_chat_go_on_after_the_program_was_started_again(new_chat, start_program):
    program = start_program()
    chat = new_chat(at=program).open()
    chat.watch.allowed += ["ERR_", "network error", "503", "Failed to fetch", "Connection errored out"]
    chat.ask("/speed 0 before")
    open_tab(chat, "Settings")
    expect(chat.page.locator("gradio-app").get_by_text("Folders").first).to_be_visible(timeout=30000)
    open_tab(chat, "Chat")
    program.stop(kill=True)
    chat.say("not lost")
    expect(chat.page.locator("#connection")).to_be_visible()
    expect(chat.box).to_have_value("not lost")
    program.start()
    expect(chat.page.locator("#connection")).to_be_hidden(timeout=15000)
    chat.ask("/speed 0 after")
    assert chat.texts[-1] == "after"
    open_tab(chat, "Settings")
    expect(chat.page.locator("gradio-app").get_by_text("Folders").first).to_be_visible(timeout=30000)
