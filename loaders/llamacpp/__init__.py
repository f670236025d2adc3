"""llama.cpp: opens GGUF files on CPU, and on GPUs that its library was built for. Talks to the C functions directly."""

from __future__ import annotations

import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path

from webui import (
    Capabilities,
    Engine,
    GenerationSettings,
    LoaderUnavailable,
    LoadFailed,
    ModelSpec,
    describe,
    hookimpl,
    setting,
)
from webui.core.loader import Report

from .gguf import Header, NotUsable, read_header
from .memory import CACHE_TYPES

__all__ = ["Header", "LlamaCpp", "LlamaCppOptions", "NotUsable", "read_header", "register_loaders"]

SPEED, CACHE, ROPE, FILE = "Speed", "Memory of the conversation", "Position", "File"


@dataclass(frozen=True)
class LlamaCppOptions:
    """How llama.cpp opens a model."""

    context: int = setting(
        0, "Tokens that fit. 0 takes what the model was trained for, at most 8192, and less when memory is short.",
        form=(0, 131_072, 256), valid=(0, 16_777_216), aliases=("n_ctx", "ctx_size"),
    )  # fmt: skip
    parallel: int = setting(
        2, "Conversations kept in memory, whose replies take turns. Fewer when memory is short.",
        group=CACHE, form=(1, 8, 1), valid=(1, 64),
    )  # fmt: skip
    gpu_layers: int = setting(
        -1, "Layers that lie on the graphics card. -1 is all that there are; without a usable card it changes nothing.",
        group=SPEED, form=(-1, 128, 1), valid=(-1, 10_000), aliases=("n_gpu_layers",),
    )  # fmt: skip
    threads: int = setting(
        0, "Processor threads that write. 0 takes the physical cores; from four on it leaves one to the browser.",
        group=SPEED, form=(0, 64, 1), valid=(0, 512),
    )  # fmt: skip
    threads_batch: int = setting(
        0, "Processor threads that read the prompt. 0 is the same number.",
        group=SPEED, form=(0, 64, 1), valid=(0, 512),
    )  # fmt: skip
    batch: int = setting(
        512, "Most tokens of the prompt that are read in one go.",
        group=SPEED, form=(32, 2048, 32), valid=(1, 16_384), aliases=("n_batch", "batch_size"),
    )  # fmt: skip
    ubatch: int = setting(
        512, "Most tokens that are computed at the same time; smaller needs less memory.",
        group=SPEED, form=(32, 2048, 32), valid=(1, 16_384), aliases=("n_ubatch", "ubatch_size"),
    )  # fmt: skip
    flash_attention: str = setting(
        "auto", "A faster way to compute attention. auto uses it where it works.",
        group=SPEED, choices=("auto", "on", "off"), aliases=("flash_attn",),
    )  # fmt: skip
    cache_type_k: str = setting(
        "f16",
        "Number format of the keys. q8_0 halves their memory.",
        group=CACHE,
        choices=CACHE_TYPES,
        aliases=("type_k",),
    )
    cache_type_v: str = setting(
        "f16", "Number format of the values. Quantised ones (q…) need flash attention.",
        group=CACHE, choices=CACHE_TYPES, aliases=("type_v",),
    )  # fmt: skip
    mmap: bool = setting(
        True, "Maps the file into memory instead of copying it: starts faster and shares memory.", group=FILE
    )
    mlock: bool = setting(False, "Forbids the system to move the model out of memory.", group=FILE)
    force: bool = setting(False, "Loads even when memory looks too small.", group=FILE)
    rope_freq_base: float = setting(
        0.0,
        "Base of the rotary position. 0 is what the model says.",
        group=ROPE,
        form=(0, 1_000_000, 1000),
        valid=(0, 1e9),
    )
    rope_freq_scale: float = setting(
        0.0, "Scale of the rotary position; 0.5 doubles the context. 0 is what the model says.",
        group=ROPE, form=(0, 1, 0.01), valid=(0, 100),
    )  # fmt: skip


class LlamaCpp:
    """Describes the loader."""

    name = "llamacpp"
    title = "llama.cpp"
    requires = ("llama_cpp",)
    options = LlamaCppOptions

    def accepts(self, path: Path) -> float:
        """1 for a GGUF file; 0 for later parts of a split one and for the eyes and ears of another model."""
        if path.suffix.lower() != ".gguf" or not path.is_file() or path.name.lower().startswith("mmproj"):
            return 0.0
        part = re.search(r"-(\d{5})-of-\d{5}$", path.stem)
        return 0.0 if part and int(part[1]) != 1 else 1.0

    def available(self) -> str:
        """Whether the library is installed."""
        if importlib.util.find_spec("llama_cpp") is None:
            return "llama-cpp-python is not installed. Run: python start.py; it needs a C++ compiler or a wheel."
        return ""

    def capabilities(self) -> Capabilities:
        """Every setting acts: the sampling is ours, on the engine's logits."""
        return Capabilities(
            settings=dict.fromkeys(describe(GenerationSettings), "reference"), parallel=LlamaCppOptions.parallel
        )

    def open(self, spec: ModelSpec, options: LlamaCppOptions, report: Report) -> Engine:
        """Load a GGUF file. Raises LoadFailed with the engine's own reason."""
        if reason := self.available():
            raise LoaderUnavailable(reason)
        path = Path(spec.path)
        try:
            header = read_header(path)
        except NotUsable as error:
            raise LoadFailed(f"{path.name} is not a usable GGUF: {error}.", "Download the file again.") from None
        except OSError as error:
            raise LoadFailed(
                f"{path.name} cannot be read: {error.strerror}.", "Check the path and its rights."
            ) from None
        from .engine import open_engine  # the engine's library is imported here, in the worker, and nowhere else

        return open_engine(path, header, options, report)


@hookimpl
def register_loaders() -> list[LlamaCpp]:
    """The llama.cpp loader."""
    return [LlamaCpp()]
