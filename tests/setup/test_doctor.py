"""The doctor looks at everything, judges what can be judged, and is read by people and by programs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.setup.conftest import ROOT
from webui import doctor
from webui.core.config import Config
from webui.setup.record import Record


def run(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "webui", "doctor", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)


@pytest.mark.slow
def test_it_says_what_works_here_for_people_and_for_programs(tmp_path: Path) -> None:
    done = run("--json", "--data-dir", str(tmp_path / "new"))
    assert done.returncode == 0, done.stdout + done.stderr
    found = {(f["group"], f["name"]): f for f in json.loads(done.stdout)}
    for item in (("Program", "Python"), ("Machine", "processor"), ("Machine", "memory"), ("Graphics", "card")):
        assert found[item]["text"]
    assert found["Folders", "data"]["works"] is True
    assert found["Packages", "versions"]["works"] is True, found["Packages", "versions"]["text"]
    assert not (tmp_path / "new").exists()  # it looks, and touches nothing


def entry(path: Path, **facts: str) -> None:
    Record(path / ".venv" / "patchbay.json").enter("speech", lines="", title="Speech", **facts)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A checkout whose environment is the one the tests run in, with a record of its own."""
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    starter = tmp_path / ".venv" / "bin" / "python"
    starter.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    starter.chmod(0o755)
    return tmp_path


def test_an_engine_is_asked_in_a_process_of_its_own(root: Path) -> None:
    entry(root, state="installed", how="built here", check="import os; print('1.0')")
    (found,) = doctor.loaders(root)
    assert (found.name, found.works) == ("Speech", True)
    assert found.text == "1.0 (built here)"
    entry(root, state="installed", how="", check="import os; os.abort()")
    (found,) = doctor.loaders(root)
    assert (found.works, found.text) == (False, "ended by signal 6")


def test_an_engine_that_does_not_import_shows_its_own_reason(root: Path) -> None:
    entry(root, state="installed", check="raise ImportError('libcuda.so.1 is missing')")
    (found,) = doctor.loaders(root)
    assert found.text == "ImportError: libcuda.so.1 is missing"


def test_what_was_not_installed_shows_why_and_the_cure(root: Path) -> None:
    entry(root, state="failed", reason="there is no compiler", check="")
    (found,) = doctor.loaders(root)
    assert (found.works, found.text, found.cure) == (
        False,
        "there is no compiler",
        "Try again with: python start.py setup",
    )


def test_an_engine_built_without_what_the_processor_has_is_named() -> None:
    cpu = "flags : fpu avx2 sse"
    assert doctor.left_out("1.0 with SSE3", cpu) == ["AVX2"]
    assert doctor.left_out("1.0 with SSE3 AVX2", cpu) == []
    assert doctor.left_out("1.0", cpu) == []  # it does not say


def test_models_are_listed(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for name in ("a.gguf", "folder/config.json", "notes.txt"):
        (tmp_path / name).write_text("")
    (found,) = doctor.models(tmp_path)
    assert found.text == f"2 in {tmp_path}: a.gguf, folder"


def test_a_broken_config_file_is_a_finding_and_not_the_end(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("prot: 1\n")
    findings = doctor.examine(["--data-dir", str(tmp_path)])
    first = next(findings)
    assert (first.name, first.works) == ("options", False)
    assert "Did you mean port" in first.cure
    assert next(findings).name == "Patchbay"


def test_the_report_marks_what_works_and_what_does_not() -> None:
    text = doctor.report(
        [doctor.Finding("A", "one", "fine", True), doctor.Finding("A", "two", "not fine", False, "Do this.")]
    )
    assert text == "A\n  ok  one  fine\n  NO  two  not fine\n           Do this."


def test_a_data_folder_that_is_full_or_closed_is_no_place(tmp_path: Path) -> None:
    (found,) = doctor.data_folder(Config(data_dir=str(tmp_path / "new")))
    assert found.works is True
    assert "made at the first start" in found.text
