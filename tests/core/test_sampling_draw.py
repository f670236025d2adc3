"""Draws: exact, keyed by (seed, position, token), and undone by rewinding."""

import math

import numpy as np
import pytest

from webui.core.errors import GenerationFailed
from webui.core.sampling import Sampler, noise
from webui.core.settings import GenerationSettings

EVERYTHING = {
    "repetition_penalty": 1.2,
    "frequency_penalty": 0.3,
    "dry_multiplier": 0.8,
    "dry_sequence_breakers": (),
    "no_repeat_ngram_size": 4,
    "mirostat_mode": 2,
    "mirostat_tau": 3.0,
    "adaptive_target": 0.3,
    "repetition_penalty_range": 20,
    "xtc_probability": 0.5,
}


def sampler(n, seed=1, prompt=(), **settings):
    options = {k: settings.pop(k) for k in ("eos", "newline", "cap", "encode", "token_bytes") if k in settings}
    return Sampler(GenerationSettings(**settings), vocabulary=n, seed=seed, prompt=prompt, **options)


def row(n, seed=0, spread=2.0):
    return np.random.default_rng(seed).normal(0, spread, n).astype(np.float32)


def chi_square(counts, expected):
    """How many standard deviations the chi-square statistic lies above its mean (cells with few draws pooled)."""
    few = expected < 10
    counts = np.append(counts[~few], counts[few].sum())
    expected = np.append(expected[~few], expected[few].sum())
    counts, expected = counts[expected > 0], expected[expected > 0]
    freedom = len(counts) - 1
    return (((counts - expected) ** 2 / expected).sum() - freedom) / math.sqrt(2 * freedom)


def test_a_hundred_thousand_draws_follow_the_distribution():
    logits = row(60)
    drawing = sampler(60, temperature=1.3)
    ids, p = drawing.distribution(logits)
    keys = [noise.key(1, position) for position in range(100_000)]
    scores = np.array([noise.gumbel(key, ids) for key in keys]) + np.log(p)
    counts = np.bincount(scores.argmax(axis=1), minlength=len(p))
    assert abs(chi_square(counts, 100_000 * p)) < 4
    first = [drawing.sample(logits) for _ in range(300)]
    assert first == ids[scores[:300].argmax(axis=1)].tolist()  # and the sampler draws just these


def test_draws_over_seeds_at_one_position_follow_the_distribution_too():
    p = np.array([0.5, 0.25, 0.15, 0.07, 0.03])
    scores = np.array([noise.gumbel(noise.key(seed, 0), np.arange(5)) for seed in range(100_000)]) + np.log(p)
    assert abs(chi_square(np.bincount(scores.argmax(axis=1), minlength=5), 100_000 * p)) < 4


def test_draws_from_a_whole_large_vocabulary_follow_the_distribution():
    logits = row(20_000, spread=1.0)
    logits[:50] += 6
    drawing = sampler(20_000)
    p = np.exp(logits - logits.max(), dtype=np.float64)
    p /= p.sum()
    counts = np.bincount([drawing.draw(logits) for _ in range(4000) if drawing.accept(0) is None], minlength=20_000)
    groups = np.append(np.arange(50), np.full(19_950, 50))  # each of the fifty, and all the others together
    expected = np.bincount(groups, weights=p) * 4000
    assert abs(chi_square(np.bincount(groups, weights=counts), expected)) < 4


def test_neighbouring_tokens_and_positions_have_unrelated_noise():
    table = np.array([noise.gumbel(noise.key(7, position), np.arange(2000)) for position in range(200)])
    assert table.mean() == pytest.approx(0.5772, abs=0.01)
    assert table.var() == pytest.approx(math.pi**2 / 6, abs=0.02)
    for a, b in ((table[:, 1:], table[:, :-1]), (table[1:], table[:-1])):
        assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 0.01


@pytest.mark.parametrize("step", [(0, 1), (1, 0), (1, 1), (0, 256), (0, 4096), (32, 0)])
def test_pairs_of_noises_fill_the_plane_evenly(step):
    tokens = np.arange(1000)
    keys = [noise.key(99, position) for position in range(400)]
    table = np.exp(-np.exp(-np.array([noise.gumbel(key, tokens * 5) for key in keys[:264]])))  # uniform again
    if step[1] >= 256:
        shifted = np.exp(-np.exp(-np.array([noise.gumbel(key, tokens * 5 + step[1]) for key in keys[:264]])))
        a, b = table, shifted
    else:
        a = table[: 264 - step[0], : 1000 - step[1]]
        b = table[step[0] :, step[1] :]
    counts, *_ = np.histogram2d(a.ravel(), b.ravel(), bins=32, range=((0, 1), (0, 1)))
    assert abs(chi_square(counts.ravel(), np.full(1024, counts.sum() / 1024))) < 4


def test_the_noise_of_a_token_does_not_depend_on_its_company():
    key = noise.key(3, 14)
    whole = noise.gumbel(key, np.arange(1000))
    some = np.array([999, 5, 500])
    assert noise.gumbel(key, some).tolist() == whole[some].tolist()


def test_noise_that_is_ruled_out_is_never_large():
    for position in range(20):
        key, ids = noise.key(11, position), np.arange(50_000)
        values = noise.gumbel(key, ids)
        for limit in (-3.0, 0.0, 4.0, 9.0):
            ruled_out = np.ones(len(ids), dtype=bool)
            ruled_out[noise.may_exceed(key, ids, limit)] = False
            assert noise.may_exceed(key, len(ids), limit).tolist() == np.flatnonzero(~ruled_out).tolist()
            assert (values[ruled_out] <= limit).all()
            assert limit < 4 or ruled_out.mean() > 0.9


def test_small_differences_between_loaders_do_not_change_the_text():
    logits = row(5000)
    blurred = logits + np.random.default_rng(5).normal(0, 1e-6, 5000).astype(np.float32)
    one, other = (sampler(5000, temperature=0.9, top_p=0.9) for _ in range(2))
    assert [one.sample(logits) for _ in range(200)] == [other.sample(blurred) for _ in range(200)]


def test_the_same_seed_gives_the_same_text_and_another_one_does_not():
    logits = row(400)
    texts = []
    for seed in (5, 5, 6, 2**63 - 1):
        drawing = sampler(400, seed)
        texts.append([drawing.sample(logits) for _ in range(50)])
    assert texts[0] == texts[1] and texts[0] != texts[2] != texts[3]


def test_the_callers_row_is_not_changed():
    logits = row(400)
    before = logits.copy()
    drawing = sampler(400, prompt=[1, 2, 3], eos={5}, min_tokens=9, logit_bias={"7": 3.0}, **EVERYTHING)
    for _ in range(5):
        drawing.sample(logits)
    assert (logits == before).all()


def test_a_row_that_may_not_be_written_to_is_fine():
    logits = row(400)
    logits.flags.writeable = False
    assert 0 <= sampler(400, prompt=[1, 2], eos={5}, min_tokens=9, **EVERYTHING).sample(logits) < 400


@pytest.mark.parametrize("n", [0, 1, 7])
def test_rewinding_undoes_everything(n):
    rows = [row(300, i) for i in range(40)]
    straight, wavering = (sampler(300, prompt=[1, 2, 3] * 9, **EVERYTHING) for _ in range(2))
    expected = [straight.sample(r) for r in rows]
    got = [wavering.sample(r) for r in rows[:30]]
    wavering.rewind(n)
    del got[len(got) - n :]
    got += [wavering.sample(r) for r in rows[len(got) :]]
    assert got == expected


def test_rewinding_past_the_reply_is_refused():
    drawing = sampler(10, prompt=[1, 2])
    drawing.accept(3)
    with pytest.raises(ValueError, match="1 tokens to rewind, not 2"):
        drawing.rewind(2)


def test_a_token_from_elsewhere_counts_like_a_drawn_one():
    logits = np.zeros(4, dtype=np.float32)
    drawing = sampler(4, presence_penalty=50.0)
    for id in (0, 1, 2):
        drawing.accept(id)
    assert drawing.sample(logits) == 3


def test_no_end_below_min_tokens_nor_with_ban_eos_nor_where_it_is_not_allowed():
    logits = np.array([0.0, 9.0, 0.0], dtype=np.float32)
    drawing = sampler(3, temperature=0, eos={1}, min_tokens=2)
    assert [drawing.sample(logits) for _ in range(3)] == [0, 0, 1]
    assert sampler(3, temperature=0, eos={1}, ban_eos=True).sample(logits) == 0
    assert sampler(3, temperature=0, eos={1}).sample(logits, False) == 0


def test_an_end_that_is_all_that_is_possible_is_taken():
    logits = np.array([-np.inf, 2.0, -np.inf], dtype=np.float32)
    assert sampler(3, eos={1}, min_tokens=5).sample(logits) == 1


def test_a_place_can_forbid_a_token():
    logits = np.array([5.0, 4.0, 3.0], dtype=np.float32)
    drawing = sampler(3, temperature=0)
    assert [drawing.draw(logits, banned=b) for b in ((), (0,), (0, 1))] == [0, 1, 2]


def test_greedy_still_heeds_penalties_and_bans():
    logits = np.array([3.0, 2.9, 1.0, 5.0], dtype=np.float32)
    drawing = sampler(4, temperature=0, repetition_penalty=1.5, banned_tokens=("3",), xtc_probability=1)
    assert [drawing.sample(logits) for _ in range(3)] == [0, 1, 0]


def test_greedy_ties_go_to_the_smaller_id():
    assert sampler(4, temperature=0).sample(np.array([1, 7, 7, 0], dtype=np.float32)) == 1


@pytest.mark.parametrize("bad", [np.full(4, -np.inf), np.array([0, np.nan, 1, 2]), np.array([0, np.inf, 1, 2])])
def test_a_row_without_usable_numbers_is_a_failure_in_words(bad):
    with pytest.raises(GenerationFailed, match="no usable numbers"):
        sampler(4).sample(bad.astype(np.float32))


def test_a_row_longer_than_the_vocabulary_is_cut():
    assert sampler(3, temperature=0).sample(np.array([0, 1, 0, 99], dtype=np.float32)) == 1


def test_windows_are_kept_up_to_date():
    logits = np.full(6, 3.0, dtype=np.float32)
    values = {"frequency_penalty": 1.0, "penalty_scope_additive": "all", "repetition_penalty_range": 2}
    drawing = sampler(6, prompt=[0, 0, 1], **values)
    for id, expected in ((2, [3, 2, 2, 3, 3, 3]), (2, [3, 3, 1, 3, 3, 3]), (3, [3, 3, 2, 2, 3, 3])):
        drawing.accept(id)
        ids, p = drawing.distribution(logits)
        got = np.log(p[np.argsort(ids)])
        assert got - got[5] == pytest.approx(np.array(expected) - expected[5], abs=1e-5)
