"""echo: a loader without an engine. It repeats what you say, at the speed and with the faults that you ask for.

It is there for tests and demonstrations: of the page at 200 tokens a second, of a slow prompt, of an engine that fails,
hangs or dies. Options set the habit; commands in front of a message ask for one reply (see loaders/README.md):

    /tokens 2000 /speed 200
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from webui import (
    Capabilities,
    Event,
    Failed,
    Finish,
    GenerationSettings,
    Job,
    LoadFailed,
    MemoryReport,
    ModelInfo,
    ModelSpec,
    Progress,
    Sampled,
    SettingError,
    Started,
    describe,
    hookimpl,
)
from webui.core.loader import Reason, Report

from .numbered import numbered
from .script import EchoOptions, after, heard, plan, split

__all__ = ["Echo", "EchoEngine", "EchoOptions", "numbered", "register_loaders"]

NAP = 0.01  # longest that step() waits for the next token that is due; a job can come or be cancelled meanwhile


class Echo:
    """Describes the loader."""

    name = "echo"
    title = "echo"
    requires: tuple[str, ...] = ()
    options = EchoOptions
    opens_nothing = True  # has one model of its own name, without a file

    def accepts(self, path: Path) -> float:
        """Never claims a file."""
        return 0.0

    def available(self) -> str:
        """Always."""
        return ""

    def capabilities(self) -> Capabilities:
        """Takes the messages as they are; draws nothing, so most settings have no effect."""
        text = ("max_tokens", "auto_max_tokens", "stop", "seed", "max_tokens_per_second", "truncation_length")
        why = "echo draws nothing; it repeats."
        return Capabilities(
            settings={n: "native" if n in text else why for n in describe(GenerationSettings)},
            prompts=frozenset({"messages", "tokens"}),
            parallel=EchoOptions.parallel,
            notes=("Repeats what you say. Commands such as /tokens 2000 /speed 200 are in loaders/README.md.",),
        )

    def open(self, spec: ModelSpec, options: EchoOptions, report: Report) -> EchoEngine:
        """An echo, after ``load_seconds``."""
        end = time.monotonic() + options.load_seconds
        while (left := end - time.monotonic()) > 0:
            if not report(1 - left / options.load_seconds, "waiting"):
                raise LoadFailed("Loading was cancelled.")
            time.sleep(min(left, 0.05))
        if options.load_error:
            raise LoadFailed(options.load_error, "This is what the echo was told to say.")
        report(1.0, "ready")
        return EchoEngine(options)


class _Reply:
    """One job: what to say, and when which token is due."""

    def __init__(self, job: Job, options: EchoOptions, pieces: Iterator[bytes]) -> None:
        self.job = job
        self.options = options
        self.pieces = pieces
        self.cancelled = False
        self.sent = 0
        self.reading = time.monotonic()  # began to read the prompt
        self.reported = -1.0
        self.speaking = 0.0  # first token was due; 0 = still reads

    def due(self) -> float:
        """When the next token is due."""
        rate = self.options.tokens_per_second
        return self.speaking + self.sent / rate if rate else 0.0


class EchoEngine:
    """Repeats the last message of the person, several jobs at once. Tokens are numbered pieces of text."""

    def __init__(self, options: EchoOptions) -> None:
        self.options = options
        self.info = ModelInfo(context=options.context, vocabulary=1 << 20, architecture="echo")
        self._pieces = [bytes([n]) for n in range(256)]
        self._ids: dict[bytes, int] = {piece: n for n, piece in enumerate(self._pieces)}
        self._waiting: list[_Reply] = []
        self._running: list[_Reply] = []
        self._by_job: dict[str, _Reply] = {}
        self._stir = threading.Event()
        self._ballast: list[bytearray] = [_ballast(options.memory_mb)]

    def tokenize(self, text: str, *, special: bool) -> list[int]:
        """Words, characters or bytes as ids; there are no control tokens."""
        return [self._id(piece) for piece in split(text, self.options.pieces)]

    def token_bytes(self, id: int) -> bytes:
        """The piece of text with this number."""
        return self._pieces[id] if 0 <= id < len(self._pieces) else b""

    def submit(self, job: Job) -> None:
        """Queue a job."""
        said, prefix = heard(job, self.token_bytes)
        try:
            options, pieces = plan(said, self.options, job.seed)
        except SettingError as error:
            options, pieces = self.options, split(str(error), "words")
        reply = _Reply(job, options, after(pieces, prefix))
        self._by_job[job.id] = reply
        self._waiting.append(reply)

    def cancel(self, job_id: str) -> None:
        """The job ends with the next step."""
        if reply := self._by_job.get(job_id):
            reply.cancelled = True
            self._stir.set()

    def step(self) -> list[Event]:
        """All that is due by now; waits up to a hundredth of a second when nothing is."""
        events: list[Event] = []
        while self._waiting and len(self._running) < self.options.parallel:
            reply = self._waiting.pop(0)
            reply.reading = time.monotonic()
            self._running.append(reply)
            prompt = len(reply.job.prompt) or sum(len(split(str(m["content"]), "words")) for m in reply.job.messages)
            events.append(Started(reply.job.id, prompt, seed=reply.job.seed, context=self.info.context))
            events += [Progress(r.job.id, "queued", n, len(self._waiting)) for n, r in enumerate(self._waiting, 1)]
        for reply in [*self._running, *(r for r in self._waiting if r.cancelled)]:
            events += self._speak(reply)
        if not events and self._running:
            self._stir.wait(self._nap())
            self._stir.clear()
        return events

    def _nap(self) -> float:
        now = time.monotonic()
        return max(0.0, min(NAP, min((r.due() - now if r.speaking else NAP) for r in self._running)))

    def _speak(self, reply: _Reply) -> list[Event]:
        job, options, now = reply.job, reply.options, time.monotonic()
        if reply.cancelled:
            return [self._finish(reply, "cancelled")]
        if not reply.speaking:
            return self._read(reply, now)
        events: list[Event] = []
        while reply.due() <= now and len(events) < 64:
            if reply.sent >= job.max_tokens:
                return [*events, self._finish(reply, "length")]
            if reply.sent == options.fail_after:
                self._forget(reply)
                return [*events, Failed(job.id, f"The echo failed after {reply.sent} tokens.", "It was told to.")]
            if events and reply.sent in (options.die_after, options.hang_after):
                return events  # let what was said leave first
            if reply.sent == options.die_after:
                os.kill(os.getpid(), getattr(signal, f"SIG{options.die_signal}", signal.SIGTERM))
            if reply.sent == options.hang_after:
                time.sleep(options.hang_seconds)
            piece = next(reply.pieces, None)
            if piece is None:
                return [*events, self._finish(reply, "stop")]
            events.append(Sampled(job.id, self._id(piece)))
            reply.sent += 1
        return events

    def _read(self, reply: _Reply, now: float) -> list[Event]:
        spent, total = now - reply.reading, reply.options.prefill_seconds
        size = max(1, len(reply.job.prompt))
        if spent >= total:
            reply.speaking = now
            if reply.options.memory_mb > self.options.memory_mb:
                self._ballast.append(_ballast(reply.options.memory_mb))
            return [Progress(reply.job.id, "prompt", size, size)]
        if spent - reply.reported < 0.1 and reply.reported >= 0:
            return []
        reply.reported = spent
        return [Progress(reply.job.id, "prompt", int(size * spent / total), size)]

    def _forget(self, reply: _Reply) -> None:
        del self._by_job[reply.job.id]
        (self._running if reply in self._running else self._waiting).remove(reply)

    def _finish(self, reply: _Reply, reason: Reason) -> Finish:
        self._forget(reply)
        now = time.monotonic()
        read = (reply.speaking or now) - reply.reading
        spoke = now - reply.speaking if reply.speaking else 0.0
        return Finish(reply.job.id, reason, len(reply.job.prompt), reply.sent, read, spoke)

    def _id(self, piece: bytes) -> int:
        found = self._ids.get(piece)
        if found is None:
            if len(self._pieces) >= self.info.vocabulary:  # start over rather than grow without end
                del self._pieces[256:]
                self._ids = {p: n for n, p in enumerate(self._pieces)}
            found = self._ids[piece] = len(self._pieces)
            self._pieces.append(piece)
        return found

    def memory(self) -> MemoryReport:
        """What it was told to keep."""
        return MemoryReport(weights=sum(map(len, self._ballast)))

    def close(self) -> None:
        """Give the memory back."""
        self._ballast.clear()


def _ballast(megabytes: int) -> bytearray:
    block = bytearray(megabytes << 20)
    block[::4096] = b"\x01" * len(block[::4096])  # touched, or the system would not hand it out
    return block


@hookimpl
def register_loaders() -> list[Echo]:
    """The echo."""
    return [Echo()]
