"""Tokens named by a person: by id ("15339") or by text (" hello")."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np

from webui.core.errors import SettingError
from webui.core.sampling.candidates import Floats, Ids

#: A logit bias of this size decides already; larger ones would only lose the differences between the logits.
CERTAIN = 1e5


def token_id(
    setting: str, name: str, vocabulary: int, encode: Callable[[str], list[int]], show: Callable[[int], bytes]
) -> int:
    """The id of a token named by its id or by its text, which must be exactly one token."""
    if name.isascii() and name.isdecimal():
        if int(name) >= vocabulary:
            raise SettingError(
                setting, f"{setting} names token {name}.", f"The model has the tokens 0 to {vocabulary - 1}."
            )
        return int(name)
    ids = encode(name)
    if len(ids) == 1:
        return ids[0]
    if not ids:
        raise SettingError(setting, f"{setting} names {name!r}, which is no token.", "Name a token by its text or id.")
    parts = ", ".join(f"{show(id).decode(errors='replace')!r} ({id})" for id in ids)
    raise SettingError(
        setting,
        f"{setting} names {name!r}, which is {len(ids)} tokens for this model: {parts}.",
        "Name one token; a space in front often makes a word one.",
    )


def biases(
    bias: Mapping[str, float], vocabulary: int, encode: Callable[[str], list[int]], show: Callable[[int], bytes]
) -> tuple[Ids, Floats]:
    """``logit_bias`` as ids and what is added to their logits; names of the same token add up."""
    found: dict[int, float] = {}
    for name, value in bias.items():
        id = token_id("logit_bias", name, vocabulary, encode, show)
        found[id] = found.get(id, 0.0) + value
    values = np.clip(list(found.values()), -CERTAIN, CERTAIN)
    return np.array(list(found), dtype=np.int64), values.astype(np.float32)


def bans(
    names: Iterable[str], vocabulary: int, encode: Callable[[str], list[int]], show: Callable[[int], bytes]
) -> Ids:
    """``banned_tokens`` as ids."""
    found = {token_id("banned_tokens", name, vocabulary, encode, show) for name in names}
    return np.array(sorted(found), dtype=np.int64)
