"""Many ways to say one thing: the variation of questions that the guide is trained on.

A question starts as a seed from ``corpus/*.txt``, gets an opener, other words for some of its words, things people say
before and after, and the slips of fast typing. Everything is drawn from a ``random.Random`` that the caller owns.
"""

from __future__ import annotations

import random
import re
from typing import Any

#: Neighbours of a letter on the keyboard.
KEYBOARD = dict(
    pair.split(":")
    for pair in (
        "a:sq b:vn c:xv d:sf e:wr f:dg g:fh h:gj i:uo j:hk k:jl l:k m:n n:bm "
        "o:ip p:o q:w r:et s:ad t:ry u:yi v:cb w:qe x:zc y:tu z:x"
    ).split()
)
#: Words that people leave out.
DROPPABLE = frozenset("the a an do does is to of i it my are please can for in on".split())


class Phrasing:
    """Turns seeds into questions with the openers, synonyms and slips of ``corpus/phrases.yaml``."""

    def __init__(self, phrases: dict[str, Any]) -> None:
        self.phrases = phrases
        self._groups: dict[str, list[str]] = {}
        for group in phrases["synonyms"]:
            for word in group:
                self._groups.setdefault(word, []).extend(other for other in group if other != word)
        keys = sorted(self._groups, key=len, reverse=True)
        self._pattern = re.compile(r"\b(" + "|".join(map(re.escape, keys)) + r")\b")

    def reworded(self, text: str, rng: random.Random, share: float) -> str:
        """The text with about this share of its known words replaced by words of the same group."""

        def other(match: re.Match[str]) -> str:
            return rng.choice(self._groups[match[0]]) if rng.random() < share else match[0]

        return self._pattern.sub(other, text)

    def from_verb(self, verb_phrase: str, rng: random.Random) -> str:
        """A question from "add a model": "how do i add a model"."""
        return str(rng.choice(self.phrases["to_openers"])).replace("{v}", verb_phrase)

    def from_noun(self, noun_phrase: str, rng: random.Random) -> str:
        """A question from "the models folder": "where is the models folder"."""
        return str(rng.choice(self.phrases["np_openers"])).replace("{n}", noun_phrase)

    def dressed(self, text: str, rng: random.Random, strength: float = 1.0) -> str:
        """The question as somebody types it: words before and after, slips, capitals, punctuation."""
        ending = ""
        if text and text[-1] in "?!.":
            text, ending = text[:-1], text[-1]
        if rng.random() < 0.12 * strength:
            text = _without_a_word(text, rng)
        if rng.random() < 0.04 * strength:
            text = _words_swapped(text, rng)
        if rng.random() < 0.25 * strength:
            text = rng.choice(self.phrases["prefixes"]) + text
        if rng.random() < 0.18 * strength:
            text += rng.choice(self.phrases["suffixes"])
        if rng.random() < 0.22 * strength:
            text = misspelt(text, rng)
        ending = ending or rng.choice(["?", "?", "?", "", "", "", "", ".", "??", " ?", "!"])
        text += ending
        if rng.random() < 0.07 * strength:
            context = rng.choice(self.phrases["contexts"])
            text = f"{context} {text}" if rng.random() < 0.6 else f"{text} {context}"
        return cased(text, rng)


def cased(text: str, rng: random.Random) -> str:
    """Sentence case, lower case, and now and then capitals."""
    draw = rng.random()
    if draw < 0.45:
        return text
    if draw < 0.95:
        text = text[:1].upper() + text[1:]
        return re.sub(r"(?<=[.!?] )[a-z]", lambda match: match[0].upper(), re.sub(r"\bi\b", "I", text))
    return text.upper() if draw < 0.97 else text.title()


def misspelt(text: str, rng: random.Random) -> str:
    """The text with one or two slips: a letter doubled, dropped, swapped or its neighbour on the keyboard."""
    for _ in range(rng.choice([1, 1, 2])):
        places = [i for i in range(1, len(text)) if text[i].isalpha()]
        if not places:
            return text
        at = rng.choice(places)
        slip = rng.random()
        if slip < 0.3:
            text = text[:at] + text[at + 1 :]
        elif slip < 0.5:
            text = text[:at] + text[at] + text[at:]
        elif slip < 0.75 and at + 1 < len(text) and text[at + 1].isalpha():
            text = text[:at] + text[at + 1] + text[at] + text[at + 2 :]
        else:
            text = text[:at] + rng.choice(KEYBOARD.get(text[at].lower(), text[at])) + text[at + 1 :]
    return text


def _without_a_word(text: str, rng: random.Random) -> str:
    words = text.split(" ")
    places = [i for i, word in enumerate(words) if word in DROPPABLE]
    if len(words) < 4 or not places:
        return text
    at = rng.choice(places)
    return " ".join(words[:at] + words[at + 1 :])


def _words_swapped(text: str, rng: random.Random) -> str:
    words = text.split(" ")
    if len(words) < 4:
        return text
    at = rng.randrange(len(words) - 1)
    words[at], words[at + 1] = words[at + 1], words[at]
    return " ".join(words)
