"""What the page asks for and does, on the whole site with the echo loader."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from tests.ui.browsing import Page, browse, eventually
from webui.core.chat import Chat, Message, new_id
from webui.ui.page import view


async def new(page: Page, **fields: Any) -> str:
    return str((await page.post("/ui/chats", fields))["chat"]["id"])


async def say(page: Page, chat: str, text: str, parent: str | None = None) -> dict[str, Any]:
    """Say something and wait for the answer; what the page shows then."""
    told = await page.post(f"/ui/chats/{chat}/send", {"text": text, "parent": parent})
    assert [m["role"] for m in told["messages"]] == ["user", "assistant"]
    assert told["messages"][1]["status"] in ("streaming", "done")
    await page.app.replies[told["reply"]["id"]].wait()
    return dict(await page.get(f"/ui/chats/{chat}"))


def texts(opened: dict[str, Any]) -> list[str]:
    return ["".join(m["blocks"]) for m in opened["messages"]]


def p(text: str) -> str:
    return f'<p dir="auto">{text}</p>'


def test_the_page_begins_with_everything_it_needs(tmp_path: Path) -> None:
    async def test(page: Page) -> None:
        state = await page.get("/ui/state")
        assert state["chats"] == [] and state["more"] is False and state["running"] == []
        echo = next(m for m in state["models"] if m["name"] == "echo")
        assert echo["loaders"] == [{"name": "echo", "title": "echo", "available": True, "reason": ""}]
        assert state["defaults"]["model"] == "echo" and state["defaults"]["loader"] == "echo"
        assert state["defaults"]["preset"] in [preset["name"] for preset in state["presets"]]
        assert len(state["presets"]) >= 8 and not any(preset["own"] for preset in state["presets"])
        assert state["panels"]["ready"] is False and state["theme"] == "system"
        assert {"name", "title", "help", "min", "max", "step", "default"} <= set(state["quick"][0])

    browse(tmp_path, test)


def test_a_conversation_is_shown_with_how_each_reply_was_made(tmp_path: Path) -> None:
    async def test(page: Page) -> None:
        chat = await new(page)
        opened = await say(page, chat, "hello **there**")
        assert texts(opened) == [p("hello <strong>there</strong>")] * 2
        mine, reply = opened["messages"]
        assert mine["parent"] == "" and reply["parent"] == mine["id"] and reply["versions"] == [reply["id"]]
        assert reply["model"] == "echo" and reply["loader"] == "echo" and reply["preset"]
        assert reply["details"]["tokens"] > 0 and reply["details"]["seed"] >= 0
        assert opened["older"] == 0 and opened["reply"] is None
        used = reply["details"]["prompt_tokens"] + reply["details"]["tokens"]
        assert opened["meter"] == {"used": used, "context": reply["details"]["context"], "estimated": False}
        assert opened["chat"]["title"] == "hello **there" or opened["chat"]["title"].startswith("hello")
        listed = (await page.get("/ui/chats"))["chats"]
        assert [c["id"] for c in listed] == [chat] and listed[0]["preview"]

    browse(tmp_path, test)


def test_versions_branches_deleting_and_taking_back(tmp_path: Path) -> None:
    async def test(page: Page) -> None:
        chat = await new(page)
        opened = await say(page, chat, "one")
        first = opened["messages"][1]["id"]
        told = await page.post(f"/ui/chats/{chat}/regenerate", {"message": first})
        second = told["reply"]["id"]
        assert told["messages"][0]["versions"] == [first, second] and told["messages"][0]["index"] == 1
        await page.app.replies[second].wait()
        opened = await say(page, chat, "two")
        assert [m["id"] for m in opened["messages"]][1] == second

        shown = await page.post(f"/ui/chats/{chat}/show", {"message": first})
        assert [m["id"] for m in shown["messages"]][-1] == first and len(shown["messages"]) == 2
        shown = await page.post(f"/ui/chats/{chat}/show", {"message": second})
        assert len(shown["messages"]) == 4

        edited = await page.post(f"/ui/chats/{chat}/edit", {"message": shown["messages"][2]["id"], "text": "drei"})
        assert [m["role"] for m in edited["messages"]] == ["user", "assistant"] and edited["messages"][0]["index"] == 1
        await page.app.replies[edited["reply"]["id"]].wait()
        edited = await page.post(f"/ui/chats/{chat}/edit", {"message": second, "text": "eins"})
        assert edited["reply"] is None and edited["messages"][0]["blocks"] == [p("eins")]
        assert len(edited["messages"][0]["versions"]) == 3

        gone = await page.post(f"/ui/chats/{chat}/delete", {"message": edited["messages"][0]["id"]})
        assert edited["messages"][0]["id"] not in [m["id"] for m in gone["messages"]]
        back = await page.post(f"/ui/chats/{chat}/undelete", {"message": edited["messages"][0]["id"]})
        assert back["messages"][-1]["id"] == edited["messages"][0]["id"]

        branch = (await page.post(f"/ui/chats/{chat}/branch", {"message": first}))["chat"]
        assert branch["id"] != chat and texts(await page.get(f"/ui/chats/{branch['id']}")) == [p("one"), p("one")]
        raw = await page.get(f"/ui/chats/{chat}/messages/{first}")
        assert raw == {"text": "one", "thought": ""}

    browse(tmp_path, test)


def test_a_stopped_reply_can_be_continued_as_the_same_message(tmp_path: Path) -> None:
    async def test(page: Page) -> None:
        chat = await new(page)
        told = await page.post(f"/ui/chats/{chat}/send", {"text": "/tokens 300 /speed 100 words", "parent": None})
        reply = page.app.replies[told["reply"]["id"]]
        await eventually(lambda: reply.tokens > 5)
        await page.post(f"/ui/replies/{reply.id}/stop")
        await reply.wait()
        stopped = (await page.get(f"/ui/chats/{chat}"))["messages"][-1]
        assert stopped["status"] == "stopped" and stopped["blocks"]
        told = await page.post(f"/ui/chats/{chat}/continue", {"message": reply.id})
        assert told["reply"]["id"] == reply.id
        again = page.app.replies[reply.id]
        assert again is not reply
        seen = await page.follow(reply.id, until=lambda s: s.tokens > 5)
        assert seen.blocks[0].startswith(stopped["blocks"][0].removesuffix("</p>")[:20])
        again.stop()
        await again.wait()

    browse(tmp_path, test)


def test_the_exact_prompt_of_a_reply_can_be_opened(tmp_path: Path) -> None:
    async def test(page: Page) -> None:
        chat = await new(page)
        opened = await say(page, chat, "hello there")
        told = await page.get(f"/ui/replies/{opened['messages'][1]['id']}/prompt")
        assert "hello there" in told["prompt"]
        assert told["tokens"] == opened["messages"][1]["details"]["prompt_tokens"]
        assert told["context"] > 0 and told["dropped"] == []
        await page.get("/ui/replies/unknown/prompt", status=404)

    browse(tmp_path, test)


def test_a_chat_remembers_what_is_chosen_for_it_and_two_tabs_do_not_overwrite_each_other(tmp_path: Path) -> None:
    async def test(page: Page) -> None:
        chat = await new(page)
        path = f"/ui/chats/{chat}"
        told = (await page.ask("PATCH", path, {"settings": {"temperature": 0.5, "stop": ["END"]}, "model": "echo"}))[
            "chat"
        ]
        assert told["settings"] == {"temperature": 0.5, "stop": ["END"]} and told["model"] == "echo"
        old = told["version"]
        await page.ask("PATCH", path, {"title": "Named 👨‍👩‍👧", "version": old})
        refused = await page.ask("PATCH", path, {"title": "Other", "version": old}, status=409)
        assert refused["error"]["code"] == "Conflict" and refused["error"]["hint"]
        assert (await page.get(path))["chat"]["title"] == "Named 👨‍👩‍👧"

    browse(tmp_path, test)


def test_a_deleted_chat_can_be_brought_back(tmp_path: Path) -> None:
    async def test(page: Page) -> None:
        chat = await new(page)
        await say(page, chat, "keep me")
        await page.ask("DELETE", f"/ui/chats/{chat}")
        assert (await page.get("/ui/state"))["chats"] == []
        await page.get(f"/ui/chats/{chat}", status=404)
        await page.post(f"/ui/chats/{chat}/restore")
        assert texts(await page.get(f"/ui/chats/{chat}")) == [p("keep me")] * 2

    browse(tmp_path, test)


def test_search_finds_a_message_and_marks_the_words_without_trusting_them(tmp_path: Path) -> None:
    async def test(page: Page) -> None:
        chat = await new(page)
        await say(page, chat, "<img src=x onerror=alert(1)> a hippopotamus")
        hits = (await page.get("/ui/search?q=hippo"))["hits"]
        assert {h["chat"] for h in hits} == {chat}
        assert any("<mark>hippopotamus</mark>" in h["snippet"] for h in hits)
        assert not any("<img" in h["snippet"] for h in hits)
        assert (await page.get("/ui/search?q=")) == {"hits": []}

    browse(tmp_path, test)


def test_a_window_of_a_long_chat_leads_to_older_messages(tmp_path: Path) -> None:
    async def test(page: Page) -> None:
        chat, ids = await long_chat(page, 40)
        path = f"/ui/chats/{chat}"
        newest = await page.get(path)
        assert [m["id"] for m in newest["messages"]] == ids[-16:] and newest["older"] == 24
        older = await page.get(f"{path}?limit=10&before={ids[24]}")
        assert [m["id"] for m in older["messages"]] == ids[14:24] and older["older"] == 14
        around = await page.get(f"{path}?limit=10&around={ids[20]}")
        assert [m["id"] for m in around["messages"]] == ids[15:] and around["older"] == 15
        await page.get(f"{path}?before=unknown", status=404)
        assert newest["meter"]["estimated"] is True and newest["meter"]["used"] > 0

    browse(tmp_path, test)


async def long_chat(page: Page, count: int, text: str = "A *message* with `code`.") -> tuple[str, list[str]]:
    chat = await new(page)
    parent, ids = "", []
    for i in range(count):
        message = Message(new_id(), parent, "assistant" if i % 2 else "user", text, created=1.0)
        await page.app.call(page.app.chats.append, chat, message)
        parent = message.id
        ids.append(parent)
    return chat, ids


def test_a_thousand_messages_open_quickly(tmp_path: Path) -> None:
    messages, parent = {}, ""
    for i in range(1000):
        message = Message(f"m{i}", parent, "assistant" if i % 2 else "user", f"**{i}** " + "word " * 400)
        messages[message.id] = message
        parent = message.id
    chat = Chat("c", messages=messages, leaf=parent)
    drawings = view.Drawings()
    began = time.perf_counter()
    shown = view.ChatView(chat, {}, drawings)
    window, older = shown.window(16)
    drawn = [shown.message(m) for m in window]
    view.meter(chat, {}, 4096)
    assert time.perf_counter() - began < 0.5
    assert older == 984 and drawn[-1]["blocks"][0].startswith('<p dir="auto"><strong>999</strong> word')


def test_drawn_messages_are_kept_while_there_is_room() -> None:
    drawings = view.Drawings(room=200)
    first = drawings.of("a", "text")
    assert drawings.of("a", "text") is first
    assert drawings.of("a", "text!") is not first
    for i in range(20):
        drawings.of(str(i), "word " * 10)
    assert drawings.of("a", "text") is not first


def test_a_model_loads_behind_the_page_and_is_the_default_then(tmp_path: Path) -> None:
    async def test(page: Page) -> None:
        await page.post("/ui/models/load", {"model": "echo"})
        for _ in range(200):
            (echo,) = [m for m in (await page.get("/ui/models"))["models"] if m["name"] == "echo"]
            if echo["state"] == "loaded":
                break
            assert echo["state"] == "loading", echo
            await asyncio.sleep(0.05)
        assert echo["state"] == "loaded"
        assert page.app.settings.section("app")["model"] == "echo"
        told = await page.post("/ui/models/unload", {"model": "echo"})
        assert [m["state"] for m in told["models"] if m["name"] == "echo"] == ["unloaded"]
        refused = await page.post("/ui/models/load", {"model": "ecko"}, status=404)
        assert "echo" in refused["error"]["hint"]

    browse(tmp_path, test)


def test_the_theme_is_kept(tmp_path: Path) -> None:
    async def test(page: Page) -> None:
        await page.post("/ui/theme", {"theme": "dark"})
        assert (await page.get("/ui/state"))["theme"] == "dark"
        await page.post("/ui/theme", {"theme": "<b>"}, status=400)

    browse(tmp_path, test)


def test_every_setting_is_described_for_a_form(tmp_path: Path) -> None:
    async def test(page: Page) -> None:
        settings = {s["name"]: s for s in (await page.get("/ui/settings-schema"))["settings"]}
        assert settings["temperature"]["type"] == "number" and settings["temperature"]["form"] == [0, 5, 0.01]
        assert settings["stop"]["type"] == "array" and settings["penalty_scope"]["choices"] == ["all", "reply"]

    browse(tmp_path, test)


WRONG: list[tuple[str, str, bytes]] = [
    ("POST", "send", b""),
    ("POST", "send", b"{"),
    ("POST", "send", b"[]"),
    ("POST", "send", b'"text"'),
    ("POST", "send", b'{"text": NaN}'),
    ("POST", "send", b'{"text": 5}'),
    ("POST", "send", b'{"text": null}'),
    ("POST", "send", b'{"text": "\\ud800"}'),
    ("POST", "send", b'{"text": "\xff"}'),
    ("POST", "send", b"\xef\xbb\xbf{}"),
    ("POST", "send", '{"text": "a"}'.encode("utf-16")),
    ("POST", "send", b"[" * 5000 + b"]" * 5000),
    ("POST", "send", b'{"text": ' + b"[" * 900 + b"]" * 900 + b"}"),
    ("POST", "send", b'{"text": ' + b"9" * 5000 + b"}"),
    ("POST", "send", b'{"text": "  "}'),
    ("POST", "send", b'{"text": "a", "txet": "b"}'),
    ("POST", "send", b'{"text": "a", "parent": 1}'),
    ("POST", "send", b'{"text": "a", "parent": "unknown"}'),
    ("POST", "send", b'{"text": "' + b"a" * 1_000_001 + b'"}'),
    ("POST", "edit", b'{"message": "unknown", "text": "a"}'),
    ("POST", "show", b'{"message": "a\\u0000b"}'),
    ("POST", "regenerate", b'{"message": true}'),
    ("PATCH", "", b'{"settings": {"temperature": -1}}'),
    ("PATCH", "", b'{"settings": {"temperature": 1e999}}'),
    ("PATCH", "", b'{"settings": {"temprature": 1}}'),
    ("PATCH", "", b'{"settings": {"seed": 99999999999999999999}}'),
    ("PATCH", "", b'{"settings": {"stop": [{}]}}'),
    ("PATCH", "", b'{"settings": []}'),
    ("PATCH", "", b'{"model": "nothing"}'),
    ("PATCH", "", b'{"loader": "nothing"}'),
    ("PATCH", "", b'{"preset": "nothing"}'),
    ("PATCH", "", b'{"preset": "../../etc/passwd"}'),
    ("PATCH", "", b'{"title": "a\\nb"}'),
    ("PATCH", "", b'{"leaf": "x"}'),
    ("PATCH", "", b'{"version": "1"}'),
]


def test_a_wrong_request_is_refused_in_words_and_changes_nothing(tmp_path: Path) -> None:
    async def test(page: Page) -> None:
        chat = await new(page)
        before = await page.get(f"/ui/chats/{chat}")
        for method, action, body in WRONG:
            path = f"/ui/chats/{chat}/{action}".rstrip("/")
            answer = await page.client.request(method, path, content=body, headers={"content-type": "application/json"})
            assert 400 <= answer.status_code < 500, (action, body[:60], answer.status_code, answer.text)
            error = answer.json()["error"]
            assert error["code"] and error["message"] and "Traceback" not in answer.text, (action, body[:60])
            assert len(answer.content) < 1000
        assert await page.get(f"/ui/chats/{chat}") == before

    browse(tmp_path, test)


def test_a_key_with_a_typing_error_is_named_with_the_one_that_was_meant(tmp_path: Path) -> None:
    async def test(page: Page) -> None:
        chat = await new(page)
        told = await page.post(f"/ui/chats/{chat}/send", {"txet": "a"}, status=400)
        assert "txet" in told["error"]["message"] and "text" in told["error"]["hint"]

    browse(tmp_path, test)


@pytest.mark.parametrize("query", ["limit=x", "limit=NaN", "limit=1e9", "limit=%ff", "limit=" + "9" * 30, "before=%00"])
def test_a_wrong_query_is_refused_in_words(tmp_path: Path, query: str) -> None:
    async def test(page: Page) -> None:
        chat = await new(page)
        told = await page.client.get(f"/ui/chats/{chat}?{query}")
        assert told.status_code in (400, 404) and told.json()["error"]["message"]

    browse(tmp_path, test)


def test_names_from_elsewhere_are_never_html(tmp_path: Path) -> None:
    async def test(page: Page) -> None:
        chat = await new(page)
        name = "<img src=x onerror=alert(1)>"
        await page.ask("PATCH", f"/ui/chats/{chat}", {"title": name})
        answer = await page.client.get("/ui/state")
        assert answer.headers["content-type"].startswith("application/json")
        assert answer.json()["chats"][0]["title"] == name

    browse(tmp_path, test)


def test_two_replies_in_one_chat_are_refused_and_in_two_chats_run_at_once(tmp_path: Path) -> None:
    async def test(page: Page) -> None:
        one, two = await new(page), await new(page)
        text = "/tokens 200 /speed 100 words"
        first = await page.post(f"/ui/chats/{one}/send", {"text": text})
        refused = await page.post(f"/ui/chats/{one}/send", {"text": text}, status=409)
        assert refused["error"]["code"] == "Conflict"
        second = await page.post(f"/ui/chats/{two}/send", {"text": text})
        assert set((await page.get("/ui/state"))["running"]) == {one, two}
        replies = [page.app.replies[told["reply"]["id"]] for told in (first, second)]
        await eventually(lambda: all(r.tokens > 5 for r in replies))
        for reply in replies:
            reply.stop()
            await reply.wait()

    browse(tmp_path, test)


def test_a_character_greets_first(tmp_path: Path) -> None:
    async def test(page: Page) -> None:
        page.app.settings.save_section("characters", {"Ada": {"greeting": "Good *day*.", "system": "You are Ada."}})
        chat = await new(page, character="Ada")
        assert texts(await page.get(f"/ui/chats/{chat}")) == [p("Good <em>day</em>.")]

    browse(tmp_path, test)
