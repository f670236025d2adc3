"""What an echo says: the text it heard, its script, or what the commands in front of a message ask for."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from webui import Job, SettingError, build, setting

from .numbered import WORDS, numbered

PACE, FAULTS = "Pace", "Faults"
#: Commands in a message, and the option that each one changes for this reply.
COMMANDS = {
    "say": "",
    "tokens": "",
    "random": "",
    "speed": "tokens_per_second",
    "prefill": "prefill_seconds",
    "pieces": "pieces",
    "fail": "fail_after",
    "die": "die_after",
    "signal": "die_signal",
    "hang": "hang_after",
    "memory": "memory_mb",
}
PIECES = {"words": re.compile(r"\s?\w+|\s+|[^\w\s]"), "characters": re.compile(r"(?s).")}


@dataclass(frozen=True)
class EchoOptions:
    """The habits of an echo."""

    script: str = setting("", "Says this text, whatever it is told.", lines=4)
    tokens_per_second: float = setting(
        50.0, "How fast it speaks. 0 is as fast as it can.", group=PACE, form=(0, 500, 1), valid=(0, 1_000_000)
    )
    prefill_seconds: float = setting(
        0.0, "How long it reads the prompt.", group=PACE, form=(0, 60, 0.5), valid=(0, 3600)
    )
    load_seconds: float = setting(0.0, "How long it loads.", group=PACE, form=(0, 60, 0.5), valid=(0, 3600))
    pieces: str = setting(
        "words", "What one token is. bytes takes characters apart.", choices=("words", "characters", "bytes")
    )
    context: int = setting(131_072, "Tokens that fit.", form=(256, 131_072, 256), valid=(16, 100_000_000))
    parallel: int = setting(8, "Replies that it writes at the same time.", form=(1, 64, 1), valid=(1, 1000))
    load_error: str = setting("", "Fails to load with this message.", group=FAULTS)
    fail_after: int = setting(
        -1, "Fails after this many tokens. -1 is never.", group=FAULTS, form=(-1, 1000, 1), valid=(-1, None)
    )
    die_after: int = setting(
        -1,
        "Kills its own process after this many tokens. -1 is never.",
        group=FAULTS,
        form=(-1, 1000, 1),
        valid=(-1, None),
    )
    die_signal: str = setting(
        "KILL", "The signal that it dies of.", group=FAULTS, choices=("KILL", "SEGV", "ABRT", "TERM")
    )
    hang_after: int = setting(
        -1,
        "Stops answering at all after this many tokens. -1 is never.",
        group=FAULTS,
        form=(-1, 1000, 1),
        valid=(-1, None),
    )
    hang_seconds: float = setting(3600.0, "How long it hangs.", group=FAULTS, form=(0, 3600, 1), valid=(0, 1e6))
    memory_mb: int = setting(0, "Keeps this much memory.", group=FAULTS, form=(0, 4096, 64), valid=(0, 1_000_000))


def split(text: str, pieces: str) -> list[bytes]:
    """The text as tokens: words, characters or bytes."""
    if pieces == "bytes":
        return [bytes([b]) for b in text.encode()]
    return [m.group().encode() for m in PIECES[pieces].finditer(text)]


def heard(job: Job, token_bytes: Callable[[int], bytes]) -> tuple[str, str]:
    """The last message of the person, and what the reply already begins with."""
    if not job.messages:
        return job.text or b"".join(map(token_bytes, job.prompt)).decode(errors="replace"), ""
    last = job.messages[-1]
    prefix = str(last["content"]) if last["role"] == "assistant" else ""
    return next((str(m["content"]) for m in reversed(job.messages) if m["role"] == "user"), ""), prefix


def plan(said: str, options: EchoOptions, seed: int) -> tuple[EchoOptions, list[bytes]]:
    """The options for one reply, changed by the commands in front of a message, and the tokens of the reply.

    SettingError names a command with a value that it cannot take.
    """
    changed: dict[str, Any] = {}
    text, count, made = said, 0, ""
    while match := re.match(rf"\s*/({'|'.join(COMMANDS)})[ \t]+(\S+)[ \t]*\n?", text):
        name, value = match.groups()
        if name == "say":
            return build(EchoOptions, changed, base=options), split(text[match.start(2) :], options.pieces)
        text = text[match.end() :]
        if name in ("tokens", "random"):
            made, count = name, int(_number(name, value))
        else:
            option = COMMANDS[name]
            changed[option] = value if option in ("pieces", "die_signal") else _number(name, value)
    options = build(EchoOptions, changed, base=options)
    if made == "tokens":
        return options, [piece.encode() for piece in numbered(count)]
    if made == "random":
        chance = random.Random(seed)
        text = " ".join(chance.choice(WORDS) for _ in range(count))
    return options, split(options.script or text or said, options.pieces)


def _number(name: str, value: str) -> int | float:
    try:
        number = float(value)
        return int(number) if number.is_integer() else number
    except (ValueError, OverflowError):
        raise SettingError(name, f"/{name} is {value!r}.", "It takes a number.") from None


def after(pieces: list[bytes], prefix: str) -> Iterator[bytes]:
    """The tokens that are left when the reply already begins with ``prefix``; all of them when it begins otherwise."""
    skip = len(prefix.encode()) if b"".join(pieces).startswith(prefix.encode()) else 0
    for piece in pieces:
        if skip < len(piece):
            yield piece[skip:]
        skip = max(0, skip - len(piece))
