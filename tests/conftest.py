"""For all tests: nothing of the person's own machine is read or written, and what a test cannot do here is said."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import hypothesis  # noqa: F401  # its plugin would import it at the very end, where CPython 3.11 fails to parse it
import pytest

CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ON_CI = os.environ.get("CI", "") not in ("", "0", "false")


def find_chromium() -> str:
    """The path of a Chromium on this machine, or nothing."""
    return next(filter(None, map(shutil.which, CHROMIUM)), "") or ""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The browser's suite goes last: while its one browser is open, an event loop runs in the tests' own thread."""
    items.sort(key=lambda item: item.path.parent.name == "browser")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """A browser test without a browser is skipped on a person's machine and fails on CI, where it would hide."""
    if item.get_closest_marker("browser") and not find_chromium():
        if ON_CI:
            pytest.fail("There is no Chromium for the browser tests; .ci/run installs one.", pytrace=False)
        pytest.skip("no Chromium on this machine")
    if item.get_closest_marker("gpu") and not Path("/proc/driver/nvidia/version").exists():
        pytest.skip("no NVIDIA card on this machine")


@pytest.fixture
def chromium() -> str:
    """The path of the browser; for tests that are marked ``browser``."""
    return find_chromium()


@pytest.fixture(autouse=True, scope="session")
def _own_surroundings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A home of the tests' own, and no options from outside, also for every process that a test starts."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith(("PATCHBAY_", "GRADIO_")):
                patch.delenv(name)
        for name in ("XDG_DATA_HOME", "XDG_CONFIG_HOME", "LOCALAPPDATA"):
            patch.setenv(name, str(home / name.lower()))
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setenv("GRADIO_ANALYTICS_ENABLED", "False")
        yield
