"""The Model tab: pick a model and a loader, set its options, load, unload, edit its chat template."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import gradio as gr

from webui.core.chat import Chat
from webui.core.errors import NotFound, PatchbayError
from webui.core.fields import build as checked
from webui.core.fields import sparse, values
from webui.runtime.catalogue import Model
from webui.ui.panels.facts import buttons, check_template, describe, engines, label
from webui.ui.panels.forms import FREE, Form
from webui.ui.panels.handlers import Notebook, current_chat, keep, on

if TYPE_CHECKING:
    from webui.runtime.app import App

TITLE = "Model"
_LOOK_SECONDS = 0.15


def build(app: App, refresh: gr.Button, blocks: gr.Blocks) -> None:
    """Lay the tab out and bind it."""
    with gr.Row(elem_classes="pb-line"):
        gr.Markdown("## Models", elem_classes="pb-grow")
        look = gr.Button("Refresh", size="sm", elem_id="model-refresh")
    model = gr.Radio([], label="Models", show_label=False, elem_id="model-name", elem_classes="pb-list")
    where = gr.Markdown(f"Models lie in `{app.config.models}`.", elem_classes="pb-quiet")
    with gr.Row(elem_classes="pb-line"):
        loader = gr.Dropdown(
            [], label="Loader", info="The engine that opens it.", elem_id="model-loader", scale=3, **FREE
        )
        load = gr.Button("Load", variant="primary", size="sm", elem_id="model-load")
        cancel = gr.Button("Cancel", size="sm", elem_id="model-cancel", visible=False)
        unload = gr.Button("Unload", size="sm", elem_id="model-unload", visible=False)
        save = gr.Button("Save settings", size="sm", elem_id="model-save")
    state = gr.Markdown(elem_id="model-state")
    forms: dict[str, Form] = {}
    columns: dict[str, gr.Accordion] = {}
    for name, found in app.loaders.items():
        title = f"Options of {found.title}"
        with gr.Accordion(title, open=False, visible=False, elem_id=f"options-of-{name}") as columns[name]:
            forms[name] = Form(found.options, prefix=f"option-{name}")
    with gr.Accordion("Chat template and preset", open=False, elem_id="template-part"):
        preset = gr.Dropdown(
            [], label="Preset", info="What chats with this model begin with.", elem_id="model-preset", **FREE
        )
        template = gr.Textbox(
            label="Chat template", lines=10, max_lines=24, elem_id="model-template",
            elem_classes=["pb-tall", "pb-mono"],
            info="Jinja that turns the conversation into the text that the model reads.",
        )  # fmt: skip
        with gr.Row(elem_classes="pb-line"):
            own = gr.Markdown(elem_classes="pb-grow", elem_id="template-own")
            save_template = gr.Button("Save template", size="sm", elem_id="template-save")
            reset = gr.Button("Use the model's own", size="sm", elem_id="template-reset")
    with gr.Accordion("What the engine said", open=False, elem_id="log-part"):
        log = gr.Textbox(
            label="Log", show_label=False, lines=10, max_lines=24, interactive=False, elem_id="model-log",
            elem_classes=["pb-tall", "pb-mono"],
        )  # fmt: skip
    with gr.Accordion("Engines on this machine", open=False, elem_id="engines-part"):
        known = gr.Markdown(elem_id="engines")

    controls = {f"{name} {field}": c for name, form in forms.items() for field, c in form.components.items()}
    parts = {
        "model": model, "loader": loader, "state": state, "load": load, "cancel": cancel, "unload": unload,
        "save": save, "preset": preset, "template": template, "own": own, "reset": reset, "log": log, "known": known,
        "where": where, **{f"form {n}": c for n, c in columns.items()}, **controls,
    }  # fmt: skip
    note = Notebook(list(parts))
    brief = note.part(["model", "state", "load", "cancel", "unload", "log"])
    outputs = [*parts.values(), note.box]
    brief_outputs = [*(parts[key] for key in brief.keys), note.box]
    inputs = [model, loader, note.box, *controls.values()]

    def options(name: str, given: tuple[Any, ...]) -> dict[str, Any]:
        held = dict(zip(controls, given, strict=True))
        mine = {field: held[f"{name} {field}"] for field in forms[name].components}
        return sparse(checked(forms[name].cls, forms[name].read(mine)))

    def fitting(name: str, chosen: str) -> str:
        """The loader chosen, or the model's own when the list of loaders was still another model's."""
        found = app.models.get(name)
        return chosen if chosen in found.candidates else found.loader

    async def situation(name: str, chosen: str) -> dict[str, dict[str, Any]]:
        """What can change by itself: the list, the state, the buttons, the log."""
        found = app.models.get(name)
        return {
            "model": {"choices": [[label(app, m), m.name] for m in app.models.list()], "value": found.name},
            "state": {"value": await describe(app, found, chosen)},
            "log": {"value": await app.call(app.models.log, name)},
            **buttons(app, found, chosen),
        }

    async def whole(found: Model, chosen: str) -> dict[str, dict[str, Any]]:
        """Everything on the tab for a model with a loader."""
        wanted = await situation(found.name, chosen)
        title = {
            n: app.loaders[n].title + (" (not available)" if app.loaders[n].available() else "") for n in app.loaders
        }
        wanted["loader"] = {"choices": [[title[n], n] for n, _ in found.loaders], "value": chosen}
        wanted["known"] = {"value": await app.call(engines, app)}
        for name, form in forms.items():
            kept = _kept(form.cls, found.options(name)) if name == chosen else values(form.cls())
            wanted[f"form {name}"] = {"visible": name == chosen}
            updates = form.update(kept)
            wanted |= {f"{name} {f}": {"value": u["value"]} for f, u in zip(form.components, updates, strict=True)}
        presets = [["The program's default", ""]]
        presets += [[p.name, p.name] for p in await app.call(app.presets.list) if not p.error]
        wanted["preset"] = {"choices": presets, "value": str(found.settings.get("preset", "") or "")}
        theirs = found.info.template if found.info else ""
        wanted["template"] = {
            "value": found.template or theirs,
            "placeholder": "The model has none." if found.info else "Load the model to see its template.",
        }
        wanted["own"] = {"value": "Edited: this text replaces the model's own." if found.template else ""}
        wanted["reset"] = {"interactive": bool(found.template)}
        return wanted

    async def show(noted: str, request: gr.Request) -> AsyncIterator[list[Any]]:
        chat = await current_chat(app, request)
        name = (chat.model if chat else "") or app.models.default()
        try:
            found = app.models.get(name)
        except NotFound:
            found = app.models.get(app.models.default())
        mine = chat.loader if chat and chat.loader in found.candidates else found.loader
        answer = note.write(noted, await whole(found, mine))
        yield answer
        async for later in follow(found, mine, answer[-1]):
            yield later

    async def follow(found: Model, chosen: str, noted: str) -> AsyncIterator[list[Any]]:
        """A model that is loading, until it has ended; then what it became."""
        seen = False
        while found.state == "loading":
            seen = True
            answer = brief.write(noted, await situation(found.name, chosen))
            noted = answer[-1]
            yield _spread(note, brief, answer)
            await asyncio.sleep(_LOOK_SECONDS)
        if seen:
            yield note.write(noted, await whole(found, chosen))

    async def again(name: str | None, noted: str, request: gr.Request) -> AsyncIterator[list[Any]]:
        await app.call(app.models.refresh)
        if name and any(m.name == name for m in app.models.list()):
            found = app.models.get(name)
            yield note.write(noted, await whole(found, found.loader))
        else:
            async for answer in show(noted, request):
                yield answer

    async def pick(name: str, noted: str) -> AsyncIterator[list[Any]]:
        found = app.models.get(name)
        answer = note.write(note.noted(noted, "model", name), await whole(found, found.loader))
        yield answer
        async for later in follow(found, found.loader, answer[-1]):
            yield later

    async def engine(name: str, chosen: str, noted: str) -> list[Any]:
        return note.write(note.noted(noted, "loader", chosen), await whole(app.models.get(name), fitting(name, chosen)))

    async def start(request: gr.Request, name: str, chosen: str, noted: str, *given: Any) -> AsyncIterator[list[Any]]:
        found, chosen = app.models.get(name), fitting(name, chosen)
        wanted = options(chosen, given)
        for key, held in zip(controls, given, strict=True):
            noted = note.noted(noted, key, held)
        task = asyncio.create_task(app.models.load(name, chosen, wanted))
        while not task.done():
            answer = brief.write(noted, await situation(name, chosen))
            noted = answer[-1]
            yield _spread(note, brief, answer)
            await asyncio.wait({task}, timeout=_LOOK_SECONDS)
        error = task.exception()
        if error is None:
            await app.call(app.models.save_settings, name, loader=chosen, options=wanted)
            await _use(app, await current_chat(app, request), name)
            yield note.write(noted, await whole(found, chosen))
            return
        yield _spread(note, brief, brief.write(noted, await situation(name, chosen)))
        if not isinstance(error, PatchbayError):
            raise error
        if "cancelled" not in str(error):
            gr.Warning(str(error))

    async def stop(name: str, chosen: str, noted: str) -> list[Any]:
        await app.models.unload(name)
        return note.write(noted, await whole(app.models.get(name), fitting(name, chosen)))

    async def give_up(name: str) -> None:
        await app.models.abort(name)

    async def keep_settings(name: str, chosen: str, noted: str, *given: Any) -> list[Any]:
        chosen = fitting(name, chosen)
        await app.call(app.models.save_settings, name, loader=chosen, options=options(chosen, given))
        gr.Info(f"Saved for {name}.")
        return brief.write(noted, await situation(name, chosen))

    async def keep_preset(name: str, chosen: str) -> None:
        await app.call(app.models.save_settings, name, preset=chosen or None)
        gr.Info(f"New chats with {name} begin with {chosen or 'the default preset'}.")

    async def keep_template(name: str, chosen: str, text: str, noted: str) -> list[Any]:
        check_template(text)
        found = app.models.get(name)
        theirs = found.info.template if found.info else ""
        found = await app.call(
            app.models.save_settings, name, template=text if text.strip() and text != theirs else None
        )
        gr.Info("Saved. The next reply uses it.")
        return note.write(note.noted(noted, "template", None), await whole(found, fitting(name, chosen)))

    async def drop_template(name: str, chosen: str, noted: str) -> list[Any]:
        found = await app.call(app.models.save_settings, name, template=None)
        gr.Info("The next reply uses the model's own template.")
        return note.write(note.noted(noted, "template", None), await whole(found, fitting(name, chosen)))

    on(blocks.load, show, [note.box], outputs)
    on(refresh.click, show, [note.box], outputs)
    on(look.click, again, [model, note.box], outputs)
    on(model.input, pick, [model, note.box], outputs)
    on(loader.input, engine, [model, loader, note.box], outputs)
    on(load.click, start, inputs, outputs)
    on(unload.click, stop, [model, loader, note.box], outputs)
    on(cancel.click, give_up, [model], None)
    on(save.click, keep_settings, inputs, brief_outputs)
    on(preset.input, keep_preset, [model, preset], None)
    on(save_template.click, keep_template, [model, loader, template, note.box], outputs)
    on(reset.click, drop_template, [model, loader, note.box], outputs)


async def _use(app: App, chat: Chat | None, name: str) -> None:
    """What a person has loaded is what the chat on the page, and every new one, speaks to."""
    app.models.default_name = name
    await app.call(app.settings.save_section, "app", {**app.settings.section("app"), "model": name})
    if chat is not None and (chat.model != name or chat.loader):
        await keep(app, chat, model=name, loader="")


def _spread(note: Notebook, part: Notebook, answer: list[Any]) -> list[Any]:
    """The answer of a part of a notebook as one for the whole of it."""
    by_key = dict(zip(part.keys, answer, strict=False))
    return [*(by_key.get(key, gr.skip()) for key in note.keys), answer[-1]]


def _kept(cls: type, stored: dict[str, Any]) -> dict[str, Any]:
    """Stored options as values; what they cannot take any more counts as not set."""
    found = values(cls())
    for name, value in stored.items():
        try:
            found |= {name: values(checked(cls, {name: value}))[name]}
        except PatchbayError:
            continue
    return found
