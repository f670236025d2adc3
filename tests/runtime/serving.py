"""The whole program as a child process, for tests that kill it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


def free_port() -> int:
    """A port that nobody uses now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


class Program:
    """``python -m webui`` on a data folder, with requests to it."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        command = [
            sys.executable,
            "-m",
            "webui",
            "--data-dir",
            str(folder / "data"),
            "--models-dir",
            str(folder / "models"),
        ]
        command += ["--port", str(self.port), "--no-browser", "--model", "echo", *options]
        (folder / "models").mkdir(exist_ok=True)
        self.log = folder / "program.log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        self._wait()

    def _wait(self) -> None:
        end = time.monotonic() + 30
        while time.monotonic() < end:
            if self.process.poll() is not None:
                break
            try:
                self.get("/health")
                return
            except OSError:
                time.sleep(0.05)
        raise AssertionError(self.log.read_text("utf-8", "replace")[-2000:])

    def request(self, path: str, body: Any = None, method: str | None = None) -> Any:
        """The JSON answer to a request."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"}, method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def get(self, path: str) -> Any:
        """The JSON answer to a GET."""
        return self.request(path)

    def post(self, path: str, **body: Any) -> Any:
        """The JSON answer to a POST."""
        return self.request(path, body)

    def follow(self, reply: str) -> Any:
        """The open event stream of a reply."""
        return urllib.request.urlopen(f"{self.url}/ui/replies/{reply}/follow?number=0", timeout=30)

    def kill(self) -> None:
        """As a power cut would."""
        self.process.kill()
        self.process.wait()

    def end(self) -> int:
        """As a person would."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(15)
        finally:
            self.kill()

    def children(self) -> list[int]:
        """The process ids of its workers."""
        task = Path(f"/proc/{self.process.pid}/task")
        found = [p.read_text().split() for p in task.glob("*/children")]
        return [int(pid) for part in found for pid in part]


def gone(pid: int, seconds: float = 5.0) -> bool:
    """Whether a process ends within some seconds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
            return True
        time.sleep(0.05)
    return False
