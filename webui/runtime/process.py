"""A loaded model as the web process sees it: a child process, its progress, its events, and how it ended."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import IO, Any

from webui.core.errors import Busy, GenerationFailed, LoadFailed
from webui.core.events import Event, Failed, Finish, Progress, Token, unpack
from webui.core.loader import Loader, MemoryReport, ModelInfo, ModelSpec
from webui.runtime.channel import AsyncChannel, ChannelClosed

_ROOT = Path(__file__).resolve().parents[2]
_LOG_LIMIT = 4_000_000  # bytes of a worker's log
_LOG_SECONDS = 10.0  # between two looks at its size
_END_SECONDS = 2.0  # for a worker to end by itself
_ANSWER_SECONDS = 10.0
_WAITING = 256  # events that wait for a slow reader before they are joined
_JOINED = 4096  # letters of a joined token


class EngineProcess:
    """One worker. Load its model with :meth:`open`; it is gone when ``ended`` is set, and ``reason`` says why."""

    def __init__(self, loader: Loader, spec: ModelSpec, log: Path) -> None:
        self.loader = loader
        self.spec = spec
        self.log = log
        self.info = ModelInfo(0, 0)
        self.ended = asyncio.Event()
        self.reason = ""
        self.crashed = False  # it is gone and nobody asked for that
        self.pid = 0
        self._closing = ""
        self._channel: AsyncChannel | None = None
        self._jobs: dict[str, _Inbox] = {}
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._numbers = count(1)
        self._loaded: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._progress: Callable[[float, str], None] = lambda _fraction, _text: None

    async def open(self, progress: Callable[[float, str], None]) -> None:
        """Start the process and load the model in it. Raises LoadFailed with the engine's reason."""
        self._progress = progress
        try:
            self._channel = await self._spawn()
        except OSError as error:
            self.reason = f"The model's process could not be started: {error}."
            self.ended.set()
            raise LoadFailed(self.reason) from None
        self._reader = asyncio.create_task(self._read(self._channel))
        if self._closing:
            self._channel.close()
        module = type(self.loader).__module__
        request = {
            "do": "open",
            "loader": self.loader.name,
            "module": module,
            "file": getattr(sys.modules.get(module), "__file__", "") or "",
            "spec": {n: getattr(self.spec, n) for n in type(self.spec).__dataclass_fields__},
        }
        try:
            with contextlib.suppress(ChannelClosed):  # the reader finds out why
                await self._channel.send(request)
            await self._loaded
        except BaseException:
            await self.close("The load was given up.")
            raise

    async def _spawn(self) -> AsyncChannel:
        """Start the process, from this thread: it ends with the thread that started it."""
        ours, theirs = socket.socketpair()
        environment = {k: v for k, v in os.environ.items() if k != "PATCHBAY_API_KEY"}
        environment |= {"HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1", "PYTHONUTF8": "1"}
        windows = sys.platform == "win32"
        try:
            with theirs, open_log(self.log) as log:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "webui.runtime.worker", "stdin" if windows else str(theirs.fileno())],
                    cwd=_ROOT,
                    env=environment,
                    stdin=subprocess.PIPE if windows else subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    pass_fds=() if windows else (theirs.fileno(),),
                )
                self.pid = self._process.pid
                if windows and self._process.stdin is not None:
                    shared = theirs.share(self.pid)  # type: ignore[attr-defined]  # only on Windows
                    self._process.stdin.write(len(shared).to_bytes(4, "little") + shared)
                    self._process.stdin.flush()
            return await AsyncChannel.over(ours)
        except BaseException:
            ours.close()
            if self.pid:
                self._process.kill()
                self._process.wait()
                self.ended.set()
            raise

    async def _read(self, channel: AsyncChannel) -> None:
        looked = time.monotonic()
        try:
            while True:
                self._take(await channel.receive())
                if time.monotonic() - looked > _LOG_SECONDS:
                    looked = time.monotonic()
                    shorten(self.log)
        except ChannelClosed:
            pass
        except Exception as error:  # an answer that makes no sense
            self.reason = f"The model's process answered nonsense: {type(error).__name__}: {error}."
        finally:
            await self._gone(channel)

    def _take(self, frame: Mapping[str, Any]) -> None:
        kind = frame["is"]
        if kind == "events":
            for name, fields in frame["events"]:
                inbox = self._jobs.get(fields["job"])
                if inbox is not None:
                    inbox.put(unpack([name, {**fields, "job": inbox.job}]))
        elif kind == "loading":
            self._progress(frame["fraction"], frame["text"])
        elif kind == "loaded":
            fields = {k: tuple(v) if isinstance(v, list) else v for k, v in frame["info"].items()}
            self.info = ModelInfo(**fields)
            if not self._loaded.done():
                self._loaded.set_result(None)
        elif kind == "answer":
            waiting = self._answers.get(frame["id"])
            if waiting is not None and not waiting.done():
                waiting.set_result(frame["value"])
        elif kind == "refused":
            waiting = self._loaded if frame["id"] is None else self._answers.get(frame["id"])
            if waiting is not None and not waiting.done():
                waiting.set_exception(LoadFailed(frame["message"], frame["hint"]))

    async def _gone(self, channel: AsyncChannel) -> None:
        """The channel is closed: find out why and tell everybody who waits."""
        channel.close()
        await channel.closed()
        with contextlib.suppress(subprocess.TimeoutExpired):
            await asyncio.to_thread(self._process.wait, _END_SECONDS)
        if self._process.poll() is None:
            self._process.kill()
            await asyncio.to_thread(self._process.wait)
        self.crashed = not self._closing
        self.reason = self._closing or self.reason or self._cause(self._process.returncode)
        if not self._loaded.done():
            self._loaded.set_exception(LoadFailed(self.reason, "The last lines of its log are in the Model tab."))
            self._loaded.exception()  # nobody may be waiting any more
        for waiting in self._answers.values():
            if not waiting.done():
                waiting.set_exception(GenerationFailed(self.reason))
        hint = "" if self._closing else "What was written is kept. The next message starts the model again."
        for inbox in self._jobs.values():
            inbox.put(Failed(inbox.job, self.reason, hint))
        self.ended.set()

    def _cause(self, code: int) -> str:
        last = last_line(self.log)
        said = f" Its last words: {last}" if last else ""
        if code < 0:
            try:
                name = signal.Signals(-code).name
            except ValueError:
                name = "unknown"
            return f"The model stopped (signal {-code}, {name}).{said}"
        return f"The model stopped (exit code {code}).{said}"

    async def generate(self, request: Mapping[str, Any]) -> AsyncGenerator[Event, None]:
        """Run one job; ends after its Finish or Failed. Closing the iterator cancels the job."""
        inbox = _Inbox(request["job"])
        if self.ended.is_set():
            yield Failed(inbox.job, self.reason, "The next message starts the model again.")
            return
        name = f"{inbox.job}.{next(self._numbers)}"  # a reply that goes on must not hear of its stopped beginning
        self._jobs[name] = inbox
        finished = False
        try:
            try:
                await self._wire().send({"do": "generate", **request, "job": name})
            except ChannelClosed:
                await self.ended.wait()
            while not finished:
                event = await inbox.get()
                finished = isinstance(event, Finish | Failed)
                yield event
        finally:
            if not finished:
                self.cancel(inbox.job)
            del self._jobs[name]

    @property
    def busy(self) -> bool:
        """Whether a job is in work."""
        return bool(self._jobs)

    def cancel(self, job: str) -> None:
        """Ask the engine to end a job."""
        for name, inbox in self._jobs.items():
            if inbox.job == job:
                self._wire().post({"do": "cancel", "job": name})

    def _wire(self) -> AsyncChannel:
        if self._channel is None:
            raise ChannelClosed
        return self._channel

    async def _ask(self, request: Mapping[str, Any]) -> Any:
        number = next(self._numbers)
        waiting: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._answers[number] = waiting
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                await self._wire().send({**request, "id": number})
                return await waiting
        except ChannelClosed:
            raise GenerationFailed(self.reason or "The model is gone.") from None
        except TimeoutError:
            raise Busy("The model did not answer in time.", "It may be reading a long prompt; try again.") from None
        finally:
            del self._answers[number]

    async def count(self, text: str) -> int:
        """Tokens in a text."""
        return int(await self._ask({"do": "count", "text": text}))

    async def memory(self) -> MemoryReport:
        """Bytes in use."""
        return MemoryReport(**await self._ask({"do": "memory"}))

    async def close(self, reason: str = "The model was unloaded.") -> None:
        """End the process; jobs in work fail with ``reason``."""
        self._closing = self._closing or reason
        if self._channel is not None:  # otherwise ``open`` closes it as soon as it is there
            self._channel.close()
        await self.ended.wait()


class _Inbox:
    """Events on their way to the reader of a job. When it is slow they are joined, so that what waits stays small."""

    def __init__(self, job: str) -> None:
        self.job = job
        self._events: deque[Event] = deque()
        self._news = asyncio.Event()

    def put(self, event: Event) -> None:
        """One more event."""
        last = self._events[-1] if len(self._events) >= _WAITING else None
        if isinstance(event, Token) and isinstance(last, Token) and _fit(event, last):
            self._events[-1] = replace(last, text=last.text + event.text, count=last.count + event.count)
        elif isinstance(event, Progress) and isinstance(last, Progress):
            self._events[-1] = event
        else:
            self._events.append(event)
        self._news.set()

    async def get(self) -> Event:
        """The next event."""
        while not self._events:
            self._news.clear()
            await self._news.wait()
        return self._events.popleft()


def _fit(event: Token, last: Token) -> bool:
    return event.channel == last.channel and len(last.text) < _JOINED


def open_log(log: Path) -> IO[bytes]:
    """The log to write to; nothing is logged in a folder that cannot be written."""
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        shorten(log)
        return log.open("ab")
    except OSError:
        return Path(os.devnull).open("ab")


def shorten(log: Path, limit: int = _LOG_LIMIT) -> None:
    """Keep the last quarter of a log that has grown beyond the limit; who appends to it goes on."""
    with contextlib.suppress(OSError):
        if log.stat().st_size > limit:
            kept = tail(log, limit // 4)
            os.truncate(log, 0)
            with log.open("a", encoding="utf-8") as file:
                file.write(kept)


def last_line(log: Path, limit: int = 200) -> str:
    """The last line of a log that says something, shortened."""
    lines = [line for line in tail(log).splitlines() if line.strip()]
    line = "".join(c for c in lines[-1] if c.isprintable()) if lines else ""
    return line if len(line) <= limit else line[: limit - 1] + "…"


def tail(log: Path, size: int = 16_000) -> str:
    """The end of a log."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - size))
            return file.read().decode("utf-8", "replace")
    except OSError:
        return ""
