"""The events of one reply by number: tokens as lengths into its text, so that a long reply costs bytes, not objects."""

from __future__ import annotations

from array import array

from webui.core.events import Event, Token

_NO_TOKEN = -1


class Transcript:
    """Events, numbered from 1 on. ``answer`` and ``thought`` letters were there before the first one."""

    def __init__(self, answer: int = 0, thought: int = 0) -> None:
        self.begins = (answer, thought)
        self.letters = array("q")  # for each event: how many its token has, those of thoughts as ~letters
        self.counts = array("q")  # for each event: how many tokens went into it; _NO_TOKEN for others
        self.others: dict[int, Event] = {}

    def __len__(self) -> int:
        return len(self.counts)

    def add(self, event: Event) -> None:
        """The next event."""
        if isinstance(event, Token):
            self.letters.append(len(event.text) if event.channel == "answer" else ~len(event.text))
            self.counts.append(event.count)
        else:
            self.letters.append(0)
            self.counts.append(_NO_TOKEN)
            self.others[len(self)] = event


class Reader:
    """Someone who has read the events up to ``number``."""

    def __init__(self, transcript: Transcript, number: int) -> None:
        self._events = transcript
        self.number = 0
        self._answer, self._thought = transcript.begins
        while self.number < min(number, len(transcript)):
            self._pass()

    def _pass(self) -> None:
        letters = self._events.letters[self.number]
        if letters < 0:
            self._thought += ~letters
        else:
            self._answer += letters
        self.number += 1

    def next(self, job: str, answer: str, thought: str) -> Event | None:
        """The next event; tokens that have come since the last one are one. None when everything is read."""
        events = self._events
        if self.number >= len(events):
            return None
        if events.counts[self.number] == _NO_TOKEN:
            self._pass()
            return events.others[self.number]
        thinks = events.letters[self.number] < 0
        begins, count = (self._answer, self._thought), 0
        while self.number < len(events):
            more = events.counts[self.number]
            if more == _NO_TOKEN or (events.letters[self.number] < 0) != thinks:
                break
            count += more
            self._pass()
        if thinks:
            return Token(job, thought[begins[1] : self._thought], "thought", count)
        return Token(job, answer[begins[0] : self._answer], "answer", count)
