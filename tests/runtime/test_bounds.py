"""Code that somebody else wrote cannot take more time and memory than it is given."""

from __future__ import annotations

import sys
import threading
import time

import pytest

from webui.runtime.bounds import bounded

if sys.platform != "win32":
    import resource


def test_what_is_quick_returns_and_raises_as_it_would_anyway() -> None:
    assert bounded(lambda: 7, seconds=5, memory=1 << 30) == 7
    with pytest.raises(ZeroDivisionError):
        bounded(lambda: 1 // 0, seconds=5, memory=1 << 30)


def test_what_never_ends_is_ended_and_its_thread_is_gone() -> None:
    def forever() -> None:
        while True:
            try:
                sum(range(100))
            except Exception:
                pass

    began = time.monotonic()
    with pytest.raises(TimeoutError):
        bounded(forever, seconds=0.3, memory=1 << 30)
    assert time.monotonic() - began < 3
    assert not [t for t in threading.enumerate() if t.name == "bounded"]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux bounds a process's memory")
def test_memory_beyond_the_bound_is_refused_and_the_bound_is_lifted_again() -> None:
    before = resource.getrlimit(resource.RLIMIT_AS)
    with pytest.raises(MemoryError):
        bounded(lambda: bytearray(4 << 30), seconds=5, memory=1 << 30)
    assert resource.getrlimit(resource.RLIMIT_AS) == before
    assert len(bytearray(1 << 20)) == 1 << 20
