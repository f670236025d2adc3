"""With a key set, every route is behind it; over a real socket."""

from __future__ import annotations

import socket
import statistics
import time
from urllib.parse import quote

import pytest
from playwright.sync_api import sync_playwright

from tests.conftest import find_chromium
from tests.server.conftest import KEY
from webui.login import FORM_TRIES, KEY_TRIES, Login, Tries
from webui.refusal import Refusal
from webui.server.hosts import Hosts, network_address, own_addresses

HTML = {"Accept": "text/html"}
CHROMIUM = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()


def form(key: str) -> bytes:
    return b"key=" + quote(key).encode()


def sign_in(running, key=KEY, **headers):
    kind = {"Content_Type": "application/x-www-form-urlencoded"}
    return running.ask("/login", "POST", form(key), **kind, **headers)


def cookie_of(answer) -> str:
    return answer.headers["set-cookie"].partition(";")[0]


@pytest.fixture
def fresh(run_site):
    """A server of its own, for tests that count failures."""
    return run_site(listen=True, api_key=KEY)


PATHS = [
    "/",
    "/config",
    "/theme.css",
    "/static/favicon.svg",
    "/v1/models",
    "/gradio_api/info",
    "/gradio_api/queue/data",
]
PATHS += ["/probe/stream", "/nothing", "/docs", "/openapi.json", "/ui/state", "/logout", "/assets/x.js", "/HEALTH"]
PATHS += ["/health/", "/login/", "/health/x", "/login/x", "/healthx"]


@pytest.mark.parametrize("path", PATHS)
def test_nothing_but_health_and_login_is_answered_without_the_key(guarded, path):
    for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD"):
        assert guarded.ask(path, method).status == 401, method
    assert guarded.ask("/health").status == 200
    assert guarded.ask("/login").status == 200


def test_a_host_that_looks_like_an_open_path_opens_nothing(guarded):
    assert guarded.ask("/v1/models", Host="x/health?").status == 421
    assert guarded.ask("/v1/models?/health").status == 401
    assert guarded.ask("/v1/models#/health").status in (400, 401)


def test_programs_send_the_key_as_bearer(guarded):
    answer = guarded.ask("/probe/missing", Authorization=f"Bearer {KEY}")
    assert answer.status == 404
    assert guarded.ask("/", Authorization=f"bearer {KEY}").status == 200


@pytest.mark.parametrize("value", ["Bearer é", "Bearer", "Bearer ", "", f"Basic {KEY}", KEY, "Bearer x" * 100])
def test_anything_else_in_its_place_is_refused_in_words(fresh, value):
    answer = fresh.ask("/ui/state", Authorization=value)
    assert answer.status == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.json()["error"]["code"] == "needs_key"


def test_a_key_of_a_megabyte_is_cut_off(guarded):
    line = b"Authorization: Bearer " + b"x" * 1_000_000
    request = f"GET / HTTP/1.1\r\nHost: {guarded.host}\r\n".encode() + line + b"\r\n\r\n"
    try:
        answer = guarded.raw(request, timeout=3)
    except (BrokenPipeError, ConnectionResetError):
        answer = b""
    assert answer == b"" or answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 431"))
    assert guarded.ask("/health").status == 200


def test_two_keys_at_once_are_refused_even_when_one_is_right(fresh):
    request = f"GET / HTTP/1.1\r\nHost: {fresh.host}\r\nAuthorization: Bearer {KEY}\r\nAuthorization: Bearer x\r\n\r\n"
    assert fresh.raw(request.encode(), timeout=1).startswith(b"HTTP/1.1 401")


def test_the_key_is_not_taken_from_the_address(guarded):
    assert guarded.ask(f"/ui/state?key={KEY}").status == 401
    assert guarded.ask(f"/ui/state?api_key={KEY}").status == 401


def test_a_person_sees_the_login_page_where_they_wanted_to_go(guarded):
    answer = guarded.ask("/anything", **HTML)
    assert answer.status == 401
    assert b"<form" in answer.body
    assert "location" not in answer.headers


def test_the_right_key_gives_a_cookie_that_scripts_and_other_sites_cannot_use(fresh):
    answer = sign_in(fresh)
    assert (answer.status, answer.headers["location"]) == (303, "/")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "samesite=strict" in cookie.lower()
    assert "Path=/" in cookie
    assert KEY not in cookie
    assert fresh.ask("/", Cookie=cookie_of(answer)).status == 200


def test_the_key_is_taken_as_json_too(fresh):
    answer = fresh.post("/login", {"key": KEY})
    assert (answer.status, answer.json()) == (200, {"ok": True})
    assert fresh.ask("/", Cookie=cookie_of(answer)).status == 200


@pytest.mark.parametrize("value", [{}, {"key": ""}, {"key": None}, {"key": 5}, {"key": "\ud800"}, [], 7])
def test_a_login_without_the_key_is_refused_in_words(run_site, fresh, value):
    answer = fresh.post("/login", value)
    assert answer.status == 401
    assert "set-cookie" not in answer.headers


def test_a_cookie_that_was_changed_or_made_up_is_worth_nothing(fresh):
    good = cookie_of(sign_in(fresh))
    name, _, value = good.partition("=")
    expires, nonce, signature = value.split(".")
    for made in (
        f"{int(expires) + 1}.{nonce}.{signature}",
        f"{expires}.{nonce}.{signature[:-1]}0" if signature[-1] != "0" else f"{expires}.{nonce}.{signature[:-1]}1",
        f"{expires}.{nonce}.",
        f"..{signature}",
        "x",
        "",
        "é.é.é",
        value + "x",
    ):
        assert fresh.ask("/", Cookie=f"{name}={made}").status == 401, made


def test_a_cookie_of_another_run_or_key_is_worth_nothing(fresh, run_site):
    name, _, value = cookie_of(sign_in(fresh)).partition("=")
    other = run_site(listen=True, api_key=KEY)
    assert other.ask("/", Cookie=f"{other.site.login.cookie}={value}").status == 401
    assert fresh.ask("/", Cookie=f"{name}={value}").status == 200


def test_signing_out_ends_the_session(fresh):
    cookie = cookie_of(sign_in(fresh))
    assert fresh.ask("/logout", Cookie=cookie).status == 405
    kind = {"Content_Type": "application/x-www-form-urlencoded"}
    answer = fresh.ask("/logout?_target_url=https://evil.example", "POST", b"next=//evil", Cookie=cookie, **kind)
    assert (answer.status, answer.headers["location"]) == (303, "/login")
    assert fresh.ask("/", Cookie=cookie).status == 401


@pytest.mark.parametrize(
    "target", ["https://evil.example", "//evil.example", "\\\\evil", "/\\evil", "javascript:alert(1)"]
)
def test_nobody_is_sent_elsewhere_after_the_login(fresh, target):
    for path in (f"/login?next={quote(target)}", f"/login?_target_url={quote(target)}", f"/?next={quote(target)}"):
        assert "location" not in fresh.ask(path, **HTML).headers
    kind = {"Content_Type": "application/x-www-form-urlencoded"}
    answer = fresh.ask(f"/login?next={quote(target)}", "POST", form(KEY) + b"&next=" + quote(target).encode(), **kind)
    assert answer.headers["location"] == "/"


def test_a_one_time_link_signs_in_once(fresh):
    link = fresh.site.login.link()
    assert fresh.ask(link, "HEAD").status == 200  # looking ahead does not use it up
    assert "set-cookie" not in fresh.ask(link, Sec_Purpose="prefetch").headers
    answer = fresh.ask(link)
    assert answer.status == 200
    assert fresh.ask("/", Cookie=cookie_of(answer)).status == 200
    again = fresh.ask(link)
    assert again.status == 401
    assert "set-cookie" not in again.headers


def test_a_used_link_leads_on_for_who_is_signed_in(fresh):
    link = fresh.site.login.link()
    cookie = cookie_of(fresh.ask(link))
    again = fresh.ask(link, Cookie=cookie)
    assert again.status == 200
    assert b'url=/"' in again.body


def test_a_one_time_link_lasts_ten_minutes():
    now = [1000.0]
    login = Login(app=None, key=KEY, port=1, clock=lambda: now[0])  # type: ignore[arg-type]
    assert login._links == {}
    path = login.link()
    token = path.partition("=")[2]
    assert len(token) >= 40
    now[0] += 601
    assert all(expires < now[0] for expires in login._links.values())


def test_five_wrong_keys_a_minute_are_all(fresh):
    for _ in range(FORM_TRIES):
        assert sign_in(fresh, "wrong").status == 401
    answer = sign_in(fresh, "wrong")
    assert (answer.status, answer.headers["retry-after"]) == (429, "60")
    assert sign_in(fresh).status == 429  # also the right one, else guessing could go on
    assert fresh.ask("/", Authorization=f"Bearer {KEY}").status == 200  # programs are counted apart


def test_failures_slow_down_and_are_forgotten_after_a_minute():
    now = [0.0]
    tries = Tries(lambda: now[0])
    for _ in range(100):
        tries.failed("a")
    assert tries.count("a") == 100
    assert tries.count("b") == 0
    assert tries.delay == 1.0
    now[0] = 60.1
    assert (tries.count("a"), tries.delay) == (0, 0.0)


async def _known(login: Login, value: bytes) -> bool:
    scope = {"type": "http", "headers": [(b"authorization", value)], "client": ("192.0.2.1", 1)}
    return await login._known(scope)


def test_guessing_bearer_keys_ends_too():
    import asyncio

    async def guess() -> int:
        login = Login(app=None, key=KEY, port=1)  # type: ignore[arg-type]
        login._bearer = Tries(lambda: 0.0)
        count = 0
        real = asyncio.sleep
        asyncio.sleep = lambda *_: real(0)  # type: ignore[assignment]  # the delay has its own test
        try:
            while True:
                assert not await _known(login, b"Bearer wrong")
                count += 1
        except Refusal as refusal:
            assert refusal.status == 429
            return count
        finally:
            asyncio.sleep = real

    assert asyncio.run(guess()) == KEY_TRIES


def test_a_wrong_first_letter_takes_as_long_as_a_wrong_last_one():
    from webui.login import digest, hmac

    right = digest(KEY.encode())
    first, last = b"X" + KEY[1:].encode(), KEY[:-1].encode() + b"X"
    times: dict[bytes, list[int]] = {first: [], last: []}
    for turn in range(4000):
        given = first if turn % 2 else last
        started = time.perf_counter_ns()
        assert not hmac.compare_digest(digest(given), right)
        times[given].append(time.perf_counter_ns() - started)
    assert abs(statistics.median(times[first]) - statistics.median(times[last])) < 5000


def test_other_sites_are_refused_on_the_network_address_too(guarded):
    address = network_address()
    if not address:
        pytest.skip("this machine has no network address")
    host = f"{address}:{guarded.port}"
    assert guarded.ask("/health", Host=host).status == 200
    answer = guarded.ask("/health", Host=host, Origin="http://evil.example")
    assert answer.status == 403
    assert "access-control-allow-origin" not in answer.headers
    assert guarded.ask("/health", Host=host, Origin=f"http://{host}").status == 200
    assert guarded.ask("/health", Host=f"203.0.113.7:{guarded.port}").status == 421
    assert guarded.ask("/health", Host=f"evil.example:{guarded.port}").status == 421
    name = socket.gethostname().lower()
    assert guarded.ask("/health", Host=f"{name}:{guarded.port}").status == 200


def test_without_listen_only_this_machine_is_served(site):
    import psutil

    bound = {c.laddr.ip for c in psutil.Process().net_connections("tcp") if c.laddr.port == site.port and not c.raddr}
    assert bound <= {"127.0.0.1", "::1"}
    assert "127.0.0.1" in bound
    hosts = Hosts(site.app.config)
    others = [a for a in own_addresses() if not a.startswith(("127.", "[::1]"))]
    assert not any(f"{address}:{site.port}" in hosts for address in others)


@pytest.mark.browser
def test_a_person_signs_in_with_the_keyboard_and_reaches_the_page(fresh):
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=CHROMIUM)
        page = browser.new_page()
        page.goto(f"http://{fresh.host}/")
        page.locator("#key:focus").wait_for()
        page.keyboard.type(KEY)
        page.keyboard.press("Enter")
        page.locator("#shell").wait_for()
        assert fresh.site.login.cookie not in page.evaluate("document.cookie")
        assert page.url == f"http://{fresh.host}/"
        assert page.evaluate("fetch('/probe/missing').then(r => r.status)") == 404
        page.context.clear_cookies()
        page.goto(f"http://{fresh.host}{fresh.site.login.link()}")
        page.locator("#shell").wait_for()
        assert page.evaluate("fetch('/probe/missing').then(r => r.status)") == 404
        browser.close()
