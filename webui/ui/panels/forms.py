"""Any dataclass of settings as a form: one component a field, from its declaration."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import gradio as gr

from webui.core.errors import SettingError
from webui.core.fields import Setting, describe

_LONG = 3  # lines of a box for a list or a mapping


class Form:
    """The components of one dataclass, by field name, in groups."""

    def __init__(self, cls: type, values: Mapping[str, Any] | None = None, *, open_groups: int = 2) -> None:
        self.cls = cls
        self.settings = describe(cls)
        self.components: dict[str, Any] = {}
        values = values or {}
        groups: dict[str, list[Setting]] = {}
        for s in self.settings.values():
            groups.setdefault(s.group, []).append(s)
        for number, (group, members) in enumerate(groups.items()):
            if group and len(groups) > 1:
                with gr.Accordion(group, open=number < open_groups):
                    self._rows(members, values)
            else:
                self._rows(members, values)

    def _rows(self, members: list[Setting], values: Mapping[str, Any]) -> None:
        for start in range(0, len(members), 2):
            with gr.Row(equal_height=False):
                for s in members[start : start + 2]:
                    self.components[s.name] = component(s, values.get(s.name, s.default))

    def update(self, values: Mapping[str, Any], notes: Mapping[str, str] | None = None) -> list[Any]:
        """Updates for all components, in their order; ``notes`` greys a field and says why."""
        notes = notes or {}
        return [
            gr.update(
                value=shown(s, values.get(name, s.default)),
                interactive=name not in notes,
                info=f"{s.help} {('Not here: ' + notes[name]) if name in notes else ''}".strip(),
            )
            for name, s in ((n, self.settings[n]) for n in self.components)
        ]

    def read(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Checked values from what the components hold."""
        return {name: parsed(self.settings[name], value) for name, value in given.items()}


def component(s: Setting, value: Any) -> Any:
    """The control for a setting."""
    common: dict[str, Any] = {"label": s.title, "info": s.help, "elem_id": f"setting-{s.name}", "min_width": 240}
    if s.type is bool:
        return gr.Checkbox(value, **common)
    if s.choices and not isinstance(s.default, tuple):
        return gr.Dropdown(list(s.choices), value=value, **common)
    if s.type in (int, float) and s.form:
        low, high, step = s.form
        return gr.Slider(low, high, value=min(max(value, low), high), step=step, **common)
    if s.type in (int, float):
        return gr.Number(value, precision=0 if s.type is int else None, **common)
    plain = s.type is str
    lines = s.lines if plain else _LONG
    kind = "password" if s.secret else "text"
    return gr.Textbox(shown(s, value), lines=lines, max_lines=lines if lines == 1 else 12, type=kind, **common)


def shown(s: Setting, value: Any) -> Any:
    """A value as its component shows it: lists one item a line with \\n for a line break, mappings as JSON."""
    if isinstance(value, tuple | list):
        return "\n".join(json.dumps(v, ensure_ascii=False)[1:-1].replace('\\"', '"') for v in value)
    if isinstance(value, Mapping):
        return json.dumps(dict(value), ensure_ascii=False) if value else ""
    if s.form and isinstance(value, int | float) and not isinstance(value, bool):
        return min(max(value, s.form[0]), s.form[1])
    return value


def parsed(s: Setting, value: Any) -> Any:
    """The value behind what a component holds. Raises SettingError."""
    default: Any = s.default
    if isinstance(default, tuple) and isinstance(value, str):
        return s.check([_unescaped(s, line) for line in value.splitlines() if line])
    if isinstance(default, dict) and isinstance(value, str):
        try:
            return s.check(json.loads(value) if value.strip() else {})
        except json.JSONDecodeError as error:
            hint = 'Write it like {"15339": 2, " hello": -5}.'
            raise SettingError(s.name, f"{s.name} is not JSON: {error.msg}.", hint) from None
    if value is None:
        return s.default
    return s.check(value)


def _unescaped(s: Setting, line: str) -> str:
    try:
        return str(json.loads('"' + line.replace('"', '\\"') + '"'))
    except json.JSONDecodeError:
        raise SettingError(s.name, f"{s.name} holds {line!r}.", "Write a backslash as \\\\.") from None
