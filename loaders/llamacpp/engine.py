"""The engine in the worker: one context of llama.cpp, driven through its C functions."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil

from webui import GenerationFailed, LoadFailed, MemoryReport, ModelInfo
from webui.core.decoding import Logits, TokenLoop
from webui.core.loader import Report
from webui.runtime.machine import free_memory, thread_count

from . import memory

# GNU's OpenMP reads this when it is loaded. By default a thread that waits burns its core for milliseconds, and
# as soon as anything else computes, two threads are ten times slower than one (measured); so it soon waits asleep.
os.environ.setdefault("GOMP_SPINCOUNT", "2000")

import llama_cpp.llama_cpp as C

from .log import Log
from .vocabulary import Vocabulary

if TYPE_CHECKING:
    from . import LlamaCppOptions
    from .gguf import Header

LOAD_MODES = {
    (False, False): C.LLAMA_LOAD_MODE_NONE,
    (True, False): C.LLAMA_LOAD_MODE_MMAP,
    (False, True): C.LLAMA_LOAD_MODE_MLOCK,
    (True, True): C.LLAMA_LOAD_MODE_MMAP_MLOCK,
}
FLASH = {"auto": -1, "on": 1, "off": 0}
_backend: list[bool] = []


def open_engine(path: Path, header: Header, options: LlamaCppOptions, report: Report) -> LlamaEngine:
    """Load the file and make a context. Raises LoadFailed with the engine's reason."""
    if options.cache_type_v.startswith(("q", "iq")) and options.flash_attention == "off":
        raise LoadFailed(
            f"Values in {options.cache_type_v} need flash attention, which is off.",
            "Set flash_attention to auto, or cache_type_v to f16.",
        )
    log = Log.get()
    if not _backend:
        C.llama_backend_init()
        _backend.append(True)
    weights = _weights(path, header)
    on_gpu = bool(C.llama_supports_gpu_offload()) and options.gpu_layers != 0
    # What lies on a graphics card is the card's matter; the host's memory is checked for the rest.
    context, lanes = memory.choose_context(header, options, 0 if on_gpu else weights, free_memory())
    log.clear()
    model = _load(path, options, report, log)
    try:
        return LlamaEngine(model, header, options, (context, lanes), on_gpu, log)
    except BaseException:
        C.llama_model_free(model)
        raise


def _weights(path: Path, header: Header) -> int:
    """Bytes of weights, of all parts of a split file."""
    if header.number("split.count") or "split.count" in header.metadata:
        parts = path.parent.glob(path.name.replace("-00001-of-", "-?????-of-"))
        return sum(p.stat().st_size for p in parts)
    return header.size


def _load(path: Path, options: LlamaCppOptions, report: Report, log: Log) -> Any:
    stopped = False

    @C.llama_progress_callback  # type: ignore[untyped-decorator]  # ctypes ships no types for it
    def progress(done: float, _data: Any) -> bool:
        nonlocal stopped
        try:
            stopped = stopped or not report(min(done, 1.0), "reading weights")
        except Exception as error:  # an exception cannot pass through C
            print(f"progress report failed: {error}", file=sys.stderr)
            stopped = True
        return not stopped

    params = C.llama_model_default_params()
    params.n_gpu_layers = 999 if options.gpu_layers < 0 else options.gpu_layers
    params.load_mode = LOAD_MODES[options.mmap, options.mlock]
    params.progress_callback = progress
    model = C.llama_model_load_from_file(str(path).encode(), params)
    if stopped:
        if model:
            C.llama_model_free(model)
        raise LoadFailed("Loading was cancelled.")
    if not model:
        raise LoadFailed(
            f"{path.name} could not be loaded: {log.reason()}.", "The worker's log has the engine's words."
        )
    if C.llama_model_has_encoder(model):
        C.llama_model_free(model)
        raise LoadFailed(f"{path.name} is an encoder model, which cannot chat.", "Choose a model that writes text.")
    return model


class LlamaEngine(TokenLoop):
    """A loaded model and one context, with a sequence for each lane."""

    def __init__(
        self, model: Any, header: Header, options: LlamaCppOptions, room: tuple[int, int], on_gpu: bool, log: Log
    ) -> None:
        super().__init__(lanes=room[1])
        self._model: Any = model
        self._log = log
        self._header = header
        self._options = options
        self._flag = ctypes.create_string_buffer(2)  # "" = go on; strlen of it is the abort callback, without Python
        self._threads = thread_count(options.threads, header.parameters)
        self._ctx: Any = self._make_context(room[0], on_gpu)
        self._memory = C.llama_get_memory(self._ctx)
        self._vocabulary = Vocabulary(C.llama_model_get_vocab(model))
        self._batch = _Batch(C.llama_n_batch(self._ctx))
        self.slice = min(options.batch, 512 if on_gpu else _slice(header.parameters))
        self.info = self._describe(on_gpu)

    def _make_context(self, context: int, on_gpu: bool) -> Any:
        o = self._options
        params = C.llama_context_default_params()
        params.n_ctx = context * self.places
        params.n_batch = min(o.batch, context)
        params.n_ubatch = min(o.ubatch, o.batch, context)
        params.n_seq_max = self.places
        params.kv_unified = False  # each lane computes as if it were alone
        params.n_threads = self._threads
        params.n_threads_batch = o.threads_batch or self._threads
        params.flash_attn_type = FLASH[o.flash_attention]
        params.type_k, params.type_v = memory.FORMATS[o.cache_type_k][0], memory.FORMATS[o.cache_type_v][0]
        params.rope_freq_base, params.rope_freq_scale = o.rope_freq_base, o.rope_freq_scale
        params.offload_kqv = on_gpu
        params.no_perf = True
        libc = ctypes.cdll.msvcrt if sys.platform == "win32" else ctypes.CDLL(None)
        params.abort_callback = ctypes.cast(libc.strlen, C.ggml_abort_callback)
        params.abort_callback_data = ctypes.cast(self._flag, ctypes.c_void_p)
        made = C.llama_init_from_model(self._model, params)
        if not made:
            raise LoadFailed(
                f"A context of {context:,} tokens could not be made: {self._log.reason()}.",
                "Choose a smaller context, or another number format for the cache.",
            )
        return made

    def _describe(self, on_gpu: bool) -> ModelInfo:
        o, v, trained = self._options, self._vocabulary, C.llama_model_n_ctx_train(self._model)
        context = C.llama_n_ctx_seq(self._ctx)
        system = C.llama_print_system_info().decode(errors="replace").strip()
        return ModelInfo(
            context=context,
            vocabulary=v.size,
            template=self._header.template,
            bos=v.bos,
            bos_text=v.text(v.bos) if v.bos is not None else "",
            eos=v.ends,
            eos_text=v.text(v.eos) if v.eos is not None else "",
            control=v.control,
            add_bos=v.add_bos,
            newline=v.newlines,
            architecture=self._header.architecture,
            parameters=C.llama_model_n_params(self._model),
            size=C.llama_model_size(self._model),
            details={
                "name": self._header.name,
                "system": system,
                "trained_context": trained,
                "threads": self._threads,
                "parallel": self.places,
                "on_gpu": on_gpu,
                "cache_type": f"{o.cache_type_k}/{o.cache_type_v}",
                "notes": _notes(system, context, trained),
            },
        )

    def tokenize(self, text: str, *, special: bool) -> list[int]:
        """Ids of the text by the model's own tokenizer."""
        return self._vocabulary.tokenize(text, special)

    def token_bytes(self, id: int) -> bytes:
        """The bytes of a token."""
        return self._vocabulary.pieces[id] if 0 <= id < self._vocabulary.size else b""

    def interrupt(self) -> None:
        """Raise the flag that the engine looks at before every operation of its graph."""
        self._flag[0] = b"\x01"

    def resume(self) -> None:
        """Lower the flag."""
        self._flag[0] = b"\x00"

    def keep(self, lane: int, count: int) -> int:
        """Drop the cache behind ``count`` tokens; all of it where a part cannot be dropped (recurrent models)."""
        if count and C.llama_memory_seq_rm(self._memory, lane, count, -1):
            return count
        C.llama_memory_seq_rm(self._memory, lane, -1, -1)
        return 0

    def forward(self, lane: int, ids: Sequence[int], *, logits: bool) -> Logits | None:
        """One decode of a slice behind the lane's tokens."""
        before = len(self.cached[lane])
        code = C.llama_decode(self._ctx, self._batch.fill(lane, ids, before, logits))
        if code == 0:
            return self._logits(len(ids) - 1) if logits else np.empty(0, np.float32)
        if self.keep(lane, before) != before:
            self.cached[lane].clear()
        if code == 2:
            self._log.clear()  # the engine calls an interruption an error
            return None
        if code == 1:
            raise GenerationFailed("The context is full.", "Start a new chat, or load the model with a larger context.")
        raise GenerationFailed(f"llama.cpp failed: {self._log.reason()}.", "Unload the model and load it again.")

    def _logits(self, row: int) -> Logits:
        """The logits of a row, where the engine keeps them; valid until the next decode."""
        view: Logits = np.ctypeslib.as_array(C.llama_get_logits_ith(self._ctx, row), shape=(self._vocabulary.size,))
        if self._vocabulary.suppressed:
            view[list(self._vocabulary.suppressed)] = -np.inf
        return view

    def memory(self) -> MemoryReport:
        """Weights and cache by arithmetic, the process as the system counts it."""
        o = self._options
        return MemoryReport(
            weights=self.info.size,
            cache=memory.cache_bytes(self._header, self.info.context * self.places, o.cache_type_k, o.cache_type_v),
            process=psutil.Process().memory_info().rss,
        )

    def close(self) -> None:
        """Free the context and the model."""
        if self._ctx:
            C.llama_free(self._ctx)
            C.llama_model_free(self._model)
            self._ctx = self._model = None


class _Batch:
    """llama.cpp's batch over numpy arrays: filled by slices, not item by item."""

    def __init__(self, size: int) -> None:
        int32 = ctypes.POINTER(ctypes.c_int32)
        self._tokens, self._positions = np.zeros(size, np.int32), np.zeros(size, np.int32)
        self._counts, self._sequences = np.ones(size, np.int32), np.zeros(size, np.int32)
        self._wanted = np.zeros(size, np.int8)
        self._pointers = (int32 * (size + 1))()  # one pointer a token, into the sequences
        np.frombuffer(memoryview(self._pointers).cast("B"), np.uintp)[:size] = (
            self._sequences.ctypes.data + 4 * np.arange(size)
        )
        self._batch = C.llama_batch(
            n_tokens=0,
            token=ctypes.cast(self._tokens.ctypes.data, int32),
            embd=None,
            pos=ctypes.cast(self._positions.ctypes.data, int32),
            n_seq_id=ctypes.cast(self._counts.ctypes.data, int32),
            seq_id=ctypes.cast(self._pointers, ctypes.POINTER(int32)),
            logits=ctypes.cast(self._wanted.ctypes.data, ctypes.POINTER(ctypes.c_int8)),
        )

    def fill(self, sequence: int, ids: Sequence[int], start: int, logits: bool) -> Any:
        """The batch with these ids of a sequence from position ``start`` on, with logits of the last one if wanted."""
        n = len(ids)
        self._sequences[:n] = sequence
        self._tokens[:n] = ids
        self._positions[:n] = np.arange(start, start + n)
        self._wanted[:n] = 0
        self._wanted[n - 1] = logits
        self._batch.n_tokens = n
        return self._batch


def _slice(parameters: int) -> int:
    """Tokens of the prompt a step on a CPU: few enough that progress is seen and one operation is short."""
    return 256 if parameters < 200_000_000 else 128


def _notes(system: str, context: int, trained: int) -> tuple[str, ...]:
    notes = []
    if "AVX2 = 1" not in system and "NEON = 1" not in system and "CUDA" not in system and "Metal" not in system:
        notes.append("llama.cpp was built without AVX2; it is several times slower than it could be.")
    if trained and context > trained:
        notes.append(f"The model was trained for {trained:,} tokens; behind them it may write nonsense.")
    return tuple(notes)
