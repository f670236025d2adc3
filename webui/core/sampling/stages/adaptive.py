"""Stages with a memory: mirostat and adaptive-p. The memory is a value that goes in and comes out."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from webui.core.sampling.candidates import Candidates

_WIDTH, _PEAK, _SHARPNESS = 0.3, 5.0, 10.0  # adaptive-p's constants, as in llama.cpp
_FIT = 100  # tokens from which mirostat 1 estimates the tail


@dataclass(frozen=True, slots=True)
class Memory:
    """What the stages carry from token to token."""

    mu: float = 0.0  # mirostat: the surprise, in bits, that is allowed now
    sum: float = 0.0  # adaptive-p: decayed sum of the probabilities of the drawn tokens
    weight: float = 0.0  # adaptive-p: decayed count of them


def begin(tau: float, target: float, decay: float) -> Memory:
    """The memory at the start of a reply."""
    return Memory(mu=2 * tau, sum=target / (1 - decay), weight=1 / (1 - decay))


def mirostat_1(c: Candidates, mu: float, vocabulary: int) -> Candidates:
    """Top-k with the k that, by Zipf's law fitted to the head, gives the surprise ``mu`` (Basu 2020, algorithm 1)."""
    places = c.top(min(_FIT, c.count))[:_FIT]
    if len(places) < 2:
        return c
    logs = c.log_probabilities(places)
    rank = np.arange(1, len(places))
    steps = np.log((rank + 1) / rank)
    exponent = float(np.dot(steps, logs[:-1] - logs[1:]) / np.dot(steps, steps))
    epsilon = exponent - 1
    if exponent <= 0:
        return c
    share = -math.expm1(-epsilon * math.log(vocabulary))  # 1 − vocabulary^−epsilon
    ratio = epsilon / share if abs(share) > 1e-12 else 1 / math.log(vocabulary)
    log_k = (math.log(ratio) + mu * math.log(2)) / exponent
    return c.first(int(math.exp(min(log_k, 30))) or 1)


def mirostat_2(c: Candidates, mu: float) -> Candidates:
    """Tokens with a surprise of at most ``mu`` bits (Basu 2020, algorithm 2)."""
    return c.at_least(c.log_total - mu * math.log(2), 1)


def mirostat_learn(memory: Memory, log_probability: float, tau: float, eta: float) -> Memory:
    """The memory after a token with this (natural) log-probability among those that were left."""
    surprise = -log_probability / math.log(2)
    return Memory(memory.mu - eta * (surprise - tau), memory.sum, memory.weight)


def adaptive(c: Candidates, memory: Memory, target: float) -> Candidates:
    """Logits by how close a token's probability is to what brings the average to ``target`` (as in llama.cpp)."""
    wanted = target if memory.weight == 0 else 2 * target - memory.sum / memory.weight
    wanted = min(max(wanted, 0.0), 1.0)
    p = np.exp(c.logits.astype(np.float64) - c.log_total)
    distance = np.abs(p - wanted) / _WIDTH
    logits = _PEAK - _SHARPNESS * distance * distance / (1 + distance)
    logits[np.isneginf(c.logits)] = -np.inf
    return c.reshaped(logits, monotone=False)


def adaptive_learn(memory: Memory, probability: float, decay: float) -> Memory:
    """The memory after a token that had this probability before adaptive-p changed it."""
    return Memory(memory.mu, probability + decay * memory.sum, 1 + decay * memory.weight)
