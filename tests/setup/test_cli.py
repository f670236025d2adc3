"""The program as a process: one a data folder, hardened, honest about its address, and put right after a crash."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.setup.conftest import ROOT
from webui import cli
from webui.core.config import Config
from webui.core.errors import PatchbayError, StoreError
from webui.instance import only_one, prepare_folder, read_key, take_running_hook

unix = pytest.mark.skipif(sys.platform == "win32", reason="rights and signals of Unix")


class Program:
    """``python -m webui`` with a data folder of its own."""

    def __init__(self, data: Path, *words: str, **variables: str) -> None:
        command = [sys.executable, "-m", "webui", "--data-dir", str(data), "--no-browser", *words]
        environ = {k: v for k, v in os.environ.items() if k not in ("DISPLAY", "WAYLAND_DISPLAY")}
        environ |= {"PYTHONPATH": str(ROOT)} | variables
        self.began = time.monotonic()
        self.process = subprocess.Popen(
            command, env=environ, cwd="/", stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8"
        )

    def address(self) -> str:
        """What the program prints once it answers."""
        assert self.process.stdout
        said = ""
        for line in self.process.stdout:
            said += line
            found = re.search(r"Patchbay is at (http://\S+)", line)
            if found:
                return found[1]
        raise AssertionError(f"it ended: {said}")

    def end(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        if self.process.poll() is None and number:
            self.process.send_signal(number)
        said, _ = self.process.communicate(timeout=30)
        return self.process.returncode, said


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Program]]:
    started: list[Program] = []

    def begin(*words: str, data: Path = tmp_path / "data", **variables: str) -> Program:
        started.append(Program(data, *words, **variables))
        return started[-1]

    yield begin
    for program in started:
        if program.process.poll() is None:
            program.process.kill()
        program.process.communicate()


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def test_the_second_start_on_a_data_folder_names_the_first(start: Callable[..., Program], tmp_path: Path) -> None:
    first = start("--port", free_port())
    address = first.address()
    status, said = start("--port", free_port()).end(0)
    assert status == 2
    assert f"is running on {tmp_path / 'data'} already: process {first.process.pid}, {address}" in said
    assert said.count("\n") == 1
    assert first.end()[0] in (0, -signal.SIGTERM)


@unix
def test_a_killed_program_leaves_no_lock_behind(start: Callable[..., Program]) -> None:
    first = start("--port", free_port())
    first.address()
    first.end(signal.SIGKILL)
    second = start("--port", free_port())
    assert second.address()
    assert second.end()[0] in (0, -signal.SIGTERM)


def test_a_busy_port_asked_for_by_name_is_an_error_in_one_line(start: Callable[..., Program]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen(1)
        port = taken.getsockname()[1]
        status, said = start("--port", str(port)).end(0)
    assert status == 2
    assert f"{port}" in said
    assert "--port" in said
    assert said.count("\n") == 1


def test_a_busy_port_that_nobody_asked_for_gives_way_to_the_next(start: Callable[..., Program]) -> None:
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taken.bind(("127.0.0.1", 7860))
            taken.listen(1)
        except OSError:
            pass  # somebody has it already: as good
        program = start()
        address = program.address()
        assert int(address.rsplit(":", 1)[1].strip("/")) > 7860
        with urllib.request.urlopen(address, timeout=10) as answer:
            assert answer.status == 200
        program.end()


@unix
def test_listening_without_a_key_makes_one_and_shows_it_once(start: Callable[..., Program], tmp_path: Path) -> None:
    program = start("--listen", "--port", free_port())
    assert program.process.stdout
    said = program.process.stdout.readline() + program.process.stdout.readline()
    key = said.split()[-1]
    path = tmp_path / "data" / "api-key"
    assert path.read_text(encoding="ascii").strip() == key
    assert len(key) >= 43  # 32 random bytes
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    program.address()
    program.end()
    again = start("--listen", "--port", free_port())
    again.address()
    assert key not in again.end()[1]


def test_the_data_folder_and_what_is_in_it_are_for_their_owner_only(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "data"
    prepare_folder(folder)
    key, new = read_key(folder)
    assert new
    assert read_key(folder) == (key, False)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "api-key").stat().st_mode) == 0o600


def test_a_data_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"The data folder .*file/data cannot be used: .*--data-dir"):
        prepare_folder(tmp_path / "file" / "data")


def test_the_lock_holds_the_address_without_its_one_time_link(tmp_path: Path) -> None:
    with only_one(tmp_path) as tell:
        cli.greet(Config(no_browser=True), "http://127.0.0.1:7861/login?once=secret", tell)
        held = json.loads((tmp_path / "instance.lock").read_text(encoding="utf-8"))
    assert held == {"pid": os.getpid(), "url": "http://127.0.0.1:7861/"}


def test_a_short_key_is_refused() -> None:
    with pytest.raises(PatchbayError, match="too short"):
        cli.with_key(Config(listen=True, api_key="12345678"))


def test_stray_variables_of_gradio_are_taken_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GRADIO_SHARE", "GRADIO_SERVER_NAME", "GRADIO_ALLOWED_PATHS", "GRADIO_MCP_SERVER"):
        monkeypatch.setenv(name, "True")
    code = (
        "import json, os, sys; from pathlib import Path; from webui.cli import harden; harden(Path(sys.argv[1])); "
        "import resource; print(json.dumps([dict(os.environ), resource.getrlimit(resource.RLIMIT_CORE)]))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, capture_output=True, check=True)
    environ, core = json.loads(done.stdout)
    gradio = {k: v for k, v in environ.items() if k.startswith("GRADIO_")}
    assert gradio == {"GRADIO_ANALYTICS_ENABLED": "False", "GRADIO_TEMP_DIR": str(tmp_path / "tmp")}
    assert environ["HF_HUB_OFFLINE"] == "1"
    assert core == [0, 0]
    assert stat.S_IMODE((tmp_path / "tmp").stat().st_mode) == 0o700


def test_after_a_crash_the_extension_that_was_running_is_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "running-hook").write_text("clumsy\n", encoding="utf-8")
    config = cli.after_crash(Config(data_dir=str(tmp_path)), "exit status 3")
    assert config.without == ("clumsy",)
    assert config.crashed == "exit status 3"
    assert "clumsy was running when Patchbay ended" in capsys.readouterr().out
    assert take_running_hook(tmp_path) == ""


ALONE = """
import fcntl, socket, struct, subprocess, sys, urllib.request
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
    fcntl.ioctl(s, 0x8914, struct.pack("16sh14x", b"lo", 1))  # SIOCSIFFLAGS, IFF_UP
program = subprocess.Popen([sys.executable, "-m", "webui", *sys.argv[1:]], stdout=subprocess.PIPE, text=True)
address = next(line.split()[3] for line in program.stdout if "Patchbay is at" in line)
print(urllib.request.urlopen(address, timeout=20).status)
program.terminate()
program.wait(20)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="network namespaces of Linux")
def test_it_starts_and_answers_on_a_machine_without_any_network(tmp_path: Path) -> None:
    alone = ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--net", "--map-root-user"]
    if not shutil.which("unshare") or subprocess.run([*alone, "true"], capture_output=True, check=False).returncode:
        pytest.skip("network namespaces are not allowed here")
    command = [*alone, sys.executable, "-c", ALONE, "--data-dir", str(tmp_path / "data"), "--no-browser"]
    environ = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "200\n", done.stderr


@unix
def test_an_extension_that_ends_the_program_is_left_out_of_the_next_start(tmp_path: Path) -> None:
    """The whole way: the program under its watcher, with an extension that calls os._exit when it starts."""
    data = tmp_path / "data"
    (data / "extensions").mkdir(parents=True)
    (data / "extensions" / "killer.py").write_text(
        '"""Ends everything."""\nimport os\nfrom webui import hookimpl\n\n'
        "@hookimpl\ndef lifespan(app):\n    os._exit(3)\n"
    )
    (data / "settings.yaml").write_text("extensions:\n  killer:\n    enabled: true\n")
    watch = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1])\n"
        "from webui.setup.supervise import Supervisor\n"
        "sys.exit(Supervisor(Path(sys.argv[1]), Path(sys.executable)).run(sys.argv[2:]))\n"
    )
    words = ["--data-dir", str(data), "--no-browser", "--port", free_port()]
    with subprocess.Popen(
        [sys.executable, "-c", watch, str(ROOT), *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        said = []
        for line in process.stdout or ():
            said.append(line)
            if "Patchbay is at" in line:
                break
        process.terminate()
        assert process.wait(30) == 0
    text = "".join(said)
    assert "Patchbay ended unexpectedly (exit status 3); starting it again." in text
    assert "The extension killer was running when Patchbay ended; it is left out this time." in text
    assert "Patchbay is at" in text


def test_a_window_without_pywebview_gets_a_clear_word(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    if cli.find_spec("webview"):
        pytest.skip("pywebview is installed")
    assert cli.main(["--window", "--data-dir", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert "--window needs pywebview" in said
    assert "install pywebview" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["docter"], "There is no command docter. Did you mean doctor?"),
        (["test"], "test is a command of start.py. Run: python start.py test"),
    ],
)
def test_a_word_that_is_no_command_is_answered(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(words) == 2
    assert said in capsys.readouterr().err


def test_a_browser_is_opened_only_where_there_is_a_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CI", "DISPLAY", "WAYLAND_DISPLAY", "BROWSER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    assert not cli._has_screen()
    monkeypatch.setenv("DISPLAY", ":0")
    assert cli._has_screen()
    monkeypatch.setenv("CI", "true")
    assert not cli._has_screen()
