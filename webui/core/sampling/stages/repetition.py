"""Stages against repetition. They look at the text so far and give new logits for the few tokens it concerns."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from webui.core.sampling.candidates import Floats, Ids

_LARGEST_LOG = 88.7228391  # exp of more does not fit a 32-bit float


def repetition_penalty(logits: Floats, penalty: float | Floats) -> Floats:
    """Positive logits divided by the penalty, others multiplied by it (Keskar 2019)."""
    return np.where(logits > 0, logits / penalty, logits * penalty)


def faded(penalty: float, age: Ids, window: int, decay: int) -> Floats:
    """The penalty of tokens last seen ``age`` tokens ago (1 = just now): whole in the window, then falling to 1."""
    past = np.maximum(age - window, 0)
    return 1 + (penalty - 1) * np.maximum(1 - past / (decay + 1), 0)


def additive_penalty(logits: Floats, counts: NDArray[np.integer], frequency: float, presence: float) -> Floats:
    """Logits lowered by frequency for each time a token was used, and by presence once it was (OpenAI)."""
    return logits - (counts * frequency + (counts > 0) * presence).astype(logits.dtype)


def encoder_repetition(logits: Floats, penalty: float) -> Floats:
    """The repetition penalty upside down, for the tokens of the prompt: above 1 it favours them (Transformers)."""
    return repetition_penalty(logits, 1 / penalty)


def ngram_bans(text: Ids, n: int) -> Ids:
    """The tokens that would make the last n − 1 tokens into an n-gram that the text already holds."""
    if n < 1 or len(text) < n:
        return text[:0]
    ends = np.arange(n - 1, len(text))  # where the banned tokens of the earlier n-grams stand
    for back in range(1, n):
        ends = ends[text[ends - back] == text[len(text) - back]]
    return np.unique(text[ends])


def suffix_matches(text: Ids) -> NDArray[np.int32]:
    """For each place, how many tokens up to it equal the tokens up to the end; the last place is left 0."""
    size = len(text)
    lengths = np.zeros(size, dtype=np.int32)
    if size < 2:
        return lengths
    places = np.flatnonzero(text[:-1] == text[-1])
    matched = 1
    while len(places):
        lengths[places] = matched
        places = places[places >= matched]
        places = places[text[places - matched] == text[size - 1 - matched]]
        matched += 1
    return lengths


def next_matches(lengths: NDArray[np.int32], text: Ids) -> NDArray[np.int32]:
    """``suffix_matches`` of a text that has grown by one token, from those before: they grow by one or end."""
    out = np.zeros(len(text), dtype=np.int32)
    size = len(text) - 1
    if size < 1:
        return out
    same = text[:-1] == text[-1]
    out[0] = same[0]
    before = lengths[: size - 1].copy()
    np.multiply(before + 1, same[1:], out=out[1:size], casting="unsafe")
    return out


def dry(
    matches: NDArray[np.int32], text: Ids, *, multiplier: float, base: float, allowed: int, limit: int
) -> tuple[Ids, NDArray[np.float64]]:
    """The tokens that would continue an earlier sequence, and what to subtract: multiplier · base ^ (length − allowed).

    ``matches`` are the suffix matches of ``text``; ``limit`` is how far back the current sequence may reach (to the
    last breaker). Of several sequences that a token would continue the longest counts (p-e-w; llama.cpp).
    """
    if limit < allowed or len(text) <= allowed:
        return text[:0], np.zeros(0)
    within = np.minimum(matches[:-1], np.minimum(np.arange(1, len(text)), limit))
    places = np.flatnonzero(within >= max(allowed, 0))
    if len(places) == 0:
        return text[:0], np.zeros(0)
    following = text[places + 1]
    ids, which = np.unique(following, return_inverse=True)
    longest = np.zeros(len(ids), dtype=np.int64)
    np.maximum.at(longest, which, within[places])
    power = longest - allowed
    if base > 1.000001:
        power = np.minimum(power, int(_LARGEST_LOG / math.log(base)))
    return ids, multiplier * base ** power.astype(np.float64)
