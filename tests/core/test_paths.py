"""Names from outside become file names only when they are safe on every system."""

from __future__ import annotations

import pytest

from webui.core.errors import BadName
from webui.core.paths import LONGEST, below, checked_name, inside

BAD = [
    "", " ", ".", "..", "...", "/", "\\", ".bashrc", "~", "~root", " a", "a ", "a.", "a\u200b", ".\u200b", "\u202ea",
    "../x", "../../../tmp/canary.txt", "/tmp/canary", "..\\..\\x", "a/b", "a\\b", "C:\\x", "C:x", "\\\\host\\s",
    "//host/s", "%2e", "%2e%2e%2f", "%252e%252e%252f", "..%5c", "a%00.yaml", "a\x00b", "a\nb", "a\x7fb", "a\u2028b",
    "\ud800",
    "con", "CON", "Con.yaml", "nul", "aux.txt", "com1", "LPT9.x", "COM¹", "prn .y", "conin$",
    'a"b', "a<b", "a|b", "a?b", "a*b",
    "x" * 300, "é" * 100, "／etc", "．．", "a：b", "file:///etc/passwd",
]  # fmt: skip
GOOD = [
    "a",
    "Balanced",
    "My preset (2)",
    "v1.5",
    "Prüfung",
    "日本語",
    "emoji 🎉",
    "100%",
    "console",
    "x" * LONGEST,
]


@pytest.mark.parametrize("name", BAD)
def test_a_bad_name_is_refused_with_a_short_printable_sentence(name, tmp_path):
    for check in (lambda: checked_name(name), lambda: inside(tmp_path, name, ".yaml"), lambda: inside(tmp_path, name)):
        with pytest.raises(BadName) as raised:
            check()
        assert raised.value.status == 400 and len(str(raised.value)) < 220 and str(raised.value).isprintable()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", GOOD)
def test_a_good_name_is_a_file_in_its_folder(name, tmp_path):
    path = inside(tmp_path, name, ".yaml")
    path.write_text("x")
    assert path.parent == tmp_path and [p.name for p in tmp_path.iterdir()] == [checked_name(name) + ".yaml"]


def test_two_ways_to_write_one_name_are_one_file(tmp_path):
    assert inside(tmp_path, "Pru\u0308fung") == inside(tmp_path, "Prüfung")


@pytest.mark.parametrize("name", ["x.py", "x.yaml", "start.PY", "a.b.sh", "x.html"])
def test_a_name_may_not_bring_an_ending_of_its_own(name, tmp_path):
    with pytest.raises(BadName, match="ends like a file"):
        inside(tmp_path, name, ".yaml")
    assert inside(tmp_path, name).name == name


@pytest.mark.parametrize("name", [5, None, b"x", ["x"]])
def test_what_is_no_text_is_refused(name, tmp_path):
    with pytest.raises(BadName):
        inside(tmp_path, name)
    with pytest.raises(BadName):
        below(tmp_path, name)


def test_a_link_is_not_followed(tmp_path):
    (tmp_path / "canary").write_text("CANARY")
    root = tmp_path / "root"
    root.mkdir()
    (root / "link.yaml").symlink_to(tmp_path / "canary")
    (root / "out").symlink_to(tmp_path)
    for check in (
        lambda: inside(root, "link", ".yaml"),
        lambda: below(root, "link.yaml"),
        lambda: below(root, "out/canary"),
    ):
        with pytest.raises(BadName):
            check()
    assert below(root, "out/canary", links=True).read_text() == "CANARY"


def test_a_folder_that_is_itself_reached_by_a_link_works(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert inside(tmp_path / "link", "a", ".yaml").parent == tmp_path / "link"
    assert below(tmp_path / "link", "a/b") == tmp_path / "link" / "a" / "b"


def test_a_sibling_with_the_same_beginning_is_outside(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data-evil").mkdir()
    for name in ("../data-evil/c.txt", "..", "a/../../data-evil/c.txt"):
        with pytest.raises(BadName):
            below(tmp_path / "data", name)


@pytest.mark.parametrize("name", [n for n in BAD if n not in ("a/b",)] + ["a//b", "a/", "a/../b", "a/./b", "a/con/b"])
def test_each_part_of_a_path_is_checked(name, tmp_path):
    with pytest.raises(BadName):
        below(tmp_path, name)
    with pytest.raises(BadName):
        below(tmp_path, f"good/{name}")


def test_a_path_of_several_parts_is_below_its_folder(tmp_path):
    assert below(tmp_path, "author/model-Q4.gguf") == tmp_path / "author" / "model-Q4.gguf"
