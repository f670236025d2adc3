"""start.py: speaks on any Python, answers before anything is installed, and says in words what stands in its way."""

from __future__ import annotations

import ast
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.setup.conftest import ROOT

posix = pytest.mark.skipif(sys.platform == "win32", reason="users and rights of Unix")


@pytest.fixture
def bare() -> Iterator[Path]:
    """A checkout without an environment, in a place that every user can read."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "a place")
        shutil.copytree(
            ROOT / "webui", root / "webui", ignore=shutil.ignore_patterns("__pycache__", "static", "vendor")
        )
        for name in ("start.py", "requirements.lock", "pyproject.toml"):
            shutil.copy(ROOT / name, root / name)
        for path in (Path(folder), root):
            path.chmod(0o755)
        yield root


def plain_python() -> str:
    """A Python that is not the environment's own; one that every user may run, where there is one."""
    shared = "/usr/bin/python3"
    if os.path.exists(shared):
        check = [shared, "-c", "import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))"]
        if subprocess.run(check, capture_output=True, check=False).returncode == 0:
            return shared
    return getattr(sys, "_base_executable", sys.executable)


def run(root: Path, *words: str, **more: object) -> subprocess.CompletedProcess[str]:
    command = [plain_python(), "-B", str(root / "start.py"), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, cwd="/", **more)  # type: ignore[call-overload]


def test_it_uses_only_words_that_an_old_python_understands() -> None:
    """It has to parse on 2.7, or the word about the version is a syntax error."""
    tree = ast.parse((ROOT / "start.py").read_text(encoding="ascii"))
    new = (ast.JoinedStr, ast.NamedExpr, ast.AnnAssign, ast.AsyncFunctionDef, ast.Nonlocal, ast.Match, ast.YieldFrom)
    for node in ast.walk(tree):
        assert not isinstance(node, new), ast.unparse(node)
        if isinstance(node, ast.FunctionDef):
            arguments = [*node.args.args, *node.args.posonlyargs, *node.args.kwonlyargs]
            assert not node.returns
            assert not any(a.annotation for a in arguments)
            assert not node.args.kwonlyargs
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "print":
            assert len(node.args) == 1 and not node.keywords  # a statement on 2.7


def old_pythons() -> list[str]:
    names = ("python2.7", "python3.6", "python3.7", "python3.8", "python3.9", "python3.10")
    versions = Path.home() / ".pyenv" / "versions"
    found = [shutil.which(name) for name in names] + [str(p) for p in versions.glob("[23].*/bin/python")]
    probe = ["-c", "import sys; sys.exit(sys.version_info >= (3, 11))"]
    return [p for p in found if p and subprocess.run([p, *probe], capture_output=True, check=False).returncode == 0]


def test_a_python_that_is_too_old_gets_a_clear_word() -> None:
    for python in old_pythons()[:3]:
        done = subprocess.run([python, str(ROOT / "start.py")], capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert done.stderr.startswith("Patchbay needs Python 3.11 or newer; this is Python")
        assert "Traceback" not in done.stderr


def test_help_answers_at_once_before_anything_is_installed(bare: Path) -> None:
    run(bare, "--help")  # reads the files from the disk
    began = time.monotonic()
    done = run(bare, "--help")
    took = time.monotonic() - began
    assert done.returncode == 0
    assert "--models-dir FOLDER" in done.stdout
    assert not (bare / ".venv").exists()
    assert took < 0.5 * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--prot", "1"], "there is no option --prot. Did you mean --port"),
        (["docter"], "there is no command docter. Did you mean doctor?"),
    ],
)
def test_a_typing_error_is_found_before_anything_is_installed(bare: Path, words: list[str], said: str) -> None:
    done = run(bare, *words)
    assert done.returncode != 0
    assert said in done.stderr
    assert not (bare / ".venv").exists()


@posix
def test_a_checkout_that_cannot_be_written_to_is_named(bare: Path) -> None:
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        done = run(bare, user=nobody.pw_uid, group=nobody.pw_gid, extra_groups=[], env={"PATH": os.environ["PATH"]})
    else:
        bare.chmod(0o555)
        done = run(bare)
        bare.chmod(0o755)
    assert done.returncode == 1
    assert f"{bare} cannot be written to (Permission denied)" in done.stderr
    assert "copy the folder to a place that is yours" in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_command_to_test_is_the_one_in_the_readme() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "python start.py test" in text
    assert "python start.py doctor" in text
