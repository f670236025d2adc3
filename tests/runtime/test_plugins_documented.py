"""The examples that people copy work as they are written."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from tests.runtime.driving import drive
from webui import Turn
from webui.core.chat import Message, new_id
from webui.runtime.conversation import create, send

ROOT = Path(__file__).resolve().parents[2]
PAGES = {name: (ROOT / name).read_text("utf-8") for name in ("README.md", "extensions/README.md")}
EXAMPLES = [(page, code) for page, text in PAGES.items() for code in re.findall(r"```python\n(.*?)```", text, re.S)]


def example(words):
    """The one example that has these words in it."""
    (code,) = [code for page, code in EXAMPLES if words in code and page != "README.md"]
    return code


def with_extension(tmp_path, code, test):
    """An app that runs the code as the extension ``short`` and answers by repeating what it was asked."""
    folder = tmp_path / "data" / "extensions"
    folder.mkdir(parents=True)
    (folder / "short.py").write_text(code)

    async def run(app):
        record = app.plugins.record("short")
        assert not record.enabled
        await app.start()
        await app.call(app.plugins.enable, "short")
        assert record.enabled, record.error
        await test(app)
        assert not app.plugins.problems, [str(p) for p in app.plugins.problems]

    drive(tmp_path, run)


@pytest.mark.parametrize(("page", "code"), EXAMPLES, ids=[f"{page} {n}" for n, (page, _) in enumerate(EXAMPLES)])
def test_every_example_can_be_switched_on_and_a_reply_goes_through_it(tmp_path, page, code):
    async def test(app):
        chat = await create(app)
        _, reply = await send(app, chat.id, "hello colour")
        message = await reply.wait()
        assert message.status == "done" and "hello" in message.text, message.error

    with_extension(tmp_path, code, test)


def test_the_first_example_asks_for_short_answers(tmp_path):
    for number, code in enumerate([c for _, c in EXAMPLES if "Answer in one sentence" in c]):

        async def test(app):
            turn = await app.plugins.fold("before_reply", Turn((), system="Be kind."), app=app)
            assert turn.system == "Be kind.\nAnswer in one sentence."

        (tmp_path / str(number)).mkdir()
        with_extension(tmp_path / str(number), code, test)


def test_the_example_with_a_setting_uses_it_in_all_its_scopes(tmp_path):
    async def test(app):
        ((_, cls),) = app.plugins.collect("register_settings")
        app.settings.set(cls(sentences=4))
        app.settings.set(cls(sentences=2), "chat:c")
        for chat, count in (("", 4), ("c", 2), ("d", 4)):
            turn = await app.plugins.fold("before_reply", Turn((), chat=chat), app=app)
            assert f"at most {count} sentences" in turn.system
        assert "sentences: 4" in (tmp_path / "data" / "extensions" / "short.yaml").read_text()

    with_extension(tmp_path, example("class Short"), test)


def test_the_example_around_the_stream_changes_what_is_stored(tmp_path):
    async def test(app):
        chat = await create(app)
        _, reply = await send(app, chat.id, "my colour is blue")
        assert "my color is blue" in (await reply.wait()).text

    with_extension(tmp_path, example("wrap_stream"), test)


def test_the_example_that_lives_with_the_program_writes_its_file(tmp_path):
    async def test(app):
        message = Message(new_id(), "", "assistant", "a reply")
        await app.plugins.notify("after_reply", app=app, turn=Turn(()), message=message)
        assert (tmp_path / "data" / "replies.txt").read_text() == "a reply\n"

    with_extension(tmp_path, example("lifespan"), test)


def test_the_example_with_a_page_answers(tmp_path):
    async def test(app):
        app.chats.create(title="one")
        ((_, routes),) = await app.call(app.plugins.collect, "register_routes", app=app)
        with TestClient(Starlette(routes=routes)) as client:
            assert client.get("/count/chats").json() == {"chats": 1}

    with_extension(tmp_path, example("register_routes"), test)
