"""Tells the model what day it is, and the time if you like; models do not know it by themselves."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any

from webui import Turn, hookimpl, setting

__version__ = "1.0"
__author__ = "Patchbay"

DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip


@dataclass(frozen=True)
class Today:
    """What the model is told."""

    clock: bool = setting(False, "Tell the time too. The model then reads the whole prompt anew with each message.")
    place: str = setting("", "Where you are, such as Lisbon; told along with the day. Empty tells nothing.")


@hookimpl
def register_settings() -> type:
    """The form in the Extensions tab."""
    return Today


@hookimpl
def before_reply(app: Any, turn: Turn) -> Turn:
    """Put the day behind the system prompt."""
    told = sentence(app.settings.get(Today, f"chat:{turn.chat}"), time.localtime())
    return replace(turn, system=f"{turn.system}\n\n{told}".strip())


def sentence(settings: Today, now: time.struct_time) -> str:
    """What the model is told: Today is Monday, 23 November 2026, 15:04. The person is in Lisbon."""
    told = f"Today is {DAYS[now.tm_wday]}, {now.tm_mday} {MONTHS[now.tm_mon - 1]} {now.tm_year}"
    if settings.clock:
        told += f", {now.tm_hour:02}:{now.tm_min:02}"
    return told + "." + (f" The person is in {settings.place}." if settings.place else "")
