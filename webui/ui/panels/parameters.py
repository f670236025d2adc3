"""The Parameters tab: every sampling setting of the chat on the page, and presets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gradio as gr

from webui.core.errors import PatchbayError, PresetError, SettingError
from webui.core.fields import describe, plain, sparse
from webui.core.settings import GenerationSettings
from webui.ui.panels.forms import FREE, Form, emptied, parsed, settled
from webui.ui.panels.handlers import Notebook, current_chat, keep, new_chat, on
from webui.ui.panels.view import MEANINGS, SHOWN, View, presets_now, settings_now

if TYPE_CHECKING:
    from webui.runtime.app import App

TITLE = "Parameters"
_OPEN = ("Shape", "Cut-offs")


def build(app: App, refresh: gr.Button, blocks: gr.Blocks) -> None:
    """Lay the tab out and bind it."""
    heading = gr.Markdown("## Parameters", elem_id="parameters-heading")
    with gr.Row(elem_classes="pb-line"):
        preset = gr.Dropdown(
            [], label="Preset", info="Where the values come from. A change below stays with the chat.", scale=3,
            elem_id="preset-choice",
            **FREE,
        )  # fmt: skip
        back = gr.Button("Undo changes", size="sm", elem_id="undo-changes")
        neutral = gr.Button("Everything neutral", size="sm", elem_id="make-neutral")
        remove = gr.Button("Delete preset", size="sm", elem_id="delete-preset", visible=False)
    about = gr.Markdown(elem_id="parameters-about")
    with gr.Accordion("Save as a preset of your own", open=False, elem_id="save-as"):
        with gr.Row(elem_classes="pb-line"):
            name = gr.Textbox(label="Name", placeholder="My preset", scale=2, elem_id="preset-name")
            description = gr.Textbox(label="What it is for", scale=3, elem_id="preset-description")
            save = gr.Button("Save", variant="primary", size="sm", elem_id="save-preset")
    with gr.Row(elem_classes="pb-line"):
        find = gr.Textbox(label="Find a setting", placeholder="Type to find a setting", scale=3, elem_id="find-setting")
        which = gr.Radio(list(SHOWN), value="All", label="Show", scale=2, elem_id="show-settings")
    nothing = gr.Markdown("No setting fits.", visible=False)
    form = Form(GenerationSettings, opened=_OPEN, meanings=MEANINGS)
    parts = {
        "heading": heading, "preset": preset, "about": about, "undo": back, "delete": remove, "nothing": nothing,
        **{f"group {g}": accordion for g, (accordion, _) in form.groups.items()}, **form.components,
    }  # fmt: skip
    note = Notebook(list(parts))
    asked = [note.box, find, which]
    outputs = [*parts.values(), note.box]

    async def view(request: gr.Request) -> View:
        return await View.of(app, form, await current_chat(app, request))

    async def show(noted: str, text: str, kind: str, request: gr.Request) -> list[Any]:
        return note.write(noted, (await view(request)).everything(text, kind))

    async def sift(noted: str, text: str, kind: str, request: gr.Request) -> list[Any]:
        return note.write(noted, (await view(request)).fitting(text, kind, _OPEN))

    async def choose(chosen: str, noted: str, text: str, kind: str, request: gr.Request) -> list[Any]:
        chat = await current_chat(app, request)
        error = (await app.call(app.presets.get, chosen)).error
        if error:
            gr.Warning(f"The preset {chosen} is damaged: {error}")
        else:
            await keep(app, chat, preset=chosen, settings={})
        return await show(note.noted(noted, "preset", chosen), text, kind, request)

    async def undo(noted: str, text: str, kind: str, request: gr.Request) -> list[Any]:
        await keep(app, await current_chat(app, request), settings={})
        return await show(noted, text, kind, request)

    async def make_neutral(noted: str, text: str, kind: str, request: gr.Request) -> list[Any]:
        chat = await current_chat(app, request)
        base = settings_now(app, chat, bare=True)
        changed = {
            n: plain(s.neutral) for n, s in describe(GenerationSettings).items() if getattr(base, n) != s.neutral
        }
        await keep(app, chat, settings=changed)
        return await show(noted, text, kind, request)

    async def save_as(title: str, what: str, noted: str, text: str, kind: str, request: gr.Request) -> list[Any]:
        chat = await current_chat(app, request)
        title = title.strip()
        if not title:
            raise PresetError("The preset has no name.", "Type one first.")
        if any(p.name == title and not p.own for p in await app.call(app.presets.list)):
            raise PresetError(f"{title} came with Patchbay and is read-only.", "Save under another name.")
        await app.call(app.presets.save, title, sparse(settings_now(app, chat)), what.strip())
        await keep(app, chat, preset=title, settings={})
        gr.Info(f"Saved as {title}.")
        return [*await show(noted, text, kind, request), "", ""]

    async def delete(chosen: str, noted: str, text: str, kind: str, request: gr.Request) -> list[Any]:
        await app.call(app.presets.delete, chosen)
        names = [p.name for p in await app.call(presets_now, app)]
        if chosen not in names:  # a shipped one of that name shows again
            await keep(app, await current_chat(app, request), preset="")
        gr.Info(f"Deleted {chosen}.")
        return await show(note.noted(noted, "preset", chosen), text, kind, request)

    on(blocks.load, show, asked, outputs)
    on(refresh.click, show, asked, outputs)
    on(preset.input, choose, [preset, *asked], outputs)
    on(back.click, undo, asked, outputs)
    on(neutral.click, make_neutral, asked, outputs)
    on(save.click, save_as, [name, description, *asked], [*outputs, name, description])
    on(remove.click, delete, [preset, *asked], outputs)
    on(find.change, sift, asked, outputs, last=True)
    on(which.input, sift, asked, outputs, last=True)
    for field, control in form.components.items():
        group = f"group {form.settings[field].group}"
        mine = note.part(["heading", "about", "undo", group, field])
        targets = [parts[key] for key in mine.keys]
        for event in settled(control):
            on(event, _change(app, form, field, mine), [control, note.box], [*targets, note.box], last=True)


def _change(app: App, form: Form, field: str, note: Notebook) -> Any:
    """The handler for one control: keeps the value with the chat, or says why it cannot be."""

    async def change(value: Any, noted: str, request: gr.Request) -> list[Any]:
        setting = form.settings[field]
        chat = await current_chat(app, request)
        kept = dict(chat.settings if chat else new_chat(app).get("settings", {}))
        before = dict(kept)
        wrong = ""
        kept.pop(field, None)
        base = settings_now(app, chat, bare=True)
        try:
            if not emptied(setting, value):
                checked = parsed(setting, value)
                if getattr(base, field) != checked:
                    kept[field] = plain(checked)
        except SettingError as error:
            wrong, kept = str(error), before
            gr.Warning(wrong)
        if kept != before:
            try:
                chat = await keep(app, chat, settings=kept)
            except PatchbayError as error:
                wrong = str(error)
                gr.Warning(wrong)
        now = await View.of(app, form, chat)
        return note.write(note.noted(noted, field, value), now.one(field, wrong))

    return change
