"""A worker process on the echo loader: loading, replies, cancels, crashes."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from loaders.echo import Echo
from webui.core.chat import new_id
from webui.core.errors import Busy, LoadFailed
from webui.core.events import Event, Failed, Finish, Progress, Started, Token
from webui.core.loader import ModelSpec
from webui.runtime.process import EngineProcess, shorten


async def start(tmp_path: Path, **options: Any) -> EngineProcess:
    spec = ModelSpec("echo", "", "echo", options)
    worker = EngineProcess(Echo(), spec, tmp_path / "echo.log")
    await worker.open(lambda _f, _t: None)
    return worker


def ask(text: str, **settings: Any) -> dict[str, Any]:
    message = {"id": "1", "role": "user", "content": text}
    return {"job": new_id(), "messages": [message], "system": "", "prefix": "", "settings": settings, "seed": 1}


async def collect(worker: EngineProcess, request: dict[str, Any]) -> list[Event]:
    return [event async for event in worker.generate(request)]


def said(events: list[Event]) -> str:
    return "".join(e.text for e in events if isinstance(e, Token))


def test_a_reply_comes_back_whole_and_in_order(tmp_path: Path) -> None:
    async def run() -> None:
        worker = await start(tmp_path)
        events = await collect(worker, ask("Grüße, 世界 🦙!"))
        assert isinstance(events[0], Started) and isinstance(events[-1], Finish)
        assert said(events) == "Grüße, 世界 🦙!"
        assert events[-1].reason == "stop"
        await worker.close()

    asyncio.run(run())


def test_a_stop_text_ends_the_reply_and_is_not_shown(tmp_path: Path) -> None:
    async def run() -> None:
        worker = await start(tmp_path)
        events = await collect(worker, ask("one two three four", stop=["three"]))
        assert said(events) == "one two "
        assert isinstance(events[-1], Finish) and events[-1].reason == "stop"
        await worker.close()

    asyncio.run(run())


def test_two_replies_are_written_side_by_side(tmp_path: Path) -> None:
    async def run() -> None:
        worker = await start(tmp_path)
        first, second = await asyncio.gather(
            collect(worker, ask("/tokens 40 /speed 100 a")), collect(worker, ask("just this"))
        )
        assert said(second) == "just this"
        assert sum(e.count for e in first if isinstance(e, Token)) == 40
        await worker.close()

    asyncio.run(run())


def test_closing_the_iterator_cancels_the_job(tmp_path: Path) -> None:
    async def run() -> None:
        worker = await start(tmp_path)
        source = worker.generate(ask("/tokens 100000 /speed 50 a"))
        async for event in source:
            if isinstance(event, Token):
                break
        await source.aclose()  # type: ignore[attr-defined]
        assert not worker.busy
        began = time.monotonic()
        await collect(worker, ask("/tokens 3 b"))
        assert time.monotonic() - began < 5
        await worker.close()

    asyncio.run(run())


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT])
def test_a_worker_that_dies_is_a_sentence(tmp_path: Path, number: signal.Signals) -> None:
    async def run() -> None:
        worker = await start(tmp_path)
        events: list[Event] = []
        async for event in worker.generate(ask("/tokens 1000 /speed 200 a")):
            events.append(event)
            if len(events) == 5:
                os.kill(worker.pid, number)
        assert isinstance(events[-1], Failed)
        assert f"signal {int(number)}, {number.name}" in events[-1].message
        assert worker.ended.is_set()
        again = await collect(worker, ask("hello"))
        assert isinstance(again[-1], Failed)

    asyncio.run(run())


def test_a_load_that_fails_gives_the_engines_reason(tmp_path: Path) -> None:
    async def run() -> None:
        with pytest.raises(LoadFailed, match="the disk is on fire"):
            await start(tmp_path, load_error="the disk is on fire")

    asyncio.run(run())


def test_the_worker_ends_when_the_channel_closes(tmp_path: Path) -> None:
    async def run() -> None:
        worker = await start(tmp_path)
        await worker.close("Enough.")
        with pytest.raises(ProcessLookupError):
            os.kill(worker.pid, 0)
        assert worker.reason == "Enough."

    asyncio.run(run())


def test_tokens_are_counted_by_the_engine(tmp_path: Path) -> None:
    async def run() -> None:
        worker = await start(tmp_path)
        assert await worker.count("one two three") > 0
        assert (await worker.memory()).weights >= 0
        await worker.close()

    asyncio.run(run())


async def gone(pid: int) -> bool:
    """Whether a process is gone and nobody keeps its remains."""
    for _ in range(40):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        await asyncio.sleep(0.05)
    return False


def test_a_worker_that_is_frozen_is_closed_and_leaves_no_remains(tmp_path: Path) -> None:
    async def run() -> None:
        worker = await start(tmp_path)
        os.kill(worker.pid, signal.SIGSTOP)
        source = asyncio.create_task(collect(worker, ask("word " * 200_000)))  # more than the channel holds
        await asyncio.sleep(0.3)
        began = time.monotonic()
        await worker.close("Enough.")
        assert time.monotonic() - began < 4
        events = await source
        assert isinstance(events[-1], Failed) and events[-1].message == "Enough."
        assert await gone(worker.pid)

    asyncio.run(run())


def test_a_load_that_is_given_up_in_any_moment_leaves_no_process(tmp_path: Path) -> None:
    async def run() -> None:
        for pause in (0.0, 0.001, 0.02, 0.6):
            worker = EngineProcess(Echo(), ModelSpec("echo", "", "echo", {"load_seconds": 30}), tmp_path / "echo.log")
            opening = asyncio.create_task(worker.open(lambda _f, _t: None))
            await asyncio.sleep(pause)
            await asyncio.wait_for(worker.close("Given up."), 5)
            with pytest.raises(LoadFailed, match="Given up"):
                await opening
            assert await gone(worker.pid)
        for pause in (0.001, 0.02, 0.6):
            worker = EngineProcess(Echo(), ModelSpec("echo", "", "echo", {"load_seconds": 30}), tmp_path / "echo.log")
            opening = asyncio.create_task(worker.open(lambda _f, _t: None))
            await asyncio.sleep(pause)
            opening.cancel()
            with pytest.raises(asyncio.CancelledError):
                await opening
            assert worker.pid and await gone(worker.pid)

    asyncio.run(run())


def test_a_process_that_cannot_start_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", str(tmp_path / "no-python"))

    async def run() -> None:
        with pytest.raises(LoadFailed, match="could not be started"):
            await start(tmp_path)

    asyncio.run(run())


def test_a_log_that_has_grown_keeps_its_end(tmp_path: Path) -> None:
    log = tmp_path / "some.log"
    with log.open("ab") as writer:
        writer.write(b"old\n" * 1000 + b"the end\n")
        writer.flush()
        shorten(log, 1000)
        assert log.stat().st_size <= 250
        writer.write(b"and more\n")
        writer.flush()
    assert log.read_bytes().endswith(b"the end\nand more\n")


def test_a_worker_that_is_busy_does_not_hold_up_whoever_asks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("webui.runtime.process._ANSWER_SECONDS", 0.3)

    async def run() -> None:
        worker = await start(tmp_path)
        hanging = asyncio.create_task(collect(worker, ask("/hang 0 x")))
        await asyncio.sleep(0.3)
        with pytest.raises(Busy):
            await worker.count("one two three")
        assert not worker._answers
        await worker.close("Enough.")
        assert isinstance((await hanging)[-1], Failed)

    asyncio.run(run())


def test_half_a_surrogate_pair_does_not_end_the_channel(tmp_path: Path) -> None:
    async def run() -> None:
        worker = await start(tmp_path)
        assert said(await collect(worker, ask("half \ud800 a pair"))) == "half ? a pair"
        await worker.close()

    asyncio.run(run())


def test_a_reply_may_have_no_token_and_no_message(tmp_path: Path) -> None:
    async def run() -> None:
        worker = await start(tmp_path)
        events = await collect(worker, ask("hello", max_tokens=0, auto_max_tokens=False))
        assert [type(e) for e in events if not isinstance(e, Progress)] == [Started, Finish]
        events = await collect(worker, {**ask(""), "messages": []})
        assert isinstance(events[-1], Finish)
        await worker.close()

    asyncio.run(run())
