"""Groups of packages get into the environment, and what cannot is said; nothing is done twice."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.setup.conftest import ROOT, installer
from webui.setup.environment import Environment, SetupFailed
from webui.setup.sections import Section, Way

CORE = Section("core", "the page", "a second")
SPEECH = Section("speech", "speech", "a second", loader="Speech", check="import speech.part7; print('speaks')")
ENGINE = Section(
    "engine", "an engine", "a second", loader="Engine", main="engine", check="import engine; print(engine.FLAGS)",
    ways=lambda: [Way("built here", build=True, flags="-DFAST=ON")],
)  # fmt: skip


def pip_calls(root: Path) -> list[str]:
    log = root / ".venv" / "setup.log"
    lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
    return [line.split(" pip ", 1)[1] for line in lines if line[:2] == "20" and " pip " in line]


def test_what_stands_is_not_touched_again(checkout: Path) -> None:
    assert installer(checkout).install([CORE, SPEECH]) == []
    before = pip_calls(checkout)
    assert installer(checkout).pending([CORE, SPEECH]) == []
    assert installer(checkout).record.sections["speech"]["said"] == "speaks"
    assert pip_calls(checkout) == before


def test_a_changed_lock_updates_only_the_section_that_changed(checkout: Path) -> None:
    installer(checkout).install([CORE, SPEECH])
    lock = checkout / "requirements.lock"
    lock.write_text(lock.read_text(encoding="utf-8").replace("page==1.0", "page==2.0"), encoding="utf-8")
    count = len(pip_calls(checkout))
    pending = installer(checkout).pending([CORE, SPEECH])
    assert [section.name for section in pending] == ["core"]
    installer(checkout).install(pending)
    assert Environment(checkout).ask("import page; print(page.VERSION)") == (True, "2.0")
    assert len(pip_calls(checkout)) == count + 1


def test_a_comment_in_the_lock_changes_nothing(checkout: Path) -> None:
    installer(checkout).install([CORE])
    lock = checkout / "requirements.lock"
    lock.write_text("# a word\n" + lock.read_text(encoding="utf-8"), encoding="utf-8")
    assert installer(checkout).pending([CORE]) == []


def test_a_loader_that_cannot_be_installed_is_named_and_the_rest_is_there(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = checkout / "requirements.lock"
    good = lock.read_text(encoding="utf-8")
    lock.write_text(good.replace("speech==1.0", "speech==9.9"), encoding="utf-8")
    (trouble,) = installer(checkout).install([SPEECH, CORE])
    assert trouble.startswith("The Speech loader is missing: No matching distribution found for speech==9.9")
    assert installer(checkout).pending([SPEECH, CORE]) == []
    assert installer(checkout).record.sections["speech"]["state"] == "failed"
    assert installer(checkout).pending([SPEECH, CORE], again=True) == [SPEECH]


def test_a_required_part_that_cannot_be_installed_ends_the_set_up(checkout: Path) -> None:
    lock = checkout / "requirements.lock"
    lock.write_text(lock.read_text(encoding="utf-8").replace("page==1.0", "page==9.9"), encoding="utf-8")
    with pytest.raises(SetupFailed, match=r"the page: No matching distribution found for page==9\.9"):
        installer(checkout).install([CORE])
    assert installer(checkout).pending([CORE]) == [CORE]


def test_a_loader_is_tried_again_when_what_it_waited_for_is_there(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none() -> list[Way]:
        raise SetupFailed("there is no compiler.", until="compiler")

    for name in ("CC", "CXX"):
        monkeypatch.delenv(name, raising=False)
    section = Section("speech", "speech", "a second", loader="Speech", ways=none)
    path = os.environ["PATH"]
    monkeypatch.setenv("PATH", str(checkout))
    assert installer(checkout).install([section]) == ["The Speech loader is missing: there is no compiler."]
    assert installer(checkout).pending([section]) == []
    tools = checkout / "tools"
    tools.mkdir()
    for name in ("cc", "c++"):
        (tools / name).write_text("#!/bin/sh\n")
        (tools / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{path}")
    assert installer(checkout).pending([section]) == [section]


def test_what_installs_and_does_not_work_gives_way_to_the_next(checkout: Path) -> None:
    ways = [Way("from nowhere", ("/nonexistent/speech.whl",)), Way("from here")]
    section = Section("speech", "speech", "a second", loader="Speech", main="speech", ways=lambda: ways)
    assert installer(checkout).install([section]) == []
    assert installer(checkout).record.sections["speech"]["how"] == "from here"
    broken = Section("speech", "speech", "a second", loader="Speech", check="raise SystemExit('no such card')")
    (checkout / ".venv" / "patchbay.json").unlink()
    (trouble,) = installer(checkout).install([broken])
    assert "does not work here: no such card" in trouble


def test_what_does_not_fit_the_machine_is_left_out_with_its_reason(checkout: Path) -> None:
    section = Section("speech", "speech", "a second", loader="Speech", leave_out=lambda: "no ears")
    assert installer(checkout).install([section]) == []
    assert installer(checkout).record.sections["speech"]["reason"] == "no ears"
    assert pip_calls(checkout) == []
    assert installer(checkout).pending([section]) == []


def test_an_engine_is_built_once_for_a_machine(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1")
    monkeypatch.setenv("CMAKE_ARGS", "-DMINE=1")
    assert installer(checkout).install([ENGINE]) == []
    assert installer(checkout).record.sections["engine"]["said"] == "['-DFAST=ON -DMINE=1', False]"
    environment = Environment(checkout)
    assert environment.ask(
        "import subprocess, sys; subprocess.run([sys.executable, '-m', 'pip', 'uninstall', '-y', 'engine'])"
    )[0]
    (checkout / ".venv" / "patchbay.json").unlink()
    assert installer(checkout).install([ENGINE]) == []
    assert sum(call.startswith("wheel") for call in pip_calls(checkout)) == 1
    monkeypatch.setenv("CMAKE_ARGS", "-DMINE=2")
    (checkout / ".venv" / "patchbay.json").unlink()
    installer(checkout).install([ENGINE])
    assert sum(call.startswith("wheel") for call in pip_calls(checkout)) == 2


def test_half_of_a_package_is_not_taken_for_the_whole(checkout: Path) -> None:
    installer(checkout).install([CORE])
    (packages,) = (checkout / ".venv" / "lib").glob("python*/site-packages")
    (packages / "page-1.0.dist-info" / "RECORD").unlink()
    (packages / "page.py").write_text("half")
    (packages / "~age").mkdir()
    (checkout / ".venv" / "patchbay.json").unlink()
    installer(checkout).install([CORE])
    assert Environment(checkout).ask("import page; print(page.VERSION)") == (True, "1.0")
    assert not (packages / "~age").exists()


@pytest.mark.slow
def test_killed_at_any_moment_it_continues(checkout: Path) -> None:
    """kill -9 at random moments of the set-up; then a run to the end finds every file of every package."""
    code = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1])\n"
        "from tests.setup.test_sections import CORE, SPEECH, installer\n"
        "root = Path(sys.argv[2]); i = installer(root)\n"
        "with i.environment.alone():\n"
        "    i.environment.make(); i = installer(root); i.install(i.pending([CORE, SPEECH]))\n"
    )
    chance = random.Random(7)
    command = [sys.executable, "-c", code, str(ROOT), str(checkout)]
    for _ in range(4):
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        time.sleep(chance.uniform(0.3, 3.0))
        child.kill()
        child.wait()
    assert subprocess.run(command, capture_output=True, timeout=120).returncode == 0
    assert installer(checkout).pending([CORE, SPEECH]) == []
    whole = "import importlib as i; print(sum(i.import_module(f'speech.part{n}').NUMBER for n in range(1500)))"
    assert Environment(checkout).ask(whole) == (True, str(sum(range(1500))))


def test_an_environment_whose_python_is_gone_is_made_again(checkout: Path) -> None:
    installer(checkout).install([CORE])
    environment = Environment(checkout)
    environment.python.unlink()
    environment.python.symlink_to("/nonexistent/python3")
    environment.make()
    assert environment.ask("print(1)") == (True, "1")
    assert installer(checkout).pending([CORE]) == [CORE]


def test_a_second_start_waits_for_the_first_to_install(checkout: Path) -> None:
    code = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1])\n"
        "from webui.setup.environment import Environment\n"
        "with Environment(Path(sys.argv[2])).alone(): print('mine', flush=True)\n"
    )
    with Environment(checkout).alone():
        command = [sys.executable, "-c", code, str(ROOT), str(checkout)]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        assert child.stdout.readline() == "Another start is installing already; waiting for it.\n"
    assert child.communicate(timeout=20)[0] == "mine\n"
