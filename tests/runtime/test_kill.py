"""Kill the program, kill the worker, at random: every chat opens, nothing older than a second is missing."""

from __future__ import annotations

import json
import os
import random
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.runtime.serving import Program, gone
from webui.runtime.stores import ChatStore


class Watcher(threading.Thread):
    """Follows a reply as a page does and notes how many tokens it had seen when."""

    def __init__(self, program: Program, reply: str) -> None:
        super().__init__(daemon=True)
        self.seen: list[tuple[float, int]] = [(0.0, 0)]
        self.end: dict[str, Any] | None = None
        self._stream = program.follow(reply)

    def run(self) -> None:
        try:
            for line in self._stream:
                if line.startswith(b"data:"):
                    data = json.loads(line[5:])
                    if "t" in data:
                        self.seen.append((time.monotonic(), data["t"]))
                    if "e" in data:
                        self.end = data["e"]
        except OSError:
            pass  # the program was killed

    def tokens(self, before: float) -> int:
        """How many tokens had been seen before a moment."""
        return max((n for at, n in self.seen if at <= before), default=0)


def kill_the_program(tmp_path: Path, rounds: int) -> None:
    chats: dict[str, list[tuple[str, int]]] = {}
    for number in range(rounds):
        program = Program(tmp_path)
        workers: list[int] = []
        try:
            if chats and random.random() < 0.5:
                chat = random.choice(list(chats))
            else:
                chat = program.post("/ui/chats")["chat"]["id"]
            opened = program.get(f"/ui/chats/{chat}")
            sent = program.post(
                f"/ui/chats/{chat}/send", text=f"/tokens 4000 /speed 200 round {number}", parent=opened["chat"]["leaf"]
            )
            watcher = Watcher(program, sent["reply"]["id"])
            watcher.start()
            time.sleep(random.uniform(0.3, 2.2))
            workers = program.children()
        finally:
            killed = time.monotonic()
            program.kill()
        watcher.join(5)
        chats.setdefault(chat, []).append((sent["reply"]["id"], watcher.tokens(killed - 1.0)))
        assert all(gone(pid) for pid in workers), "a worker outlived the program"
        check(tmp_path, chats)
    program = Program(tmp_path)
    listed = {c["id"] for c in program.get("/ui/chats?limit=200")["chats"]}
    assert listed == set(chats)
    assert program.end() == 0


def check(tmp_path: Path, chats: dict[str, list[tuple[str, int]]]) -> None:
    store = ChatStore(tmp_path / "data")
    try:
        store.recover()
        assert not store.notices
        for chat, replies in chats.items():
            path = store.open(chat).path()
            assert [m.role for m in path] == ["user", "assistant"] * len(replies)
            assert len({m.id for m in path}) == len(path)
            for message, (reply, tokens) in zip(path[1::2], replies, strict=True):
                assert message.id == reply and message.status == "interrupted"
                assert message.details.get("tokens", 0) >= tokens, "more than a second is missing"
    finally:
        store.close()


def test_a_killed_program_loses_nothing_older_than_a_second(tmp_path: Path) -> None:
    kill_the_program(tmp_path, 4)


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_a_program_killed_a_hundred_times_loses_nothing(tmp_path: Path) -> None:
    kill_the_program(tmp_path, 100)


def kill_the_worker(tmp_path: Path, rounds: int) -> None:
    program = Program(tmp_path)
    try:
        chat = program.post("/ui/chats")["chat"]["id"]
        for number in range(rounds):
            leaf = program.get(f"/ui/chats/{chat}?limit=4")["chat"]["leaf"]
            text = f"/tokens 4000 /speed 200 round {number}"
            sent = program.post(f"/ui/chats/{chat}/send", text=text, parent=leaf)
            watcher = Watcher(program, sent["reply"]["id"])
            watcher.start()
            while watcher.tokens(time.monotonic()) < 2 and watcher.is_alive():
                time.sleep(0.02)
            time.sleep(random.uniform(0, 0.4))
            for pid in program.children():
                os.kill(pid, random.choice([signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT]))
            watcher.join(10)
            assert watcher.end is not None and watcher.end["status"] == "failed"
            assert "signal" in watcher.end["error"]
            assert program.get("/health")["status"] == "ok"
            program.post("/ui/models/load", model="echo")  # asked for by a person, it starts however often it crashed
        path = program.get(f"/ui/chats/{chat}?limit=500")["messages"]
        assert [m["role"] for m in path] == ["user", "assistant"] * rounds
        assert program.end() == 0
    finally:
        program.kill()


def test_a_killed_worker_is_a_sentence_in_the_chat(tmp_path: Path) -> None:
    kill_the_worker(tmp_path, 3)


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_a_worker_killed_a_hundred_times_never_takes_the_program_along(tmp_path: Path) -> None:
    kill_the_worker(tmp_path, 100)


def test_ending_while_writing_is_quick_and_leaves_no_worker(tmp_path: Path) -> None:
    program = Program(tmp_path)
    chat = program.post("/ui/chats")["chat"]["id"]
    sent = program.post(f"/ui/chats/{chat}/send", text="/tokens 4000 /speed 200 x", parent="")
    watcher = Watcher(program, sent["reply"]["id"])
    watcher.start()
    while watcher.tokens(time.monotonic()) < 2:
        time.sleep(0.02)
    workers = program.children()
    began = time.monotonic()
    assert program.end() == 0
    assert time.monotonic() - began < 5
    assert all(gone(pid) for pid in workers)
    watcher.join(5)
    assert watcher.end is not None and watcher.end["status"] == "interrupted"
