"""What the Parameters tab shows: a chat's values beside its preset's, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from webui.core.chat import Chat
from webui.core.errors import PatchbayError
from webui.core.fields import build, plain
from webui.core.settings import GenerationSettings
from webui.runtime.conversation import effective
from webui.ui.panels.forms import Form, heading, shown, words
from webui.ui.panels.handlers import new_chat
from webui.ui.panels.words import quiet

if TYPE_CHECKING:
    from webui.runtime.app import App
    from webui.runtime.stores.presets import StoredPreset

#: What each group of settings is for.
MEANINGS = {
    "Shape": "how bold the choice of words is",
    "Cut-offs": "which improbable words are left out",
    "Adaptive": "methods that steer the choice while they write",
    "Repetition": "keeps the text from going in circles",
    "Length and stops": "when a reply ends",
    "Tokens": "single tokens, and the order of the stages",
    "Thinking": "for models that think before they answer",
}
#: Which settings are listed.
SHOWN = ("All", "In use", "Changed")
_MANY = 8  # settings without effect for one reason: it is said once, above them


def _draft(app: App, chat: Chat | None) -> Chat:
    return chat or Chat("", **{k: v for k, v in new_chat(app).items() if k in Chat.__dataclass_fields__})


def settings_now(app: App, chat: Chat | None, *, bare: bool = False) -> GenerationSettings:
    """What the next reply uses; ``bare``: without what was changed by hand.

    A preset that is damaged or gone gives way to the model's, or to the app's own.
    """
    draft = _draft(app, chat)
    changed = {} if bare else dict(draft.settings)
    base, _ = effective(app, replace(draft, settings={}))
    return build(GenerationSettings, changed, base=base)


def presets_now(app: App) -> Sequence[StoredPreset]:
    """All presets, damaged ones too."""
    return app.presets.list()


@dataclass(frozen=True)
class View:
    """The values of a chat, its preset's, and what there is to say of each."""

    app: App
    form: Form
    chat: Chat
    now: GenerationSettings
    base: GenerationSettings
    preset: str
    instead: str  # the preset in force; another one only when the chosen one is gone or damaged
    presets: Sequence[StoredPreset]
    without: Mapping[str, str]  # settings that have no effect, and why
    engine: str

    @classmethod
    async def of(cls, app: App, form: Form, chat: Chat | None) -> View:
        """The view of a chat; of new chats for None."""
        draft = _draft(app, chat)
        _, instead = await app.call(effective, app, replace(draft, settings={}))
        preset = draft.preset or instead
        without: dict[str, str] = {}
        engine = ""
        try:
            found = app.models.get(draft.model or app.models.default())
            loader = app.loaders[draft.loader if draft.loader in app.loaders else found.loader]
            engine = loader.title
            without = {n: w for n, w in loader.capabilities().settings.items() if w not in ("native", "reference")}
        except (PatchbayError, KeyError):
            pass  # the chat's model or its loader is gone; the Model tab says so
        presets = await app.call(presets_now, app)
        now, base = settings_now(app, chat), settings_now(app, chat, bare=True)
        return cls(app, form, draft, now, base, preset, instead, presets, without, engine)

    @property
    def changed(self) -> list[str]:
        """Names of the settings that differ from the preset."""
        return [n for n in self.form.components if getattr(self.now, n) != getattr(self.base, n)]

    def everything(self, text: str | None, kind: str) -> dict[str, dict[str, Any]]:
        """What each part of the tab is to show."""
        wanted = self.fitting(text, kind)
        wanted |= {"heading": self._heading(), "about": self._about(), "undo": self._undo(), "preset": self._choices()}
        own = next((p for p in self.presets if p.name == self.preset), None)
        wanted["delete"] = {"visible": bool(own and own.own)}
        for name in self.form.components:
            wanted[name] = {**wanted[name], **self._field(name)}
        for group in self.form.groups:
            wanted[f"group {group}"] = {**wanted[f"group {group}"], **self._group(group)}
        return wanted

    def one(self, name: str, wrong: str) -> dict[str, dict[str, Any]]:
        """What changes with one value; ``wrong`` says why the last one was not taken."""
        group = self.form.settings[name].group
        return {
            "heading": self._heading(),
            "about": self._about(),
            "undo": self._undo(),
            f"group {group}": self._group(group),
            name: self._field(name, wrong),
        }

    def fitting(self, text: str | None, kind: str, opened: Sequence[str] | None = None) -> dict[str, dict[str, Any]]:
        """Which settings are listed: those whose name or help has the words, of the kind asked for."""
        asked = (text or "").lower().replace("_", " ").split()
        settings = self.form.settings
        changed = set(self.changed)

        def fits(name: str) -> bool:
            if kind == "Changed" and name not in changed:
                return False
            if kind == "In use" and name not in changed and getattr(self.now, name) == settings[name].neutral:
                return False
            s = settings[name]
            said = f"{name} {s.title} {s.help} {s.group} {' '.join(s.aliases)}".lower().replace("_", " ")
            return all(word in said for word in asked)

        listed = {name: fits(name) for name in self.form.components}
        wanted: dict[str, dict[str, Any]] = {name: {"visible": yes} for name, yes in listed.items()}
        narrow = bool(asked) or kind != "All"
        for group, (_, names) in self.form.groups.items():
            look: dict[str, Any] = {"visible": any(listed[n] for n in names)}
            if opened is not None:
                look["open"] = narrow or group in opened
            wanted[f"group {group}"] = look
        wanted["nothing"] = {"visible": not any(listed.values())}
        return wanted

    def _heading(self) -> dict[str, Any]:
        return {"value": f"## {quiet(self.chat.title) or 'This chat'}" if self.chat.id else "## New chats"}

    def _undo(self) -> dict[str, Any]:
        count = len(self.changed)
        return {
            "value": f"Undo {count} change{'s' * (count != 1)}" if count else "Undo changes",
            "interactive": count > 0,
        }

    def _choices(self) -> dict[str, Any]:
        names = []
        for p in self.presets:
            marks = ", ".join(mark for mark, so in (("yours", p.own), ("damaged", p.error)) if so)
            names.append((f"{p.name} ({marks})" if marks else p.name, p.name))
        if self.preset and self.preset not in [p.name for p in self.presets]:
            names.insert(0, (f"{self.preset} (gone)", self.preset))
        return {"choices": [list(pair) for pair in names], "value": self.preset}

    def _about(self) -> dict[str, Any]:
        found = next((p for p in self.presets if p.name == self.preset), None)
        lines = []
        instead = f"{quiet(self.instead)} takes its place."
        if found is None:
            lines.append(f"The preset {quiet(self.preset)} is gone; {instead} Choose another one.")
        elif found.error:
            lines.append(f"The preset {quiet(self.preset)} is damaged; {instead} {quiet(found.error)}")
        else:
            kind = "Yours." if found.own else "Shipped, read-only: save a changed one under a name of your own."
            lines.append(f"{quiet(found.description)} *{kind}*")
        if changed := self.changed:
            said = (f"{self.form.settings[n].title} **{quiet(self._words(n, self.now))}**" for n in changed)
            lines.append(f"Changed: {', '.join(said)}.")
        if len(self.without) > _MANY:
            reason = max(set(self.without.values()), key=list(self.without.values()).count)
            lines.append(f"{len(self.without)} settings have no effect with {quiet(self.engine)}: {quiet(reason)}")
        lines += [f"Damaged: {quiet(p.name)}. {quiet(p.error)}" for p in self.presets if p.error and p is not found]
        return {"value": "\n\n".join(lines)}

    def _words(self, name: str, settings: GenerationSettings) -> str:
        said = words(self.form.settings[name], getattr(settings, name))
        return said if len(said) <= 40 else said[:39] + "…"

    def _group(self, group: str) -> dict[str, Any]:
        names = self.form.groups[group][1]
        return {"label": heading(group, MEANINGS, sum(n in self.changed for n in names))}

    def _field(self, name: str, wrong: str = "") -> dict[str, Any]:
        s = self.form.settings[name]
        value, base = getattr(self.now, name), getattr(self.base, name)
        said = [s.help]
        kinds = ["pb-setting"] + (["pb-tall"] if s.lines > 1 or isinstance(s.default, tuple | dict) else [])
        if value != base:
            kinds.append("pb-changed")
            said.append(f"Changed; the preset has {self._words(name, self.base)}.")
        elif value != s.neutral:
            kinds.append("pb-set")
        if wrong:
            kinds.append("pb-wrong")
        reason = self.without.get(name, "")
        if reason:
            said.append(f"No effect with {self.engine}." if len(self.without) > _MANY else f"No effect here: {reason}")
        return {
            "value": shown(s, plain(value)),
            "info": wrong or " ".join(said),
            "interactive": not reason,
            "elem_classes": kinds,
        }
