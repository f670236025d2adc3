"""Settings on the disk: ``settings.yaml`` for the program, ``extensions/<name>.yaml`` for each extension.

Both are mappings that a person may edit. What the program does not know it keeps; what it cannot read it sets aside.
"""

from __future__ import annotations

import copy
import re
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml

from webui.core.errors import BadName, NotFound, PatchbayError, SettingError, StoreError
from webui.core.fields import build, describe, plain, sparse
from webui.core.paths import inside
from webui.runtime.stores import files

T = TypeVar("T")

APP = "app"  # the scope that all others are laid over
SCOPES = "scopes"  # the key in an extension's file that holds the other scopes
LARGEST = 2 * 1024 * 1024


class SettingsStore:
    """The settings in ``folder``. ``notices`` are sentences for the person about files that could not be read."""

    def __init__(self, folder: Path | str) -> None:
        self.folder = folder = Path(folder)
        self.notices: list[str] = []
        self._lock = threading.RLock()
        self._read: dict[Path, tuple[tuple[int, int, int], dict[str, Any]]] = {}
        self._names: dict[type, str] = {}
        self._unread: set[Path] = set()
        for place in (folder, folder / "extensions"):
            files.sweep(place)
        self._load(self._main)

    @property
    def _main(self) -> Path:
        return self.folder / "settings.yaml"

    # ---- sections of settings.yaml

    def section(self, name: str) -> dict[str, Any]:
        """A copy of the mapping under ``name``; empty when there is none."""
        with self._lock:
            found = self._load(self._main).get(name)
            return copy.deepcopy(found) if isinstance(found, dict) else {}

    def save_section(self, name: str, values: Mapping[str, Any]) -> None:
        """Replace the mapping under ``name``; other sections, known or not, stay. Raises StoreError or DiskFull."""
        with self._lock:
            content = self._load(self._main)
            self._save(self._main, {**content, name: plain(values)})

    # ---- typed settings

    def declare(self, cls: type, name: str) -> None:
        """Say that ``cls`` holds the settings of the extension ``name``: they live in a file of that name."""
        self._names[cls] = name

    def get(self, cls: type[T], scope: str = APP) -> T:
        """The settings of a declared dataclass, or of one of the program's own.

        ``scope`` is "app", "model:NAME" or "chat:ID"; what a narrower scope does not set comes from "app". A value that
        the setting cannot take counts as not set, and is said in ``notices``.
        """
        with self._lock:
            values = self._values(cls, APP)
            if scope != APP:
                values |= self._values(cls, scope)
        known = describe(cls)
        instance = cls()
        for name, value in values.items():
            if name not in known:
                continue
            try:
                instance = build(cls, {name: value}, base=instance)
            except SettingError as error:
                self._say(f"{self._place(cls)}: {error}")
        return instance

    def set(self, instance: Any, scope: str = APP) -> None:
        """Save the settings that differ from their defaults (for a narrower scope: from those of "app")."""
        cls = type(instance)
        with self._lock:
            chosen = sparse(instance)
            if scope != APP:
                base = self.get(cls)
                chosen = {
                    name: plain(getattr(instance, name))
                    for name in describe(cls)
                    if getattr(instance, name) != getattr(base, name)
                }
            unknown = {k: v for k, v in self._values(cls, scope).items() if k not in describe(cls)}
            chosen = {**unknown, **chosen}
            if cls not in self._names:
                if scope != APP:
                    raise SettingError("scope", f"{cls.__name__} has no scope {scope!r}.", "It takes app.")
                self.save_section(_snake(cls.__name__), chosen)
                return
            path = self._file(cls)
            content = self._load(path)
            scopes = dict(content.get(SCOPES) or {})
            if scope == APP:
                content = dict(chosen)
            else:
                scopes[scope] = chosen
                content = {k: v for k, v in content.items() if k != SCOPES}
            kept = {k: v for k, v in scopes.items() if v}
            self._save(path, {**content, SCOPES: kept} if kept else content)

    def _values(self, cls: type, scope: str) -> dict[str, Any]:
        if cls not in self._names:
            return self.section(_snake(cls.__name__)) if scope == APP else {}
        content = self._load(self._file(cls))
        if scope == APP:
            return {k: v for k, v in content.items() if k != SCOPES}
        scopes = content.get(SCOPES)
        found = scopes.get(scope) if isinstance(scopes, dict) else None
        return dict(found) if isinstance(found, dict) else {}

    def _file(self, cls: type) -> Path:
        return inside(self.folder / "extensions", self._names[cls], ".yaml")

    def _place(self, cls: type) -> str:
        return self._file(cls).name if cls in self._names else f"{self._main.name}, {_snake(cls.__name__)}"

    # ---- files

    def _load(self, path: Path) -> dict[str, Any]:
        """The mapping in a file, read anew when it has changed. A damaged one is set aside and counts as empty."""
        try:
            facts = path.stat()
            stamp = (facts.st_mtime_ns, facts.st_size, facts.st_ino)
        except OSError:
            stamp = (0, 0, 0)
        known = self._read.get(path)
        if known is not None and known[0] == stamp:
            return known[1]
        try:
            content = read_mapping(files.read_text(path, largest=LARGEST))
        except NotFound:
            content = {}
        except (yaml.YAMLError, BadName, StoreError, RecursionError, ValueError) as error:
            if isinstance(error, StoreError) and isinstance(error.__context__, OSError):
                self._unread.add(path)
                self._say(f"{error} The defaults are used.")
            else:
                self._set_aside(path, error)
            return {}
        self._unread.discard(path)
        self._read[path] = (stamp, content)
        return content

    def _set_aside(self, path: Path, error: Exception) -> None:
        mark = getattr(error, "problem_mark", None)
        where = f" (line {mark.line + 1})" if mark else ""
        try:
            kept = files.set_aside(path, "damaged")
        except PatchbayError as refused:
            self._say(f"{path} cannot be read{where}: the defaults are used. {refused}")
            return
        self._say(f"{path} could not be read{where}: the defaults are used. The file is kept as {kept.name}.")

    def _save(self, path: Path, content: dict[str, Any]) -> None:
        try:
            text = yaml.safe_dump(content, allow_unicode=True, sort_keys=False, width=110)
        except yaml.YAMLError:
            raise SettingError("settings", "These values cannot be stored.", "Use text, numbers and lists.") from None
        if len(text.encode("utf-8")) > LARGEST:
            raise StoreError(f"{path.name} would have more than {LARGEST:,} bytes.", "Make it shorter.")
        if path in self._unread and path.exists():  # what could not be read must not be replaced by nothing
            raise StoreError(f"{path} cannot be read, so it is not replaced.", "Check who may read it.")
        files.write_atomic(path, text)
        facts = path.stat()
        self._read[path] = ((facts.st_mtime_ns, facts.st_size, facts.st_ino), copy.deepcopy(content))

    def _say(self, sentence: str) -> None:
        if sentence not in self.notices:
            self.notices.append(sentence)


class _Plain(yaml.SafeLoader):
    """YAML without anchors, aliases and tags: a small file cannot become a large value."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]  # PyYAML's stubs leave it open
        mark: Any = event.start_mark
        if isinstance(event, yaml.AliasEvent):
            raise yaml.MarkedYAMLError(problem="aliases are not used here", problem_mark=mark)
        if getattr(event, "anchor", None) or getattr(event, "tag", None):
            raise yaml.MarkedYAMLError(problem="anchors and tags are not used here", problem_mark=mark)
        return super().compose_node(parent, index)


def read_mapping(text: str) -> dict[str, Any]:
    """The mapping in a YAML text; {} for an empty one. Raises yaml.YAMLError with a mark for anything else."""
    content = yaml.load(text, Loader=_Plain)  # noqa: S506  # a SafeLoader with less
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise yaml.MarkedYAMLError(problem="this is no mapping")
    return {str(key): value for key, value in content.items()}


def _snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
