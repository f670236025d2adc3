"""The files that the browser gets."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

UI = Path(__file__).parents[2] / "webui" / "ui"
STATIC = UI / "static"
SHELL = (UI / "page" / "shell.html").read_text(encoding="utf-8")
SCRIPTS = sorted((STATIC / "js").glob("*.js"))
TEXTS = [*SCRIPTS, *sorted((STATIC / "css").glob("*.css")), UI / "page" / "shell.html"]


def test_every_script_is_fetched_at_once():
    named = set(re.findall(r'(?:modulepreload" href|src)="/static/js/([\w.]+)"', SHELL))
    assert named == {path.name for path in SCRIPTS}


def test_every_style_sheet_is_used():
    shell = set(re.findall(r'href="/static/css/([\w.]+)"', SHELL))
    panels = {"panels.css"}  # comes with the panels
    assert shell | panels >= {path.name for path in (STATIC / "css").glob("*.css")} >= shell


def test_every_icon_that_is_used_is_there_and_the_other_way_round():
    there = set(re.findall(r'<symbol id="([\w-]+)"', (STATIC / "icons.svg").read_text(encoding="utf-8")))
    shell = set(re.findall(r"icons\.svg#([\w-]+)", SHELL))
    scripts = "\n".join(path.read_text(encoding="utf-8") for path in SCRIPTS)
    assert shell <= there
    assert {name for name in there if name not in shell and f"'{name}'" not in scripts} == set()


@pytest.mark.parametrize("path", TEXTS, ids=lambda p: p.name)
def test_a_file_is_short_and_names_no_other_machine(path):
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 400
    assert set(re.findall(r"https?://[^\s'\"`)]+", text)) <= {"http://www.w3.org/2000/svg"}
    assert not re.search(r"\beval\(|new Function\(|\bon\w+=\"", text)


def test_only_what_the_server_cleaned_goes_in_as_html():
    uses = [
        f"{path.name}: {line.strip()}"
        for path in SCRIPTS
        for line in path.read_text(encoding="utf-8").splitlines()
        if re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write", line)
    ]
    assert uses == [
        "blocks.js: box.innerHTML = html;",  # a text area that is never shown: its value is the plain text
        "blocks.js: node.innerHTML = html;",
        "blocks.js: node.innerHTML = this.html[i];",
        "search.js: snippet.innerHTML = hit.snippet;",
    ]


def test_vendored_files_stand_with_their_licence():
    for folder in (p for p in (UI / "vendor").iterdir() if p.is_dir()):
        assert (folder / "LICENSE").is_file()
        assert folder.name in (UI / "vendor" / "README.md").read_text(encoding="utf-8")
