"""The tabs' forms and what they say, without a browser."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import gradio as gr
import pytest

from tests.runtime.driving import drive
from webui.core.errors import SettingError, TemplateError
from webui.core.fields import describe
from webui.core.settings import GenerationSettings
from webui.runtime.app import App
from webui.ui.panels import build
from webui.ui.panels.facts import check_template
from webui.ui.panels.forms import Form, component, parsed, shown
from webui.ui.panels.handlers import Notebook, keep, new_chat
from webui.ui.panels.view import MEANINGS, View, settings_now

pytestmark = pytest.mark.filterwarnings("ignore")  # Gradio's own
T = TypeVar("T")
SETTINGS = describe(GenerationSettings)


def in_blocks(make: Callable[[], T]) -> T:
    """What is made inside of Blocks; on a loop, which Gradio would otherwise make and leave open."""

    async def run() -> T:
        with gr.Blocks(analytics_enabled=False):
            return make()

    return asyncio.run(run())


@pytest.fixture(scope="module")
def form() -> Form:
    return in_blocks(lambda: Form(GenerationSettings))


@pytest.mark.parametrize("name", list(SETTINGS))
def test_what_a_form_shows_is_read_back_as_it_was(name: str) -> None:
    s = SETTINGS[name]
    assert parsed(s, shown(s, s.default)) == s.default


def test_lists_and_mappings_keep_line_breaks_quotes_and_backslashes() -> None:
    stop = SETTINGS["stop"]
    for value in (("\n\n", '"', "\\n", "a b", "\t"), ()):
        assert parsed(stop, shown(stop, value)) == value
    bias = SETTINGS["logit_bias"]
    assert parsed(bias, shown(bias, {"15339": 2.0, ' "hi"\n': -5.5})) == {"15339": 2.0, ' "hi"\n': -5.5}


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("temperature", float("nan"), "temperature is nan. It takes 0 to 1000."),
        ("temperature", 5000, "temperature is 5000.0. It takes 0 to 1000."),
        ("top_k", 1.5, "top_k is 1.5. It takes a whole number."),
        ("logit_bias", "{oops", "logit_bias is not JSON"),
        ("logit_bias", '{"a": "b"}', "It takes a mapping of text to numbers."),
        ("logit_bias", "[" * 100_000, "logit_bias is not JSON"),
        ("sampler_order", "top_k\ntop_q", "Did you mean"),
        ("sampler_order", "top_k\ntop_k", "names 'top_k' twice"),
        ("stop", "\\", "Write a backslash as"),
    ],
)
def test_wrong_input_is_refused_with_the_field_and_what_it_takes(name: str, value: Any, said: str) -> None:
    with pytest.raises(SettingError) as caught:
        parsed(SETTINGS[name], value)
    assert said in str(caught.value)


def test_a_value_beyond_what_the_form_offers_is_shown_as_it_is() -> None:
    for name, value in (("temperature", 20.0), ("max_tokens", 100_000), ("repetition_penalty", 5.0)):
        box = in_blocks(partial(component, SETTINGS[name], value, "x"))
        assert isinstance(box, gr.Number) and box.value == value and shown(SETTINGS[name], value) == value
    assert isinstance(
        in_blocks(lambda: component(SETTINGS["top_p"], 0.5, "x")), gr.Slider
    )  # nothing is valid outside of its range


def test_every_group_says_what_it_is_for(form: Form) -> None:
    assert set(form.groups) == set(MEANINGS)


def test_an_update_holds_only_what_the_page_does_not_show_yet() -> None:
    note = in_blocks(lambda: Notebook(["a", "b"]))
    first = note.write("", {"a": {"value": 1, "info": "x"}, "b": {"value": 2}})
    assert first[0]["value"] == 1 and first[1]["value"] == 2
    again = note.write(first[-1], {"a": {"value": 1, "info": "y"}, "b": {"value": 2}})
    assert again[0] == gr.update(info="y") and again[1] == gr.skip()
    by_hand = note.write(note.noted(again[-1], "b", 7), {"b": {"value": 7}})
    assert by_hand[1] == gr.skip()
    refused = note.write(note.noted(again[-1], "b", 9), {"b": {"value": 7}})
    assert refused[1]["value"] == 7
    assert note.write("no json", {"a": {"value": 1}})[0]["value"] == 1


def test_the_view_tells_neutral_preset_and_changed_values_apart(tmp_path: Path, form: Form) -> None:
    async def test(app: App) -> None:
        await keep(app, None, preset="Balanced", settings={"temperature": 1.5})
        look = (await View.of(app, form, None)).everything("", "All")
        assert "pb-changed" in look["temperature"]["elem_classes"]
        assert look["temperature"]["info"].endswith("the preset has 0.7.") or "No effect" in look["temperature"]["info"]
        assert "pb-set" in look["top_p"]["elem_classes"] and "pb-set" not in look["skew"]["elem_classes"]
        assert look["group Shape"]["label"].endswith("1 changed")
        assert look["undo"] == {"value": "Undo 1 change", "interactive": True}
        assert look["temperature"]["interactive"] is False  # echo draws nothing
        assert "51 settings have no effect with echo" in look["about"]["value"]
        some = (await View.of(app, form, None)).fitting("", "Changed", ())
        assert [n for n in form.components if some[n]["visible"]] == ["temperature"]
        assert some["group Shape"] == {"visible": True, "open": True}
        found = (await View.of(app, form, None)).fitting("min p", "All", ())
        assert found["min_p"]["visible"] and not found["temperature"]["visible"]
        none = (await View.of(app, form, None)).fitting("zebra", "All", ())
        assert none["nothing"]["visible"]

    drive(tmp_path, test)


def test_a_preset_that_is_damaged_or_gone_is_said_with_what_takes_its_place(tmp_path: Path, form: Form) -> None:
    async def test(app: App) -> None:
        app.presets.own.mkdir(parents=True, exist_ok=True)
        (app.presets.own / "Hurt.yaml").write_text("settings:\n  temperature: [1\n")
        await keep(app, None, preset="Hurt", settings={})
        assert settings_now(app, None) == app.presets.settings("Balanced")
        look = (await View.of(app, form, None)).everything("", "All")
        assert "is damaged" in look["about"]["value"] and "Line" in look["about"]["value"]
        assert ["Hurt (yours, damaged)", "Hurt"] in look["preset"]["choices"]
        await keep(app, None, preset="Lost", settings={})
        look = (await View.of(app, form, None)).everything("", "All")
        assert (
            "Lost is gone; Balanced takes its place" in look["about"]["value"]
            and ["Lost (gone)", "Lost"] in look["preset"]["choices"]
        )
        assert new_chat(app)["preset"] == "Lost"

    drive(tmp_path, test)


def test_a_chat_template_with_an_error_is_refused_with_its_line() -> None:
    check_template("{% for m in messages %}{% if loop.first %}{% continue %}{% endif %}{{ m }}{% endfor %}")
    with pytest.raises(TemplateError, match="line 2"):
        check_template("a\n{% for %}")


def test_the_tabs_need_no_script_of_their_own_and_say_when_extensions_are_left_out(tmp_path: Path) -> None:
    async def test(app: App) -> None:
        config = build(app).get_config_file()
        assert not any(part.get("js") for part in config["dependencies"])
        kinds = {part["type"] for part in config["components"]}
        assert not kinds & {"html", "state", "dataframe"}
        assert "stylesheets" not in json.dumps(config) or not any("//" in s for s in config.get("stylesheets", []))
        assert "--no-extensions" not in json.dumps(config["layout"])

    drive(tmp_path, test)
