"""The login: with a key set, every route is behind it.

People open a one-time link or type the key, and get a cookie; programs send ``Authorization: Bearer KEY``. The cookie
is signed with a secret made from the key and this run of the program, so that a changed key or a restart ends all
sessions.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import html
import ipaddress
import json
import secrets
import time
from collections import deque
from collections.abc import Callable
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from webui.refusal import Refusal

#: The only paths that are answered without a key.
PUBLIC = frozenset({"/health", "/login"})
LINK_SECONDS = 600.0
SESSION_SECONDS = 30 * 24 * 3600
FORM_TRIES = 5  # a minute and address, at the login page and with one-time links
KEY_TRIES = 60  # a minute and address, with a wrong Bearer key
SLOWDOWN = 0.05  # seconds of delay for each failure of the last minute, from anywhere
LONGEST_DELAY = 1.0
PAGE = (Path(__file__).parent / "login.html").read_text(encoding="utf-8")
ENTER = (
    '<!doctype html><html lang="en"><meta charset="utf-8"><title>Patchbay</title>'
    '<meta http-equiv="refresh" content="0;url=/"><a href="/">Open Patchbay</a></html>'
)


def digest(text: bytes) -> bytes:
    """What is compared in place of a key, so that the time it takes says nothing about the key."""
    return hashlib.sha256(text).digest()


class Tries:
    """Counts failures of the last minute, by address and in all."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._times: deque[tuple[float, str]] = deque(maxlen=10_000)

    def _recent(self) -> deque[tuple[float, str]]:
        while self._times and self._times[0][0] <= self._clock() - 60:
            self._times.popleft()
        return self._times

    def failed(self, address: str) -> None:
        """Note a failure."""
        self._recent().append((self._clock(), address))

    def count(self, address: str) -> int:
        """Failures of an address within the last minute."""
        return sum(1 for _, who in self._recent() if who == address)

    @property
    def delay(self) -> float:
        """How long the next failure is kept waiting, in seconds."""
        return min(LONGEST_DELAY, SLOWDOWN * len(self._recent()))


class Login:
    """Lets through who has the key, a valid cookie, or asks for a public path."""

    def __init__(self, app: ASGIApp, key: str, port: int, clock: Callable[[], float] = time.time) -> None:
        if not key:
            raise ValueError("a login needs a key")
        self.app = app
        self.cookie = f"patchbay_{port}"  # browsers do not tell ports apart
        self._clock = clock
        self._key = digest(key.encode())
        self._secret = hmac.digest(secrets.token_bytes(32), self._key, "sha256")  # the random part is this run
        self._links: dict[bytes, float] = {}
        self._ended: deque[str] = deque(maxlen=10_000)
        self._form = Tries(clock)
        self._bearer = Tries(clock)

    def link(self) -> str:
        """The path of a link that signs in once within ten minutes."""
        token = secrets.token_urlsafe(32)
        self._links[digest(token.encode())] = self._clock() + LINK_SECONDS
        return f"/login?once={token}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        path = scope["path"]
        if scope["type"] == "http" and path == "/login":
            response = await self._login(Request(scope, receive))
            await response(scope, receive, send)
        elif path in PUBLIC or await self._known(scope):
            if scope["type"] == "http" and path == "/logout":
                await self._logout(Request(scope, receive))(scope, receive, send)
            else:
                await self.app(scope, receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008, "reason": ""})
        elif scope["method"] in ("GET", "HEAD") and b"text/html" in _header(scope, b"accept"):
            await self._page(401)(scope, receive, send)
        else:
            raise _needs_key()

    async def _known(self, scope: Scope) -> bool:
        """Whether a request carries the key or a session of this run."""
        given = [value for key, value in scope["headers"] if key == b"authorization"]
        if given:
            address = _address(scope)
            if self._bearer.count(address) >= KEY_TRIES:
                raise _too_many()
            scheme, _, token = given[0].partition(b" ")
            right = hmac.compare_digest(digest(token.strip()), self._key)
            if right and scheme.lower() == b"bearer" and len(given) == 1:
                return True
            self._bearer.failed(address)
            await asyncio.sleep(self._bearer.delay)
            return False
        return self._session(scope) != ""

    def _session(self, scope: Scope) -> str:
        """The session that a request's cookie names, or "" when there is no valid one."""
        jar: SimpleCookie = SimpleCookie()
        try:
            jar.load(_header(scope, b"cookie").decode("latin-1"))
        except CookieError:
            return ""
        value = jar[self.cookie].value if self.cookie in jar else ""
        session, _, signature = value.rpartition(".")
        expected = self._sign(session)
        if not session or not hmac.compare_digest(digest(signature.encode()), digest(expected.encode())):
            return ""
        expires = session.partition(".")[0]
        return session if float(expires) > self._clock() and session not in self._ended else ""

    def _sign(self, session: str) -> str:
        return hmac.new(self._secret, session.encode(), "sha256").hexdigest()

    async def _login(self, request: Request) -> Response:
        if request.method in ("GET", "HEAD"):
            return await self._open_link(request)
        if request.method != "POST":
            raise Refusal(405, "method_not_allowed", "This method is not served.", headers={"allow": "GET, HEAD, POST"})
        body = await request.body()
        spoken = request.headers.get("content-type", "").startswith("application/json")
        key = _key_in(body, spoken)
        if self._check(request.scope, key):
            response = JSONResponse({"ok": True}) if spoken else RedirectResponse("/", status_code=303)
            return self._signed_in(response)
        await asyncio.sleep(self._form.delay)
        if spoken:
            raise Refusal(401, "wrong_key", "This is not the key.", "Look in the file `api-key` in the data folder.")
        return self._page(401, "This is not the key.")

    def _check(self, scope: Scope, key: bytes) -> bool:
        address = _address(scope)
        if self._form.count(address) >= FORM_TRIES:
            raise _too_many()
        if hmac.compare_digest(digest(key), self._key):
            return True
        self._form.failed(address)
        return False

    async def _open_link(self, request: Request) -> Response:
        """Sign in by a one-time link; without one, show the page."""
        token = request.query_params.get("once")
        if token is None:
            return self._page(200)
        # What only looks ahead (HEAD, a browser's prefetch) must not use the link up.
        if request.method == "HEAD" or "prefetch" in request.headers.get("sec-purpose", ""):
            return self._page(200)
        address = _address(request.scope)
        if self._form.count(address) >= FORM_TRIES:
            raise _too_many()
        if self._session(request.scope):
            return HTMLResponse(ENTER)
        expires = self._links.pop(digest(token.encode()), 0.0)
        if expires > self._clock():
            # A page, not a redirect: in a redirect that began elsewhere a browser keeps a strict cookie back.
            return self._signed_in(HTMLResponse(ENTER))
        self._form.failed(address)
        await asyncio.sleep(self._form.delay)
        return self._page(401, "This link was used before or is older than ten minutes.")

    def _signed_in(self, response: Response) -> Response:
        session = f"{self._clock() + SESSION_SECONDS:.0f}.{secrets.token_hex(16)}"
        response.set_cookie(
            self.cookie,
            f"{session}.{self._sign(session)}",
            max_age=SESSION_SECONDS,
            path="/",
            httponly=True,
            samesite="strict",
        )
        response.headers["cache-control"] = "no-store"
        return response

    def _logout(self, request: Request) -> Response:
        if request.method != "POST":
            raise Refusal(405, "method_not_allowed", "Signing out is a POST.", headers={"allow": "POST"})
        session = self._session(request.scope)
        if session:
            self._ended.append(session)
        response = RedirectResponse("/login", status_code=303)
        response.delete_cookie(self.cookie, path="/", httponly=True, samesite="strict")
        return response

    def _page(self, status: int, message: str = "") -> Response:
        alert = f'<p role="alert">{html.escape(message)}</p>' if message else ""
        headers = {"www-authenticate": "Bearer"} if status == 401 else {}
        return HTMLResponse(PAGE.replace("<!--message-->", alert), status_code=status, headers=headers)


def _key_in(body: bytes, spoken: bool) -> bytes:
    """The key in a form or a JSON object; empty when there is none."""
    if not spoken:
        try:
            fields = parse_qs(body.decode("utf-8", "replace"), max_num_fields=8)
        except ValueError:
            raise Refusal(400, "malformed", "This form has too many fields.") from None
        return fields.get("key", [""])[0].strip().encode("utf-8", "replace")
    try:
        value = json.loads(body)
    except ValueError:
        raise Refusal(400, "not_json", "The body is not JSON.") from None
    key = value.get("key") if isinstance(value, dict) else None
    return key.encode("utf-8", "replace") if isinstance(key, str) else b""


def _header(scope: Scope, name: bytes) -> bytes:
    return b"; ".join(value for key, value in scope["headers"] if key == name)


def _address(scope: Scope) -> str:
    """Who is counted: the address, or the network of an IPv6 one."""
    text = (scope.get("client") or ("",))[0]
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return str(text)
    return str(ipaddress.ip_network((text, 64), strict=False)) if found.version == 6 else text


def _needs_key() -> Refusal:
    hint = "Send the header Authorization: Bearer KEY, or sign in at /login."
    return Refusal(401, "needs_key", "This needs the key.", hint, headers={"www-authenticate": "Bearer"})


def _too_many() -> Refusal:
    return Refusal(429, "too_many_tries", "Too many wrong keys.", "Wait a minute.", headers={"retry-after": "60"})
