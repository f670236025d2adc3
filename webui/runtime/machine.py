"""What this process may use of the machine: memory and cores."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import psutil

TINY = 30_000_000  # parameters


def free_memory() -> int:
    """Bytes that this process can still take: of the machine, of its container, and of its own limit."""
    free = [psutil.virtual_memory().available, _container_free()]
    if sys.platform != "win32":
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        if limit != resource.RLIM_INFINITY:
            free.append(limit - psutil.Process().memory_info().vms)
    return max(0, min(free))


def _container_free() -> int:
    try:
        folder = Path("/sys/fs/cgroup")
        limit = (folder / "memory.max").read_text().strip()
        if limit == "max":
            return 1 << 62
        used = int((folder / "memory.current").read_text())
        cached = next((int(line.split()[1]) for line in (folder / "memory.stat").open() if line.startswith("file ")), 0)
        return int(limit) - used + cached
    except (OSError, ValueError, IndexError):
        return 1 << 62


def shown(size: int) -> str:
    """A number of bytes for people."""
    return f"{size / (1 << 30):,.1f} GiB" if size >= 1 << 30 else f"{size / (1 << 20):,.0f} MiB"


def thread_count(wanted: int, parameters: int) -> int:
    """Threads to compute with: ``wanted``, or the physical cores that this process may use.

    From four cores on one is left over, because a thread that loses its core holds up all the others. A tiny model gets
    one: its threads would wait for each other longer than they compute.
    """
    if wanted:
        return wanted
    if parameters < TINY:
        return 1
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    physical = min(psutil.cpu_count(logical=False) or allowed, allowed)
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        physical = min(physical, max(1, int(quota) // int(period)))
    except (OSError, ValueError):
        pass
    return physical - 1 if physical >= 4 else physical
