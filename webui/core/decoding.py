"""The loop around a forward pass: read the prompt in slices, draw, repeat.

An engine that can only turn ids into logits becomes a whole Engine by subclassing TokenLoop. It reuses what the last
job left in the cache, says how far the prompt is, and ends soon when it is cancelled. Needs numpy; engines import it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from webui.core.errors import GenerationFailed, PromptTooLong
from webui.core.events import Event, Finish, Progress, Sampled, Started
from webui.core.loader import Job, OneAtATime
from webui.core.sampling import Sampler

Logits = NDArray[np.float32]


class TokenLoop(OneAtATime):
    """An Engine that writes one reply at a time from logits.

    A subclass sets ``info``, implements ``tokenize``, ``token_bytes``, ``forward`` and ``keep``, and may implement
    ``interrupt`` and ``resume`` when a forward pass of its engine can be broken off.
    """

    slice = 256  # most prompt tokens read in one step; a cancelled job waits for one slice at most

    def __init__(self) -> None:
        super().__init__()
        self.cached: list[int] = []  # the ids whose keys and values the engine holds
        self._current = ""

    def forward(self, ids: Sequence[int], *, logits: bool) -> Logits | None:
        """Read ``ids`` behind the cached ones; the logits after the last one if asked for (else an empty array).

        None when the pass was interrupted; the cache then holds what it held before.
        """
        raise TypeError(f"{type(self).__name__} must implement forward")

    def keep(self, count: int) -> int:
        """Forget all but the first ``count`` cached tokens; how many are really kept (fewer when it cannot be done)."""
        raise TypeError(f"{type(self).__name__} must implement keep")

    def interrupt(self) -> None:
        """Break off the forward pass that runs now; called from another thread."""

    def resume(self) -> None:
        """Forget an interruption."""

    def cancel(self, job_id: str) -> None:
        """Flag a job, and break off the pass that runs for it."""
        super().cancel(job_id)
        if job_id == self._current:
            self.interrupt()

    def sampler(self, job: Job) -> Sampler:
        """What draws the tokens of a job: ``sample(logits) -> id``."""
        info = self.info
        return Sampler(
            job.settings,
            vocabulary=info.vocabulary,
            seed=job.seed,
            prompt=job.prompt,
            eos=frozenset(info.eos),
            newline=frozenset(info.newline),
            encode=lambda text: self.tokenize(text, special=False),
            token_bytes=self.token_bytes,
        )

    def generate(self, job: Job, cancelled: threading.Event) -> Iterator[Event]:
        """Started, Progress for each slice of the prompt, Sampled for each token."""
        self._check(job)
        self._current = job.id
        try:
            yield from self._generate(job, cancelled)
        finally:
            self._current = ""

    def _check(self, job: Job) -> None:
        if job.kind != "generate":
            raise GenerationFailed(f"This loader writes text only; it cannot {job.kind}.", "Choose another loader.")
        if not job.prompt:
            raise GenerationFailed("The prompt is empty.", "Write something first.")
        if len(job.prompt) > self.info.context:
            raise PromptTooLong(len(job.prompt), self.info.context)
        wrong = next((id for id in job.prompt if not 0 <= id < self.info.vocabulary), None)
        if wrong is not None:
            raise GenerationFailed(f"The prompt holds token {wrong}; the model has 0 to {self.info.vocabulary - 1}.")

    def _generate(self, job: Job, cancelled: threading.Event) -> Iterator[Event]:
        prompt = list(job.prompt)
        shared = common_prefix(self.cached, prompt)
        done = self._keep(min(shared, len(prompt) - 1))
        yield Started(job.id, len(prompt), done, job.seed, context=self.info.context)
        sampler = self.sampler(job)
        logits: Logits | None = None
        yield Progress(job.id, "prompt", done, len(prompt))
        while done < len(prompt):
            part = prompt[done : done + self.slice]
            done += len(part)
            logits = self._forward(part, done == len(prompt), cancelled)
            if logits is None:
                return
            yield Progress(job.id, "prompt", done, len(prompt))
        written = 0
        while logits is not None and not cancelled.is_set():
            id = sampler.sample(logits)
            if id in self.info.eos:
                yield Finish(job.id, "stop")
                return
            yield Sampled(job.id, id)
            written += 1
            if written >= job.max_tokens or len(self.cached) >= self.info.context:
                yield Finish(job.id, "length")
                return
            logits = self._forward([id], True, cancelled)

    def _keep(self, count: int) -> int:
        kept = self.keep(count) if count < len(self.cached) else count
        del self.cached[kept:]
        return kept

    def _forward(self, ids: list[int], logits: bool, cancelled: threading.Event) -> Logits | None:
        """One forward pass, run again when an interruption was meant for an earlier job; None when cancelled."""
        while True:
            self.resume()
            if cancelled.is_set():
                return None
            found = self.forward(ids, logits=logits)
            if found is not None:
                self.cached += ids
                return found


def common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    """How many ids two sequences have in common from the start."""
    n = min(len(a), len(b))
    if list(a[:n]) == list(b[:n]):
        return n
    low, high = 0, n
    while high - low > 1:  # halving compares slices in C, not ids in Python
        middle = (low + high) // 2
        if list(a[low:middle]) == list(b[low:middle]):
            low = middle
        else:
            high = middle
    return low
