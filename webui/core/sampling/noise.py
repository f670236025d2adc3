"""Randomness without a state: the noise of a token depends on (seed, position, token id) and on nothing else.

A token is drawn by the Gumbel-max rule: the largest of logit + noise wins, which is an exact draw from the softmax.
Since the noise is a hash of three numbers, any loader gives the same token the same noise, whatever the order of its
candidates, how many there are, or how the requests were batched; two loaders whose logits agree write the same text,
and small differences in their floating-point sums matter only where two candidates are nearly tied.

The hash: a 64-bit key per (seed, position) from two rounds of splitmix64, then two 32-bit words per token id, each a
chain of multiply-xorshift steps (the ``lowbias32`` constants) into which both halves of a key are mixed. The words make
a number in (0, 1) with 64 bits, which is turned into Gumbel noise so that the winning end has the full resolution.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

_MASK = (1 << 64) - 1
_TO_UNIT = 2.0**-64
_ALMOST_ONE = 1 - 2.0**-53
_CHUNK = 16384
_ODD = np.uint32(0x9E3779B1)
Words = NDArray[np.uint32]


def splitmix(value: int) -> int:
    """One step of splitmix64: a well mixed 64-bit number from any integer."""
    value = (value + 0x9E3779B97F4A7C15) & _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)


def key(seed: int, position: int) -> int:
    """The 64-bit key of one position of one reply."""
    return splitmix(splitmix(seed & _MASK) ^ (position & _MASK))


def uniform(seed: int, position: int, purpose: int) -> float:
    """One number in [0, 1) for a purpose that is not a token, such as the coin of XTC."""
    return (splitmix(key(seed, position) ^ splitmix(purpose + (1 << 40))) >> 11) * 2.0**-53


def gumbel(key: int, ids: NDArray[np.integer]) -> NDArray[np.float64]:
    """Standard Gumbel noise of these token ids under a key."""
    unit = _word(key, ids).astype(np.float64) * 2.0**32
    unit += _word(splitmix(key), ids)
    unit += 0.5
    unit *= _TO_UNIT
    np.minimum(unit, _ALMOST_ONE, out=unit)
    return -np.log(-np.log1p(-unit))  # a small number makes a large noise, with the full precision of small numbers


def may_exceed(key: int, ids: NDArray[np.integer] | int, noise: float) -> NDArray[np.int64]:
    """Places of the tokens that could have a Gumbel noise above ``noise``; of the others it is certain.

    ``ids`` may be a number: the tokens from 0 up to it. This is cheaper than the noise itself.
    """
    count = ids if isinstance(ids, int) else len(ids)
    bound = math.exp(-noise) * 2.0**32 if noise > -20 else 2.0**33
    if bound >= 2.0**32 - 1:
        return np.arange(count)
    limit = np.uint32(math.ceil(bound))
    spread = _spread(ids) if isinstance(ids, int) else ids.astype(np.uint32) * _ODD
    found = []
    for start in range(0, count, _CHUNK):  # pieces that stay in the processor's cache
        found.append(np.flatnonzero(_mix(key, spread[start : start + _CHUNK]) <= limit) + start)
    return np.concatenate(found) if found else np.zeros(0, dtype=np.int64)


@lru_cache(maxsize=4)
def _spread(count: int) -> Words:
    """The first step of the hash for all tokens below ``count``, which is the same under every key."""
    return np.arange(count, dtype=np.uint32) * _ODD


def _word(key: int, ids: NDArray[np.integer]) -> Words:
    """32 hashed bits for each token."""
    return _mix(key, ids.astype(np.uint32) * _ODD)


def _mix(key: int, spread: Words) -> Words:
    """The rest of the hash."""
    x = spread ^ np.uint32(key & 0xFFFFFFFF)
    shifted = np.empty_like(x)
    x ^= np.right_shift(x, np.uint32(16), out=shifted)
    x *= np.uint32(0x7FEB352D)
    x += np.uint32(key >> 32)
    x ^= np.right_shift(x, np.uint32(15), out=shifted)
    x *= np.uint32(0x846CA68B)
    x ^= np.right_shift(x, np.uint32(16), out=shifted)
    return x
