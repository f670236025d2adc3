"""The smallest engine: a generator, wrapped so that it queues, counts, ends and cancels."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from webui import (
    Capabilities,
    Event,
    Failed,
    Finish,
    GenerationSettings,
    Job,
    ModelInfo,
    OneAtATime,
    Progress,
    PromptTooLong,
    Sampled,
    Started,
)


class Counting(OneAtATime):
    """Says its prompt, and fails at a zero."""

    def __init__(self, places: int = 1) -> None:
        super().__init__()
        self.places = places
        self.info = ModelInfo(context=100, vocabulary=256)

    def generate(self, job: Job, cancelled: threading.Event) -> Iterator[Event]:
        for id in job.prompt:
            if id == 0:
                raise PromptTooLong(3, 2)
            yield Sampled(job.id, id)


def job(name: str, *prompt: int, most: int = 100) -> Job:
    return Job(name, prompt, GenerationSettings(), most, seed=7)


def run(engine: OneAtATime) -> list[Event]:
    events: list[Event] = []
    while new := engine.step():
        events += new
    return events


def kinds(events: list[Event], name: str) -> list[str]:
    return [type(e).__name__ for e in events if e.job == name]


def test_start_and_end_are_added_and_counted() -> None:
    engine = Counting()
    engine.submit(job("a", 1, 2, 3))
    started, *_, finish = run(engine)
    assert started == Started("a", 3, seed=7)
    assert isinstance(finish, Finish)
    assert (finish.reason, finish.prompt_tokens, finish.reply_tokens) == ("stop", 3, 3)
    assert engine.step() == []


@pytest.mark.parametrize("most", [0, 1, 2])
def test_a_reply_ends_at_max_tokens(most: int) -> None:
    engine = Counting()
    engine.submit(job("a", 1, 2, 3, most=most))
    events = run(engine)
    assert kinds(events, "a") == ["Started", *["Sampled"] * most, "Finish"]
    assert isinstance(events[-1], Finish) and events[-1].reason == "length"


def test_jobs_wait_in_order_and_are_told_their_place() -> None:
    engine = Counting()
    for name in "abc":
        engine.submit(job(name, 1, 2))
    events = run(engine)
    assert [e.job for e in events if isinstance(e, Finish)] == ["a", "b", "c"]
    assert [(e.job, e.done) for e in events if isinstance(e, Progress)] == [("b", 1), ("c", 2), ("c", 1)]


def test_jobs_take_turns_where_there_are_places() -> None:
    engine = Counting(places=2)
    engine.submit(job("a", *[1] * 50))
    engine.submit(job("b", *[2] * 50))
    order = [e.job for e in run(engine) if isinstance(e, Sampled)]
    assert order.index("b") < 25 < 49 - order[::-1].index("a") + 50


def test_a_cancelled_job_ends_at_its_next_turn_or_while_it_waits() -> None:
    engine = Counting()
    for name in "ab":
        engine.submit(job(name, *[1] * 50))
    engine.step()
    engine.cancel("b")
    engine.cancel("nobody")
    assert any(e == Finish("b", "cancelled") for e in engine.step())
    engine.cancel("a")
    (finish,) = engine.step()
    assert isinstance(finish, Finish) and finish.reason == "cancelled" and finish.reply_tokens >= 1


def test_an_error_becomes_failed_in_its_words_and_the_next_job_runs() -> None:
    engine = Counting()
    engine.submit(job("a", 1, 0))
    engine.submit(job("b", 5))
    events = run(engine)
    failed = next(e for e in events if isinstance(e, Failed))
    assert (failed.job, failed.code) == ("a", "PromptTooLong")
    assert failed.message.startswith("The prompt has 3 tokens")
    assert failed.hint
    assert kinds(events, "b")[-2:] == ["Sampled", "Finish"]


def test_settings_without_effect_are_named_with_the_reason() -> None:
    able = Capabilities(settings={"top_k": "native", "top_p": "reference", "seed": "it has no dice."})
    assert able.ignored(["top_k", "top_p", "seed", "min_p"]) == ("seed: it has no dice.", "min_p: not known")
