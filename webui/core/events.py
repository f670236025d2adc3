"""What happens while a reply is written.

An engine's ``step()`` returns ``Started, Progress, Sampled, Finish, Failed``; the text layer in the worker turns each
``Sampled`` id into ``Token`` text, so that everybody outside the worker sees ``Started, Progress, Token, Attachment,
Finish, Failed`` and nothing else. Events are pure values; they cross processes as ``[class name, {fields}]``.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Started:
    """The prompt is built and the engine has taken the job."""

    job: str
    prompt_tokens: int = 0
    cached_tokens: int = 0  # of them, already in the engine's cache
    seed: int = -1  # the one in use
    dropped: tuple[str, ...] = ()  # ids of the messages that did not fit
    prompt: str = ""  # the exact text the model reads (empty for token prompts)
    context: int = 0  # the model's context in tokens
    warnings: tuple[str, ...] = ()  # settings that this loader could not honour, in words


@dataclass(frozen=True, slots=True)
class Progress:
    """Nothing to read yet: ``stage`` is queued (``done`` = place in the queue), loading or prompt."""

    job: str
    stage: Literal["queued", "loading", "prompt"]
    done: float
    total: float
    text: str = ""


@dataclass(frozen=True, slots=True)
class Sampled:
    """Engine only: one token was drawn."""

    job: str
    id: int
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Token:
    """Text that may be shown: whole characters, stop strings already cut. ``count`` tokens went into it."""

    job: str
    text: str
    channel: Literal["answer", "thought"] = "answer"
    count: int = 1


@dataclass(frozen=True, slots=True)
class Attachment:
    """Something beside the text: a source, an image, a sound."""

    job: str
    kind: str
    title: str = ""
    text: str = ""
    path: str = ""


@dataclass(frozen=True, slots=True)
class Finish:
    """The reply is complete."""

    job: str
    reason: Literal["stop", "length", "cancelled"]
    prompt_tokens: int = 0
    reply_tokens: int = 0
    prompt_seconds: float = 0.0
    reply_seconds: float = 0.0
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Failed:
    """The reply ended in an error; what was said so far stands."""

    job: str
    message: str
    hint: str = ""
    code: str = "GenerationFailed"


Event = Started | Progress | Sampled | Token | Attachment | Finish | Failed
_BY_NAME = {c.__name__: c for c in (Started, Progress, Sampled, Token, Attachment, Finish, Failed)}


def pack(event: Event) -> list[Any]:
    """An event as plain values for the channel."""
    return [type(event).__name__, {f.name: getattr(event, f.name) for f in dataclasses.fields(event)}]


def unpack(data: list[Any]) -> Event:
    """The event that :func:`pack` made these values from."""
    name, fields = data
    cls = _BY_NAME[name]
    for key in ("dropped", "warnings", "top"):
        if key in fields:
            fields[key] = tuple(tuple(v) if isinstance(v, list) else v for v in fields[key])
    return cls(**fields)
