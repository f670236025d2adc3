"""A package index of tiny packages on the disk, and an environment to fill from it: nothing leaves the machine."""

from __future__ import annotations

import base64
import hashlib
import io
import shutil
import tarfile
import zipfile
from pathlib import Path

import pytest

from webui.setup.environment import Environment
from webui.setup.sections import Installer

ROOT = Path(__file__).resolve().parents[2]

BACKEND = '''
"""Builds a wheel without any help, and writes down under which flags."""
import os, zipfile

def build_wheel(folder, config_settings=None, metadata_directory=None):
    name = "engine-1.0-py3-none-any.whl"
    with zipfile.ZipFile(os.path.join(folder, name), "w") as wheel:
        flags = [os.environ.get("CMAKE_ARGS"), "SOURCE_DATE_EPOCH" in os.environ]
        wheel.writestr("engine.py", "FLAGS = " + repr(flags))
        wheel.writestr("engine-1.0.dist-info/METADATA", "Metadata-Version: 2.1\\nName: engine\\nVersion: 1.0\\n")
        wheel.writestr("engine-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\\nGenerator: x\\nTag: py3-none-any\\n")
        wheel.writestr("engine-1.0.dist-info/RECORD", "engine.py,,\\n")
    print("[1/2] compiling")
    return name
'''


def write_wheel(folder: Path, name: str, version: str, files: dict[str, str]) -> None:
    """A wheel that pip takes."""
    info = f"{name}-{version}.dist-info"
    content = files | {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    lines = []
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        for path, text in content.items():
            data = text.encode()
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            lines.append(f"{path},sha256={digest},{len(data)}")
            wheel.writestr(path, data)
        wheel.writestr(f"{info}/RECORD", "\n".join([*lines, f"{info}/RECORD,,"]) + "\n")


def write_sdist(folder: Path) -> None:
    """A source package that only builds, with a backend of its own."""
    files = {
        "pyproject.toml": "[build-system]\nrequires = []\nbuild-backend = 'backend'\nbackend-path = ['.']\n"
        "[project]\nname = 'engine'\nversion = '1.0'\n",
        "backend.py": BACKEND,
        "PKG-INFO": "Metadata-Version: 2.1\nName: engine\nVersion: 1.0\n",
    }
    with tarfile.open(folder / "engine-1.0.tar.gz", "w:gz") as archive:
        for name, text in files.items():
            entry = tarfile.TarInfo(f"engine-1.0/{name}")
            entry.size = len(text.encode())
            archive.addfile(entry, io.BytesIO(text.encode()))


@pytest.fixture(scope="session")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of packages: page 1.0 and 2.0, speech 1.0 (of many files), and engine 1.0 as source."""
    folder = tmp_path_factory.mktemp("index")
    for version in ("1.0", "2.0"):
        write_wheel(folder, "page", version, {"page.py": f"VERSION = '{version}'\n"})
    many = {f"speech/part{n}.py": f"NUMBER = {n}\n" * 200 for n in range(1500)}
    write_wheel(folder, "speech", "1.0", {"speech/__init__.py": "", **many})
    write_sdist(folder)
    return folder


@pytest.fixture(scope="session")
def empty_environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment, made once; tests get copies."""
    root = tmp_path_factory.mktemp("empty")
    environment = Environment(root)
    environment.folder.mkdir()
    environment.make()
    return environment.folder


LOCK = "# [core] the page\npage==1.0\n\n# [speech] talks\nspeech==1.0\n\n# [engine] built here\nengine==1.0\n"


@pytest.fixture
def checkout(tmp_path: Path, index: Path, empty_environment: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a lock file and an empty environment whose pip sees the small index only; its path is awkward."""
    root = tmp_path / "mañana и 明日"
    root.mkdir()
    shutil.copytree(empty_environment, root / ".venv", symlinks=True)
    (root / "requirements.lock").write_text(LOCK, encoding="utf-8")
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return root


def installer(root: Path) -> Installer:
    """What a new start would see."""
    return Installer(Environment(root), root / "requirements.lock")
