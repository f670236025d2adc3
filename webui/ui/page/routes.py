"""The routes that the chat page talks to, but for those of a single chat (``webui.ui.page.chats``)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from webui.core.errors import PatchbayError, SettingError
from webui.core.version import program_version
from webui.runtime.conversation import NEW_CHAT
from webui.ui.page import view
from webui.ui.page.bodies import Key, number, read
from webui.ui.page.chats import Chats
from webui.ui.page.wire import dumps

if TYPE_CHECKING:
    from webui.runtime.app import App

THEMES = ("system", "light", "dark")
CHATS = 50  # in one answer

Handler = Callable[[Request], Awaitable[Any]]


def routes(app: App) -> list[Route]:
    """All routes below ``/ui/``. A PatchbayError goes up to the site, which answers with its words."""
    state, chats = State(app), Chats(app)
    table: list[tuple[str, str, Handler]] = [
        ("GET", "/ui/state", state.state),
        ("GET", "/ui/search", state.search),
        ("GET", "/ui/models", state.models),
        ("POST", "/ui/models/load", state.load),
        ("POST", "/ui/models/unload", state.unload),
        ("GET", "/ui/settings-schema", state.settings),
        ("POST", "/ui/theme", state.theme),
        ("GET", "/ui/chats", state.chats),
        ("POST", "/ui/chats", chats.create),
        ("PATCH", "/ui/new-chat", chats.begin),
        ("GET", "/ui/chats/{chat}", chats.open),
        ("PATCH", "/ui/chats/{chat}", chats.change),
        ("DELETE", "/ui/chats/{chat}", chats.delete),
        ("POST", "/ui/chats/{chat}/restore", chats.restore),
        ("POST", "/ui/chats/{chat}/send", chats.send),
        ("POST", "/ui/chats/{chat}/regenerate", chats.regenerate),
        ("POST", "/ui/chats/{chat}/continue", chats.go_on),
        ("POST", "/ui/chats/{chat}/edit", chats.edit),
        ("POST", "/ui/chats/{chat}/show", chats.show),
        ("POST", "/ui/chats/{chat}/delete", chats.hide),
        ("POST", "/ui/chats/{chat}/undelete", chats.unhide),
        ("POST", "/ui/chats/{chat}/branch", chats.branch),
        ("GET", "/ui/chats/{chat}/messages/{message}", chats.source),
        ("GET", "/ui/replies/{message}/prompt", chats.prompt),
        ("GET", "/ui/replies/{message}/follow", chats.follow),
        ("POST", "/ui/replies/{message}/stop", chats.stop),
    ]
    by_path: dict[str, dict[str, Handler]] = {}
    for method, path, handler in table:
        by_path.setdefault(path, {})[method] = handler
    return [Route(path, _endpoint(handlers), methods=list(handlers)) for path, handlers in by_path.items()]


def _endpoint(handlers: Mapping[str, Handler]) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        answer = await handlers["GET" if request.method == "HEAD" else request.method](request)
        if isinstance(answer, Response):
            return answer
        return Response(dumps(answer), media_type="application/json", headers={"cache-control": "no-store"})

    return endpoint


class State:
    """What the page shows around the chat: lists, models, presets, theme."""

    def __init__(self, app: App) -> None:
        self.app = app
        self._loading: set[asyncio.Task[Any]] = set()

    async def state(self, request: Request) -> dict[str, Any]:
        """Everything that the page needs to begin."""
        app = self.app
        return {
            "version": program_version(),
            **await self._chats(0, CHATS),
            "running": sorted({r.chat for r in app.replies.values() if r.chat and not r.done}),
            "models": await app.call(view.models_json, app),
            "presets": await app.call(self._presets),
            "defaults": self._defaults(),
            "quick": view.quick_json(),
            "panels": app.panels,
            "notices": list(dict.fromkeys(app.notices)),
            "theme": self._theme(),
        }

    def _presets(self) -> list[dict[str, Any]]:
        return [
            {"name": p.name, "description": p.description, "own": p.own} for p in self.app.presets.list() if not p.error
        ]

    def _defaults(self) -> dict[str, Any]:
        """What a new chat begins with."""
        begun = self.app.settings.section(NEW_CHAT)
        chosen = {k: begun[k] for k in ("preset", "settings") if begun.get(k)}
        return {**self._fallen_back(), "settings": {}, **chosen}

    def _fallen_back(self) -> dict[str, str]:
        app = self.app
        try:
            model = app.models.get(app.models.default())
        except PatchbayError:  # there is none: the page says so when a message is sent
            return {"model": "", "loader": "", "preset": app.preset_for("")}
        return {
            "model": model.name,
            "loader": app.config.loader or model.loader,
            "preset": app.preset_for(model.name),
        }

    def _theme(self) -> str:
        theme = self.app.settings.section("app").get("theme")
        return theme if theme in THEMES else "system"

    async def chats(self, request: Request) -> dict[str, Any]:
        """A part of the list of chats."""
        return await self._chats(number(request, "offset", 0, 0, 10_000_000), number(request, "limit", CHATS, 1, 200))

    async def _chats(self, offset: int, limit: int) -> dict[str, Any]:
        found = await self.app.call(self.app.chats.list, limit=limit + 1, offset=offset)
        chats = [{"id": c.id, "title": c.title, "updated": c.updated, "preview": c.preview} for c in found[:limit]]
        return {"chats": chats, "more": len(found) > limit}

    async def search(self, request: Request) -> dict[str, Any]:
        """Messages and titles that hold the words asked for."""
        words = request.query_params.get("q", "")[:500]
        if not words.strip():
            return {"hits": []}
        found = await self.app.call(self.app.chats.search, words, number(request, "limit", 50, 1, 200))
        return {
            "hits": [
                {"chat": h.chat, "title": h.title, "message": h.message, "snippet": h.html, "updated": h.updated}
                for h in found
            ]
        }

    async def models(self, request: Request) -> dict[str, Any]:
        """The models and how far their loading is."""
        return {"models": await self.app.call(view.models_json, self.app)}

    async def load(self, request: Request) -> dict[str, Any]:
        """Begin to load a model; how it goes is asked for with ``models``."""
        body = await read(request, {"model": Key(str, required=True), "loader": Key(str, null=True)})
        app = self.app
        model = app.models.get(body["model"])
        loading = asyncio.create_task(app.models.load(model.name, body.get("loader") or None))
        self._loading.add(loading)
        loading.add_done_callback(self._loading.discard)
        await asyncio.wait({loading}, timeout=0.1)  # what is wrong at once is said at once
        if loading.done():
            await loading
        else:
            loading.add_done_callback(_heard)  # it stands with the model
        kept = app.settings.section("app")
        if kept.get("model") != model.name:
            await app.call(app.settings.save_section, "app", {**kept, "model": model.name})
        return await self.models(request)

    async def unload(self, request: Request) -> dict[str, Any]:
        """Give a model's memory back."""
        body = await read(request, {"model": Key(str, required=True)})
        await self.app.models.unload(body["model"])
        return await self.models(request)

    async def settings(self, request: Request) -> dict[str, Any]:
        """Every sampling setting, for a form."""
        return {"settings": view.settings_json()}

    async def theme(self, request: Request) -> dict[str, Any]:
        """Keep the theme for the next visit."""
        body = await read(request, {"theme": Key(str, required=True)})
        if body["theme"] not in THEMES:
            raise SettingError("theme", f"theme is {body['theme']!r}.", f"It is one of: {', '.join(THEMES)}.")
        kept = self.app.settings.section("app")
        await self.app.call(self.app.settings.save_section, "app", {**kept, "theme": body["theme"]})
        return {"theme": body["theme"]}


def _heard(task: asyncio.Task[Any]) -> None:
    """Take notice of how a task ended, so that nobody warns that nobody did."""
    if not task.cancelled():
        task.exception()
