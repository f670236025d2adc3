"""A conversation from the first word to the last arrow."""

from __future__ import annotations

import re
from collections.abc import Callable

from playwright.sync_api import expect


def test_a_message_is_answered_and_stays_after_a_reload(chat):
    chat.ask("/speed 0 Hello **there**, `world`")
    assert chat.texts[-1] == "Hello there, world"
    assert chat.last.locator("strong").inner_text() == "there"
    chat.page.reload()
    expect(chat.last.locator("code")).to_have_text("world")
    assert len(chat.texts) == 2


def test_a_suggestion_starts_a_chat(chat):
    chat.page.get_by_role("button", name="How do I add a model?").click()
    expect(chat.page.locator("article.message")).to_have_count(2)
    expect(chat.page.locator("#chats a[aria-current]")).to_have_count(1)
    chat.wait()
    assert "#/c/" in chat.page.url


def test_code_tables_and_formulas_are_drawn(chat):
    chat.ask("/speed 0 /say ```python\nprint(1)\n```\n\n| a | b |\n|---|--:|\n| 1 | 2 |\n\n$$x^2$$ and $y_1$")
    expect(chat.last.locator("figure.code pre .nb")).to_have_text("print")
    expect(chat.last.locator("td[data-align=right]")).to_have_text("2")
    expect(chat.last.locator(".math .katex")).to_have_count(2)
    chat.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    chat.last.get_by_role("button", name="Copy the code").click()
    expect(chat.page.locator("#announcer")).to_have_text("Copied")
    assert chat.page.evaluate("navigator.clipboard.readText()").strip() == "print(1)"


def test_what_was_streamed_is_what_a_reload_shows(chat):
    chat.ask("/speed 0 /tokens 500")
    draw = """[...document.querySelectorAll('.message.last .body .block')].map(block => {
      const copy = block.cloneNode(true);
      for (const formula of copy.querySelectorAll('.math'))
        formula.replaceWith(formula.querySelector('annotation')?.textContent ?? formula.textContent);
      return copy.textContent.replace(/\\s+/g, ' ').trim();
    })"""
    streamed = chat.page.evaluate(draw)
    chat.page.reload()
    expect(chat.last.locator(".block").last).to_be_visible()
    assert chat.page.evaluate(draw) == streamed
    assert "499" in streamed[-1]


def test_an_edited_message_gets_a_reply_of_its_own_and_arrows_lead_back(chat):
    chat.ask("/speed 0 first")
    user = chat.page.locator("article.user")
    chat.act("Edit", user)
    box = user.get_by_label("Your message", exact=True)
    expect(box).to_have_value("/speed 0 first")
    box.fill("/speed 0 second")
    user.get_by_role("button", name="Save & answer").click()
    expect(chat.last.locator(".body")).to_have_text("second")
    chat.wait()
    expect(user.locator(".version")).to_have_text("2/2")
    chat.act("Previous version", user)
    expect(chat.last.locator(".body")).to_have_text("first")
    expect(user.locator(".version")).to_have_text("1/2")
    chat.act("Next version", user)
    expect(chat.last.locator(".body")).to_have_text("second")


def test_a_reply_can_be_edited_where_it_stands(chat):
    chat.ask("/speed 0 teh answer")
    chat.act("Edit")
    chat.last.get_by_label("The reply", exact=True).fill("the answer")
    chat.last.get_by_role("button", name="Save", exact=True).click()
    expect(chat.last.locator(".body")).to_have_text("the answer")
    expect(chat.last.locator(".version")).to_have_text("2/2")


def test_regenerating_keeps_the_old_reply(chat):
    chat.ask("/speed 0 /random 8")
    first = chat.texts[-1]
    chat.act("Regenerate")
    expect(chat.last.locator(".version")).to_have_text("2/2")
    chat.wait()
    second = chat.texts[-1]
    assert second != first
    chat.act("Previous version")
    expect(chat.last.locator(".body")).to_have_text(first)


def test_arrows_work_on_an_old_message_too(chat):
    chat.ask("/speed 0 one")
    chat.ask("/speed 0 two")
    chat.act("Edit", chat.page.locator("article.user").first)
    chat.page.get_by_label("Your message", exact=True).fill("/speed 0 other")
    chat.page.get_by_role("button", name="Save & answer").click()
    expect(chat.page.locator("article.message")).to_have_count(2)
    chat.wait()
    chat.ask("/speed 0 more")
    chat.act("Previous version", chat.page.locator("article.user").first)
    expect(chat.last.locator(".body")).to_have_text("two")
    assert len(chat.texts) == 4


def test_a_branch_is_a_chat_of_its_own(chat):
    chat.ask("/speed 0 one").ask("/speed 0 two")
    before = chat.page.url
    chat.act("Branch into a new chat", chat.page.locator("article.assistant").first)
    expect(chat.page.locator("article.message")).to_have_count(2)
    assert chat.page.url != before
    chat.ask("/speed 0 three")
    chat.page.goto(before)
    expect(chat.last.locator(".body")).to_have_text("two")


def test_a_deleted_message_comes_back_with_undo(chat):
    chat.ask("/speed 0 one").ask("/speed 0 two")
    chat.act("Delete", chat.page.locator("article.user").last)
    expect(chat.page.locator("article.message")).to_have_count(2)
    undo = chat.page.get_by_role("button", name="Undo")
    expect(undo).to_be_focused()
    undo.press("Enter")
    expect(chat.page.locator("article.message")).to_have_count(4)


def test_a_deleted_chat_comes_back_with_undo(chat):
    chat.ask("/speed 0 keep me please")
    item = chat.page.locator("#chats li").filter(has=chat.page.locator("a[aria-current]"))
    item.hover()
    item.get_by_role("button").click()
    chat.page.get_by_role("menuitem", name="Delete").click()
    expect(chat.page.locator("#empty")).to_be_visible()
    chat.page.get_by_role("button", name="Undo").click()
    expect(chat.last.locator(".body")).to_have_text("keep me please")


def test_a_chat_is_renamed_in_the_list(chat):
    chat.ask("/speed 0 hello")
    chat.page.locator("#chats a[aria-current]").press("F2")
    name = chat.page.get_by_label("Name of the chat")
    name.fill("My own name")
    name.press("Enter")
    expect(chat.page.locator("#chats a[aria-current]")).to_have_text("My own name")
    expect(chat.page).to_have_title(re.compile("^My own name"))


def test_search_finds_a_word_in_another_chat_and_goes_there(chat):
    chat.ask("/speed 0 the quick marmalade fox")
    chat.page.get_by_role("button", name="New chat", exact=True).click()
    chat.page.keyboard.press("Control+k")
    chat.page.get_by_role("combobox", name="Search all chats").fill("marmalade")
    expect(chat.page.locator("#hits mark").first).to_have_text("marmalade")
    chat.page.keyboard.press("Enter")
    expect(chat.last.locator(".body")).to_have_text("the quick marmalade fox")
    expect(chat.page.locator("dialog")).to_have_count(0)


def test_system_prompt_and_start_of_reply_stay_with_their_chat(chat):
    chat.page.get_by_role("button", name="Chat settings").click()
    chat.page.get_by_label("System prompt").fill("Be brief.")
    chat.page.get_by_label("Start reply with").fill("Sure:")
    chat.page.get_by_label("temperature", exact=True).fill("0.5")
    chat.page.keyboard.press("Tab")
    expect(chat.page.locator("#chips li")).to_have_text("temperature 0.5")
    chat.page.keyboard.press("Escape")
    chat.ask("/speed 0 hello")
    assert chat.texts[-1].startswith("Sure:")
    chat.page.reload()
    chat.page.get_by_role("button", name="Chat settings").click()
    expect(chat.page.get_by_label("System prompt")).to_have_value("Be brief.")
    chat.page.get_by_role("button", name="Take back temperature").click()
    expect(chat.page.locator("#chips li")).to_have_count(0)
    chat.page.get_by_role("button", name="New chat", exact=True).click()
    expect(chat.page.get_by_label("System prompt")).to_have_value("")


def test_the_details_of_a_reply_and_its_exact_prompt_can_be_opened(chat):
    chat.ask("/speed 0 hello details")
    chat.act("Details")
    box = chat.page.get_by_role("dialog", name="Details of this reply")
    expect(box).to_contain_text("echo")
    expect(box).to_contain_text("Seed")
    box.get_by_role("button", name="Show the exact prompt").click()
    expect(chat.page.locator("dialog .prompt")).to_contain_text("hello details")
    chat.page.keyboard.press("Escape")
    expect(chat.page.locator("dialog")).to_have_count(0)


def test_a_preset_is_chosen_for_this_chat(chat):
    chat.ask("/speed 0 hello")
    chat.page.locator("#choose-preset").click()
    items = chat.page.get_by_role("menuitemradio")
    name = items.nth(1).locator(".label > span").inner_text()
    items.nth(1).click()
    expect(chat.page.locator("#choose-preset .value")).to_have_text(name)
    chat.page.reload()
    expect(chat.page.locator("#choose-preset .value")).to_have_text(name)


def test_drafts_are_kept_for_each_chat(chat):
    chat.ask("/speed 0 hello")
    chat.box.fill("half a thought")
    chat.page.get_by_role("button", name="New chat", exact=True).click()
    expect(chat.box).to_have_value("")
    chat.page.locator("#chats a").first.click()
    expect(chat.box).to_have_value("half a thought")
    chat.page.reload()
    expect(chat.box).to_have_value("half a thought")


def test_a_failed_reply_says_why_and_can_be_retried(chat):
    chat.say("/speed 0 /fail 3 one two three four five")
    chat.wait("failed")
    expect(chat.last.locator(".mark.error strong")).not_to_be_empty()
    expect(chat.page.locator("#announcer")).to_contain_text("The reply failed.")
    chat.last.get_by_role("button", name="Retry").click()
    expect(chat.last.locator(".version")).to_have_text("2/2")


def test_a_long_history_opens_at_its_end_and_grows_upwards(new_chat: Callable):
    chat = new_chat().open()
    for part in range(10):
        chat.ask(f"/speed 0 /tokens 120\npart {part}")
    chat.page.reload()
    expect(chat.page.locator("article.message")).to_have_count(16)
    expect(chat.last).to_be_in_viewport()
    chat.page.locator("#scroller").evaluate("s => { s.scrollTop = 0; }")
    expect(chat.page.locator("article.message")).to_have_count(20)
    assert chat.page.locator("#scroller").evaluate("s => s.scrollTop") > 100, "what was read has moved"
