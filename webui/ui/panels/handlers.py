"""What all tabs need: quiet private events, errors as toasts, the chat on the page, updates of only what is new."""

from __future__ import annotations

import inspect
import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Any

import gradio as gr

from webui.core.chat import Chat
from webui.core.errors import NotFound, PatchbayError
from webui.runtime.conversation import NEW_CHAT

if TYPE_CHECKING:
    from webui.runtime.app import App

#: The cookie in which the page tells which chat it shows.
CHAT_COOKIE = "patchbay_chat"


def on(
    event: Callable[..., Any],
    handler: Callable[..., Any],
    inputs: Sequence[Any] | None = None,
    outputs: Sequence[Any] | None = None,
    *,
    last: bool = False,
) -> Any:
    """Bind a handler: not an API endpoint, no spinner over its outputs, as many at once as there are tabs.

    ``last``: of events that come faster than they are handled the last one counts, and none is lost.
    """
    return event(
        guarded(handler),
        list(inputs or ()),
        list(outputs or ()),
        show_progress="hidden",
        api_visibility="private",
        concurrency_limit=None,
        trigger_mode="always_last" if last else "multiple",
    )


def guarded(handler: Callable[..., Any]) -> Callable[..., Any]:
    """A handler whose PatchbayErrors reach the person as a sentence; ``request`` is passed through by Gradio."""
    if inspect.isasyncgenfunction(handler):

        @wraps(handler)
        async def stream(*args: Any, **kwargs: Any) -> Any:
            try:
                async for value in handler(*args, **kwargs):
                    yield value
            except PatchbayError as error:
                raise gr.Error(str(error), print_exception=False) from None

        return stream

    @wraps(handler)
    async def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return await handler(*args, **kwargs)
        except PatchbayError as error:
            raise gr.Error(str(error), print_exception=False) from None

    return call


async def current_chat(app: App, request: gr.Request) -> Chat | None:
    """The chat on the page, or None when it shows a new one."""
    chat = request.cookies.get(CHAT_COOKIE, "") if request else ""
    if not chat:
        return None
    try:
        return await app.call(app.chats.open, chat)
    except NotFound:
        return None


def new_chat(app: App) -> dict[str, Any]:
    """What a chat that does not exist yet will begin with."""
    return dict(app.settings.section(NEW_CHAT))


async def keep(app: App, chat: Chat | None, **fields: Any) -> Chat | None:
    """Keep fields with the chat, or for new chats when there is none."""
    if chat is None:
        await app.call(app.settings.save_section, NEW_CHAT, {**new_chat(app), **fields})
        return None
    return await app.call(app.chats.update, chat.id, **fields)


class Notebook:
    """A hidden box in which the page itself notes what it shows, so that updates hold only what is new.

    Nothing of it is kept on the server: the note comes with each event and goes back with its answer.
    """

    def __init__(self, keys: Sequence[str], box: gr.Textbox | None = None) -> None:
        self.keys = tuple(keys)
        self.box = box or gr.Textbox("", visible="hidden", container=False, label="What the page shows")

    def part(self, keys: Sequence[str]) -> Notebook:
        """The same box for fewer keys."""
        return Notebook(keys, self.box)

    def write(self, note: str, wanted: Mapping[str, Mapping[str, Any]]) -> list[Any]:
        """Updates for ``keys`` in their order and for the box, from what each is to show; unnamed keys stay."""
        try:
            known: dict[str, dict[str, str]] = json.loads(note) if note else {}
        except ValueError:
            known = {}
        updates = []
        for key in self.keys:
            have = known.setdefault(key, {})
            marks = {prop: _mark(value) for prop, value in wanted.get(key, {}).items()}
            news = {prop: wanted[key][prop] for prop, mark in marks.items() if have.get(prop) != mark}
            have.update(marks)
            updates.append(gr.update(**news) if news else gr.skip())
        return [*updates, json.dumps(known, separators=(",", ":"))]

    def noted(self, note: str, key: str, value: Any) -> str:
        """The note with the value that a person has just set by hand: it is not sent back unless it must be another."""
        try:
            known = json.loads(note) if note else {}
        except ValueError:
            return ""
        known.setdefault(key, {})["value"] = _mark(value)
        return json.dumps(known, separators=(",", ":"))


def _mark(value: Any) -> str:
    return f"{zlib.crc32(json.dumps(value, ensure_ascii=False, default=str).encode()):x}"
