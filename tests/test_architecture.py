"""The shape of the source holds: imports point one way, files stay short, nothing of one machine is in it."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
OURS = ("webui", "loaders", "extensions")
TREE = {"start.py", "pyproject.toml", "requirements.lock", "README.md", "LICENSE", *OURS, "presets", "models", "tests"}
LONGEST = 400

# Each layer may import itself and what stands further right.
LAYERS = ("cli", "server", "ui", "runtime", "core")
BESIDE = {  # modules of webui beside the layers: where they stand
    "__main__": "cli",
    "doctor": "cli",
    "instance": "cli",
    "gate": "server",
    "login": "server",
    "refusal": "server",
    "setup": "core",
}
PUBLIC = {  # what loaders and extensions may import, beside webui itself and webui.core
    "webui.runtime.machine",  # memory and cores, as loaders divide them
    "webui.runtime.modelfolder",  # what is in a folder with a model
    "webui.runtime.tokenizer",  # the tokens of such a folder
}
ENGINES = {"torch", "transformers", "llama_cpp", "exllamav2"}
HEAVY = ENGINES | {"gradio", "numpy", "starlette", "uvicorn", "pandas", "tokenizers"}


@cache
def tracked() -> list[Path]:
    """The files of the source: what git has, and what is about to be added."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    return [ROOT / name for name in done.stdout.decode().split("\0") if name and (ROOT / name).is_file()]


def python_files(*folders: str) -> list[Path]:
    return [p for p in tracked() if p.suffix == ".py" and p.relative_to(ROOT).parts[0] in folders]


def dotted(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def imports(path: Path) -> list[tuple[str, bool]]:
    """Each imported module, and whether it is imported for the type checker alone."""
    found: list[tuple[str, bool]] = []
    package = dotted(path) if path.name == "__init__.py" else dotted(path).rpartition(".")[0]

    def walk(node: ast.AST, typing_only: bool) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                for part in child.body:
                    note(part, True)
                    walk(part, True)
                for part in child.orelse:
                    note(part, typing_only)
                    walk(part, typing_only)
                continue
            note(child, typing_only)
            walk(child, typing_only)

    def note(node: ast.AST, typing_only: bool) -> None:
        if isinstance(node, ast.Import):
            found.extend((alias.name, typing_only) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            found.append((module, typing_only))
            found.extend(
                (f"{module}.{alias.name}", typing_only) for alias in node.names if is_module(module, alias.name)
            )

    walk(ast.parse(path.read_text(encoding="utf-8")), False)
    return found


def is_module(package: str, name: str) -> bool:
    place = ROOT.joinpath(*package.split("."), name)
    return place.with_suffix(".py").is_file() or place.is_dir()


def layer(module: str) -> str:
    part = module.split(".")[1] if "." in module else ""
    return BESIDE.get(part, part)


def offences(found: Iterator[str]) -> None:
    listed = sorted(set(found))
    assert not listed, "\n" + "\n".join(listed)


def test_every_module_of_the_program_has_its_place_in_the_layers() -> None:
    offences(f"{dotted(p)} is in no layer" for p in python_files("webui") if layer(dotted(p)) not in (*LAYERS, ""))


def test_imports_point_one_way_through_the_layers() -> None:
    def wrong() -> Iterator[str]:
        for path in python_files("webui"):
            here = layer(dotted(path))
            if not here:
                continue  # webui itself, which only hands out names
            for module, _ in imports(path):
                there = layer(module) if module.startswith("webui.") else ""
                if there and LAYERS.index(there) < LAYERS.index(here):
                    yield f"{dotted(path)} ({here}) imports {module} ({there})"

    offences(wrong())


def test_the_program_never_names_a_plugin_module() -> None:
    def wrong() -> Iterator[str]:
        for path in python_files("webui"):
            for module, _ in imports(path):
                if module.split(".")[0] in ("loaders", "extensions"):
                    yield f"{dotted(path)} imports {module}"

    offences(wrong())


def test_the_program_has_no_plugin_by_name_in_its_source() -> None:
    names = {
        p.relative_to(ROOT).parts[1].removesuffix(".py")
        for p in python_files("loaders", "extensions")
        if "_" not in p.stem
    } - {"README", "__init__"}
    word = re.compile(r"""(["'])(""" + "|".join(map(re.escape, sorted(names))) + r")\1")

    def wrong() -> Iterator[str]:
        for path in python_files("webui"):
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
                if names and word.search(line):
                    yield f"{path.relative_to(ROOT)}:{number}: {line.strip()}"

    offences(wrong())


def test_loaders_and_extensions_use_public_names_and_never_each_other() -> None:
    def wrong() -> Iterator[str]:
        for path in python_files("loaders", "extensions"):
            own = ".".join(dotted(path).split(".")[:2])
            for module, _ in imports(path):
                top = module.split(".")[0]
                if top in ("loaders", "extensions") and not (module + ".").startswith(own + "."):
                    yield f"{dotted(path)} imports {module}"
                elif not is_public(module):
                    yield f"{dotted(path)} imports {module}, which is the program's own"

    offences(wrong())


def is_public(module: str) -> bool:
    if module.split(".")[0] != "webui" or module in ("webui", "webui.runtime"):
        return True
    return module.startswith("webui.core") or module in PUBLIC


def test_no_engine_is_imported_by_the_web_process() -> None:
    """The layers that the web process loads name no engine at all; the worker loads them through the loaders."""

    def wrong() -> Iterator[str]:
        for path in python_files("webui"):
            for module, typing_only in imports(path):
                if module.split(".")[0] in ENGINES and not typing_only:
                    yield f"{dotted(path)} imports {module}"

    offences(wrong())


def test_only_the_page_knows_gradio() -> None:
    def wrong() -> Iterator[str]:
        for path in python_files("webui"):
            if layer(dotted(path)) in ("core", "runtime") and any(
                m.split(".")[0] == "gradio" for m, _ in imports(path)
            ):
                yield dotted(path)

    offences(wrong())


def loaded_by(statement: str, *flags: str) -> set[str]:
    code = f"{statement}; import sys; print(*{{m.split('.')[0] for m in sys.modules}})"
    command = [sys.executable, *flags, "-c", code]
    return set(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split())


def test_what_serves_the_page_loads_no_engine() -> None:
    assert not loaded_by("import webui.server, webui.runtime.app") & (ENGINES | {"tokenizers"})


@pytest.mark.parametrize("module", ["webui", "webui.cli", "webui.core.config"])
def test_importing_the_public_names_is_light(module: str) -> None:
    assert not loaded_by(f"import {module}") & HEAVY


def test_the_set_up_and_the_options_need_the_standard_library_alone() -> None:
    modules = ", ".join(["webui.core.config", *(dotted(p) for p in python_files("webui") if "setup" in p.parts)])
    bare = "import sys, types; w = types.ModuleType('webui'); w.__path__ = ['webui']; sys.modules['webui'] = w"
    beyond = loaded_by(f"{bare}; sys.path.insert(0, '.'); import {modules}", "-I", "-S")
    assert beyond - set(sys.stdlib_module_names) <= {"webui", "__main__"}


def test_no_file_is_longer_than_a_person_reads() -> None:
    def wrong() -> Iterator[str]:
        for path in (ROOT / "start.py", *python_files(*OURS)):
            count = len(path.read_text(encoding="utf-8").splitlines())
            if count > LONGEST:
                yield f"{path.relative_to(ROOT)} has {count} lines"

    offences(wrong())


def test_modules_have_the_names_of_things() -> None:
    vague = {"utils", "util", "helpers", "helper", "manager", "base", "misc", "common"}
    offences(
        str(p.relative_to(ROOT)) for p in python_files(*OURS) if vague & set(p.relative_to(ROOT).with_suffix("").parts)
    )


def test_nothing_is_left_for_later() -> None:
    later = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b|raise NotImplementedError")
    offences(
        f"{p.relative_to(ROOT)}:{n}: {line.strip()}"
        for p in (ROOT / "start.py", *python_files(*OURS))
        for n, line in enumerate(p.read_text(encoding="utf-8").splitlines(), 1)
        if later.search(line)
    )


def texts() -> Iterator[tuple[Path, int, str]]:
    for path in tracked():
        if (
            path.suffix not in (".py", ".md", ".toml", ".lock", ".yaml", ".js", ".css", ".html", "")
            or "vendor" in path.parts
        ):
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
            yield path, number, line


def test_no_folder_of_one_machine_is_in_the_source() -> None:
    places = re.compile(r"/(?:" + "|".join(("root", "work", "Users/[a-z]+", "home/[a-z]+")) + r")/\w")
    offences(
        f"{p.relative_to(ROOT)}:{n}: {t.strip()}" for p, n, t in texts() if places.search(t) and p != Path(__file__)
    )


def test_addresses_of_package_indexes_are_in_one_table() -> None:
    index = re.compile("|".join(("pypi" + r"\.org", "pythonhosted", "whl/", "--index-url", "simple/")))

    def wrong() -> Iterator[str]:
        for path, number, text in texts():
            if index.search(text) and path not in (ROOT / "start.py", Path(__file__)):
                yield f"{path.relative_to(ROOT)}:{number}: {text.strip()}"

    offences(wrong())
    start = (ROOT / "start.py").read_text(encoding="utf-8")
    table = re.search(r"^WHEELS = \{\n(.*?)^\}", start, re.S | re.M)
    assert table
    assert start.count("https://") == table[1].count("https://")


def test_nothing_else_stands_at_the_top() -> None:
    tops = {p.relative_to(ROOT).parts[0] for p in tracked()}
    assert {top for top in tops if not top.startswith(".")} <= TREE


def roots() -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [*project["dependencies"], *(n for names in project["optional-dependencies"].values() for n in names)]


def locked() -> dict[str, str]:
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    pins = [line.partition(";")[0].strip() for line in lines if line and not line.startswith("#")]
    return dict(pin.split("==", 1) for pin in pins)


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def needs(name: str) -> Iterator[str]:
    """What an installed package needs on this machine, without its extras."""
    for line in metadata.requires(name) or []:
        wanted, _, marker = line.partition(";")
        if "extra" not in marker:
            yield plain(re.split(r"[ \[<>=!~(]", wanted.strip())[0])


def test_every_package_that_is_needed_is_pinned() -> None:
    pinned = {plain(name) for name in locked()}

    def wrong() -> Iterator[str]:
        yield from (name for name in roots() if plain(name) not in pinned)
        for name in pinned:
            try:
                yield from (f"{other}, which {name} needs" for other in needs(name) if not known(other, pinned))
            except metadata.PackageNotFoundError:
                continue  # for another system, or left out here

    offences(wrong())


def known(name: str, pinned: set[str]) -> bool:
    """Pinned, or not needed here: a marker that this machine does not meet."""
    if name in pinned:
        return True
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return True
    return False


def test_the_installed_packages_have_licences_that_ours_can_stand_beside() -> None:
    """No GPL or AGPL in what the program imports; LGPL and MPL are libraries used as they come."""
    strong = re.compile(r"(?<!L)(?<!Lesser )\b(AGPL|GPL|Affero|GNU General Public)", re.I)

    def wrong() -> Iterator[str]:
        for name in locked():
            try:
                about = metadata.metadata(name)
            except metadata.PackageNotFoundError:
                continue
            kinds = [c for c in about.get_all("Classifier") or [] if c.startswith("License")]
            said = about.get("License-Expression") or (about.get("License") or "").strip().split("\n")[0]
            shown = " / ".join([*kinds, said])
            choice = " OR " in said or len(kinds) > 1  # one of several may be chosen
            if strong.search(shown) and not choice:
                yield f"{name}: {shown}"

    offences(wrong())
