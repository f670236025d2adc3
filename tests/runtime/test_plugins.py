"""Plugins are found, switched and called so that nothing they do stops the program."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import textwrap
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from webui import ExtensionFailed, NotFound, Turn
from webui.core.fields import setting
from webui.runtime.plugins import Plugins
from webui.runtime.plugins.calls import RUNNING
from webui.runtime.stores import SettingsStore

ROOT = Path(__file__).resolve().parents[2]
HEAD = "from dataclasses import dataclass, replace\nimport os, sys, time\nfrom webui import *\n"


@dataclass
class Start:
    """What the plugins read of the program's options."""

    data: Path
    no_extensions: bool = False
    without: tuple[str, ...] = ()


@pytest.fixture
def make(tmp_path):
    """Write extensions, switch them on, and load them."""
    made = []

    def build(on=True, budget=0.5, data=None, again=False, **start):
        def written(**sources):
            folder = tmp_path / "ext"
            folder.mkdir(exist_ok=True)
            for name, source in sources.items():
                text = textwrap.dedent(source).lstrip("\n")
                says, _, rest = text.partition("\n") if text[0] == '"' else ("", "", text)
                (folder / f"{name}.py").write_text(f"{says}\n{HEAD}{rest}")
            settings = SettingsStore(data or tmp_path / "data")
            if on:
                settings.save_section("extensions", {name: {"enabled": True} for name in sources})
            plugins = Plugins(Start(data or tmp_path / "data", **start), settings, budget=budget)
            made.append(plugins)
            plugins.load([(folder, "extension", False)])
            return plugins

        return written

    yield build
    for plugins in made:
        with contextlib.suppress(RuntimeError):
            asyncio.run(plugins.close())


def record(plugins, name):
    return plugins.record(name)


GOOD = """
    "Adds good."
    @hookimpl
    def before_reply(turn):
        return replace(turn, system=turn.system + "good")
"""


def fold(plugins, turn=None, **more):
    return asyncio.run(plugins.fold("before_reply", turn or Turn(()), app=None, **more))


# ---- finding


def test_an_extension_is_off_and_not_even_imported_until_somebody_switches_it_on(make, tmp_path):
    plugins = make(on=False)(quiet='"""Writes a file."""\nopen(r"%s", "w")\n' % (tmp_path / "imported"), good=GOOD)
    assert [(r.name, r.enabled, r.status) for r in plugins.records] == [("good", False, "off"), ("quiet", False, "off")]
    assert record(plugins, "good").description == "Adds good." and not (tmp_path / "imported").exists()
    assert fold(plugins).system == ""


def test_switching_on_and_off_needs_no_restart_and_is_remembered(make, tmp_path):
    plugins = make(on=False)(good=GOOD)
    plugins.enable("good")
    assert fold(plugins).system == "good"
    plugins.disable("good")
    assert fold(plugins).system == ""
    plugins.enable("good")
    later = Plugins(Start(tmp_path / "data"), SettingsStore(tmp_path / "data"))
    later.load([(tmp_path / "ext", "extension", False)])
    assert fold(later).system == "good"
    with pytest.raises(NotFound, match="Did you mean good"):
        plugins.enable("goood")
    asyncio.run(later.close())


def test_a_file_that_is_added_or_taken_away_while_the_program_runs_is_noticed(make, tmp_path):
    plugins = make()(good=GOOD)
    (tmp_path / "ext" / "anew.py").write_text(HEAD + textwrap.dedent(GOOD).replace("good", "new"))
    plugins.refresh()
    assert [(r.name, r.enabled) for r in plugins.records] == [("anew", False), ("good", True)]
    plugins.enable("anew")
    assert fold(plugins).system == "newgood"
    (tmp_path / "ext" / "anew.py").unlink()
    plugins.refresh()
    assert fold(plugins).system == "goodnew"
    plugins.disable("anew")
    plugins.refresh()
    assert [r.name for r in plugins.records] == ["good"] and fold(plugins).system == "good"


def test_an_extension_that_was_edited_is_read_anew_when_it_is_switched_on(make, tmp_path):
    plugins = make()(good=GOOD)
    plugins.disable("good")
    (tmp_path / "ext" / "good.py").write_text(HEAD + textwrap.dedent(GOOD).replace('+ "good"', '+ "better"'))
    plugins.enable("good")
    assert fold(plugins).system == "better"


def test_packages_are_found_and_what_is_no_plugin_is_not(make, tmp_path):
    folder = tmp_path / "ext"
    (folder / "pack").mkdir(parents=True)
    (folder / "pack" / "part.py").write_text("WORD = 'from a part'\n")
    (folder / "pack" / "__init__.py").write_text(
        HEAD + "from .part import WORD\n@hookimpl\ndef before_reply(turn):\n    return replace(turn, system=WORD)\n"
    )
    for name in ("_hidden.py", ".dot.py", "README.md", "notes.txt"):
        (folder / name).write_text("raise SystemExit")
    (folder / "empty").mkdir()
    (folder / "__pycache__").mkdir()
    settings = SettingsStore(tmp_path / "data")
    settings.save_section("extensions", {"pack": {"enabled": True}})
    plugins = Plugins(Start(tmp_path / "data"), settings)
    plugins.load([(folder, "extension", False)])
    assert [r.name for r in plugins.records] == ["pack"] and fold(plugins).system == "from a part"


def test_a_file_whose_name_cannot_be_a_plugins_is_listed_with_the_reason(make, tmp_path):
    plugins = make()(**{"my ext": GOOD})
    assert record(plugins, "my ext").status == "broken" and "letters" in record(plugins, "my ext").error


def test_the_second_of_two_with_one_name_is_left_out_and_says_so(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "twin.py").write_text(HEAD + textwrap.dedent(GOOD).replace('"good"', f'"{folder}"'))
    settings = SettingsStore(tmp_path)
    settings.save_section("extensions", {"twin": {"enabled": True}})
    plugins = Plugins(Start(tmp_path), settings)
    plugins.load([(tmp_path / "a", "extension", False), (tmp_path / "b", "extension", False)])
    assert fold(plugins).system == "a" and "another plugin" in plugins.records[1].error


def test_the_loaders_of_this_program_are_found_and_on(tmp_path):
    plugins = Plugins(Start(tmp_path, no_extensions=True), SettingsStore(tmp_path))
    plugins.load()
    assert all(r.kind == "loader" for r in plugins.records if r.enabled)
    assert "echo" in {loader.name for _, loaders in plugins.collect("register_loaders") for loader in loaders}
    plugins.disable("echo")
    assert "echo" not in plugins.names("register_loaders")
    plugins.enable("echo")
    assert "echo" in plugins.names("register_loaders")


def test_without_extensions_none_is_imported_and_what_was_chosen_is_kept(make, tmp_path):
    plugins = make(no_extensions=True)(good=GOOD)
    assert record(plugins, "good").status == "left out" and fold(plugins).system == ""
    assert SettingsStore(tmp_path / "data").section("extensions") == {"good": {"enabled": True}}


def test_the_one_that_ended_the_last_run_is_left_out_of_this_one(make):
    plugins = make(without=("good",))(good=GOOD, other=GOOD)
    assert record(plugins, "good").status == "left out" and record(plugins, "other").status == "on"


def test_an_installed_package_with_an_entry_point_is_found(make, tmp_path, monkeypatch):
    site = tmp_path / "site"
    facts = site / "patchbay_markov-1.2.dist-info"
    facts.mkdir(parents=True)
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: patchbay-markov\nVersion: 1.2\nSummary: Chains.\n")
    (facts / "entry_points.txt").write_text("[patchbay]\nmarkov = patchbay_markov\nbroken = patchbay_nowhere\n")
    (site / "patchbay_markov.py").write_text(HEAD + textwrap.dedent(GOOD))
    monkeypatch.syspath_prepend(str(site))
    plugins = make()(other=GOOD)
    assert [r.name for r in plugins.records] == ["other", "broken", "markov"]
    markov = record(plugins, "markov")
    assert (markov.version, markov.description, markov.origin) == ("1.2", "Chains.", "package patchbay-markov")
    plugins.enable("markov")
    assert fold(plugins).system == "goodgood"
    with pytest.raises(ExtensionFailed, match="patchbay_nowhere, which is not installed"):
        plugins.enable("broken")


# ---- what cannot be loaded


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import nosuchmodule", "needs the package nosuchmodule, which is not installed"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("raise KeyError('x')", "KeyError: 'x'"),
        ("raise BaseException('deep')", "BaseException: deep"),
        ("def broken(:\n    pass", "invalid syntax in line 5"),
        ("API_VERSION = 99\n@hookimpl\ndef lifespan(app): ...", "made for version 99"),
        ("@hookimpl\ndef before_replay(turn): ...", "there is no hook before_replay"),
        ("@hookimpl\ndef before_reply(turm): ...", "turm"),
        ("def before_reply(turn): ...", "it implements no hook"),
        ("x = 1", "it implements no hook"),
    ],
)
def test_a_plugin_that_cannot_be_loaded_is_named_with_the_reason_and_the_others_work(make, source, said):
    plugins = make()(bad=source, good=GOOD)
    bad = record(plugins, "bad")
    assert bad.status == "broken" and not bad.enabled and said in bad.error
    assert fold(plugins).system == "good"
    assert plugins.problems[0].plugin == "bad" and said in str(plugins.problems[0])
    with pytest.raises(ExtensionFailed, match="bad failed"):
        plugins.enable("bad")


def test_the_cure_is_named_too(make):
    plugins = make()(
        bad="import nosuchmodule", typo="@hookimpl\ndef before_replay(turn): ...", bare="def before_reply(turn): ..."
    )
    assert "-m pip install nosuchmodule" in record(plugins, "bad").hint
    assert "Did you mean before_reply" in record(plugins, "typo").hint
    assert "@hookimpl above before_reply" in record(plugins, "bare").hint


# ---- what goes wrong in a call

HOOKS = {
    "register_loaders": "()",
    "register_settings": "()",
    "register_routes": "(app)",
    "build_panel": "(app)",
    "before_reply": "(app, turn)",
    "after_reply": "(app, turn, message)",
    "lifespan": "(app)",
}
FAULTS = {
    "raises": "raise ValueError('oh no')",
    "exits": "sys.exit(4)",
    "interrupts": "raise KeyboardInterrupt",
    "hangs": "time.sleep(60)",
    "ends the generator": "raise StopIteration",
}


def everything(plugins):
    """Call every hook the way the program does."""

    async def calls():
        await plugins.start(None)
        for hook in ("register_loaders", "register_settings"):
            plugins.collect(hook)
        for hook in ("register_routes", "build_panel"):
            await asyncio.get_running_loop().run_in_executor(None, lambda hook=hook: plugins.collect(hook, app=None))
        turn = await plugins.fold("before_reply", Turn(()), app=None)
        await plugins.notify("after_reply", app=None, turn=turn, message=None)
        return turn

    return asyncio.run(calls())


@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_hook_that_fails_is_skipped_and_named(make, hook, fault):
    plugins = make()(bad=f"@hookimpl\ndef {hook}{HOOKS[hook]}:\n    {FAULTS[fault]}", good=GOOD)
    assert everything(plugins).system == "good"
    assert plugins.problems and all(p.plugin == "bad" for p in plugins.problems)
    if fault == "hangs":
        assert not record(plugins, "bad").enabled and "hung" in record(plugins, "bad").error
    elif fault == "raises":
        assert "oh no" in str(plugins.problems[0]) and "bad.py" in plugins.problems[0].traceback


WRONG = [
    (hook, value)
    for hook in ("register_loaders", "register_settings", "register_routes", "before_reply", "lifespan")
    for value in ("5", "'text'", "object", "[1, 2]", "{}")
    if (hook, value) != ("register_routes", "[1, 2]")  # the server looks at the routes themselves
]


@pytest.mark.parametrize(("hook", "value"), WRONG)
def test_a_wrong_return_type_is_refused(make, hook, value):
    plugins = make()(bad=f"@hookimpl\ndef {hook}{HOOKS[hook]}:\n    return {value}", good=GOOD)
    assert everything(plugins).system == "good" and plugins.problems[0].plugin == "bad"


def test_the_third_failure_switches_off_for_good_and_says_why(make, tmp_path):
    plugins = make()(bad="@hookimpl\ndef before_reply(turn):\n    1 / 0")
    told = []
    for strike in (1, 2, 3):
        fold(plugins, told=told.append)
        assert record(plugins, "bad").strikes == strike
    assert not record(plugins, "bad").enabled and len(told) == 3 and told[0].plugin == "bad"
    fold(plugins)
    assert record(plugins, "bad").strikes == 3
    assert "failed 3 times" in record(plugins, "bad").error and "division by zero" in record(plugins, "bad").error
    wait_until(lambda: SettingsStore(tmp_path / "data").section("extensions")["bad"].get("enabled") is False)
    later = Plugins(Start(tmp_path / "data"), SettingsStore(tmp_path / "data"))
    later.load([(tmp_path / "ext", "extension", False)])
    assert not later.record("bad").enabled and "failed 3 times" in later.record("bad").error
    later.enable("bad")
    assert later.record("bad").enabled and later.record("bad").strikes == 0
    asyncio.run(later.close())


def wait_until(condition, seconds=5.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_hung_hook_holds_up_nothing_but_itself(make):
    plugins = make(budget=0.4)(bad="@hookimpl\ndef before_reply(turn):\n    time.sleep(60)", good=GOOD)

    async def run():
        ticks = 0

        async def tick():
            nonlocal ticks
            while True:
                await asyncio.sleep(0.01)
                ticks += 1

        task = asyncio.create_task(tick())
        started = time.monotonic()
        turn = await plugins.fold("before_reply", Turn(()), app=None)
        task.cancel()
        return turn, time.monotonic() - started, ticks

    turn, took, ticks = asyncio.run(run())
    assert turn.system == "good" and took < 2 and ticks > 15


def test_an_import_that_hangs_does_not_keep_the_program_from_starting(make, monkeypatch):
    monkeypatch.setattr("webui.runtime.plugins.registry.IMPORTING", 0.3)
    plugins = make()(bad="time.sleep(60)", good=GOOD)
    assert "more than 0.3 seconds" in record(plugins, "bad").error and fold(plugins).system == "good"


def test_what_a_hook_prints_is_cut_and_what_others_print_is_not(make, capsys):
    plugins = make(budget=30)(
        loud="""
            @hookimpl
            def before_reply(turn):
                for _ in range(1000):
                    print("x" * 100_000)
        """
    )
    fold(plugins)
    print("others")
    out = capsys.readouterr().out
    assert len(out) < 70_000 and "left out" in out and out.endswith("others\n")
    assert not plugins.problems


def test_a_hook_may_name_fewer_arguments_and_be_a_coroutine(make):
    plugins = make()(
        none="@hookimpl\ndef before_reply():\n    return None",
        some="""
            import asyncio
            @hookimpl
            async def before_reply(turn):
                await asyncio.sleep(0)
                return replace(turn, system="async")
        """,
    )
    assert fold(plugins).system == "async" and not plugins.problems


def test_calls_go_by_name_and_first_and_last_may_be_asked_for(make):
    add = "@hookimpl({})\ndef before_reply(turn):\n    return replace(turn, system=turn.system + '{}')"
    plugins = make()(
        a=add.format("trylast=True", "a"),
        b=add.format("", "b"),
        c=add.format("", "c"),
        d=add.format("tryfirst=True", "d"),
    )
    assert fold(plugins).system == "dbca"
    assert plugins.names("before_reply") == ["d", "b", "c", "a"]


def test_a_lifespan_is_entered_and_left_also_when_switched_on_later(make, tmp_path):
    log = tmp_path / "log"
    source = f"""
        import contextlib
        def say(word):
            with open({str(log)!r}, "a") as file:
                file.write(word)
        @hookimpl
        @contextlib.contextmanager
        def lifespan(app):
            say("in ")
            yield
            say("out ")
    """
    bare = source.replace("        @contextlib.contextmanager\n", "").replace("in ", "IN ").replace("out ", "OUT ")
    plugins = make()(one=source, two=bare)

    async def run():
        await plugins.start("app")
        plugins.disable("one")
        plugins.enable("one")
        await plugins.close()

    asyncio.run(run())
    assert log.read_text() == "in IN out in OUT out "


def test_settings_of_an_extension_live_in_a_file_of_its_name(make, tmp_path):
    source = """
        @dataclass(frozen=True)
        class Mood:
            warmth: float = setting(0.5, "How warm.", valid=(0, 1))
        @hookimpl
        def register_settings():
            return Mood
    """
    plugins = make()(mood=source)
    ((name, cls),) = plugins.collect("register_settings")
    settings = plugins._settings
    settings.set(cls(warmth=0.9))
    settings.set(cls(warmth=0.1), scope="chat:abc")
    assert name == "mood" and "warmth: 0.9" in (tmp_path / "data" / "extensions" / "mood.yaml").read_text()
    assert settings.get(cls).warmth == 0.9 and settings.get(cls, "chat:abc").warmth == 0.1
    assert settings.get(cls, "chat:other").warmth == 0.9


def test_the_running_hook_is_on_record_when_it_ends_the_program(tmp_path):
    folder = tmp_path / "ext"
    folder.mkdir()
    (folder / "killer.py").write_text(HEAD + "@hookimpl\ndef before_reply(turn):\n    os._exit(3)\n")
    script = f"""
import asyncio, sys
sys.path.insert(0, {str(ROOT)!r})
from types import SimpleNamespace
from pathlib import Path
from webui import Turn
from webui.runtime.plugins import Plugins
from webui.runtime.stores import SettingsStore
data = Path({str(tmp_path)!r})
settings = SettingsStore(data)
settings.save_section("extensions", {{"killer": {{"enabled": True}}}})
plugins = Plugins(SimpleNamespace(data=data, no_extensions=False, without=()), settings)
plugins.load([(data / "ext", "extension", False)])
asyncio.run(plugins.fold("before_reply", Turn(()), app=None))
"""
    done = subprocess.run([sys.executable, "-c", script], timeout=60)
    assert done.returncode == 3 and (tmp_path / RUNNING).read_text().strip() == "killer"


def test_nothing_is_on_record_between_calls_and_the_file_goes_at_the_end(make, tmp_path):
    plugins = make()(good=GOOD)
    fold(plugins)
    assert (tmp_path / "data" / RUNNING).read_text().strip() == ""
    asyncio.run(plugins.close())
    assert not (tmp_path / "data" / RUNNING).exists()


def test_each_call_is_printed_when_asked_for(make, monkeypatch, capsys):
    monkeypatch.setenv("PATCHBAY_TRACE", "1")
    fold(make()(good=GOOD))
    assert "good.before_reply(turn) -> Turn" in capsys.readouterr().err


def test_calls_from_many_threads_do_not_mix(make):
    plugins = make(budget=10)(
        echo="@hookimpl\ndef before_reply(turn):\n    time.sleep(0.01)\n    return replace(turn, prefix=turn.system)"
    )
    wrong = []

    def work(n):
        for _ in range(5):
            if fold(plugins, Turn((), system=str(n))).prefix != str(n):
                wrong.append(n)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert not wrong and not plugins.problems


def test_a_setting_without_declaration_is_refused(make):
    source = """
        @dataclass
        class Bare:
            x: int = 1
        @hookimpl
        def register_settings():
            return Bare
    """
    plugins = make()(bare=source)
    assert "x is not declared with setting()" in plugins.problems[0].message and setting
