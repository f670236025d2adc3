"""Order of the stages, names of tokens, breakers, and the sentences about what cannot act."""

import numpy as np
import pytest

from webui.core.errors import SettingError
from webui.core.loader import Capabilities
from webui.core.sampling import Sampler, plan
from webui.core.sampling.breakers import find_breakers
from webui.core.sampling.order import active_stages, stage_order
from webui.core.settings import SAMPLER_ORDER, GenerationSettings

PIECES = [b"a", b"b", b"ab", b"\n", b"x\n", b":", b" E", b"N", b"ND", b"D", b"E", b"ENDE", b"\xe2", b"\x80\x9d"]


def encode(text):
    """Longest piece first."""
    data, out = text.encode(), []
    while data:
        id = max((i for i, p in enumerate(PIECES) if data.startswith(p)), key=lambda i: len(PIECES[i]))
        out.append(id)
        data = data[len(PIECES[id]) :]
    return out


def piece(id):
    return PIECES[id]


def sampler(**settings):
    chosen = GenerationSettings(**settings)
    return Sampler(chosen, vocabulary=len(PIECES), seed=1, encode=encode, token_bytes=piece)


def test_only_stages_with_something_to_do_are_in_the_chain():
    assert active_stages(GenerationSettings()) == ()
    assert active_stages(GenerationSettings(top_p=0.9, temperature=0.7, top_k=5)) == ("top_k", "top_p", "temperature")


def test_the_order_is_the_given_one():
    order = ("min_p", "temperature", "top_k")
    assert active_stages(GenerationSettings(top_k=5, min_p=0.1, temperature=2, sampler_order=order)) == order


def test_temperature_last_moves_temperature_behind_the_last_cut_off_and_no_further():
    order = ("dry", "temperature", "top_k", "xtc", "mirostat")
    moved = stage_order(GenerationSettings(sampler_order=order, temperature_last=True))
    assert moved == ("dry", "top_k", "xtc", "temperature", "mirostat")
    assert stage_order(GenerationSettings(temperature_last=True)) == SAMPLER_ORDER


def test_an_unknown_stage_is_refused_with_the_name_that_was_meant():
    with pytest.raises(SettingError, match="Did you mean top_k"):
        sampler(sampler_order=("topk",))


def test_every_stage_of_the_default_order_is_known():
    assert stage_order(GenerationSettings()) == SAMPLER_ORDER


def test_temperature_zero_leaves_only_edits():
    settings = GenerationSettings(temperature=0, top_k=5, xtc_probability=1, banned_tokens=("1",), dry_multiplier=1)
    assert active_stages(settings) == ("banned", "dry")


def test_tokens_are_named_by_id_or_by_text():
    got = sampler(logit_bias={"1": 50.0, "ab": 40.0}, banned_tokens=("\n",), temperature=0)
    row = np.zeros(len(PIECES), dtype=np.float32)
    assert got.sample(row) == 1
    assert sampler(logit_bias={"0": 1.0, "a": 1.0, "1": 1.5}, temperature=0).sample(row) == 0  # 0 and a are one token


def test_an_enormous_bias_decides_and_breaks_nothing():
    row = np.zeros(len(PIECES), dtype=np.float32)
    ids, p = sampler(logit_bias={"1": 1e300, "2": 1e39, "3": -1e300}).distribution(row)
    assert ids[:2].tolist() == [1, 2] and p[:2].tolist() == pytest.approx([0.5, 0.5])


def test_a_text_that_is_several_tokens_is_refused_with_its_parts():
    with pytest.raises(SettingError, match=r"'ab:', which is 2 tokens for this model: 'ab' \(2\), ':' \(5\)") as error:
        sampler(logit_bias={"ab:": 1.0})
    assert error.value.field == "logit_bias"
    with pytest.raises(SettingError, match="banned_tokens names token 99"):
        sampler(banned_tokens=("99",))
    with pytest.raises(SettingError, match="no token"):
        sampler(banned_tokens=("",))


def test_a_token_that_holds_a_breaker_breaks_by_itself():
    found = find_breakers(piece, len(PIECES), ("\n", ":"), encode)
    assert [i for i in range(len(PIECES)) if found.single[i]] == [3, 4, 5]
    assert [found.limit(np.array(ids)) for ids in ([0, 3], [3, 0, 1], [0, 1, 2], [4, 1, 5, 0])] == [0, 2, 3, 1]


def test_a_breaker_can_span_tokens():
    found = find_breakers(piece, len(PIECES), ("END",), encode)
    assert found.tails[6] == ((8,),)  # " E" then "ND"
    assert found.tails[11] == ((),)  # "ENDE" holds it
    assert [found.limit(np.array(ids)) for ids in ([6, 8], [6, 8, 0], [6, 0, 8], [0, 11])] == [0, 1, 3, 0]


def test_a_breaker_that_is_cut_inside_a_character_still_breaks_as_a_whole():
    found = find_breakers(piece, len(PIECES), ("”",), encode)
    assert found.tails[12] == ((13,),)
    assert [found.limit(np.array(ids)) for ids in ([12, 13, 0], [12, 0])] == [1, 2]


def test_breakers_are_found_once_for_a_vocabulary():
    one = find_breakers(piece, len(PIECES), ("\n",), encode)
    assert find_breakers(piece, len(PIECES), ("\n",), lambda text: []) is one


def test_nothing_to_say_about_settings_that_act():
    assert plan(GenerationSettings(top_p=0.9, temperature=0.5)) == []
    assert plan(GenerationSettings()) == []


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"min_p": 0.1, "sampler_order": ("top_k",)}, "min_p: it is set, but sampler_order leaves it out."),
        ({"temperature": 0, "top_p": 0.5}, "top_p: no effect, since temperature 0 takes"),
        ({"xtc_probability": 0.5, "xtc_threshold": 0.7}, "xtc_probability: no effect"),
        ({"repetition_penalty": 1.1, "repetition_penalty_range": 0}, "no effect with repetition_penalty_range 0"),
        ({"dry_multiplier": 0.8, "dry_range": 0}, "no effect with dry_range 0"),
    ],
)
def test_what_will_not_act_is_said(values, sentence):
    assert any(sentence in line for line in plan(GenerationSettings(**values)))


def test_what_a_loader_cannot_do_is_said_with_its_reason():
    known = Capabilities(settings={"top_p": "native", "xtc_probability": "This server has no XTC."})
    assert plan(GenerationSettings(top_p=0.5, xtc_probability=0.5), known) == [
        "xtc_probability: This server has no XTC."
    ]
