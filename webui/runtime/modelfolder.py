"""A folder with a model in it, looked at without any engine: what it holds, and why it must not or cannot be opened."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from webui.core.errors import LoadFailed

PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
MOST_HEADER = 100 << 20  # bytes of a safetensors header, as its own library has it


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """What a folder's small files say."""

    path: Path
    config: Mapping[str, Any]
    generation: Mapping[str, Any]
    tokenizer: Mapping[str, Any]  # tokenizer_config.json
    template: str
    parameters: int
    size: int  # bytes of weights

    @property
    def text_config(self) -> Mapping[str, Any]:
        """The part of the configuration that describes the language model."""
        inner = self.config.get("text_config")
        return inner if isinstance(inner, dict) else self.config

    def ends(self) -> set[int]:
        """Ids of the tokens that end a reply, from all places that name some."""
        found: set[int] = set()
        for source in (self.generation, self.text_config, self.config):
            value = source.get("eos_token_id")
            found |= {v for v in (value if isinstance(value, list) else [value]) if isinstance(v, int)}
        return found

    def token_text(self, name: str) -> str:
        """The text of a named token, such as bos_token; "" when there is none."""
        value = self.tokenizer.get(name)
        if isinstance(value, dict):
            value = value.get("content")
        return value if isinstance(value, str) else ""


def quantisation(path: Path) -> str:
    """The quantisation that a folder's config names, such as gptq or exl2; "" when it names none or cannot be read."""
    try:
        config = json.loads((path / "config.json").read_text())
        return str((config.get("quantization_config") or {}).get("quant_method", ""))
    except (OSError, ValueError, AttributeError):
        return ""


def read_folder(path: Path) -> ModelFolder:
    """Look at a folder. Raises LoadFailed for pickled weights, code that comes with the model, and what is missing."""
    if not path.is_dir() or not (path / "config.json").is_file():
        raise LoadFailed(f"{path.name} is no model folder: it has no config.json.", "Choose the folder of the model.")
    config = _read(path / "config.json")
    files = {name: _read(path / name) for name in ("generation_config.json", "tokenizer_config.json")}
    for name, value in {"config.json": config, **files}.items():
        if key := _asks_for_code(value):
            raise LoadFailed(
                f"{path.name} is refused: its {name} wants to run code that comes with the model ({key}).",
                "Choose a version of the model that needs no code of its own.",
            )
    parts = list(_weights(path))
    sizes = [_parameters(part) for part in parts]
    return ModelFolder(
        path=path,
        config=config,
        generation=files["generation_config.json"],
        tokenizer=files["tokenizer_config.json"],
        template=_template(path, files["tokenizer_config.json"]),
        parameters=sum(sizes),
        size=sum(part.stat().st_size for part in parts),
    )


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise LoadFailed(f"{path.name} cannot be read: {error}.", "Download the folder again.") from None
    if not isinstance(value, dict):
        raise LoadFailed(f"{path.name} holds no settings.", "Download the folder again.")
    return value


def _asks_for_code(value: Any) -> str:
    """The key by which a configuration asks to run code, wherever it lies."""
    if isinstance(value, dict):
        if value.get("auto_map"):
            return "auto_map"
        if value.get("trust_remote_code"):
            return "trust_remote_code"
        return next((found for v in value.values() if (found := _asks_for_code(v))), "")
    if isinstance(value, list):
        return next((found for v in value if (found := _asks_for_code(v))), "")
    return ""


def _weights(path: Path) -> Iterator[Path]:
    """The safetensors files of a folder, as its index has them."""
    index = path / "model.safetensors.index.json"
    if index.is_file():
        table = _read(index).get("weight_map")
        names = sorted({str(v) for v in table.values()}) if isinstance(table, dict) else []
        for name in names:
            if Path(name).name != name or not name.endswith(".safetensors"):
                raise LoadFailed(f"{path.name} is refused: its index names the file {name!r}.", "Download it again.")
    else:
        names = sorted(p.name for p in path.glob("*.safetensors"))
    if not names:
        pickled = sorted(p.name for p in path.iterdir() if p.suffix in PICKLED)
        if pickled:
            raise LoadFailed(
                f"{path.name} is refused: it has only pickled weights ({pickled[0]}), and opening those can run code.",
                "Download the model as safetensors.",
            )
        raise LoadFailed(f"{path.name} has no weights: there is no .safetensors file.", "Download the folder again.")
    for name in names:
        if not (path / name).is_file():
            raise LoadFailed(f"{path.name} lacks the file {name}.", "Download the folder again.")
        yield path / name


def _parameters(path: Path) -> int:
    """Number of weights in a safetensors file; also checks that it is whole."""
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > min(size, MOST_HEADER):
                raise ValueError(f"its header claims {length} bytes")
            header = json.loads(file.read(length))
        tensors = [t for name, t in header.items() if name != "__metadata__"]
        end = max((t["data_offsets"][1] for t in tensors), default=0)
        if 8 + length + end > size:
            raise ValueError(f"it is truncated: {8 + length + end - size:,} bytes are missing")
        return sum(prod(t["shape"]) for t in tensors)
    except (ValueError, TypeError, KeyError, AttributeError, struct.error, RecursionError) as error:
        raise LoadFailed(f"{path.name} is not a usable safetensors file: {error}.", "Download it again.") from None


def _template(path: Path, tokenizer: Mapping[str, Any]) -> str:
    """The chat template, from the file of its own or from the tokenizer's settings."""
    file = path / "chat_template.jinja"
    if file.is_file():
        return file.read_text(encoding="utf-8", errors="replace")
    value = tokenizer.get("chat_template") or _read(path / "chat_template.json").get("chat_template")
    if isinstance(value, list):
        named = {t.get("name"): t.get("template") for t in value if isinstance(t, dict)}
        value = named.get("default") or next(iter(named.values()), "")
    return value if isinstance(value, str) else ""
