"""DRY's sequence breakers: texts, turned into the tokens and token sequences in which they can occur.

As llama.cpp does it: every token whose text holds the breaker is one by itself; a token that ends with the beginning
of a breaker is one when the tokens of its remainder follow. Finding them looks at the whole vocabulary, once per
vocabulary and list of breakers; all requests share the result.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from webui.core.sampling.candidates import Ids

_LONGEST_TEXT, _LONGEST_TAIL, _LOOK = 40, 20, 64
Encode = Callable[[str], list[int]]
TokenBytes = Callable[[int], bytes]


@dataclass(frozen=True, eq=False)
class Breakers:
    """Where sequences break: ``tails`` maps a token to the token sequences that must follow it, () for none."""

    tails: dict[int, tuple[tuple[int, ...], ...]]
    heads: NDArray[np.bool_]  # whether a token is in ``tails``
    single: NDArray[np.bool_]  # whether it breaks a sequence by itself

    def limit(self, text: Ids) -> int:
        """How many tokens at the end of the text stand behind the last breaker; all of them when it has none."""
        size = len(text)
        for start in range(0, size, _LOOK):
            chunk = text[max(0, size - start - _LOOK) : size - start][::-1]
            for back in (np.flatnonzero(self.heads[chunk]) + start).tolist():
                longest = self._follows(text, size - 1 - back)
                if longest >= 0:
                    return back - longest
        return size

    def _follows(self, text: Ids, place: int) -> int:
        """The length of the longest tail that follows the token at this place; -1 when none does."""
        longest = -1
        for tail in self.tails[int(text[place])]:
            after = text[place + 1 : place + 1 + len(tail)]
            if len(tail) > longest and len(after) == len(tail) and tuple(after.tolist()) == tail:
                longest = len(tail)
        return longest


def find_breakers(token_bytes: TokenBytes, vocabulary: int, texts: tuple[str, ...], encode: Encode) -> Breakers:
    """The breakers of a vocabulary; remembered by ``token_bytes``, so pass the same callable for the same model."""
    wanted = (token_bytes, vocabulary, texts)
    if wanted not in _FOUND:
        while len(_FOUND) >= 8:
            del _FOUND[next(iter(_FOUND))]
        _FOUND[wanted] = _find(_pieces(token_bytes, vocabulary), texts, encode)
    return _FOUND[wanted]


_FOUND: dict[tuple[TokenBytes, int, tuple[str, ...]], Breakers] = {}


@dataclass(frozen=True, eq=False)
class _Pieces:
    """The bytes of all tokens, one behind the other."""

    joined: bytes
    ends: Ids  # where each token ends; it begins where the one before ends

    @property
    def lengths(self) -> Ids:
        return np.diff(self.ends, prepend=0)


@lru_cache(maxsize=2)
def _pieces(token_bytes: TokenBytes, vocabulary: int) -> _Pieces:
    pieces = [token_bytes(id) for id in range(vocabulary)]
    return _Pieces(b"".join(pieces), np.cumsum([len(piece) for piece in pieces], dtype=np.int64))


def _find(pieces: _Pieces, texts: tuple[str, ...], encode: Encode) -> Breakers:
    tails: dict[int, set[tuple[int, ...]]] = {}
    for text in texts:
        sought = text.encode()[:_LONGEST_TEXT]
        if not sought:
            continue
        whole = _holding(pieces, sought)
        for id in whole.tolist():
            tails.setdefault(id, set()).add(())
        complete = set(whole.tolist())
        for size in range(1, len(sought)):
            beginning = _ending(pieces, sought[:size])
            if len(beginning):
                tail = _tail(pieces, sought[size:], encode)
                for id in beginning.tolist():
                    if tail and id not in complete:
                        tails.setdefault(id, set()).add(tail)
    heads, single = np.zeros((2, len(pieces.ends)), dtype=np.bool_)
    for id, found in tails.items():
        heads[id] = True
        single[id] = () in found
    return Breakers({id: tuple(sorted(found)) for id, found in tails.items()}, heads, single)


def _tail(pieces: _Pieces, rest: bytes, encode: Encode) -> tuple[int, ...]:
    """The tokens of a breaker's remainder; () when there are none."""
    try:
        return tuple(encode(rest.decode())[:_LONGEST_TAIL])
    except UnicodeDecodeError:  # cut inside a character: the longest tokens that fit, one after the other
        out: list[int] = []
        while rest and len(out) < _LONGEST_TAIL:
            size = next((n for n in range(len(rest), 0, -1) if len(_equal(pieces, rest[:n]))), 0)
            if size == 0:
                return ()
            out.append(int(_equal(pieces, rest[:size])[0]))
            rest = rest[size:]
        return tuple(out)


def _equal(pieces: _Pieces, sought: bytes) -> Ids:
    """The tokens whose bytes are just these."""
    ids = _ending(pieces, sought)
    same: Ids = ids[pieces.lengths[ids] == len(sought)]
    return same


def _holding(pieces: _Pieces, sought: bytes) -> Ids:
    """The tokens whose bytes hold these."""
    starts = []
    at = pieces.joined.find(sought)
    while at >= 0:
        starts.append(at)
        at = pieces.joined.find(sought, at + 1)
    found = np.array(starts, dtype=np.int64)
    ids = np.searchsorted(pieces.ends, found, side="right")
    return np.unique(ids[found + len(sought) <= pieces.ends[ids]]) if len(found) else found


def _ending(pieces: _Pieces, sought: bytes) -> Ids:
    """The tokens whose bytes end with these."""
    joined = np.frombuffer(pieces.joined, dtype=np.uint8)
    ids = np.flatnonzero(pieces.lengths >= len(sought))
    for back in range(1, len(sought) + 1):
        ids = ids[joined[pieces.ends[ids] - back] == sought[-back]]
    return ids
