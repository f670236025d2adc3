"""Extensions around a stream of events: whatever they do, the reply goes on and no event is lost."""

from __future__ import annotations

import asyncio
import contextlib
import textwrap
import threading
import time
from pathlib import Path

import pytest

from tests.runtime.test_plugins import HEAD, Start
from webui import Finish, GenerationFailed, Started, Token, Turn
from webui.runtime.plugins import Plugins
from webui.runtime.plugins.calls import RUNNING
from webui.runtime.stores import SettingsStore

HEAD += "import asyncio\n"


@pytest.fixture
def make(tmp_path):
    made = []

    def written(budget=0.5, **sources):
        folder = tmp_path / "ext"
        folder.mkdir(exist_ok=True)
        for name, source in sources.items():
            (folder / f"{name}.py").write_text(HEAD + textwrap.dedent(source))
        settings = SettingsStore(tmp_path / "data")
        settings.save_section("extensions", {name: {"enabled": True} for name in sources})
        plugins = Plugins(Start(tmp_path / "data"), settings, budget=budget)
        made.append(plugins)
        plugins.load([(folder, "extension", False)])
        assert not plugins.problems
        return plugins

    yield written
    for plugins in made:
        with contextlib.suppress(RuntimeError):
            asyncio.run(plugins.close())


class Source:
    """Events of a reply, and whether they were closed."""

    def __init__(self, count=5, pause=0.0, error=None):
        self.count, self.pause, self.error, self.closed = count, pause, error, False

    async def events(self):
        try:
            yield Started("j")
            for n in range(self.count):
                await asyncio.sleep(self.pause)
                yield Token("j", f"{n} ")
            if self.error:
                raise self.error
            yield Finish("j", "stop")
        finally:
            self.closed = True


def read(plugins, source=None, stop=None, **more):
    async def run():
        found = []
        events = plugins.wrap("wrap_stream", (source or Source()).events(), app=None, turn=Turn(()), **more)
        async for event in events:
            found.append(event)
            if stop is not None and len(found) >= stop:
                await events.aclose()
                break
        return found

    return asyncio.run(run())


def text(events):
    return "".join(e.text for e in events if isinstance(e, Token))


ALL = "0 1 2 3 4 "
UPPER_ASYNC = """
    @hookimpl
    async def wrap_stream(events):
        async for event in events:
            yield replace(event, text=f"<{event.text.strip()}>") if isinstance(event, Token) else event
"""
UPPER_PLAIN = UPPER_ASYNC.replace("async ", "")


def test_without_wrappers_the_events_are_the_same_object(make):
    plugins = make(other="@hookimpl\ndef before_reply(turn): ...")
    events = Source().events()
    assert plugins.wrap("wrap_stream", events, app=None, turn=None) is events


@pytest.mark.parametrize("source", [UPPER_ASYNC, UPPER_PLAIN], ids=["async", "plain"])
def test_async_and_plain_generators_change_events(make, source):
    found = read(make(upper=source))
    assert text(found) == "<0><1><2><3><4>" and isinstance(found[0], Started) and isinstance(found[-1], Finish)


def test_a_wrapper_may_drop_add_hold_back_and_decline(make):
    plugins = make(
        a="@hookimpl\ndef wrap_stream(events):\n    return None",
        b="""
            @hookimpl
            async def wrap_stream(events):
                async for event in events:
                    if isinstance(event, Token) and event.text == "1 ":
                        continue
                    yield event
                    if isinstance(event, Token) and event.text == "2 ":
                        yield Token("j", "two ")
        """,
        c="""
            @hookimpl
            def wrap_stream(events):
                held = []
                for event in events:
                    if isinstance(event, Token):
                        held.append(event.text)
                    else:
                        if held:
                            yield Token("j", "".join(held))
                        yield event
        """,
    )
    found = read(plugins)
    assert [type(e).__name__ for e in found] == ["Started", "Token", "Finish"] and text(found) == "0 2 two 3 4 "
    assert not plugins.problems


def test_wrappers_nest_in_the_order_of_calls(make):
    mark = UPPER_ASYNC.replace("<{event.text.strip()}>", "{event.text}MARK")
    assert text(read(make(a=mark.replace("MARK", "a"), b=mark.replace("MARK", "b")), Source(1))) == "0 ab"


MIDDLE = """
n = 0
async for e in events:
    n += 1
    if n == 3:
        {}
    yield e
"""
HELD = """
held = []
async for e in events:
    held.append(e)
    if len(held) == 4:
        raise KeyError('x')
yield
"""
CLOSING = """
try:
    async for e in events:
        yield e
finally:
    time.sleep(60)
"""
RAISES = "raise ValueError('oh no')"
FAULTS = {
    "raises at once": RAISES,
    "returns the wrong thing": "return 5",
    "returns a list": "return [1, 2]",
    "exits": "sys.exit(3)",
    "raises at the first event": f"async for e in events:\n    {RAISES}\nyield",
    "raises in the middle": MIDDLE.format(RAISES),
    "exits in the middle": MIDDLE.format("sys.exit(3)"),
    "raises after holding back": HELD,
    "yields no event": "async for e in events:\n    yield 'text'",
    "raises at the end": f"async for e in events:\n    yield e\n{RAISES}",
    "plain, raises in the middle": MIDDLE.format(RAISES).replace("async ", ""),
    "plain, exits in the middle": MIDDLE.format("sys.exit(3)").replace("async ", ""),
    "blocks in the middle": MIDDLE.format("time.sleep(60)"),
    "waits in the middle": MIDDLE.format("await asyncio.sleep(60)"),
    "plain, blocks in the middle": MIDDLE.format("time.sleep(60)").replace("async ", ""),
    "blocks at once": "time.sleep(60)",
    "blocks while closing": CLOSING,
}


@pytest.mark.parametrize("neighbour", ["none", "before", "after"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrapper_that_fails_passes_everything_else_untouched(make, fault, neighbour):
    body = textwrap.indent(FAULTS[fault], "    ")
    prefix = "async " if "async for" in body else ""
    bad = f"@hookimpl\n{prefix}def wrap_stream(events):\n{body}\n"
    others = {"before": {"a": UPPER_ASYNC}, "after": {"z": UPPER_PLAIN}, "none": {}}[neighbour]
    plugins = make(m=bad, **others)
    told = []
    started = time.monotonic()
    found = read(plugins, told=told.append)
    took = time.monotonic() - started
    plain = text(found).replace("<", "").replace(">", " ")
    assert plain == ALL and isinstance(found[0], Started) and isinstance(found[-1], Finish), found
    assert took < 4
    assert {f.plugin for f in told} == {"m"} == {p.plugin for p in plugins.problems}
    if "blocks" in fault or "waits" in fault:
        assert not plugins.record("m").enabled and "hung" in plugins.record("m").error


def test_a_blocking_wrapper_does_not_hold_up_the_program(make):
    plugins = make(bad="@hookimpl\nasync def wrap_stream(events):\n    time.sleep(60)\n    yield")

    async def run():
        worst, last = 0.0, time.monotonic()

        async def tick():
            nonlocal worst, last
            while True:
                await asyncio.sleep(0.01)
                worst, last = max(worst, time.monotonic() - last), time.monotonic()

        task = asyncio.create_task(tick())
        found = [e async for e in plugins.wrap("wrap_stream", Source().events(), app=None, turn=None)]
        task.cancel()
        return found, worst

    found, worst = asyncio.run(run())
    assert text(found) == ALL and worst < 0.4


def test_a_slow_engine_is_not_held_against_the_wrapper(make):
    plugins = make(budget=0.2, upper=UPPER_ASYNC)
    assert text(read(plugins, Source(2, pause=0.4))) == "<0><1>" and not plugins.problems


def test_an_error_of_the_engine_passes_through_and_is_not_the_wrappers(make):
    plugins = make(a=UPPER_ASYNC, b=UPPER_PLAIN)
    with pytest.raises(GenerationFailed, match="engine"):
        read(plugins, Source(error=GenerationFailed("The engine died.")))
    assert not plugins.problems


def test_closing_early_closes_the_wrapper_and_the_source(make, tmp_path):
    log = tmp_path / "closed"
    plugins = make(
        a=f"""
            @hookimpl
            async def wrap_stream(events):
                try:
                    async for e in events:
                        yield e
                finally:
                    os.mkdir({str(log)!r})
        """
    )
    source = Source(1000)
    assert len(read(plugins, source, stop=3)) == 3
    assert source.closed and log.exists() and not plugins.problems


def test_a_wrapper_that_hangs_while_it_is_closed_does_not_hold_up_the_end_of_the_reply(make):
    plugins = make(a=f"@hookimpl\nasync def wrap_stream(events):\n{textwrap.indent(CLOSING, '    ')}")
    started = time.monotonic()
    assert len(read(plugins, Source(1000), stop=3)) == 3
    assert time.monotonic() - started < 2.0
    end = time.monotonic() + 5
    while plugins.record("a").enabled and time.monotonic() < end:
        time.sleep(0.05)
    assert "hung" in plugins.record("a").error


def test_cancelling_the_reader_ends_everything_soon(make):
    plugins = make(a=UPPER_ASYNC, b=UPPER_PLAIN)
    source = Source(5, pause=30)

    async def run():
        events = plugins.wrap("wrap_stream", source.events(), app=None, turn=None)
        await anext(events)
        task = asyncio.ensure_future(anext(events))
        await asyncio.sleep(0.1)
        started = time.monotonic()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        return time.monotonic() - started

    assert asyncio.run(run()) < 1.5 and source.closed and not plugins.problems


def test_streams_leave_no_threads_behind(make):
    plugins = make(a=UPPER_ASYNC, b=UPPER_PLAIN)
    read(plugins)
    before = threading.active_count()
    for n in range(20):
        read(plugins, stop=3 if n % 2 else None)
    time.sleep(0.2)
    assert threading.active_count() <= before + 1


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts handles the way Linux shows them")
def test_aborted_replies_leave_no_handles_threads_or_complaints(make, caplog):
    plugins = make(a=UPPER_ASYNC, b=UPPER_PLAIN)

    async def abort(count):
        for n in range(count):
            events = plugins.wrap("wrap_stream", Source(50, pause=0.001).events(), app=None, turn=None)
            for _ in range(n % 5):
                await anext(events)
            waiting = asyncio.ensure_future(anext(events))
            await asyncio.sleep(0.002)
            waiting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await waiting
            await events.aclose()
        await asyncio.sleep(0.7)
        return len(list(Path("/proc/self/fd").iterdir())), threading.active_count()

    async def run():
        first = await abort(10)
        await abort(60)
        return first, await abort(60)

    (handles, threads), (later_handles, later_threads) = asyncio.run(run())
    assert later_handles <= handles + 2 and later_threads <= max(threads + 1, 8)
    assert not caplog.records and not plugins.problems


def test_many_replies_at_once_do_not_mix(make):
    plugins = make(budget=20, a=UPPER_ASYNC, b=UPPER_PLAIN)

    async def one(n):
        async def events():
            for k in range(20):
                await asyncio.sleep(0)
                yield Token(str(n), f"{n}.{k}")

        return [e.job async for e in plugins.wrap("wrap_stream", events(), app=None, turn=None)]

    async def run():
        return await asyncio.gather(*(one(n) for n in range(8)))

    for n, jobs in enumerate(asyncio.run(run())):
        assert jobs == [str(n)] * 20


def test_the_wrapper_is_on_record_only_while_it_runs(make, tmp_path):
    plugins = make(
        a=f"""
            @hookimpl
            async def wrap_stream(events):
                async for e in events:
                    with open({str(tmp_path / "data" / RUNNING)!r}) as file:
                        seen = file.read().strip()
                    yield replace(e, text=seen) if isinstance(e, Token) else e
        """
    )

    async def run():
        names = []
        async for event in plugins.wrap("wrap_stream", Source().events(), app=None, turn=None):
            names.append((getattr(event, "text", "a"), (Path(tmp_path) / "data" / RUNNING).read_text().strip()))
        return names

    assert set(asyncio.run(run())) == {("a", "")}


def test_two_hundred_tokens_a_second_pass_with_room_to_spare(make):
    plugins = make(a=UPPER_ASYNC)
    started = time.monotonic()
    assert len(read(plugins, Source(1000))) == 1002
    assert time.monotonic() - started < 4.0
