"""The hooks: what an extension may implement. All are optional; each is used by a bundled extension or a test.

    from webui import hookimpl

    @hookimpl
    def before_reply(app, turn): ...

Implementations are called one at a time, off the event loop, with a time budget; what they raise is caught and named.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from webui.core.chat import Message, Turn
    from webui.core.events import Event
    from webui.core.loader import Loader

#: Grows when a hook changes in a way that breaks extensions; an extension may ask for one with ``API_VERSION = 1``.
API_VERSION = 1

hookspec = pluggy.HookspecMarker("patchbay")
hookimpl = pluggy.HookimplMarker("patchbay")


@hookspec
def register_loaders() -> list[Loader]:  # type: ignore[empty-body]  # a specification has no body
    """Engines."""


@hookspec
def register_settings() -> type:  # type: ignore[empty-body]
    """A frozen dataclass of settings (see ``webui.setting``): form, storage and checks are made from it."""


@hookspec
def register_routes(app: Any) -> list[Any]:  # type: ignore[empty-body]
    """Starlette routes; the gate stands before them like before everything."""


@hookspec
def build_panel(app: Any) -> None:
    """Gradio components, in a tab of the extension's own."""


@hookspec
def before_reply(app: Any, turn: Turn) -> Turn | None:
    """A changed turn, or None to leave it."""


@hookspec
def wrap_stream(app: Any, turn: Turn, events: AsyncIterator[Event]) -> AsyncIterator[Event] | None:
    """The events of a reply, changed, dropped or added to while they pass."""


@hookspec
def after_reply(app: Any, turn: Turn, message: Message) -> None:
    """Called when a reply has ended, however it did, and is stored where that is possible."""


@hookspec
def lifespan(app: Any) -> AbstractContextManager[None]:  # type: ignore[empty-body]
    """Entered when the app starts and left when it ends."""
