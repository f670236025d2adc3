"""Does the web process grow? 1,000 page loads and 500 broken-off replies; the second half of them must cost nothing.

    python -m tests.bench.soak [loads] [replies]

Prints memory, threads, open files and workers before, between and after, and the growth of the second half as a ratio.
"""

from __future__ import annotations

import http.client
import re
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.runtime.serving import Program

_PAGE = re.compile(r'(?:src|href)="(/static/[^"]+)"')


@dataclass(frozen=True)
class Size:
    """What the program holds."""

    memory: float  # MB of its own
    threads: int
    files: int
    workers: int

    @classmethod
    def of(cls, program: Program) -> Size:
        process = psutil.Process(program.process.pid)
        memory = process.memory_full_info().uss / 1e6
        return cls(memory, process.num_threads(), process.num_fds(), len(process.children()))

    def __str__(self) -> str:
        return f"{self.memory:7.1f} MB   {self.threads:3} threads   {self.files:3} files   {self.workers} workers"


def load_pages(program: Program, chat: str, times: int) -> None:
    """What a browser asks for when the page is opened, over one connection each time."""
    for _ in range(times):
        connection = http.client.HTTPConnection("127.0.0.1", program.port, timeout=30)
        connection.request("GET", "/")
        page = connection.getresponse().read().decode()
        for path in [*_PAGE.findall(page)[:6], "/ui/state", f"/ui/chats/{chat}?limit=16", "/config"]:
            connection.request("GET", path)
            connection.getresponse().read()
        connection.close()


def break_off(program: Program, chat: str, times: int) -> None:
    """Replies with a viewer that goes away, stopped after some tokens."""
    for number in range(times):
        leaf = program.get(f"/ui/chats/{chat}?limit=1")["chat"]["leaf"]
        text = f"/tokens 2000 /speed 400 number {number}"
        reply = program.post(f"/ui/chats/{chat}/send", text=text, parent=leaf)["reply"]["id"]
        stream = program.follow(reply)
        stream.readline()
        time.sleep(0.02)
        stream.close()
        program.post(f"/ui/replies/{reply}/stop")
        while program.get(f"/ui/chats/{chat}?limit=1")["reply"]:
            time.sleep(0.01)


def main() -> None:
    """Run both halves and print what they cost."""
    loads, replies = (int(a) for a in (sys.argv[1:] + ["1000", "500"][len(sys.argv) - 1 :]))
    with tempfile.TemporaryDirectory() as folder:
        program = Program(Path(folder))
        try:
            while not program.get("/health")["panels"]:
                time.sleep(0.2)
            chats = [program.post("/ui/chats")["chat"]["id"] for _ in range(2)]
            load_pages(program, chats[0], 20)
            break_off(program, chats[0], 10)
            sizes = [Size.of(program)]
            print(f"warm         {sizes[0]}")
            for half in range(2):
                load_pages(program, chats[half], loads // 2)
                break_off(program, chats[half], replies // 2)
                time.sleep(2)
                sizes.append(Size.of(program))
                print(f"after half {half + 1} {sizes[-1]}")
            time.sleep(62)  # finished replies can be followed for a minute
            sizes.append(Size.of(program))
            print(f"a minute on  {sizes[-1]}")
            print(f"memory, second half to first: {sizes[2].memory / sizes[1].memory:.3f}")
        finally:
            program.end()


if __name__ == "__main__":
    main()
