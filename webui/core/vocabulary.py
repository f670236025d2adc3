"""Tokens as bytes, from a tokenizer.json: what the text layer needs to put characters together that span tokens."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Any

BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


@cache
def byte_letters() -> Mapping[str, int]:
    """The bytes by the letters that byte-level BPE writes for them (the table of GPT-2)."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [b for b in range(256) if b not in shown]
    return {chr(b): b for b in shown} | {chr(256 + n): b for n, b in enumerate(hidden)}


def token_table(tokenizer: Mapping[str, Any]) -> dict[int, bytes] | None:
    """The bytes of every token of a parsed tokenizer.json; None when its way of decoding is not known here.

    Known are byte-level BPE and SentencePiece's ``▁`` with bytes as ``<0xNN>``. Added tokens stand for their text.
    """
    model = tokenizer["model"]
    vocab = model["vocab"]
    ids: dict[str, int] = vocab if isinstance(vocab, dict) else {piece: n for n, (piece, _) in enumerate(vocab)}
    kinds = set(_kinds(tokenizer.get("decoder")))
    if "ByteLevel" in kinds:
        letters = byte_letters()
        table = {n: _from_letters(token, letters) for token, n in ids.items()}
    elif kinds and kinds <= {"Replace", "ByteFallback", "Fuse", "Strip", "Metaspace"}:
        table = {n: _from_piece(token) for token, n in ids.items()}
    else:
        return None
    return table | {int(t["id"]): str(t["content"]).encode() for t in tokenizer.get("added_tokens", ())}


def control_texts(tokenizer: Mapping[str, Any]) -> dict[int, str]:
    """The control tokens of a parsed tokenizer.json: texts by id."""
    return {int(t["id"]): str(t["content"]) for t in tokenizer.get("added_tokens", ()) if t.get("special")}


def _kinds(decoder: Any) -> list[str]:
    if not isinstance(decoder, dict):
        return []
    if decoder.get("type") == "Sequence":
        return [kind for part in decoder.get("decoders", ()) for kind in _kinds(part)]
    return [str(decoder.get("type"))]


def _from_letters(token: str, letters: Mapping[str, int]) -> bytes:
    try:
        return bytes([letters[c] for c in token])
    except KeyError:  # a token that was put in as plain text
        return token.encode()


def _from_piece(token: str) -> bytes:
    if match := BYTE.fullmatch(token):
        return bytes([int(match[1], 16)])
    return token.replace("▁", " ").encode()
