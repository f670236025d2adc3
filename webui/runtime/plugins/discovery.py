"""Finding plugins without running them, and importing one so that nothing it does can stop the program.

A plugin is a module or package in ``loaders/``, ``extensions/`` or the data folder's ``extensions/``, or an installed
package with an entry point in the group ``patchbay``. What is known before it is switched on is read from its text.
"""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import importlib.util
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from webui.core.config import ROOT
from webui.core.errors import ExtensionFailed
from webui.runtime.hooks import API_VERSION

GROUP = "patchbay"
Kind = Literal["loader", "extension"]
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")


@dataclass(frozen=True, slots=True)
class Found:
    """A plugin that is there, as far as it can be known without importing it."""

    name: str
    kind: Kind
    origin: str  # the folder or the package, for a person
    path: Path | None = None
    entry: importlib.metadata.EntryPoint | None = None
    version: str = ""
    author: str = ""
    description: str = ""
    on: bool = False  # whether it is on unless a person says otherwise
    problem: str = ""


def in_folder(folder: Path, kind: Kind, bundled: bool) -> Iterator[Found]:
    """The plugins in a folder, by name. What begins with _ or . is none, nor is a folder without ``__init__.py``."""
    try:
        paths = sorted(folder.iterdir())
    except OSError:
        return
    for path in paths:
        if path.name[0] in "._" or path.name == "__pycache__":
            continue
        if path.is_dir() and (path / "__init__.py").is_file():
            yield _described(path.name, kind, folder, path / "__init__.py", bundled)
        elif path.is_file() and path.suffix == ".py":
            yield _described(path.stem, kind, folder, path, bundled)


def installed() -> Iterator[Found]:
    """The installed packages that have an entry point for us, by name."""
    for entry in sorted(importlib.metadata.entry_points(group=GROUP), key=lambda e: e.name):
        facts: dict[str, Any] = dict(entry.dist.metadata.json) if entry.dist is not None else {}
        yield Found(
            entry.name, "extension", f"package {entry.dist.name if entry.dist is not None else entry.module}",
            entry=entry,
            version=entry.dist.version if entry.dist is not None else "",
            author=str(facts.get("author") or facts.get("author_email") or ""),
            description=str(facts.get("summary") or ""),
            problem="" if _NAME.fullmatch(entry.name) else "its name is not made of letters, digits, - and _",
        )  # fmt: skip


def load(found: Found) -> ModuleType:
    """Import the plugin anew. Raises ExtensionFailed, whatever the module does but for Ctrl+C."""
    if found.problem:
        raise ExtensionFailed(found.name, found.problem, "Rename it.")
    try:
        module = _import(found)
    except KeyboardInterrupt:
        raise
    except ModuleNotFoundError as error:
        missing = (error.name or "").split(".")[0]
        command = f"{sys.executable} -m pip install {missing}"
        raise ExtensionFailed(
            found.name, f"it needs the package {missing}, which is not installed.", f"Try: {command}"
        ) from error
    except SyntaxError as error:
        raise ExtensionFailed(
            found.name, f"{error.msg} in line {error.lineno} of {Path(error.filename or '').name}."
        ) from error
    except BaseException as error:
        raise ExtensionFailed(found.name, f"importing it raised {type(error).__name__}: {error}") from error
    wanted = getattr(module, "API_VERSION", API_VERSION)
    if wanted != API_VERSION:
        raise ExtensionFailed(
            found.name,
            f"it was made for version {wanted} of the hooks; this is version {API_VERSION}.",
            "Update one of them.",
        )
    return module


def _import(found: Found) -> ModuleType:
    if found.entry is not None:
        module = found.entry.load()
        if not isinstance(module, ModuleType):
            raise TypeError(f"the entry point names a {type(module).__name__}, not a module")
        return module
    assert found.path is not None  # noqa: S101  # one of the two is always there
    package = found.path.name == "__init__.py"
    folder = found.path.parents[1] if package else found.path.parent
    if folder.parent == ROOT and found.name.isidentifier():
        name = f"{folder.name}.{found.name}"
        _forget(name)
        return importlib.import_module(name)
    name = f"patchbay_{found.kind}_{re.sub(r'[^A-Za-z0-9]', '_', found.name)}"
    _forget(name)
    spec = importlib.util.spec_from_file_location(
        name, found.path, submodule_search_locations=[str(found.path.parent)] if package else None
    )
    if spec is None or spec.loader is None:
        raise ImportError(f"{found.path} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    return module


def _forget(name: str) -> None:
    """Let the next import read the files again."""
    for known in [m for m in sys.modules if m == name or m.startswith(name + ".")]:
        del sys.modules[known]
    importlib.invalidate_caches()


def _described(name: str, kind: Kind, folder: Path, path: Path, bundled: bool) -> Found:
    origin = f"{folder.name}/" if bundled else str(folder)
    problem = "" if _NAME.fullmatch(name) else "its file name is not made of letters, digits, - and _"
    facts: dict[str, object] = {}
    description = ""
    try:
        tree = ast.parse(path.read_bytes())
        description = (ast.get_docstring(tree) or "").strip().split("\n\n")[0].replace("\n", " ")
        facts = dict(_constants(tree.body))
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError, SystemError):
        pass  # importing it says what is wrong
    return Found(
        name, kind, origin, path,
        version=str(facts.get("__version__", "")), author=str(facts.get("__author__", "")), description=description,
        on=kind == "loader" or (bundled and facts.get("ENABLED") is True), problem=problem,
    )  # fmt: skip


def _constants(body: Iterable[ast.stmt]) -> Iterator[tuple[str, object]]:
    for statement in body:
        if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Constant):
            for target in statement.targets:
                if isinstance(target, ast.Name):
                    yield target.id, statement.value.value
