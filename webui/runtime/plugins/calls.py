"""Calling code that may do anything: in a thread of its own, with a time budget, with its name on record while it runs.

A thread cannot be killed. One that overruns is abandoned: nobody waits for it any more, its result is thrown away, and
it does not keep the program from ending.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import io
import mmap
import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TextIO

#: In the data folder: the name of the extension whose code is running, padded with spaces; blank when none is.
RUNNING = "running-hook"
_WIDTH = 200
LOUD = 64 * 1024  # characters that one call may print


class Marker:
    """Says in a file whose hook is running. The file is mapped: setting it is cheap, and it outlives the process."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / RUNNING
        self._lock = threading.Lock()
        self._running: list[str] = []
        self._memory: mmap.mmap | None = None
        try:
            with open(self._path, "wb+") as file:
                os.chmod(self._path, 0o600)
                file.write(b" " * _WIDTH)
                file.flush()
                self._memory = mmap.mmap(file.fileno(), _WIDTH)
        except (OSError, ValueError):
            pass  # a folder that cannot be written: nobody will know, everything else works

    @contextlib.contextmanager
    def running(self, plugin: str) -> Iterator[None]:
        """For as long as the block runs."""
        self.enter(plugin)
        try:
            yield
        finally:
            self.leave(plugin)

    def enter(self, plugin: str) -> None:
        """A hook of this plugin begins."""
        with self._lock:
            self._running.append(plugin)
            self._show()

    def leave(self, plugin: str) -> None:
        """It has ended."""
        with self._lock:
            if plugin in self._running:
                self._running.remove(plugin)
            self._show()

    def _show(self) -> None:
        if self._memory is not None:
            name = self._running[-1].encode()[:_WIDTH] if self._running else b""
            self._memory[:] = name.ljust(_WIDTH)

    def close(self) -> None:
        """Remove the file: the program ends in good order."""
        with self._lock:
            if self._memory is not None:
                self._memory.close()
                self._memory = None
        with contextlib.suppress(OSError):
            self._path.unlink()


class Threads:
    """Daemon threads that run one call at a time; idle ones are used again, abandoned ones never."""

    def __init__(self) -> None:
        self._idle: list[queue.SimpleQueue[Callable[[], None] | None]] = []
        self._lock = threading.Lock()

    def submit(self, function: Callable[[], Any]) -> Future[Any]:
        """Run the function, in the caller's context variables; the future has its result or whatever it raised."""
        future: Future[Any] = Future()
        context = contextvars.copy_context()

        def run() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                result = context.run(function)
            except BaseException as error:
                future.set_exception(_carried(error))
            else:
                future.set_result(result)

        with self._lock:
            work = self._idle.pop() if self._idle else None
        if work is None:
            work = queue.SimpleQueue()
            threading.Thread(target=self._serve, args=(work,), name="extension", daemon=True).start()
        work.put(run)
        return future

    def _serve(self, work: queue.SimpleQueue[Callable[[], None] | None]) -> None:
        while (run := work.get()) is not None:
            run()
            del run
            with self._lock:
                if len(self._idle) >= 4:
                    return
                self._idle.append(work)

    def close(self) -> None:
        """Let the idle threads end."""
        with self._lock:
            for work in self._idle:
                work.put(None)
            self._idle.clear()


class Exited(Exception):
    """A call ended with SystemExit or another exception that is no Exception; the message names it."""


def _carried(error: BaseException) -> Exception:
    """What may travel through a future: asyncio lets some exceptions end the program."""
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        return error
    carried = Exited(f"{type(error).__name__}: {error}".rstrip(": "))
    carried.__traceback__ = error.__traceback__
    return carried


def settled(result: Any) -> Any:
    """The result of a call; a coroutine is run to its end in this thread."""
    return asyncio.run(_awaited(result)) if inspect.iscoroutine(result) else result


async def _awaited(coroutine: Any) -> Any:
    return await coroutine


class _Limited(io.TextIOBase):
    """Standard output while a hook runs: what its thread prints is cut at LOUD characters, everybody else's passes."""

    def __init__(self, target: TextIO) -> None:
        self.target = target

    def write(self, text: str) -> int:
        left = _left.get()
        if left is not None:
            kept = text[: max(0, left[0])]
            left[0] -= len(text)
            if kept:
                self.target.write(kept + ("\n(more was printed and left out)\n" if left[0] < 0 else ""))
            return len(text)
        return self.target.write(text)

    def flush(self) -> None:
        self.target.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.target, name)


_left: contextvars.ContextVar[list[int] | None] = contextvars.ContextVar("patchbay_print", default=None)
_outputs = threading.Lock()
_quiet = 0


@contextlib.contextmanager
def quieted() -> Iterator[None]:
    """Cut what the code in the block prints; other threads are not affected."""
    global _quiet  # standard output is global too
    with _outputs:
        _quiet += 1
        for name in ("stdout", "stderr"):
            if not isinstance(getattr(sys, name), _Limited) and getattr(sys, name) is not None:
                setattr(sys, name, _Limited(getattr(sys, name)))
    token = _left.set([LOUD])
    try:
        yield
    finally:
        _left.reset(token)
        with _outputs:
            _quiet -= 1
            for name in ("stdout", "stderr"):
                current = getattr(sys, name)
                if not _quiet and isinstance(current, _Limited):
                    setattr(sys, name, current.target)


def trace(plugin: str, hook: str, arguments: list[str], began: float, outcome: str) -> None:
    """Print a call, when PATCHBAY_TRACE is set."""
    if os.environ.get("PATCHBAY_TRACE", "") not in ("", "0"):
        took = (time.perf_counter() - began) * 1000
        print(
            f"patchbay: {plugin}.{hook}({', '.join(arguments)}) -> {outcome} in {took:.1f} ms",
            file=sys.stderr,
            flush=True,
        )
