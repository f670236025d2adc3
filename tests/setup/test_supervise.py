"""The watcher starts a program again that died of itself, once, and otherwise does as a person tells it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.setup.conftest import ROOT

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of Unix")

WATCH = (
    "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1])\n"
    "from webui.setup.supervise import Supervisor\n"
    "sys.exit(Supervisor(Path(sys.argv[2]), Path(sys.executable)).run(sys.argv[3:]))\n"
)
NOTE = (
    "import os, sys, time, signal\n"
    "with open(sys.argv[1], 'a') as notes:\n"
    "    print(os.getpid(), os.environ.get('PATCHBAY_CRASHED', '-'), *sys.argv[2:], sep='|', file=notes)\n"
)


class Watched:
    """A watcher around a small program that notes each of its starts."""

    def __init__(self, folder: Path, program: str) -> None:
        self.notes = folder / "notes"
        (folder / "webui").mkdir()
        (folder / "webui" / "__main__.py").write_text(NOTE + program, encoding="utf-8")
        command = [sys.executable, "-c", WATCH, str(ROOT), str(folder), str(self.notes)]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)

    def starts(self, count: int = 0) -> list[list[str]]:
        """What the program noted, once it was started ``count`` times."""
        wait_for(lambda: self.notes.exists() and len(self.notes.read_text().splitlines()) >= count)
        return [line.split("|") for line in self.notes.read_text().splitlines()]

    def end(self) -> tuple[int, str]:
        _, said = self.process.communicate(timeout=20)
        return self.process.returncode, said


def wait_for(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return (
        Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z" if sys.platform == "linux" else True
    )


@pytest.mark.parametrize(("status", "shown"), [("os._exit(3)", "exit status 3"), ("os.abort()", "SIGABRT")])
def test_a_program_that_dies_of_itself_is_started_again_once(tmp_path: Path, status: str, shown: str) -> None:
    status_now, said = (watched := Watched(tmp_path, status)).end()
    first, second = watched.starts()
    assert first[1:] == ["-"]
    assert second[1:] == [shown, "--no-browser"]
    assert status_now != 0
    assert f"Patchbay ended unexpectedly ({shown}); starting it again." in said
    assert "Try: python start.py --no-extensions" in said


@pytest.mark.parametrize("status", [0, 2, 130])
def test_a_program_that_ends_on_purpose_is_not_started_again(tmp_path: Path, status: int) -> None:
    watched = Watched(tmp_path, f"sys.exit({status})")
    assert watched.end() == (status, "")
    assert len(watched.starts()) == 1


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_program_that_a_person_kills_stays_dead(tmp_path: Path, number: signal.Signals) -> None:
    watched = Watched(tmp_path, "time.sleep(60)")
    os.kill(int(watched.starts(1)[0][0]), number)
    assert watched.end() == (128 + number, "")
    assert len(watched.starts()) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_stop_of_the_watcher_reaches_the_program(tmp_path: Path, number: signal.Signals) -> None:
    watched = Watched(tmp_path, "signal.signal(signal.SIGTERM, lambda *_: sys.exit(0)); time.sleep(60)")
    ((program, *_),) = watched.starts(1)
    time.sleep(0.2)
    watched.process.send_signal(number)
    assert watched.end() == (0, "")
    assert not alive(int(program))


def test_a_killed_watcher_leaves_no_program_behind(tmp_path: Path) -> None:
    tie = (
        f"sys.path.insert(0, {str(ROOT)!r}); del sys.modules['webui']\n"
        "from webui.instance import end_with\n"
        "end_with(int(os.environ['PATCHBAY_WATCHER'])); open(sys.argv[1] + '.tied', 'w').close(); time.sleep(60)\n"
    )
    watched = Watched(tmp_path, tie)
    ((program, *_),) = watched.starts(1)
    wait_for((tmp_path / "notes.tied").exists)
    watched.process.kill()
    wait_for(lambda: not alive(int(program)))
    watched.process.communicate()
