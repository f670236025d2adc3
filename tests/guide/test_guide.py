"""The bundled guide says the same on every loader, answers most questions that it never saw, and stays small."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.guide import asking

CHATS: list[asking.Messages] = [
    [{"role": "user", "content": "How do I add a model?"}],
    [{"role": "user", "content": "what does min_p do"}],
    [{"role": "user", "content": "hello"}],
    [{"role": "user", "content": "where r my chats saved??"}],
    [{"role": "user", "content": "What is the capital of France?"}],
    [{"role": "system", "content": "You are a helpful assistant."}, {"role": "user", "content": "Do I need a GPU?"}],
    [
        {"role": "user", "content": "what is top_k"},
        {"role": "assistant", "content": "top_k keeps only the k most probable tokens and drops the rest."},
        {"role": "user", "content": "and what about min_p?"},
    ],
]


@pytest.fixture(scope="module")
def llamacpp() -> Iterator[asking.Ask]:
    with asking.llamacpp() as ask:
        yield ask


@pytest.fixture(scope="module")
def transformers() -> Iterator[asking.Ask]:
    with asking.transformers() as ask:
        yield ask


def strings() -> list[str]:
    """A few hundred texts: what people write, and what tokenizers stumble over."""
    readme = (asking.ROOT / "README.md").read_text("utf-8")
    code = Path(asking.__file__).read_text("utf-8")
    odd = [
        "",
        " ",
        "  x",
        "\n",
        "\n\n",
        " \n \t\n x",
        "it's I'LL they'Ve",
        "12345 6 78901234",
        "naïve Ünïcödé",
        "你好，世界",
    ]
    odd += [
        "🙂🙃 👩‍👩‍👧",
        "a\u0301 e\u0308",
        "\u200b\ufeff",
        "x=1;\r\ny\t= 2",
        "!!! ??? ...",
        "<b>&amp;</b>",
        "привет мир",
    ]
    odd += ["min_p=0.05", "TOP_K", "what's up?", "a" * 300, "\u00a0nbsp", "ﬁ ½ ² ⅷ ٣", "<|eot_id|>", "مرحبا", "हिन्दी"]
    return odd + readme.splitlines() + code.splitlines() + [readme[at : at + 97] for at in range(0, len(readme), 61)]


def test_llamacpp_and_transformers_read_a_text_as_the_same_tokens() -> None:
    import llama_cpp
    from transformers import AutoTokenizer

    theirs = AutoTokenizer.from_pretrained(asking.GUIDE)
    ours = llama_cpp.Llama(str(asking.GUIDE / "guide-q8_0.gguf"), vocab_only=True, verbose=False)
    try:
        texts = strings()
        assert len(texts) > 300
        for text in texts:
            ids = theirs.encode(text, add_special_tokens=False)
            assert ours.tokenize(text.encode(), add_bos=False, special=True) == ids, text
            assert theirs.decode(ids, clean_up_tokenization_spaces=False) == text
    finally:
        ours.close()


def test_the_template_in_the_gguf_is_the_one_of_the_folder() -> None:
    import llama_cpp
    from transformers import AutoTokenizer

    model = llama_cpp.Llama(str(asking.GUIDE / "guide-q8_0.gguf"), vocab_only=True, verbose=False)
    try:
        theirs = AutoTokenizer.from_pretrained(asking.GUIDE)
        assert model.metadata["tokenizer.chat_template"] == theirs.chat_template
        for chat in CHATS:
            written = theirs.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
            assert written == asking.prompt(chat)
    finally:
        model.close()


@pytest.mark.parametrize("chat", CHATS, ids=lambda chat: chat[-1]["content"])
def test_both_engines_say_the_same(chat: asking.Messages, llamacpp: asking.Ask, transformers: asking.Ask) -> None:
    ids = asking.tokenizer().encode(asking.prompt(chat), add_special_tokens=False).ids
    said = llamacpp(ids)
    assert said == transformers(ids)
    assert 0 < len(said) < asking.LONGEST, "the answer ends by itself"


def test_its_files_are_small() -> None:
    files = [path for path in asking.GUIDE.iterdir() if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 60_000_000


def test_it_answers_questions_that_it_never_saw(llamacpp: asking.Ask) -> None:
    share, wrong = asking.score(llamacpp)
    shown = "\n".join(f"{item['q']!r} -> {said!r}" for item, said in wrong)
    assert share >= 0.80, f"{share:.0%} right\n{shown}"


def test_no_held_out_question_is_in_its_training_text() -> None:
    from models.guide import seeds
    from models.guide.dialogues import Dialogues

    held_out = {seeds.plain(item["q"]) for item in asking.held_out()}
    written = {seeds.plain(text) for made in seeds.intents() for text in (*made.questions, *made.nouns, *made.verbs)}
    assert not written & held_out
    dialogues, rng = Dialogues(), random.Random(1)
    drawn = {seeds.plain(question) for _ in range(20_000) for question, _ in dialogues.draw(rng).turns}
    assert not drawn & held_out
