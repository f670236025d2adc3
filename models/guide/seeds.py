"""Reads the hand-written corpus: what is taught, and the seeds of how it is asked."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

CORPUS = Path(__file__).parent / "corpus"
HELD_OUT = Path(__file__).parents[2] / "tests" / "guide" / "heldout.yaml"


@dataclass
class Intent:
    """One thing that people ask about, the answers to it, and the seeds of the questions."""

    name: str
    topic: str  # the file it stands in
    answers: list[str] = field(default_factory=list)
    why: str = ""
    more: str = ""
    values: str = ""  # a setting's numbers alone
    gloss: str = ""  # a setting in half a sentence, for comparisons
    names: list[str] = field(default_factory=list)  # a setting's names
    verbs: list[str] = field(default_factory=list)
    nouns: list[str] = field(default_factory=list)
    questions: list[str] = field(default_factory=list)

    @property
    def is_setting(self) -> bool:
        """Whether the questions come from the templates for settings."""
        return bool(self.names)

    @property
    def size(self) -> int:
        """Number of seeds."""
        return len(self.verbs) + len(self.nouns) + len(self.questions)


def phrases() -> dict[str, Any]:
    """``corpus/phrases.yaml``."""
    loaded: dict[str, Any] = yaml.safe_load((CORPUS / "phrases.yaml").read_text("utf-8"))
    return loaded


def intents() -> list[Intent]:
    """Every block of ``corpus/*.txt``."""
    found: list[Intent] = []
    for path in sorted(CORPUS.glob("*.txt")):
        for line in path.read_text("utf-8").splitlines():
            if line.startswith("["):
                found.append(Intent(line.strip("[] "), path.stem))
            elif line.strip() and not line.startswith("#"):
                _read(found[-1], line)
    return found


def plain(text: str) -> str:
    """The text without what does not count when two questions are compared."""
    return text.casefold().strip(" ?!.")


def kept_for_tests() -> frozenset[str]:
    """Questions that the tests hold back; training leaves them out when it happens to draw one of them."""
    if not HELD_OUT.exists():
        return frozenset()
    return frozenset(plain(item["q"]) for item in yaml.safe_load(HELD_OUT.read_text("utf-8")))


def stamp() -> float:
    """When the corpus was last changed."""
    return max(path.stat().st_mtime for path in CORPUS.iterdir())


def kept_out(text: str, share: float) -> bool:
    """Whether a seed belongs to the share that is kept out of training, to measure on."""
    return int(hashlib.sha256(text.encode()).hexdigest()[:8], 16) / 2**32 < share


def _read(intent: Intent, line: str) -> None:
    for mark, lists in (
        ("names: ", intent.names),
        ("to: ", intent.verbs),
        ("np: ", intent.nouns),
        ("q: ", intent.questions),
    ):
        if line.startswith(mark):
            lists.extend(part.strip() for part in line.removeprefix(mark).split(" | ") if part.strip())
            return
    mark, _, text = line.partition(" ")
    if mark == "=":
        intent.answers.append(text)
    elif mark in ("why=", "more=", "v=", "is:"):
        setattr(intent, {"why=": "why", "more=": "more", "v=": "values", "is:": "gloss"}[mark], text)
    else:
        raise ValueError(f"{intent.topic}.txt, [{intent.name}]: cannot read {line!r}")
