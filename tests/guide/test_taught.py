"""The guide knows the program as it is: whoever changes a setting or the README is told to teach it again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from models.guide import seeds, taught

ROOT = Path(__file__).resolve().parents[2]


def test_settings_and_readme_are_as_the_guide_was_taught() -> None:
    assert taught.changes() == []


def test_a_changed_setting_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    now = taught.fingerprints()
    now["settings"]["min_p"] = "another"
    now["README"]["A new part"] = "text"
    monkeypatch.setattr(taught, "fingerprints", lambda: now)
    said = taught.changes()
    assert any("'min_p' has changed" in line for line in said)
    assert any("'A new part' is new" in line and "build.py --again" in line for line in said)


def test_every_setting_has_an_answer_that_names_it() -> None:
    answers = {intent.name: intent.answers[0] for intent in seeds.intents()}
    missing = [name for name in taught.fingerprints()["settings"] if name not in answers]
    assert not missing


def test_the_check_runs_from_the_command_line() -> None:
    done = subprocess.run(
        [sys.executable, "models/guide/build.py", "--check"], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "as they are" in done.stdout
