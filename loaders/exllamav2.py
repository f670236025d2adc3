"""ExLlamaV2: opens EXL2, GPTQ and FP16 folders on NVIDIA cards.

Needs CUDA: without it the library cannot even be imported, and it has never run on anything else. Its development has
ended (last release 0.3.2); it is here for the models that people have in its format. The model's forward pass and cache
are ExLlamaV2's, the loop and the sampling are Patchbay's, so that a preset means the same as on every loader.
"""

from __future__ import annotations

import gc
import importlib.metadata
import importlib.util
import shutil
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from webui import (
    Capabilities,
    Engine,
    GenerationSettings,
    LoaderUnavailable,
    LoadFailed,
    MemoryReport,
    ModelInfo,
    ModelSpec,
    describe,
    hookimpl,
    setting,
)
from webui.core.loader import Report
from webui.runtime.modelfolder import ModelFolder, quantisation, read_folder

CACHES = {
    "fp16": "ExLlamaV2Cache",
    "q8": "ExLlamaV2Cache_Q8",
    "q6": "ExLlamaV2Cache_Q6",
    "q4": "ExLlamaV2Cache_Q4",
}
DRIVER = ("/proc/driver/nvidia/version", "/dev/nvidia0", "/dev/dxg", "C:/Windows/System32/nvcuda.dll")
AUTO_CONTEXT = 8192


@dataclass(frozen=True)
class ExLlamaV2Options:
    """How ExLlamaV2 opens a model."""

    context: int = setting(
        0, "Tokens that fit. 0 takes what the model was trained for, at most 8192.",
        form=(0, 131_072, 256), valid=(0, 4_194_304),
    )  # fmt: skip
    cache: str = setting("fp16", "Number format of the conversation's memory.", choices=tuple(CACHES))
    flash_attention: bool = setting(True, "Uses flash-attn when it is installed.")
    slice: int = setting(
        512, "Most tokens of the prompt that are read in one go.", form=(64, 2048, 64), valid=(1, 2048)
    )


class ExLlamaV2:
    """Describes the loader."""

    name = "exllamav2"
    title = "ExLlamaV2"
    requires = ("exllamav2", "torch")
    options = ExLlamaV2Options

    def accepts(self, path: Path) -> float:
        """High for EXL2 and GPTQ folders, low for plain ones."""
        if not path.is_dir() or not (path / "config.json").is_file() or not any(path.glob("*.safetensors")):
            return 0.0
        return {"exl2": 1.0, "gptq": 0.95, "": 0.3}.get(quantisation(path), 0.0)

    def available(self) -> str:
        """Whether there is an NVIDIA driver, the library, and a PyTorch with CUDA; imports none of them."""
        if not shutil.which("nvidia-smi") and not any(Path(p).exists() for p in DRIVER):
            return "It needs an NVIDIA graphics card with CUDA, and none was found on this machine."
        for name in self.requires:
            if importlib.util.find_spec(name) is None:
                return f"{name} is not installed. Run: python start.py"
        if "+cpu" in importlib.metadata.version("torch"):
            return "PyTorch is installed for the processor only. Install a build with CUDA; see pytorch.org."
        return ""

    def capabilities(self) -> Capabilities:
        """Every setting acts: the sampling is ours, on the engine's logits."""
        return Capabilities(
            settings=dict.fromkeys(describe(GenerationSettings), "reference"),
            notes=("Needs an NVIDIA card with CUDA.", "ExLlamaV2 is no longer developed."),
        )

    def open(self, spec: ModelSpec, options: ExLlamaV2Options, report: Report) -> Engine:
        """Load a folder onto the card. Raises LoadFailed with the reason."""
        if reason := self.available():
            raise LoaderUnavailable(reason)
        folder = read_folder(Path(spec.path))
        report(0.0, "starting ExLlamaV2; the first time it is compiled, which takes minutes")
        return _open(folder, options, report)


def _open(folder: ModelFolder, options: ExLlamaV2Options, report: Report) -> Engine:
    """Everything that needs the engine is in here, so that importing this module needs none of it."""
    import exllamav2
    import torch

    from webui.core.decoding import Logits, TokenLoop
    from webui.runtime.tokenizer import FolderTokenizer

    class ExLlamaV2Engine(TokenLoop):
        """A model with one cache, whose length is set back to what the next job shares."""

        def __init__(self, tokens: FolderTokenizer, model: Any, cache: Any) -> None:
            super().__init__()
            self._tokens, self._model, self._cache = tokens, model, cache
            self._stop = threading.Event()  # the engine looks at it between layers
            self.slice = options.slice
            self.info = ModelInfo(
                context=cache.max_seq_len,
                vocabulary=model.config.vocab_size,
                template=folder.template,
                bos=tokens.bos,
                bos_text=folder.token_text("bos_token"),
                eos=tokens.ends,
                eos_text=folder.token_text("eos_token"),
                control=tokens.control,
                add_bos=tokens.add_bos,
                newline=tokens.newlines,
                architecture=str(model.config.architecture),
                parameters=0 if quantisation(folder.path) else folder.parameters,  # packed weights hide the number
                size=folder.size,
                details={"cache": options.cache, "exllamav2": importlib.metadata.version("exllamav2")},
            )

        def tokenize(self, text: str, *, special: bool) -> list[int]:
            """Ids of the text by the model's own tokenizer."""
            return self._tokens.tokenize(text, special)

        def token_bytes(self, id: int) -> bytes:
            """The bytes of a token."""
            return self._tokens.table.get(id, b"")

        def interrupt(self) -> None:
            """The pass ends before its next layer."""
            self._stop.set()

        def resume(self) -> None:
            """Passes may run again."""
            self._stop.clear()

        def keep(self, lane: int, count: int) -> int:
            """Set the cache back."""
            self._cache.current_seq_len = count
            return count

        def forward(self, lane: int, ids: Sequence[int], *, logits: bool) -> Logits | None:
            """One pass over a slice behind the cached tokens."""
            before = len(self.cached[lane])
            with torch.inference_mode():
                out = self._model.forward(
                    torch.tensor([list(ids)], dtype=torch.long),
                    self._cache,
                    preprocess_only=not logits,
                    last_id_only=True,
                    abort_event=self._stop,
                )
                if out is None and self._stop.is_set():
                    self.keep(lane, before)
                    return None
                if out is None:
                    return torch.empty(0).numpy()
                row: Logits = out[0, -1, : self.info.vocabulary].float().cpu().numpy()
                return row

        def memory(self) -> MemoryReport:
            """Weights as stored, and what is free on the card."""
            free = torch.cuda.mem_get_info()[0] if torch.cuda.is_available() else None
            return MemoryReport(weights=folder.size, device_free=free)

        def close(self) -> None:
            """Unload the model."""
            self._model.unload()
            self._model = self._cache = None
            gc.collect()
            torch.cuda.empty_cache()

    def loaded(done: int, total: int) -> None:
        if not report(done / max(1, total), "reading weights"):
            raise LoadFailed("Loading was cancelled.")

    try:
        tokens = FolderTokenizer(folder)
        config = exllamav2.ExLlamaV2Config(str(folder.path))
        config.arch_compat_overrides()
        config.no_flash_attn = config.no_flash_attn or not options.flash_attention
        context = options.context or min(config.max_seq_len, AUTO_CONTEXT)
        config.max_seq_len = -(-context // 256) * 256  # the cache has pages of 256
        model = exllamav2.ExLlamaV2(config)
        cache = getattr(exllamav2, CACHES[options.cache])(model, max_seq_len=config.max_seq_len, lazy=True)
        model.load_autosplit(cache, last_id_only=True, callback=loaded)
        loaded(1, 1)
    except LoadFailed:
        raise
    except Exception as error:  # whatever the engine raises, a person should read it
        raise LoadFailed(
            f"{folder.path.name} could not be loaded: {error}", "The worker's log has the rest."
        ) from error
    return ExLlamaV2Engine(tokens, model, cache)


@hookimpl
def register_loaders() -> list[ExLlamaV2]:
    """The ExLlamaV2 loader."""
    return [ExLlamaV2()]
