"""What drawing a token costs, by setting, on a vocabulary of 128,256 tokens.

    python tests/bench/sampling.py [--tokens 200] [--json]

Each line: milliseconds a token (median), the same with the whole vocabulary sorted instead of the largest logits, and
the ratio. Both ways are run in turns, so that what else the machine does falls on both. The two texts are the same,
token by token; the run fails if they are not.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from webui.core.sampling import Sampler
from webui.core.settings import GenerationSettings

VOCABULARY = 128_256
PROMPT = 2000
TARGET = 1.0  # milliseconds, for the settings marked *
CASES = {
    "greedy *": {"temperature": 0},
    "temperature *": {"temperature": 0.8},
    "top_k 40 *": {"top_k": 40},
    "top_p 0.95 *": {"top_p": 0.95},
    "min_p 0.05 *": {"min_p": 0.05},
    "penalties *": {"repetition_penalty": 1.1, "frequency_penalty": 0.2, "temperature": 0.8, "min_p": 0.05},
    "Balanced *": {"temperature": 0.7, "top_k": 40, "top_p": 0.95, "min_p": 0.05},
    "all of these *": {"temperature": 0.7, "top_k": 40, "top_p": 0.95, "min_p": 0.05, "repetition_penalty": 1.1},
    "top_n_sigma 1": {"top_n_sigma": 1.0},
    "typical_p 0.9": {"typical_p": 0.9},
    "tfs 0.95": {"tfs": 0.95},
    "top_h 0.4": {"top_h": 0.4},
    "eta_cutoff 3": {"eta_cutoff": 3.0},
    "xtc": {"xtc_probability": 1.0, "min_p": 0.02},
    "dry": {"dry_multiplier": 0.8, "min_p": 0.05},
    "no_repeat_ngram 4": {"no_repeat_ngram_size": 4, "min_p": 0.05},
    "dynamic temperature": {"dynamic_temperature": True, "dynatemp_low": 0.5, "dynatemp_high": 1.5},
    "smoothing": {"smoothing_factor": 0.25},
    "mirostat 1": {"mirostat_mode": 1},
    "mirostat 2": {"mirostat_mode": 2},
    "adaptive_p": {"adaptive_target": 0.5, "min_p": 0.05},
    "skew": {"skew": 0.5, "min_p": 0.05},
}


def rows(count: int) -> list[np.ndarray]:
    """Logits as a model gives them: a wide bell, and a few dozen tokens that stand out."""
    rng = np.random.default_rng(1)
    out = []
    for _ in range(count):
        row = rng.normal(0, 2.2, VOCABULARY).astype(np.float32)
        good = rng.integers(0, VOCABULARY, 60)
        row[good] += np.linspace(14, 2, 60).astype(np.float32)
        out.append(row)
    return out


def measure(values: dict, logits: list[np.ndarray], tokens: int) -> tuple[float, float]:
    """Milliseconds a token, capped and with everything sorted."""
    prompt = np.random.default_rng(2).integers(0, VOCABULARY, PROMPT).tolist()
    settings = GenerationSettings(dry_sequence_breakers=(), **values)
    capped, whole = (
        Sampler(settings, vocabulary=VOCABULARY, seed=3, prompt=prompt, **options)
        for options in ({}, {"cap": VOCABULARY})
    )
    spent: tuple[list[float], list[float]] = ([], [])
    for step in range(tokens):
        row = logits[step % len(logits)]
        drawn = []
        for sampler, times in zip((capped, whole), spent, strict=True):
            began = time.perf_counter()
            drawn.append(sampler.sample(row))
            times.append(time.perf_counter() - began)
        if drawn[0] != drawn[1]:
            sys.exit(f"{values}: token {step} is {drawn[0]} with the cap and {drawn[1]} without")
    return statistics.median(spent[0]) * 1e3, statistics.median(spent[1]) * 1e3


def main() -> int:
    """Print the table; 1 when a setting marked * misses its target."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--tokens", type=int, default=40)
    options.add_argument("--json", action="store_true")
    given = options.parse_args()
    logits = rows(8)
    found = {name: measure(values, logits, given.tokens) for name, values in CASES.items()}
    if given.json:
        print(json.dumps({name: {"ms": a, "sorted_ms": b, "ratio": a / b} for name, (a, b) in found.items()}))
    else:
        print(f"{'setting':22}{'ms/token':>10}{'all sorted':>12}{'ratio':>8}")
        for name, (a, b) in found.items():
            print(f"{name:22}{a:10.3f}{b:12.3f}{a / b:8.3f}")
    slow = [name for name, (a, _) in found.items() if name.endswith("*") and a > TARGET]
    if slow:
        print(f"over {TARGET:g} ms: {', '.join(slow)}", file=sys.stderr)
    return 1 if slow else 0


if __name__ == "__main__":
    sys.exit(main())
