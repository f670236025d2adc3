"""Presets: short YAML files that hold only the settings that differ from neutral.

    description: Lively and coherent; a good default for stories.
    author: Patchbay
    extends: Balanced          # optional: another preset, whose settings this one starts from
    settings:
      temperature: 1.1
      min_p: 0.05

A preset comes from anywhere, so it is read as data and nothing else: no anchors, aliases or tags, at most 256 KB, every
name known, every value checked. What YAML reads otherwise than it looks (``no``, ``1e5``, ``1:30``) is refused with a
sentence. Errors name the line.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import yaml

from webui.core.errors import BadName, NotFound, PresetError, SettingError
from webui.core.fields import Setting, build, describe, did_you_mean, plain
from webui.core.paths import checked_name
from webui.core.settings import GenerationSettings

#: The preset that a chat uses when nothing else is chosen.
DEFAULT = "Balanced"
LARGEST = 256 * 1024  # bytes of a preset file
LONGEST_NAME = 80  # characters
_DEEPEST = 8  # levels of YAML; a preset has three
_LONGEST_CHAIN = 16  # presets that extend each other
_NAME = re.compile(r"[\w\-.() ]+")
_NUMBER = re.compile(
    r"[-+]?((0|[1-9][0-9]*)(\.[0-9]*)?([eE][-+]?[0-9]+)?|\.[0-9]+([eE][-+]?[0-9]+)?|\.nan|\.inf)", re.IGNORECASE
)
_ID = re.compile("0|[1-9][0-9]{0,9}")
_LIKE_A_NUMBER = re.compile(r"[-+]?[0-9.][0-9_.]*[eE][-+]?[0-9]+")
#: What a preset file may hold.
KEYS = ("description", "author", "source", "extends", "settings")
_TAG = "tag:yaml.org,2002:"


@dataclass(frozen=True)
class Preset:
    """A named, sparse set of settings. ``settings`` holds checked, plain values; ``extends`` names another preset."""

    name: str
    description: str = ""
    author: str = ""
    source: str = ""  # where the values were published
    extends: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "settings", MappingProxyType(dict(self.settings)))


def preset_name(name: str) -> str:
    """The name, if it can be a preset's: letters, digits, spaces and ``-_.()``, at most 80. PresetError otherwise."""
    try:
        good = checked_name(name, what="preset name")
    except BadName as error:
        raise PresetError(error.message, error.hint) from error
    if len(good) > LONGEST_NAME:
        raise PresetError(f"The preset name has {len(good)} characters.", f"It may have {LONGEST_NAME}.")
    if not _NAME.fullmatch(good):
        raise PresetError(f"The preset name {good!r} cannot be used.", "Use letters, digits, spaces and - _ . ( ).")
    return good


def parse(text: str, name: str) -> Preset:
    """The preset that a YAML text describes. PresetError names the line and what is wrong with it."""
    name = preset_name(name)
    if len(text.encode("utf-8", "surrogatepass")) > LARGEST:
        raise PresetError(f"The preset {name} is larger than {LARGEST // 1024} KB.", "A preset is a short list.")
    root = _compose(text, name)
    if root is None:
        return Preset(name)
    if not isinstance(root, yaml.MappingNode):
        raise _wrong(name, root, "A preset is a mapping.", "Write description: … and settings: …")
    words: dict[str, str] = {}
    values: dict[str, Any] = {}
    for key, node in _entries(root, name):
        if key == "settings":
            values = _settings(node, name)
        elif key in KEYS:
            words[key] = _word(node, key, name)
        elif key in describe(GenerationSettings):
            raise _wrong(name, node, f"{key} stands beside settings.", "Indent it below settings:.")
        else:
            raise _wrong(name, node, f"There is no key {key!r}.", did_you_mean(key, KEYS))
    if words.get("extends"):
        words["extends"] = preset_name(words["extends"])
    return Preset(name, settings=values, **words)


def dump(preset: Preset) -> str:
    """The preset as YAML that ``parse`` reads back to the same preset."""
    written: dict[str, Any] = {k: getattr(preset, k) for k in KEYS[:-1] if getattr(preset, k)}
    written["settings"] = plain(preset.settings)
    return yaml.dump(written, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


def merged(preset: Preset, lookup: Callable[[str], Preset]) -> dict[str, Any]:
    """The preset's settings laid over those of the presets it extends. PresetError for a circle or a missing one."""
    chain = [preset]
    while chain[-1].extends:
        wanted = chain[-1].extends
        names = [p.name for p in chain]
        if wanted in names:
            circle = " → ".join([*names, wanted])
            raise PresetError(f"The preset {preset.name} extends itself: {circle}.", "Take one extends: out.")
        if len(chain) >= _LONGEST_CHAIN:
            raise PresetError(f"The preset {preset.name} extends more than {_LONGEST_CHAIN} others.", "Write it flat.")
        try:
            chain.append(lookup(wanted))
        except NotFound as error:
            raise PresetError(f"The preset {names[-1]} extends {wanted!r}, which is not there.", error.hint) from error
    values: dict[str, Any] = {}
    for one in reversed(chain):
        values.update(one.settings)
    return values


def resolve(preset: Preset, lookup: Callable[[str], Preset]) -> GenerationSettings:
    """The settings that a preset stands for; ``lookup`` finds a preset by name or raises NotFound."""
    try:
        return build(GenerationSettings, merged(preset, lookup))
    except SettingError as error:
        raise PresetError(f"The preset {preset.name}: {error.message}", error.hint) from error


class _Dumper(yaml.SafeDumper):
    """Writes every value out, without anchors, lists indented below their key."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    """Text with line breaks or invisible characters goes between double quotes, where they are spelt out."""
    return dumper.represent_scalar(_TAG + "str", text, style=None if text.isprintable() else '"')


_Dumper.add_representer(str, _represent_text)


def _compose(text: str, name: str) -> yaml.Node | None:
    """The YAML nodes of a text; refuses what a preset has no use for before anything is built from it."""
    try:
        depth = 0
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
                raise _wrong(name, event, "Anchors and aliases (& and *) are not read.", "Write the value out.")
            if getattr(event, "tag", None):
                raise _wrong(name, event, "Tags (!) are not read.", "Write the plain value.")
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > _DEEPEST:
                raise _wrong(name, event, "It is nested too deeply.", "A preset has at most three levels.")
        node: yaml.Node | None = yaml.compose(text, Loader=yaml.SafeLoader)
        return node
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f"Line {mark.line + 1} of the" if mark else "The"
        raise PresetError(f"{line} preset {name} is not YAML: {error.problem or error.context}.", _CURE) from error
    except yaml.YAMLError as error:
        raise PresetError(f"The preset {name} is not YAML: {str(error).splitlines()[0]}.", _CURE) from error


_CURE = "Check the indentation and the quotes of that line."


def _wrong(name: str, at: Any, message: str, hint: str) -> PresetError:
    return PresetError(f"Line {at.start_mark.line + 1} of the preset {name}: {message}", hint)


def _entries(node: yaml.MappingNode, name: str) -> Iterator[tuple[str, yaml.Node]]:
    """The keys and values of a mapping; each key once, and a text."""
    seen: set[str] = set()
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise _wrong(name, key, "A key is a word.", "")
        if key.value in seen:
            raise _wrong(name, key, f"{key.value} is there twice.", "Keep one.")
        seen.add(key.value)
        yield key.value, value


def _word(node: yaml.Node, key: str, name: str) -> str:
    """A text such as the description."""
    if not isinstance(node, yaml.ScalarNode):
        raise _wrong(name, node, f"{key} is a text.", "")
    if node.tag == _TAG + "null":
        return ""
    if node.tag != _TAG + "str":
        raise _wrong(name, node, f"YAML reads {node.value} as {_kind(node)}.", "Put it in quotes.")
    return str(node.value)


def _settings(node: yaml.Node, name: str) -> dict[str, Any]:
    if isinstance(node, yaml.ScalarNode) and node.tag == _TAG + "null":
        return {}
    if not isinstance(node, yaml.MappingNode):
        raise _wrong(name, node, "settings is a mapping.", "Write one name: value a line, indented.")
    known = describe(GenerationSettings)
    values = {}
    for key, value in _entries(node, name):
        if key not in known:
            raise _wrong(name, value, f"There is no setting {key!r}.", _meant(key, known))
        _refuse_traps(value, known[key], name)
        try:
            values[key] = plain(known[key].check(_Loader.construct(value)))
        except SettingError as error:
            raise _wrong(name, value, error.message, error.hint) from error
        except (ValueError, yaml.YAMLError) as error:  # a number too long to read, a lone = or <<
            raise _wrong(name, value, f"{key} cannot be read.", "Write it in plain digits or in quotes.") from error
    return values


def _meant(key: str, known: Mapping[str, Setting]) -> str:
    """Which setting a person may have meant: other programs' names count too."""
    for setting in known.values():
        if key in setting.aliases:
            return f"It is called {setting.name} here."
    return did_you_mean(key, known)


def _refuse_traps(node: yaml.Node, setting: Setting, name: str) -> None:
    """Refuse scalars that YAML reads otherwise than they look."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            _refuse_misread(key, name)
            _refuse_traps(value, setting, name)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _refuse_misread(item, name)
    elif isinstance(node, yaml.ScalarNode):
        text, number = str(node.value), setting.type in (int, float, dict[str, float])
        if node.tag == _TAG + "null":
            raise _wrong(name, node, f"{setting.name} has no value.", "Write one, or take the line out.")
        if node.tag in (_TAG + "int", _TAG + "float", _TAG + "timestamp") and not _NUMBER.fullmatch(text):
            hint = "Write the number in plain digits." if number else "Put it in quotes."
            raise _wrong(name, node, f"YAML reads {text} as {_kind(node)}.", hint)
        if number and node.tag == _TAG + "str" and node.style is None and _LIKE_A_NUMBER.fullmatch(text):
            raise _wrong(name, node, f"YAML reads {text} as text.", f"Write {float(text.replace('_', '')):g} out.")
        if setting.type is str and node.tag != _TAG + "str":
            raise _wrong(name, node, f"YAML reads {text or 'nothing'} as {_kind(node)}.", "Put it in quotes.")


def _refuse_misread(node: yaml.Node, name: str) -> None:
    """Refuse what should be a text or a token id and is neither for YAML."""
    if isinstance(node, yaml.ScalarNode) and node.tag != _TAG + "str":
        if node.tag != _TAG + "int" or not _ID.fullmatch(node.value):
            raise _wrong(name, node, f"YAML reads {node.value} as {_kind(node)}.", "Put it in quotes.")


def _kind(node: yaml.ScalarNode) -> str:
    """What YAML makes of a scalar, in words."""
    if node.tag == _TAG + "null":
        return "nothing"
    if node.tag == _TAG + "bool":
        return "true" if _Loader.construct(node) else "false"
    if node.tag == _TAG + "timestamp":
        return "a date"
    if node.tag in (_TAG + "int", _TAG + "float"):
        return f"the number {_Loader.construct(node)}"
    return "something else than text"


class _Loader(yaml.SafeLoader):
    """Builds plain values from nodes."""

    @classmethod
    def construct(cls, node: yaml.Node) -> Any:
        """The value of one node."""
        return cls("").construct_document(node)
