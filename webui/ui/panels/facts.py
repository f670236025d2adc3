"""What there is to know of models and engines, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jinja2 import Environment, TemplateSyntaxError

from webui.core.errors import PatchbayError, TemplateError
from webui.runtime.catalogue import Model
from webui.ui.panels.words import amount, quiet

if TYPE_CHECKING:
    from webui.runtime.app import App


def label(app: App, model: Model) -> str:
    """A model in the list: its name, its size, its state."""
    said = {"loaded": "loaded", "loading": "loading …", "failed": "failed"}.get(model.state, "")
    if model.state == "loaded" and model.loader in app.loaders:
        said = f"loaded with {app.loaders[model.loader].title}"
    return " · ".join(part for part in (model.name, amount(model.size) if model.size else "", said) if part)


def buttons(app: App, model: Model, loader: str) -> dict[str, dict[str, Any]]:
    """What can be done with a model now."""
    busy, loaded = model.state == "loading", model.state == "loaded"
    can = loader in app.loaders and not app.loaders[loader].available()
    return {
        "load": {
            "value": "Load again" if loaded and model.loader == loader else "Load",
            "interactive": can and not busy,
        },
        "cancel": {"visible": busy},
        "unload": {"visible": loaded},
    }


async def describe(app: App, model: Model, loader: str) -> str:
    """What there is to know of a model now, as Markdown."""
    lines = []
    engine = app.loaders.get(loader)
    reason = engine.available() if engine else ""
    if engine and reason:
        lines.append(f"**{quiet(engine.title)} cannot run here.** {quiet(reason)}")
    if model.state == "loading":
        bar = f'<progress max="1" value="{model.progress:.2f}"></progress>'
        lines.append(f"**Loading {round(100 * model.progress)} %** {quiet(model.text)}\n\n{bar}")
    elif model.state == "failed":
        lines.append(f"**Not loaded.** {quiet(model.error)} {quiet(model.hint)}")
    elif model.state == "loaded" and model.info is not None:
        lines += await _loaded(app, model)
    elif not reason:
        lines.append("Not loaded. The first message loads it, or press Load.")
    if engine:
        lines += [quiet(note) for note in engine.capabilities().notes]
    return "\n\n".join(lines)


async def _loaded(app: App, model: Model) -> list[str]:
    info = model.info
    if info is None:
        return []
    facts = [quiet(info.architecture)] if info.architecture else []
    if info.parameters:
        facts.append(f"{info.parameters / 1e6:,.1f} M parameters")
    facts += [f"context {info.context:,} tokens", f"vocabulary {info.vocabulary:,}"]
    lines = [f"**Loaded with {quiet(app.loaders[model.loader].title)}.** {' · '.join(facts)}"]
    try:
        used = await app.models.memory(model.name)
    except PatchbayError:
        return lines
    named = {"weights": used.weights, "conversations": used.cache, "computing": used.compute, "process": used.process}
    said = [f"{name} {amount(size)}" for name, size in named.items() if size]
    if used.device_free is not None:
        said.append(f"free on the graphics card {amount(used.device_free)}")
    return [*lines, f"Memory in use: {' · '.join(said)}"] if said else lines


def engines(app: App) -> str:
    """All loaders: what can run here, and why the rest cannot."""
    rows = ["| loader | on this machine |", "|---|---|"]
    for loader in app.loaders.values():
        rows.append(f"| {quiet(loader.title)} | {quiet(loader.available()) or 'works'} |")
    return "\n".join(rows)


def check_template(text: str) -> None:
    """Raise TemplateError with the line for a chat template that cannot be read; it is not run here."""
    try:
        Environment(extensions=["jinja2.ext.loopcontrols"], autoescape=False).parse(text)  # noqa: S701  # parsed only
    except TemplateSyntaxError as error:
        raise TemplateError(
            f"The chat template has an error in line {error.lineno}: {error.message}", "It is not saved."
        ) from None
