"""What lies in the folder of models: files and folders that loaders can open, and what their cards say."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from webui.core.loader import Capabilities, Loader, ModelInfo

_SHARD = re.compile(r"-(\d{5})-of-\d{5}$")


@dataclass
class Model:
    """A model in the catalogue, and its state."""

    name: str
    path: Path
    size: int = 0
    candidates: dict[str, tuple[float, Path]] = field(
        default_factory=dict
    )  # by loader: how well it fits, what it opens
    loader: str = ""
    settings: dict[str, Any] = field(default_factory=dict)  # loader, options by loader, template, preset
    state: Literal["unloaded", "loading", "loaded", "failed"] = "unloaded"
    progress: float = 0.0
    text: str = ""
    error: str = ""
    hint: str = ""
    info: ModelInfo | None = None
    capabilities: Capabilities = field(default_factory=Capabilities)
    used: float = 0.0
    outside: bool = False  # named by a path outside the folders

    @property
    def template(self) -> str:
        """The chat template chosen for it; "" is its own."""
        return str(self.settings.get("template", ""))

    def options(self, loader: str) -> dict[str, Any]:
        """The load options kept for it with a loader."""
        kept = self.settings.get("options", {})
        return dict(kept.get(loader, {})) if isinstance(kept, Mapping) else {}

    @property
    def loaders(self) -> list[tuple[str, float]]:
        """The loaders that can open it, the best first."""
        return sorted(((n, s) for n, (s, _) in self.candidates.items()), key=lambda pair: -pair[1])


def candidates(loaders: Mapping[str, Loader], paths: list[Path]) -> dict[str, tuple[float, Path]]:
    """By loader: how well it fits the best of the paths, and which that is."""
    best: dict[str, tuple[float, Path]] = {}
    for name, loader in loaders.items():
        for path in paths:
            try:
                score = float(loader.accepts(path))
            except Exception:  # a loader from elsewhere; it then does not fit
                score = 0.0
            if score > best.get(name, (0.0, path))[0]:
                best[name] = (score, path)
    return best


def size(path: Path) -> int:
    """Bytes of a file; 0 for what is none."""
    try:
        return path.stat().st_size if path.is_file() else 0
    except OSError:
        return 0


def scan(folder: Path) -> list[tuple[str, Path, list[Path]]]:
    """(name, path, files inside) of what may be models: files, folders with a config.json, two levels deep."""
    found: list[tuple[str, Path, list[Path]]] = []

    def look(where: Path, prefix: str, depth: int) -> None:
        try:
            entries = sorted(where.iterdir(), key=lambda p: p.name.lower())
        except OSError:
            return
        for path in entries:
            name = prefix + path.name
            if path.name.startswith((".", "_")):
                continue
            if path.is_dir():
                if (path / "config.json").is_file():
                    ggufs = sorted(path.glob("*.gguf"), key=size, reverse=True)
                    found.append((name, path, [*ggufs, *sorted(path.glob("*.safetensors"))]))
                elif depth:
                    look(path, name + "/", depth - 1)
            elif path.suffix == ".gguf" and not path.name.startswith("mmproj"):
                shard = _SHARD.search(path.stem)
                if shard is None or int(shard.group(1)) == 1:
                    stem = _SHARD.sub("", path.stem)
                    found.append((prefix + stem, path, []))

    look(folder, "", 1)
    return found


def card(folder: Path, name: str) -> dict[str, Any]:
    """What ``<name>.yaml`` beside a model says of it; a damaged file says nothing."""
    path = folder / f"{name}.yaml"
    try:
        values = yaml.safe_load(path.read_text("utf-8")) if path.is_file() else None
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return {}
    known = ("loader", "options", "template", "preset")
    return {k: v for k, v in values.items() if k in known} if isinstance(values, dict) else {}
