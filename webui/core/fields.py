"""One declaration for everything a person can turn.

A setting is a field of a frozen dataclass, declared with :func:`setting`. The form, the YAML, the JSON schema, the
command line, the reference page and the validation error all come from that declaration.

    @dataclass(frozen=True)
    class SpeechSettings:
        speed: float = setting(1.0, "How fast the voice speaks.", group="Voice", form=(0.5, 2, 0.05), valid=(0.1, 10))

    build(SpeechSettings, {"speed": 1.2})     # checked; errors name the field and its range
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from webui.core.errors import SettingError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Setting:
    """What is known of one setting."""

    name: str
    type: Any  # the annotation, resolved: bool, int, float, str, tuple[str, ...], dict[str, float] …
    default: Any
    neutral: Any  # the value at which the setting does nothing
    help: str
    group: str = ""
    label: str = ""
    form: tuple[float, float, float] | None = None  # low, high, step that the form offers
    valid: tuple[float | None, float | None] | None = None  # low, high that are accepted at all; None: unbounded
    choices: tuple[Any, ...] = ()  # the values it takes; of a list, the items, each at most once
    aliases: tuple[str, ...] = ()  # names of the same setting in other programs
    source: str = ""  # paper or specification
    secret: bool = False
    lines: int = 1  # height of the text box

    @property
    def title(self) -> str:
        """The label that a form shows."""
        return self.label or self.name.replace("_", " ").capitalize()

    def check(self, value: Any) -> Any:
        """The value converted to the setting's type; SettingError names the field and what it takes."""
        return _check(self, value)


def setting(
    default: Any,
    help: str,
    *,
    group: str = "",
    label: str = "",
    neutral: Any = dataclasses.MISSING,
    form: tuple[float, float, float] | None = None,
    valid: tuple[float | None, float | None] | None = None,
    choices: Iterable[Any] = (),
    aliases: Iterable[str] = (),
    source: str = "",
    secret: bool = False,
    lines: int = 1,
) -> Any:
    """Declare a setting as a dataclass field. ``neutral`` is the default unless given."""
    meta = {
        "help": help,
        "group": group,
        "label": label,
        "neutral": default if neutral is dataclasses.MISSING else neutral,
        "form": form,
        "valid": valid if valid is not None else (form[0], form[1]) if form else None,
        "choices": tuple(choices),
        "aliases": tuple(aliases),
        "source": source,
        "secret": secret,
        "lines": lines,
    }
    if isinstance(default, dict | list):
        return field(default_factory=lambda: type(default)(default), metadata={"setting": meta})
    return field(default=default, metadata={"setting": meta})


def describe(cls: type) -> Mapping[str, Setting]:
    """The settings of a dataclass, by name, in the order of declaration."""
    if cls not in _DESCRIBED:
        _DESCRIBED[cls] = types.MappingProxyType(_describe(cls))
    return _DESCRIBED[cls]


_DESCRIBED: dict[type, Mapping[str, Setting]] = {}


def _describe(cls: type) -> dict[str, Setting]:
    hints = typing.get_type_hints(cls)
    found = {}
    for f in dataclasses.fields(cls):
        meta = f.metadata.get("setting")
        if meta is None:
            continue
        default = f.default_factory() if f.default_factory is not dataclasses.MISSING else f.default
        found[f.name] = Setting(name=f.name, type=hints[f.name], default=default, **meta)
    return found


def build(cls: type[T], values: Mapping[str, Any], *, base: T | None = None) -> T:
    """An instance of ``cls`` with ``values`` checked and laid over ``base`` (or the defaults).

    Raises SettingError for an unknown name (with "did you mean"), a wrong type, NaN, or a value out of range.
    """
    known = describe(cls)
    checked = {}
    for name, value in values.items():
        if name not in known:
            raise SettingError(name, f"There is no setting {name!r}.", did_you_mean(name, known))
        checked[name] = known[name].check(value)
    if base is not None:
        return dataclasses.replace(base, **checked)  # type: ignore[type-var]  # T is a dataclass by contract
    return cls(**checked)


def sparse(instance: Any) -> dict[str, Any]:
    """Only the values that differ from their defaults, as plain JSON/YAML values."""
    return {
        name: plain(getattr(instance, name))
        for name, s in describe(type(instance)).items()
        if getattr(instance, name) != s.default
    }


def values(instance: Any) -> dict[str, Any]:
    """All values, as plain JSON/YAML values."""
    return {name: plain(getattr(instance, name)) for name in describe(type(instance))}


def plain(value: Any) -> Any:
    """A value as JSON and YAML know it (tuples become lists)."""
    if isinstance(value, tuple | list):
        return [plain(v) for v in value]
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    return value


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A hint that names the closest known names, or lists them all when none is close."""
    names = list(known)
    close = difflib.get_close_matches(name, names, n=2, cutoff=0.6)
    if close:
        return "Did you mean " + " or ".join(close) + "?"
    return "Known: " + ", ".join(names) + "." if len(names) <= 12 else ""


def json_schema(cls: type) -> dict[str, Any]:
    """The JSON schema of a settings dataclass (draft 2020-12)."""
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": {name: _schema(s) for name, s in describe(cls).items()},
    }


def _schema(s: Setting) -> dict[str, Any]:
    kind, optional = _kind(s.type)
    out: dict[str, Any] = {"description": s.help, "default": plain(s.default)}
    names = {bool: "boolean", int: "integer", float: "number", str: "string", tuple: "array", dict: "object"}
    out["type"] = [names[kind], "null"] if optional else names[kind]
    if s.valid and kind in (int, float):
        if s.valid[0] is not None:
            out["minimum"] = s.valid[0]
        if s.valid[1] is not None:
            out["maximum"] = s.valid[1]
    if s.choices and kind is not tuple:
        out["enum"] = list(s.choices)
    if kind is tuple:
        out["items"] = {"type": "string"}
        if s.choices:
            out["items"]["enum"] = list(s.choices)
            out["uniqueItems"] = True
    return out


def _kind(annotation: Any) -> tuple[type, bool]:
    """The plain type behind an annotation, and whether None is allowed."""
    origin = typing.get_origin(annotation)
    if origin in (types.UnionType, typing.Union):
        inner = [a for a in typing.get_args(annotation) if a is not type(None)]
        return _kind(inner[0])[0], True
    return (origin or annotation), False


def _check(s: Setting, value: Any) -> Any:
    kind, optional = _kind(s.type)
    if value is None and optional:
        return None
    value = _convert(s, kind, value)
    if s.choices and kind is tuple:
        _check_items(s, value)
    elif s.choices and value not in s.choices:
        text = ", ".join(map(str, s.choices))
        raise SettingError(s.name, f"{s.name} is {value!r}.", f"It is one of: {text}.")
    if kind in (int, float) and s.valid:
        low, high = s.valid
        if (low is not None and value < low) or (high is not None and value > high):
            raise SettingError(s.name, f"{s.name} is {value}.", f"It takes {_range(low, high)}.")
    return value


def _check_items(s: Setting, items: tuple[str, ...]) -> None:
    for place, item in enumerate(items):
        if item not in s.choices:
            raise SettingError(s.name, f"{s.name} has no {item!r}.", did_you_mean(item, s.choices))
        if item in items[:place]:
            raise SettingError(s.name, f"{s.name} names {item!r} twice.", "Name each at most once.")


def _convert(s: Setting, kind: type, value: Any) -> Any:
    if kind is bool:
        if isinstance(value, bool):
            return value
    elif kind is int:
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        if isinstance(value, float) and value.is_integer():
            return int(value)
    elif kind is float:
        if isinstance(value, int | float) and not isinstance(value, bool):
            number = float(value)
            if not math.isfinite(number):
                raise SettingError(s.name, f"{s.name} is {number}.", f"It takes {_range(*(s.valid or (None, None)))}.")
            return number
    elif kind is str:
        if isinstance(value, str):
            return _unicode(s, value)
    elif kind is tuple:
        # whole numbers may stand for their digits: token ids
        if isinstance(value, list | tuple) and all(isinstance(v, str | int) and not isinstance(v, bool) for v in value):
            return tuple(_unicode(s, str(v)) for v in value)
    elif kind is dict and isinstance(value, Mapping):
        try:
            numbers = {str(k): float(v) for k, v in value.items()}
        except (TypeError, ValueError):
            numbers = {"": math.nan}
        if all(math.isfinite(v) for v in numbers.values()):
            return numbers
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "text", tuple: "a list of texts"}
    wanted = names.get(kind, "a mapping of text to numbers")
    raise SettingError(s.name, f"{s.name} is {_shown(value)}.", f"It takes {wanted}.")


def _unicode(s: Setting, text: str) -> str:
    if any(0xD800 <= ord(c) <= 0xDFFF for c in text):
        raise SettingError(s.name, f"{s.name} holds half of a surrogate pair.", "Send valid Unicode text.")
    return text


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"


def _range(low: float | None, high: float | None) -> str:
    def tidy(number: float) -> str:
        return f"{number:g}"

    if low is None and high is None:
        return "a finite number"
    if low is None:
        return f"at most {tidy(high)}" if high is not None else "a finite number"
    if high is None:
        return f"at least {tidy(low)}"
    return f"{tidy(low)} to {tidy(high)}"
