"""The pages that people read say what the program does: options, keys, tree, presets, settings, hooks."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from webui.core.config import Config
from webui.core.fields import describe
from webui.core.presets import parse, resolve
from webui.core.settings import GenerationSettings
from webui.runtime import hooks

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text("utf-8")


def section(title: str) -> str:
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", README, re.M | re.S)
    assert found, f"README has no section {title}"
    return found.group(1)


def test_every_option_is_in_the_readme_and_the_other_way_round() -> None:
    written = set(re.findall(r"`--([a-z-]+)`", section("Options")))
    assert written == {name.replace("_", "-") for name in describe(Config)}


def test_the_tree_in_the_readme_is_the_tree() -> None:
    named = set(re.findall(r"^(\S+?)/?\s{2,}", section("The tree"), re.M)) - {"```"}
    for name in named:
        assert (ROOT / name).exists(), name


def test_the_readmes_preset_is_a_preset() -> None:
    text = re.search(r"```yaml\n(.*?)```", section("Presets"), re.S)
    assert text
    preset = parse(text.group(1), "example")
    assert resolve(preset, lambda name: parse("", name)).min_p == 0.05


def test_links_in_the_pages_lead_somewhere() -> None:
    for page in [ROOT / "README.md", *ROOT.glob("*/README.md"), *ROOT.glob("*/*/README.md")]:
        for target in re.findall(r"\]\((?!https?:|#)([^)\s]+)\)", page.read_text("utf-8")):
            assert (page.parent / target.partition("#")[0]).exists(), f"{page.name}: {target}"


def test_every_folder_that_people_extend_has_a_page() -> None:
    for folder in ("loaders", "extensions", "presets", "models"):
        assert (ROOT / folder / "README.md").is_file()


def test_every_hook_is_in_the_extensions_page() -> None:
    page = (ROOT / "extensions" / "README.md").read_text("utf-8")
    for name, found in vars(hooks).items():
        if inspect.isfunction(found) and hasattr(found, "patchbay_spec"):
            assert f"`{name}(" in page or f"def {name}(" in page, name


@pytest.mark.parametrize("name", list(describe(GenerationSettings)))
def test_every_setting_says_what_it_does_in_a_sentence(name: str) -> None:
    found = describe(GenerationSettings)[name]
    assert found.help.endswith(".") and len(found.help) > 20 and found.group


def test_the_keys_of_the_readme_are_the_keys_of_the_page() -> None:
    table = set(re.findall(r"^\| ([^|]+?) \|", section("Keys"), re.M)) - {"key", "---"}
    scripts = "\n".join(p.read_text("utf-8") for p in (ROOT / "webui/ui/static").rglob("*.js"))
    for row in table:
        for key in row.split(", "):
            shown = key.replace(" in an empty box", "").strip()
            if shown not in ("in an empty box", ""):
                assert shown in scripts, f"the page does not know {shown}"
