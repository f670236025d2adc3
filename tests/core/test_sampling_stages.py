"""Each stage on cases small enough to compute by hand."""

import math

import numpy as np
import pytest

from webui.core.sampling import Sampler
from webui.core.sampling.candidates import Candidates
from webui.core.sampling.stages import adaptive, cutoffs, repetition, shape
from webui.core.settings import SAMPLER_ORDER, GenerationSettings

P = [0.5, 0.25, 0.15, 0.07, 0.03]


def candidates(p=P):
    return Candidates(np.log(np.array(p)).astype(np.float32))


def left(c):
    """{token: probability} of what a stage has left."""
    places = c.top(c.count)
    return dict(zip(c.tokens(places).tolist(), c.probabilities(places).tolist(), strict=True))


def after(row, prompt=(), **settings):
    sampler = Sampler(GenerationSettings(**settings), vocabulary=len(row), seed=1, prompt=prompt)
    ids, p = sampler.distribution(np.array(row, dtype=np.float32))
    return dict(zip(ids.tolist(), p.tolist(), strict=True))


def logits_after(row, prompt=(), **settings):
    """The logits themselves, up to a common shift, of all tokens."""
    found = after(row, prompt, **settings)
    return np.array([math.log(found[i]) if i in found else -math.inf for i in range(len(row))])


def shift_free(a, b):
    return np.asarray(a) - np.asarray(a)[0] == pytest.approx(np.asarray(b) - np.asarray(b)[0], abs=1e-5)


def test_neutral_settings_leave_the_distribution_alone():
    assert after(np.log(P)) == pytest.approx(dict(enumerate(P)), abs=1e-6)


def test_temperature_divides_the_logits():
    squared = np.array(P) ** 2
    assert after(np.log(P), temperature=0.5) == pytest.approx(dict(enumerate(squared / squared.sum())), abs=1e-6)


def test_temperature_zero_leaves_the_most_probable_token_and_of_equals_the_first():
    assert after(np.log([0.2, 0.4, 0.4]), temperature=0, xtc_probability=1, top_p=0.1) == {1: 1.0}


def test_dynamic_temperature_follows_the_share_of_the_largest_entropy():
    entropy = -sum(p * math.log(p) for p in P)
    t = 0.5 + 1.5 * (entropy / math.log(5)) ** 2
    weights = np.array(P) ** (1 / t)
    got = left(shape.dynamic_temperature(candidates(), 0.5, 2.0, 2.0))
    assert got == pytest.approx(dict(enumerate(weights / weights.sum())), abs=1e-6)


@pytest.mark.parametrize("curve", [1.0, 2.0, 4.0])
def test_smoothing_is_quadratic_and_cubic_in_the_distance_from_the_top(curve):
    factor, k, s = 0.3, (3 - curve) / 2, (curve - 1) / 2
    row = [5.0, 4.0, 2.0, -1.0]
    d = np.array(row) - 5
    expected = -k * factor * d**2 + s * factor * d**3 + 5
    assert shift_free(logits_after(row, smoothing_factor=factor, smoothing_curve=curve), expected)


def test_smoothing_keeps_banned_tokens_banned():
    got = after([5.0, 4.0, 2.0], smoothing_factor=0.5, smoothing_curve=5.0, banned_tokens=("1",))
    assert set(got) == {0, 2}


@pytest.mark.parametrize("amount", [-1.5, 0.7, 2.0])
def test_skew_draws_with_a_power_of_the_uniform_number(amount):
    edges = np.cumsum([0.0, *P]) ** math.exp(amount)  # u^e^-a < c  <=>  u < c^e^a
    assert left(shape.skew(candidates(), amount)) == pytest.approx(dict(enumerate(np.diff(edges))), abs=1e-6)


def test_skew_above_zero_leans_to_improbable_tokens():
    assert left(shape.skew(candidates(), 1.0))[4] > P[4] > left(shape.skew(candidates(), -1.0))[4]


@pytest.mark.parametrize(("k", "kept"), [(1, 1), (3, 3), (9, 5)])
def test_top_k_keeps_the_k_most_probable(k, kept):
    assert set(left(cutoffs.top_k(candidates(), k))) == set(range(kept))


@pytest.mark.parametrize(("p", "kept"), [(0.0, 1), (0.4, 1), (0.6, 2), (0.76, 3), (0.99, 5)])
def test_top_p_keeps_the_token_that_crosses_the_line(p, kept):
    assert set(left(cutoffs.top_p(candidates(), p))) == set(range(kept))


@pytest.mark.parametrize(("p", "kept"), [(1.0, 1), (0.4, 2), (0.2, 3), (0.05, 5)])
def test_min_p_compares_with_the_most_probable(p, kept):
    assert set(left(cutoffs.min_p(candidates(), p))) == set(range(kept))


def test_min_p_of_one_keeps_all_that_are_equally_probable():
    assert set(left(cutoffs.min_p(candidates([0.4, 0.2, 0.4]), 1.0))) == {0, 2}


def test_top_n_sigma_uses_the_population_deviation_of_the_finite_logits():
    row = np.array([3.0, 1.0, 0.0, 0.0, -np.inf], dtype=np.float32)
    sigma = np.std([3, 1, 0, 0])  # 1.2247
    assert set(left(cutoffs.top_n_sigma(Candidates(row), 1.0))) == {i for i in range(4) if row[i] >= 3 - sigma}
    assert set(left(cutoffs.top_n_sigma(Candidates(row), 2.0))) == {0, 1}
    assert set(left(cutoffs.top_n_sigma(Candidates(row), 2.5))) == {0, 1, 2, 3}


def test_typical_p_starts_at_the_tokens_of_expected_surprise():
    # entropy 1.279 nats; surprises .693 1.386 1.897 2.659 3.507; distances .586 .107 .618 1.38 2.228
    assert set(left(cutoffs.typical_p(candidates(), 0.2))) == {1}
    assert set(left(cutoffs.typical_p(candidates(), 0.3))) == {0, 1}
    assert set(left(cutoffs.typical_p(candidates(), 0.8))) == {0, 1, 2}


def test_tail_free_cuts_where_the_curve_stops_bending():
    # p .5 .25 .15 .07 .03: first differences -.25 -.1 -.08 -.04, second .15 .02 .04 -> shares .714 .810 1
    assert set(left(cutoffs.tfs(candidates(), 0.5))) == {0}
    assert set(left(cutoffs.tfs(candidates(), 0.75))) == {0, 1}
    assert set(left(cutoffs.tfs(candidates(), 0.9))) == {0, 1, 2}


@pytest.mark.parametrize(("a", "kept"), [(0.3, 3), (0.2, 4), (0.1, 5), (1.0, 2)])
def test_top_a_compares_with_the_square_of_the_most_probable(a, kept):
    assert kept == sum(p >= a * 0.25 for p in P)
    assert set(left(cutoffs.top_a(candidates(), a))) == set(range(kept))


def test_epsilon_is_a_floor_in_ten_thousandths():
    assert set(left(cutoffs.epsilon_cutoff(candidates(), 500))) == {0, 1, 2, 3}
    assert set(left(cutoffs.epsilon_cutoff(candidates(), 9000))) == {0}


def test_eta_is_gentler_when_the_model_is_unsure():
    entropy = -sum(p * math.log(p) for p in P)
    for eta in (200.0, 1000.0, 5000.0):
        floor = min(eta * 1e-4, math.sqrt(eta * 1e-4) * math.exp(-entropy))
        assert set(left(cutoffs.eta_cutoff(candidates(), eta))) == {i for i, p in enumerate(P) if p >= floor} or {0}


def test_top_h_keeps_tokens_while_their_part_of_the_entropy_is_small_enough():
    parts = np.cumsum([-p * math.log(p) for p in P])
    for h in (0.1, 0.4, 0.7, 0.95):
        wanted = max(1, int(np.count_nonzero(parts <= h * parts[-1])))
        assert len(left(cutoffs.top_h(candidates(), h))) == wanted


@pytest.mark.parametrize(("threshold", "gone"), [(0.1, {0, 1}), (0.2, {0}), (0.3, set()), (0.01, {0, 1, 2, 3})])
def test_xtc_drops_all_above_the_threshold_but_the_least_probable(threshold, gone):
    assert set(left(cutoffs.xtc(candidates(), threshold))) == set(range(5)) - gone


def test_xtc_counts_newlines_and_ends_out():
    assert set(left(cutoffs.xtc(candidates(), 0.1, spared=np.array([0])))) == {0, 2, 3, 4}
    row = np.log(P)
    settings = GenerationSettings(xtc_probability=1, xtc_threshold=0.1)
    spare = Sampler(settings, vocabulary=5, seed=1, eos={1}, newline={0})
    assert set(spare.distribution(row.astype(np.float32))[0].tolist()) == set(range(5))


def test_xtc_acts_about_as_often_as_it_says():
    sampler = Sampler(GenerationSettings(xtc_probability=0.3), vocabulary=5, seed=4)
    row = np.log(P).astype(np.float32)
    acted = 0
    for _ in range(2000):
        acted += len(sampler.distribution(row)[0]) < 5
        sampler.accept(0)
    assert 520 < acted < 680


@pytest.mark.parametrize(
    "settings",
    [
        {"top_k": 1},
        {"top_p": 0.01},
        {"min_p": 1.0},
        {"top_n_sigma": 0.01},
        {"typical_p": 0.01},
        {"tfs": 0.01},
        {"top_a": 1.0},
        {"epsilon_cutoff": 9999},
        {"eta_cutoff": 9999},
        {"top_h": 0.01},
        {"xtc_probability": 1, "xtc_threshold": 0.0},
    ],
)
def test_no_cut_off_leaves_fewer_than_min_keep(settings):
    assert len(after(np.log(P), min_keep=3, **settings)) >= 3


def test_mirostat_2_keeps_tokens_below_the_allowed_surprise():
    assert set(left(adaptive.mirostat_2(candidates(), 2.5))) == {0, 1}  # surprises 1, 2, 2.74 … bits
    assert set(left(adaptive.mirostat_2(candidates(), 0.1))) == {0}


def test_mirostat_1_takes_the_k_that_zipfs_law_gives():
    # p ~ 1/rank^2 exactly: s = 2, epsilon = 1, k = sqrt(2^mu / (1 - 1/n))
    p = 1 / np.arange(1, 51) ** 2.0
    got = left(adaptive.mirostat_1(candidates(p / p.sum()), 6.0, 1000))
    assert len(got) == int(math.sqrt(2**6 / (1 - 1 / 1000)))


def test_mirostat_moves_towards_its_target():
    sampler = Sampler(GenerationSettings(mirostat_mode=2, mirostat_tau=1.0, mirostat_eta=0.5), vocabulary=5, seed=1)
    row = np.log(P).astype(np.float32)
    assert len(sampler.distribution(row)[0]) == 2  # mu starts at 2 tau = 2 bits
    sampler.accept(1)  # surprise of 1/3 is 1.58 bits; mu = 2 - .5 * .58 = 1.71
    assert len(sampler.distribution(row)[0]) == 1


def test_adaptive_p_favours_tokens_near_the_target():
    memory = adaptive.begin(5, 0.25, 0.9)
    got = left(adaptive.adaptive(candidates(), memory, 0.25))
    assert max(got, key=got.get) == 1
    d = np.abs(np.array(P) - 0.25) / 0.3
    weights = np.exp(5 - 10 * d * d / (1 + d))
    assert got == pytest.approx(dict(enumerate(weights / weights.sum())), abs=1e-5)


def test_adaptive_p_makes_up_for_what_was_drawn():
    memory = adaptive.begin(5, 0.25, 0.5)
    for _ in range(5):
        memory = adaptive.adaptive_learn(memory, 0.03, 0.5)
    got = left(adaptive.adaptive(candidates(), memory, 0.25))
    assert max(got, key=got.get) == 0


def test_the_repetition_penalty_divides_positive_logits_and_multiplies_others():
    assert shift_free(logits_after([2.0, 2.0, -2.0, 0.0], [1, 2], repetition_penalty=2.0), [2, 1, -4, 0])


def test_the_repetition_penalty_sees_its_window_only():
    row, prompt = [2.0] * 4, [1, 2, 3]
    assert shift_free(logits_after(row, prompt, repetition_penalty=2.0, repetition_penalty_range=2), [2, 2, 1, 1])
    assert shift_free(logits_after(row, prompt, repetition_penalty=2.0, repetition_penalty_range=0), [2, 2, 2, 2])
    assert shift_free(logits_after(row, prompt, repetition_penalty=2.0, penalty_scope="reply"), [2, 2, 2, 2])


def test_the_repetition_penalty_fades_behind_its_window():
    fading = {"repetition_penalty": 2.0, "repetition_penalty_range": 1, "repetition_penalty_decay": 2}
    got = logits_after([2.0] * 5, [4, 3, 2, 1], **fading)
    assert shift_free(got, [2, 1, 2 / (1 + 2 / 3), 2 / (1 + 1 / 3), 2])


def test_frequency_counts_and_presence_does_not():
    got = logits_after([3.0] * 3, [1, 1, 2], frequency_penalty=0.5, presence_penalty=0.25, penalty_scope_additive="all")
    assert shift_free(got, [3, 1.75, 2.25])
    assert shift_free(logits_after([3.0] * 3, [1, 1, 2], frequency_penalty=0.5), [3, 3, 3])


def test_the_encoder_penalty_favours_tokens_of_the_prompt():
    assert shift_free(logits_after([2.0, 2.0, -2.0], [1, 2], encoder_repetition_penalty=2.0), [2, 4, -1])


def test_no_ngram_is_written_twice():
    text = np.array([1, 2, 3, 1, 2])
    assert repetition.ngram_bans(text, 3).tolist() == [3]
    assert repetition.ngram_bans(text, 2).tolist() == [3]
    assert repetition.ngram_bans(text, 1).tolist() == [1, 2, 3]
    assert repetition.ngram_bans(text, 4).tolist() == []
    assert set(after([1.0] * 5, text.tolist(), no_repeat_ngram_size=3)) == {0, 1, 2, 4}


def test_dry_grows_with_the_length_of_the_repeated_sequence():
    # "1 2 3 4 … 1 2 3": writing 4 continues a sequence of three
    text = [1, 2, 3, 4, 5, 1, 2, 3]
    got = logits_after([6.0] * 6, text, dry_multiplier=0.8, dry_base=2.0, dry_sequence_breakers=())
    assert shift_free(got, [6, 6, 6, 6, 6 - 0.8 * 2.0, 6])


def test_dry_lets_short_repeats_be():
    text = [1, 2, 3, 4, 5, 3]
    got = logits_after([6.0] * 6, text, dry_multiplier=0.8, dry_sequence_breakers=())
    assert shift_free(got, [6.0] * 6)


def test_suffix_matches_grow_with_the_text():
    rng = np.random.default_rng(3)
    text = rng.integers(0, 3, 80)
    lengths = repetition.suffix_matches(text[:1])
    for size in range(2, 81):
        lengths = repetition.next_matches(lengths, text[:size])
        assert lengths.tolist() == repetition.suffix_matches(text[:size]).tolist()


def test_every_stage_can_stand_anywhere():
    row = np.random.default_rng(1).normal(0, 2, 300).astype(np.float32)
    settings = GenerationSettings(
        temperature=0.9, smoothing_factor=0.1, skew=0.2, top_k=60, top_p=0.95, min_p=0.01, top_n_sigma=3,
        typical_p=0.95, tfs=0.99, top_a=0.001, top_h=0.9, epsilon_cutoff=1, eta_cutoff=1, xtc_probability=1,
        mirostat_mode=2, adaptive_target=0.3, repetition_penalty=1.1, frequency_penalty=0.2,
        encoder_repetition_penalty=1.1, no_repeat_ngram_size=3, dry_multiplier=0.8, dry_sequence_breakers=(),
        logit_bias={"3": 1.0}, banned_tokens=("4",), sampler_order=SAMPLER_ORDER,
    )  # fmt: skip
    rng = np.random.default_rng(2)
    for _ in range(40):
        order = tuple(rng.permutation(SAMPLER_ORDER).tolist())
        shuffled = GenerationSettings(**{**settings.__dict__, "sampler_order": order})
        sampler = Sampler(shuffled, vocabulary=300, seed=3, prompt=rng.integers(0, 300, 50).tolist())
        for _ in range(3):
            ids, p = sampler.distribution(row)
            assert len(ids) >= 1 and p.sum() == pytest.approx(1) and 4 not in ids.tolist()
            assert sampler.sample(row) in ids.tolist()
