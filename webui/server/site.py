"""The site: every route there is, behind the gate and, with a key, behind the login.

Order of what answers a path: our own routes, the routes of extensions, then Gradio's panels.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Match, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from webui import refusal
from webui.core.errors import PatchbayError
from webui.core.version import program_version
from webui.gate import Gate
from webui.login import Login
from webui.refusal import Refusal
from webui.server.hosts import Hosts
from webui.server.panels import Build, Panels, shipped
from webui.server.static import Static
from webui.ui import page

if TYPE_CHECKING:
    from webui.runtime.app import App

UI = Path(page.__file__).parents[1]
log = logging.getLogger("patchbay.site")


class Site:
    """The whole site as an ASGI app.

    ``routes`` are the chat page's, ``build`` makes Gradio's part, ``login`` is there when a key is needed.
    """

    def __init__(self, app: App, routes: Sequence[BaseRoute], build: Build = shipped) -> None:
        self.app = app
        self.version = program_version()
        self.static = Static({"": UI / "static", "vendor/": UI / "vendor"})
        self.panels = Panels(app, build)
        self.first_page = 0.0  # when the page was first asked for, by the monotonic clock
        every = [
            Route("/health", self.health, name="health"),
            Route("/", self.page, name="page"),
            Route("/static/{path:path}", self.files, name="static"),
            *routes,
        ]
        self.starlette = Starlette(
            routes=every,
            middleware=[Middleware(GZipMiddleware, minimum_size=1024, compresslevel=5)],
            exception_handlers={PatchbayError: _in_words, HTTPException: _in_words_of_http},
        )
        self.starlette.router.redirect_slashes = False
        self.starlette.router.default = Extensions(app, self.panels)
        inside: ASGIApp = self.starlette
        self.login = Login(inside, app.config.api_key, app.config.port) if app.config.api_key else None
        self.gate = Gate(self.login or inside, Hosts(app.config))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.gate(scope, receive, send)

    async def health(self, request: Request) -> Response:
        """Whether the server answers, for programs; open to everybody on this address."""
        return JSONResponse({"status": "ok", "version": self.version, "panels": self.panels.ready})

    async def files(self, request: Request) -> ASGIApp:
        """A file of the page; fonts and pictures that are not among them may be Gradio's."""
        name = str(request.path_params["path"])
        if name.startswith(("fonts/", "img/")) and name not in self.static:
            return self.panels
        return self.static.answer(name, request)

    async def page(self, request: Request) -> Response:
        """The chat page."""
        self.first_page = self.first_page or time.monotonic()
        return self.static.page(UI / "page" / "shell.html")


class Extensions:
    """The routes of the extensions that are switched on, and Gradio for what none of them answers."""

    def __init__(self, app: App, otherwise: ASGIApp) -> None:
        self.app = app
        self._otherwise = otherwise
        self._seen: object = None
        self.routes: Sequence[BaseRoute] = ()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.look()
        partial: tuple[BaseRoute, Scope] | None = None
        for route in self.routes:
            match, child = route.matches(scope)
            if match == Match.FULL:
                scope.update(child)
                await route.handle(scope, receive, send)
                return
            if match == Match.PARTIAL and partial is None:
                partial = route, child
        if partial:
            scope.update(partial[1])
            await partial[0].handle(scope, receive, send)
        else:
            await self._otherwise(scope, receive, send)

    async def look(self) -> None:
        """Ask the extensions for their routes when one was switched on or off."""
        seen = tuple((r.name, r.enabled, r.status) for r in self.app.plugins.records)
        if seen == self._seen:
            return
        self._seen = seen
        found: list[BaseRoute] = []
        for plugin, routes in await self.app.call(self.app.plugins.collect, "register_routes", app=self.app):
            good = [r for r in routes or () if isinstance(r, BaseRoute)]
            if len(good) != len(routes or ()):
                log.warning("The extension %s registered something that is not a Starlette route.", plugin)
            found += good
        self.routes = found


def create_site(app: App) -> Site:
    """The site of an app, as an ASGI app."""
    return Site(app, page.routes(app))


async def _in_words(request: Request, error: Exception) -> Response:
    """An error made for a person, as JSON with its status."""
    if not isinstance(error, PatchbayError):
        raise error
    headers: dict[str, str] = dict(error.headers) if isinstance(error, Refusal) else {}
    if error.status == 503:
        headers.setdefault("retry-after", "1")
    content = refusal.body(error.code, error.message, error.hint)
    return Response(content, error.status, headers, "application/json")


async def _in_words_of_http(request: Request, error: Exception) -> Response:
    """Starlette's own errors (no such path, no such method) in the same shape."""
    if not isinstance(error, HTTPException):
        raise error
    words: dict[int, tuple[str, str]] = {
        404: ("not_found", "There is nothing at this address."),
        405: ("method_not_allowed", "This method is not served here."),
    }
    code, message = words.get(error.status_code, ("refused", str(error.detail)))
    headers: dict[str, Any] = dict(error.headers or {})
    return Response(refusal.body(code, message), error.status_code, headers, "application/json")
