"""The environment in ``.venv``: making it, filling it section by section, and asking it questions."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from webui.setup.progress import Progress


class SetupFailed(Exception):
    """Something could not be installed; the text is one sentence for a person.

    ``until`` names what is missing (``compiler``); the section is tried again once that is there.
    """

    def __init__(self, reason: str, until: str = "") -> None:
        super().__init__(reason)
        self.until = until


class Environment:
    """A virtual environment in a folder of its own, with the log of everything that was done to it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folder = root / ".venv"
        self.log = self.folder / "setup.log"
        self.python = self.folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Keep a second start away while this one installs; also away from a pip that outlived a killed start."""
        try:
            self.folder.mkdir(exist_ok=True)
            lock = open(self.folder / ".lock", "a+b")  # closed below, or with the process
        except OSError as error:
            raise SetupFailed(
                f"{self.root} cannot be written to ({error.strerror or error}), and the environment is made there: "
                "give yourself the right to write to it, or copy the folder to a place that is yours."
            ) from None
        with lock:
            if not _hold(lock.fileno(), wait=False):
                print("Another start is installing already; waiting for it.", flush=True)
                _hold(lock.fileno(), wait=True)
            if sys.platform != "win32":
                os.set_inheritable(lock.fileno(), True)  # pip holds it too: see above
            yield

    def make(self) -> None:
        """Make the environment, or make it again when its Python is gone or half of it is missing."""
        if self.python.exists() and self._runs("import pip"):
            return
        try:
            import ensurepip  # noqa: F401
            import venv
        except ImportError:
            version = f"{sys.version_info[0]}.{sys.version_info[1]}"
            raise SetupFailed(
                f"This Python cannot make environments: its venv module is missing. On Debian and Ubuntu: "
                f"sudo apt install python{version}-venv"
            ) from None
        with Progress("Making .venv", "10 seconds", set()):
            for part in ("bin", "include", "lib", "lib64", "share", "Scripts", "Lib", "Include", "patchbay.json"):
                _remove(self.folder / part)
            try:
                venv.EnvBuilder(symlinks=sys.platform != "win32", with_pip=True).create(self.folder)
            except (OSError, subprocess.CalledProcessError) as error:
                raise SetupFailed(f"The environment could not be made in {self.folder}: {error}") from None

    def pip(self, arguments: list[str], progress: Progress, **variables: str) -> None:
        """Run pip with its output in the log and its progress on the line; SetupFailed carries pip's own reason."""
        surroundings = {k: v for k, v in os.environ.items() if k not in ("PYTHONHOME", "PYTHONPATH")}
        surroundings |= {"PIP_USER": "0", "PIP_NO_INPUT": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
        surroundings |= {"PIP_PROGRESS_BAR": "off", "PIP_NO_COLOR": "1"}
        surroundings = {k: v for k, v in (surroundings | variables).items() if v or k not in variables}  # "" unsets
        command = [str(self.python), "-I", "-m", "pip", *arguments]
        tail: list[str] = []
        with open(self.log, "a", encoding="utf-8", buffering=1) as log:
            log.write(f"\n{time.strftime('%Y-%m-%d %H:%M:%S')} pip {' '.join(arguments)}\n")
            log.flush()
            with subprocess.Popen(
                command,
                env=surroundings,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                encoding="utf-8",
                errors="replace",
                close_fds=False,
            ) as child:
                try:
                    for line in child.stdout or ():
                        log.write(line)
                        progress.read(line)
                        tail = [*tail[-200:], line.strip()]
                    status = child.wait()
                except BaseException:
                    _end(child)
                    raise
        if status:
            raise SetupFailed(_reason(tail))

    def sweep(self) -> None:
        """Take away packages that an interrupted pip left half installed; pip would think them whole."""
        for packages in (*self.folder.glob("lib/python*/site-packages"), self.folder / "Lib" / "site-packages"):
            for info in packages.glob("*.dist-info"):
                if not ((info / "RECORD").exists() and (info / "INSTALLER").exists()):
                    _remove(info)
            for half in packages.glob("~*"):
                _remove(half)

    def ask(self, code: str, seconds: float = 180.0) -> tuple[bool, str]:
        """Run a line of Python in a child: whether it ended well, and what it said or what it died of."""
        surroundings = {k: v for k, v in os.environ.items() if k not in ("PYTHONHOME", "PYTHONPATH")}
        try:
            done = subprocess.run(
                [str(self.python), "-I", "-c", code], capture_output=True, env=surroundings, timeout=seconds,
                cwd=self.folder, stdin=subprocess.DEVNULL, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return False, f"no answer within {seconds:.0f} seconds"
        except OSError as error:
            return False, str(error)
        said = done.stdout.decode("utf-8", "replace").strip()
        if done.returncode == 0:
            return True, said
        last = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:]
        died = f"ended by signal {-done.returncode}" if done.returncode < 0 else f"ended with {done.returncode}"
        return False, last[0] if last else died

    def _runs(self, code: str) -> bool:
        return self.ask(code, 60)[0]


def _reason(tail: list[str]) -> str:
    """The line of pip's output that tells a person why it failed."""
    text = "\n".join(tail)
    if "No space left on device" in text:
        return "the disk is full"
    if re.search(
        r"Temporary failure in name resolution|NameResolutionError|ConnectTimeoutError|Network is unreach", text
    ):
        return "the package index cannot be reached; is this machine online?"
    for pattern in (r"CMake Error.*", r".*\berror: .*", r"ERROR: .*", r".+"):
        found = [line for line in tail if re.fullmatch(pattern, line)]
        if found:
            line = found[-1] if pattern == ".+" or found[-1].startswith("ERROR: No matching") else found[0]
            return line.removeprefix("ERROR: ")[:300]
    return "pip said nothing"


def _end(child: subprocess.Popen[str]) -> None:
    """Stop a child: first kindly, after five seconds not."""
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(5)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _hold(handle: int, *, wait: bool) -> bool:
    """Take the lock on an open file; False when somebody else has it."""
    if sys.platform == "win32":
        import msvcrt

        while True:
            try:
                msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
                return True
            except OSError:
                if not wait:
                    return False
                time.sleep(1)
    import fcntl

    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        return False
    return True
