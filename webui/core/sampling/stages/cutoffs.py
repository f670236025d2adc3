"""Stages that drop tokens. Each keeps at least ``min_keep`` of them, the most probable ones."""

from __future__ import annotations

import math

import numpy as np

from webui.core.sampling.candidates import Candidates, Ids

_UNIT = math.log(1e-4)  # epsilon_cutoff and eta_cutoff are given in ten-thousandths


def top_k(c: Candidates, k: int, min_keep: int = 1) -> Candidates:
    """The k most probable tokens; among equal ones the smaller ids."""
    return c.first(max(k, min_keep))


def top_p(c: Candidates, p: float, min_keep: int = 1) -> Candidates:
    """The smallest set with mass ≥ p, the token that crosses the line included (Holtzman 2019)."""
    keep = 0
    for places in c.tops():
        mass = np.cumsum(c.probabilities(places))
        keep = int(np.searchsorted(mass, p)) + 1
        if keep <= len(places):
            break
    return c.first(max(keep, min_keep))


def min_p(c: Candidates, p: float, min_keep: int = 1) -> Candidates:
    """Tokens with a probability ≥ p times that of the most probable one (Nguyen 2024)."""
    return c.at_least(c.peak + math.log(p), min_keep)


def top_n_sigma(c: Candidates, n: float, min_keep: int = 1) -> Candidates:
    """Tokens with a logit ≥ max − n·σ, σ being the population's over the finite logits (Tang 2024)."""
    logits = c.logits if c.count == len(c.logits) else c.logits[c.logits > -np.inf]
    away = logits - logits.mean(dtype=np.float64).astype(logits.dtype)
    sigma = math.sqrt(float((away * away).mean(dtype=np.float64)))
    return c.at_least(c.peak - n * sigma, min_keep)


def top_a(c: Candidates, a: float, min_keep: int = 1) -> Candidates:
    """Tokens with a probability ≥ a · p_max²."""
    return c.at_least(2 * c.peak - c.log_total + math.log(a), min_keep)


def epsilon_cutoff(c: Candidates, epsilon: float, min_keep: int = 1) -> Candidates:
    """Tokens with a probability ≥ epsilon ten-thousandths (Hewitt 2022)."""
    return c.at_least(c.log_total + math.log(epsilon) + _UNIT, min_keep)


def eta_cutoff(c: Candidates, eta: float, min_keep: int = 1) -> Candidates:
    """Tokens with a probability ≥ min(ε, √ε · exp(−entropy)), ε being eta ten-thousandths (Hewitt 2022)."""
    log_epsilon = math.log(eta) + _UNIT
    return c.at_least(c.log_total + min(log_epsilon, log_epsilon / 2 - c.entropy), min_keep)


def typical_p(c: Candidates, p: float, min_keep: int = 1) -> Candidates:
    """The tokens whose surprise is closest to the entropy, up to mass p, the crossing one included (Meister 2022)."""
    entropy = c.entropy
    kept: Ids = np.zeros(0, dtype=np.int64)
    for places in c.tops():
        logs = c.log_probabilities(places)
        distance = np.abs(-logs - entropy)
        order = np.argsort(distance, kind="stable")
        mass = np.cumsum(np.exp(logs[order]))
        keep = max(int(np.searchsorted(mass, p)) + 1, min_keep)
        kept = places[np.sort(order[:keep])]
        # What is not sorted yet is at least as surprising as the last one that is.
        if keep <= len(places) and -logs[-1] - entropy > distance[order[keep - 1]]:
            break
    return Candidates(c.logits[kept], c.tokens(kept), cap=c.cap, order=np.arange(len(kept)))


def tfs(c: Candidates, z: float, min_keep: int = 1) -> Candidates:
    """Tail-free: sorted probabilities up to where their absolute second differences, normalised, add up to z.

    As in the original, the first token always stays and the cut lies in the middle of the three that a difference
    spans.
    """
    keep = c.count
    for places in c.tops():
        p = c.probabilities(places)
        if len(p) < 3:
            break
        bend = np.cumsum(np.abs(np.diff(p, 2)))
        # The differences that are not sorted yet add at most twice what the probabilities still have to fall.
        rest = 0.0 if len(places) >= c.count else 2 * float(p[-2])
        if bend[-1] <= 0:
            continue
        low = int(np.count_nonzero(bend <= z * bend[-1]))
        high = int(np.count_nonzero(bend <= z * (bend[-1] + rest)))
        keep = 1 + high
        if (low == high and high < len(bend)) or rest == 0:
            break
    return c.first(max(keep, min_keep))


def top_h(c: Candidates, h: float, min_keep: int = 1, top_n: int = 100) -> Candidates:
    """The most probable tokens while their part of the entropy stays ≤ h times the entropy (arXiv:2509.02510).

    As in Transformers, the 100 most probable tokens are looked at, as if they were all.
    """
    near = c.first(top_n)
    logs = near.log_probabilities(np.arange(len(near.logits)))
    parts = np.cumsum(-np.exp(logs) * logs)
    keep = int(np.count_nonzero(parts <= h * parts[-1])) if len(parts) else 0
    return c.first(max(keep, min_keep, 1))


def xtc(c: Candidates, threshold: float, min_keep: int = 1, spared: Ids | None = None) -> Candidates:
    """Drops all tokens with a probability ≥ threshold but the least probable of them; ``spared`` ones do not count."""
    places: Ids = np.zeros(0, dtype=np.int64)
    for places in c.tops():
        above = int(np.searchsorted(-c.probabilities(places), -threshold, side="right"))
        if above < len(places):
            places = places[:above]
            break
    if spared is not None and len(spared):
        places = places[~np.isin(c.tokens(places), spared)]
    victims = places[:-1]
    if len(victims) == 0 or c.count - len(victims) < min_keep:
        return c
    return c.without(victims)
