"""The text so far, as token ids, and what the penalties need to know of it, kept up to date token by token."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from webui.core.sampling.candidates import Ids
from webui.core.sampling.stages.repetition import next_matches, suffix_matches


class History:
    """Prompt and reply in one growing array."""

    def __init__(self, prompt: Sequence[int]) -> None:
        self.prompt = len(prompt)
        self._ids = np.empty(max(1024, 2 * len(prompt)), dtype=np.int64)
        self._ids[: len(prompt)] = prompt
        self._size = len(prompt)

    def __len__(self) -> int:
        return self._size

    @property
    def reply(self) -> int:
        """How many tokens of the reply there are."""
        return self._size - self.prompt

    def add(self, id: int) -> None:
        """One more token."""
        if self._size == len(self._ids):
            self._ids = np.concatenate((self._ids, np.empty_like(self._ids)))
        self._ids[self._size] = id
        self._size += 1

    def drop(self, n: int) -> None:
        """The last ``n`` tokens of the reply never happened."""
        self._size -= n

    def text(self, scope: str = "all", window: int = -1) -> Ids:
        """The last ``window`` tokens (-1: all of them) of everything or, with scope "reply", of the reply; a view."""
        start = 0 if scope == "all" else self.prompt
        if window >= 0:
            start = max(start, self._size - window)
        return self._ids[start : self._size]


class Counts:
    """How often each token occurs in a window of the history; adding or dropping a token touches two numbers."""

    def __init__(self, history: History, vocabulary: int, scope: str, window: int) -> None:
        self._history, self._scope, self._window = history, scope, window
        self._counts = np.zeros(vocabulary, dtype=np.int32)
        text = history.text(scope, window)
        ids, counts = np.unique(text[text < vocabulary], return_counts=True)
        self._counts[ids] = counts
        self._seen = np.empty(max(1024, 2 * len(ids)), dtype=np.int64)  # ids that are or were in the window, once each
        self._seen[: len(ids)] = ids
        self._known = set(ids.tolist())

    def added(self, id: int) -> None:
        """The history has grown by this token."""
        self._counts[id] += 1
        if id not in self._known:
            if len(self._known) == len(self._seen):
                self._seen = np.concatenate((self._seen, np.empty_like(self._seen)))
            self._seen[len(self._known)] = id
            self._known.add(id)
        out = self._beyond()
        if out is not None:
            self._counts[out] -= 1

    def dropping(self, id: int) -> None:
        """The history is about to lose this token, its last one."""
        out = self._beyond()
        if out is not None:
            self._counts[out] += 1
        self._counts[id] -= 1

    def _beyond(self) -> int | None:
        """The token just outside the window."""
        text = self._history.text(self._scope)
        if self._window < 0 or len(text) <= self._window:
            return None
        id = int(text[len(text) - self._window - 1])
        return id if id < len(self._counts) else None

    def now(self) -> tuple[Ids, NDArray[np.int32]]:
        """The ids in the window and how often each occurs."""
        seen = self._seen[: len(self._known)]
        counts = self._counts[seen]
        here = counts > 0
        return (seen, counts) if here.all() else (seen[here], counts[here])


class Matches:
    """For each place of the text, how many tokens up to it equal the tokens up to the end (see ``suffix_matches``)."""

    def __init__(self, history: History, scope: str) -> None:
        self._history, self._scope = history, scope
        self._lengths: NDArray[np.int32] | None = None

    def added(self) -> None:
        """The history has grown by one token."""
        if self._lengths is not None:
            self._lengths = next_matches(self._lengths, self._history.text(self._scope))

    def forget(self) -> None:
        """The history has changed otherwise; what is asked next is counted afresh."""
        self._lengths = None

    def now(self) -> NDArray[np.int32]:
        """The lengths for the text as it is."""
        if self._lengths is None:
            self._lengths = suffix_matches(self._history.text(self._scope))
        return self._lengths
