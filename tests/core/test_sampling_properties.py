"""What holds for all logits and all settings."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from webui.core.sampling import Sampler
from webui.core.sampling.candidates import Candidates
from webui.core.settings import SAMPLER_ORDER, GenerationSettings

numbers = st.one_of(st.floats(-30, 30, width=32), st.sampled_from([0.0, -0.0, 1.0, 2.5]), st.just(-np.inf))
rows = (
    st.lists(numbers, min_size=2, max_size=60)
    .map(lambda r: np.array(r, dtype=np.float32))
    .filter(lambda r: bool(np.isfinite(r).any()))
)
chosen = st.fixed_dictionaries(
    {},
    optional={
        "temperature": st.floats(0.1, 4),
        "dynamic_temperature": st.booleans(),
        "dynatemp_high": st.floats(1, 3),
        "smoothing_factor": st.floats(0, 2),
        "smoothing_curve": st.floats(1, 5),
        "skew": st.floats(-2, 2),
        "top_k": st.integers(0, 70),
        "top_p": st.floats(0, 1),
        "min_p": st.floats(0, 1),
        "top_n_sigma": st.floats(0, 4),
        "typical_p": st.floats(0, 1),
        "tfs": st.floats(0, 1),
        "top_a": st.floats(0, 1),
        "top_h": st.floats(0, 1),
        "epsilon_cutoff": st.floats(0, 3000),
        "eta_cutoff": st.floats(0, 3000),
        "xtc_probability": st.sampled_from([0.0, 1.0]),
        "xtc_threshold": st.floats(0, 0.6),
        "min_keep": st.integers(1, 8),
        "mirostat_mode": st.sampled_from([0, 1, 2]),
        "mirostat_tau": st.floats(0, 8),
        "adaptive_target": st.floats(0, 1),
        "repetition_penalty": st.floats(0.5, 2),
        "presence_penalty": st.floats(-2, 2),
        "penalty_scope_additive": st.sampled_from(["all", "reply"]),
        "no_repeat_ngram_size": st.integers(0, 3),
        "encoder_repetition_penalty": st.floats(0.8, 1.5),
        "temperature_last": st.booleans(),
        "sampler_order": st.permutations(SAMPLER_ORDER).map(tuple),
    },
)


def run(row, values, cap=1024, prompt=(0, 1, 1, 0)):
    sampler = Sampler(GenerationSettings(**values), vocabulary=len(row), seed=9, prompt=prompt, cap=cap)
    ids, p = sampler.distribution(row)
    return ids, p, sampler.sample(row)


@settings(max_examples=400, deadline=None)
@given(row=rows, values=chosen)
def test_a_distribution_has_mass_one_and_no_token_that_was_ruled_out(row, values):
    ids, p, drawn = run(row, values)
    assert p.sum() == pytest.approx(1) and (p >= 0).all()
    assert len(set(ids.tolist())) == len(ids) >= 1
    assert np.isfinite(row[ids]).all()
    assert drawn in ids.tolist()


@settings(max_examples=600, deadline=None)
@given(row=rows, values=chosen, cap=st.sampled_from([1, 2, 5]))
def test_the_cap_never_changes_a_result(row, values, cap):
    few, whole = run(row, values, cap), run(row, values, len(row))
    assert few[0].tolist() == whole[0].tolist()
    assert few[1] == pytest.approx(whole[1], abs=1e-12)
    assert few[2] == whole[2]


@pytest.mark.parametrize("seed", range(12))
def test_the_cap_never_changes_a_result_on_a_large_vocabulary(seed):
    rng = np.random.default_rng(seed)
    row = rng.normal(0, rng.choice([0.5, 2.0, 4.0]), 30_000).astype(np.float32)
    if seed % 2:
        row = np.round(row * 4) / 4  # many equal logits
    for values in (
        {"temperature": 1.5}, {"top_k": 3000}, {"top_p": 0.97}, {"min_p": 0.001}, {"typical_p": 0.9}, {"tfs": 0.9},
        {"tfs": 0.999}, {"top_n_sigma": 2.0}, {"xtc_probability": 1, "xtc_threshold": 0.001}, {"mirostat_mode": 1},
        {"mirostat_mode": 2}, {"adaptive_target": 0.2}, {"eta_cutoff": 1.0}, {"epsilon_cutoff": 0.5}, {"top_h": 0.5},
        {"min_p": 0.0001, "top_p": 0.95, "typical_p": 0.95, "temperature": 0.7},
    ):  # fmt: skip
        few, whole = run(row, values, 64), run(row, values, len(row))
        assert few[0].tolist() == whole[0].tolist(), values
        assert few[1] == pytest.approx(whole[1], abs=1e-12), values
        assert few[2] == whole[2], values


@settings(max_examples=200, deadline=None)
@given(row=rows, a=st.floats(0, 1), b=st.floats(0, 1), name=st.sampled_from(["top_p", "min_p", "top_a", "top_n_sigma"]))
def test_a_stricter_cut_off_keeps_a_subset(row, a, b, name):
    low, high = sorted((a, b))
    kept = [set(run(row, {name: value})[0].tolist()) if value else None for value in (low, high)]
    if None in kept:
        return
    assert kept[0] <= kept[1] if name in ("top_p", "top_n_sigma") else kept[1] <= kept[0]


@settings(max_examples=200, deadline=None)
@given(row=rows, values=chosen.map(lambda v: {k: v[k] for k in v if k in ("top_k", "top_p", "min_p", "top_a", "tfs")}))
def test_cut_offs_keep_the_most_probable_tokens_in_their_proportions(row, values):
    ids, p, _ = run(row, values)
    assert (np.diff(p) <= 1e-12).all()
    rest = np.setdiff1d(np.arange(len(row)), ids)
    assert len(rest) == 0 or row[rest].max() <= row[ids].min()
    weights = np.exp(row[ids].astype(np.float64) - row[ids].max())
    assert p == pytest.approx(weights / weights.sum(), abs=1e-6)


@settings(max_examples=200, deadline=None)
@given(row=rows, k=st.integers(1, 20), p=st.floats(0.01, 1), t=st.floats(0.2, 3))
def test_top_k_and_top_n_sigma_do_not_care_whether_temperature_comes_first(row, k, p, t):
    row = np.round(row * 64) / 64  # logits that differ, differ by more than a division rounds away
    first = ("temperature", *(name for name in SAMPLER_ORDER if name != "temperature"))
    for values in ({"top_k": k, "temperature": t}, {"top_n_sigma": p, "temperature": t}):
        one, other = run(row, values), run(row, {**values, "sampler_order": first})
        if len(one[0]) == len(other[0]):  # a logit within rounding of the line may fall either way
            assert sorted(one[0].tolist()) == sorted(other[0].tolist())
            assert np.sort(one[1]) == pytest.approx(np.sort(other[1]), abs=1e-5)


@settings(max_examples=200, deadline=None)
@given(row=rows, values=chosen)
def test_temperature_last_is_an_order(row, values):
    order = tuple(n for n in SAMPLER_ORDER if n not in ("temperature", "mirostat", "adaptive", "skew"))
    tail = ("mirostat", "adaptive", "skew")
    values = {k: v for k, v in values.items() if k != "temperature_last"}
    early = {**values, "sampler_order": ("temperature", *order, *tail), "temperature_last": True}
    late = {**values, "sampler_order": (*order, "temperature", *tail)}
    assert run(row, early)[2] == run(row, late)[2]


@settings(max_examples=200, deadline=None)
@given(row=rows, n=st.integers(1, 70))
def test_the_largest_come_sorted_and_equal_ones_by_id(row, n):
    c = Candidates(row)
    top = c.top(n).tolist()
    full = [i for i in sorted(range(len(row)), key=lambda i: (-row[i], i)) if row[i] > -np.inf]
    assert top == full[: len(top)] and len(top) >= min(n, len(full))
    assert c.count == len(full)
