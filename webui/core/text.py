"""Bytes to text while a reply is written: whole characters, stop texts, thoughts.

Engine-free. A reply's tokens are pushed as bytes; what may be shown comes back. Text that could be the beginning of a
stop text or of a thought's tag is held back until it is clear what it is. However the bytes are split, the result is
the same.
"""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Channel = Literal["answer", "thought"]

#: Tags around a model's thoughts. A thought is recognised at the beginning of a reply only.
THOUGHT_TAGS = (
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<seed:think>", "</seed:think>"),
    ("[THINK]", "[/THINK]"),
    ("<|channel|>analysis<|message|>", "<|end|>"),
)


@dataclass(frozen=True, slots=True)
class Piece:
    """Text that may be shown, and where it belongs."""

    text: str
    channel: Channel


class StopMatcher:
    """Cuts a stream of text at the leftmost match of any stop text, however the text arrives.

    A shorter stop that has matched waits while a longer one that began further left may still match.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(s for s in dict.fromkeys(stops) if s)
        self._held = ""
        self.matched = ""  # the stop text that ended the stream

    def push(self, text: str) -> str:
        """The part of what arrived so far that is certain; nothing after a match."""
        if self.matched or not self._stops:
            return "" if self.matched else text
        self._held += text
        first, which = self._leftmost()
        wait = self._partial()
        if which and first <= wait:
            self.matched = which
            text, self._held = self._held[:first], ""
            return text
        keep = min(wait, first) if which else wait
        text, self._held = self._held[:keep], self._held[keep:]
        return text

    def finish(self) -> str:
        """What was held back and turned out to be text."""
        first, which = self._leftmost()
        text = self._held[:first] if which else self._held
        self.matched = self.matched or which
        self._held = ""
        return text

    def _leftmost(self) -> tuple[int, str]:
        first, which = len(self._held), ""
        for stop in self._stops:
            at = self._held.find(stop)
            if at >= 0 and (at < first or (at == first and len(stop) > len(which))):
                first, which = at, stop
        return first, which

    def _partial(self) -> int:
        """Where the longest suffix begins that could still become a stop text."""
        held, n = self._held, len(self._held)
        best = n
        for stop in self._stops:
            for at in range(max(0, n - len(stop) + 1), best):
                if stop.startswith(held[at:]):
                    best = at
                    break
        return best


class ThoughtSplitter:
    """Sorts a reply's text into thoughts and answer.

    ``inside`` starts within a thought, for templates whose prompt already ends with the opening tag.
    """

    def __init__(self, inside: str = "", *, enabled: bool = True) -> None:
        self._state: Literal["start", "thought", "gap", "answer"] = "start" if enabled else "answer"
        self._close = ""
        self._held = ""
        if inside:
            self._state, self._close = "thought", dict(THOUGHT_TAGS)[inside]

    def push(self, text: str) -> list[Piece]:
        """The pieces that are certain."""
        self._held += text
        out: list[Piece] = []
        while self._held:
            before = (self._state, self._held)
            self._advance(out)
            if (self._state, self._held) == before:
                break
        return out

    def finish(self) -> list[Piece]:
        """What was held back."""
        text, self._held = self._held, ""
        channel: Channel = "thought" if self._state == "thought" else "answer"
        return [Piece(text, channel)] if text else []

    def _advance(self, out: list[Piece]) -> None:
        if self._state == "start":
            body = self._held.lstrip()
            for opening, closing in THOUGHT_TAGS:
                if body.startswith(opening):
                    self._state, self._close, self._held = "thought", closing, body[len(opening) :]
                    return
            if not body or any(opening.startswith(body) for opening, _ in THOUGHT_TAGS):
                return
            self._state = "answer"
        elif self._state == "thought":
            at = self._held.find(self._close)
            if at >= 0:
                if at:
                    out.append(Piece(self._held[:at], "thought"))
                self._state, self._held = "gap", self._held[at + len(self._close) :]
                return
            keep = len(self._held) - _overlap(self._held, self._close)
            if keep:
                out.append(Piece(self._held[:keep], "thought"))
                self._held = self._held[keep:]
        elif self._state == "gap":  # the blank lines between a thought and its answer belong to neither
            self._held = self._held.lstrip("\n")
            if self._held:
                self._state = "answer"
        else:
            out.append(Piece(self._held, "answer"))
            self._held = ""


class TextStream:
    """One reply: token bytes in, pieces of text out.

    ``push`` takes the bytes of a token and whether it is a control token (left out unless ``show_control``, but it may
    end a thought or be a stop text). ``stopped`` tells that a stop text was met.
    """

    def __init__(
        self, stops: Sequence[str] = (), *, inside: str = "", show_control: bool = False, thoughts: bool = True
    ) -> None:
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._stops = StopMatcher(stops)
        self._thoughts = ThoughtSplitter(inside, enabled=thoughts)
        self._show_control = show_control
        self._meaningful = {part for tags in THOUGHT_TAGS for part in tags} | {s for s in stops if s}

    @property
    def stopped(self) -> bool:
        """Whether a stop text has ended the reply."""
        return bool(self._stops.matched)

    def push(self, data: bytes, *, control: bool = False) -> list[Piece]:
        """The pieces that become certain with this token."""
        if control and not self._show_control:
            text = data.decode("utf-8", "replace")
            if not any(text in part for part in self._meaningful):
                return []
        return self._thoughts.push(self._stops.push(self._decode(data)))

    def finish(self) -> list[Piece]:
        """The rest, when no token follows."""
        if self.stopped:
            return self._thoughts.finish()
        rest = self._stops.push(self._decode(b"", True)) + self._stops.finish()
        return self._thoughts.push(rest) + self._thoughts.finish()


def opened_thought(prompt: str) -> str:
    """The opening tag that a rendered prompt ends with, or ""."""
    end = prompt.rstrip()
    return next((opening for opening, _ in THOUGHT_TAGS if end.endswith(opening)), "")


def _overlap(text: str, tag: str) -> int:
    """How many letters at the end of the text could be the beginning of the tag."""
    for n in range(min(len(tag) - 1, len(text)), 0, -1):
        if text.endswith(tag[:n]):
            return n
    return 0
