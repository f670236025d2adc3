"""What a model or a person writes is text: it runs nothing and loads nothing."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator

import pytest
from playwright.sync_api import expect

PAYLOADS = """
![i](LEAK?md)

![i][r]

[r]: LEAK?ref

<img src=LEAK onerror="document.body.dataset.x=1"> <img src=x onerror=document.body.dataset.x=1>

<script>document.body.dataset.x=1</script>

<svg onload=document.body.dataset.x=1>

<iframe src=LEAK></iframe> <iframe srcdoc="<script>parent.document.body.dataset.x=1</script>"></iframe>

[c](javascript:document.body.dataset.x=1) [d](data:text/html,<script>1</script>) <javascript:alert(1)>

<style>body{background:url(LEAK)}</style> <div style="background-image:url(LEAK);position:fixed;inset:0">over</div>

<link rel=stylesheet href=LEAK> <link rel=prefetch href=LEAK>

<video src=LEAK autoplay><audio src=LEAK autoplay>

<details open ontoggle=document.body.dataset.x=1>

<form action=LEAK><input name=a><button>go</button></form>

$\\href{javascript:document.body.dataset.x=1}{x}$ $\\includegraphics{LEAK}$ $$\\htmlData{x=1}{y} \\url{LEAK}$$

```mermaid
graph TD; A["<img src=LEAK onerror=document.body.dataset.x=1>"]
```

<meta http-equiv=refresh content="0;url=LEAK"> <base href=LEAK/>

<object data=LEAK></object><embed src=LEAK>

<math><mtext></form><form><mglyph><style></math><img src onerror=document.body.dataset.x=1>
"""


@pytest.fixture
def leak() -> Iterator[tuple[str, list[str]]]:
    """A server of somebody else; what it is asked for has leaked."""
    hits: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            hits.append(self.path)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/leak", hits
    server.shutdown()
    server.server_close()
    thread.join(5)


def untouched(chat, hits: list[str]) -> None:
    page = chat.page
    page.wait_for_timeout(300)
    assert hits == []
    assert page.evaluate("document.body.dataset.x") is None
    assert page.url.startswith(chat.url)
    made = "script, style, iframe, img, video, audio, object, embed, form, input, link, meta, base, svg[onload]"
    inside = f"article :is({made})"
    assert page.evaluate(f"[...document.querySelectorAll({inside!r})].map(e => e.outerHTML)") == []
    assert (
        page.evaluate(
            """[...document.querySelectorAll('article *')].flatMap(e => [...e.attributes])
              .filter(a => /^on/.test(a.name) || /javascript:/i.test(a.value)).map(a => a.name + a.value)"""
        )
        == []
    )
    assert (
        page.locator("article a[href]").evaluate_all(
            "all => all.filter(a => !/^(https?|mailto):/.test(a.getAttribute('href'))).length"
        )
        == 0
    )


@pytest.mark.parametrize("how", ["/speed 0 /say ", "/speed 3000 /pieces characters /say "])
def test_hostile_markdown_is_shown_and_does_nothing(chat, leak, how):
    address, hits = leak
    chat.say(how + PAYLOADS.replace("LEAK", address).strip())
    chat.wait()
    untouched(chat, hits)
    chat.page.reload()
    expect(chat.last.locator(".math .katex").first).to_be_attached()
    untouched(chat, hits)
    assert chat.page.evaluate("document.elementFromPoint(600, 300).closest('#shell') !== null")


def test_names_of_chats_and_search_results_are_text(chat, leak):
    address, hits = leak
    evil = f"<img src={address} onerror=document.body.dataset.x=1> zebra"
    chat.ask("/speed 0 " + evil)
    chat.page.locator("#chats a[aria-current]").press("F2")
    chat.page.get_by_label("Name of the chat").fill(evil)
    chat.page.keyboard.press("Enter")
    expect(chat.page.locator("#chats a[aria-current]")).to_have_text(evil)
    chat.page.keyboard.press("Control+k")
    chat.page.get_by_role("combobox").fill("zebra")
    expect(chat.page.locator("#hits mark").first).to_have_text("zebra")
    assert chat.page.locator("dialog img").count() == 0
    chat.page.keyboard.press("Escape")
    untouched(chat, hits)


def test_scripts_cannot_be_made_from_text(chat):
    chat.watch.allowed += ["unsafe-eval", "Content Security Policy"]
    assert (
        chat.page.evaluate(
            """() => new Promise(done => {
              const made = document.createElement('script');
              made.src = 'http://127.0.0.1:9/x.js';
              made.onerror = () => done('refused');
              made.onload = () => done('ran');
              document.head.append(made);
            })"""
        )
        == "refused"
    )
    chat.watch.allowed.append("127.0.0.1:9")
