"""A loaded model as the web process sees it: a child process, its progress, its events, and how it ended."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from itertools import count
from pathlib import Path
from typing import Any

from webui.core.errors import GenerationFailed, LoadFailed, PatchbayError
from webui.core.events import Event, Failed, Finish, unpack
from webui.core.loader import Loader, MemoryReport, ModelInfo, ModelSpec
from webui.runtime.channel import AsyncChannel, ChannelClosed

_ROOT = Path(__file__).resolve().parents[2]
_LOG_LIMIT = 4_000_000  # bytes kept of a worker's log when it starts again
_END_SECONDS = 2.0


class EngineProcess:
    """One worker. Load its model with :meth:`open`; it is gone when ``ended`` is set, and ``reason`` says why."""

    def __init__(self, loader: Loader, spec: ModelSpec, log: Path) -> None:
        self.loader = loader
        self.spec = spec
        self.log = log
        self.info = ModelInfo(0, 0)
        self.ended = asyncio.Event()
        self.reason = ""
        self.pid = 0
        self._closing = ""
        self._jobs: dict[str, asyncio.Queue[Event]] = {}
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._numbers = count(1)
        self._loaded: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._progress: Callable[[float, str], None] = lambda _fraction, _text: None

    async def open(self, progress: Callable[[float, str], None]) -> None:
        """Start the process and load the model in it. Raises LoadFailed with the engine's reason."""
        self._progress = progress
        await self._spawn()
        try:
            await self._loaded
        except BaseException:
            await self.close("The load was given up.")
            raise

    async def _spawn(self) -> None:
        ours, theirs = socket.socketpair()
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(OSError):
            if self.log.stat().st_size > _LOG_LIMIT:
                self.log.unlink()
        environment = {k: v for k, v in os.environ.items() if k != "PATCHBAY_API_KEY"}
        environment |= {"HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1", "PYTHONUTF8": "1"}
        windows = sys.platform == "win32"
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "webui.runtime.worker", "stdin" if windows else str(theirs.fileno())],
                cwd=_ROOT,
                env=environment,
                stdin=subprocess.PIPE if windows else subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=() if windows else (theirs.fileno(),),
            )
        if windows and self._process.stdin is not None:
            shared = theirs.share(self._process.pid)  # type: ignore[attr-defined]  # only on Windows
            self._process.stdin.write(len(shared).to_bytes(4, "little") + shared)
            self._process.stdin.flush()
        theirs.close()
        self.pid = self._process.pid
        self._channel = await AsyncChannel.over(ours)
        self._reader = asyncio.create_task(self._read())
        module = type(self.loader).__module__
        await self._channel.send(
            {
                "do": "open",
                "loader": self.loader.name,
                "module": module,
                "file": getattr(sys.modules.get(module), "__file__", "") or "",
                "spec": {n: getattr(self.spec, n) for n in type(self.spec).__dataclass_fields__},
            }
        )

    async def _read(self) -> None:
        try:
            while True:
                self._take(await self._channel.receive())
        except ChannelClosed:
            pass
        finally:
            await self._gone()

    def _take(self, frame: Mapping[str, Any]) -> None:
        kind = frame["is"]
        if kind == "events":
            for data in frame["events"]:
                event = unpack(data)
                queue = self._jobs.get(event.job)
                if queue is not None:
                    queue.put_nowait(event)
        elif kind == "loading":
            self._progress(frame["fraction"], frame["text"])
        elif kind == "loaded":
            fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in frame["info"].items()}
            self.info = ModelInfo(**fields)
            if not self._loaded.done():
                self._loaded.set_result(None)
        elif kind == "answer":
            waiting = self._answers.pop(frame["id"], None)
            if waiting is not None and not waiting.done():
                waiting.set_result(frame["value"])
        elif kind == "refused":
            self._refused(frame)

    def _refused(self, frame: Mapping[str, Any]) -> None:
        error: PatchbayError = LoadFailed(frame["message"], frame["hint"])
        waiting = self._answers.pop(frame["id"], None) if frame["id"] is not None else self._loaded
        if waiting is not None and not waiting.done():
            waiting.set_exception(error)

    async def _gone(self) -> None:
        """The channel is closed: find out why and tell everybody who waits."""
        self._channel.close()
        await self._channel.closed()
        with contextlib.suppress(subprocess.TimeoutExpired):
            await asyncio.to_thread(self._process.wait, _END_SECONDS)
        if self._process.poll() is None:
            self._process.kill()
            await asyncio.to_thread(self._process.wait)
        self.reason = self._closing or self._cause(self._process.returncode)
        if not self._loaded.done():
            self._loaded.set_exception(LoadFailed(self.reason, "The last lines of its log are in the Model tab."))
        for waiting in self._answers.values():
            if not waiting.done():
                waiting.set_exception(GenerationFailed(self.reason))
        self._answers.clear()
        hint = "" if self._closing else "What was written is kept. The next message starts the model again."
        for job, queue in self._jobs.items():
            queue.put_nowait(Failed(job, self.reason, hint))
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

    async def generate(self, request: Mapping[str, Any]) -> AsyncIterator[Event]:
        """Run one job; ends after its Finish or Failed. Closing the iterator cancels the job."""
        job = request["job"]
        if self.ended.is_set():
            yield Failed(job, self.reason, "The next message starts the model again.")
            return
        queue: asyncio.Queue[Event] = asyncio.Queue()
        self._jobs[job] = queue
        finished = False
        try:
            try:
                await self._channel.send({"do": "generate", **request})
            except ChannelClosed:
                await self.ended.wait()
            while not finished:
                event = await queue.get()
                finished = isinstance(event, Finish | Failed)
                yield event
        finally:
            del self._jobs[job]
            if not finished:
                await self.cancel(job)

    @property
    def busy(self) -> bool:
        """Whether a job is in work."""
        return bool(self._jobs)

    async def cancel(self, job: str) -> None:
        """Ask the engine to end a job."""
        with contextlib.suppress(ChannelClosed):
            await self._channel.send({"do": "cancel", "job": job})

    async def abort(self) -> None:
        """Ask the engine to give up loading."""
        with contextlib.suppress(ChannelClosed):
            await self._channel.send({"do": "abort"})

    async def _ask(self, request: Mapping[str, Any]) -> Any:
        number = next(self._numbers)
        waiting: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._answers[number] = waiting
        try:
            await self._channel.send({**request, "id": number})
        except ChannelClosed:
            self._answers.pop(number, None)
            raise GenerationFailed(self.reason or "The model is gone.") from None
        return await waiting

    async def count(self, text: str) -> int:
        """Tokens in a text."""
        return int(await self._ask({"do": "count", "text": text}))

    async def memory(self) -> MemoryReport:
        """Bytes in use."""
        return MemoryReport(**await self._ask({"do": "memory"}))

    async def close(self, reason: str = "The model was unloaded.") -> None:
        """End the process; jobs in work fail with ``reason``."""
        self._closing = self._closing or reason
        self._channel.close()
        await self.ended.wait()


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
