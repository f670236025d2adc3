"""``doctor``: what works on this machine, and why the rest does not."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

import psutil

from webui.core.config import ROOT, Config, load
from webui.core.errors import PatchbayError
from webui.setup.environment import Environment
from webui.setup.machine import graphics, has_compiler, processor, toolkits
from webui.setup.record import Record, read_lock

GIGA = 2**30
FEATURES = {"avx2": "AVX2", "avx512f": "AVX512", "asimd": "NEON"}  # as the CPU names them: as an engine does


@dataclass(frozen=True)
class Finding:
    """One line of the report. ``works`` is None where there is nothing to judge."""

    group: str
    name: str
    text: str
    works: bool | None = None
    cure: str = ""


def doctor(arguments: Sequence[str]) -> int:
    """Print the report; 0 when the program can run here, 1 when it cannot."""
    asked = argparse.ArgumentParser(prog="start.py doctor", description=__doc__)
    asked.add_argument("--json", action="store_true", help="for programs")
    asked.add_argument("--data-dir", help="the data folder to look at")
    asked.add_argument("--models-dir", help="the folder of models to look at")
    options = asked.parse_args(list(arguments))
    folders = [
        word
        for name in ("data_dir", "models_dir")
        if getattr(options, name)
        for word in ("--" + name.replace("_", "-"), getattr(options, name))
    ]
    findings = list(examine(folders))
    if options.json:
        print(json.dumps([asdict(finding) for finding in findings], indent=1, ensure_ascii=False))
    else:
        print(report(findings))
    return 1 if any(f.works is False and f.group in ("Program", "Folders") for f in findings) else 0


def examine(folders: Sequence[str] = ()) -> Iterator[Finding]:
    """Everything that was found, a part at a time; a part that cannot be looked at says why."""
    try:
        config = load(list(folders))
    except PatchbayError as error:
        yield Finding("Program", "options", error.message, False, error.hint)
        config = Config()
    parts: list[Callable[[], Iterator[Finding]]] = [
        program, machine, graphics_cards, loaders, lambda: data_folder(config), lambda: models(config.models), packages,
    ]  # fmt: skip
    for part in parts:
        try:
            yield from part()
        except (OSError, ValueError, KeyError) as error:
            yield Finding("Program", getattr(part, "__name__", "part"), f"cannot be looked at: {error}")


def report(findings: Sequence[Finding]) -> str:
    """The findings for a person: works, does not, or just so."""
    mark = {True: "ok ", False: "NO ", None: "   "}
    lines: list[str] = []
    group = ""
    width = max(len(f.name) for f in findings)
    for f in findings:
        if f.group != group:
            lines += ["", f.group]
            group = f.group
        lines.append(f"  {mark[f.works]} {f.name:<{width}}  {f.text}")
        if f.cure:
            lines.append(f"      {'':<{width}}  {f.cure}")
    return "\n".join(lines).strip()


def program() -> Iterator[Finding]:
    """This version on this Python."""
    about = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    yield Finding("Program", "Patchbay", f"{about['version']} in {ROOT}")
    version = sys.version_info
    text = f"{platform.python_version()} ({sys.executable})"
    yield Finding("Program", "Python", text, version >= (3, 11), "" if version >= (3, 11) else "It needs 3.11.")


def machine() -> Iterator[Finding]:
    """Operating system, processor and memory."""
    yield Finding("Machine", "system", f"{platform.platform()}, {platform.machine()}")
    physical, logical = psutil.cpu_count(logical=False), psutil.cpu_count()
    yield Finding("Machine", "processor", f"{_cpu_name()}, {physical} cores, {logical} threads")
    memory = psutil.virtual_memory()
    yield Finding("Machine", "memory", f"{memory.total / GIGA:.1f} GB, {memory.available / GIGA:.1f} GB free")
    compiler = "there is one" if has_compiler() else "none; an engine that is built here cannot be"
    yield Finding("Machine", "C++ compiler", compiler, has_compiler())


def graphics_cards() -> Iterator[Finding]:
    """Graphics cards, and the toolkits to build for them."""
    card = graphics()
    names = {"nvidia": "NVIDIA", "amd": "AMD", "apple": "Apple, through Metal", "other": "one that Vulkan may reach"}
    yield Finding("Graphics", "card", names.get(card, "none found: everything runs on the CPU"))
    if card == "nvidia":
        query = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            said = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True).stdout
            for line in said.splitlines():
                yield Finding("Graphics", "", line.strip())
    kits = ", ".join(sorted(toolkits())) or "none"
    yield Finding("Graphics", "toolkits", kits)


def loaders(root: Path = ROOT) -> Iterator[Finding]:
    """Each engine asked in a child process, with what it was built for."""
    environment = Environment(root)
    for entry in Record(environment.folder / "patchbay.json").sections.values():
        if not entry.get("title"):
            continue
        if entry["state"] != "installed":
            cure = "" if entry["state"] == "left out" else "Try again with: python start.py setup"
            yield Finding("Loaders", entry["title"], entry["reason"], False, cure)
            continue
        works, said = environment.ask(entry["check"])
        how = f" ({entry['how']})" if entry.get("how") else ""
        yield Finding("Loaders", entry["title"], f"{said}{how}", works, "" if works else f"See {environment.log}")
        slow = left_out(said, processor()) if works else []
        if slow:
            cure = "It runs several times slower than it could. Build it again with: python start.py setup"
            yield Finding("Loaders", "", f"built without {', '.join(slow)}, which this CPU has", False, cure)


def data_folder(config: Config) -> Iterator[Finding]:
    """The data folder and its disk."""
    folder = config.data
    there = next(place for place in (folder, *folder.parents) if place.exists())
    writable = os.access(there, os.W_OK)
    free = shutil.disk_usage(there).free / GIGA
    text = f"{folder}, {free:.1f} GB free" + ("" if folder.exists() else ", made at the first start")
    cure = "" if writable else "It cannot be written to. Choose another with --data-dir."
    yield Finding("Folders", "data", text, writable and free > 0.1, cure)


def models(folder: Path) -> Iterator[Finding]:
    """The models that are there."""
    found = sorted(
        path.relative_to(folder)
        for pattern in ("*.gguf", "*/*.gguf", "*/config.json", "*/*/config.json")
        for path in folder.glob(pattern)
    )
    names = sorted({path.parent if path.name == "config.json" else path for path in found})
    text = f"{len(names)} in {folder}" + (": " + ", ".join(map(str, names[:20])) if names else "")
    yield Finding("Folders", "models", text)


def packages() -> Iterator[Finding]:
    """Whether the packages are the ones of the lock file."""
    wrong = []
    count = 0
    for line in read_lock(ROOT / "requirements.lock").get("core", []):
        name, _, version = line.partition(";")[0].strip().partition("==")
        with contextlib.suppress(metadata.PackageNotFoundError):
            count += 1
            here = metadata.version(name)
            if here != version:
                wrong.append(f"{name} {here} instead of {version}")
    cure = "Set the environment up again: delete .venv, then python start.py" if wrong else ""
    text = "; ".join(wrong) if wrong else f"{count} packages as in requirements.lock"
    yield Finding("Packages", "versions", text, not wrong, cure)
    for name in ("gradio", "starlette", "uvicorn", "jinja2", "nh3", "pluggy", "numpy"):
        yield Finding("Packages", name, metadata.version(name))


def left_out(said: str, cpu: str) -> list[str]:
    """The features that the processor has and an engine that says what it is built with does not use."""
    if " with " not in said:
        return []
    return [name for flag, name in FEATURES.items() if flag in cpu.split() and name not in said.split()]


def _cpu_name() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith(("model name", "Model")):
                return line.partition(":")[2].strip()
    if sys.platform == "darwin":
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            command = ["sysctl", "-n", "machdep.cpu.brand_string"]
            return subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout.strip()
    return platform.processor() or platform.machine()
