"""Presets: read as data, written back the same, extended without circles; and what the shipped ones change."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from webui.core.errors import NotFound, PresetError
from webui.core.fields import describe
from webui.core.presets import DEFAULT, KEYS, LARGEST, Preset, dump, merged, parse, preset_name, resolve
from webui.core.sampling import Sampler, plan
from webui.core.settings import GenerationSettings

FOLDER = Path(__file__).resolve().parents[2] / "presets"
SHIPPED = sorted(FOLDER.glob("*.yaml"))
NAMES = [path.stem for path in SHIPPED]


def shipped(name):
    path = FOLDER / f"{name}.yaml"
    if not path.is_file():
        raise NotFound(f"There is no preset {name!r}.")
    return parse(path.read_text(encoding="utf-8"), name)


def refusal(text):
    with pytest.raises(PresetError) as error:
        parse(text, "mine")
    return str(error.value)


def test_a_preset_reads_as_it_is_written():
    text = 'description: Lively.\nauthor: me\nextends: Balanced\nsettings:\n  temperature: 1.1\n  stop: [a, "b\\n"]\n'
    assert parse(text, "My preset") == Preset(
        "My preset", "Lively.", "me", extends="Balanced", settings={"temperature": 1.1, "stop": ["a", "b\n"]}
    )


@pytest.mark.parametrize("text", ["", "# nothing\n", "settings:\n", "settings: {}\n", "description:\n"])
def test_an_empty_preset_is_neutral(text):
    assert resolve(parse(text, "x"), shipped) == GenerationSettings()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("settings:\n  top_k: 1\n  min_pp: 0.1", "Line 3 of the preset mine: There is no setting 'min_pp'."),
        ("settings:\n  repeat_penalty: 1.1", "It is called repetition_penalty here"),
        ("setings: {}", "Did you mean settings"),
        ("temperature: 1", "Indent it below settings"),
        ("settings:\n  min_p: 2", "Line 2 of the preset mine: min_p is 2.0. It takes 0 to 1."),
        ("settings:\n  top_k: many", "It takes a whole number"),
        ("settings:\n  temperature: .nan", "temperature is nan"),
        ("settings:\n  temperature: -.Inf", "temperature is -inf"),
        ("settings:\n  temperature: 1e5", "YAML reads 1e5 as text. Write 100000 out."),
        ("settings:\n  temperature: 1:30", "YAML reads 1:30 as the number 90"),
        ("settings:\n  top_k: 010", "YAML reads 010 as the number 8"),
        ("settings:\n  top_k: 0x10", "YAML reads 0x10 as the number 16"),
        ("settings:\n  top_k: 2020-99-99", "YAML reads 2020-99-99 as a date"),
        ("settings:\n  add_bos: on", "YAML reads on as true. Put it in quotes."),
        ("settings:\n  stop: [NO]", "YAML reads NO as false. Put it in quotes."),
        ("settings:\n  stop:\n    - a\n    - ~", "Line 4 of the preset mine: YAML reads ~ as nothing"),
        ("settings:\n  banned_tokens: [012]", "YAML reads 012 as the number 10"),
        ("settings:\n  logit_bias: {NO: 1}", "YAML reads NO as false"),
        ("settings:\n  logit_bias: {a: 1e3}", "YAML reads 1e3 as text"),
        ("settings:\n  logit_bias: {a: [1]}", "It takes a mapping"),
        ("settings:\n  top_p:", "top_p has no value"),
        ("settings:\n  temperature: =", "temperature"),
        ("settings:\n  sampler_order: [top_k, topp]", "sampler_order has no 'topp'. Did you mean top_p"),
        ("settings:\n  sampler_order: [top_k, top_k]", "names 'top_k' twice"),
        ("settings: {top_k: 1, top_k: 2}", "top_k is there twice"),
        ("settings: [top_k]", "settings is a mapping"),
        ("description: 2020-01-01", "YAML reads 2020-01-01 as a date"),
        ("description: [a]", "description is a text"),
        ("extends: ../secret", "cannot be used"),
        ("a: &x 1\nb: *x", "Anchors and aliases"),
        ("settings: {stop: [*x]}", "Anchors and aliases"),
        ("a: !!python/object/apply:os.system [ls]", "Tags (!) are not read"),
        ("settings: {temperature: !!float 1}", "Tags (!) are not read"),
        ("[" * 5000, "nested too deeply"),
        ("- a", "A preset is a mapping"),
        ("settings:\n\ttop_k: 1", "Line 2 of the preset mine is not YAML"),
        ("settings: {top_k: 1", "is not YAML"),
        ("---\na: 1\n---\nb: 1", "is not YAML"),
        ("a: \x00", "is not YAML"),
        ("x" * (LARGEST + 1), "larger than 256 KB"),
        ("settings: {top_k: " + "9" * 5000 + "}", "top_k cannot be read"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(text, says):
    assert says in refusal(text)


def test_numbers_in_other_spellings_are_read():
    got = parse("settings: {top_p: 1.0e-2, min_p: .5, temperature: 2., top_k: 4.0}", "x").settings
    assert got == {"top_p": 0.01, "min_p": 0.5, "temperature": 2.0, "top_k": 4}


def test_token_ids_may_stand_without_quotes():
    assert parse("settings: {banned_tokens: [15, x], logit_bias: {15: 2}}", "x").settings == {
        "banned_tokens": ["15", "x"],
        "logit_bias": {"15": 2.0},
    }


texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=30)
ORDER = st.permutations(["top_k", "top_p", "temperature"])


@settings(max_examples=300, deadline=None)
@given(
    words=st.fixed_dictionaries({}, optional={"description": texts, "author": texts, "source": texts}),
    values=st.fixed_dictionaries(
        {},
        optional={
            "temperature": st.floats(0, 5),
            "top_k": st.integers(0, 10**6),
            "stop": st.lists(texts, max_size=4),
            "banned_tokens": st.lists(texts, max_size=4),
            "logit_bias": st.dictionaries(texts, st.floats(-1e9, 1e9), max_size=4),
            "add_bos": st.sampled_from(["auto", "on", "off"]),
            "dynamic_temperature": st.booleans(),
            "sampler_order": ORDER,
            "seed": st.integers(-1, 2**63 - 1),
        },
    ),
)
def test_what_is_dumped_reads_back_the_same(words, values):
    preset = Preset("Mine", extends="Balanced", settings=values, **words)
    assert parse(dump(preset), "Mine") == preset


def test_a_dump_is_short_and_readable():
    preset = Preset("x", "Lively: a default.", settings={"temperature": 1.1, "stop": ["no", "\n"]})
    assert dump(preset) == (
        "description: 'Lively: a default.'\nsettings:\n  temperature: 1.1\n  stop:\n    - 'no'\n    - \"\\n\"\n"
    )


@pytest.mark.parametrize("name", ["My preset", "a", "min-p 0.1 (v2)", "Über_größe", "夜の物語", "x" * 80])
def test_good_names_are_taken(name):
    assert preset_name(name) == name


@pytest.mark.parametrize(
    "name",
    ["", " ", ".", "..", "../x", "a/b", "a\\b", "/etc/passwd", "C:x", "a:b", ".hidden", "trailing.", "end ", " start",
     "CON", "nul.txt", "com1", "a\nb", "a\x00b", "x" * 81, "50%", "a*", "what?", "<b>", 'a"b', "a|b", "~x", "%2e%2e",
     "‮txt", "a;b", "$HOME"],
)  # fmt: skip
def test_names_that_no_file_may_have_are_refused(name):
    with pytest.raises(PresetError):
        preset_name(name)


def lookup(*presets):
    known = {p.name: p for p in presets}

    def find(name):
        if name not in known:
            raise NotFound(f"There is no preset {name!r}.", "Known: a.")
        return known[name]

    return find


def test_a_preset_starts_from_the_one_it_extends():
    a = Preset("a", settings={"temperature": 0.5, "top_p": 0.9})
    b = Preset("b", extends="a", settings={"temperature": 1.0, "min_p": 0.1})
    c = Preset("c", extends="b", settings={"top_k": 7})
    assert merged(c, lookup(a, b)) == {"temperature": 1.0, "top_p": 0.9, "min_p": 0.1, "top_k": 7}
    assert resolve(c, lookup(a, b)) == GenerationSettings(top_p=0.9, min_p=0.1, top_k=7)


def test_a_circle_is_refused_and_shown():
    a, b, c = Preset("a", extends="b"), Preset("b", extends="c"), Preset("c", extends="b")
    with pytest.raises(PresetError, match="a → b → c → b"):
        resolve(a, lookup(a, b, c))
    with pytest.raises(PresetError, match="extends itself"):
        resolve(Preset("a", extends="a"), lookup())


def test_a_missing_or_endless_parent_is_refused():
    with pytest.raises(PresetError, match="a extends 'gone', which is not there"):
        resolve(Preset("a", extends="gone"), lookup())
    many = [Preset(str(i), extends=str(i + 1)) for i in range(40)]
    with pytest.raises(PresetError, match="more than 16"):
        resolve(many[0], lookup(*many))


def test_a_preset_that_was_not_read_from_a_file_is_checked_too():
    with pytest.raises(PresetError, match=r"The preset x: min_p is 7"):
        resolve(Preset("x", settings={"min_p": 7}), lookup())


def test_the_default_is_shipped_and_so_are_at_least_twelve():
    assert DEFAULT in NAMES and len(NAMES) >= 12


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_preset_says_who_made_it_and_what_for(name):
    preset = shipped(preset_name(name))
    assert 20 < len(preset.description) <= 160 and preset.author
    assert preset.description.endswith(".")


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_preset_changes_what_it_says_and_nothing_else(name):
    preset = shipped(name)
    start = resolve(shipped(preset.extends), shipped) if preset.extends else GenerationSettings()
    got = resolve(preset, shipped)
    changed = {n for n in describe(GenerationSettings) if getattr(got, n) != getattr(start, n)}
    assert changed == set(preset.settings)


@pytest.mark.parametrize("name", NAMES)
def test_all_that_a_shipped_preset_sets_acts(name):
    assert plan(resolve(shipped(name), shipped)) == []


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_preset_writes_back_to_itself(name):
    assert parse(dump(shipped(name)), name) == shipped(name)


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_preset_draws_from_a_sensible_set_of_tokens(name):
    row = np.random.default_rng(0).normal(0, 1, 2000).astype(np.float32)
    row[:4] = (12, 11.5, 11, 10)  # four good continuations
    sampler = Sampler(resolve(shipped(name), shipped), vocabulary=2000, seed=1, token_bytes=lambda id: b"")
    assert sum(sampler.sample(row) < 4 for _ in range(100)) > 80


def readme_table():
    """One line for each setting, as the guide to presets shows it."""
    rows = []
    for s in describe(GenerationSettings).values():
        default = "see below" if s.name == "sampler_order" else repr(s.default).replace("|", "\\|")
        default = default.replace("'", '"').replace("()", "[]").replace("True", "true").replace("False", "false")
        if isinstance(s.default, tuple) and s.default and s.name != "sampler_order":
            default = '["\\n", ":", "\\"", "\\*"]'
        rows.append(f"| `{s.name}` | {default} | {s.help} |")
    return rows


def test_the_guide_to_presets_names_every_key_and_every_setting():
    guide = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert [line for line in guide.splitlines() if line.startswith("| `")] == readme_table()
    for key in KEYS:
        assert f"**{key}**" in guide
    for stage in describe(GenerationSettings)["sampler_order"].default:
        assert stage in guide
    for name in NAMES:
        assert f"**{name}**" in guide
