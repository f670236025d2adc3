"""The reference stages against llama.cpp's own, on the same logits of a 128,256-token vocabulary."""

import ctypes

import llama_cpp
import numpy as np
import pytest

from webui.core.sampling import Sampler
from webui.core.settings import GenerationSettings

VOCABULARY = 128_256
FAR = 2e-4  # 32-bit sums alone differ by up to 8e-5


def logits(seed, spread=3.0):
    """A row like a model's: a wide bell and a few tokens that stand out."""
    rng = np.random.default_rng(seed)
    row = rng.normal(0, spread, VOCABULARY).astype(np.float32)
    row[rng.integers(0, VOCABULARY, 40)] += rng.uniform(4, 14, 40).astype(np.float32)
    return row


def native(row, *stages, accepted=(), raw=False):
    """What llama.cpp's samplers leave of a row: {id: probability}, or the probabilities they wrote themselves."""
    data = np.zeros(len(row), dtype=np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)]))
    data["id"], data["logit"] = np.arange(len(row)), row
    array = llama_cpp.llama_token_data_array(
        data=ctypes.cast(data.ctypes.data, ctypes.POINTER(llama_cpp.llama_token_data)),
        size=len(row), selected=-1, sorted=False,
    )  # fmt: skip
    for stage in stages:
        for token in accepted:
            llama_cpp.llama_sampler_accept(stage, token)
        llama_cpp.llama_sampler_apply(stage, ctypes.byref(array))
        llama_cpp.llama_sampler_free(stage)
    start = (ctypes.addressof(array.data.contents) - data.ctypes.data) // data.itemsize
    left = data[start : start + array.size]
    if raw:
        return dict(zip(left["id"].tolist(), left["p"].tolist(), strict=True))
    left = left[left["logit"] > -np.inf]
    weight = np.exp(left["logit"].astype(np.float64) - left["logit"].max())
    return dict(zip(left["id"].tolist(), (weight / weight.sum()).tolist(), strict=True))


def ours(row, prompt=(), **settings):
    """What the reference leaves of a row: {id: probability}."""
    base = {"xtc_spare": False, **settings}
    sampler = Sampler(GenerationSettings(**base), vocabulary=len(row), seed=1, prompt=prompt)
    ids, p = sampler.distribution(row)
    return dict(zip(ids.tolist(), p.tolist(), strict=True))


def distance(a, b):
    """Total variation between two distributions."""
    return sum(abs(a.get(i, 0.0) - b.get(i, 0.0)) for i in a.keys() | b.keys()) / 2


L = llama_cpp
STAGES = {
    "temperature below 1": (lambda: [L.llama_sampler_init_temp(0.6)], {"temperature": 0.6}),
    "temperature above 1": (lambda: [L.llama_sampler_init_temp(1.7)], {"temperature": 1.7}),
    "temperature 0": (lambda: [L.llama_sampler_init_temp(0.0)], {"temperature": 0}),
    "dynamic temperature": (
        lambda: [L.llama_sampler_init_temp_ext(1.25, 0.75, 1.3)],
        {"dynamic_temperature": True, "dynatemp_low": 0.5, "dynatemp_high": 2.0, "dynatemp_exponent": 1.3},
    ),
    "top_k": (lambda: [L.llama_sampler_init_top_k(40)], {"top_k": 40}),
    "top_k beyond the cap": (lambda: [L.llama_sampler_init_top_k(5000)], {"top_k": 5000}),
    "top_p": (lambda: [L.llama_sampler_init_top_p(0.6, 1)], {"top_p": 0.6}),
    "top_p with min_keep": (lambda: [L.llama_sampler_init_top_p(0.01, 7)], {"top_p": 0.01, "min_keep": 7}),
    "min_p": (lambda: [L.llama_sampler_init_min_p(0.05, 1)], {"min_p": 0.05}),
    "min_p with min_keep": (lambda: [L.llama_sampler_init_min_p(0.99, 5)], {"min_p": 0.99, "min_keep": 5}),
    "typical_p": (lambda: [L.llama_sampler_init_typical(0.5, 1)], {"typical_p": 0.5}),
    "top_n_sigma": (lambda: [L.llama_sampler_init_top_n_sigma(1.5)], {"top_n_sigma": 1.5}),
    "xtc": (lambda: [L.llama_sampler_init_xtc(1.0, 0.05, 1, 1)], {"xtc_probability": 1.0, "xtc_threshold": 0.05}),
    "xtc above a half": (
        lambda: [L.llama_sampler_init_xtc(1.0, 0.6, 1, 1)],
        {"xtc_probability": 1, "xtc_threshold": 0.6},
    ),
    "the usual chain": (
        lambda: [
            L.llama_sampler_init_top_k(40),
            L.llama_sampler_init_top_p(0.95, 1),
            L.llama_sampler_init_min_p(0.05, 1),
            L.llama_sampler_init_temp(0.8),
        ],
        {"top_k": 40, "top_p": 0.95, "min_p": 0.05, "temperature": 0.8},
    ),
}


@pytest.mark.parametrize("case", STAGES)
@pytest.mark.parametrize("spread", [1.0, 3.0])
def test_a_stage_leaves_what_llama_cpp_leaves(case, spread):
    make, settings = STAGES[case]
    row = logits(len(case), spread)
    assert distance(native(row, *make()), ours(row, **settings)) <= FAR


@pytest.mark.parametrize("p", [0.8, 0.9, 0.95, 0.99])
def test_a_wide_top_p_differs_only_by_the_rounding_of_32_bit_sums(p):
    row = logits(20)
    weight = np.exp(row - row.max())
    order = np.argsort(-row, kind="stable")
    total = np.cumsum(weight)[-1]  # llama.cpp adds one by one, in 32 bits, in the order of the ids
    rounded = int(np.argmax(np.cumsum(weight[order] / total) >= np.float32(p))) + 1
    expected = native(row, L.llama_sampler_init_top_p(p, 1))
    assert abs(len(expected) - rounded) <= 3  # a token within rounding of the line may fall either way
    same = ours(row, top_k=len(expected))  # of equal logits at the line llama.cpp may keep another id
    assert sorted(same.values()) == pytest.approx(sorted(expected.values()), abs=1e-7)
    assert distance(expected, ours(row, top_p=p)) <= 1e-3


def test_a_wide_typical_p_differs_only_by_the_rounding_of_32_bit_sums():
    row = logits(20)
    expected = native(row, L.llama_sampler_init_typical(0.95, 1))
    assert distance(expected, ours(row, typical_p=0.95)) <= 1e-3


def test_mirostat_2_writes_the_probabilities_of_llama_cpp():
    row = logits(5)
    expected = native(row, L.llama_sampler_init_mirostat_v2(1, 3.0, 0.1), raw=True)
    assert distance(expected, ours(row, mirostat_mode=2, mirostat_tau=3.0)) <= FAR


@pytest.mark.parametrize("spread", [1.0, 3.0])
def test_mirostat_1_writes_the_probabilities_of_llama_cpp(spread):
    row = logits(6, spread)
    expected = native(row, L.llama_sampler_init_mirostat(VOCABULARY, 1, 3.0, 0.1, 100), raw=True)
    assert distance(expected, ours(row, mirostat_mode=1, mirostat_tau=3.0)) <= FAR


@pytest.mark.parametrize("target", [0.1, 0.5, 0.9])
def test_adaptive_p_writes_the_probabilities_of_llama_cpp(target):
    row = logits(7)
    chain = [L.llama_sampler_init_min_p(0.01, 1), L.llama_sampler_init_adaptive_p(target, 0.9, 1)]
    assert distance(native(row, *chain, raw=True), ours(row, min_p=0.01, adaptive_target=target)) <= FAR


@pytest.mark.parametrize("window", [-1, 64, 300])
def test_penalties_lower_the_same_tokens_by_the_same_amount(window):
    row = logits(8)
    text = np.random.default_rng(8).choice(np.argsort(-row)[:400], 500).tolist()
    last = window if window > 0 else len(text)
    chain = L.llama_sampler_init_penalties(VOCABULARY, last, 1.2, 0.3, 0.4)
    expected = native(row, chain, accepted=text)
    settings = {"repetition_penalty": 1.2, "frequency_penalty": 0.3, "presence_penalty": 0.4}
    got = ours(row, text, **settings, penalty_scope_additive="all", repetition_penalty_range=window)
    assert distance(expected, got) <= FAR


@pytest.mark.parametrize("allowed", [1, 2, 4])
@pytest.mark.parametrize("window", [200, 37])
def test_dry_lowers_the_same_tokens_by_the_same_amount(allowed, window):
    row = logits(9, 1.0)
    row[:2] = 6
    text = np.random.default_rng(allowed + window).integers(0, 2, 200).tolist()
    nothing = ctypes.POINTER(ctypes.c_char_p)()
    chain = L.llama_sampler_init_dry(None, 0.8, 1.3, allowed, window, nothing, 0)
    expected = native(row[:1000], chain, accepted=text)
    settings = {"dry_multiplier": 0.8, "dry_base": 1.3, "dry_allowed_length": allowed, "dry_range": window}
    got = ours(row[:1000], text, **settings, dry_sequence_breakers=())
    assert distance(ours(row[:1000]), got) > 1e-5
    assert distance(expected, got) <= FAR
