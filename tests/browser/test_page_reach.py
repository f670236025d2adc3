"""Everybody can use the page: keyboard alone, screen readers, dark, small, right to left."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import expect

ROOT = Path(__file__).parents[2]

UNNAMED = """[...document.querySelectorAll('button, a[href], input, textarea, [role=tab], [role=menuitem]')]
  .filter(e => e.checkVisibility() && !e.closest('gradio-app'))
  .filter(e => !(e.getAttribute('aria-label') || e.labels?.[0]?.textContent || e.textContent).trim())
  .map(e => e.outerHTML.slice(0, 120))"""

CONTRAST = """() => {
  const context = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
  const rgb = color => {
    context.clearRect(0, 0, 1, 1);
    context.fillStyle = color;
    context.fillRect(0, 0, 1, 1);
    return [...context.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const light = color => {
    const [r, g, b] = rgb(color).map(v => v / 255).map(v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
    return .2126 * r + .7152 * g + .0722 * b;
  };
  const of = name => getComputedStyle(document.documentElement).getPropertyValue('--pb-' + name).trim();
  const ratio = ([ink, ground]) => {
    const [x, y] = [light(of(ink)), light(of(ground))].sort((p, q) => q - p);
    return (x + .05) / (y + .05);
  };
  const grounds = ['bg', 'side', 'raised', 'sunk', 'user', 'hover', 'accent-soft'];
  const pairs = grounds.flatMap(g => [['text', g], ['muted', g]]);
  pairs.push(...['bg', 'side', 'raised', 'accent-soft'].map(g => ['accent', g]));
  pairs.push(['accent-ink', 'accent'], ['danger', 'danger-soft'], ['danger', 'raised'], ['warn', 'warn-soft']);
  pairs.push(['warn', 'raised'], ['text', 'mark']);
  const faint = pairs.filter(pair => ratio(pair) < 4.5);
  return ratio(['control', 'bg']) < 3 ? [...faint, 'control'] : faint;
}"""


def test_a_whole_conversation_needs_no_mouse(chat):
    keys = chat.page.keyboard
    keys.type("/speed 0 one")
    keys.press("Shift+Enter")
    keys.type("more")
    expect(chat.box).to_have_value("/speed 0 one\nmore")
    keys.press("Enter")
    chat.wait()
    keys.press("ArrowUp")
    expect(chat.page.get_by_label("Your message", exact=True)).to_be_focused()
    keys.press("Control+a")
    keys.type("/speed 0 two")
    keys.press("Control+Enter")
    expect(chat.last.locator(".body")).to_have_text("two")
    chat.wait()
    keys.press("Tab")
    chat.last.get_by_role("button", name="Regenerate").focus()
    keys.press("Enter")
    expect(chat.last.locator(".version")).to_have_text("2/2")
    chat.wait()
    keys.press("Alt+ArrowLeft")
    expect(chat.last.locator(".version")).to_have_text("1/2")
    keys.press("Alt+ArrowRight")
    expect(chat.last.locator(".version")).to_have_text("2/2")
    keys.press("Control+Shift+O")
    expect(chat.page.locator("#empty")).to_be_visible()
    expect(chat.box).to_be_focused()
    keys.insert_text("/speed 20 " + "slow " * 200)
    keys.press("Enter")
    expect(chat.last.locator(".body")).to_contain_text("slow")
    keys.press("Escape")
    chat.wait("stopped")


def test_menus_and_tabs_are_walked_with_arrows(chat):
    chat.page.locator("#choose-preset").focus()
    chat.page.keyboard.press("Enter")
    expect(chat.page.get_by_role("menu")).to_be_visible()
    chat.page.keyboard.press("ArrowDown")
    expect(chat.page.locator("[role=menu] :focus")).to_have_count(1)
    chat.page.keyboard.press("Escape")
    expect(chat.page.get_by_role("menu")).to_have_count(0)
    expect(chat.page.locator("#choose-preset")).to_be_focused()
    chat.page.get_by_role("tab", name="Chat").focus()
    chat.page.keyboard.press("ArrowRight")
    expect(chat.page.get_by_role("tab", name="Parameters")).to_be_focused()
    expect(chat.page.locator("#panel-host")).to_be_visible()
    chat.page.keyboard.press("Home")
    expect(chat.page.locator("#chat")).to_be_visible()


def test_the_skip_link_leads_to_the_message_box(chat):
    first = "[...document.querySelectorAll('a[href], button, input, textarea, [tabindex]')].find(e => e.tabIndex >= 0)"
    assert chat.page.evaluate(f"(() => {{ const e = {first}; e.focus(); return e.id; }})()") == "skip"
    expect(chat.page.get_by_role("link", name="Skip to the message box")).to_be_in_viewport()
    chat.page.keyboard.press("Enter")
    expect(chat.box).to_be_focused()


def test_the_keys_of_the_readme_are_those_of_the_page(chat):
    chat.page.keyboard.press("Control+/")
    dialog = chat.page.get_by_role("dialog", name="Keys")
    shown = dialog.locator("dt").all_inner_texts(), dialog.locator("dd").all_inner_texts()
    page = {re.sub(r"[\s+]", "", keys): does for keys, does in zip(*shown, strict=True)}
    section = (ROOT / "README.md").read_text(encoding="utf-8").split("## Keys")[1].split("##")[0]
    rows = [line.strip("| \n").split(" | ") for line in section.splitlines() if line.startswith("| ")][1:]
    readme = {re.sub(r"[\s+]", "", keys.replace(", in an empty box", "")): does for keys, does in rows}
    assert {k: v.replace(" (in an empty box)", "") for k, v in page.items()} == readme


def test_every_control_has_a_name(chat):
    chat.ask("/speed 0 hello\n\n```py\nx\n```")
    assert chat.page.evaluate(UNNAMED) == []
    chat.page.get_by_role("button", name="Chat settings").click()
    assert chat.page.evaluate(UNNAMED) == []
    chat.page.keyboard.press("Control+k")
    assert chat.page.evaluate(UNNAMED) == []


def test_the_parts_of_the_page_are_landmarks(chat):
    for role, name in (("complementary", "Chats"), ("navigation", "All chats"), ("tablist", "Parts of Patchbay")):
        expect(chat.page.get_by_role(role, name=name)).to_be_visible()
    chat.ask("/speed 0 hello")
    expect(chat.page.get_by_role("article", name=re.compile("^You"))).to_have_count(1)
    assert chat.page.evaluate("document.documentElement.lang") == "en"


def test_a_screen_reader_hears_start_and_end_but_not_each_token(chat):
    chat.page.evaluate("""() => {
      window.heard = [];
      for (const place of document.querySelectorAll('[aria-live], [role=status], [role=log]'))
        new MutationObserver(() => {
          const text = place.textContent.trim();
          if (text && place.checkVisibility()) window.heard.push(text);
        }).observe(place, { childList: true, subtree: true, characterData: true });
    }""")
    chat.ask("/speed 200 /tokens 100")
    expect(chat.page.locator("#announcer")).to_have_text("Reply finished")
    heard = [t for t in chat.page.evaluate("window.heard") if "eading" not in t]
    assert heard == ["Reply started", "Reply finished"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_keep_their_contrast(new_chat, scheme):
    chat = new_chat(color_scheme=scheme).open()
    assert chat.page.evaluate(CONTRAST) == []


def test_light_and_dark_follow_the_system_until_chosen(new_chat):
    chat = new_chat(color_scheme="dark").open()
    expect(chat.page.locator("html")).to_have_attribute("data-theme", "dark")
    chat.page.get_by_role("button", name="Colours").click()
    chat.page.get_by_role("menuitemradio", name="Light").click()
    expect(chat.page.locator("html")).to_have_attribute("data-theme", "light")
    chat.page.reload()
    expect(chat.page.locator("html")).to_have_attribute("data-theme", "light")
    chat.page.get_by_role("button", name="Colours").click()
    chat.page.get_by_role("menuitemradio", name="Like the system").click()
    expect(chat.page.locator("html")).to_have_attribute("data-theme", "dark")


def test_a_phone_shows_everything_without_moving_sideways(new_chat):
    chat = new_chat(viewport={"width": 390, "height": 800}, has_touch=True, is_mobile=True).open()
    chat.ask(
        "/speed 0 /say "
        + "verylongword" * 20
        + "\n\n```\n"
        + "x" * 300
        + "\n```\n\n"
        + "|a" * 20
        + "|\n"
        + "|-" * 20
        + "|\n\n$$"
        + "x+" * 80
        + "y$$"
    )
    assert chat.page.evaluate(
        """() => {
      const scroller = document.getElementById('scroller');
      return [document.documentElement.scrollWidth, scroller.scrollWidth <= scroller.clientWidth];
    }"""
    ) == [390, True]
    expect(chat.box).to_be_in_viewport()
    expect(chat.page.locator("#sidebar")).to_be_hidden()
    chat.page.get_by_role("button", name="Show the list of chats").click()
    expect(chat.page.get_by_role("button", name="New chat", exact=True)).to_be_focused()
    chat.page.keyboard.press("Escape")
    expect(chat.page.get_by_role("button", name="Show the list of chats")).to_be_focused()
    chat.page.get_by_role("button", name="Show the list of chats").click()
    chat.page.locator("#chats a").first.click()
    expect(chat.page.locator("#sidebar")).to_be_hidden()


def test_text_runs_in_its_own_direction(chat):
    chat.ask("/speed 0 /say مرحبا بالعالم\n\nHello again")
    directions = chat.last.locator(".block > *").evaluate_all("all => all.map(e => getComputedStyle(e).direction)")
    assert directions == ["rtl", "ltr"]


def test_nothing_moves_for_who_asked_for_that(new_chat):
    chat = new_chat(reduced_motion="reduce").open()
    chat.say("/prefill 5 hello")
    expect(chat.page.locator("#work")).to_be_visible()
    waiting = "getComputedStyle(document.querySelector('article.last .body'), '::after').animationIterationCount"
    assert chat.page.evaluate(waiting) == "1"
    chat.page.keyboard.press("Escape")
    chat.wait("stopped")
