"""What drawing a live reply costs: processor time and bytes for each token, and the way of the last token to the wire.

    python -m tests.bench.render            # 2,000 tokens at 200 tokens/s, each kind of text
    python -m tests.bench.render --viewers 3 --kinds code table

One line a kind: tokens/s on the wire, events/s, ms of processor a token (drawing and sending, this process), bytes a
token, ms from the last token to its text and to the last colour on the wire, ms of the longest drawing.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import re
import time

from webui.core.events import Progress
from webui.ui.page.live import Live

WORDS = "the quick brown fox jumps over a lazy dog and then writes some more text about models and weights".split()


def prose(count: int, seed: int = 1) -> str:
    r = random.Random(seed)
    return " ".join(r.choice(WORDS) + ("." if r.random() < 0.1 else "") for _ in range(count))


def texts() -> dict[str, str]:
    """Texts of about 2,000 tokens each."""
    mixed = [
        "## Part {i}\n\n" + prose(60) + "\n\n",
        "- " + prose(8) + "\n- **" + prose(3) + "** and `code`\n  1. nested " + prose(4) + "\n\n",
        "```python\n" + "".join(f"def f{i}(x):\n    return x * {i}  # note\n" for i in range(12)) + "```\n\n",
        "| name | value |\n|---|--:|\n" + "".join(f"| {prose(2, i)} | {i}.5 |\n" for i in range(8)) + "\n",
        "We have $x_i^2 + y$ and\n\n$$\n\\sum_{{i=0}}^n x_i = \\frac{{1}}{{2}}\n$$\n\n",
        "你好，世界。这是一个测试句子，**重要**的事情。😀 " * 4 + "\n\n",
    ]
    return {
        "paragraphs": "\n\n".join(prose(70, i) for i in range(25)),
        "one paragraph": prose(1800),
        "list": "".join(f"- {prose(9, i)} **b** `c`\n" for i in range(130)),
        "nested list": "".join(f"{'  ' * (i % 4)}- {prose(10, i)}\n" for i in range(140)),
        "table": "| a | b |\n|---|---|\n" + "".join(f"| {prose(4, i)} | `x{i}` {i}.5 |\n" for i in range(170)),
        "code": "```python\n" + "".join(f"def f{i}(x):\n    return x * {i}  # {prose(3, i)}\n" for i in range(110)),
        "quote": "".join(f"> {prose(9, i)}\n" for i in range(150)),
        "mixed": "".join(mixed * 5),
    }


class Paced:
    """A reply that comes at a given pace, as a worker sends it: in small batches."""

    def __init__(self, text: str, tokens: int, rate: float) -> None:
        pieces = re.findall(r"\s*\S{1,6}", text)
        while len(pieces) < tokens:
            pieces += pieces
        self.pieces = pieces[:tokens]
        self.rate = rate
        self.text = ""
        self.thought = ""
        self.tokens = 0
        self.number = 0
        self.done = False
        self.ended = 0.0
        self.progress: Progress | None = None
        self._changed = asyncio.Condition()

    async def changed(self, number: int, timeout: float) -> int:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout), self._changed:
                await self._changed.wait_for(lambda: self.number > number or self.done)
        return self.number

    async def run(self) -> None:
        begun = time.monotonic()
        while not self.done:
            due = min(len(self.pieces), int((time.monotonic() - begun) * self.rate) + 1)
            if due > self.tokens:
                self.text += "".join(self.pieces[self.tokens : due])
                self.tokens = due
                self.number += 1
                self.done = due == len(self.pieces)
                self.ended = time.monotonic()
                async with self._changed:
                    self._changed.notify_all()
            await asyncio.sleep(1 / self.rate)


async def measure(text: str, tokens: int, rate: float, viewers: int) -> str:
    alone = Paced(text, tokens // 4, rate)
    cpu = time.process_time()
    await alone.run()
    base = (time.process_time() - cpu) * 4  # the source itself

    source = Paced(text, tokens, rate)

    async def nothing() -> dict[str, str]:
        return {}

    live = Live(source, nothing)
    events = size = 0
    last = longest = text_there = 0.0

    async def view() -> None:
        nonlocal events, size, last, longest, text_there
        async for message in live.follow():
            events += 1
            size += len(message)
            longest = max(longest, live.cost)
            if b'{"e"' not in message:
                last = time.monotonic()
                if f'"t":{tokens}'.encode() in message:
                    text_there = text_there or last

    cpu, begun = time.process_time(), time.monotonic()
    await asyncio.gather(source.run(), *(view() for _ in range(viewers)))
    spent, took = time.process_time() - cpu - base, time.monotonic() - begun
    return (
        f"{tokens / took:8.1f} {events / viewers / took:8.1f} {spent * 1000 / tokens:9.3f}"
        f" {size / viewers / tokens:9.1f} {(text_there - source.ended) * 1000:9.1f}"
        f" {(last - source.ended) * 1000:9.1f} {longest * 1000:9.1f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=2000)
    parser.add_argument("--rate", type=float, default=200)
    parser.add_argument("--viewers", type=int, default=1)
    parser.add_argument("--kinds", nargs="*", choices=list(texts()), default=list(texts()))
    chosen = parser.parse_args()
    print(f"{'':15} tokens/s events/s  ms/token   B/token   to text to colour   longest")
    for kind in chosen.kinds:
        line = asyncio.run(measure(texts()[kind], chosen.tokens, chosen.rate, chosen.viewers))
        print(f"{kind:15} {line}", flush=True)


if __name__ == "__main__":
    main()
