"""What a model will need, known before it is loaded, and what the machine has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from webui import LoadFailed
from webui.runtime.machine import shown

if TYPE_CHECKING:
    from . import LlamaCppOptions
    from .gguf import Header

#: Number formats of the cache: ggml's number, and bytes a value.
FORMATS = {
    "f32": (0, 4.0),
    "f16": (1, 2.0),
    "bf16": (30, 2.0),
    "q8_0": (8, 34 / 32),
    "q5_1": (7, 24 / 32),
    "q5_0": (6, 22 / 32),
    "q4_1": (3, 20 / 32),
    "q4_0": (2, 18 / 32),
    "iq4_nl": (20, 18 / 32),
}
CACHE_TYPES = ("f16", "bf16", "f32", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl")
AUTO_CONTEXT = 8192
LEAST_CONTEXT = 1024  # automatic shrinking stops here
SPARE = 64 << 20  # for the interpreter and what else a worker holds


@dataclass(frozen=True, slots=True)
class Need:
    """Bytes that a model needs."""

    weights: int
    cache: int
    compute: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.cache + self.compute + SPARE


def cache_bytes(header: Header, context: int, type_k: str, type_v: str) -> int:
    """Bytes of keys and values of a context; 0 when the header does not say enough (other kinds of memory)."""
    layers, heads = header.number("block_count"), header.number("attention.head_count")
    if not layers or not heads or header.number("attention.kv_lora_rank"):
        return 0
    width = header.number("embedding_length") // heads
    key = header.number("attention.key_length") or width
    value = header.number("attention.value_length") or width
    kv_heads = header.numbers("attention.head_count_kv", layers)
    if not any(kv_heads):
        kv_heads = [heads] * layers
    return int(context * sum(kv_heads) * (key * FORMATS[type_k][1] + value * FORMATS[type_v][1]))


def need(header: Header, options: LlamaCppOptions, context: int, lanes: int, weights: int) -> Need:
    """What so many conversations of a context need."""
    rows = min(options.ubatch, options.batch, context)
    wide = max(header.number("embedding_length") * 8, header.number("feed_forward_length") * 3)
    compute = rows * wide * 4 + (header.vocabulary + rows) * 4
    return Need(weights, cache_bytes(header, context * lanes, options.cache_type_k, options.cache_type_v), compute)


def choose_context(header: Header, options: LlamaCppOptions, weights: int, free: int) -> tuple[int, int]:
    """The context to load with, and for how many conversations: what was asked for, or as much as fits.

    Raises LoadFailed with the numbers when it cannot fit, unless ``force`` is set.
    """
    context = options.context or min(header.context or AUTO_CONTEXT, AUTO_CONTEXT)
    lanes = options.parallel
    found = need(header, options, context, lanes, weights)
    while found.total > free and lanes > 1:
        lanes -= 1
        found = need(header, options, context, lanes, weights)
    while not options.context and found.total > free and context // 2 >= LEAST_CONTEXT:
        context //= 2
        found = need(header, options, context, lanes, weights)
    if found.total > free and not options.force:
        raise LoadFailed(
            f"The model needs {shown(found.total)} of memory (weights {shown(found.weights)}, conversation of "
            f"{context:,} tokens {shown(found.cache)}, computing {shown(found.compute + SPARE)}) "
            f"and {shown(free)} are free.",
            "Choose a smaller context or model, close other programs, or set force to try anyway.",
        )
    return context, lanes
