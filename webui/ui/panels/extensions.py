"""The Extensions tab: what is there, switched on or off, with its settings, its panel and its failures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gradio as gr

from webui.core.errors import PatchbayError
from webui.core.fields import build as checked
from webui.core.fields import values
from webui.ui.panels.forms import Form
from webui.ui.panels.handlers import on
from webui.ui.panels.words import quiet

if TYPE_CHECKING:
    from webui.runtime.app import App

TITLE = "Extensions"


def build(app: App, blocks: gr.Blocks, refresh: gr.Button) -> None:
    """Lay the tab out and bind it."""
    gr.Markdown(
        "An extension is a Python file or package in `extensions/`, in the data folder's `extensions/`, or an "
        "installed package. It runs with your rights. One that fails three times is switched off; replies go on."
    )
    switches = gr.CheckboxGroup([], label="Switched on", elem_id="extension-switches")
    table = gr.Markdown(elem_id="extension-list")
    with gr.Accordion("What went wrong", open=False):
        problems = gr.Textbox(label="Failures, newest first", lines=8, max_lines=24, interactive=False)

    async def show() -> list[Any]:
        await app.call(app.plugins.refresh)
        records = [r for r in app.plugins.records if r.kind == "extension"]
        choices = [(r.name, r.name) for r in records]
        return [
            gr.update(choices=choices, value=[r.name for r in records if r.enabled], visible=bool(records)),
            _table(app),
            "\n\n".join(str(p) for p in app.plugins.problems) or "Nothing.",
        ]

    async def switch(chosen: list[str]) -> list[Any]:
        for record in [r for r in app.plugins.records if r.kind == "extension"]:
            if record.enabled != (record.name in chosen):
                change = app.plugins.enable if record.name in chosen else app.plugins.disable
                try:
                    await app.call(change, record.name)
                except PatchbayError as error:
                    gr.Warning(str(error))
        app.plugins_changed()
        return await show()

    outputs = [switches, table, problems]
    on(blocks.load, show, None, outputs)
    on(refresh.click, show, None, outputs)
    on(switches.input, switch, [switches], outputs)
    _settings(app)
    _panels(app)


def _table(app: App) -> str:
    rows = ["| | what it does | where from | state |", "|---|---|---|---|"]
    for r in app.plugins.records:
        state = "on" if r.enabled else "off"
        if r.error:
            state = "failed: " + quiet(r.error)
        version = f" {quiet(r.version)}" if r.version else ""
        rows.append(f"| **{quiet(r.name)}**{version} | {quiet(r.description)} | {quiet(str(r.origin))} | {state} |")
    return "\n".join(rows)


def _settings(app: App) -> None:
    """A form for the settings of each extension that has some."""
    for name, cls in app.plugins.collect("register_settings"):
        with gr.Accordion(f"Settings of {name}", open=False):
            form = Form(cls, values(app.settings.get(cls)))
            save = gr.Button("Save")

            async def keep(*given: Any, form: Form = form, cls: type = cls, name: str = name) -> None:
                read = form.read(dict(zip(form.components, given, strict=True)))
                await app.call(app.settings.set, checked(cls, read))
                gr.Info(f"Saved for {name}.")

            on(save.click, keep, list(form.components.values()))


def _panels(app: App) -> None:
    """The panels that extensions build, each in a part of its own."""
    names = app.plugins.names("build_panel")
    for name in names:
        with gr.Accordion(name, open=False):
            app.plugins.call(name, "build_panel", app=app)
