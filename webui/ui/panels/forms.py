"""Any dataclass of settings as a form: one component a field, from its declaration."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

import gradio as gr

from webui.core.errors import SettingError
from webui.core.fields import Setting, describe

#: For lists that change while a page is open: Gradio would refuse what the page shows when its own list is newer.
FREE: dict[str, Any] = {"allow_custom_value": True}
_LONG = 3  # lines of a box for a list or a mapping


class Form:
    """The components of one dataclass, by field name, in ``groups``: an accordion and its fields, by group.

    ``meanings`` says in a few words what a group is for; ``opened`` names the groups that are open at first. ``prefix``
    begins the ids of the components.
    """

    def __init__(
        self,
        cls: type,
        values: Mapping[str, Any] | None = None,
        *,
        opened: tuple[str, ...] = (),
        meanings: Mapping[str, str] | None = None,
        prefix: str = "setting",
    ) -> None:
        self.cls = cls
        self.settings = describe(cls)
        self.components: dict[str, Any] = {}
        self.groups: dict[str, tuple[gr.Accordion, list[str]]] = {}
        self._prefix = prefix
        members: dict[str, list[Setting]] = {}
        for s in self.settings.values():
            members.setdefault(s.group, []).append(s)
        for group, found in members.items():
            if group and len(members) > 1:
                title = heading(group, meanings or {}, 0)
                with gr.Accordion(title, open=group in opened, elem_classes="pb-group") as accordion:
                    self._rows(found, values or {})
                self.groups[group] = (accordion, [s.name for s in found])
            else:
                self._rows(found, values or {})

    def _rows(self, members: list[Setting], values: Mapping[str, Any]) -> None:
        with gr.Column(elem_classes="pb-rows"):
            for s in members:
                self.components[s.name] = component(s, values.get(s.name, s.default), f"{self._prefix}-{s.name}")

    def update(self, values: Mapping[str, Any]) -> list[Any]:
        """Updates for all components, in their order."""
        return [look(self.settings[name], values.get(name, self.settings[name].default)) for name in self.components]

    def read(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Checked values from what the components hold; an empty number is the default."""
        found = {}
        for name, value in given.items():
            setting = self.settings[name]
            found[name] = setting.default if emptied(setting, value) else parsed(setting, value)
        return found


def heading(group: str, meanings: Mapping[str, str], changed: int) -> str:
    """The line of an accordion: the group, what it is for, how many of its values were changed."""
    parts = [group, meanings.get(group, ""), f"{changed} changed" if changed else ""]
    return " · ".join(part for part in parts if part)


def component(s: Setting, value: Any, elem_id: str) -> Any:
    """The control for a setting.

    A number with bounds is a slider when the form offers all that is valid; others are boxes, which take any value.
    """
    common: dict[str, Any] = {"label": s.title, "info": s.help, "elem_id": elem_id, "elem_classes": "pb-setting"}
    common["interactive"] = True
    if s.type is bool:
        return gr.Checkbox(value, **common)
    if s.choices and not isinstance(s.default, tuple):
        return gr.Dropdown(list(s.choices), value=value, filterable=len(s.choices) > 8, **common)
    if s.type in (int, float):
        if s.form and s.form[:2] == s.valid and s.form[1] - s.form[0] <= 1000 * s.form[2]:
            low, high, step = s.form
            return gr.Slider(low, high, value=value, step=step, buttons=[], **common)
        step = s.form[2] if s.form else 1
        return gr.Number(value, step=step, **common)
    lines = s.lines if s.type is str else _LONG
    kind: Literal["password", "text"] = "password" if s.secret else "text"
    common["elem_classes"] = ["pb-setting", "pb-tall"] if lines > 1 else "pb-setting"
    return gr.Textbox(shown(s, value), lines=lines, max_lines=lines if lines == 1 else 12, type=kind, **common)


def look(s: Setting, value: Any) -> Any:
    """The update that shows a value."""
    return gr.update(value=shown(s, value))


def settled(control: Any) -> list[Any]:
    """The events of a control that come once a person has made a change; the last one alone counts."""
    if isinstance(control, gr.Number):
        return [control.blur, control.submit]
    if isinstance(control, gr.Textbox):
        return [control.blur, control.submit] if control.lines == 1 else [control.blur]
    return [control.input]


def shown(s: Setting, value: Any) -> Any:
    """A value as its component shows it: lists one item a line with \\n for a line break, mappings as JSON."""
    if isinstance(value, tuple | list):
        return "\n".join(json.dumps(v, ensure_ascii=False)[1:-1].replace('\\"', '"') for v in value)
    if isinstance(value, Mapping):
        return json.dumps(dict(value), ensure_ascii=False) if value else ""
    return value


def words(s: Setting, value: Any) -> str:
    """A value in a sentence."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, tuple | list):
        return ", ".join(shown(s, [v]) for v in value) or "nothing"
    return str(shown(s, value)) or "nothing"


def emptied(s: Setting, value: Any) -> bool:
    """Whether a person has emptied a number's box."""
    return value is None or (value == "" and s.type in (int, float))


def parsed(s: Setting, value: Any) -> Any:
    """The value behind what a component holds. Raises SettingError."""
    default: Any = s.default
    if isinstance(default, tuple) and isinstance(value, str):
        return s.check([_unescaped(s, line) for line in value.splitlines() if line])
    if isinstance(default, dict) and isinstance(value, str):
        try:
            return s.check(json.loads(value) if value.strip() else {})
        except (json.JSONDecodeError, RecursionError) as error:
            hint = 'Write it like {"15339": 2, " hello": -5}.'
            said = getattr(error, "msg", "it is nested too deeply")
            raise SettingError(s.name, f"{s.name} is not JSON: {said}.", hint) from None
    return s.check(value)


def _unescaped(s: Setting, line: str) -> str:
    try:
        return str(json.loads('"' + line.replace('"', '\\"') + '"'))
    except json.JSONDecodeError:
        raise SettingError(s.name, f"{s.name} holds {line!r}.", "Write a backslash as \\\\.") from None
