"""The echo: what it says, how fast, and how it fails."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from loaders.echo import Echo, EchoOptions, numbered
from tests.loaders.conftest import Speaker
from webui import Failed, Finish, GenerationSettings, Job, LoadFailed, ModelSpec, Sampled, SettingError, Started, build


def speaker(**options: Any) -> Speaker:
    chosen = build(EchoOptions, {"tokens_per_second": 0, **options})
    return Speaker("echo", Echo().open(ModelSpec("echo", "", "echo"), chosen, lambda *_: True))


def said(text: str, **options: Any) -> str:
    echo = speaker(**options)
    return echo.text(echo.job(text, 10_000)).decode()


@pytest.mark.parametrize(
    ("text", "reply"),
    [
        ("hello  there\n\nfriend", "hello  there\n\nfriend"),
        ("/say /tokens 5 \n x", "/tokens 5 \n x"),
        ("/speed 0 over", "over"),
        ("/unknown 5", "/unknown 5"),
        ("/pieces bytes 👩\u200d🚀", "👩\u200d🚀"),
        ("/tokens lots", "/tokens is 'lots'. It takes a number."),
        ("/speed -1 x", "tokens_per_second is -1.0. It takes 0 to 1e+06."),
    ],
)
def test_it_says_what_it_is_told(text: str, reply: str) -> None:
    assert said(text) == reply


def test_a_script_replaces_what_it_heard() -> None:
    assert said("hello", script="Welcome.") == "Welcome."


def test_it_reads_the_last_message_of_the_person_and_continues_a_reply() -> None:
    echo = speaker()
    messages = [
        {"role": "user", "content": "first"},
        {"role": "assistant", "content": "first"},
        {"role": "user", "content": "a longer text"},
        {"role": "assistant", "content": "a long"},
    ]
    job = Job("go on", [1], GenerationSettings(), 50, 1, messages=messages)
    assert echo.text(job) == b"er text"


def test_it_says_a_prompt_of_tokens_back() -> None:
    echo = speaker()
    job = Job("tokens", echo.engine.tokenize("as it is", special=False), GenerationSettings(), 50, 1)
    assert echo.text(job) == b"as it is"


def test_each_numbered_token_holds_its_number_and_no_other() -> None:
    pieces = numbered(2000)
    assert [re.findall(r"\d+", p) for p in pieces] == [[str(n)] for n in range(2000)]
    text = "".join(pieces)
    for sign in ("```python\n", "|---|", "$$\n", "- point", "**bold", "春"):
        assert sign in text
    assert text.count("```") % 2 == 0
    assert said("/tokens 2000") == text
    assert [len(numbered(n)) for n in (0, 1, 39, 41, 500)] == [0, 1, 39, 41, 500]


def test_it_keeps_to_its_schedule() -> None:
    echo = speaker()
    began = time.monotonic()
    events = echo.run(echo.job("/tokens 200 /speed 200", 1000))
    seconds = time.monotonic() - began
    assert 0.99 <= seconds < 1.1
    finish = events[-1]
    assert isinstance(finish, Finish)
    assert finish.reply_seconds == pytest.approx(1.0, abs=0.1)


def test_a_late_echo_catches_up_in_one_step() -> None:
    echo = speaker()
    job = echo.job("/tokens 100 /speed 200", 1000)
    echo.engine.submit(job)
    echo.wait({job.id}, Sampled)
    time.sleep(0.2)
    assert sum(isinstance(e, Sampled) for e in echo.engine.step()) >= 35
    echo.engine.cancel(job.id)
    echo.wait({job.id})


def test_two_replies_are_written_at_the_same_time() -> None:
    echo = speaker()
    began = time.monotonic()
    events = echo.run(*[echo.job("/tokens 60 /speed 200", 1000) for _ in range(4)])
    assert time.monotonic() - began < 0.6
    assert sum(isinstance(e, Finish) for e in events) == 4


def test_a_slow_prompt_reports_how_far_it_is() -> None:
    echo = speaker()
    events = echo.run(echo.job("/prefill 0.5 hello there my friend", 10))
    done = [e.done for e in events if type(e).__name__ == "Progress"]
    assert len(done) >= 4
    assert done == sorted(done)


def test_it_fails_when_told_and_answers_the_next() -> None:
    echo = speaker()
    events = echo.run(echo.job("/fail 3 one two three four five", 10))
    assert isinstance(events[0], Started)
    assert sum(isinstance(e, Sampled) for e in events) == 3
    assert isinstance(events[-1], Failed) and "3 tokens" in events[-1].message
    assert echo.text(echo.job("hello")) == b"hello"


@pytest.mark.skipif(sys.platform == "win32", reason="signals are those of Unix")
@pytest.mark.parametrize(("signal", "number"), [("KILL", 9), ("SEGV", 11)])
def test_it_dies_of_the_signal_it_was_told(signal: str, number: int) -> None:
    code = f"""
from tests.loaders.test_echo import speaker
from webui import Sampled
s = speaker()
s.engine.submit(s.job("/signal {signal} /die 2 one two three", 10))
while True:
    print(*(s.engine.token_bytes(e.id).decode() for e in s.engine.step() if isinstance(e, Sampled)), flush=True)
"""
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, cwd=root, text=True, timeout=60)
    assert done.returncode == -number, done.stderr
    assert done.stdout.split() == ["one", "two"]


def test_a_hanging_echo_does_not_answer() -> None:
    echo = speaker(hang_seconds=0.5)
    began = time.monotonic()
    events = echo.run(echo.job("/hang 1 one two", 10))
    assert time.monotonic() - began >= 0.5
    assert isinstance(events[-1], Finish)


def test_it_can_load_slowly_fail_to_load_and_be_given_up() -> None:
    spec, seen = ModelSpec("echo", "", "echo"), []
    Echo().open(spec, EchoOptions(load_seconds=0.3), lambda done, _: not seen.append(done))
    assert len(seen) >= 4 and seen == sorted(seen) and seen[-1] == 1.0
    with pytest.raises(LoadFailed, match="out of luck"):
        Echo().open(spec, EchoOptions(load_error="out of luck"), lambda *_: True)
    with pytest.raises(LoadFailed, match="cancelled"):
        Echo().open(spec, EchoOptions(load_seconds=5), lambda *_: False)


def test_options_are_checked() -> None:
    with pytest.raises(SettingError, match="pieces"):
        build(EchoOptions, {"pieces": "syllables"})
