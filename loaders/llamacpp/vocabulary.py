"""The tokens of a model: text to ids, ids to bytes, and which of them mean something to the engine."""

from __future__ import annotations

import ctypes
from typing import Any

import llama_cpp.llama_cpp as C  # the C library


class Vocabulary:
    """All of a model's tokens, read once."""

    def __init__(self, vocab: Any) -> None:
        self._vocab = vocab
        self.size: int = C.llama_vocab_n_tokens(vocab)
        self.pieces = _pieces(vocab, self.size)
        self.bos = _known(C.llama_vocab_bos(vocab))
        self.eos = _known(C.llama_vocab_eos(vocab))
        self.add_bos = bool(C.llama_vocab_get_add_bos(vocab))
        ids = range(self.size)
        self.ends = tuple(n for n in ids if C.llama_vocab_is_eog(vocab, n))
        marked = {n for n in ids if C.llama_vocab_is_control(vocab, n)} | set(self.ends)
        self.control = tuple(text for n in sorted(marked) if (text := self.text(n)))
        self.newlines = tuple(n for n, piece in enumerate(self.pieces) if b"\n" in piece)
        self.suppressed = _suppressed(vocab)

    def text(self, id: int) -> str:
        """A token as text."""
        return self.pieces[id].decode(errors="replace")

    def tokenize(self, text: str, special: bool) -> list[int]:
        """Ids of a text, with control tokens parsed only if ``special``."""
        data = text.encode(errors="replace")
        room = len(data) + 8
        buffer = (C.llama_token * room)()
        count = C.llama_tokenize(self._vocab, data, len(data), buffer, room, False, special)
        if count < 0:
            buffer = (C.llama_token * -count)()
            count = C.llama_tokenize(self._vocab, data, len(data), buffer, -count, False, special)
        return buffer[:count]


def _known(id: int) -> int | None:
    return id if id >= 0 else None


def _pieces(vocab: Any, size: int) -> list[bytes]:
    """The bytes of every token, however long (some are far longer than 32 bytes)."""
    room = 256
    buffer = ctypes.create_string_buffer(room)
    found = []
    for id in range(size):
        length = C.llama_token_to_piece(vocab, id, buffer, room, 0, True)
        if length < 0:
            room = -length
            buffer = ctypes.create_string_buffer(room)
            length = C.llama_token_to_piece(vocab, id, buffer, room, 0, True)
        found.append(buffer.raw[:length] if length > 256 else ctypes.string_at(buffer, length))
    return found


def _suppressed(vocab: Any) -> tuple[int, ...]:
    """Tokens that the file says must never be drawn."""
    if not hasattr(C, "llama_vocab_get_suppress_tokens"):
        return ()
    count = ctypes.c_int32(0)
    ids = C.llama_vocab_get_suppress_tokens(vocab, ctypes.byref(count))
    return tuple(ids[: count.value]) if ids and count.value else ()
