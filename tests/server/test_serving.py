"""The program as a process: how it starts, what it binds, what it writes down, and how it ends."""

from __future__ import annotations

import http.client
import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.server.conftest import free_port
from webui.core.config import Config
from webui.core.errors import PatchbayError
from webui.server.hosts import listen

CANARY = "KEY-CANARY-5b1f9c02"


@dataclass
class Program:
    """A running Patchbay with a data folder of its own."""

    process: subprocess.Popen[str]
    port: int
    data: Path
    started: float
    output: list[str] = field(default_factory=list)
    key: str = ""

    def ask(self, path: str, method: str = "GET", value: Any = None, timeout: float = 30, **headers: str) -> Any:
        """The answer to one request: (status, headers, JSON or text)."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        sent = {name.replace("_", "-"): text for name, text in headers.items()}
        if self.key:
            sent.setdefault("Authorization", f"Bearer {self.key}")
        body = None
        if value is not None:
            body = json.dumps(value)
            sent.setdefault("Content-Type", "application/json")
        try:
            connection.request(method, path, body, sent)
            answer = connection.getresponse()
            text = answer.read().decode()
            kind = answer.headers.get("content-type", "")
            return answer.status, answer.headers, json.loads(text) if kind == "application/json" else text
        finally:
            connection.close()

    def wait_until_it_answers(self, seconds: float = 60) -> float:
        """How long after the start it answered, in seconds."""
        while time.monotonic() < self.started + seconds:
            try:
                if self.ask("/health", timeout=2)[0] == 200:
                    return time.monotonic() - self.started
            except OSError:
                assert self.process.poll() is None, "".join(self.output)
                time.sleep(0.02)
        raise AssertionError("it does not answer: " + "".join(self.output))

    def wait_for_panels(self, seconds: float = 90) -> None:
        end = time.monotonic() + seconds
        while not self.ask("/health")[2]["panels"]:
            assert time.monotonic() < end
            time.sleep(0.2)

    def end(self, sign: int = signal.SIGTERM) -> tuple[int, float]:
        """Its exit status and the seconds that it took to end."""
        began = time.monotonic()
        self.process.send_signal(sign)
        return self.process.wait(20), time.monotonic() - began

    def log(self) -> str:
        return "".join(p.read_text(errors="replace") for p in sorted((self.data / "logs").glob("patchbay.log*")))


@pytest.fixture
def start(tmp_path) -> Iterator[Callable[..., Program]]:
    """Start programs; none outlives its test."""
    running: list[Program] = []

    def begin(*options: str, key: str = "", environ: dict[str, str] | None = None) -> Program:
        data = tmp_path / "data"
        (tmp_path / "models").mkdir(exist_ok=True)
        port = free_port()
        words = [sys.executable, "-u", "-m", "webui", "--no-browser", "--data-dir", str(data), "--port", str(port)]
        words += ["--models-dir", str(tmp_path / "models"), *options]
        process = subprocess.Popen(
            words,
            cwd=Path(__file__).parents[2],
            env={**os.environ, **(environ or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        program = Program(process, port, data, time.monotonic(), key=key)

        def read() -> None:
            assert process.stdout is not None
            with process.stdout as lines:
                program.output.extend(lines)

        threading.Thread(target=read, daemon=True).start()
        running.append(program)
        return program

    yield begin
    for program in running:
        if program.process.poll() is None:
            for child in psutil.Process(program.process.pid).children(recursive=True):
                child.kill()
            program.process.kill()
        program.process.wait(10)


def chat_with_echo(program: Program, text: str) -> tuple[str, str]:
    """Ids of a chat and of a reply that has begun."""
    status, _, made = program.ask("/ui/chats", "POST", {"model": "echo"})
    assert status == 200, made
    chat = made["chat"]["id"]
    status, _, sent = program.ask(f"/ui/chats/{chat}/send", "POST", {"text": text, "parent": None})
    assert status == 200, sent
    return chat, sent["reply"]["id"]


def test_it_says_where_it_is_once_it_answers_and_binds_this_machine_only(start):
    everything = {"GRADIO_SERVER_NAME": "0.0.0.0", "GRADIO_SHARE": "True", "GRADIO_ALLOWED_PATHS": "/", "CI": "1"}
    program = start(environ=everything)
    assert program.wait_until_it_answers() < 30
    end = time.monotonic() + 10
    while not program.output and time.monotonic() < end:
        time.sleep(0.05)
    assert f"Patchbay is at http://127.0.0.1:{program.port}/" in program.output[0]
    program.wait_for_panels()
    connections = psutil.Process(program.process.pid).net_connections("inet")
    assert {c.laddr.ip for c in connections if c.status == "LISTEN"} <= {"127.0.0.1", "::1"}
    assert {c.raddr.ip for c in connections if c.raddr} <= {"127.0.0.1", "::1"}
    assert program.ask("/gradio_api/file=/etc/passwd")[0] in (403, 404)
    maps = Path(f"/proc/{program.process.pid}/maps")
    if maps.exists():
        loaded = maps.read_text()
        assert "libtorch" not in loaded
        assert "libllama" not in loaded
    assert psutil.Process(program.process.pid).memory_info().rss < 250e6
    assert "Traceback" not in "".join(program.output)


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_streams_with_an_event_and_leaves_no_process(start, sign):
    program = start()
    program.wait_until_it_answers()
    _, reply = chat_with_echo(program, "word " * 4000)
    connection = http.client.HTTPConnection("127.0.0.1", program.port, timeout=30)
    connection.request("GET", f"/ui/replies/{reply}/follow?number=0")
    stream = connection.getresponse()
    assert stream.status == 200
    assert b"data:" in stream.read1(4096)
    children = psutil.Process(program.process.pid).children(recursive=True)
    rest: list[bytes] = []
    reader = threading.Thread(target=lambda: rest.append(stream.read()), daemon=True)
    reader.start()
    status, took = program.end(sign)
    assert status == 0
    assert took <= 5.5
    reader.join(5)
    assert b'"e"' in b"".join(rest), "the stream was cut instead of ended"
    connection.close()
    _, alive = psutil.wait_procs(children, timeout=2)
    assert not alive


def test_a_port_that_was_asked_for_and_is_busy_is_one_line(start):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        program = start("--port", str(taken.getsockname()[1]))
        assert program.process.wait(60) == 2
    time.sleep(0.2)
    assert len(program.output) == 1
    assert str(taken) not in program.output[0]
    assert "port" in program.output[0].lower()


def test_the_next_free_port_is_taken_when_none_was_asked_for():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        sockets, found = listen(Config(port=port))
        for opened in sockets:
            opened.close()
        assert port < found <= port + 50
        with pytest.raises(PatchbayError, match=f"Port {port} is in use"):
            listen(Config(port=port, given=frozenset({"port"})))


def test_an_address_that_is_not_of_this_machine_is_named():
    with pytest.raises(PatchbayError, match=r"192\.0\.2\.1"):
        listen(Config(host="192.0.2.1", listen=True, port=free_port()))


def test_listening_without_a_key_makes_one_and_prints_a_link_that_signs_in(start):
    program = start("--listen")
    program.wait_until_it_answers()
    key = (program.data / "api-key").read_text().strip()
    assert len(key) >= 43
    assert (program.data / "api-key").stat().st_mode & 0o077 == 0
    assert program.ask("/ui/state")[0] == 401
    end = time.monotonic() + 10
    while "login?once=" not in "".join(program.output) and time.monotonic() < end:
        time.sleep(0.05)
    said = "".join(program.output)
    assert said.count(key) == 1
    link = re.search(r"/login\?once=[\w-]+", said)
    assert link
    assert program.ask(link.group())[0] == 200
    assert program.ask(link.group())[0] == 401
    program.key = key
    assert program.ask("/ui/state")[0] == 200
    program.end()
    again = start("--listen")
    again.wait_until_it_answers()
    time.sleep(0.5)
    assert key not in "".join(again.output)
    assert key not in program.log() + "".join(Path(f"/proc/{again.process.pid}/cmdline").read_text())


def test_keys_and_questions_are_in_no_log(start):
    program = start("--api-key", "the-real-key-of-this-program")
    program.wait_until_it_answers()
    program.ask("/ui/state", Authorization=f"Bearer {CANARY}")
    program.ask(f"/ui/state?key={CANARY}")
    program.ask("/login", "POST", {"key": CANARY})
    program.ask("/ui/chats", "POST", {"model": CANARY}, Authorization=f"Bearer {CANARY}")
    program.ask("/ui/search?q=" + CANARY, Authorization="Bearer the-real-key-of-this-program")
    program.end()
    said = "".join(program.output) + program.log()
    assert CANARY not in said
    assert "the-real-key" not in said
    assert " /ui/state 401 " in said


def test_control_characters_are_written_out_in_the_log(start):
    program = start()
    program.wait_until_it_answers()
    with socket.create_connection(("127.0.0.1", program.port)) as connection:
        host = f"127.0.0.1:{program.port}"
        connection.sendall(
            f"GET /%1b]0;x%07%0d%0a2026-01-01%20forged HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()
        )
        assert b" 400 " in connection.recv(4096)
    with socket.create_connection(("127.0.0.1", program.port)) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: \x1b]0;x\x07\r\n\r\n")
        connection.recv(4096)
    program.end()
    log = program.log()
    assert "\\x1b]0;x\\x07\\r\\n2026-01-01 forged" in log
    assert "\x1b" not in log
    assert not any(line.startswith("2026-01-01 forged") for line in log.splitlines())
    assert "\x1b" not in "".join(program.output)


@pytest.mark.slow
def test_a_thousand_half_requests_neither_starve_others_nor_stay(start):
    program = start()
    program.wait_until_it_answers()
    program.wait_for_panels()
    host = f"Host: 127.0.0.1:{program.port}\r\n"
    heads = [
        "GET / HTTP/1.1\r\nHo",
        "",
        f"POST /ui/chats HTTP/1.1\r\n{host}Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{{",
        f"POST /ui/chats HTTP/1.1\r\n{host}Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n",
    ]
    began = time.monotonic()
    held = []
    for number in range(1100):
        connection = socket.create_connection(("127.0.0.1", program.port), timeout=10)
        # most are stuck in the header; as many in the body as would be in the way of others
        connection.sendall(heads[number % 2 if number % 20 else 2 + number // 20 % 2].encode())
        connection.setblocking(False)
        held.append(connection)
    for _ in range(5):
        asked = time.monotonic()
        assert program.ask("/health", timeout=5)[0] == 200
        assert time.monotonic() - asked <= 1
    left = dict(enumerate(held))
    while left and time.monotonic() - began < 31:
        poll = select.poll()
        by_handle = {c.fileno(): n for n, c in left.items()}
        for connection in left.values():
            poll.register(connection, select.POLLIN | select.POLLHUP | select.POLLERR)
        for handle, _ in poll.poll(500):
            number = by_handle[handle]
            try:
                if not left[number].recv(65536):
                    left.pop(number).close()
            except OSError:
                left.pop(number).close()
    assert not left, f"{len(left)} connections are still open"
    assert "Too many open files" not in program.log() + "".join(program.output)
    assert program.ask("/health")[0] == 200


def test_the_page_answers_while_gradio_is_imported(start):
    program = start()
    program.wait_until_it_answers()
    assert program.ask("/")[0] == 200
    slowest = 0.0
    while not program.ask("/health")[2]["panels"]:
        asked = time.monotonic()
        assert program.ask("/ui/state")[0] == 200
        slowest = max(slowest, time.monotonic() - asked)
        status, headers, _ = program.ask("/config")
        assert status == 200 or (status, headers["retry-after"]) == (503, "1")
        time.sleep(0.05)
    assert slowest < 3


@pytest.mark.soak
def test_a_thousand_reloads_and_five_hundred_cut_replies_leave_nothing_behind(start):
    program = start()
    program.wait_until_it_answers()
    program.wait_for_panels()
    process = psutil.Process(program.process.pid)
    _, reply = chat_with_echo(program, "word " * 2000)

    def reload(times: int) -> None:
        for _ in range(times):
            for path in ("/", "/ui/state", "/ui/chats", "/static/js/main.js", "/config"):
                assert program.ask(path)[0] == 200

    def cut(times: int) -> None:
        for _ in range(times):
            connection = http.client.HTTPConnection("127.0.0.1", program.port, timeout=10)
            connection.request("GET", f"/ui/replies/{reply}/follow?number=0")
            connection.getresponse().read1(10)
            connection.close()

    def measure() -> tuple[float, int, int, int]:
        time.sleep(2)
        memory = process.memory_info().rss / 1e6
        return memory, process.num_threads(), process.num_fds(), len(process.children(recursive=True))

    reload(100)
    cut(50)
    before = measure()
    reload(900)
    cut(450)
    after = measure()
    assert after[0] - before[0] < 12, (before, after)
    assert after[1] <= before[1] + 2
    assert after[2] <= before[2] + 2
    assert after[3] <= before[3]
