"""How long from Stop to silence: while a reply is written and while a prompt is read, on the echo and on llama.cpp.

    python -m tests.bench.stop [rounds]

Silence is the moment after which no viewer gets anything more; idle is when the engine has answered another request,
so that it no longer works for nobody. Prints the median and the worst of each in milliseconds.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
from pathlib import Path

from tests import models as tiny
from tests.runtime.driving import config
from webui.runtime import conversation as talk
from webui.runtime.app import App, create_app
from webui.runtime.reply import Reply

LONG = tiny.Shape(layers=8, width=512, inner=2048, heads=8, kv_heads=4, context=8192)  # seconds to read 7,000 tokens
WRITING = {"echo": "/tokens 100000 /speed 200 x", "tiny": "Hello"}
READING = {"echo": "/prefill 60 x", "tiny": "the quick brown fox jumps over a lazy dog " * 800}


async def _under_way(reply: Reply, writing: bool) -> None:
    async with asyncio.timeout(60):
        while not reply.done:
            await reply.changed(reply.number, 1)
            if reply.tokens >= 5 if writing else reply.progress is not None and reply.progress.stage == "prompt":
                return
    raise RuntimeError(f"The reply ended too early: {reply.error}")


async def _stop(app: App, model: str, text: str, writing: bool) -> tuple[float, float]:
    """Milliseconds until silence, and until the engine is idle."""
    chat = await talk.create(app, model=model, settings={"ban_eos": True, "temperature": 1.0})
    _, reply = await talk.send(app, chat.id, text if writing or model == "echo" else chat.id + text)  # never cached
    await _under_way(reply, writing)
    await asyncio.sleep(0.05)
    began = time.monotonic()
    reply.stop()
    number = 0
    while not reply.done:
        number = await reply.changed(number, 1)
    silence = time.monotonic() - began
    await app.models.process(model).count("idle?")
    idle = time.monotonic() - began
    await reply.settled()
    return 1000 * silence, 1000 * idle


async def _measure(folder: Path, rounds: int) -> None:
    app = create_app(config(folder))
    try:
        for model in ("echo", "tiny"):
            await app.models.load(model)
            for writing, texts in ((True, WRITING), (False, READING)):
                took = [await _stop(app, model, texts[model], writing) for _ in range(rounds)]
                row = [f"{statistics.median(t):7.1f} {max(t):7.1f}" for t in zip(*took, strict=True)]
                what = "writing" if writing else "reading"
                print(f"{model:6} {what:8} silence {row[0]}   idle {row[1]}   (median, worst; ms)")
    finally:
        await app.close()


def main() -> None:
    """Measure all four and print them."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "models").mkdir()
        tiny.make_gguf(folder / "models" / "tiny.gguf", LONG)
        asyncio.run(_measure(folder, rounds))


if __name__ == "__main__":
    main()
