"""The real engines behind a worker process: the same conversation, template and text on both, and broken files."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tests import models
from tests.loaders.conftest import LOADERS, OPTIONS
from webui import Event, Failed, Finish, LoadFailed, ModelSpec, Progress, Started, Token
from webui.core.chat import new_id
from webui.runtime.process import EngineProcess

PATHS = {"llamacpp": "tiny.gguf", "huggingface": "tiny"}


def request(*texts: str, **settings: Any) -> dict[str, Any]:
    roles = ("user", "assistant")
    messages = [{"id": str(n), "role": roles[n % 2], "content": text} for n, text in enumerate(texts)]
    chosen = {"auto_max_tokens": False, "max_tokens": 40, "temperature": 0.0, **settings}
    return {"job": new_id(), "messages": messages, "system": "", "prefix": "", "settings": chosen, "seed": 3}


async def reply(worker: EngineProcess, asked: dict[str, Any]) -> tuple[str, list[Event]]:
    events = [event async for event in worker.generate(asked)]
    return "".join(e.text for e in events if isinstance(e, Token)), events


def with_worker(kind: str, folder: Path, log: Path, body: Callable[[EngineProcess], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        spec = ModelSpec("tiny", str(folder / PATHS[kind]), kind, OPTIONS[kind])
        worker = EngineProcess(LOADERS[kind], spec, log)
        await worker.open(lambda _fraction, _text: None)
        try:
            return await body(worker)
        finally:
            await worker.close()

    return asyncio.run(run())


def test_a_conversation_gets_the_same_reply_from_either_loader(tiny: Path, tmp_path: Path) -> None:
    asked = ("the quick <|eot_id|> fox 👩\u200d🚀", "jumps over", "and the system?")

    async def body(worker: EngineProcess) -> list[tuple[str, tuple[Any, ...]]]:
        found = []
        for settings in ({}, {"temperature": 0.9, "top_p": 0.95, "seed": 5}):
            text, events = await reply(worker, request(*asked, **settings))
            started, finish = events[0], events[-1]
            assert isinstance(started, Started) and isinstance(finish, Finish)
            assert started.prompt.count("<|eot_id|>") == 4  # one is only text
            found.append((text, (started.prompt_tokens, started.prompt, finish.reason, finish.reply_tokens)))
        return found

    first, second = (with_worker(kind, tiny, tmp_path / kind, body) for kind in PATHS)
    assert first == second
    assert first[0][0]


@pytest.mark.parametrize("kind", PATHS)
def test_stop_reaches_the_engine_while_it_reads_a_long_prompt(kind: str, slow: Path, tmp_path: Path) -> None:
    async def body(worker: EngineProcess) -> None:
        taken = []
        for n in range(3):
            asked = request(f"{n} fox" * 2400)
            at = 0.0
            async for event in worker.generate(asked):
                if isinstance(event, Progress) and event.stage == "prompt" and not at:
                    await asyncio.sleep(0.05)
                    at = time.monotonic()
                    worker.cancel(asked["job"])
                last = event
            taken.append(time.monotonic() - at)
            assert isinstance(last, Finish) and last.reason == "cancelled" and last.reply_tokens == 0
        assert min(taken) < 0.2
        assert (await reply(worker, request("the fox", max_tokens=3)))[0]

    with_worker(kind, slow, tmp_path / "log", body)


def test_a_file_that_kills_or_refuses_leaves_a_reason(tiny: Path, tmp_path: Path) -> None:
    async def body(path: Path) -> None:
        worker = EngineProcess(LOADERS["llamacpp"], ModelSpec("m", str(path), "llamacpp"), tmp_path / "log")
        with pytest.raises(LoadFailed) as failed:
            await worker.open(lambda _fraction, _text: None)
        assert len(failed.value.message) > 20
        await worker.close()

    broken = models.broken_ggufs(tiny / "tiny.gguf", tmp_path)
    for name, path, _ in broken:
        if name in ("half", "architecture", "missing tensor"):
            asyncio.run(body(path))


def test_a_prompt_longer_than_the_context_fails_in_words(tiny: Path, tmp_path: Path) -> None:
    async def body(worker: EngineProcess) -> None:
        _, events = await reply(worker, request("fox " * 5000))
        assert isinstance(events[-1], Failed)
        assert "tokens" in events[-1].message

    with_worker("llamacpp", tiny, tmp_path / "log", body)
