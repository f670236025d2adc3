"""How long until a person can type: a second start, from the command to the answer, the page, and the tabs.

    python -m tests.bench.startup [rounds]

Prints the median seconds of each and its share of what is promised: 2 s for the answer, 4 s for a page of use.
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

from playwright.sync_api import sync_playwright

from tests.browser.conftest import FLAGS
from tests.runtime.serving import ROOT, free_port

PROMISED = {"answer": 2.0, "page": 4.0}


def one_start(folder: Path, browser: object) -> dict[str, float]:
    """Seconds from ``python start.py`` to the answer, to a text box that takes text, to the tabs."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, str(ROOT / "start.py"), "--no-browser", "--port", str(port), "--data-dir", str(folder)]
    began = time.perf_counter()
    program = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        found: dict[str, float] = {}
        while "answer" not in found:
            try:
                urllib.request.urlopen(url + "/health", timeout=5).read()
                found["answer"] = time.perf_counter() - began
            except (OSError, urllib.error.URLError):
                time.sleep(0.01)
        page = browser.new_page()  # type: ignore[attr-defined]  # a Playwright browser
        page.goto(url)
        page.locator("textarea:visible").first.fill("hello")
        found["page"] = time.perf_counter() - began
        while b'"panels":true' not in urllib.request.urlopen(url + "/health", timeout=5).read().replace(b" ", b""):
            time.sleep(0.05)
        found["tabs"] = time.perf_counter() - began
        page.close()
        return found
    finally:
        program.terminate()
        program.wait()


def main() -> None:
    """Run and print the medians."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        runs = [one_start(Path(folder) / "data", browser) for _ in range(rounds)]
        browser.close()
    for name in ("answer", "page", "tabs"):
        seconds = statistics.median(run[name] for run in runs)
        share = f"{seconds / PROMISED[name]:.2f} of what is promised" if name in PROMISED else ""
        print(f"{name:7} {seconds:5.2f} s   {share}")


if __name__ == "__main__":
    main()
