"""The catalogue of models, and swapping the loader under one, with tiny models and real engines."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import models as tiny
from tests.runtime.driving import config, drive
from webui.core.errors import LoadFailed, NotFound
from webui.runtime import conversation as talk
from webui.runtime.app import App, create_app

EXACT = {"cache_type_k": "f32", "cache_type_v": "f32", "flash_attention": "off", "threads": 1}


def test_files_and_folders_become_models_with_the_loaders_that_fit(tmp_path: Path) -> None:
    folder = tmp_path / "models"
    (folder / "org").mkdir(parents=True)
    tiny.make_gguf(folder / "one.gguf")
    tiny.make_gguf(folder / "org" / "two.gguf")
    tiny.make_folder(folder / "three")
    (folder / "notes.txt").write_text("not a model")
    (folder / "mmproj-one.gguf").write_bytes(b"GGUF")

    async def test(app: App) -> None:
        found = {m.name: m for m in app.models.list()}
        assert {"one", "org/two", "three", "echo"} <= set(found)
        assert "notes" not in found and "mmproj-one" not in found
        assert found["one"].loader == "llamacpp" and found["three"].loader == "huggingface"
        assert found["one"].size > 100_000
        with pytest.raises(NotFound, match="Did you mean one"):
            app.models.get("onne")

    drive(tmp_path, test)


def test_a_new_file_is_found_by_a_refresh_and_a_path_is_a_name_too(tmp_path: Path) -> None:
    outside = tiny.make_gguf(tmp_path / "elsewhere.gguf")

    async def test(app: App) -> None:
        assert app.models.default() == "elsewhere"
        assert app.models.get("elsewhere").loader == "llamacpp"
        tiny.make_gguf(tmp_path / "models" / "late.gguf")
        app.models.refresh()
        assert app.models.get("late").state == "unloaded"
        assert app.models.get("elsewhere").path == outside

    drive(tmp_path, test, model=str(outside))


def test_the_loader_under_a_model_is_swapped_and_the_chat_goes_on(tmp_path: Path) -> None:
    both = tiny.make_folder(tmp_path / "models" / "both")
    tiny.make_gguf(both / "both.gguf")

    async def test(app: App) -> None:
        app.models.save_settings("both", loader="llamacpp", options={**EXACT, "context": 512})
        assert {n for n, _ in app.models.get("both").loaders} >= {"llamacpp", "huggingface"}
        chat = await talk.create(app, model="both", loader="llamacpp", settings={"temperature": 0, "max_tokens": 12})
        chat = app.chats.update(chat.id, settings={"temperature": 0, "max_tokens": 12, "auto_max_tokens": False})
        chat, reply = await talk.send(app, chat.id, "Hello there")
        first = await reply.wait()
        assert first.status == "done" and first.loader == "llamacpp", first.error
        await app.models.load("both", "huggingface", {"dtype": "float32", "threads": 1})
        chat = app.chats.update(chat.id, loader="huggingface")
        chat, reply = await talk.regenerate(app, chat.id, first.id)
        second = await reply.wait()
        assert second.status == "done" and second.loader == "huggingface", second.error
        assert second.text == first.text
        assert second.details["prompt_tokens"] == first.details["prompt_tokens"]

    drive(tmp_path, test, model="both", seconds=150)


def test_a_broken_file_is_refused_in_words_and_the_app_goes_on(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "page.gguf").write_text("<html>not a model</html>")

    async def test(app: App) -> None:
        with pytest.raises(LoadFailed, match="not a usable GGUF"):
            await app.models.load("page")
        model = app.models.get("page")
        assert model.state == "failed" and "GGUF" in model.error
        tiny.make_gguf(tmp_path / "models" / "page.gguf")
        await app.models.load("page")
        assert app.models.get("page").state == "loaded"
        await app.models.unload("page")
        assert app.models.get("page").state == "unloaded"

    drive(tmp_path, test)


def test_settings_of_a_model_are_kept_and_wrong_ones_refused(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    tiny.make_gguf(tmp_path / "models" / "one.gguf")

    async def test(app: App) -> None:
        app.models.save_settings("one", template="{{ messages[-1].content }}", preset="Deterministic")
        with pytest.raises(NotFound, match="cannot open"):
            app.models.save_settings("one", loader="huggingface")
        chat = await talk.create(app, model="one")
        assert talk.effective(app, chat)[1] == "Deterministic"

    drive(tmp_path, test)
    app = create_app(config(tmp_path))
    assert app.models.get("one").settings["template"] == "{{ messages[-1].content }}"
    app.chats.close()


def test_at_most_two_models_stay_loaded(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    for name in ("a", "b", "c"):
        tiny.make_gguf(tmp_path / "models" / f"{name}.gguf")

    async def test(app: App) -> None:
        for name in ("a", "b", "c"):
            await app.models.load(name)
        assert [m.name for m in app.models.list() if m.state == "loaded"] == ["b", "c"]

    drive(tmp_path, test)
