"""Code that somebody else wrote, such as a chat template: run for a while at most, with some memory at most."""

from __future__ import annotations

import contextlib
import ctypes
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

if sys.platform != "win32":
    import resource

T = TypeVar("T")


class _Ended(BaseException):
    """Raised inside the code when its time is up; no ``except Exception`` holds it."""


def bounded(function: Callable[[], T], *, seconds: float, memory: int) -> T:
    """What the function returns or raises. Raises TimeoutError when it takes longer.

    It runs in a thread of its own. Beyond ``memory`` bytes more than are in use now it meets a MemoryError; on Linux,
    elsewhere nothing bounds it. A call that does not come back from C ends the wait, but goes on.
    """
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(function())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, name="bounded", daemon=True)
    with _limited(memory):
        thread.start()
        thread.join(seconds)
        if thread.is_alive():
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(_Ended))
            thread.join(seconds)
    if errors and not isinstance(errors[0], _Ended):
        raise errors[0]
    if results:
        return results[0]
    raise TimeoutError(f"It takes longer than {seconds:g} seconds.")


@contextlib.contextmanager
def _limited(memory: int) -> Iterator[None]:
    if sys.platform != "linux":
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + memory
    for bound in (soft, hard):
        if bound != resource.RLIM_INFINITY:
            limit = min(limit, bound)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
