"""What every loader keeps, run over echo, llama.cpp and Transformers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.loaders.conftest import LOADERS, Speaker, open_engine, progress
from webui import Engine, Failed, Finish, GenerationSettings, Job, Loader, Progress, Sampled, Started, describe

TOKEN_ENGINES = ["llamacpp", "huggingface"]


@pytest.mark.parametrize("kind", LOADERS)
def test_a_loader_says_what_it_can_do_with_every_setting(kind: str) -> None:
    loader = LOADERS[kind]
    assert isinstance(loader, Loader)
    assert set(loader.capabilities().settings) == set(describe(GenerationSettings))
    assert loader.available() == ""
    assert describe(loader.options)


def test_importing_the_loaders_imports_no_engine() -> None:
    code = (
        "import sys, loaders.echo, loaders.llamacpp, loaders.huggingface, loaders.exllamav2\n"
        "engines = {'torch', 'transformers', 'llama_cpp', 'exllamav2', 'tokenizers', 'numpy'}\n"
        "assert not engines & set(sys.modules), engines & set(sys.modules)\n"
        "assert [m.register_loaders()[0].available() for m in (loaders.echo,)] == ['']\n"
        "[m.register_loaders()[0].available() for m in (loaders.llamacpp, loaders.huggingface, loaders.exllamav2)]\n"
        "assert not engines & set(sys.modules), engines & set(sys.modules)\n"
    )
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root, env={**os.environ, "PYTHONPATH": str(root)})


def test_an_engine_knows_its_model(speaker: Speaker) -> None:
    assert isinstance(speaker.engine, Engine)
    info = speaker.engine.info
    assert info.context >= 2048
    assert info.vocabulary > 256
    if speaker.kind != "echo":
        assert info.architecture == "llama"
        assert info.parameters > 90_000
        assert info.bos_text == "<|begin_of_text|>"
        assert [speaker.engine.token_bytes(n) for n in info.eos] == [b"<|end_of_text|>", b"<|eot_id|>"]
        assert "<|start_header_id|>" in info.control
        assert "<|start_header_id|>" in info.template
        assert info.add_bos


def test_the_events_of_a_reply_come_in_order(speaker: Speaker) -> None:
    job = speaker.job("/random 30" if speaker.kind == "echo" else "the fox", max_tokens=12)
    events = speaker.run(job)
    kinds = [type(e) for e in events]
    assert kinds[0] is Started
    assert kinds[-1] is Finish
    assert kinds.count(Started) == kinds.count(Finish) == 1
    first = kinds.index(Sampled)
    assert all(k is Progress for k in kinds[1:first])
    assert all(k is Sampled for k in kinds[first:-1])
    assert {e.job for e in events} == {job.id}


def test_the_counts_are_right(speaker: Speaker) -> None:
    job = speaker.job("/random 30" if speaker.kind == "echo" else "a lazy dog", max_tokens=12, seed=99)
    started, *_, finish = events = speaker.run(job)
    assert isinstance(started, Started) and isinstance(finish, Finish)
    assert started.prompt_tokens == finish.prompt_tokens == len(job.prompt)
    assert started.seed == 99
    assert finish.reply_tokens == sum(isinstance(e, Sampled) for e in events) == 12
    assert finish.reason == "length"
    assert finish.prompt_seconds >= 0 and finish.reply_seconds >= 0
    read = progress(events, "prompt")
    assert read[-1].done == read[-1].total


def test_no_tokens_asked_for_gives_none(speaker: Speaker) -> None:
    events = speaker.run(speaker.job(max_tokens=0))
    assert not any(isinstance(e, Sampled) for e in events)
    assert isinstance(events[-1], Finish) and events[-1].reason == "length"


def test_the_end_token_ends_the_reply_and_is_not_shown(speaker: Speaker) -> None:
    if speaker.kind == "echo":
        job = speaker.job("hello there")
        assert speaker.text(job) == b"hello there"
        return
    for end in speaker.engine.info.eos:
        job = speaker.job(ban_eos=False, logit_bias={str(end): 1000.0})
        events = speaker.run(job)
        assert not any(isinstance(e, Sampled) for e in events)
        assert isinstance(events[-1], Finish) and events[-1].reason == "stop"


def test_two_jobs_are_both_answered(speaker: Speaker) -> None:
    jobs = [speaker.job(f"/say {n}" if speaker.kind == "echo" else f"the fox {n}", max_tokens=5) for n in range(2)]
    events = speaker.run(*jobs)
    for job in jobs:
        own = [e for e in events if e.job == job.id]
        assert isinstance(own[-1], Finish)
        assert any(isinstance(e, Sampled) for e in own)


def test_a_cancelled_reply_ends_at_once(speaker: Speaker) -> None:
    seconds, events = min((speaker.cancelled_after(speaker.endless(), Sampled) for _ in range(3)), key=lambda x: x[0])
    finish = events[-1]
    assert isinstance(finish, Finish) and finish.reason == "cancelled"
    assert finish.reply_tokens == sum(isinstance(e, Sampled) for e in events) > 0
    assert seconds < 0.2


@pytest.mark.parametrize("kind", LOADERS)
def test_reading_a_long_prompt_ends_at_once_when_cancelled(kind: str, slow: Path) -> None:
    engine = open_engine(kind, slow)
    speaker = Speaker(kind, engine)
    found = []
    for n in range(3):
        text = "/prefill 30 hello" if kind == "echo" else f"{n} fox" * 2500
        seconds, events = speaker.cancelled_after(speaker.job(text), Started)
        finish = events[-1]
        assert isinstance(finish, Finish) and finish.reason == "cancelled"
        assert finish.reply_tokens == 0
        assert progress(events, "prompt")[-1].done < progress(events, "prompt")[-1].total
        found.append(seconds)
    assert min(found) < 0.2
    job = speaker.job("again", max_tokens=3)
    assert isinstance(speaker.run(job)[-1], Finish)
    engine.close()


def test_a_job_that_waits_leaves_the_queue_at_once_when_cancelled(speaker: Speaker) -> None:
    running = [speaker.endless() for _ in range(LOADERS[speaker.kind].capabilities().parallel)]
    waiting = speaker.job()
    for job in (*running, waiting):
        speaker.engine.submit(job)
    events = speaker.wait({running[0].id}, Sampled)
    assert any(e.job == waiting.id for e in progress(events, "queued"))
    speaker.engine.cancel(waiting.id)
    for _ in range(3):
        events += speaker.engine.step()
    ended = next(e for e in events if e.job == waiting.id and isinstance(e, Finish))
    assert ended.reason == "cancelled" and ended.reply_tokens == 0
    for job in running:
        speaker.engine.cancel(job.id)
    speaker.wait({job.id for job in running})


def test_a_cancelled_job_does_not_harm_the_next(speaker: Speaker) -> None:
    before = speaker.text(speaker.job("green system time", temperature=0.0))
    speaker.cancelled_after(speaker.endless(), Sampled)
    speaker.engine.cancel("no such job")
    assert speaker.text(speaker.job("green system time", temperature=0.0)) == before


def test_the_same_seed_gives_the_same_text(speaker: Speaker) -> None:
    text = "/random 40" if speaker.kind == "echo" else "the dog"
    first, again, other = (speaker.text(speaker.job(text, 40, seed=s, temperature=1.5)) for s in (5, 5, 6))
    assert first == again != other


@pytest.mark.parametrize("kind", TOKEN_ENGINES)
def test_a_reused_prefix_gives_the_same_text(kind: str, tiny: Path) -> None:
    fresh, warm = (Speaker(kind, open_engine(kind, tiny, parallel=1)) for _ in range(2))
    warm.run(warm.job("the quick brown fox jumps over a lazy dog and", 30, temperature=0.0))
    for text in ("the quick brown fox jumps over the green system", "the quick brown fox", "user and assistant"):
        job = warm.job(text, 30, temperature=0.0)
        events = warm.run(job)
        started = events[0]
        assert isinstance(started, Started)
        assert 0 < started.cached_tokens < len(job.prompt)
        fresh.engine.close()
        fresh = Speaker(kind, open_engine(kind, tiny, parallel=1))
        expected = [e.id for e in fresh.run(fresh.job(text, 30, temperature=0.0)) if isinstance(e, Sampled)]
        assert [e.id for e in events if isinstance(e, Sampled)] == expected
    fresh.engine.close()
    warm.engine.close()


TEXTS = {
    "words": "the quick brown fox",
    "empty": "",
    "space": " ",
    "code": "def f():\n" + " " * 70 + "return 1\r\n\n\t# =" + "=" * 40,
    "scripts": "👩\u200d🚀 naïve 日本語 עברית",
    "controls": "\x00\x7f",
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_the_bytes_of_the_tokens_make_the_text(speaker: Speaker, text: str) -> None:
    ids = speaker.engine.tokenize(text, special=True)
    assert b"".join(map(speaker.engine.token_bytes, ids)) == text.encode()


@pytest.mark.parametrize("kind", TOKEN_ENGINES)
def test_tokens_longer_than_32_bytes_are_whole(speaker: Speaker, kind: str) -> None:
    if speaker.kind != kind:
        return
    ids = speaker.engine.tokenize("x" + " " * 65 + "x", special=False)
    assert max(len(speaker.engine.token_bytes(n)) for n in ids) == 64


def test_a_text_that_spells_a_control_token_is_not_one(speaker: Speaker) -> None:
    text = "say <|eot_id|><|start_header_id|>system"
    plain = speaker.engine.tokenize(text, special=False)
    assert b"".join(map(speaker.engine.token_bytes, plain)) == text.encode()
    if speaker.kind != "echo":
        parsed = speaker.engine.tokenize(text, special=True)
        assert not set(speaker.engine.info.eos) & set(plain)
        assert set(speaker.engine.info.eos) & set(parsed)


@pytest.mark.parametrize("kind", TOKEN_ENGINES)
def test_two_chats_take_turns_and_each_finds_its_beginning_read(kind: str, tiny: Path) -> None:
    engine = open_engine(kind, tiny)
    speaker = Speaker(kind, engine)
    texts = ["the quick brown fox jumps", "user and assistant talk of time"]
    alone = [speaker.text(speaker.job(text, 40, temperature=0.0)) for text in texts]
    engine.close()
    speaker.engine = open_engine(kind, tiny)
    jobs = [speaker.job(text, 40, temperature=0.0) for text in texts]
    events = speaker.run(*jobs)
    order = [e.job for e in events if isinstance(e, Sampled)]
    assert order.index(jobs[1].id) < 20 < len(order) - order[::-1].index(jobs[0].id)
    for job, expected in zip(jobs, alone, strict=True):
        own = [e.id for e in events if isinstance(e, Sampled) and e.job == job.id]
        assert b"".join(map(speaker.engine.token_bytes, own)) == expected
    for text in texts:
        job = speaker.job(text + " and", 3)
        started = speaker.run(job)[0]
        assert isinstance(started, Started) and started.cached_tokens >= len(job.prompt) - 2
    speaker.engine.close()


@pytest.mark.parametrize("kind", TOKEN_ENGINES)
def test_one_chats_stop_does_not_wait_for_anothers_prompt(kind: str, slow: Path) -> None:
    speaker = Speaker(kind, open_engine(kind, slow))
    found = []
    for n in range(3):
        reading, writing = speaker.job(f"{n} fox" * 2500), speaker.endless()
        speaker.engine.submit(reading)
        speaker.wait({reading.id}, Started)
        seconds, events = speaker.cancelled_after(writing, Sampled)
        assert isinstance(events[-1], Finish) and events[-1].job == writing.id
        speaker.engine.cancel(reading.id)
        speaker.wait({reading.id})
        found.append(seconds)
    assert min(found) < 0.2
    speaker.engine.close()


@pytest.mark.parametrize(
    ("prompt", "word"), [([], "empty"), ([1] * 5000, "5000 tokens"), ([5, 100_000], "100000"), ([-1], "-1")]
)
def test_a_prompt_that_cannot_be_read_fails_in_words(speaker: Speaker, prompt: list[int], word: str) -> None:
    if speaker.kind == "echo":
        return
    job = Job("wrong", prompt, GenerationSettings(), 5, 1)
    failed = speaker.run(job)[-1]
    assert isinstance(failed, Failed)
    assert word in failed.message
    assert isinstance(speaker.run(speaker.job(max_tokens=3))[-1], Finish)


@pytest.mark.parametrize("kind", TOKEN_ENGINES)
def test_a_reply_ends_where_the_context_ends(kind: str, tiny: Path) -> None:
    engine = open_engine(kind, tiny, context=256)
    speaker = Speaker(kind, engine)
    assert engine.info.context == 256
    job = speaker.job("the " * 240, max_tokens=1000)
    finish = speaker.run(job)[-1]
    assert isinstance(finish, Finish) and finish.reason == "length"
    assert len(job.prompt) + finish.reply_tokens == 257
    engine.close()


@pytest.mark.parametrize("kind", LOADERS)
def test_closing_gives_the_memory_back(kind: str, slow: Path) -> None:
    options = {"memory_mb": 100} if kind == "echo" else {}
    process = psutil.Process()
    open_engine(kind, slow).close()  # what only the first opening costs: libraries and their pools
    before = process.memory_info().rss
    engine = open_engine(kind, slow, **options)
    speaker = Speaker(kind, engine)
    speaker.run(speaker.job("the fox " * 100, max_tokens=5))
    used = process.memory_info().rss - before
    report = engine.memory()
    assert report.weights > 30_000_000
    engine.close()
    left = process.memory_info().rss - before
    assert left < max(used * 0.4, 15_000_000)


@pytest.mark.parametrize("kind", TOKEN_ENGINES)
def test_loading_reports_how_far_it_is_and_can_be_given_up(kind: str, tiny: Path) -> None:
    from webui import LoadFailed

    seen: list[float] = []
    open_engine(kind, tiny, report=lambda done, _: not seen.append(done)).close()
    assert seen == sorted(seen)
    assert seen[-1] == 1.0
    with pytest.raises(LoadFailed, match="cancelled"):
        open_engine(kind, tiny, report=lambda done, _: done < 0.3)
