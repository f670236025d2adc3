"""The model is told what day it is, when the extension is on."""

from __future__ import annotations

import time

from extensions.today import Today, sentence
from tests.runtime.driving import drive
from webui import Turn
from webui.core.chat import Message

NOW = time.strptime("2026-11-23 15:04", "%Y-%m-%d %H:%M")


def test_the_day_is_written_out_in_english_whatever_the_machine_speaks():
    assert sentence(Today(), NOW) == "Today is Monday, 23 November 2026."
    assert sentence(Today(clock=True), NOW) == "Today is Monday, 23 November 2026, 15:04."
    assert sentence(Today(place="Lisbon"), NOW) == "Today is Monday, 23 November 2026. The person is in Lisbon."


def test_it_is_off_until_it_is_switched_on_and_then_ends_the_system_prompt(tmp_path):
    async def test(app):
        turn = Turn((Message("m", "", "user", "hi"),), system="Be kind.", chat="c")
        assert (await app.plugins.fold("before_reply", turn, app=app)).system == "Be kind."
        await app.call(app.plugins.enable, "today")
        ((_, cls),) = [pair for pair in app.plugins.collect("register_settings") if pair[0] == "today"]
        app.settings.set(cls(place="Lisbon"), "chat:c")
        told = await app.plugins.fold("before_reply", turn, app=app)
        assert told.system.startswith("Be kind.\n\nToday is ") and told.system.endswith("The person is in Lisbon.")
        assert not app.plugins.problems
        await app.call(app.plugins.disable, "today")
        assert (await app.plugins.fold("before_reply", turn, app=app)).system == "Be kind."

    drive(tmp_path, test)
