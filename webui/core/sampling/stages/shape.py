"""Stages that change the shape of the distribution: temperature and its kin, and skew."""

from __future__ import annotations

import math

import numpy as np

from webui.core.sampling.candidates import Candidates

#: Below this a temperature counts as 0: the most probable token is all that is left.
COLDEST = 1e-6


def temperature(c: Candidates, t: float) -> Candidates:
    """Logits divided by ``t``; near 0 only the most probable token stays."""
    if t < COLDEST:
        return c.first(1)
    if t == 1:
        return c
    return c.reshaped(c.logits / c.logits.dtype.type(t), monotone=True)


def dynamic_temperature(c: Candidates, low: float, high: float, exponent: float) -> Candidates:
    """Temperature between ``low`` and ``high``: low + (high − low) · (entropy / largest possible entropy) ^ exponent.

    The entropy is that of the candidates that are left at this point (kalomaze).
    """
    if c.count < 2:
        return c
    share = min(max(c.entropy / math.log(c.count), 0.0), 1.0)
    return temperature(c, low + (high - low) * share**exponent)


def smoothing(c: Candidates, factor: float, curve: float) -> Candidates:
    """Quadratic and cubic transform around the top logit (kalomaze).

    l' = −k·f·d² + s·f·d³ + max with d = l − max, k = (3 − curve) / 2, s = (curve − 1) / 2.
    """
    away = c.logits - c.peak
    np.maximum(away, -1e6, out=away)  # what was banned stays finite here and is banned again below
    k, s = (3 - curve) / 2, (curve - 1) / 2
    logits = (away * s - k) * factor * away * away + c.peak
    if curve > 3:
        logits[np.isneginf(c.logits)] = -np.inf
        return c.reshaped(logits, monotone=False)
    np.copyto(logits, -np.inf, where=np.isneginf(c.logits))
    return c.reshaped(logits, monotone=True)


def skew(c: Candidates, amount: float) -> Candidates:
    """The distribution of a draw that uses u ^ exp(−amount) in place of u, over candidates sorted from the top.

    Above 0 it leans to improbable tokens, below 0 to probable ones (ExLlamaV2).
    """
    places = c.top(c.count)
    p = c.probabilities(places)
    power = math.exp(amount)
    through = np.cumsum(p)
    before = np.concatenate(([0.0], through[:-1]))
    with np.errstate(divide="ignore"):
        # log(through^power − before^power), without the cancellation; before = 0 is 1 / 0 = inf and comes out right
        logits = power * np.log(through) + np.log(-np.expm1(-power * np.log1p(p / before)))
    ids = c.tokens(places)
    return Candidates(logits, ids, cap=c.cap)
