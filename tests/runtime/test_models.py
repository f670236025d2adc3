"""The catalogue of models, and swapping the loader under one, with tiny models and real engines."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests import models as tiny
from tests.runtime.driving import config, drive
from webui.core.errors import LoadFailed, NotFound, PatchbayError
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


def workers() -> set[int]:
    """The worker processes of this one, their remains too."""
    return {p.pid for p in psutil.Process().children(recursive=True)}


async def until(condition: Callable[[], bool], seconds: float = 10) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)


def test_unloading_while_it_loads_gives_the_load_up(tmp_path: Path) -> None:
    async def test(app: App) -> None:
        app.models.save_settings("echo", options={"load_seconds": 60})
        loading = asyncio.create_task(app.models.load("echo"))
        await until(lambda: app.models.get("echo").text == "waiting")
        await asyncio.wait_for(app.models.unload("echo"), 4)
        with pytest.raises(LoadFailed, match="cancelled"):
            await loading
        model = app.models.get("echo")
        assert (model.state, model.error) == ("unloaded", "") and not workers()

    drive(tmp_path, test)


def test_a_load_that_is_given_up_leaves_a_reason(tmp_path: Path) -> None:
    async def test(app: App) -> None:
        app.models.save_settings("echo", options={"load_seconds": 60})
        loading = asyncio.create_task(app.models.load("echo"))
        await until(lambda: app.models.get("echo").text == "waiting")
        os.kill(next(iter(workers())), signal.SIGSTOP)  # it never answers again
        await asyncio.wait_for(app.models.abort("echo"), 4)
        with pytest.raises(LoadFailed):
            await loading
        assert app.models.get("echo").state == "failed" and "cancelled" in app.models.get("echo").error

    drive(tmp_path, test)


@pytest.mark.parametrize(
    ("options", "reason"),
    [({"load_error": "no tensors"}, "no tensors"), ({"context": "many"}, "context"), ({"nonsense": 1}, "nonsense")],
)
def test_whatever_a_load_fails_of_stands_with_the_model(tmp_path: Path, options: dict[str, Any], reason: str) -> None:
    async def test(app: App) -> None:
        with pytest.raises(PatchbayError, match=reason):
            await app.models.load("echo", None, options)
        model = app.models.get("echo")
        assert model.state == "failed" and reason in model.error
        await app.models.load("echo", None, {})
        assert (model.state, model.error) == ("loaded", "")

    drive(tmp_path, test)


def test_a_chat_that_wants_other_options_waits_for_the_reply_of_another(tmp_path: Path) -> None:
    both = tiny.make_folder(tmp_path / "models" / "both")
    tiny.make_gguf(both / "both.gguf")

    async def test(app: App) -> None:
        app.models.save_settings("both", loader="llamacpp", options={**EXACT, "context": 2048})
        values = {"temperature": 0, "max_tokens": 1500, "auto_max_tokens": False, "ban_eos": True}
        slow = {**values, "max_tokens_per_second": 50}
        first = await talk.create(app, model="both", loader="llamacpp", settings=slow)
        second = await talk.create(app, model="both", loader="huggingface", settings={**values, "max_tokens": 3})
        _, one = await talk.send(app, first.id, "Hello")
        await until(lambda: one.tokens > 3, 30)
        _, two = await talk.send(app, second.id, "Hello")
        await until(lambda: two.progress is not None and two.progress.stage == "queued")
        assert not one.done
        two.stop()
        await two.wait()
        await asyncio.sleep(0.3)
        await asyncio.wait_for(app.models.unload("both"), 4)  # nobody holds the model up
        assert (await one.wait()).status == "failed" and "unloaded" in one.error
        await asyncio.sleep(0.3)
        assert app.models.get("both").state == "unloaded" and not workers()  # the one that waited is taken back

    drive(tmp_path, test, model="both")


def test_loading_and_unloading_gives_everything_back(tmp_path: Path) -> None:
    async def test(app: App) -> None:
        this = psutil.Process()

        async def cycle(times: int) -> tuple[int, int, int]:
            for _ in range(times):
                await app.models.load("echo")
                chat = await talk.create(app)
                _, reply = await talk.send(app, chat.id, "hello")
                await reply.wait()
                await reply.settled()
                await app.models.unload("echo")
            gc.collect()
            return this.memory_info().rss, this.num_fds(), len(asyncio.all_tasks()) - len(app.replies)

        memory, files, tasks = await cycle(6)
        memory_later, files_later, tasks_later = await cycle(24)
        assert memory_later < memory * 1.05 and files_later <= files and tasks_later <= tasks
        assert not workers()

    drive(tmp_path, test)


@pytest.mark.parametrize(
    "template",
    [
        "{% for a in range(99999) %}{% for b in range(99999) %}{% set c = a %}{% endfor %}{% endfor %}",
        "{{ 'A' * 9999999999 }}",
        "{% set x = namespace(s='ab') %}{% for a in range(60) %}{% set x.s = x.s ~ x.s %}{% endfor %}{{ x.s }}",
        "{{ 7 ** 999999999 }}",
        "{{ '%99999999999d' % 7 }}",
        "{% for a in range(99999) %}{{ 'many letters' * 99 }}{% endfor %}",
    ],
)
def test_a_template_that_means_ill_neither_hangs_the_worker_nor_fills_the_memory(tmp_path: Path, template: str) -> None:
    (tmp_path / "models").mkdir()
    tiny.make_gguf(tmp_path / "models" / "one.gguf")

    async def test(app: App) -> None:
        app.models.save_settings("one", options={**EXACT, "context": 512})
        await app.models.load("one")
        app.models.save_settings("one", template=template)
        chat = await talk.create(app, model="one")
        _, reply = await talk.send(app, chat.id, "Hello")
        message = await asyncio.wait_for(reply.wait(), 20)
        assert message.status == "failed" and "template" in message.error, message
        pid = app.models.process("one").pid
        assert psutil.Process(pid).memory_info().rss < 1_500_000_000
        assert await asyncio.wait_for(app.models.process("one").count("still there"), 5) > 0
        app.models.save_settings("one", template="{{ messages[-1].content }}")
        settings = {"max_tokens": 3, "auto_max_tokens": False}
        chat = app.chats.update(chat.id, settings=settings)
        _, reply = await talk.send(app, chat.id, "Hello again")
        assert (await reply.wait()).status in ("done", "stopped")

    drive(tmp_path, test, model="one")


def test_a_message_beyond_all_bounds_is_refused_in_seconds_and_the_loop_stays_free(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    tiny.make_gguf(tmp_path / "models" / "one.gguf")

    async def test(app: App) -> None:
        await app.models.load("one", "llamacpp", {**EXACT, "context": 512})
        chat = await talk.create(app, model="one")
        longest = 0.0

        async def look() -> None:
            nonlocal longest
            while True:
                before = time.monotonic()
                await asyncio.sleep(0.01)
                longest = max(longest, time.monotonic() - before - 0.01)

        looking = asyncio.create_task(look())
        began = time.monotonic()
        _, reply = await talk.send(app, chat.id, "emoji 🦙 and words " * 58_000)
        message = await reply.wait()
        looking.cancel()
        assert message.status == "failed" and "context leaves room" in message.error
        assert time.monotonic() - began < 20
        assert longest < 0.5
        chat = app.chats.update(chat.id, settings={"truncation_length": 30}, system="Be kind. " * 30)
        _, reply = await talk.send(app, chat.id, "Hello", "")
        assert "context leaves room for" in (await reply.wait()).error
        chat = app.chats.update(chat.id, settings={"max_tokens": 100_000}, system="")
        _, reply = await talk.send(app, chat.id, "Hello again", "")
        assert (await reply.wait()).status == "done"  # room that cannot be kept free is halved

    drive(tmp_path, test, model="one")


def test_a_worker_that_dies_while_it_loads_is_not_started_again_and_again(tmp_path: Path) -> None:
    async def test(app: App) -> None:
        app.models.save_settings("echo", options={"load_seconds": 60})
        chat, model = await talk.create(app), app.models.get("echo")
        for n in range(3):
            _, reply = await talk.send(app, chat.id, f"hello {n}")
            await until(lambda: model.state == "loading" and model.text == "waiting")
            os.kill(next(iter(workers())), signal.SIGKILL)
            assert "signal 9" in (await reply.wait()).error
        _, reply = await talk.send(app, chat.id, "hello")
        assert "crashed 3 times" in (await reply.wait()).error

    drive(tmp_path, test)
