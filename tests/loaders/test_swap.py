"""The same model under another loader says the same."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.loaders.conftest import Speaker, open_engine


@pytest.fixture(scope="module")
def both(tiny: Path) -> Iterator[list[Speaker]]:
    """llama.cpp and Transformers over one model."""
    speakers = [Speaker(kind, open_engine(kind, tiny)) for kind in ("llamacpp", "huggingface")]
    yield speakers
    for speaker in speakers:
        speaker.engine.close()


PROMPTS = [
    "the quick brown fox",
    "a lazy dog: 👩\u200d🚀\n\n" + " " * 50 + "x",
    "=" * 300,
    "user and assistant talk of time",
]


@pytest.mark.parametrize("prompt", PROMPTS, ids=["words", "mixed", "long", "more"])
@pytest.mark.parametrize(
    "settings",
    [
        {"temperature": 0.0},
        {"temperature": 0.8, "top_p": 0.9},
        {"temperature": 1.2, "min_p": 0.05, "repetition_penalty": 1.1, "dry_multiplier": 0.8},
    ],
    ids=["greedy", "seeded", "penalised"],
)
def test_the_text_is_the_same(both: list[Speaker], prompt: str, settings: dict[str, float]) -> None:
    first, second = (s.text(s.job(prompt, 40, seed=11, ban_eos=False, **settings)) for s in both)
    assert first == second


def test_both_know_the_same_tokens(both: list[Speaker]) -> None:
    a, b = (s.engine for s in both)
    assert a.info.vocabulary == b.info.vocabulary
    assert [a.token_bytes(n) for n in range(a.info.vocabulary)] == [b.token_bytes(n) for n in range(b.info.vocabulary)]
    for field in ("bos", "bos_text", "eos", "eos_text", "control", "add_bos", "newline", "template", "parameters"):
        assert getattr(a.info, field) == getattr(b.info, field), field
    for text in (*PROMPTS, "it's 12345 o'clock\r\n\n  \tfoo_bar  ", "<|eot_id|>the"):
        for special in (True, False):
            assert a.tokenize(text, special=special) == b.tokenize(text, special=special)
