"""The tabs beside the chat, as a person uses them: parameters and presets, models, extensions, settings."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator

import pytest
import yaml
from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import Chat, Program
from tests.models import make_folder, make_gguf

SHOUT = '''"""Adds a word to what the model is told."""

from dataclasses import dataclass, replace

from webui import hookimpl, setting

__version__ = "2.1"


@dataclass(frozen=True)
class Shout:
    word: str = setting("please", "What is added.")


@hookimpl
def register_settings():
    return Shout


@hookimpl
def build_panel(app):
    import gradio as gr

    gr.Markdown("A panel of one's own")


@hookimpl
def before_reply(app, turn):
    last = turn.messages[-1]
    said = replace(last, text=last.text + " " + app.settings.get(Shout).word)
    return replace(turn, messages=(*turn.messages[:-1], said))
'''
SHORT = {"max_tokens": 8, "auto_max_tokens": False}
CONTROLS = ("button", "textbox", "spinbutton", "slider", "combobox", "checkbox", "radio", "listbox")
BROKEN = '"""Breaks."""\n\nraise RuntimeError("no luck today")\n'


@pytest.fixture(scope="module")
def program(start_program: Callable[[], Program]) -> Iterator[Program]:
    """A program of its own, since these tests change what all chats use."""
    made = start_program()
    folder = make_folder(made.models / "Tiny")
    make_gguf(folder / "tiny.gguf")
    yield made
    made.stop()


class Panels:
    """The tabs of one page."""

    def __init__(self, chat: Chat) -> None:
        self.chat = chat
        self.page: Page = chat.page

    def open(self, name: str) -> Panels:
        self.page.get_by_role("tab", name=name, exact=True).first.click()
        expect(self.page.locator("#chat" if name == "Chat" else f"#panel-{name.lower()}")).to_be_visible(timeout=20000)
        return self

    def at(self, selector: str) -> Locator:
        return self.page.locator(f"#panels {selector}")

    def number(self, name: str) -> Locator:
        return self.at(f"#setting-{name} input[type=number]")

    def text(self, name: str) -> Locator:
        return self.at(f"#setting-{name} :is(textarea, input)")

    def set(self, box: Locator, value: str) -> None:
        box.fill(value)
        box.blur()

    def choose(self, selector: str, name: str) -> None:
        self.at(f"{selector} input").click()
        self.page.get_by_role("option", name=name).first.click()

    def load(self, name: str, state: str, loader: str = "") -> None:
        self.at("#model-name").get_by_text(name).first.click()
        expect(self.at("#model-name label.selected")).to_contain_text(name)
        if loader:
            self.choose("#model-loader", loader)
        self.at("#model-load").click()
        expect(self.at("#model-state")).to_contain_text(state, timeout=40000)

    @property
    def toast(self) -> Locator:
        return self.page.locator(".toast-body").last

    def opened(self, selector: str) -> None:
        """Open an accordion."""
        self.at(f"{selector} > .label-wrap").click()


@pytest.fixture
def panels(new_chat: Callable[..., Chat], program: Program) -> Panels:
    """A page whose replies are short."""
    file = program.data / "settings.yaml"
    kept = yaml.safe_load(file.read_text()) if file.exists() else {}
    file.write_text(yaml.safe_dump({**kept, "new_chat": {"settings": dict(SHORT)}}))
    return Panels(new_chat(at=program).open())


def test_a_person_adds_a_model_loads_it_and_swaps_the_loader(panels: Panels, program: Program) -> None:
    panels.open("Model")
    names = panels.at("#model-name")
    expect(names).to_contain_text("echo · loaded with echo")
    (program.models / "Broken.gguf").write_bytes(b"GGUF" + bytes(60))
    panels.at("#model-refresh").click()
    expect(names).to_contain_text("Broken · ")
    expect(names).to_contain_text("Tiny · 0.8 MB")

    panels.load("Broken", "Not loaded.")
    expect(panels.at("#model-state")).to_contain_text("GGUF")  # the engine's own words
    panels.load("Tiny", "Loaded with llama.cpp", "llama.cpp")
    expect(panels.at("#model-state")).to_contain_text("Memory in use: weights")
    panels.open("Chat")
    expect(panels.page.locator("#choose-model")).to_contain_text("Tiny")
    panels.chat.ask("hello")

    panels.open("Model")
    panels.choose("#model-loader", "Transformers")
    expect(panels.at("#options-of-huggingface")).to_be_visible()
    panels.at("#model-load").click()
    expect(panels.at("#model-state")).to_contain_text("Loaded with Transformers", timeout=60000)
    expect(names).to_contain_text("Tiny · 0.8 MB · loaded with Transformers")
    panels.open("Chat")
    panels.chat.ask("hello again")
    panels.chat.act("Details")
    expect(panels.page.get_by_role("dialog", name="Details of this reply")).to_contain_text("Transformers")
    panels.page.keyboard.press("Escape")

    panels.open("Model")
    panels.at("#model-unload").click()
    expect(panels.at("#model-state")).to_contain_text("Not loaded. The first message loads it")
    panels.choose("#model-loader", "llama.cpp")
    panels.opened("#engines-part")
    expect(panels.at("#engines")).to_contain_text("ExLlamaV2")
    expect(panels.at("#engines")).to_contain_text("NVIDIA")  # the reason why it cannot run


def test_loading_shows_progress_and_can_be_cancelled_and_options_are_kept(panels: Panels, program: Program) -> None:
    panels.open("Model")
    panels.load("echo", "Loaded with echo")
    panels.opened("#options-of-echo")
    panels.at("#options-of-echo").get_by_text("Pace").click()
    wait = panels.at("#option-echo-load_seconds input[type=number]").first
    panels.set(wait, "30")
    panels.at("#model-load").click()
    expect(panels.at("#model-state")).to_contain_text("Loading")
    expect(panels.at("#model-state progress")).to_be_visible()
    panels.at("#model-cancel").click()
    expect(panels.at("#model-state")).to_contain_text("Loading was cancelled.")
    panels.set(wait, "0.5")
    panels.at("#model-save").click()
    expect(panels.page.get_by_text("Saved for echo.")).to_be_visible()
    kept = yaml.safe_load((program.data / "settings.yaml").read_text())
    assert kept["models"]["echo"]["options"]["echo"] == {"load_seconds": 0.5}
    panels.load("echo", "Loaded with echo")


def test_a_chat_template_is_edited_used_by_the_next_reply_and_given_back(panels: Panels) -> None:
    panels.open("Model")
    panels.load("Tiny", "Loaded with llama.cpp", "llama.cpp")
    panels.opened("#template-part")
    box = panels.at("#model-template textarea")
    assert "start_header_id" in box.input_value()
    box.fill("{% for m in messages %}")
    panels.at("#template-save").click()
    expect(panels.page.get_by_text("The chat template has an error in line 1")).to_be_visible()
    box.fill("{% for m in messages %}<<{{ m.content }}>>{% endfor %}")
    panels.at("#template-save").click()
    expect(panels.at("#template-own")).to_contain_text("Edited")
    panels.open("Chat")
    panels.chat.ask("mind the gap")
    panels.chat.act("Details")
    panels.page.get_by_role("button", name="Show the exact prompt").click()
    expect(panels.page.get_by_text("<<mind the gap>>")).to_be_visible()
    panels.page.keyboard.press("Escape")
    panels.open("Model")
    panels.at("#template-reset").click()
    expect(panels.at("#template-own")).not_to_contain_text("Edited")
    expect(box).not_to_have_value("{% for m in messages %}<<{{ m.content }}>>{% endfor %}")


def test_parameters_are_changed_found_undone_and_saved_as_a_preset(panels: Panels, program: Program) -> None:
    panels.open("Model").load("Tiny", "Loaded with llama.cpp", "llama.cpp")
    panels.open("Chat")
    panels.chat.ask("hello")
    panels.open("Parameters")
    expect(panels.number("temperature")).to_have_value("0.7")
    expect(panels.at("#parameters-about")).to_contain_text("read-only")
    expect(panels.at("#delete-preset")).to_have_count(0)

    panels.set(panels.number("temperature"), "1.35")
    expect(panels.at("#parameters-about")).to_contain_text("Temperature 1.35")
    expect(panels.at("#setting-temperature")).to_contain_text("Changed; the preset has 0.7.")
    expect(panels.at(".pb-group").first).to_contain_text("1 changed")
    panels.set(panels.number("temperature"), "5000")
    expect(panels.toast).to_contain_text("temperature is 5000.0. It takes 0 to 1000.")
    expect(panels.number("temperature")).to_have_value("1.35")
    panels.set(panels.number("temperature"), "20")  # beyond what the form offers, and valid
    expect(panels.at("#parameters-about")).to_contain_text("Temperature 20")

    began = time.monotonic()
    panels.at("#find-setting :is(input, textarea)").fill("logit bias")
    expect(panels.at("#setting-temperature")).to_be_hidden()
    expect(panels.at("#setting-logit_bias")).to_be_visible()
    assert time.monotonic() - began < 3
    panels.set(panels.text("logit_bias"), "{oops")
    expect(panels.at("#setting-logit_bias")).to_contain_text("logit_bias is not JSON")
    expect(panels.text("logit_bias")).to_have_value("")
    panels.at("#find-setting :is(input, textarea)").fill("sampler order")
    panels.set(panels.text("sampler_order"), "top_k\ntop_q")
    expect(panels.at("#setting-sampler_order")).to_contain_text("sampler_order has no 'top_q'. Did you mean")
    panels.at("#find-setting :is(input, textarea)").fill("")

    panels.open("Chat")
    expect(panels.page.locator("#chips")).to_contain_text("temperature 20")
    panels.chat.ask("and now")
    panels.open("Parameters")
    panels.at("#undo-changes").click()
    expect(panels.number("temperature")).to_have_value("0.7")
    panels.at("#make-neutral").click()
    expect(panels.number("temperature")).to_have_value("1")
    panels.set(panels.number("temperature"), "1.2")
    expect(panels.at("#parameters-about")).to_contain_text("Temperature 1.2")
    panels.opened("#save-as")
    name = panels.at("#preset-name :is(input, textarea)")
    name.fill("Balanced")
    panels.at("#save-preset").click()
    expect(panels.toast).to_contain_text("Balanced came with Patchbay and is read-only.")
    name.fill("Warm tea")
    panels.at("#save-preset").click()
    expect(panels.at("#preset-choice input")).to_have_value("Warm tea (yours)")
    expect(panels.number("temperature")).to_have_value("1.2")
    stored = yaml.safe_load((program.data / "presets" / "Warm tea.yaml").read_text())
    assert stored["settings"]["temperature"] == 1.2

    (program.data / "presets" / "Hurt.yaml").write_text("settings:\n  temperature: [1\n")
    panels.open("Chat")
    panels.page.locator("#choose-preset").click()
    expect(panels.page.get_by_role("menuitemradio", name="Warm tea")).to_be_visible()
    panels.page.keyboard.press("Escape")
    panels.open("Parameters")
    expect(panels.at("#parameters-about")).to_contain_text("Damaged: Hurt.")
    panels.choose("#preset-choice", "Hurt (yours, damaged)")
    expect(panels.at("#preset-choice input")).to_have_value("Warm tea (yours)")
    panels.at("#delete-preset").click()
    expect(panels.at("#preset-choice input")).to_have_value("Balanced")
    assert not (program.data / "presets" / "Warm tea.yaml").exists()
    (program.data / "presets" / "Hurt.yaml").unlink()


def test_a_new_chat_begins_with_the_values_set_before_it_was_there(panels: Panels) -> None:
    panels.open("Parameters")
    expect(panels.at("#parameters-heading")).to_contain_text("New chats")
    panels.choose("#preset-choice", "Precise")
    expect(panels.at("#parameters-about")).not_to_contain_text("The default.")
    panels.set(panels.number("top_k"), "33")
    expect(panels.at("#parameters-about")).to_contain_text("33")
    panels.open("Chat")
    expect(panels.page.locator("#choose-preset")).to_contain_text("Precise")
    expect(panels.page.locator("#chips")).to_contain_text("33")
    panels.chat.ask("hello")
    panels.open("Parameters")
    expect(panels.at("#parameters-heading")).not_to_contain_text("New chats")
    expect(panels.at("#preset-choice input")).to_have_value("Precise")
    expect(panels.at("#parameters-about")).to_contain_text("33")


def test_an_extension_is_found_switched_on_set_and_off_again(panels: Panels, program: Program) -> None:
    panels.open("Model").load("echo", "Loaded with echo")
    folder = program.data / "extensions"
    folder.mkdir(exist_ok=True)
    (folder / "shout.py").write_text(SHOUT)
    (folder / "broken.py").write_text(BROKEN)
    panels.open("Extensions")
    switches = panels.at("#extension-switches")
    expect(switches).to_contain_text("Adds a word to what the model is told.")
    switches.get_by_text("shout").click()
    word = panels.at("#extension-shout-word :is(input, textarea)")
    expect(word).to_have_value("please")
    expect(panels.at("#panel-of-shout")).to_contain_text("A panel of one's own")
    word.fill("thanks")
    panels.at("#save-shout").click()
    expect(panels.page.get_by_text("Saved for shout.")).to_be_visible()
    panels.open("Chat")
    panels.chat.ask("good morning")
    assert "good morning thanks" in panels.chat.texts[-1]

    panels.open("Extensions")
    switches.get_by_text("broken").click()
    expect(panels.at("#extension-failures")).to_contain_text("no luck today")
    panels.opened("#extension-problems")
    assert "Traceback" in panels.at("#extension-log textarea").input_value()
    switches.get_by_text("shout").click()
    expect(panels.at("#panel-of-shout")).to_have_count(0)
    panels.open("Chat")
    panels.chat.ask("good night")
    assert "thanks" not in panels.chat.texts[-1]


def test_settings_change_the_colours_at_once_and_show_the_logs(panels: Panels, program: Program) -> None:
    panels.open("Settings")
    root = panels.page.locator("html")
    panels.at("#theme").get_by_text("Dark").click()
    expect(root).to_have_attribute("data-theme", "dark")
    panels.chat.watch.allowed += ["AbortError", "errored out"]  # what Gradio says when its page is left
    panels.page.reload()
    expect(root).to_have_attribute("data-theme", "dark")
    panels.open("Settings")
    panels.at("#theme").get_by_text("Light").click()
    expect(root).to_have_attribute("data-theme", "light")
    expect(panels.at("#folders")).to_contain_text(str(program.data))
    expect(panels.at("#log-text textarea")).to_have_value(re.compile("patchbay.access"))
    panels.choose("#log-name", "model-echo.log")
    expect(panels.at("#log-text textarea")).not_to_have_value(re.compile("patchbay.access"))
    panels.at("#doctor").click()
    expect(panels.at("#doctor-report")).to_be_visible(timeout=30000)
    assert "Python" in panels.at("#doctor-report textarea").input_value()


def test_every_control_has_a_name_and_nothing_is_wider_than_a_phone(
    new_chat: Callable[..., Chat], program: Program
) -> None:
    panels = Panels(new_chat(at=program, viewport={"width": 390, "height": 844}).open())
    for name in ("Parameters", "Model", "Extensions", "Settings"):
        panels.open(name)
        panels.page.wait_for_timeout(300)
        host = panels.page.locator("#panel-host")
        wider = host.evaluate("e => e.scrollWidth - e.clientWidth")
        assert wider <= 0, f"{name} is {wider} px too wide"
        for line in panels.at(f"#panel-{name.lower()}").aria_snapshot().splitlines():
            role = line.strip().removeprefix("- ").rstrip(":")
            assert role.split()[0] not in CONTROLS or '"' in role, f"{name}: {line}"
