"""The tokens that are still in the running, and their logits.

Sorting a whole vocabulary costs more than all other sampling together, and almost no stage needs it: ``top(n)`` sorts
only the largest logits, while ``log_total`` is taken over all of them. A stage that would reach past what is sorted
asks for four times as much, up to everything; so the cap decides what is sorted and never what comes out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
Ids = NDArray[np.int64]

#: How many of the largest logits are sorted at first.
CAP = 1024
_CHUNK = 16384
_NOTHING = -200.0  # so far below the top a weight is 0, and 0 · log 0 is 0
_SORTED = 4096  # sets up to this size are kept sorted
_LOW_BITS = np.uint64(0xFFFFFFFF)


class Candidates:
    """Tokens and their logits; a value, never changed in place. A logit of -inf is not a candidate.

    ``ids`` is None while no cut-off has acted: then ``logits`` is the whole row and a place in it is the token id.
    """

    __slots__ = ("_count", "_log_total", "_order", "_peak", "cap", "ids", "logits")

    def __init__(self, logits: Floats, ids: Ids | None = None, *, cap: int = CAP, order: Ids | None = None) -> None:
        self.logits = logits
        self.ids = ids
        self.cap = cap
        self._order = order  # the places of the largest logits, sorted; a beginning of the full order
        self._peak: float | None = None
        self._log_total: float | None = None
        self._count: int | None = None

    @property
    def peak(self) -> float:
        """The largest logit; -inf when nothing is left."""
        if self._peak is None:
            self._peak = float(self.logits.max()) if len(self.logits) else -np.inf
        return self._peak

    @property
    def count(self) -> int:
        """How many candidates there are."""
        if self._count is None:
            self._count = int(np.count_nonzero(self.logits > -np.inf))
        return self._count

    @property
    def log_total(self) -> float:
        """The logarithm of the sum of exp(logit) over all candidates, sorted or not."""
        if self._log_total is None:
            total = 0.0
            for away in self._aways():
                total += float(np.exp(away, out=away).sum(dtype=np.float64))
            self._log_total = self.peak + math.log(total)
        return self._log_total

    @property
    def entropy(self) -> float:
        """The entropy of the candidates' distribution, in nats."""
        total = mean = 0.0
        for away in self._aways():
            weight = np.exp(away)
            total += float(weight.sum(dtype=np.float64))
            weight *= away
            mean += float(weight.sum(dtype=np.float64))
        return math.log(total) - mean / total

    def _aways(self) -> Iterator[Floats]:
        """The distances of the logits from the largest, in pieces that stay in the processor's cache."""
        for start in range(0, len(self.logits), _CHUNK):
            away = self.logits[start : start + _CHUNK] - self.logits.dtype.type(self.peak)
            yield np.maximum(away, _NOTHING, out=away)

    def top(self, n: int) -> Ids:
        """Places of at least ``n`` candidates (or of all), the largest logit first, equal ones by token id."""
        if self._order is None or (len(self._order) < n and len(self._order) < self.count):
            self._order = _largest(self.logits, n, self.ids)
        return self._order

    def tops(self) -> Iterator[Ids]:
        """``top`` of ever more candidates, until it holds all; a stage stops asking when it has seen enough."""
        n = self.cap
        while True:
            order = self.top(n)
            yield order
            if len(order) >= self.count:
                return
            n = len(order) * 4

    def log_probabilities(self, places: Ids) -> NDArray[np.float64]:
        """Natural logarithms of the probabilities at these places."""
        return self.logits[places].astype(np.float64) - self.log_total

    def probabilities(self, places: Ids) -> NDArray[np.float64]:
        """Probabilities at these places, out of all candidates."""
        return np.exp(self.log_probabilities(places))

    def tokens(self, places: Ids) -> Ids:
        """Token ids at these places."""
        return places if self.ids is None else self.ids[places]

    def first(self, n: int) -> Candidates:
        """The ``n`` most probable candidates, sorted."""
        places = self.top(n)[:n]
        return Candidates(self.logits[places], self.tokens(places), cap=self.cap, order=np.arange(len(places)))

    def at(self, places: Ids) -> Candidates:
        """The candidates at these places, in this order."""
        return Candidates(self.logits[places], self.tokens(places), cap=self.cap)

    def at_least(self, logit: float, min_keep: int) -> Candidates:
        """The candidates with this logit or a larger one; the ``min_keep`` most probable if those are more."""
        least = self.logits.dtype.type(logit)
        known = self._order
        if known is not None and (len(known) == self.count or self.logits[known[-1]] < least):
            places = known[: int(np.searchsorted(-self.logits[known], -least, side="right"))]
        else:
            places = np.flatnonzero(self.logits >= least)
        if len(places) == len(self.logits):
            return self
        if len(places) < min_keep:
            return self.first(min_keep)
        if len(places) > _SORTED:  # by place, whichever way they were found, so that sums come out the same
            return self.at(np.sort(places))
        order = _descending(self.logits[places], self.tokens(places))
        places = places[order]
        return Candidates(self.logits[places], self.tokens(places), cap=self.cap, order=np.arange(len(places)))

    def without(self, places: Ids) -> Candidates:
        """All but the candidates at these places."""
        logits = self.logits.copy()
        logits[places] = -np.inf
        return Candidates(logits, self.ids, cap=self.cap)

    def reshaped(self, logits: Floats, *, monotone: bool) -> Candidates:
        """The same tokens with other logits; ``monotone`` when larger ones stay larger."""
        return Candidates(logits, self.ids, cap=self.cap, order=self._order if monotone else None)

    def edited(self, ids: Ids, values: Floats) -> Candidates:
        """The same tokens; ``ids`` get these logits. Ids that are not here stay out."""
        logits = self.logits.copy()
        if self.ids is None:
            logits[ids] = values
        else:
            places, found = self._find(ids)
            logits[places] = values[found]
        return Candidates(logits, self.ids, cap=self.cap)

    def logits_of(self, ids: Ids) -> Floats:
        """The logits of these tokens; -inf for those that are not candidates."""
        if self.ids is None:
            return self.logits[ids]
        out = np.full(len(ids), -np.inf, dtype=self.logits.dtype)
        places, found = self._find(ids)
        out[found] = self.logits[places]
        return out

    def _find(self, ids: Ids) -> tuple[Ids, NDArray[np.bool_]]:
        """The places of those ids that are here, and which those are."""
        assert self.ids is not None  # noqa: S101  # for the type checker; both callers have asked
        by_id = np.argsort(self.ids, kind="stable")
        sorted_ids = self.ids[by_id]
        at = np.minimum(np.searchsorted(sorted_ids, ids), max(len(sorted_ids) - 1, 0))
        found = sorted_ids[at] == ids if len(sorted_ids) else np.zeros(len(ids), dtype=np.bool_)
        return by_id[at[found]], found


def _largest(logits: Floats, n: int, ids: Ids | None) -> Ids:
    """Places of at least ``n`` of the largest finite logits (all when there are fewer), in full order."""
    size = len(logits)
    places: Ids | None = None
    if n * 4 < size:
        places = np.flatnonzero(logits >= _guess(logits, n))
        if len(places) < n:
            places = np.flatnonzero(logits >= np.partition(logits, size - n)[size - n])
    if places is None:
        places = np.arange(size)
    found = logits[places]
    alive = found > -np.inf
    if not alive.all():
        places, found = places[alive], found[alive]
    return places[_descending(found, places if ids is None else ids[places])]


def _guess(logits: Floats, n: int) -> float:
    """A threshold that about 1.3 n logits reach, judged from every 32nd one; -inf when it cannot be judged."""
    sample = logits[::32]
    rank = n * 13 // 320 + 8
    return float(np.partition(sample, len(sample) - rank)[len(sample) - rank]) if rank < len(sample) else -np.inf


def _descending(values: Floats, ids: Ids) -> Ids:
    """The order that sorts by falling value and then by rising id."""
    if values.dtype != np.float32 or (len(ids) and int(ids.max()) > 0xFFFFFFFF):
        return np.lexsort((ids, -values))
    # One sort of whole numbers: the value's bits, turned so that they fall, above the id's.
    bits = (values + np.float32(0)).view(np.uint32)  # + 0 makes -0 and 0 equal
    falling = np.where(bits >> 31, bits, ~bits & np.uint32(0x7FFFFFFF)).astype(np.uint64)
    if len(ids) < 2 or bool((ids[1:] > ids[:-1]).all()):
        keys = (falling << np.uint64(32)) | np.arange(len(ids), dtype=np.uint64)
        keys.sort()
        return (keys & _LOW_BITS).astype(np.int64)
    return np.lexsort((ids, falling))
