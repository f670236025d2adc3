"""The table of sampling settings: neutral by default, each declared once, each with words and a sensible range."""

import numpy as np
import pytest

from webui.core.errors import SettingError
from webui.core.fields import build, describe, values
from webui.core.sampling import Sampler
from webui.core.sampling.order import active_stages
from webui.core.settings import SAMPLER_ORDER, GenerationSettings

SETTINGS = describe(GenerationSettings)


def test_defaults_leave_the_models_distribution_alone():
    assert active_stages(GenerationSettings()) == ()
    row = np.random.default_rng(0).normal(0, 2, 500).astype(np.float32)
    ids, p = Sampler(GenerationSettings(), vocabulary=500, seed=1).distribution(row)
    expected = np.exp(row - row.max(), dtype=np.float64)
    assert p == pytest.approx((expected / expected.sum())[ids], rel=1e-5)


@pytest.mark.parametrize("name", SETTINGS)
def test_each_setting_explains_itself(name):
    s = SETTINGS[name]
    assert s.help.endswith(".") and 15 <= len(s.help) <= 140 and s.group
    assert s.check(s.default) == s.default and s.check(s.neutral) == s.neutral


@pytest.mark.parametrize("name", [n for n, s in SETTINGS.items() if s.form])
def test_the_form_offers_only_what_is_accepted(name):
    s = SETTINGS[name]
    low, high, step = s.form
    assert low < high and 0 < step <= high - low
    assert s.check(low) == low and s.check(high) == high
    assert low <= s.default <= high


@pytest.mark.parametrize("name", [n for n, s in SETTINGS.items() if s.valid])
def test_values_out_of_range_are_refused_with_the_range(name):
    s = SETTINGS[name]
    for bound, beyond in zip(s.valid, (-1, 1), strict=True):
        if bound is not None:
            with pytest.raises(SettingError, match=f"{name} is .*It takes"):
                s.check(bound + beyond)


def test_no_name_stands_for_two_settings():
    names = [*SETTINGS, *(alias for s in SETTINGS.values() for alias in s.aliases)]
    assert len(names) == len(set(names))


def test_every_stage_is_in_the_default_order_once():
    assert GenerationSettings().sampler_order == SAMPLER_ORDER and len(set(SAMPLER_ORDER)) == len(SAMPLER_ORDER)


def test_an_order_with_an_unknown_or_doubled_stage_is_refused():
    with pytest.raises(SettingError, match="Did you mean min_p"):
        build(GenerationSettings, {"sampler_order": ["minp"]})
    with pytest.raises(SettingError, match="twice"):
        build(GenerationSettings, {"sampler_order": ["min_p", "min_p"]})


def test_settings_can_be_a_key_and_survive_plain_values():
    settings = GenerationSettings(temperature=0.5, logit_bias={"5": 1.0}, stop=("x",))
    assert {settings: 1}[build(GenerationSettings, values(settings))] == 1


MOVED = {
    "temperature": 0.5, "smoothing_factor": 0.3, "skew": 1.0, "top_k": 5, "top_p": 0.5, "min_p": 0.1,
    "top_n_sigma": 1.0, "typical_p": 0.5, "tfs": 0.5, "top_a": 0.3, "top_h": 0.3, "epsilon_cutoff": 9.0,
    "eta_cutoff": 20.0, "xtc_probability": 1.0, "mirostat_mode": 2, "adaptive_target": 0.5, "repetition_penalty": 1.3,
    "encoder_repetition_penalty": 1.3, "no_repeat_ngram_size": 2, "dry_multiplier": 0.8, "banned_tokens": ("3",),
    "logit_bias": {"3": 2.0},
}  # fmt: skip


@pytest.mark.parametrize("name", MOVED)
def test_a_setting_moved_off_neutral_changes_the_distribution(name):
    row = np.random.default_rng(0).normal(0, 2, 500).astype(np.float32)
    row[7:10] = (5.5, 6.5, 5.0)
    prompt = [7, 8, 9, 7, 8, 9, 7, 8]

    def distribution(settings):
        sampler = Sampler(settings, vocabulary=500, seed=1, prompt=prompt, token_bytes=lambda id: b"x")
        ids, p = sampler.distribution(row)
        out = np.zeros(500)
        out[ids] = p
        return out

    plain = distribution(GenerationSettings())
    assert np.abs(distribution(build(GenerationSettings, {name: MOVED[name]})) - plain).sum() > 1e-4
