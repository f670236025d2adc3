"""What a person sees while a reply is written, measured in Chromium: an empty chat, then long ones.

    python -m tests.bench.page                     # 2,000 tokens at 200 tokens/s over 0, 200 and 1,000 messages
    python -m tests.bench.page --messages 0 --tokens 500 --chromium /usr/bin/chromium

One line a history: tokens/s shown, frames/s, ms from the last token's arrival in the web process to its frame, bytes a
token on the wire, ms of the renderer's processor a token, ms to open the chat (first time, again), ms from the press on
Stop to the last change of the text. All on one machine in one run, with the ratio to the empty chat.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from loaders.echo import numbered
from webui.core.chat import Message, new_id
from webui.core.config import load

ROOT = Path(__file__).parents[2]
FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    " --disable-component-update --disable-sync"
).split()
HISTORY_TOKENS = 500  # in each reply of the history
CONTEXT = 10_000_000  # nothing is left out of the prompt

#: Looks at the reply with each frame: when which token was first to be seen, and how long the frames took.
WATCH = r"""() => {
  const seen = window.seen = { tokens: [], frames: [], changed: 0 };
  const last = node => { const all = (node?.textContent ?? '').slice(-60).match(/\d+/g); return all ? Number(all[all.length - 1]) : -1; };
  let best = -1, reply = null;
  const look = now => {
    const live = document.querySelector('.message.last.assistant[data-status="streaming"]');
    if (live && !reply) reply = live;
    const blocks = reply?.querySelector('.body').children;
    if (blocks?.length) {
      const n = Math.max(last(blocks[blocks.length - 1]), blocks.length > 1 ? last(blocks[blocks.length - 2]) : -1);
      if (n > best) { best = n; seen.tokens.push([n, performance.timeOrigin + performance.now()]); }
    }
    seen.frames.push(now);
    if (!seen.over) requestAnimationFrame(look);
  };
  requestAnimationFrame(look);
  new MutationObserver(changes => {
    if (changes.some(c => (c.target.nodeType === 3 ? c.target.parentElement : c.target)?.closest?.('.body'))) seen.changed = performance.now();
  }).observe(document.getElementById('messages'), { childList: true, characterData: true, subtree: true });
}"""  # noqa: E501  # a script


async def serve(words: list[str]) -> None:
    """The program, and on standard output when the last token of each reply arrived in it."""
    from webui.core.events import Token
    from webui.runtime.app import create_app
    from webui.server.hosts import listen
    from webui.server.run import Server
    from webui.server.site import create_site

    sockets, port = listen(config := load(words))
    app = create_app(replace(config, port=port, ready=lambda url: print(url, flush=True)))
    app.models.save_settings("echo", options={"context": CONTEXT})
    known: set[str] = set()
    watching: set[asyncio.Task[None]] = set()

    async def record(reply: Any) -> None:
        last = 0.0
        async for _, event in reply.follow():
            if isinstance(event, Token):
                last = time.time()
        print(json.dumps({"reply": reply.id, "last": last}), flush=True)

    async def look() -> None:
        while True:
            for reply in list(app.replies.values()):
                if reply.id not in known:
                    known.add(reply.id)
                    watching.add(asyncio.create_task(record(reply)))
            await asyncio.sleep(0.02)

    looking = asyncio.create_task(look())
    await Server(app, create_site(app), alone=True).serve(sockets)
    looking.cancel()


def history(data: Path, count: int) -> str:
    """A chat of ``count`` messages; its id, "" for none."""
    if not count:
        return ""
    from webui.runtime.stores.chats import ChatStore

    store = ChatStore(data)
    chat = store.create(title=f"{count} messages", model="echo")
    answer = "".join(numbered(HISTORY_TOKENS))
    parent = ""
    for n in range(count):
        role = "user" if n % 2 == 0 else "assistant"
        text = f"Question {n} and some more words." if role == "user" else f"Answer {n}.\n\n{answer}"
        message = Message(id=new_id(), parent=parent, role=role, text=text, created=time.time(), model="echo")
        store.append(chat.id, message)
        parent = message.id
    store.close()
    return chat.id


@dataclass
class Line:
    """What was measured over one history."""

    messages: int
    shown: float
    frames: float
    lag: float
    wire: float
    renderer: float
    opened: float
    again: float
    stopped: float

    def __str__(self) -> str:
        return (
            f"{self.messages:5} messages | {self.shown:6.1f} tokens/s | {self.frames:5.1f} frames/s"
            f" | {self.lag:5.0f} ms lag | {self.wire:5.1f} bytes/token | {self.renderer:5.2f} ms/token"
            f" | open {self.opened:5.0f} ms, again {self.again:5.0f} ms | stop {self.stopped:4.0f} ms"
        )


def measure(browser: Any, url: str, chat: str, messages: int, tokens: int, speed: int, log: Any) -> Line:
    """One history: opened twice, a reply streamed, another one stopped."""
    page = browser.new_page(viewport={"width": 1200, "height": 800})
    page.goto(url)
    page.locator("body[data-ready]").wait_for()
    opened = [_open(page, url, chat) for _ in range(2)] if chat else [0.0, 0.0]
    wire = page.context.new_cdp_session(page)
    wire.send("Network.enable")
    wire.send("Performance.enable")
    followed: dict[str, int] = {}
    wire.on(
        "Network.requestWillBeSent",
        lambda e: followed.update({e["requestId"]: 0}) if "/follow" in e["request"]["url"] else None,
    )
    wire.on(
        "Network.dataReceived",
        lambda e: (
            e["requestId"] in followed
            and followed.update({e["requestId"]: followed[e["requestId"]] + e["encodedDataLength"]})
        ),
    )
    page.wait_for_timeout(4500)  # the panels are fetched while nothing else happens
    page.evaluate(WATCH)
    before = _processor(wire)
    box = page.get_by_label("Message", exact=True)
    box.fill(f"/speed {speed} /tokens {tokens}")
    box.press("Enter")
    page.locator('article.last.assistant[data-status="streaming"]').wait_for()
    page.locator('article.last.assistant[data-status="done"]').wait_for(timeout=tokens / speed * 4000 + 20000)
    after = _processor(wire)
    seen = page.evaluate("(window.seen.over = true, window.seen)")
    told = json.loads(log.readline())
    first, last = seen["tokens"][0], seen["tokens"][-1]
    if last[0] != tokens - 1:
        raise SystemExit(f"The last token shown is {last[0]}, not {tokens - 1}.")
    frames = [f for f in seen["frames"] if f >= first[1] - page.evaluate("performance.timeOrigin")]
    stopped = _stop(page, box, speed)
    log.readline()
    page.close()
    return Line(
        messages,
        shown=(last[0] - first[0]) / (last[1] - first[1]) * 1000,
        frames=(len(frames) - 1) / (frames[-1] - frames[0]) * 1000,
        lag=last[1] - told["last"] * 1000,
        wire=max(followed.values()) / tokens,
        renderer=(after - before) / tokens * 1000,
        opened=opened[0],
        again=opened[1],
        stopped=stopped,
    )


def _open(page: Any, url: str, chat: str) -> float:
    """Loads the page with a chat in its address; ms until its last message stands there."""
    page.goto("about:blank")
    page.goto(f"{url}/#/c/{chat}", wait_until="commit")
    page.locator("article.message.last .body .block").last.wait_for()
    script = (
        "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now()))))"
    )
    return float(page.evaluate(script))


def _stop(page: Any, box: Any, speed: int) -> float:
    """A reply is stopped after a while; ms from the press to the last change of its text."""
    box.fill(f"/speed {speed} /tokens 2000")
    box.press("Enter")
    page.locator('article.last[data-status="streaming"]').wait_for()
    page.wait_for_timeout(1500)
    pressed = page.evaluate("(document.getElementById('stop').click(), performance.now())")
    page.locator('article.last.assistant[data-status="stopped"]').wait_for()
    page.wait_for_timeout(500)
    return max(0.0, float(page.evaluate("window.seen.changed")) - pressed)


def _processor(wire: Any) -> float:
    """Seconds of processor time that the renderer has used."""
    metrics = {m["name"]: m["value"] for m in wire.send("Performance.getMetrics")["metrics"]}
    return float(metrics["ProcessTime"])


def main() -> None:
    """Measure and print."""
    if sys.argv[1:2] == ["--serve"]:
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(serve(sys.argv[2:]))
        return

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, nargs="+", default=[0, 200, 1000])
    parser.add_argument("--tokens", type=int, default=2000)
    parser.add_argument("--speed", type=int, default=200)
    parser.add_argument("--chromium", default=shutil.which("chromium") or shutil.which("google-chrome") or "")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder, "data")
        data.mkdir()
        Path(folder, "models").mkdir()
        chats = [history(data, count) for count in options.messages]
        words = [
            "--no-browser",
            "--model",
            "echo",
            "--data-dir",
            str(data),
            "--models-dir",
            f"{folder}/models",
            "--port",
            "7999",
        ]
        log_file = Path(folder, "log")
        with (
            log_file.open("wb") as log,
            subprocess.Popen(
                [sys.executable, "-m", "tests.bench.page", "--serve", *words],
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            ) as program,
        ):
            try:
                run(program, options, chats)
            finally:
                program.terminate()


def run(program: Any, options: argparse.Namespace, chats: list[str]) -> None:
    """The histories one after the other, in one browser."""
    from playwright.sync_api import sync_playwright

    heard = re.search(r"http://[^/]+", program.stdout.readline())
    if heard is None:
        raise SystemExit("The program did not start.")
    url = heard.group()
    urllib.request.urlopen(f"{url}/health").close()  # the server just started
    lines: list[Line] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=options.chromium, args=FLAGS)
        for chat, count in zip(chats, options.messages, strict=True):
            lines.append(measure(browser, url, chat, count, options.tokens, options.speed, program.stdout))
            print(lines[-1], flush=True)
        browser.close()
    for line in lines[1:]:
        first = lines[0]
        print(
            f"{line.messages:5} against {first.messages}: shown x{line.shown / first.shown:.2f}, frames"
            f" x{line.frames / first.frames:.2f}, renderer x{line.renderer / first.renderer:.2f}"
        )
    print(f"load of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
