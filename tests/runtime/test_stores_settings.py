"""Settings in YAML files that a person may edit."""

from __future__ import annotations

import os
import stat
import threading
from dataclasses import dataclass

import pytest
import yaml

from webui import SettingError, StoreError, setting
from webui.runtime.stores import SettingsStore


@dataclass(frozen=True)
class Voice:
    """Settings of an extension."""

    speed: float = setting(1.0, "How fast.", valid=(0.1, 10))
    name: str = setting("Ann", "Who.")
    key: str = setting("", "Secret.", secret=True)


@dataclass(frozen=True)
class PageLook:
    """Settings of the program's own."""

    theme: str = setting("system", "Colours.", choices=("system", "light", "dark"))


@pytest.fixture
def store(tmp_path):
    made = SettingsStore(tmp_path)
    made.declare(Voice, "speech")
    return made


def test_a_section_comes_back_and_others_stay(store, tmp_path):
    (tmp_path / "settings.yaml").write_text("future: {a: 1}\napp:\n  theme: dark\nnumber: 5\n")
    assert store.section("app") == {"theme": "dark"} and store.section("number") == {} == store.section("nothing")
    store.save_section("models", {"x": {"options": {"threads": 2}, "stop": ("a", "b")}})
    again = SettingsStore(tmp_path)
    assert again.section("models") == {"x": {"options": {"threads": 2}, "stop": ["a", "b"]}}
    assert again.section("future") == {"a": 1} and "number: 5" in (tmp_path / "settings.yaml").read_text()


def test_what_a_caller_does_to_a_section_changes_nothing(store):
    store.save_section("app", {"list": [1]})
    store.section("app")["list"].append(2)
    assert store.section("app") == {"list": [1]}


def test_settings_of_an_extension_have_a_file_of_their_own_and_scopes(store, tmp_path):
    store.set(Voice(speed=2.0))
    store.set(Voice(speed=2.0, name="Bob"), scope="chat:1")
    assert yaml.safe_load((tmp_path / "extensions" / "speech.yaml").read_text()) == {
        "speed": 2.0,
        "scopes": {"chat:1": {"name": "Bob"}},
    }
    store.set(Voice(speed=3.0))
    assert store.get(Voice, "chat:1") == Voice(3.0, "Bob") and store.get(Voice) == Voice(3.0)
    store.set(Voice(speed=3.0), scope="chat:1")
    assert "scopes" not in (tmp_path / "extensions" / "speech.yaml").read_text()


def test_the_programs_own_settings_are_a_section(store, tmp_path):
    store.set(PageLook("dark"))
    assert store.section("page_look") == {"theme": "dark"} and SettingsStore(tmp_path).get(PageLook).theme == "dark"
    with pytest.raises(SettingError):
        store.set(PageLook("light"), scope="chat:1")


def test_a_value_that_cannot_be_counts_as_not_set_and_unknown_ones_are_kept(store, tmp_path):
    path = tmp_path / "extensions" / "speech.yaml"
    path.parent.mkdir()
    path.write_text("speed: 99\nname: Cleo\nlater: kept\n")
    assert store.get(Voice) == Voice(name="Cleo")
    assert any("speech.yaml" in n and "0.1 to 10" in n for n in store.notices)
    store.set(Voice(speed=2.0))
    assert yaml.safe_load(path.read_text()) == {"later": "kept", "speed": 2.0}


@pytest.mark.parametrize(
    "content",
    [
        b"a: [",
        b"\xff\xfe",
        b"- a list",
        b"a: &x 1\nb: *x",
        b"a: !!python/name:os.system",
        b"[" * 5000,
        b"\x00",
        b"text",
    ],
)
def test_a_damaged_file_is_set_aside_and_said(tmp_path, content):
    (tmp_path / "settings.yaml").write_bytes(content)
    store = SettingsStore(tmp_path)
    (kept,) = tmp_path.glob("settings.damaged-*.yaml")
    assert kept.read_bytes() == content and kept.name in store.notices[0] and store.section("app") == {}
    store.save_section("app", {"a": 1})
    assert SettingsStore(tmp_path).section("app") == {"a": 1} and kept.exists()


def test_a_file_that_cannot_be_read_now_is_not_replaced_by_nothing(tmp_path):
    (tmp_path / "settings.yaml").mkdir()
    store = SettingsStore(tmp_path)
    assert store.section("app") == {} and store.notices
    real = tmp_path / "real"
    real.mkdir()
    store = SettingsStore(real)
    store.save_section("app", {"a": 1})
    (real / "settings.yaml").chmod(0)
    if os.access(real / "settings.yaml", os.R_OK):  # permissions mean nothing to this user
        return
    blind = SettingsStore(real)
    assert blind.section("app") == {} and blind.notices
    with pytest.raises(StoreError, match="not replaced"):
        blind.save_section("app", {"b": 2})


def test_a_file_that_was_edited_is_read_anew(store, tmp_path):
    store.save_section("app", {"theme": "dark"})
    (tmp_path / "settings.yaml").write_text("app: {theme: light, more: 1}\n")
    assert store.section("app") == {"theme": "light", "more": 1}


def test_files_are_private(store, tmp_path):
    store.set(Voice(key="secret"))
    store.save_section("app", {})
    for path in (tmp_path / "extensions" / "speech.yaml", tmp_path / "settings.yaml"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "extensions").stat().st_mode) == 0o700


def test_threads_that_save_different_sections_lose_none(store, tmp_path):
    def work(n):
        for k in range(5):
            store.save_section(f"s{n}", {"k": k})

    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    again = SettingsStore(tmp_path)
    assert all(again.section(f"s{n}") == {"k": 4} for n in range(6)) and not list(tmp_path.glob(".tmp-*"))


def test_values_that_yaml_cannot_hold_are_refused(store):
    with pytest.raises(SettingError, match="cannot be stored"):
        store.save_section("app", {"x": object()})
    assert store.section("app") == {}


def test_texts_that_yaml_reads_otherwise_come_back_as_they_were(store, tmp_path):
    odd = {
        "a": "NO",
        "b": "12:30:45",
        "c": "1e5",
        "d": "",
        "e": "\u202e\x07",
        "f": "null",
        "g": "line\nline",
        "h": "🎉 #x: y",
    }
    store.save_section("odd", odd)
    assert SettingsStore(tmp_path).section("odd") == odd
