"""Engines over tiny models that are made once a session, and small words to speak with them."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from loaders.echo import Echo
from loaders.huggingface import HuggingFace
from loaders.llamacpp import LlamaCpp
from tests import models
from webui import Engine, Event, Failed, Finish, GenerationSettings, Job, Loader, ModelSpec, Progress, Sampled, build

LOADERS: dict[str, Loader] = {"echo": Echo(), "llamacpp": LlamaCpp(), "huggingface": HuggingFace()}
#: Exact arithmetic, so that texts can be compared.
EXACT = {"cache_type_k": "f32", "cache_type_v": "f32", "flash_attention": "off", "threads": 1}
OPTIONS: dict[str, dict[str, Any]] = {
    "echo": {"tokens_per_second": 0},
    "llamacpp": EXACT,
    "huggingface": {"dtype": "float32", "threads": 1},
}
#: Large enough that reading a prompt takes seconds.
SLOW = models.Shape(layers=6, width=384, inner=1024, heads=6, kv_heads=6, context=8192)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tiny.gguf and the folder tiny."""
    folder = tmp_path_factory.mktemp("models")
    models.make_gguf(folder / "tiny.gguf")
    models.make_folder(folder / "tiny")
    return folder


@pytest.fixture(scope="session")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a larger model of the same two kinds, tiny.gguf and tiny."""
    folder = tmp_path_factory.mktemp("slow")
    models.make_gguf(folder / "tiny.gguf", SLOW)
    models.make_folder(folder / "tiny", SLOW)
    return folder


def open_engine(kind: str, folder: Path, report: Callable[[float, str], bool] = lambda *_: True, **options: Any) -> Any:
    """An engine over the folder's model."""
    loader = LOADERS[kind]
    path = {"echo": "", "llamacpp": str(folder / "tiny.gguf"), "huggingface": str(folder / "tiny")}[kind]
    chosen = build(loader.options, {**OPTIONS[kind], **options})
    return loader.open(ModelSpec("tiny", path, kind), chosen, report)


@dataclass
class Speaker:
    """An engine and how to talk with it."""

    kind: str
    engine: Engine
    count: int = 0
    ended: list[str] = field(default_factory=list)

    def job(self, text: str = "the quick brown fox", max_tokens: int = 20, seed: int = 1, **settings: Any) -> Job:
        """A job that is not yet submitted."""
        self.count += 1
        info = self.engine.info
        prompt = [*([info.bos] if info.bos is not None else []), *self.engine.tokenize(text, special=False)]
        chosen = build(GenerationSettings, {"ban_eos": True, **settings})
        messages = [{"role": "user", "content": text}]
        return Job(f"job{self.count}", prompt, chosen, max_tokens, seed, messages=messages)

    def endless(self, **settings: Any) -> Job:
        """A job that would write for long."""
        if self.kind == "echo":
            return self.job("/speed 100 /tokens 100000", 100_000, **settings)
        return self.job(max_tokens=1900, **settings)

    def run(self, *jobs: Job) -> list[Event]:
        """Submit and step until all have ended; all events."""
        for job in jobs:
            self.engine.submit(job)
        return self.wait({job.id for job in jobs})

    def wait(self, open_jobs: set[str], until: type[Event] | None = None) -> list[Event]:
        """Step until these jobs have ended, or the first event of a kind has come."""
        events: list[Event] = []
        end = time.monotonic() + 60
        left = set(open_jobs)
        while left:
            assert time.monotonic() < end, f"no end after a minute: {events[-3:]}"
            new = self.engine.step()
            events += new
            left -= {e.job for e in new if isinstance(e, Finish | Failed)}
            if until is not None and any(isinstance(e, until) for e in new):
                break
        return events

    def text(self, job: Job) -> bytes:
        """The reply to a job."""
        return b"".join(self.engine.token_bytes(e.id) for e in self.run(job) if isinstance(e, Sampled))

    def cancelled_after(self, job: Job, until: type[Event]) -> tuple[float, list[Event]]:
        """Cancel from another thread shortly after the first event of a kind; seconds until the end, and the events."""
        self.engine.submit(job)
        events = self.wait({job.id}, until)
        at: list[float] = []

        def cancel() -> None:
            time.sleep(0.1)
            at.append(time.monotonic())
            self.engine.cancel(job.id)

        thread = threading.Thread(target=cancel)
        thread.start()
        events += self.wait({job.id})
        done = time.monotonic()
        thread.join()
        return done - at[0], events


@pytest.fixture(scope="session", params=list(LOADERS))
def speaker(request: pytest.FixtureRequest, tiny: Path) -> Iterator[Speaker]:
    """Each engine in turn, over the tiny model."""
    engine = open_engine(request.param, tiny)
    yield Speaker(request.param, engine)
    engine.close()


def progress(events: list[Event], stage: str) -> list[Progress]:
    """The progress events of a stage."""
    return [e for e in events if isinstance(e, Progress) and e.stage == stage]


def pytest_sessionfinish() -> None:
    """Close what llama-cpp-python opens when it is imported and leaves open."""
    if library := sys.modules.get("llama_cpp._utils"):
        library.outnull_file.close()
        library.errnull_file.close()
