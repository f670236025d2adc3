"""Every route of the site with its access rule: a new one without an entry here fails."""

from __future__ import annotations

import gzip
import http.client
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from starlette.routing import Route

from tests.server.conftest import KEY, Probe, Running, free_port
from webui.core.config import Config
from webui.login import PUBLIC
from webui.runtime.app import create_app
from webui.server import create_site
from webui.server.panels import ALLOWED
from webui.server.site import Site

OPEN = "open"  # answered without the key
KEYED = "key"  # with a key set, answered only with it

#: Address and methods of each route, and who may use it.
ROUTES = {
    "/health": ("GET", OPEN),
    "/": ("GET", KEYED),
    "/static/{path:path}": ("GET", KEYED),
    "/ui/state": ("GET", KEYED),
    "/ui/search": ("GET", KEYED),
    "/ui/models": ("GET", KEYED),
    "/ui/models/load": ("POST", KEYED),
    "/ui/models/unload": ("POST", KEYED),
    "/ui/settings-schema": ("GET", KEYED),
    "/ui/theme": ("POST", KEYED),
    "/ui/new-chat": ("PATCH", KEYED),
    "/ui/chats": ("GET POST", KEYED),
    "/ui/chats/{chat}": ("GET PATCH DELETE", KEYED),
    "/ui/chats/{chat}/restore": ("POST", KEYED),
    "/ui/chats/{chat}/send": ("POST", KEYED),
    "/ui/chats/{chat}/regenerate": ("POST", KEYED),
    "/ui/chats/{chat}/continue": ("POST", KEYED),
    "/ui/chats/{chat}/edit": ("POST", KEYED),
    "/ui/chats/{chat}/show": ("POST", KEYED),
    "/ui/chats/{chat}/delete": ("POST", KEYED),
    "/ui/chats/{chat}/undelete": ("POST", KEYED),
    "/ui/chats/{chat}/branch": ("POST", KEYED),
    "/ui/chats/{chat}/messages/{message}": ("GET", KEYED),
    "/ui/replies/{message}/prompt": ("GET", KEYED),
    "/ui/replies/{message}/follow": ("GET", KEYED),
    "/ui/replies/{message}/stop": ("POST", KEYED),
}
#: What Gradio answers, all with the key.
GRADIO = {
    "GET /config",
    "GET /theme.css",
    "GET /assets/…",
    "GET /static/fonts|img/…",
    "GET /gradio_api/info",
    "GET /gradio_api/heartbeat/…",
    "GET /gradio_api/queue/data",
    "POST /gradio_api/queue/join",
    "POST /gradio_api/cancel",
    "POST /gradio_api/reset",
    "POST /gradio_api/upload",
    "GET /gradio_api/upload_progress",
    "GET /gradio_api/file=/…",
    "GET /gradio_api/file=C:/…",
}
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


@pytest.fixture(scope="module")
def real(tmp_path_factory) -> Iterator[Site]:
    """The site of a real app with nothing running."""
    data, models = tmp_path_factory.mktemp("data"), tmp_path_factory.mktemp("models")
    app = create_app(Config(data_dir=str(data), models_dir=str(models), port=free_port(), api_key=KEY, listen=True))
    yield create_site(app)
    app.chats.close()


def test_every_route_has_an_access_rule(real):
    found = {}
    for route in real.starlette.routes:
        assert isinstance(route, Route), f"{route} is not one that can be listed"
        found[route.path] = set(route.methods or ()) - {"HEAD"}
    assert found == {path: set(methods.split()) for path, (methods, _) in ROUTES.items()}


def test_only_health_and_login_are_open():
    assert {path for path, (_, rule) in ROUTES.items() if rule == OPEN} | {"/login"} == PUBLIC


def test_what_gradio_answers_is_listed():
    said = set()
    for method, pattern in ALLOWED:
        text = re.sub(r"\\(.)", r"\1", pattern.pattern).replace("[A-Za-z]", "C")
        text = re.sub(r"\(\?:(.*?)\)", r"\1", text)
        said.add(f"{method} " + re.sub(r"(\[[^\]]*\]\+|w\{1,64\})$", "…", text))
    assert said == GRADIO


def test_no_route_answers_without_the_key(guarded, real):
    """The black box's twin of the list: each address with each method, over a socket, nothing but 401."""
    for path, (_, rule) in ROUTES.items():
        address = re.sub(r"\{(\w+)(:path)?\}", "x", path)
        for method in METHODS:
            status = guarded.ask(address, method).status
            assert rule == OPEN or status == 401, (method, address)


def test_the_page_names_its_files_by_their_version_and_they_may_be_kept(site):
    page = site.ask("/")
    assert page.headers["cache-control"] == "no-cache"
    addresses = set(re.findall(r'(?:href|src)="(/static/[^"#]+)', page.body.decode()))
    assert addresses
    for address in addresses:
        assert address.startswith(f"/static/@{site.site.static.version}/")
        answer = site.ask(address)
        assert answer.status == 200, address
        assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"


def test_a_file_by_its_plain_name_is_asked_for_again_and_not_sent_twice(site):
    first = site.ask("/static/favicon.svg")
    assert first.headers["cache-control"] == "no-cache"
    again = site.ask("/static/favicon.svg", If_None_Match=first.headers["etag"])
    assert (again.status, again.body) == (304, b"")
    old = site.ask("/static/@0123456789abcdef/favicon.svg")
    assert (old.status, old.headers["cache-control"]) == (200, "no-cache")


def test_text_is_compressed_for_who_can_read_it_and_streams_never_are(site):
    plain = site.ask("/static/vendor/katex/katex.min.js")
    packed = site.ask("/static/vendor/katex/katex.min.js", Accept_Encoding="gzip")
    assert "content-encoding" not in plain.headers
    assert packed.headers["content-encoding"] == "gzip"
    assert len(packed.body) < len(plain.body) / 2
    assert gzip.decompress(packed.body) == plain.body
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=5)
    connection.request("GET", "/probe/stream", headers={"Accept-Encoding": "gzip"})
    answer = connection.getresponse()
    assert answer.headers.get("content-encoding") is None
    assert answer.read(4) == b"data"
    connection.close()


def test_a_changed_file_changes_the_version(tmp_path):
    from webui.server.static import Static

    (tmp_path / "a.js").write_text("1")
    (tmp_path / "secret.py").write_text("1")
    (tmp_path / "link.js").symlink_to(Path(__file__))
    files = Static({"": tmp_path})
    before = files.version
    assert "a.js" in files
    assert "secret.py" not in files
    assert "link.js" not in files
    (tmp_path / "a.js").write_text("two")
    assert files.look() != before


def test_a_file_outside_the_page_folders_is_never_served(site, tmp_path):
    beside = Path(site.site.static._folders[""])
    evil = beside.with_name(beside.name + "-evil")
    for address in (
        f"/static/../{evil.name}/c.txt",
        f"/static/{quote(str(evil))}/c.txt",
        "/static//etc/passwd",
        "/static/@x/../y",
    ):
        assert site.ask(address).status in (400, 404)


def test_an_extension_that_is_switched_off_takes_its_routes_with_it(run_site):
    running: Running = run_site()
    app: Probe = running.app
    assert running.ask("/probe/missing").json()["error"]["code"] == "NotFound"
    app.plugins.records[0].enabled = False
    assert running.ask("/probe/missing").json()["error"]["code"] == "not_found"
    app.plugins.records[0].enabled = True
    assert running.ask("/probe/missing").json()["error"]["code"] == "NotFound"


def test_many_at_once_are_all_answered(site):
    statuses: list[int] = []

    def ask() -> None:
        for _ in range(10):
            statuses.append(site.ask("/health").status)

    threads = [threading.Thread(target=ask) for _ in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert statuses == [200] * 320
