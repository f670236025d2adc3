"""Presets on the disk: the shipped ones, which are never written, and a person's own, one YAML file each.

A file of a person's own goes before a shipped one of the same name. Files may be edited by hand: they are read anew
when they have changed, and one that cannot be read is listed with what is wrong with it.
"""

from __future__ import annotations

import threading
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from webui.core.errors import NotFound, PatchbayError, PresetError
from webui.core.fields import did_you_mean, plain
from webui.core.paths import inside
from webui.core.presets import Preset, dump, parse, preset_name, resolve
from webui.core.settings import GenerationSettings
from webui.runtime.stores import files

ENDING = ".yaml"
_ENDINGS = (ENDING, ".yml")


@dataclass(frozen=True)
class StoredPreset:
    """A preset as a list shows it. ``error`` is "" for one that can be used; a damaged one has no values."""

    name: str
    description: str = ""
    author: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)  # sparse: what differs from neutral, or from ``extends``
    extends: str = ""
    source: str = ""  # where the values were published
    own: bool = False
    replaces: bool = False  # an own one that goes before a shipped one of the same name
    error: str = ""
    path: Path | None = None


class PresetStore:
    """The presets in ``shipped`` (read only) and ``own``."""

    def __init__(self, shipped: Path | str, own: Path | str) -> None:
        self.shipped, self.own = Path(shipped), Path(own)
        self._lock = threading.RLock()
        self._known: dict[Path, tuple[tuple[int, int, int], StoredPreset]] = {}
        files.sweep(self.own)

    def list(self) -> Sequence[StoredPreset]:
        """All presets by name, damaged ones too."""
        return sorted(self._all().values(), key=lambda p: (p.name.casefold(), p.name))

    def get(self, name: str) -> StoredPreset:
        """The preset of that name, damaged or not. Raises NotFound with "did you mean"."""
        found = self._all()
        try:
            return found[unicodedata.normalize("NFC", name)]
        except (KeyError, TypeError):
            raise NotFound(f"There is no preset {name!r}.", did_you_mean(str(name), found)) from None

    def settings(self, name: str) -> GenerationSettings:
        """The settings that the preset stands for. Raises NotFound, or PresetError for a damaged one."""
        return resolve(self._preset(name), self._preset)

    def save(
        self, name: str, values: Mapping[str, Any], description: str = "", *, author: str = "", extends: str = ""
    ) -> StoredPreset:
        """Save one's own preset under that name; an own one of the same name is replaced, a shipped one covered.

        Raises PresetError or BadName for a name or a value that cannot be, DiskFull or StoreError when saving fails.
        """
        preset = Preset(preset_name(name), description.strip(), author.strip(), "", extends, plain(values))
        text = dump(preset)
        preset = parse(text, preset.name)  # what is written can be read: names and values are checked here
        resolve(preset, self._preset)
        with self._lock:
            files.write_atomic(inside(self.own, preset.name, ENDING, what="preset name"), text)
        return self.get(preset.name)

    def delete(self, name: str) -> None:
        """Delete one's own preset; a shipped one of the same name shows again. Raises PresetError for a shipped one."""
        with self._lock:
            preset = self.get(name)
            if not preset.own or preset.path is None:
                raise PresetError(f"The preset {preset.name} came with Patchbay and stays.", "Delete your own only.")
            with files.explained(self.own):
                preset.path.unlink(missing_ok=True)

    def _preset(self, name: str) -> Preset:
        found = self.get(name)
        if found.error:
            raise PresetError(
                f"The preset {found.name} is damaged: {found.error}", "Mend its file or choose another one."
            )
        return Preset(found.name, found.description, found.author, found.source, found.extends, found.values)

    def _all(self) -> dict[str, StoredPreset]:
        with self._lock:
            shipped = {p.name: p for p in self._read_folder(self.shipped, own=False)}
            own = {p.name: replace(p, replaces=p.name in shipped) for p in self._read_folder(self.own, own=True)}
            return {**shipped, **own}

    def _read_folder(self, folder: Path, own: bool) -> Sequence[StoredPreset]:
        try:
            paths = sorted(p for p in folder.iterdir() if p.suffix in _ENDINGS and not p.name.startswith("."))
        except OSError:
            return []
        return [self._read(path, own) for path in paths]

    def _read(self, path: Path, own: bool) -> StoredPreset:
        try:
            facts = path.lstat()
            stamp = (facts.st_mtime_ns, facts.st_size, facts.st_ino)
        except OSError:
            stamp = (0, 0, 0)
        known = self._known.get(path)
        if known is not None and known[0] == stamp:
            return known[1]
        name = unicodedata.normalize("NFC", path.stem)
        try:
            made = parse(files.read_text(path, links=not own), name)
            found = StoredPreset(
                made.name, made.description, made.author, made.settings, made.extends, made.source, own, path=path
            )
        except PatchbayError as error:
            found = StoredPreset(_printable(name), own=own, error=str(error), path=path)
        except RecursionError:
            found = StoredPreset(_printable(name), own=own, error="It is nested too deeply.", path=path)
        self._known[path] = (stamp, found)
        return found


def _printable(name: str) -> str:
    """The name of a file that no preset may have, as it can be shown."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in name)
