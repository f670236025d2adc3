"""Reads the header of a GGUF file: what is in it, and whether it can be right. Weights are not touched.

Every length is checked before it is believed, so that a damaged or hostile file ends in a sentence and
not in the engine. Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MAGIC = b"GGUF"
MOST_TENSORS, MOST_KEYS, MOST_KEY, MOST_STRING, MOST_ITEMS = 1 << 17, 1 << 16, 1 << 16, 1 << 26, 1 << 28
MOST_HEADER = 256 << 20  # bytes; only so much of the file is mapped
KEPT_ITEMS = 512  # longer arrays (the vocabulary) are only counted
SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
STRING, ARRAY = 8, 9
#: Tensor types: weights in a block, and its bytes.
BLOCKS = {
    0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 9: (32, 40), 10: (256, 84),
    11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 15: (256, 292), 16: (256, 66), 17: (256, 74),
    18: (256, 98), 19: (256, 50), 20: (32, 18), 21: (256, 110), 22: (256, 82), 23: (256, 136), 24: (1, 1), 25: (1, 2),
    26: (1, 4), 27: (1, 8), 28: (1, 8), 29: (256, 56), 30: (1, 2), 34: (256, 54), 35: (256, 66), 39: (32, 17),
    40: (64, 36), 41: (128, 18),
}  # fmt: skip


class NotUsable(ValueError):
    """The file is no GGUF that can be opened; the message is the reason."""


@dataclass(frozen=True, slots=True)
class Header:
    """What a GGUF file says of itself. ``counts`` holds the lengths of its long arrays by key."""

    metadata: Mapping[str, Any]
    counts: Mapping[str, int]
    tensors: int
    parameters: int
    size: int  # bytes of weights

    @property
    def architecture(self) -> str:
        """The kind of model, such as llama."""
        return str(self.metadata.get("general.architecture", ""))

    @property
    def name(self) -> str:
        """The name its maker gave it."""
        return str(self.metadata.get("general.name", ""))

    @property
    def template(self) -> str:
        """The chat template; "" when there is none."""
        return str(self.metadata.get("tokenizer.chat_template", ""))

    @property
    def context(self) -> int:
        """The context that it was trained for; 0 when it is not said."""
        return self.number("context_length")

    @property
    def vocabulary(self) -> int:
        """Number of tokens."""
        return self.counts.get("tokenizer.ggml.tokens", 0)

    def number(self, key: str) -> int:
        """A number of the architecture's own, such as ``block_count``; the largest of a list; 0 when it is missing."""
        value = self.metadata.get(f"{self.architecture}.{key}", 0)
        if isinstance(value, list):
            value = max((v for v in value if isinstance(v, int)), default=0)
        return value if isinstance(value, int) else 0

    def numbers(self, key: str, count: int) -> list[int]:
        """The same per layer: the list, or ``count`` times the number."""
        value = self.metadata.get(f"{self.architecture}.{key}", 0)
        if isinstance(value, list):
            return [v if isinstance(v, int) else 0 for v in value][:count]
        return [value if isinstance(value, int) else 0] * count


def read_header(path: Path) -> Header:
    """The header of a file. Raises NotUsable with the reason, or OSError."""
    size = path.stat().st_size
    if size == 0:
        raise NotUsable("the file is empty")
    with path.open("rb") as file:
        start = file.read(64)
        _refuse_other_formats(start)
        if size < 24:
            raise NotUsable(f"the file is too short: {size} bytes")
        with mmap.mmap(file.fileno(), min(size, MOST_HEADER), access=mmap.ACCESS_READ) as data:
            return _Reader(data, size).header()


def _refuse_other_formats(start: bytes) -> None:
    if start.startswith(b"version https://git-lfs"):
        raise NotUsable("it is only a Git LFS pointer; fetch the file itself with: git lfs pull")
    if start.lstrip()[:1] == b"<":
        raise NotUsable("it is a web page, probably from a download that failed")
    if start.startswith((b"ggml", b"lmgg", b"tjgg", b"ggla", b"fmgg")):
        raise NotUsable("it has an older format than GGUF; download a newer file")
    if not start.startswith(MAGIC):
        raise NotUsable(f"it does not begin with the letters GGUF but with {start[:4]!r}")


class _Reader:
    """A place in the file, and checked steps from there."""

    def __init__(self, data: mmap.mmap, size: int) -> None:
        self._data = data
        self._size = size
        self._at = 4

    def header(self) -> Header:
        (version,) = self._take("I")
        if version in (2 << 24, 3 << 24):
            raise NotUsable("it is a big-endian file, made for another kind of computer")
        if version not in (2, 3):
            raise NotUsable(f"it has GGUF version {version}; 2 and 3 are known")
        tensors, keys = self._take("QQ")
        if tensors > MOST_TENSORS:
            raise NotUsable(f"it claims to hold {tensors} tensors")
        if keys > MOST_KEYS:
            raise NotUsable(f"it claims to hold {keys} keys")
        metadata: dict[str, Any] = {}
        counts: dict[str, int] = {}
        for _ in range(keys):
            key = self._string(MOST_KEY).decode(errors="replace")
            (kind,) = self._take("I")
            metadata[key] = self._value(key, kind, counts)
        if tensors == 0:
            raise NotUsable("it holds no tensors, only a description")
        _check(metadata, counts)
        parameters, weights = self._tensors(tensors, metadata.get("general.alignment", 32))
        return Header(metadata, counts, tensors, parameters, weights)

    def _tensors(self, count: int, alignment: Any) -> tuple[int, int]:
        if not isinstance(alignment, int) or alignment < 1 or alignment > 1 << 20 or alignment & (alignment - 1):
            raise NotUsable(f"its alignment is {alignment!r}, which is no power of two")
        parameters = weights = end = 0
        last = ""
        for _ in range(count):
            name = self._string(128).decode(errors="replace")
            (dimensions,) = self._take("I")
            if not 1 <= dimensions <= 4:
                raise NotUsable(f"its tensor {name!r} has {dimensions} dimensions")
            elements = 1
            for n in self._take(f"{dimensions}Q"):
                elements *= n
            kind, offset = self._take("IQ")
            if elements >= 1 << 62 or elements == 0:
                raise NotUsable(f"its tensor {name!r} has an impossible shape")
            parameters += elements
            if kind in BLOCKS:
                block, size = BLOCKS[kind]
                weights += (length := -(-elements // block) * size)
                if offset + length > end:
                    end, last = offset + length, name
            elif offset > self._size:
                end, last = offset, name
        missing = -(-self._at // alignment) * alignment + end - self._size
        if missing > 0:
            raise NotUsable(f"it is truncated: {missing:,} bytes are missing at the end (tensor {last!r})")
        return parameters, weights

    def _value(self, key: str, kind: int, counts: dict[str, int]) -> Any:
        if kind in SCALARS:
            return self._take(SCALARS[kind])[0]
        if kind == STRING:
            return self._string(MOST_STRING).decode(errors="replace")
        if kind != ARRAY:
            raise NotUsable(f"its key {key!r} has the unknown type {kind}")
        kind, count = self._take("IQ")
        if count > MOST_ITEMS or count > self._size:
            raise NotUsable(f"its key {key!r} claims to list {count} items")
        counts[key] = count
        if kind == STRING:
            found = []
            for n in range(count):
                item = self._string(MOST_STRING)
                if n < KEPT_ITEMS:
                    found.append(item.decode(errors="replace"))
            return found
        if kind not in SCALARS:
            raise NotUsable(f"its key {key!r} lists items of the unknown type {kind}")
        length = struct.calcsize("<" + SCALARS[kind])
        if count > KEPT_ITEMS:
            self._skip(count * length)
            return []
        return list(self._take(f"{count}{SCALARS[kind]}"))

    def _string(self, most: int) -> bytes:
        (length,) = self._take("Q")
        if length > most:
            raise NotUsable(f"it claims to hold a string of {length} bytes")
        start = self._at
        self._skip(length)
        return self._data[start : self._at]

    def _take(self, layout: str) -> tuple[Any, ...]:
        found = struct.Struct("<" + layout)
        start = self._at
        self._skip(found.size)
        return found.unpack_from(self._data, start)

    def _skip(self, length: int) -> None:
        if self._at + length > self._size:
            raise NotUsable(f"it ends in the middle of its header, after {self._size:,} bytes")
        if self._at + length > MOST_HEADER:
            raise NotUsable(f"its header is longer than {MOST_HEADER >> 20} MB")
        self._at += length


def _check(metadata: Mapping[str, Any], counts: Mapping[str, int]) -> None:
    """Fields on which the engine relies without looking."""
    if not isinstance(metadata.get("general.architecture"), str) or not metadata["general.architecture"]:
        raise NotUsable("it does not say its architecture (general.architecture)")
    tokens = counts.get("tokenizer.ggml.tokens")
    for key in ("tokenizer.ggml.scores", "tokenizer.ggml.token_type"):
        if tokens is not None and key in counts and counts[key] != tokens:
            raise NotUsable(f"it has {tokens} tokens, but {key} lists {counts[key]}")
