"""The engine in the worker: a model of Transformers, run token by token."""

from __future__ import annotations

import ctypes
import gc
import inspect
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

# Read when the libraries are loaded: nothing is fetched, and threads that wait do not burn their core (see llama.cpp).
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("GOMP_SPINCOUNT", "2000")

import numpy as np
import psutil
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

from webui import LoadFailed, MemoryReport, ModelInfo
from webui.core.decoding import Logits, TokenLoop
from webui.core.loader import Report
from webui.runtime.machine import free_memory, shown, thread_count
from webui.runtime.modelfolder import ModelFolder
from webui.runtime.tokenizer import FolderTokenizer

from . import cache

if TYPE_CHECKING:
    from . import HuggingFaceOptions

AUTO_CONTEXT = 8192


class _Interrupted(Exception):
    """A forward pass was broken off between two layers."""


class _Cancelled(Exception):
    """Loading was broken off."""


def open_engine(folder: ModelFolder, options: HuggingFaceOptions, report: Report) -> HuggingFaceEngine:
    """Load the folder. Raises LoadFailed with the reason."""
    device, dtype = _device(options), _dtype(folder, options)
    if device.type == "cpu":
        torch.set_num_threads(thread_count(options.threads, folder.parameters))
        _check_memory(folder, options, dtype)
    tokens = FolderTokenizer(folder, _convert)
    model = _load(folder, options, device, dtype, report)
    return HuggingFaceEngine(folder, options, tokens, model)


def _convert(path: Path) -> Any:
    """A tokenizer for a folder that has only a SentencePiece model or the like."""
    return AutoTokenizer.from_pretrained(path, local_files_only=True, trust_remote_code=False).backend_tokenizer


def _check_memory(folder: ModelFolder, options: HuggingFaceOptions, dtype: torch.dtype) -> None:
    weights = folder.parameters * dtype.itemsize
    conversation = _cache_bytes(folder, _context(folder, options), dtype)
    need, free = weights + conversation + (256 << 20), free_memory()
    if need > free and not options.force:
        raise LoadFailed(
            f"The model needs about {shown(need)} of memory (weights as {str(dtype).removeprefix('torch.')} "
            f"{shown(weights)}, conversation {shown(conversation)}), and {shown(free)} are free.",
            "Choose a smaller context or model, llama.cpp with a quantised file, or set force to try anyway.",
        )


def _context(folder: ModelFolder, options: HuggingFaceOptions) -> int:
    trained = folder.text_config.get("max_position_embeddings")
    return options.context or min(trained if isinstance(trained, int) and trained > 0 else AUTO_CONTEXT, AUTO_CONTEXT)


def _cache_bytes(folder: ModelFolder, context: int, dtype: torch.dtype) -> int:
    """Bytes of keys and values; 0 when the configuration does not say enough."""
    text = folder.text_config
    layers, heads, width = (text.get(k) for k in ("num_hidden_layers", "num_attention_heads", "hidden_size"))
    if not (isinstance(layers, int) and isinstance(heads, int) and isinstance(width, int) and heads > 0):
        return 0
    size, kv_heads = text.get("head_dim") or width // heads, text.get("num_key_value_heads") or heads
    return int(2 * context * layers * kv_heads * size * dtype.itemsize)


def _device(options: HuggingFaceOptions) -> torch.device:
    if options.device != "auto":
        found = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}.get(options.device, True)
        if not found:
            raise LoadFailed(f"PyTorch sees no {options.device} device here.", "Set device to auto or cpu.")
        return torch.device(options.device)
    return torch.device("cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu")


def _dtype(folder: ModelFolder, options: HuggingFaceOptions) -> torch.dtype:
    if options.dtype != "auto":
        return _named(options.dtype)
    stored = _named(str(folder.text_config.get("dtype") or folder.text_config.get("torch_dtype") or "float32"))
    if _device(options).type != "cpu":
        return stored
    return torch.bfloat16 if stored is torch.float16 else stored  # processors are slow at float16


def _named(name: str) -> torch.dtype:
    known = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    return known.get(name.removeprefix("torch."), torch.float32)


def _load(
    folder: ModelFolder, options: HuggingFaceOptions, device: torch.device, dtype: torch.dtype, report: Report
) -> Any:
    try:
        config = AutoConfig.from_pretrained(folder.path, local_files_only=True, trust_remote_code=False)
        with _progress(report):
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                folder.path,
                config=config,
                dtype=dtype,
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=False,
                output_loading_info=True,
                attn_implementation=None if options.attention == "auto" else options.attention,
            )
    except _Cancelled:
        raise LoadFailed("Loading was cancelled.") from None
    except Exception as error:  # whatever Transformers raises, a person should read it
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise LoadFailed(
            f"{folder.path.name} could not be loaded: {reason}", "The worker's log has the rest."
        ) from error
    model, info = loaded
    if missing := sorted(info.get("missing_keys", ())):
        raise LoadFailed(
            f"{folder.path.name} could not be loaded: {len(missing)} tensors are missing, such as {missing[0]}.",
            "Download the folder again.",
        )
    return model.to(device).eval().requires_grad_(False)


@contextmanager
def _progress(report: Report) -> Iterator[None]:
    """Turns Transformers' progress bars into reports; leaving one early ends the loading."""

    def hook(_factory: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return _Bar(report, *args, **kwargs)

    before = logging.set_tqdm_hook(hook)
    try:
        yield
    finally:
        logging.set_tqdm_hook(before)


class _Bar:
    """What Transformers takes for a progress bar."""

    def __init__(self, report: Report, items: Any = (), total: int | None = None, **_: Any) -> None:
        self._report = report
        self._items = items
        self._total = total or (len(items) if hasattr(items, "__len__") else 0) or 1
        self._done = 0

    def __iter__(self) -> Iterator[Any]:
        for item in self._items:
            yield item
            self.update()

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def update(self, count: int = 1) -> None:
        """So many items more are done."""
        self._done += count
        if not self._report(min(1.0, self._done / self._total), "reading weights"):
            raise _Cancelled

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *args, **kwargs: None  # set_postfix, close and what else a bar can do


class HuggingFaceEngine(TokenLoop):
    """A loaded model with a growing cache for each lane."""

    def __init__(self, folder: ModelFolder, options: HuggingFaceOptions, tokens: FolderTokenizer, model: Any) -> None:
        super().__init__(lanes=options.parallel)
        self._model = model
        self._tokens = tokens
        self._device = model.device
        self._caches = [cache.growing_cache(model.config) for _ in range(self.places)]
        self._interrupted = False
        parameters = inspect.signature(model.forward).parameters
        self._extra = {"logits_to_keep": 1} if "logits_to_keep" in parameters else {}
        self._hooks = [layer.register_forward_pre_hook(self._look) for layer in _layers(model)]
        self.slice = 512 if self._device.type != "cpu" else 256 if folder.parameters < 200_000_000 else 64
        self.info = self._describe(folder, options)
        unnamed = [n for n in range(self.info.vocabulary) if n not in tokens.table]
        self._unnamed = np.array(unnamed, np.int64)  # rows of padding: never drawn

    def _describe(self, folder: ModelFolder, options: HuggingFaceOptions) -> ModelInfo:
        t = self._tokens
        text = self._model.config.get_text_config(decoder=True)
        trained = int(getattr(text, "max_position_embeddings", 0) or 0)
        weights = {p.data_ptr(): p.numel() * p.element_size() for p in self._model.parameters()}
        return ModelInfo(
            context=_context(folder, options),
            vocabulary=int(text.vocab_size),
            template=folder.template,
            bos=t.bos,
            bos_text=folder.token_text("bos_token"),
            eos=t.ends,
            eos_text=folder.token_text("eos_token"),
            control=t.control,
            add_bos=t.add_bos,
            newline=t.newlines,
            architecture=str(self._model.config.model_type),
            parameters=folder.parameters,
            size=sum(weights.values()),
            details={
                "device": str(self._device),
                "dtype": str(self._model.dtype).removeprefix("torch."),
                "attention": str(getattr(self._model.config, "_attn_implementation", "")),
                "threads": torch.get_num_threads(),
                "trained_context": trained,
                "torch": torch.__version__,
            },
        )

    def _look(self, *_: object) -> None:
        if self._interrupted:
            raise _Interrupted

    def tokenize(self, text: str, *, special: bool) -> list[int]:
        """Ids of the text by the model's own tokenizer."""
        return self._tokens.tokenize(text, special)

    def token_bytes(self, id: int) -> bytes:
        """The bytes of a token."""
        return self._tokens.table.get(id, b"")

    def interrupt(self) -> None:
        """The pass ends before its next layer."""
        self._interrupted = True

    def resume(self) -> None:
        """Passes may run again."""
        self._interrupted = False

    def keep(self, lane: int, count: int) -> int:
        """Cut the cache; start a new one where that cannot be done (sliding windows, recurrent layers)."""
        if count and cache.cut(self._caches[lane], count):
            return count
        self._caches[lane] = cache.growing_cache(self._model.config)
        return 0

    def forward(self, lane: int, ids: Sequence[int], *, logits: bool) -> Logits | None:
        """One pass over a slice behind the lane's tokens."""
        before = len(self.cached[lane])
        try:
            with torch.inference_mode():
                out = self._model(
                    input_ids=torch.tensor([list(ids)], device=self._device),
                    past_key_values=self._caches[lane],
                    use_cache=True,
                    **self._extra,
                )
                if not logits:
                    return np.empty(0, np.float32)
                row: Logits = out.logits[0, -1].float().cpu().numpy()
        except BaseException as error:
            if self.keep(lane, before) != before:
                self.cached[lane].clear()
            if isinstance(error, _Interrupted):
                return None
            raise
        if self._unnamed.size:
            row[self._unnamed] = -np.inf
        return row

    def memory(self) -> MemoryReport:
        """Weights, cache, process, and what is free on the graphics card."""
        free = torch.cuda.mem_get_info()[0] if self._device.type == "cuda" else None
        return MemoryReport(
            self.info.size, sum(map(cache.size, self._caches)), 0, psutil.Process().memory_info().rss, free
        )

    def close(self) -> None:
        """Drop the model and hand its memory back to the system."""
        for hook in self._hooks:
            hook.remove()
        self._model = None
        self._caches, self._hooks = [], []
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        try:
            ctypes.CDLL(None).malloc_trim(0)  # glibc keeps freed blocks otherwise
        except (OSError, AttributeError, TypeError):
            pass


def _layers(model: Any) -> list[torch.nn.Module]:
    """The decoder's layers: its longest list of modules."""
    lists = [m for m in model.modules() if isinstance(m, torch.nn.ModuleList)]
    return list(max(lists, key=len, default=[model]))
