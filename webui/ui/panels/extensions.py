"""The Extensions tab: what is there, switched on or off, with its settings, its panel and its failures."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any

import gradio as gr

from webui.core.errors import PatchbayError
from webui.core.fields import build as checked
from webui.core.fields import describe, values
from webui.ui.panels.forms import Form
from webui.ui.panels.handlers import Notebook, on
from webui.ui.panels.words import quiet

if TYPE_CHECKING:
    from webui.runtime.app import App
    from webui.runtime.plugins.records import Record

TITLE = "Extensions"


def build(app: App, refresh: gr.Button, blocks: gr.Blocks) -> None:
    """Lay the tab out and bind it."""
    with gr.Row(elem_classes="pb-line"):
        gr.Markdown("## Extensions", elem_classes="pb-grow")
        look = gr.Button("Refresh", size="sm", elem_id="extension-refresh")
    folder = app.config.data / "extensions"
    gr.Markdown(
        f"A Python file or package in `{folder}`, or an installed package. It runs with your rights; one that fails "
        "three times is switched off, and replies go on.",
        elem_classes="pb-quiet",
    )
    safe = gr.Markdown(elem_id="extension-safe", elem_classes="pb-note", visible=False)
    switches = gr.CheckboxGroup(
        [], label="Switched on", show_label=False, elem_id="extension-switches", elem_classes="pb-list"
    )
    none = gr.Markdown("There is none yet.", visible=False)
    failures = gr.Markdown(elem_id="extension-failures")
    on_now = gr.Textbox("", visible="hidden", container=False, label="Extensions that are on")
    parts: dict[str, Any] = {"safe": safe, "switches": switches, "none": none, "failures": failures, "on": on_now}

    def forms(noted: str) -> None:
        """What the extensions that are on bring along; drawn anew when they are others."""
        for name, cls in app.plugins.collect("register_settings"):
            _settings(app, name, cls)
        for name in app.plugins.names("build_panel"):
            with gr.Accordion(f"Panel of {name}", open=True, elem_id=f"panel-of-{name}"):
                app.plugins.call(name, "build_panel", app=app)

    gr.render(inputs=[on_now], triggers=[on_now.change], show_progress="hidden")(forms)
    with gr.Accordion("What went wrong", open=False, visible=False, elem_id="extension-problems") as wrong:
        problems = gr.Textbox(
            label="Failures, newest first", show_label=False, lines=6, max_lines=24, interactive=False,
            elem_classes=["pb-tall", "pb-mono"], elem_id="extension-log",
        )  # fmt: skip
    parts |= {"wrong": wrong, "problems": problems}
    note = Notebook(list(parts))
    outputs = [*parts.values(), note.box]

    def situation() -> dict[str, dict[str, Any]]:
        records = [r for r in app.plugins.records if r.kind == "extension"]
        told = "\n\n".join(str(p) for p in app.plugins.problems)
        running = [[r.name, r.version, id(r.module)] for r in records if r.enabled]
        without = "Patchbay was started with --no-extensions: none is on. Start it without that option to use them."
        return {
            "safe": {"value": without, "visible": app.config.no_extensions},
            "switches": {
                "choices": [[_label(r), r.name] for r in records],
                "value": [r.name for r in records if r.enabled],
                "visible": bool(records),
                "interactive": not app.config.no_extensions,
            },
            "none": {"visible": not records},
            "failures": {"value": "\n\n".join(_failure(r) for r in app.plugins.records if r.error)},
            "on": {"value": json.dumps(running)},
            "wrong": {"visible": bool(told)},
            "problems": {"value": told},
        }

    async def show(noted: str) -> list[Any]:
        return note.write(noted, await app.call(situation))

    async def again(noted: str) -> list[Any]:
        await app.call(app.plugins.refresh)
        return await show(noted)

    async def switch(chosen: list[str], noted: str) -> list[Any]:
        for record in [r for r in app.plugins.records if r.kind == "extension"]:
            if record.enabled != (record.name in chosen):
                change = app.plugins.enable if record.name in chosen else app.plugins.disable
                try:
                    await app.call(change, record.name)
                except PatchbayError as error:
                    gr.Warning(str(error))
        app.plugins_changed()
        return await show(note.noted(noted, "switches", chosen))

    on(blocks.load, again, [note.box], outputs)
    on(refresh.click, again, [note.box], outputs)
    on(look.click, again, [note.box], outputs)
    on(switches.input, switch, [switches, note.box], outputs)


def _label(record: Record) -> str:
    named = f"{record.name} {record.version}".strip()
    return " · ".join(part for part in (named, record.description.replace("\n", " "), str(record.origin)) if part)


def _failure(record: Record) -> str:
    state = "left out" if record.status == "left out" else "failed" if record.status == "broken" else record.status
    return f"**{quiet(record.name)}** ({state}): {quiet(record.error)} {quiet(record.hint)}"


def _settings(app: App, name: str, cls: type) -> None:
    """The form for the settings of an extension."""
    if not describe(cls):
        return
    with gr.Accordion(f"Settings of {name}", open=True, elem_id=f"settings-of-{name}"):
        form = Form(cls, values(app.settings.get(cls)), prefix=f"extension-{name}")
        with gr.Row(elem_classes="pb-line pb-end"):
            save = gr.Button("Save", variant="primary", size="sm", elem_id=f"save-{name}")
        on(save.click, partial(_keep, app, name, form), list(form.components.values()))


async def _keep(app: App, name: str, form: Form, *given: Any) -> None:
    read = form.read(dict(zip(form.components, given, strict=True)))
    await app.call(app.settings.set, checked(form.cls, read))
    gr.Info(f"Saved for {name}.")
