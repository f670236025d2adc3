"""One declaration gives checks, schema and sparse values."""

import json
import math
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webui.core.errors import SettingError
from webui.core.fields import build, describe, did_you_mean, json_schema, plain, setting, sparse, values


@dataclass(frozen=True)
class Voice:
    speed: float = setting(1.0, "How fast.", group="Voice", form=(0.5, 2, 0.05), valid=(0.1, 10), aliases=("rate",))
    loud: int = setting(5, "How loud.", form=(0, 11, 1))
    name: str = setting("Ada", "Who speaks.", choices=("Ada", "Bob"))
    whisper: bool = setting(False, "Softly.")
    words: tuple[str, ...] = setting((), "Words to stress.", neutral=())
    steps: tuple[str, ...] = setting(("a", "b"), "In order.", choices=("a", "b", "c"))
    weights: dict[str, float] = setting({}, "By word.")
    pitch: float | None = setting(None, "Hertz.", valid=(20, None))
    undeclared: int = 3


def refused(**given):
    with pytest.raises(SettingError) as error:
        build(Voice, given)
    return error.value


def test_a_declaration_is_described_with_its_default_and_type():
    speed = describe(Voice)["speed"]
    assert (speed.default, speed.neutral, speed.group) == (1, 1, "Voice")
    assert (speed.form, speed.valid) == ((0.5, 2, 0.05), (0.1, 10))
    assert speed.title == "Speed" and speed.aliases == ("rate",)
    assert describe(Voice)["loud"].valid == (0, 11)
    assert list(describe(Voice)) == ["speed", "loud", "name", "whisper", "words", "steps", "weights", "pitch"]
    assert describe(Voice) is describe(Voice)


def test_building_checks_and_converts():
    got = build(Voice, {"speed": 2, "loud": 7.0, "words": ["x", 15], "weights": {1: 2}, "pitch": None, "whisper": True})
    assert got == Voice(2.0, 7, words=("x", "15"), weights={"1": 2.0}, whisper=True)
    assert isinstance(got.speed, float) and isinstance(got.loud, int)


def test_building_lays_values_over_a_base():
    base = Voice(speed=2.0, loud=1)
    assert build(Voice, {"loud": 3}, base=base) == replace(base, loud=3)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"sped": 1}, "There is no setting 'sped'. Did you mean speed?"),
        ({"speed": 11}, "speed is 11.0. It takes 0.1 to 10."),
        ({"speed": "fast"}, "speed is 'fast'. It takes a number."),
        ({"speed": True}, "It takes a number."),
        ({"speed": math.nan}, "speed is nan. It takes 0.1 to 10."),
        ({"speed": math.inf}, "speed is inf."),
        ({"speed": None}, "It takes a number."),
        ({"loud": 1.5}, "loud is 1.5. It takes a whole number."),
        ({"loud": False}, "It takes a whole number."),
        ({"name": "Eve"}, "name is 'Eve'. It is one of: Ada, Bob."),
        ({"name": "\ud800"}, "half of a surrogate pair"),
        ({"whisper": 1}, "It takes true or false."),
        ({"whisper": "yes"}, "It takes true or false."),
        ({"words": "abc"}, "It takes a list of texts."),
        ({"words": [1.5]}, "It takes a list of texts."),
        ({"words": [True]}, "It takes a list of texts."),
        ({"words": ["a\udfff"]}, "half of a surrogate pair"),
        ({"steps": ["a", "d"]}, "steps has no 'd'."),
        ({"steps": ["a", "a"]}, "steps names 'a' twice."),
        ({"weights": [1]}, "It takes a mapping"),
        ({"weights": {"a": "x"}}, "It takes a mapping"),
        ({"weights": {"a": math.inf}}, "It takes a mapping"),
        ({"pitch": 3}, "It takes at least 20."),
        ({"speed": "x" * 100}, "…"),
    ],
)
def test_a_refusal_names_the_setting_and_what_it_takes(given, says):
    error = refused(**given)
    assert says in str(error) and error.field == next(iter(given)) and error.status == 400


@given(
    st.dictionaries(
        st.sampled_from([*describe(Voice), "nonsense"]),
        st.one_of(
            st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary(), st.lists(st.text()),
            st.dictionaries(st.text(), st.floats()),
        ),
    )
)  # fmt: skip
def test_any_value_is_taken_or_refused_in_words(given):
    try:
        got = build(Voice, given)
    except SettingError as error:
        assert error.message and error.field in given
    else:
        assert build(Voice, values(got)) == got
        json.dumps(values(got), allow_nan=False)


def test_sparse_holds_only_what_differs_and_builds_back():
    voice = Voice(loud=9, words=("a",))
    assert sparse(Voice()) == {}
    assert sparse(voice) == {"loud": 9, "words": ["a"]}
    assert build(Voice, sparse(voice)) == voice


def test_defaults_that_can_be_changed_are_not_shared():
    assert Voice().weights is not Voice().weights


def test_plain_values_are_what_json_knows():
    assert plain({"a": (1, ("b",))}) == {"a": [1, ["b"]]}


def test_the_schema_says_what_the_checks_say():
    schema = json_schema(Voice)
    assert schema["additionalProperties"] is False
    properties = schema["properties"]
    assert properties["speed"] == {
        "description": "How fast.", "default": 1.0, "type": "number", "minimum": 0.1, "maximum": 10,
    }  # fmt: skip
    assert properties["name"]["enum"] == ["Ada", "Bob"]
    assert properties["steps"]["items"] == {"type": "string", "enum": ["a", "b", "c"]}
    assert properties["pitch"]["type"] == ["number", "null"] and properties["pitch"]["minimum"] == 20
    assert properties["whisper"]["type"] == "boolean" and properties["weights"]["type"] == "object"
    json.dumps(schema)


def test_close_names_are_suggested_and_short_lists_shown():
    assert did_you_mean("temprature", ["temperature", "top_k"]) == "Did you mean temperature?"
    assert did_you_mean("zzz", ["a", "b"]) == "Known: a, b."
    assert did_you_mean("zzz", [str(i) for i in range(50)]) == ""
