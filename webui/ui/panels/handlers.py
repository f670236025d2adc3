"""What all tabs need: events that are private and quiet, errors as toasts, and the chat that the page shows."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Any

import gradio as gr

from webui.core.chat import Chat
from webui.core.errors import NotFound, PatchbayError

if TYPE_CHECKING:
    from webui.runtime.app import App

#: The cookie in which the page tells which chat it shows.
CHAT_COOKIE = "patchbay_chat"


def on(
    event: Callable[..., Any],
    handler: Callable[..., Any],
    inputs: Sequence[Any] | None = None,
    outputs: Sequence[Any] | None = None,
) -> Any:
    """Bind a handler: not an API endpoint, no spinner over its outputs, as many at once as there are tabs."""
    return event(
        guarded(handler),
        list(inputs or ()),
        list(outputs or ()),
        show_progress="hidden",
        api_visibility="private",
        concurrency_limit=None,
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
