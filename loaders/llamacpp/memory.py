"""What a model will need, known before it is loaded, and what the machine has."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from webui import LoadFailed

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
TINY = 30_000_000  # parameters
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


def need(header: Header, options: LlamaCppOptions, context: int, weights: int) -> Need:
    """What a context of this size needs."""
    rows = min(options.ubatch, options.batch, context)
    wide = max(header.number("embedding_length") * 8, header.number("feed_forward_length") * 3)
    compute = rows * wide * 4 + (header.vocabulary + rows) * 4
    return Need(weights, cache_bytes(header, context, options.cache_type_k, options.cache_type_v), compute)


def choose_context(header: Header, options: LlamaCppOptions, weights: int, free: int) -> int:
    """The context to load with: what was asked for, or as much as is useful and fits.

    Raises LoadFailed with the numbers when it cannot fit, unless ``force`` is set.
    """
    context = options.context or min(header.context or AUTO_CONTEXT, AUTO_CONTEXT)
    found = need(header, options, context, weights)
    while not options.context and found.total > free and context // 2 >= LEAST_CONTEXT:
        context //= 2
        found = need(header, options, context, weights)
    if found.total > free and not options.force:
        raise LoadFailed(
            f"The model needs {shown(found.total)} of memory (weights {shown(found.weights)}, conversation of "
            f"{context:,} tokens {shown(found.cache)}, computing {shown(found.compute + SPARE)}) "
            f"and {shown(free)} are free.",
            "Choose a smaller context or model, close other programs, or set force to try anyway.",
        )
    return context


def free_memory() -> int:
    """Bytes that this process can still take: of the machine, of its container, and of its own limit."""
    free = [psutil.virtual_memory().available, _container_free()]
    if sys.platform != "win32":
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        if limit != resource.RLIM_INFINITY:
            free.append(limit - psutil.Process().memory_info().vms)
    return max(0, min(free))


def _container_free() -> int:
    try:
        folder = Path("/sys/fs/cgroup")
        limit = (folder / "memory.max").read_text().strip()
        if limit == "max":
            return 1 << 62
        used = int((folder / "memory.current").read_text())
        cached = next((int(line.split()[1]) for line in (folder / "memory.stat").open() if line.startswith("file ")), 0)
        return int(limit) - used + cached
    except (OSError, ValueError, IndexError):
        return 1 << 62


def shown(size: int) -> str:
    """A number of bytes for people."""
    return f"{size / (1 << 30):,.1f} GiB" if size >= 1 << 30 else f"{size / (1 << 20):,.0f} MiB"


def thread_count(wanted: int, parameters: int) -> int:
    """Threads to compute with: ``wanted``, or the physical cores that this process may use.

    From four cores on one is left over, because a thread that loses its core holds up all the others. A tiny model gets
    one: its threads would wait for each other longer than they compute.
    """
    if wanted:
        return wanted
    if parameters < TINY:
        return 1
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    physical = min(psutil.cpu_count(logical=False) or allowed, allowed)
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        physical = min(physical, max(1, int(quota) // int(period)))
    except (OSError, ValueError):
        pass
    return physical - 1 if physical >= 4 else physical
