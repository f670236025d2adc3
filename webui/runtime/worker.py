"""The child process: one engine, one thread, the step loop and the text layer.

Started as ``python -m webui.runtime.worker FD``. The main thread calls the engine and nothing else does; a second
thread reads the channel, so that a cancel arrives while a step runs. When the channel closes, the process ends at once.

Requests  open · generate · cancel · count · memory
Answers   loading · loaded · refused · events · answer
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import queue
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from webui.core.errors import LoaderUnavailable, LoadFailed, PatchbayError
from webui.core.events import Failed, Finish, pack
from webui.core.fields import build
from webui.core.loader import Engine, Loader, ModelSpec
from webui.runtime.channel import Channel, ChannelClosed
from webui.runtime.session import Session

_BUSY_SECONDS = 0.008  # events of faster steps share a frame for this long


class Worker:
    """The loop that owns an engine."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._inbox: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._queued: dict[str, bool] = {}  # jobs that are not submitted yet: whether they were cancelled meanwhile
        self._lock = threading.Lock()  # held for _queued
        self._engine: Engine | None = None
        self._session: Session | None = None

    def run(self) -> None:
        """Serve until the channel closes."""
        threading.Thread(target=self._read, daemon=True).start()
        while True:
            self._serve(self._inbox.get())
            if self._session is not None:
                self._work(self._session)

    def _read(self) -> None:
        """Sort what comes; without this thread nothing could be stopped, so the process ends with it."""
        try:
            while True:
                request = self._channel.receive()
                if request["do"] == "cancel":
                    self._cancel(request["job"])
                    continue
                if request["do"] == "generate":
                    with self._lock:
                        self._queued[request["job"]] = False
                self._inbox.put(request)
        except ChannelClosed:
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)

    def _cancel(self, job: str) -> None:
        with self._lock:
            if job in self._queued:
                self._queued[job] = True
                return
        if self._session is not None:
            self._session.cancel(job)

    def _generate(self, session: Session, request: Mapping[str, Any]) -> None:
        """Submit a job, unless it was cancelled before its turn came."""
        job = request["job"]
        try:
            if self._queued[job]:
                self._channel.send({"is": "events", "events": [pack(Finish(job, "cancelled"))]})
            else:
                session.submit(request)
        finally:
            with self._lock:
                cancelled = self._queued.pop(job)
        if cancelled:
            session.cancel(job)

    def _work(self, session: Session) -> None:
        """Step until the engine is idle, serving requests between steps."""
        sent = 0.0
        pending: list[Any] = []
        while session.busy or pending:
            while True:
                try:
                    self._serve(self._inbox.get_nowait())
                except queue.Empty:
                    break
            pending += [pack(e) for e in session.step()]
            now = time.monotonic()
            if pending and (now - sent >= _BUSY_SECONDS or not session.busy):
                self._channel.send({"is": "events", "events": pending})
                pending, sent = [], now

    def _serve(self, request: dict[str, Any]) -> None:
        kind = request["do"]
        try:
            if kind == "open":
                self._open(request)
            elif self._session is None or self._engine is None:
                raise LoadFailed("No model is open in this worker.")
            elif kind == "generate":
                self._generate(self._session, request)
            elif kind == "count":
                self._answer(request, self._session.count(request["text"]))
            elif kind == "memory":
                report = self._engine.memory()
                self._answer(request, {n: getattr(report, n) for n in type(report).__dataclass_fields__})
        except PatchbayError as error:
            self._refuse(request, error)
        except Exception as error:
            traceback.print_exc()
            self._refuse(request, LoadFailed(f"{type(error).__name__}: {error}"))

    def _refuse(self, request: Mapping[str, Any], error: PatchbayError) -> None:
        if request["do"] == "generate":
            event = Failed(request["job"], error.message, error.hint, error.code)
            self._channel.send({"is": "events", "events": [pack(event)]})
        else:
            self._channel.send(
                {
                    "is": "refused",
                    "id": request.get("id"),
                    "message": error.message,
                    "hint": error.hint,
                    "code": error.code,
                }
            )

    def _answer(self, request: Mapping[str, Any], value: Any) -> None:
        self._channel.send({"is": "answer", "id": request["id"], "value": value})

    def _open(self, request: Mapping[str, Any]) -> None:
        last = 0.0

        def report(fraction: float, text: str) -> bool:
            nonlocal last
            if time.monotonic() - last > 0.05 or fraction >= 1:
                last = time.monotonic()
                self._channel.send({"is": "loading", "fraction": float(fraction), "text": text})
            return True  # who gives a load up ends the process

        loader = find_loader(request["module"], request["file"], request["loader"])
        spec = ModelSpec(**request["spec"])
        report(0.0, f"Starting {loader.title}")
        self._engine = loader.open(spec, build(loader.options, spec.options), report)
        self._session = Session(self._engine, spec, loader.capabilities())
        info = self._engine.info
        fields = {n: getattr(info, n) for n in type(info).__dataclass_fields__}
        self._channel.send({"is": "loaded", "info": fields})


def find_loader(module: str, file: str, name: str) -> Loader:
    """The loader of that name from the module (or a package above it) that registers it."""
    found: ModuleType | None = None
    while module:
        found = _import(module, file)
        if hasattr(found, "register_loaders"):
            break
        module, _, _ = module.rpartition(".")
        file = str(Path(file).parent / "__init__.py")
    for loader in found.register_loaders() if found is not None and module else ():
        if loader.name == name:
            return loader  # type: ignore[no-any-return]  # the hook's result is checked where it is registered
    raise LoaderUnavailable(f"The loader {name} is not in {module or file}.")


def _import(module: str, file: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name not in (module, module.partition(".")[0]):
            raise
    spec = importlib.util.spec_from_file_location(module, file)
    if spec is None or spec.loader is None:
        raise LoaderUnavailable(f"The loader's file {file} cannot be read.")
    found = importlib.util.module_from_spec(spec)
    sys.modules[module] = found
    spec.loader.exec_module(found)
    return found


def _settle() -> None:
    """Be the first to go when memory runs out, never outlive the parent, and leave Ctrl+C to it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        try:
            Path("/proc/self/oom_score_adj").write_text("800")
        except OSError:
            pass  # not allowed in some containers; then the kernel chooses


def main() -> None:
    """Entry point of the child."""
    if sys.argv[1] == "stdin":  # Windows: the socket was shared with this process
        size = int.from_bytes(sys.stdin.buffer.read(4), "little")
        sock = socket.fromshare(sys.stdin.buffer.read(size))  # type: ignore[attr-defined]  # only on Windows
    else:
        sock = socket.socket(fileno=int(sys.argv[1]))
    _settle()
    try:
        Worker(Channel(sock)).run()
    except ChannelClosed:
        os._exit(0)


if __name__ == "__main__":
    main()
