"""The Model tab: pick a model and a loader, set its options, load, unload, edit its chat template."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import gradio as gr

from webui.core.errors import NotFound, PatchbayError
from webui.core.fields import build as checked
from webui.core.fields import sparse, values
from webui.runtime.catalogue import Model
from webui.ui.panels.forms import Form
from webui.ui.panels.handlers import current_chat, on
from webui.ui.panels.words import amount, quiet

if TYPE_CHECKING:
    from webui.runtime.app import App

TITLE = "Model"
_LOOK_SECONDS = 0.2


def build(app: App, blocks: gr.Blocks, refresh: gr.Button) -> None:
    """Lay the tab out and bind it."""
    with gr.Row(equal_height=True):
        model = gr.Dropdown([], label="Model", info="What lies in the models folder.", scale=3, elem_id="model-name")
        loader = gr.Dropdown([], label="Loader", info="The engine that opens it.", scale=2, elem_id="model-loader")
    with gr.Row():
        load = gr.Button("Load", variant="primary", size="sm", elem_id="model-load")
        unload = gr.Button("Unload", size="sm", elem_id="model-unload")
        cancel = gr.Button("Cancel loading", size="sm", elem_id="model-cancel")
        keep = gr.Button("Save settings", size="sm", elem_id="model-save")
        look = gr.Button("Refresh", size="sm", elem_id="model-refresh")
    state = gr.Markdown(elem_id="model-state")
    forms: dict[str, Form] = {}
    columns: dict[str, gr.Column] = {}
    for name, found in app.loaders.items():
        with gr.Column(visible=False) as columns[name]:
            with gr.Accordion(f"Options of {found.title}", open=True):
                forms[name] = Form(found.options, open_groups=1)
    with gr.Accordion("Chat template and preset", open=False):
        preset = gr.Dropdown(
            [], label="Preset", info="What chats with this model begin with; empty is the app's default."
        )
        gr.Markdown("The template is Jinja; it turns the conversation into the text that the model reads.")
        template = gr.Textbox(label="Chat template", lines=12, max_lines=30, elem_id="model-template")
        with gr.Row():
            save_template = gr.Button("Save template", size="sm", elem_id="template-save")
            own_template = gr.Button("Use the model's own", size="sm", elem_id="template-reset")
    with gr.Accordion("What the engine said", open=False):
        log = gr.Textbox(label="Log", lines=12, max_lines=24, interactive=False, elem_id="model-log")

    controls = [(name, field) for name, form in forms.items() for field in form.components]
    inputs = [forms[n].components[f] for n, f in controls]
    shown = [model, loader, state, preset, template, log, *columns.values(), *inputs]

    def options(name: str, given: tuple[Any, ...]) -> dict[str, Any]:
        mine = {field: value for (owner, field), value in zip(controls, given, strict=True) if owner == name}
        form = forms[name]
        return sparse(checked(form.cls, form.read(mine)))

    def view(found: Model, chosen: str) -> list[Any]:
        """Everything on the tab for a model with a loader."""
        stored = found.options(chosen)
        updates: list[Any] = []
        for name, form in forms.items():
            cls = form.cls
            now = values(checked(cls, stored)) if name == chosen else values(cls())
            updates += form.update(now)
        own = found.info.template if found.info else ""
        names = [("", ""), *((p.name, p.name) for p in app.presets.list() if not p.error)]
        return [
            gr.update(choices=[(_label(m), m.name) for m in app.models.list()], value=found.name),
            gr.update(choices=[(_engine(app, n), n) for n, _ in found.loaders], value=chosen),
            describe(app, found, chosen),
            gr.update(choices=names, value=found.settings.get("preset", "")),
            gr.update(value=found.settings.get("template") or own, placeholder="Load the model to see its template."),
            app.models.log(found.name),
            *(gr.update(visible=name == chosen) for name in columns),
            *updates,
        ]

    async def show(request: gr.Request) -> list[Any]:
        chat = await current_chat(app, request)
        name = (chat.model if chat else "") or app.models.default()
        try:
            found = app.models.get(name)
        except NotFound:
            found = app.models.get(app.models.default())
        return view(found, found.loader)

    async def again(request: gr.Request) -> list[Any]:
        await app.call(app.models.refresh)
        return await show(request)

    async def pick(name: str) -> list[Any]:
        found = app.models.get(name)
        return view(found, found.loader)

    async def engine(name: str, chosen: str) -> list[Any]:
        return view(app.models.get(name), chosen)

    async def start(name: str, chosen: str, *given: Any) -> AsyncIterator[tuple[str, str]]:
        found = app.models.get(name)
        task = asyncio.ensure_future(app.models.load(name, chosen, options(chosen, given)))
        while not task.done():
            await asyncio.wait({task}, timeout=_LOOK_SECONDS)
            yield describe(app, found, chosen), app.models.log(name)
        if task.exception() is None:
            await app.call(app.models.save_settings, name, loader=chosen, options=options(chosen, given))
        yield describe(app, found, chosen), app.models.log(name)
        error = task.exception()
        if isinstance(error, PatchbayError):
            raise error

    async def stop(name: str, chosen: str) -> str:
        await app.models.unload(name)
        return describe(app, app.models.get(name), chosen)

    async def give_up(name: str, chosen: str) -> str:
        await app.models.abort(name)
        return describe(app, app.models.get(name), chosen)

    async def keep_settings(name: str, chosen: str, *given: Any) -> str:
        await app.call(app.models.save_settings, name, loader=chosen, options=options(chosen, given))
        gr.Info(f"Saved for {name}.")
        return describe(app, app.models.get(name), chosen)

    async def keep_preset(name: str, chosen: str) -> None:
        await app.call(app.models.save_settings, name, preset=chosen or None)

    async def keep_template(name: str, text: str) -> str:
        found = await app.call(app.models.save_settings, name, template=text)
        gr.Info("Saved. The next reply loads the model with it.")
        return describe(app, found, found.loader)

    async def drop_template(name: str) -> list[Any]:
        found = await app.call(app.models.save_settings, name, template=None)
        return view(found, found.loader)

    on(blocks.load, show, None, shown)
    on(refresh.click, show, None, shown)
    on(look.click, again, None, shown)
    on(model.input, pick, [model], shown)
    on(loader.input, engine, [model, loader], shown)
    on(load.click, start, [model, loader, *inputs], [state, log])
    on(unload.click, stop, [model, loader], [state])
    on(cancel.click, give_up, [model, loader], [state])
    on(keep.click, keep_settings, [model, loader, *inputs], [state])
    on(preset.input, keep_preset, [model, preset], None)
    on(save_template.click, keep_template, [model, template], [state])
    on(own_template.click, drop_template, [model], shown)


def _label(model: Model) -> str:
    size = f" · {amount(model.size)}" if model.size else ""
    return f"{model.name}{size}" + (" · loaded" if model.state == "loaded" else "")


def _engine(app: App, name: str) -> str:
    reason = app.loaders[name].available()
    return app.loaders[name].title + (" (not available)" if reason else "")


def describe(app: App, model: Model, loader: str) -> str:
    """What there is to know of a model now, as Markdown."""
    reason = app.loaders[loader].available() if loader in app.loaders else ""
    lines = []
    if reason:
        lines.append(f"**{quiet(app.loaders[loader].title)} cannot run here.** {quiet(reason)}")
    if model.state == "loading":
        lines.append(f"**Loading** {round(100 * model.progress)} % {quiet(model.text)}")
    elif model.state == "failed":
        lines.append(f"**Not loaded.** {quiet(model.error)} {quiet(model.hint)}")
    elif model.state == "loaded" and model.info is not None:
        info = model.info
        facts = [f"context {info.context:,} tokens", f"vocabulary {info.vocabulary:,}"]
        if info.architecture:
            facts.insert(0, quiet(info.architecture))
        if info.parameters:
            facts.append(f"{info.parameters / 1e6:,.1f} M parameters")
        if info.size:
            facts.append(amount(info.size))
        lines.append(f"**Loaded** with {quiet(app.loaders[model.loader].title)}: " + " · ".join(facts))
    else:
        lines.append("Not loaded. The first message loads it, or press Load.")
    if loader in app.loaders:
        lines += [quiet(note) for note in app.loaders[loader].capabilities().notes]
    return "\n\n".join(lines)
