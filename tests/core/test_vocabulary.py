"""Tokens as bytes from a tokenizer.json."""

from __future__ import annotations

from typing import Any

from webui.core.vocabulary import byte_letters, control_texts, token_table

BYTE_LEVEL = {"type": "ByteLevel"}
PIECES = {"type": "Sequence", "decoders": [{"type": "Replace"}, {"type": "ByteFallback"}, {"type": "Fuse"}]}


def described(vocab: Any, decoder: Any, added: Any = ()) -> dict[str, Any]:
    return {"model": {"vocab": vocab}, "decoder": decoder, "added_tokens": list(added)}


def test_byte_level_letters_stand_for_all_bytes() -> None:
    assert sorted(byte_letters().values()) == list(range(256))
    letters = {b: letter for letter, b in byte_letters().items()}
    token = "".join(letters[b] for b in "é👩 \n".encode())
    assert token_table(described({token: 0, "Ġfox": 1}, BYTE_LEVEL)) == {0: "é👩 \n".encode(), 1: b" fox"}


def test_sentencepiece_marks_and_bytes_are_read() -> None:
    vocab = {"▁the": 0, "<0xE2>": 1, "a▁b": 2}
    assert token_table(described(vocab, PIECES)) == {0: b" the", 1: b"\xe2", 2: b"a b"}
    unigram = [["▁x", -1.0], ["é", -2.0]]
    assert token_table(described(unigram, {"type": "Metaspace"})) == {0: b" x", 1: "é".encode()}


def test_added_tokens_stand_for_their_text() -> None:
    added = [{"id": 5, "content": "<|end|>", "special": True}, {"id": 6, "content": "<think>", "special": False}]
    found = described({"a": 0}, BYTE_LEVEL, added)
    assert token_table(found) == {0: b"a", 5: b"<|end|>", 6: b"<think>"}
    assert control_texts(found) == {5: "<|end|>"}


def test_an_unknown_way_of_decoding_is_left_to_the_library() -> None:
    assert token_table(described({"a": 0}, {"type": "WordPiece"})) is None
    assert token_table(described({"a": 0}, None)) is None
