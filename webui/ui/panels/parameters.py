"""The Parameters tab: every sampling setting of the chat on the page, and presets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import gradio as gr

from webui.core.chat import Chat
from webui.core.errors import NotFound
from webui.core.fields import describe, plain, sparse, values
from webui.core.settings import GenerationSettings
from webui.runtime.conversation import NEW_CHAT, effective
from webui.ui.panels.forms import Form, parsed
from webui.ui.panels.handlers import current_chat, on
from webui.ui.panels.words import quiet

if TYPE_CHECKING:
    from webui.runtime.app import App

TITLE = "Parameters"


def build(app: App, blocks: gr.Blocks, refresh: gr.Button) -> None:
    """Lay the tab out and bind it."""
    heading = gr.Markdown("### Parameters")
    preset = gr.Dropdown([], label="Preset", info="A change below is kept with the chat, over the preset.")
    about = gr.Markdown()
    with gr.Row():
        back = gr.Button("Undo changes", size="sm")
        neutral = gr.Button("Everything neutral", size="sm")
        remove = gr.Button("Delete preset", size="sm", elem_id="delete-preset")
    with gr.Accordion("Save as a preset of your own", open=False), gr.Row(equal_height=True):
        name = gr.Textbox(label="Name", placeholder="My preset", scale=2, elem_id="preset-name")
        description = gr.Textbox(label="What it is for", scale=3, elem_id="preset-description")
        save = gr.Button("Save as", variant="primary", size="sm", elem_id="save-preset")
    form = Form(GenerationSettings)
    outputs = [heading, preset, about, *form.components.values()]

    async def show(request: gr.Request) -> list[Any]:
        return await _view(app, form, await current_chat(app, request))

    async def choose(chosen: str, request: gr.Request) -> list[Any]:
        app.presets.get(chosen)
        chat = await _keep(app, await current_chat(app, request), preset=chosen, settings={})
        return await _view(app, form, chat)

    async def undo(request: gr.Request) -> list[Any]:
        chat = await _keep(app, await current_chat(app, request), settings={})
        return await _view(app, form, chat)

    async def make_neutral(request: gr.Request) -> list[Any]:
        chat = await current_chat(app, request)
        settings, _ = effective(app, chat or Chat("", **_new(app)))
        changed = {
            n: plain(s.neutral) for n, s in describe(GenerationSettings).items() if getattr(settings, n) != s.neutral
        }
        kept = dict(chat.settings if chat else _new(app).get("settings", {}))
        chat = await _keep(app, chat, settings={**kept, **changed})
        return await _view(app, form, chat)

    async def save_as(text: str, what: str, request: gr.Request) -> list[Any]:
        chat = await current_chat(app, request)
        settings, _ = effective(app, chat or Chat("", **_new(app)))
        await app.call(app.presets.save, text.strip(), sparse(settings), what.strip())
        chat = await _keep(app, chat, preset=text.strip(), settings={})
        gr.Info(f"Saved as {text.strip()}.")
        return await _view(app, form, chat)

    async def delete(chosen: str, request: gr.Request) -> list[Any]:
        await app.call(app.presets.delete, chosen)
        chat = await _keep(app, await current_chat(app, request), preset="")
        return await _view(app, form, chat)

    on(blocks.load, show, None, outputs)
    on(refresh.click, show, None, outputs)
    on(preset.input, choose, [preset], outputs)
    on(back.click, undo, None, outputs)
    on(neutral.click, make_neutral, None, outputs)
    on(save.click, save_as, [name, description], outputs)
    on(remove.click, delete, [preset], outputs)
    for field, control in form.components.items():
        on(_settled(control), _change(app, form, field), [control], [heading, about])


def _settled(control: Any) -> Any:
    """The event of a control that comes once per change made by a person."""
    if isinstance(control, gr.Textbox):
        return control.blur
    if isinstance(control, gr.Slider):
        return control.release
    return control.input


def _change(app: App, form: Form, field: str) -> Any:
    async def change(value: Any, request: gr.Request) -> tuple[str, str]:
        setting = form.settings[field]
        checked = parsed(setting, value)
        chat = await current_chat(app, request)
        kept = dict(chat.settings if chat else _new(app).get("settings", {}))
        kept.pop(field, None)
        bare, _ = effective(app, _with(app, chat, kept))
        if getattr(bare, field) != checked:
            kept[field] = plain(checked)
        chat = await _keep(app, chat, settings=kept)
        return _heading(app, chat), _about(app, chat)

    return change


def _new(app: App) -> dict[str, Any]:
    """What a chat that does not exist yet will begin with."""
    return dict(app.settings.section(NEW_CHAT))


def _with(app: App, chat: Chat | None, settings: Mapping[str, Any]) -> Chat:
    fields = {"preset": chat.preset, "model": chat.model, "character": chat.character} if chat else _new(app)
    return Chat("", **{**fields, "settings": settings})


async def _keep(app: App, chat: Chat | None, **fields: Any) -> Chat | None:
    if chat is None:
        await app.call(app.settings.save_section, NEW_CHAT, {**_new(app), **fields})
        return None
    return await app.call(app.chats.update, chat.id, **fields)


async def _view(app: App, form: Form, chat: Chat | None) -> list[Any]:
    settings, name = effective(app, chat or Chat("", **_new(app)))
    presets = await app.call(app.presets.list)
    choices = [(p.name + ("" if p.error == "" else " (damaged)"), p.name) for p in presets]
    notes = {}
    try:
        found = app.models.get((chat.model if chat else "") or app.models.default())
        capabilities = app.loaders[found.loader].capabilities()
        notes = {n: w for n, w in capabilities.settings.items() if w not in ("native", "reference")}
    except NotFound:
        pass  # the chat's model is gone; the Model tab says so
    return [
        _heading(app, chat),
        gr.update(choices=choices, value=name),
        _about(app, chat),
        *form.update(values(settings), notes),
    ]


def _heading(app: App, chat: Chat | None) -> str:
    title = (chat.title or "this chat") if chat else "the next new chat"
    return f"### Parameters of {quiet(title)}"


def _about(app: App, chat: Chat | None) -> str:
    changed = dict(chat.settings if chat else _new(app).get("settings", {}))
    _, name = effective(app, chat or Chat("", **_new(app)))
    try:
        preset = app.presets.get(name)
        text = f"{quiet(preset.description)} *{quiet(preset.author)}*"
    except NotFound:
        text = ""
    if changed:
        text += "\n\nChanged: " + ", ".join(f"`{k}` {quiet(str(v))}" for k, v in sorted(changed.items()))
    return text
