"""Transformers: opens folders of safetensors on CPU and GPU, through PyTorch, with a decode loop of its own."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

from webui import (
    Capabilities,
    Engine,
    GenerationSettings,
    LoaderUnavailable,
    ModelSpec,
    describe,
    hookimpl,
    setting,
)
from webui.core.loader import Report
from webui.runtime.modelfolder import quantisation, read_folder

__all__ = ["HuggingFace", "HuggingFaceOptions", "register_loaders"]


@dataclass(frozen=True)
class HuggingFaceOptions:
    """How Transformers opens a model."""

    context: int = setting(
        0, "Tokens that fit. 0 takes what the model was trained for, at most 8192.",
        form=(0, 131_072, 256), valid=(0, 16_777_216),
    )  # fmt: skip
    parallel: int = setting(
        2, "Conversations kept in memory, whose replies take turns.", form=(1, 8, 1), valid=(1, 64)
    )  # fmt: skip
    device: str = setting(
        "auto",
        "Where it computes. auto takes a graphics card when PyTorch sees one.",
        choices=("auto", "cpu", "cuda", "mps"),
    )
    dtype: str = setting(
        "auto", "Number format. auto is the file's; on a processor half precision becomes bfloat16.",
        choices=("auto", "float32", "bfloat16", "float16"),
    )  # fmt: skip
    attention: str = setting(
        "auto", "How attention is computed. auto lets Transformers choose; eager is slow and exact.",
        choices=("auto", "sdpa", "eager", "flash_attention_2"),
    )  # fmt: skip
    threads: int = setting(
        0, "Processor threads. 0 takes the physical cores; from four on it leaves one to the browser.",
        form=(0, 64, 1), valid=(0, 512),
    )  # fmt: skip
    force: bool = setting(False, "Loads even when memory looks too small.")


class HuggingFace:
    """Describes the loader."""

    name = "huggingface"
    title = "Transformers"
    requires = ("torch", "transformers")
    options = HuggingFaceOptions

    def accepts(self, path: Path) -> float:
        """High for a folder with a configuration and safetensors; low when it is quantised for another loader."""
        if not path.is_dir() or not (path / "config.json").is_file() or not any(path.glob("*.safetensors")):
            return 0.0
        return {"exl2": 0.0, "exl3": 0.0, "gptq": 0.2}.get(quantisation(path), 0.9)

    def available(self) -> str:
        """Whether PyTorch and Transformers are installed."""
        missing = [name for name in self.requires if importlib.util.find_spec(name) is None]
        return f"{' and '.join(missing)} cannot be found. Run: python start.py" if missing else ""

    def capabilities(self) -> Capabilities:
        """Every setting acts: the sampling is ours, on the model's logits."""
        return Capabilities(
            settings=dict.fromkeys(describe(GenerationSettings), "reference"), parallel=HuggingFaceOptions.parallel
        )

    def open(self, spec: ModelSpec, options: HuggingFaceOptions, report: Report) -> Engine:
        """Load a folder. Raises LoadFailed for pickled weights, foreign code, and what Transformers cannot open."""
        if reason := self.available():
            raise LoaderUnavailable(reason)
        folder = read_folder(Path(spec.path))
        report(0.0, "starting PyTorch")
        from .engine import open_engine  # PyTorch is imported here, in the worker, and nowhere else

        return open_engine(folder, options, report)


@hookimpl
def register_loaders() -> list[HuggingFace]:
    """The Transformers loader."""
    return [HuggingFace()]
