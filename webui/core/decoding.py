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
    """An Engine that writes replies from logits, a pass at a time.

    A subclass sets ``info``, implements ``tokenize``, ``token_bytes``, ``forward`` and ``keep``, and may implement
    ``interrupt`` and ``resume`` when a forward pass of its engine can be broken off. With several ``lanes``, each with
    a cache of its own, as many replies take turns, and as many chats find their beginning still read.
    """

    slice = 256  # most prompt tokens read in one step; a cancelled job waits for one slice at most

    def __init__(self, lanes: int = 1) -> None:
        super().__init__()
        self.places = lanes
        self.cached: list[list[int]] = [[] for _ in range(lanes)]  # the ids whose keys and values each lane holds
        self._free = list(range(lanes))  # least recently used first

    def forward(self, lane: int, ids: Sequence[int], *, logits: bool) -> Logits | None:
        """Read ``ids`` behind the lane's cached ones; the logits after the last one if asked for, else an empty array.

        None when the pass was interrupted; the cache then holds what it held before.
        """
        raise TypeError(f"{type(self).__name__} must implement forward")

    def keep(self, lane: int, count: int) -> int:
        """Forget all but the lane's first ``count`` tokens; how many are kept (fewer when it cannot be done)."""
        raise TypeError(f"{type(self).__name__} must implement keep")

    def interrupt(self) -> None:
        """Break off the forward pass that runs now; called from another thread."""

    def resume(self) -> None:
        """Forget an interruption."""

    def cancel(self, job_id: str) -> None:
        """Flag a job, and break off the pass that runs, so that the job's end does not wait for another's prompt."""
        super().cancel(job_id)
        if job_id in self._cancelled:
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
        lane = self._choose(job.prompt)
        self._free.remove(lane)
        try:
            yield from self._generate(job, cancelled, lane)
        finally:
            self._free.append(lane)

    def _choose(self, prompt: Sequence[int]) -> int:
        """The free lane that holds most of the prompt's beginning; the one that rested longest where none does."""
        shared = {lane: common_prefix(self.cached[lane], prompt) for lane in self._free}
        best = max(shared, key=lambda lane: shared[lane])
        # A lane that shares little (a start token, the same system prompt) belongs to another chat.
        return best if shared[best] * 2 >= min(len(prompt), len(self.cached[best])) else self._free[0]

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

    def _generate(self, job: Job, cancelled: threading.Event, lane: int) -> Iterator[Event]:
        prompt, cached = list(job.prompt), self.cached[lane]
        done = self._keep(lane, min(common_prefix(cached, prompt), len(prompt) - 1))
        yield Started(job.id, len(prompt), done, job.seed, context=self.info.context)
        sampler = self.sampler(job)
        logits: Logits | None = None
        yield Progress(job.id, "prompt", done, len(prompt))
        while done < len(prompt):
            part = prompt[done : done + self.slice]
            logits = self._forward(lane, part, done + len(part) == len(prompt), cancelled)
            if logits is not None:
                done += len(part)
                logits = logits.copy()  # another job may have the next turn, and the engine one place for them
            yield Progress(job.id, "prompt", done, len(prompt))
        written = 0
        while logits is not None and not cancelled.is_set():
            id = sampler.sample(logits)
            if id in self.info.eos:
                yield Finish(job.id, "stop")
                return
            yield Sampled(job.id, id)
            written += 1
            if written >= job.max_tokens or len(cached) >= self.info.context:
                yield Finish(job.id, "length")
                return
            while (logits := self._forward(lane, [id], True, cancelled)) is None and not cancelled.is_set():
                yield Progress(job.id, "prompt", len(prompt), len(prompt))

    def _keep(self, lane: int, count: int) -> int:
        cached = self.cached[lane]
        kept = self.keep(lane, count) if count < len(cached) else count
        del cached[kept:]
        return kept

    def _forward(self, lane: int, ids: list[int], logits: bool, cancelled: threading.Event) -> Logits | None:
        """One forward pass; None when it was interrupted: for this job, or for another, and must be run again."""
        self.resume()
        if any(flag.is_set() for flag in self._cancelled.values()):
            return None
        before = len(self.cached[lane])
        found = self.forward(lane, ids, logits=logits)
        if found is not None:
            self.cached[lane] += ids
        elif len(self.cached[lane]) != before and not cancelled.is_set():
            raise GenerationFailed("The engine lost the conversation when it was interrupted.", "Ask again.")
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
