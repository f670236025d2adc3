"""The groups of packages: which are wanted, which are missing, and how each gets into the environment."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from webui.setup.environment import Environment, SetupFailed
from webui.setup.machine import cache_folder, has_compiler, parallel_jobs, processor
from webui.setup.progress import Progress
from webui.setup.record import Record, fingerprint, read_lock


@dataclass(frozen=True)
class Way:
    """One way to get a package: built here, or from an index of its maker."""

    what: str  # for people: "built for CUDA"
    arguments: tuple[str, ...] = ()  # more words for pip
    build: bool = False  # compile the section's main package here
    flags: str = ""  # for CMake
    usually: str = ""


@dataclass(frozen=True)
class Section:
    """A section of the lock file and how it is installed."""

    name: str
    title: str
    usually: str
    loader: str = ""  # the loader that is missing without it; a section without one is required
    main: str = ""  # the package that the ways are about
    check: str = ""  # a line of Python that shows that it works, and says with what
    patience: float = 180.0  # seconds for the check
    ways: Callable[[], list[Way]] = lambda: [Way("")]  # best first; SetupFailed when there is none
    leave_out: Callable[[], str] = lambda: ""  # a reason not to install it here


class Installer:
    """Brings the environment to what the lock file says, a section at a time."""

    def __init__(self, environment: Environment, lock: Path) -> None:
        self.environment = environment
        self.lock = read_lock(lock)
        self.record = Record(environment.folder / "patchbay.json")

    def pending(self, sections: list[Section], *, again: bool = False) -> list[Section]:
        """The sections that are not as the lock file says. ``again``: also what failed or was left out before."""
        return [section for section in sections if self._is_pending(section, again)]

    def _is_pending(self, section: Section, again: bool) -> bool:
        entry = self.record.sections.get(section.name)
        if entry is None or entry.get("lines") != fingerprint(self.lock[section.name]):
            return True
        if entry["state"] == "installed":
            return again and bool(section.main) and entry.get("how") not in self._best(section)
        return again or (entry.get("until") == "compiler" and has_compiler())

    @staticmethod
    def _best(section: Section) -> list[str]:
        """The best way to get a section on the machine as it is now."""
        try:
            return [section.ways()[0].what]
        except SetupFailed:
            return []

    def install(self, sections: list[Section]) -> list[str]:
        """Install sections in order; returns a sentence for each loader that could not be installed.

        SetupFailed when a required section cannot be installed. Cut off anywhere and called again, it continues.
        """
        present = []
        for section in sections:
            reason = section.leave_out()
            if reason:
                self.record.enter(section.name, state="left out", reason=reason, **self._facts(section))
            else:
                present.append(section)
        if present:
            print(f"Setting up Patchbay in {self.environment.folder}. It can be interrupted and run again.", flush=True)
            self.environment.sweep()
        troubles = []
        for number, section in enumerate(present, 1):
            facts = self._facts(section)
            before = self.record.sections.get(section.name, {})
            self.record.strike(section.name)
            try:
                how, said = self._install(section, f"{number}/{len(present)} {section.title}", before)
            except SetupFailed as error:
                if not section.loader:
                    raise SetupFailed(f"{section.title}: {error}") from None
                self.record.enter(section.name, state="failed", reason=str(error), until=error.until, **facts)
                troubles.append(f"The {section.loader} loader is missing: {error}")
            else:
                self.record.enter(section.name, state="installed", how=how, said=said, **facts)
        return troubles

    def _facts(self, section: Section) -> dict[str, str]:
        return {"lines": fingerprint(self.lock[section.name]), "title": section.loader, "check": section.check}

    def _install(self, section: Section, title: str, before: dict[str, str]) -> tuple[str, str]:
        """Try the ways, best first, until one installs and works: the way, and what the check said."""
        failures: list[str] = []
        for way in section.ways():
            shown = f"{title}, {way.what}" if way.what else title
            names = {re.split(r"[=<> ;]", line)[0].lower() for line in self.lock[section.name]}
            try:
                with Progress(shown, way.usually or section.usually, names) as progress:
                    if section.main and before.get("how", way.what) != way.what:
                        self.environment.pip(["uninstall", "--yes", section.main], progress)
                    self._fetch(section, way, progress)
                    progress.doing = "checking that it works here"
                    works, said = self.environment.ask(section.check, section.patience) if section.check else (True, "")
                    if not works:
                        raise SetupFailed(f"it is installed and does not work here: {said}")
                    progress.result = f"{len(progress.names)} package{'s' if len(progress.names) != 1 else ''}"
                    return way.what, said
            except SetupFailed as error:
                failures.append(f"{way.what}: {error}" if way.what else str(error))
                before = {"how": way.what}
        raise SetupFailed("; ".join(failures) + f". The full text is in {self.environment.log}")

    def _fetch(self, section: Section, way: Way, progress: Progress) -> None:
        lines = list(self.lock[section.name])
        built = []
        if way.build:
            line = next(line for line in lines if line.startswith(section.main + "=="))
            built = [str(self._build(line, way, progress))]
            lines.remove(line)
        others = [line for name, pins in self.lock.items() if name != section.name for line in pins]
        wanted = self._write(f"section-{section.name}.txt", lines)
        allowed = self._write(f"section-{section.name}-beside.txt", others)
        self.environment.pip(["install", *built, "-r", wanted, "-c", allowed, *way.arguments], progress)

    def _write(self, name: str, lines: list[str]) -> str:
        path = self.environment.folder / name
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return str(path)

    def _build(self, line: str, way: Way, progress: Progress) -> Path:
        """Compile a package for this very machine; the result is kept for the next environment on it."""
        flags = f"{way.flags} {os.environ.get('CMAKE_ARGS', '')}".strip()  # what a person sets comes last and wins
        kind = hashlib.sha256("\n".join((line, flags, processor())).encode()).hexdigest()[:16]
        folder = _writable(cache_folder() / kind) or _writable(self.environment.folder / "built" / kind)
        if folder is None:
            raise SetupFailed(f"there is no place to keep what is built: {self.environment.folder} is read-only")
        kept = sorted(folder.glob("*.whl"))
        if kept:
            progress.doing = "taking what was built here before"
            return kept[0]
        with tempfile.TemporaryDirectory(dir=folder) as half:
            self.environment.pip(
                ["wheel", "--verbose", "--no-deps", "--no-cache-dir", "--wheel-dir", half, line],
                progress,
                CMAKE_ARGS=flags,
                CMAKE_BUILD_PARALLEL_LEVEL=str(parallel_jobs()),
                SOURCE_DATE_EPOCH="",  # when set, the build would leave out what makes it fast
            )
            wheel = next(Path(half).glob("*.whl"))
            return wheel.replace(folder / wheel.name)


def _writable(folder: Path) -> Path | None:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError:
        return None
    return folder if os.access(folder, os.W_OK) else None
