"""The loader seam: what an engine must offer, and the values that cross it.

A Loader is cheap: it describes an engine in the web process, which never imports one. ``open`` runs in the worker and
gives an Engine, which is called from one thread only (but for ``cancel``). The smallest engine is a generator wrapped
by OneAtATime.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from webui.core.errors import PatchbayError
from webui.core.events import Event, Failed, Finish, Progress, Sampled, Started, Token
from webui.core.settings import GenerationSettings

#: Called while a model loads, with the fraction done and a text; False asks the engine to give up.
Report = Callable[[float, str], bool]


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A model to load: its name in the catalogue, where it lies, and how to open it."""

    name: str
    path: str  # file or folder; "" for a loader that opens nothing
    loader: str
    options: Mapping[str, Any] = field(default_factory=dict)
    template: str = ""  # a chat template that replaces the model's own; "" = the model's


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What an engine knows of the model it has loaded."""

    context: int  # tokens that fit
    vocabulary: int
    template: str = ""  # Jinja source; "" = the model has none
    bos: int | None = None
    bos_text: str = ""
    eos: tuple[int, ...] = ()  # all tokens that end a reply
    eos_text: str = ""
    control: tuple[str, ...] = ()  # texts of the control tokens, for splitting a rendered template
    add_bos: bool = False  # whether plain text gets the start token in front
    newline: tuple[int, ...] = ()  # tokens that hold a line break
    architecture: str = ""
    parameters: int = 0
    size: int = 0  # bytes of weights
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a loader can do, known before a model is loaded.

    ``settings`` maps each sampling setting to "native" (the engine's own code, the same result), "reference" (our stage
    on the engine's logits) or the reason, as a sentence, why it has no effect here.
    """

    settings: Mapping[str, str] = field(default_factory=dict)
    prompts: frozenset[str] = frozenset({"tokens"})  # which of messages, text, tokens a job may hold
    parallel: int = 1
    notes: tuple[str, ...] = ()

    def ignored(self, names: Sequence[str]) -> tuple[str, ...]:
        """A sentence for each named setting that has no effect on this loader."""
        return tuple(
            f"{name}: {why}"
            for name in names
            if (why := self.settings.get(name, "not known")) not in ("native", "reference")
        )


@dataclass(frozen=True, slots=True)
class MemoryReport:
    """Bytes in use, as far as the engine knows."""

    weights: int = 0
    cache: int = 0
    compute: int = 0
    process: int = 0
    device_free: int | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """One request to an engine. ``prompt`` is token ids unless the engine takes messages or text."""

    id: str
    prompt: Sequence[int]
    settings: GenerationSettings
    max_tokens: int  # what is left of the context is already counted in
    seed: int  # never -1: drawn before
    messages: Sequence[Mapping[str, Any]] = ()
    text: str = ""
    kind: Literal["generate", "score", "embed", "rerank"] = "generate"


@runtime_checkable
class Engine(Protocol):
    """A loaded model. One thread calls it; ``cancel`` may come from another."""

    info: ModelInfo

    def tokenize(self, text: str, *, special: bool) -> list[int]:
        """Token ids of the text, without a start token; control tokens are parsed only if ``special``."""
        ...

    def token_bytes(self, id: int) -> bytes:
        """The bytes that a token stands for; control tokens give their text."""
        ...

    def submit(self, job: Job) -> None:
        """Queue a job; events come from ``step``."""
        ...

    def step(self) -> list[Event]:
        """One batched forward pass: Started, Progress, Sampled, Finish and Failed events; [] when idle."""
        ...

    def cancel(self, job_id: str) -> None:
        """Ask a job to end soon: a flag, read between steps and by the engine's abort hook."""
        ...

    def memory(self) -> MemoryReport:
        """Bytes in use."""
        ...

    def close(self) -> None:
        """Give everything back."""
        ...


@runtime_checkable
class Loader(Protocol):
    """An engine, described. Importing the module of a loader imports no engine."""

    name: str
    title: str
    requires: tuple[str, ...]  # importable modules
    options: type  # dataclass of load options, declared with ``setting``

    def accepts(self, path: Path) -> float:
        """How well this loader fits the file or folder: 0 not at all … 1 made for it."""
        ...

    def available(self) -> str:
        """ "" when the engine can run here, else the reason and the cure in a sentence. Imports nothing heavy."""
        ...

    def capabilities(self) -> Capabilities:
        """Which settings are native, emulated or impossible."""
        ...

    def open(self, spec: ModelSpec, options: Any, report: Report) -> Engine:
        """Load the model (in the worker). Raises LoadFailed with the engine's reason."""
        ...


Reason = Literal["stop", "length", "cancelled"]
#: Writes one reply: yields Started, Progress and Sampled or Token events; returns or raises to end.
Generate = Callable[[Job, threading.Event], Iterator[Event]]


class OneAtATime:
    """An Engine around a generator that writes one reply at a time; further jobs wait in order.

    A subclass sets ``info`` and implements ``generate(job, cancelled)``, a generator of Sampled (or Token) events, and
    ``tokenize`` and ``token_bytes`` unless its tokens are bytes. Started, counting, ending at ``max_tokens``, waiting,
    cancelling and Finish are done here; a generator may yield Started, Progress and Finish itself when it knows more.
    An engine that can keep several replies apart raises ``places``: their generators then take turns, by time.
    """

    info: ModelInfo
    places = 1

    def __init__(self) -> None:
        self._queue: list[Job] = []
        self._cancelled: dict[str, threading.Event] = {}
        self._running: list[_Running] = []

    def generate(self, job: Job, cancelled: threading.Event) -> Iterator[Event]:
        """Write the reply to one job."""
        raise TypeError(f"{type(self).__name__} must implement generate")

    def tokenize(self, text: str, *, special: bool) -> list[int]:
        """Bytes as ids, for engines without a vocabulary."""
        return list(text.encode())

    def token_bytes(self, id: int) -> bytes:
        """The byte that an id stands for."""
        return bytes([id & 0xFF])

    def submit(self, job: Job) -> None:
        """Queue a job."""
        self._cancelled.setdefault(job.id, threading.Event())
        self._queue.append(job)

    def cancel(self, job_id: str) -> None:
        """Flag a job; it ends at its next token, or at once while it waits."""
        flag = self._cancelled.get(job_id)
        if flag is not None:
            flag.set()

    def step(self) -> list[Event]:
        """The next event of the job whose turn it is, and what became of those that wait."""
        events = self._leave()
        while self._queue and len(self._running) < self.places:
            job = self._queue.pop(0)
            fair = min((r.spent for r in self._running), default=0.0)
            cancelled = self._cancelled[job.id]
            self._running.append(_Running(job, cancelled, self.generate(job, cancelled), fair))
            events += [Progress(j.id, "queued", place, len(self._queue)) for place, j in enumerate(self._queue, 1)]
        if self._running:
            running = min(self._running, key=lambda r: (not r.cancelled.is_set(), r.spent))
            events += running.next()
            if events and isinstance(events[-1], Finish | Failed):
                self._running.remove(running)
                self._cancelled.pop(running.job.id, None)
        return events

    def _leave(self) -> list[Event]:
        """Take the cancelled jobs out of the queue."""
        gone = [job for job in self._queue if self._cancelled[job.id].is_set()]
        for job in gone:
            self._queue.remove(job)
            del self._cancelled[job.id]
        return [Finish(job.id, "cancelled") for job in gone]

    def memory(self) -> MemoryReport:
        """Nothing is known by default."""
        return MemoryReport()

    def close(self) -> None:
        """Nothing to give back by default."""


class _Running:
    """A job that is being written: what was counted so far, and how it ends."""

    def __init__(self, job: Job, cancelled: threading.Event, events: Iterator[Event], spent: float) -> None:
        self.job = job
        self.tokens = 0
        self.cancelled = cancelled
        self.spent = spent  # seconds of the engine's time
        self._events = events
        self._started = False
        self._began = self._first = time.monotonic()

    def next(self) -> list[Event]:
        """The next events; the last one is Finish or Failed when the job has ended."""
        began = time.monotonic()
        try:
            return self._next()
        finally:
            self.spent += time.monotonic() - began

    def _next(self) -> list[Event]:
        try:
            if self.cancelled.is_set():
                return self._finish("cancelled")
            if self._started and self.tokens >= self.job.max_tokens:
                return self._finish("length")
            event = next(self._events)
        except StopIteration:
            return self._finish("cancelled" if self.cancelled.is_set() else "stop")
        except Exception as error:
            message, hint = getattr(error, "message", str(error)) or type(error).__name__, getattr(error, "hint", "")
            code = type(error).__name__ if isinstance(error, PatchbayError) else "GenerationFailed"
            return [*self._start(), Failed(self.job.id, message, hint, code)]
        if isinstance(event, Started):
            self._started = True
            return [event]
        if isinstance(event, Finish):
            return self._finish(event.reason, event.details)
        if isinstance(event, Sampled | Token):
            if self.tokens >= self.job.max_tokens:
                return self._finish("length")
            if self.tokens == 0:
                self._first = time.monotonic()
            self.tokens += event.count if isinstance(event, Token) else 1
        return [*self._start(), event]

    def _start(self) -> list[Event]:
        if self._started:
            return []
        self._started = True
        return [Started(self.job.id, len(self.job.prompt), seed=self.job.seed)]

    def _finish(self, reason: Reason, details: Mapping[str, Any] | None = None) -> list[Event]:
        now = time.monotonic()
        first = self._first if self.tokens else now
        if isinstance(self._events, Generator):
            self._events.close()
        return [
            *self._start(),
            Finish(
                self.job.id, reason, len(self.job.prompt), self.tokens,
                prompt_seconds=first - self._began, reply_seconds=now - first, details=dict(details or {}),
            ),
        ]  # fmt: skip
