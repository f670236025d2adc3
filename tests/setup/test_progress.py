"""What pip and the compiler say becomes one line that a person can follow."""

from __future__ import annotations

import pytest

from webui.setup.environment import _reason
from webui.setup.progress import Progress


def after(*lines: str, names: set[str] | None = None) -> Progress:
    progress = Progress("Things", "a minute", names or {"gradio", "jinja2", "colorama"})
    for line in lines:
        progress.read(line)
    return progress


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("Collecting gradio==6.31.0 (from -r section-core.txt (line 19))", "looking up, 1 of 3 packages"),
        ("Requirement already satisfied: Jinja2==3.1.6 in ./lib (from -r x)", "looking up, 1 of 3 packages"),
        ("  Downloading gradio-6.31.0-py3-none-any.whl (31.4 MB)", "fetching gradio (31.4 MB)"),
        ("  Using cached gradio-6.31.0-py3-none-any.whl (31.4 MB)", "fetching gradio (31.4 MB)"),
        ("Installing collected packages: a, b, c", "unpacking 3 packages"),
        ("  [12/48] Building CXX object src/llama.o", "building, 25%"),
        ("  [ 62%] Building CXX object src/llama.o", "building, 62%"),
        ("  Downloading gradio-6.31.0-py3-none-any.whl.metadata (16 kB)", "starting"),
        ("  Running command Getting requirements to build wheel", "starting"),
        ("", "starting"),
    ],
)
def test_a_line_of_pip_tells_how_far_it_is(line: str, shown: str) -> None:
    assert after(line).doing == shown


def test_sizes_add_up_in_megabytes() -> None:
    progress = after("Downloading a-1.whl (500 kB)", "Downloading b-1.whl (1.5 GB)", "Using cached c-1.tar.gz (2.0 MB)")
    assert progress.megabytes == pytest.approx(1502.5)


def test_packages_for_other_systems_are_not_counted() -> None:
    progress = after("Ignoring colorama: markers 'sys_platform == \"win32\"' don't match your environment")
    assert progress.names == {"gradio", "jinja2"}


def test_a_log_has_a_line_at_the_beginning_and_one_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("Things", "a minute", set()) as progress:
        progress.megabytes = 12.3
        progress.result = "3 packages"
    assert capsys.readouterr().out == "Things (usually a minute)\nThings: 3 packages, 12 MB, 0:00\n"


@pytest.mark.parametrize(
    ("tail", "said"),
    [
        (
            ["ERROR: Could not find a version", "ERROR: No matching distribution found for x==1"],
            "No matching distribution",
        ),
        (["ERROR: Could not install packages: [Errno 28] No space left on device: '/x'"], "the disk is full"),
        (
            ["WARNING: Retrying: NewConnectionError: Temporary failure in name resolution", "ERROR: No matching x"],
            "the package index cannot be reached; is this machine online?",
        ),
        (
            ["CMake Error at CMakeLists.txt:9: no CUDA", "ERROR: Failed building wheel for x"],
            "CMake Error at CMakeLists",
        ),
        (
            ["ggml.c:10: error: unknown type name 'x'", "ERROR: Failed building wheel for x"],
            "ggml.c:10: error: unknown",
        ),
        ([], "pip said nothing"),
    ],
)
def test_a_failure_is_told_in_the_line_that_matters(tail: list[str], said: str) -> None:
    assert _reason(tail).startswith(said)
