"""The source is clean for the linter, the formatter and the type checker, so that they need no run of their own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def is_clean(*words: str) -> None:
    done = subprocess.run([sys.executable, "-m", *words], cwd=ROOT, capture_output=True, text=True, timeout=900)
    if done.returncode:
        pytest.fail(done.stdout + done.stderr, pytrace=False)


def test_the_linter_finds_nothing() -> None:
    is_clean("ruff", "check", "--no-cache", "--output-format", "concise", ".")


def test_the_formatter_would_change_nothing() -> None:
    is_clean("ruff", "format", "--no-cache", "--check", ".")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_type_checker_finds_nothing() -> None:
    is_clean("mypy", "--no-color-output")
