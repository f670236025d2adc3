"""What the gate lets in, over a real socket."""

from __future__ import annotations

import asyncio
import http.client
import json
import resource
import time

import psutil
import pytest

from webui import gate
from webui.gate import Gate

FOREIGN_HOSTS = [
    "evil.example",
    "evil.example:{port}",
    "127.0.0.1.nip.io:{port}",
    "localhost.evil.example:{port}",
    "evil@localhost:{port}",
    "localhost:{port}@evil.example",
    "0.0.0.0:{port}",
    "127.1:{port}",
    "127.0.0.1",
    "127.0.0.1:1",
    "localhost.:{port}",
    "[::]:{port}",
    "",
    "x/health?",
]
PATHS = ["/", "/health", "/config", "/v1/models", "/gradio_api/info", "/static/favicon.svg", "/nothing"]


@pytest.mark.parametrize("host", FOREIGN_HOSTS)
def test_a_foreign_host_is_refused_on_every_path(site, host):
    for path in PATHS:
        answer = site.ask(path, Host=host.format(port=site.port))
        assert answer.status in (400, 421), path
        assert not any(name.startswith("access-control") for name in answer.headers)


def test_two_host_lines_are_refused(site):
    request = f"GET /health HTTP/1.1\r\nHost: {site.host}\r\nHost: evil.example\r\nConnection: close\r\n\r\n"
    assert site.raw(request.encode()).startswith(b"HTTP/1.1 400")


def test_a_request_without_host_is_refused(site):
    assert site.raw(b"GET /health HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.1 4")


@pytest.mark.parametrize("host", ["LOCALHOST:{port}", "[::1]:{port}", "127.0.0.1:{port}", "localhost:{port}"])
def test_our_own_names_are_served(site, host):
    assert site.ask("/health", Host=host.format(port=site.port)).status == 200


def test_a_rebound_page_with_a_matching_origin_is_refused(site):
    there = f"evil.example:{site.port}"
    answer = site.ask("/config", Host=there, Origin=f"http://{there}")
    assert answer.status == 421
    assert not any(name.startswith("access-control") for name in answer.headers)


FOREIGN_ORIGINS = [
    "null",
    "http://evil.example",
    "http://localhost.evil.example",
    "http://127.0.0.1:{port}.evil.example",
    "http://localhost:{port}@evil.example",
    "http://localhost:9999",
    "http://localhost",
    "https://localhost:{port}",
    "localhost:{port}",
    "http://localhost:{port}/",
    "http:// localhost:{port}",
    "",
]


@pytest.mark.parametrize("origin", FOREIGN_ORIGINS)
@pytest.mark.parametrize("cookie", [{}, {"Cookie": "a=b"}])
def test_a_foreign_origin_is_refused(site, origin, cookie):
    origin = origin.format(port=site.port)
    before = site.app.calls
    for answer in (
        site.ask("/config", Origin=origin, **cookie),
        site.ask("/", Origin=origin, **cookie),
        site.post("/probe/echo", Origin=origin, **cookie),
        site.ask("/probe/echo", "OPTIONS", Origin=origin, Access_Control_Request_Method="POST", **cookie),
    ):
        assert answer.status == 403
        assert answer.json()["error"]["code"] == "foreign_origin"
        assert not any(name.startswith("access-control") for name in answer.headers)
    assert site.app.calls == before


def test_a_cross_site_upload_leaves_nothing_behind(site):
    before = sorted(site.app.config.data.rglob("*"))
    body = b"--b\r\nContent-Disposition: form-data; name=files; filename=x.txt\r\n\r\nx\r\n--b--\r\n"
    kind = "multipart/form-data; boundary=b"
    answer = site.ask("/gradio_api/upload", "POST", body, Origin="http://evil.example", Content_Type=kind)
    assert answer.status == 403
    assert [p for p in sorted(site.app.config.data.rglob("*")) if p not in before and "logs" not in p.parts] == []


def test_our_own_origin_is_served_without_any_cors_header(site):
    for origin in (f"http://{site.host}", f"http://localhost:{site.port}", f"http://[::1]:{site.port}"):
        answer = site.post("/probe/echo", Origin=origin, Sec_Fetch_Site="same-origin")
        assert answer.status == 200
        assert not any(name.startswith("access-control") for name in answer.headers)


def test_what_another_site_causes_is_refused_but_a_link_may_lead_here(site):
    for where in ("cross-site", "same-site", "nonsense"):
        assert site.ask("/health", Sec_Fetch_Site=where).status == 403
        assert site.ask("/", Sec_Fetch_Site=where, Sec_Fetch_Mode="no-cors", Sec_Fetch_Dest="image").status == 403
        assert site.ask("/", Sec_Fetch_Site=where, Sec_Fetch_Mode="navigate", Sec_Fetch_Dest="iframe").status == 403
        assert site.ask("/", Sec_Fetch_Site=where, Sec_Fetch_Mode="navigate", Sec_Fetch_Dest="document").status == 200
        posted = site.post("/probe/echo", Sec_Fetch_Site=where, Sec_Fetch_Mode="navigate", Sec_Fetch_Dest="document")
        assert posted.status == 403


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "", None])
def test_a_body_that_is_not_json_is_refused(site, kind):
    before = site.app.calls
    headers = {} if kind is None else {"Content_Type": kind}
    assert site.ask("/probe/echo", "POST", b'{"a":1}', **headers).status == 415
    assert site.app.calls == before


def test_a_post_without_a_body_needs_no_type(site):
    assert site.ask("/probe/echo", "POST", b"").status == 200


@pytest.mark.parametrize(
    "path",
    [
        "//evil.example/%2e%2e",
        "//evil.example",
        "/static/../../pyproject.toml",
        "/static/%2e%2e/%2e%2e/pyproject.toml",
        "/static/%252e%252e%252fpyproject.toml",
        "/static/..%5c..%5cpyproject.toml",
        "/static/..%2f..%2fpyproject.toml",
        "/static/a%00.js",
        "/static/C:%5Cx",
        "/static/%5C%5Chost%5Cs",
        "/static/%0d%0aSet-Cookie:x",
        "http://evil.example/health",
        "http://127.0.0.1/health",
        "*",
    ],
)
def test_paths_that_try_something_are_refused(site, path):
    answer = site.ask(path)
    assert answer.status == 400
    assert "location" not in answer.headers


@pytest.mark.parametrize("path", ["/static/C:/x", "/static//etc/passwd", "/static//host/s", "/static/js", "/static/"])
def test_what_is_not_a_file_of_the_page_is_not_there(site, path):
    assert site.ask(path).status == 404


@pytest.mark.parametrize("method", ["TRACE", "CONNECT", "PROPFIND", "get"])
def test_unusual_methods_are_refused(site, method):
    answer = site.ask("/health", method)
    assert answer.status in (400, 405)


def test_head_answers_like_get_without_a_body(site):
    answer = site.ask("/", "HEAD")
    assert (answer.status, answer.body) == (200, b"")


def test_options_grant_nothing(site):
    answer = site.ask("/probe/echo", "OPTIONS", Origin=f"http://{site.host}", Access_Control_Request_Method="POST")
    assert answer.status == 405
    assert not any(name.startswith("access-control") for name in answer.headers)


@pytest.mark.parametrize("path", ["/", "/health", "/static/favicon.svg", "/nothing", "/probe/fail", "//bad"])
def test_every_answer_carries_the_headers_that_protect_the_page(site, path):
    answer = site.ask(path)
    policy = answer.headers["content-security-policy"]
    for rule in ("default-src 'self'", "frame-ancestors 'none'", "object-src 'none'", "img-src 'self' data: blob:"):
        assert rule in policy
    assert "unsafe-eval" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    assert "server" not in answer.headers
    assert "date" not in answer.headers


def test_also_what_is_not_http_gets_them(site):
    answer = site.raw(b"nonsense\r\n\r\n").lower()
    assert answer.startswith(b"http/1.1 400")
    assert b"nosniff" in answer
    assert b"content-security-policy" in answer


def test_errors_are_said_in_json(site):
    missing = site.ask("/probe/missing")
    assert missing.status == 404
    assert missing.json() == {"error": {"code": "NotFound", "message": "There is no such chat.", "hint": "Look again."}}
    busy = site.ask("/probe/busy")
    assert (busy.status, busy.headers["retry-after"]) == (503, "1")
    assert site.ask("/nothing").json()["error"]["code"] == "not_found"
    assert site.ask("/health", "DELETE").json()["error"]["code"] == "method_not_allowed"


def test_a_failure_says_nothing_of_the_inside(site):
    answer = site.ask("/probe/fail")
    assert answer.status == 500
    for word in (b"Traceback", b"secret", b"RuntimeError", b"/webui", b".py"):
        assert word not in answer.body
    assert site.ask("/health").status == 200


@pytest.mark.parametrize(
    "path",
    "/docs /redoc /openapi.json /gradio_api/openapi.json /gradio_api/runs /gradio_api/dev/reload /monitoring "
    "/monitoring/summary /gradio_api/vibe-code /gradio_api/run/x /gradio_api/call/x /gradio_api/api/x /robots.txt "
    "/gradio_api/file=https://example.com/ /gradio_api/file=http://127.0.0.1:7999/ /gradio_api/startup-events "
    "/gradio_api/proxy=http://127.0.0.1:7999/ /gradio_api/mcp/sse /gradio_api/component_server /token /user "
    "/gradio_api/deep_link /login_check /gradio_api/custom_component/1/client/component/x.js /gradio_api/stream/x "
    "/gradio_api/process_recording /gradio_api/profiling/traces /gradio_api/queue/status /manifest.json "
    "/svelte/x".split(),
)
def test_helper_addresses_are_not_there(site, path):
    for method in ("GET", "POST"):
        assert site.ask(path, method).status in (404, 405)


def test_gradio_answers_503_until_it_is_there(site):
    answer = site.ask("/config")
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")


def test_a_body_beyond_the_limit_is_refused_before_it_is_read(site):
    process = psutil.Process()
    before = process.memory_info().rss
    answer = site.ask("/probe/echo", "POST", b"x" * 3_000_000, Content_Type="application/json")
    assert answer.status == 413
    assert process.memory_info().rss - before < 20e6


def test_a_chunked_body_beyond_the_limit_is_refused(site):
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=10)
    before = site.app.calls
    parts = (b"x" * 65536 for _ in range(48))
    connection.request("POST", "/probe/echo", parts, {"Content-Type": "application/json"}, encode_chunked=True)
    answer = connection.getresponse()
    assert answer.status == 413
    assert json.loads(answer.read())["error"]["code"] == "too_large"
    assert site.app.calls == before + 1  # it was asked, and never saw the whole
    connection.close()


def test_a_chunked_body_within_the_limit_arrives_whole(site):
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=10)
    parts = (b"x" * 65536 for _ in range(16))
    connection.request("POST", "/probe/echo", parts, {"Content-Type": "application/json"}, encode_chunked=True)
    assert json.loads(connection.getresponse().read())["bytes"] == 65536 * 16
    connection.close()


def test_an_upload_may_be_larger(site):
    body = b"x" * 3_000_000
    answer = site.ask("/probe/upload", "POST", body, Content_Type="multipart/form-data; boundary=b")
    assert (answer.status, answer.json()["bytes"]) == (200, len(body))
    huge = str(21 * 1024 * 1024)
    assert site.ask("/probe/upload", "POST", b"", Content_Length=huge, Content_Type="application/json").status == 413


@pytest.mark.parametrize("length", ["-1", "1e3", "+5", "9" * 30, "5, 5"])
def test_a_content_length_that_is_no_number_is_refused(site, length):
    request = f"POST /probe/echo HTTP/1.1\r\nHost: {site.host}\r\nContent-Length: {length}\r\n\r\nxxxxx"
    assert site.raw(request.encode(), timeout=3).startswith(b"HTTP/1.1 4")


def test_header_and_form_bombs_are_refused_within_two_seconds(site):
    started = time.monotonic()
    line = b"X-Large: " + b"x" * 5_000_000
    request = f"GET /health HTTP/1.1\r\nHost: {site.host}\r\n".encode() + line + b"\r\n\r\n"
    try:
        answer = site.raw(request, timeout=3)
    except (BrokenPipeError, ConnectionResetError):
        answer = b"HTTP/1.1 431"  # cut off while it was still sending
    assert answer == b"" or answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 431"))
    for body, kind in (
        (b"&".join(b"a=1" for _ in range(1_000_000)), "application/x-www-form-urlencoded"),
        (b"--b\r\n" + b"-" * 10_000_000, "multipart/form-data; boundary=b"),
        (b"".join(b"--b\r\n\r\n\r\n" for _ in range(100_000)), "multipart/form-data; boundary=b"),
    ):
        assert site.ask("/probe/echo", "POST", body, Content_Type=kind).status in (400, 413, 415)
    assert time.monotonic() - started < 8
    assert site.ask("/health").status == 200


def test_five_thousand_ranges_cost_nothing(site):
    started = time.monotonic()
    ranges = "bytes=" + ",".join(f"{n}-{n}" for n in range(5000))
    assert site.ask("/static/favicon.svg", Range=ranges).status in (200, 206, 400, 416, 431)
    assert time.monotonic() - started < 1


def test_headers_by_which_a_proxy_speaks_are_not_believed(site):
    answer = site.post("/probe/echo", X_Forwarded_Host="evil.example", Forwarded="host=x", X_Gradio_Server="http://e")
    seen = answer.json()["headers"]
    assert not {"x-forwarded-host", "forwarded", "x-gradio-server"} & set(seen)


def test_a_stream_ends_when_its_client_goes(site):
    before = site.app.ended
    connections = []
    for _ in range(8):
        connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=5)
        connection.request("GET", "/probe/stream")
        assert connection.getresponse().read(3) == b"dat"
        connections.append(connection)
    for connection in connections:
        connection.close()
    end = time.monotonic() + 1
    while site.app.ended < before + 8 and time.monotonic() < end:
        time.sleep(0.02)
    assert site.app.ended == before + 8


def test_files_may_be_open_in_numbers():
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[1] >= 1024


@pytest.mark.parametrize(
    ("headers", "let_in"),
    [
        ({"host": "127.0.0.1:1", "origin": "http://127.0.0.1:1"}, True),
        ({"host": "127.0.0.1:1"}, False),
        ({"host": "127.0.0.1:1", "origin": "null"}, False),
        ({"host": "127.0.0.1:1", "origin": "http://evil.example"}, False),
        ({"host": "evil.example", "origin": "http://127.0.0.1:1"}, False),
        ({"host": "127.0.0.1:1", "origin": "http://127.0.0.1:1", "sec-fetch-site": "cross-site"}, False),
    ],
)
def test_a_socket_is_held_to_the_same_rules(headers, let_in):
    asked = []

    async def app(scope, receive, send):
        asked.append(scope["path"])

    async def run():
        sent = []
        scope = {"type": "websocket", "path": "/x", "headers": [(k.encode(), v.encode()) for k, v in headers.items()]}

        async def receive():
            return {"type": "websocket.connect"}

        async def send(message):
            sent.append(message["type"])

        await Gate(app, {"127.0.0.1:1"})(scope, receive, send)
        return sent

    assert asyncio.run(run()) == ([] if let_in else ["websocket.close"])
    assert asked == (["/x"] if let_in else [])


def test_a_body_that_stops_half_way_is_given_up(monkeypatch):
    """The deadline itself, with a clock of its own; how it frees connections is tested on a running program."""
    now = [0.0]
    seen = []

    async def app(scope, receive, send):
        while True:
            seen.append(await receive())

    async def run():
        sent = []
        kind = [(b"content-type", b"application/json"), (b"transfer-encoding", b"chunked")]
        scope = {"type": "http", "method": "POST", "path": "/x", "headers": [(b"host", b"h:1"), *kind]}

        async def receive():
            now[0] += 10.0
            if now[0] > 20:
                await asyncio.sleep(3600)
            return {"type": "http.request", "body": b"x", "more_body": True}

        async def send(message):
            sent.append(message)

        monkeypatch.setattr(gate, "DRAIN_SECONDS", 0.01)
        monkeypatch.setattr(gate, "BODY_SECONDS", 0.05)
        await Gate(app, {"h:1"}, lambda: now[0])(scope, receive, send)
        return sent

    sent = asyncio.run(run())
    assert len(seen) == 2
    assert sent[0]["status"] == 408
    assert (b"connection", b"close") in sent[0]["headers"]
