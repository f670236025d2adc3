"""The watcher: runs the program as a child and starts it again, once, when it dies of itself."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import FrameType

ON_PURPOSE = {0, 2, 130} | {-s for s in (signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGKILL", 9))}
CALM = 60.0  # seconds that the program must have run before it is started again


class Supervisor:
    """Runs one program. A person's stop is passed on; a crash is answered with one new start."""

    def __init__(self, root: Path, python: Path) -> None:
        self.root = root
        self.python = python
        self.stopping = False
        self.child: subprocess.Popen[bytes] | None = None

    def run(self, arguments: list[str]) -> int:
        """Run ``python -m webui`` with the arguments until it ends for good; its exit status."""
        for name in ("SIGTERM", "SIGHUP", "SIGINT"):
            if hasattr(signal, name):
                signal.signal(getattr(signal, name), self._pass_on)
        reason = ""
        restarted = -CALM
        while True:
            status = self._run_once(arguments, reason)
            if self.stopping or status in ON_PURPOSE:
                return 128 - status if status < 0 else status
            reason = _words(status)
            if time.monotonic() - restarted < CALM:
                print(f"Patchbay ended again ({reason}). Try: python start.py --no-extensions", file=sys.stderr)
                return 128 - status if status < 0 else status
            print(f"Patchbay ended unexpectedly ({reason}); starting it again.", file=sys.stderr, flush=True)
            restarted = time.monotonic()

    def _run_once(self, arguments: list[str], crashed: str) -> int:
        surroundings = self.surroundings()
        surroundings["PATCHBAY_WATCHER"] = str(os.getpid())
        if crashed:
            surroundings["PATCHBAY_CRASHED"] = crashed
            arguments = [*arguments, "--no-browser"]  # the page that is open already finds the program again
        self.child = subprocess.Popen([str(self.python), "-m", "webui", *arguments], env=surroundings)
        return self.child.wait()

    def hand_over(self, program: list[str]) -> int:
        """Become another program of the environment (on Windows: run it and wait)."""
        command = [str(self.python), *program]
        if sys.platform == "win32":
            return subprocess.call(command, env=self.surroundings())
        sys.stdout.flush()
        os.execve(self.python, command, self.surroundings())  # noqa: S606  # our own Python, no shell

    def surroundings(self) -> dict[str, str]:
        """The environment variables under which the program finds its own modules, and no stray ones."""
        found = {k: v for k, v in os.environ.items() if k != "PYTHONHOME"}
        return found | {"PYTHONPATH": str(self.root), "PYTHONSAFEPATH": "1"}

    def _pass_on(self, number: int, _: FrameType | None) -> None:
        self.stopping = True
        if self.child is None:
            return
        if (
            number == signal.SIGINT
        ):  # Ctrl+C reaches the child by the terminal too; a kill of this process alone does not
            patience = threading.Timer(1.0, self.child.terminate)
            patience.daemon = True
            patience.start()
        else:
            self.child.terminate()


def _words(status: int) -> str:
    if status >= 0:
        return f"exit status {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"signal {-status}"
