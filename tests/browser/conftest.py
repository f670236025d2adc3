"""A real server with the echo loader, and Chromium in front of it.

Every page is watched: an error in the console, a failed request or a request to another machine fails the test.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Locator, Page, Request, expect, sync_playwright

ROOT = Path(__file__).parents[2]
FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    " --disable-component-update --disable-sync"
).split()
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")

expect.set_options(timeout=8000)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("browser")


@dataclass
class Program:
    """The program as a process of its own; it can be ended and started again on the same port and data."""

    data: Path
    models: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        words = [sys.executable, "-m", "webui", "serve", "--port", str(self.port), "--no-browser", "--model", "echo"]
        words += ["--data-dir", str(self.data), "--models-dir", str(self.models)]
        with (self.data.parent / "program.log").open("ab") as log:
            self.process = subprocess.Popen(words, cwd=ROOT, stdout=log, stderr=log, env=clean_environment())
        end = time.monotonic() + 40
        while time.monotonic() < end:
            if self.process.poll() is not None:
                break
            try:
                with urllib.request.urlopen(f"{self.url}/health", timeout=2):
                    return
            except OSError:
                time.sleep(0.05)
        pytest.fail("The program did not start.\n" + (self.data.parent / "program.log").read_text()[-3000:])

    def stop(self, *, kill: bool = False) -> None:
        if self.process is None:
            return
        if kill:
            self.process.kill()
        else:
            self.process.terminate()
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(5)
        self.process = None


def clean_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("PATCHBAY_")}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def start_program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Program]]:
    programs: list[Program] = []

    def start() -> Program:
        folder = tmp_path_factory.mktemp("program")
        (folder / "models").mkdir()
        program = Program(folder / "data", folder / "models", free_port())
        programs.append(program)
        program.start()
        return program

    yield start
    for program in programs:
        program.stop()


@pytest.fixture(scope="session")
def program(start_program: Callable[[], Program]) -> Program:
    return start_program()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    path = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        word = "Chromium is not installed: the pages cannot be tried."
        if os.environ.get("CI"):
            pytest.fail(word)
        pytest.skip(word)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield chromium
        chromium.close()


@dataclass
class Watch:
    """What must not happen on a page."""

    url: str
    problems: list[str] = field(default_factory=list)
    allowed: list[str] = field(default_factory=list)  # parts of problems that a test provokes

    def on(self, context: BrowserContext) -> None:
        context.on("console", self._console)
        context.on("weberror", lambda error: self.problems.append(f"script: {error.error}"))
        context.on("request", self._request)
        context.on("dialog", lambda dialog: (self.problems.append(f"dialog: {dialog.message}"), dialog.dismiss()))

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.problems.append(f"console: {message.text}")

    def _request(self, request: Request) -> None:
        if not request.url.startswith((self.url, "data:", "blob:")):
            self.problems.append(f"request: {request.url}")

    def check(self) -> None:
        assert [p for p in self.problems if not any(a in p for a in self.allowed)] == []


@dataclass
class Chat:
    """The chat page as a person uses it."""

    page: Page
    watch: Watch
    url: str

    def open(self, path: str = "/") -> Chat:
        self.page.goto(self.url + path)
        self.page.locator("body[data-ready]").wait_for()
        return self

    @property
    def box(self) -> Locator:
        return self.page.get_by_label("Message", exact=True)

    @property
    def last(self) -> Locator:
        return self.page.locator("article.message.last")

    @property
    def texts(self) -> list[str]:
        return [t.strip() for t in self.page.locator("article.message .body").all_inner_texts()]

    def say(self, text: str) -> Chat:
        self.box.fill(text)
        self.box.press("Enter")
        return self

    def wait(self, status: str = "done") -> Chat:
        """Until the last reply has ended."""
        expect(self.last).to_have_attribute("data-status", status)
        expect(self.last).to_have_class("message assistant last")
        return self

    def ask(self, text: str) -> Chat:
        """Says something and waits for the whole answer."""
        before = self.page.locator("article.message").count()
        self.say(text)
        expect(self.page.locator("article.message")).to_have_count(before + 2)
        return self.wait()

    def act(self, name: str, message: Locator | None = None) -> None:
        message = message or self.last
        message.hover()
        message.get_by_role("button", name=name, exact=True).click()


@pytest.fixture
def new_chat(browser: Browser, program: Program) -> Iterator[Callable[..., Chat]]:
    """Makes pages: ``new_chat()`` in a profile of its own, ``new_chat(beside=chat)`` in another tab of the same."""
    contexts: list[BrowserContext] = []
    watches: list[Watch] = []

    def make(*, beside: Chat | None = None, at: Program = program, **options: object) -> Chat:
        if beside is not None:
            return Chat(beside.page.context.new_page(), beside.watch, beside.url)
        options.setdefault("viewport", {"width": 1200, "height": 800})
        context = browser.new_context(**options)  # type: ignore[arg-type]
        watch = Watch(at.url)
        watch.on(context)
        contexts.append(context)
        watches.append(watch)
        return Chat(context.new_page(), watch, at.url)

    yield make
    for context in contexts:
        context.close()
    for watch in watches:
        watch.check()


@pytest.fixture
def chat(new_chat: Callable[..., Chat]) -> Chat:
    return new_chat().open()
