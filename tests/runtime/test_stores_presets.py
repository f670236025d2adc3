"""Presets on the disk: shipped ones read only, one's own beside them, damaged ones listed."""

from __future__ import annotations

import os
import stat

import pytest

from webui import BadName, DiskFull, NotFound, PresetError, SettingError
from webui.runtime.stores import PresetStore, files

PLAIN = "description: A shipped one.\nauthor: Us\nsettings:\n  temperature: 0.7\n"


@pytest.fixture
def store(tmp_path):
    (tmp_path / "shipped").mkdir()
    (tmp_path / "shipped" / "Balanced.yaml").write_text(PLAIN)
    (tmp_path / "shipped" / "README.md").write_text("no preset")
    return PresetStore(tmp_path / "shipped", tmp_path / "own")


def shipped(store):
    return {p.name: p.read_bytes() for p in store.shipped.iterdir()}


def test_a_saved_preset_comes_back_with_its_settings(store):
    made = store.save("My own (2)", {"temperature": 1.5, "stop": ["\n\n"]}, "For tests.")
    assert made.own and not made.replaces and made.description == "For tests."
    again = PresetStore(store.shipped, store.own)
    assert [p.name for p in again.list()] == ["Balanced", "My own (2)"]
    settings = again.settings("My own (2)")
    assert settings.temperature == 1.5 and settings.stop == ("\n\n",) and settings.top_p == 1.0


def test_one_that_extends_another_starts_from_it(store):
    store.save("Warmer", {"top_k": 10}, extends="Balanced")
    assert store.settings("Warmer").temperature == 0.7 and store.settings("Warmer").top_k == 10
    with pytest.raises(PresetError, match="not there"):
        store.save("Orphan", {}, extends="Nowhere")
    assert "Orphan" not in [p.name for p in store.list()]


def test_an_own_preset_covers_a_shipped_one_which_returns_when_it_is_deleted(store):
    before = shipped(store)
    assert store.save("Balanced", {"temperature": 2.0}).replaces
    assert store.settings("Balanced").temperature == 2.0 and len(store.list()) == 1
    store.delete("Balanced")
    assert store.settings("Balanced").temperature == 0.7 and shipped(store) == before


def test_a_shipped_preset_is_never_deleted(store):
    before = shipped(store)
    with pytest.raises(PresetError, match="came with Patchbay"):
        store.delete("Balanced")
    assert shipped(store) == before


def test_an_unknown_name_is_answered_with_a_close_one(store):
    for call in (store.get, store.settings, store.delete):
        with pytest.raises(NotFound, match="Did you mean Balanced"):
            call("Balanced!")


@pytest.mark.parametrize(
    "name",
    [
        "../x",
        "/tmp/pwn",
        "..\\x",
        "",
        ".",
        " ",
        "con",
        "x.py",
        ".bashrc",
        "a\x00b",
        "%2e%2e%2fx",
        "x" * 300,
        "\u202ex",
        "//h/s",
    ],
)
def test_a_name_that_leads_elsewhere_is_refused_for_every_use(store, name, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises((PresetError, BadName)):
        store.save(name, {})
    for call in (store.get, store.settings, store.delete):
        with pytest.raises(NotFound):
            call(name)
    assert sorted(tmp_path.rglob("*")) == before


def test_values_out_of_range_are_refused_and_nothing_is_written(store):
    for values in ({"temperature": -1}, {"temperature": float("nan")}, {"tempersture": 1}, {"stop": 5}):
        with pytest.raises((PresetError, SettingError)):
            store.save("Bad", values)
    assert not list(store.own.glob("*"))


DAMAGED = {
    "tag": "settings: !!python/object/apply:os.system ['true']",
    "alias": "a: &a [1]\nsettings: *a",
    "brackets": "[" * 100_000,
    "large": "description: " + "x" * 5_000_000,
    "nan": "settings:\n  temperature: .nan",
    "no": "settings:\n  enable_thinking: NO",
    "clock": "settings:\n  seed: 12:30:45",
    "unknown": "settings:\n  banana: 1",
    "list": "- a\n- b",
    "tab": "settings:\n\ttemperature: 1",
    "bytes": b"\xff\xfe\x00\x01",
    "nul": "description: a\x00b",
    "twice": "settings:\n  top_k: 1\n  top_k: 2",
}


def test_a_damaged_file_is_listed_with_its_error_and_the_others_work(store):
    store.own.mkdir(mode=0o700)
    for name, content in DAMAGED.items():
        (store.own / f"{name}.yaml").write_bytes(content if isinstance(content, bytes) else content.encode())
    found = {p.name: p for p in store.list()}
    assert set(found) == {"Balanced", *DAMAGED} and found["Balanced"].error == ""
    for name in DAMAGED:
        assert found[name].error and found[name].own and not found[name].values, name
        with pytest.raises(PresetError, match="damaged"):
            store.settings(name)
    for name, line in (("nan", 2), ("unknown", 2), ("tab", 2), ("twice", 3)):
        assert f"ine {line} " in found[name].error, found[name].error
    store.delete("large")
    assert not (store.own / "large.yaml").exists()


def test_links_and_devices_in_ones_own_folder_are_not_read(store, tmp_path):
    store.own.mkdir()
    (tmp_path / "canary.yaml").write_text("description: CANARY")
    (store.own / "soft.yaml").symlink_to(tmp_path / "canary.yaml")
    os.link(tmp_path / "canary.yaml", store.own / "hard.yaml")
    os.mkfifo(store.own / "pipe.yaml")
    (store.own / "zero.yaml").symlink_to("/dev/zero")
    (store.own / "folder.yaml").mkdir()
    found = {p.name: p for p in store.list() if p.own}
    assert set(found) == {"soft", "hard", "pipe", "zero", "folder"} and all(p.error for p in found.values())
    assert "CANARY" not in repr(found)


def test_a_file_that_was_edited_is_read_anew(store):
    store.save("Mine", {"top_k": 1})
    path = store.own / "Mine.yaml"
    path.write_text("settings:\n  top_k: 22\n")
    assert store.settings("Mine").top_k == 22
    path.unlink()
    assert [p.name for p in store.list()] == ["Balanced"]


def test_files_are_private_and_leftovers_are_swept(store):
    store.save("Mine", {})
    assert stat.S_IMODE(store.own.stat().st_mode) == 0o700
    assert stat.S_IMODE((store.own / "Mine.yaml").stat().st_mode) == 0o600
    (store.own / ".tmp-x").write_text("half")
    PresetStore(store.shipped, store.own)
    assert [p.name for p in store.own.iterdir()] == ["Mine.yaml"]


def test_when_the_disk_is_full_the_old_file_stays(store, monkeypatch):
    store.save("Mine", {"top_k": 1})

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DiskFull, match=str(store.own)):
        store.save("Mine", {"top_k": 2})
    assert store.settings("Mine").top_k == 1 and [p.name for p in store.own.iterdir()] == ["Mine.yaml"]


def test_a_folder_in_the_place_of_a_file_is_an_error_that_names_it(tmp_path):
    (tmp_path / "blocked").write_text("a file")
    with pytest.raises(Exception, match="blocked"):
        files.write_atomic(tmp_path / "blocked" / "x.yaml", "x")
