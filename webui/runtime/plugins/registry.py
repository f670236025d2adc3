"""The one place that knows the plugins: finds them, switches them, calls them, and remembers what went wrong.

Implementations of a hook are called one at a time in a fixed order: loaders, bundled extensions, the data folder's,
installed packages; within each by name (``tryfirst`` and ``trylast`` move one to an end). Each gets the arguments it
names, in a thread of its own, for at most the budget; what it raises is caught, told and counted, and the third time
switches it off.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import functools
import inspect
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import pluggy

from webui.core.config import ROOT
from webui.core.errors import ExtensionFailed, NotFound, PatchbayError
from webui.core.events import Event
from webui.core.fields import did_you_mean
from webui.runtime import hooks
from webui.runtime.plugins import discovery
from webui.runtime.plugins.answers import check
from webui.runtime.plugins.calls import Marker, Threads, quieted, settled, trace
from webui.runtime.plugins.discovery import Kind
from webui.runtime.plugins.records import Problem, Record, formatted
from webui.runtime.plugins.streams import Stage, Stream
from webui.runtime.stores import SettingsStore

T = TypeVar("T")
Told = Callable[[ExtensionFailed], None]

STRIKES = 3
BUDGET = 5.0  # seconds for one call of a hook
IMPORTING = 30.0  # seconds for importing a plugin
SECTION = "extensions"  # of settings.yaml: which are on, and why one is off
_REMEMBERED = 200


class Plugins:
    """All plugins. ``records`` are in the order of calls, ``problems`` newest first. Calls may come from any thread."""

    def __init__(self, config: Any, settings: SettingsStore, *, budget: float = BUDGET) -> None:
        self._config, self._settings, self.budget = config, settings, budget
        self._data = Path(config.data)
        self._folders: list[tuple[Path, Kind, bool]] = []
        self.records: list[Record] = []
        self.problems: list[Problem] = []
        self._pluggy = pluggy.PluginManager("patchbay")
        self._pluggy.add_hookspecs(hooks)
        self._specs = [name for name in vars(hooks) if hasattr(getattr(hooks, name), "patchbay_spec")]
        self._threads = Threads()
        self._marker = Marker(self._data)
        self._lock = threading.RLock()
        self._app: Any = None

    # ---- finding and switching

    def load(self, folders: list[tuple[Path, Kind, bool]] | None = None) -> None:
        """Find all plugins and switch on those that a person, or they themselves, want on. Never raises for a plugin.

        ``folders`` are (folder, kind, whether it is bundled); those of the program unless given.
        """
        self._folders = folders or [
            (ROOT / "loaders", "loader", True),
            (ROOT / "extensions", "extension", True),
            (self._data / "extensions", "extension", False),
        ]
        chosen = self._settings.section(SECTION)
        for record in self._found():
            self.records.append(record)
            wish = chosen.get(record.name)
            wish = wish if isinstance(wish, dict) else {}
            if record.status == "broken":
                continue
            if record.kind != "loader" and self._config.no_extensions:
                record.status, record.error = "left out", "started without extensions."
            elif record.name in self._config.without:
                record.status, record.error = (
                    "left out",
                    "Patchbay ended while it was running; it is left out this time.",
                )
            elif not wish.get("enabled", record.found.on):
                record.error = str(wish.get("reason", ""))
            else:
                with contextlib.suppress(ExtensionFailed):
                    self._switch_on(record)

    def refresh(self) -> None:
        """Look again: new plugins are listed, switched off; those that are gone and off are not listed any more."""
        with self._lock:
            known = {(r.name, r.origin): r for r in self.records}
            records = []
            for record in self._found():
                old = known.pop((record.name, record.origin), None)
                if old is not None and record.status != "broken":
                    old.found, record = record.found, old
                records.append(record)
            self.records = records + [r for r in known.values() if r.enabled]

    def _found(self) -> list[Record]:
        """A record for each plugin that is there now; of two with one name the second is broken."""
        found = [f for folder, kind, bundled in self._folders for f in discovery.in_folder(folder, kind, bundled)]
        records, names = [], set()
        for each in [*found, *discovery.installed()]:
            record = Record(each)
            if each.name in names:
                record.status, record.error = "broken", f"another plugin has the name {each.name}; it comes first."
            names.add(each.name)
            records.append(record)
        return records

    def enable(self, name: str) -> None:
        """Switch a plugin on, now and for later starts. Raises ExtensionFailed when it does not import."""
        record = self.record(name)
        with self._lock:
            if record.enabled:
                return
            record.strikes = 0
            self._switch_on(record)
            self._remember(name, on=True)
        if self._app is not None:
            self._enter(record)

    def disable(self, name: str, reason: str = "") -> None:
        """Switch a plugin off, now and for later starts; its hooks are not called any more."""
        record = self.record(name)
        self._leave(record)
        with self._lock:
            self._unregister(record)
            record.enabled, record.status, record.error = False, "off", reason
            self._remember(name, on=False, reason=reason)

    def record(self, name: str) -> Record:
        """The plugin of that name. Raises NotFound."""
        for record in self.records:
            if record.name == name:
                return record
        raise NotFound(f"There is no extension {name!r}.", did_you_mean(name, [r.name for r in self.records]))

    def _switch_on(self, record: Record) -> None:
        try:
            with self._marker.running(record.name):
                future = self._threads.submit(functools.partial(_quietly, discovery.load, record.found))
                try:
                    module: ModuleType = future.result(IMPORTING)
                except TimeoutError:
                    raise ExtensionFailed(record.name, f"importing it took more than {IMPORTING:g} seconds.") from None
            self._register(record, module)
        except ExtensionFailed as error:
            record.enabled, record.status = False, "broken"
            self._tell(record, "import", error)
            raise
        record.module, record.enabled, record.status = module, True, "on"
        record.error = record.hint = record.traceback = ""
        if "register_settings" in self._hooks_of(module):
            self.call(record.name, "register_settings")

    def _register(self, record: Record, module: ModuleType) -> None:
        name = record.name
        marked = {n for n, v in list(vars(module).items()) if getattr(v, "patchbay_impl", None)}
        for unknown in sorted(marked - set(self._specs)):
            raise ExtensionFailed(name, f"there is no hook {unknown}.", did_you_mean(unknown, self._specs))
        if not marked:
            plain = [n for n in self._specs if callable(vars(module).get(n))]
            hint = f"Put @hookimpl above {plain[0]}." if plain else "See extensions/README.md."
            raise ExtensionFailed(name, "it implements no hook.", hint)
        try:
            self._pluggy.register(module, name)
            self._pluggy.check_pending()
        except (pluggy.PluginValidationError, ValueError) as error:
            self._unregister(record)
            said = " ".join(str(error).split("\n"))
            raise ExtensionFailed(
                name, f"a hook is not as it should be: {said}", "See extensions/README.md."
            ) from error

    def _unregister(self, record: Record) -> None:
        if self._pluggy.has_plugin(record.name):
            self._pluggy.unregister(name=record.name)

    def _remember(self, name: str, *, on: bool, reason: str = "") -> None:
        chosen = self._settings.section(SECTION)
        chosen[name] = {"enabled": on, **({"reason": reason} if reason else {})}
        try:
            self._settings.save_section(SECTION, chosen)
        except PatchbayError as error:
            self._problem(name, "switch", f"the choice holds for this run only. {error}")

    # ---- calling

    def names(self, hook: str) -> list[str]:
        """The plugins that implement a hook, in the order of calls."""
        return [record.name for record, _ in self._implementations(hook)]

    def collect(self, hook: str, **arguments: Any) -> list[tuple[str, Any]]:
        """What each plugin returns from the hook, with its name; one that fails is left out, told and counted."""
        return [
            (record.name, result)
            for record, implementation in self._implementations(hook)
            if (result := self._called(record, implementation, hook, arguments)) is not _FAILED
        ]

    def call(self, name: str, hook: str, **arguments: Any) -> Any:
        """What one plugin returns from the hook; None when it fails, which is told and counted."""
        for record, implementation in self._implementations(hook):
            if record.name == name:
                result = self._called(record, implementation, hook, arguments)
                return None if result is _FAILED else result
        return None

    async def fold(self, hook: str, value: T, *, told: Told | None = None, **arguments: Any) -> T:
        """``value`` changed by each plugin in turn; it is passed under the hook's own name for it (``turn``)."""
        subject = _SUBJECTS[hook]
        for record, implementation in self._implementations(hook):
            result = await self._acalled(record, implementation, hook, {**arguments, subject: value}, told)
            if result is not _FAILED and result is not None:
                value = result
        return value

    async def notify(self, hook: str, *, told: Told | None = None, **arguments: Any) -> None:
        """Tell each plugin; what it returns does not matter."""
        for record, implementation in self._implementations(hook):
            await self._acalled(record, implementation, hook, arguments, told)

    def wrap(
        self, hook: str, events: AsyncIterator[Event], *, told: Told | None = None, **arguments: Any
    ) -> AsyncIterator[Event]:
        """The events behind all plugins that wrap them; see ``webui.runtime.plugins.streams``."""
        stages = [
            Stage(record.name, functools.partial(_begin, implementation, arguments))
            for record, implementation in self._implementations(hook)
        ]
        if not stages:
            return events

        def failed(plugin: str, error: BaseException | str, hung: bool) -> None:
            self._failed(self.record(plugin), hook, error, told, hung=hung)

        return Stream(events, stages, self._marker, failed, self._threads, self.budget).run()

    def _implementations(self, hook: str) -> list[tuple[Record, Any]]:
        with self._lock:
            caller = getattr(self._pluggy.hook, hook)
            by_name = {i.plugin_name: i for i in caller.get_hookimpls()}
            found = [(r, by_name[r.name]) for r in self.records if r.enabled and r.name in by_name]
        return sorted(found, key=lambda pair: (not pair[1].tryfirst, pair[1].trylast))

    def _hooks_of(self, module: ModuleType) -> list[str]:
        return [name for name in self._specs if getattr(vars(module).get(name), "patchbay_impl", None)]

    def _called(self, record: Record, implementation: Any, hook: str, arguments: dict[str, Any]) -> Any:
        chosen = [arguments[name] for name in implementation.argnames]
        return self._run(record, hook, functools.partial(implementation.function, *chosen), implementation.argnames)

    async def _acalled(
        self, record: Record, implementation: Any, hook: str, arguments: dict[str, Any], told: Told | None
    ) -> Any:
        chosen = [arguments[name] for name in implementation.argnames]
        began = time.perf_counter()
        future = self._submit(record, functools.partial(implementation.function, *chosen))
        await asyncio.wait({asyncio.wrap_future(future)}, timeout=self.budget)
        return self._result(record, hook, future, began, implementation.argnames, told)

    def _run(self, record: Record, hook: str, function: Callable[[], Any], names: Sequence[str] = ()) -> Any:
        began = time.perf_counter()
        future = self._submit(record, function)
        concurrent.futures.wait([future], self.budget)
        return self._result(record, hook, future, began, names, None)

    def _submit(self, record: Record, function: Callable[[], Any]) -> Future[Any]:
        def run() -> Any:
            with quieted(), self._marker.running(record.name):
                return settled(function())

        return self._threads.submit(run)

    def _result(
        self, record: Record, hook: str, future: Future[Any], began: float, names: Sequence[str], told: Told | None
    ) -> Any:
        """What a call has returned, or _FAILED when that is told and counted."""
        result: Any = _FAILED
        if not future.done():
            self._failed(record, hook, f"it took more than {self.budget:g} seconds.", told, hung=True)
        elif (error := future.exception()) is not None:
            self._failed(record, hook, error, told)
        elif wrong := check(hook, future.result()):
            self._failed(record, hook, wrong, told)
        else:
            result = future.result()
            if hook == "register_settings":
                self._settings.declare(result, record.name)
        trace(record.name, hook, list(names), began, "failed" if result is _FAILED else type(result).__name__)
        return result

    # ---- what goes wrong

    def _failed(
        self, record: Record, hook: str, error: BaseException | str, told: Told | None = None, *, hung: bool = False
    ) -> None:
        """Tell it, count it, and switch the plugin off when it is enough."""
        if isinstance(error, ExtensionFailed):
            failure = error
        elif isinstance(error, BaseException):
            text = str(error) or type(error).__name__
            failure = ExtensionFailed(record.name, text, getattr(error, "hint", ""), formatted(error))
        else:
            failure = ExtensionFailed(record.name, error)
        record.strikes += 1
        self._tell(record, hook, failure)
        if told is not None:
            told(failure)
        if record.enabled and (hung or record.strikes >= STRIKES):
            why = "it hung" if hung else f"it failed {record.strikes} times"
            reason = f"switched off because {why}: {hook}: {record.error}"
            threading.Thread(target=self._switch_off, args=(record, reason), name="extension off", daemon=True).start()
            with self._lock:
                self._unregister(record)
                record.enabled, record.status, record.error = False, "off", reason

    def _switch_off(self, record: Record, reason: str) -> None:
        self._leave(record)
        with self._lock:
            self._remember(record.name, on=False, reason=reason)

    def _tell(self, record: Record, hook: str, failure: ExtensionFailed) -> None:
        text = failure.message.removeprefix(f"The extension {record.name} failed: ")
        cause = failure.__cause__
        record.error, record.hint = text, failure.hint
        record.traceback = failure.traceback or (formatted(cause) if cause is not None else "")
        self._problem(record.name, hook, f"{text} {failure.hint}".strip(), record.traceback)

    def _problem(self, plugin: str, hook: str, message: str, trace: str = "") -> None:
        with self._lock:
            self.problems.insert(0, Problem(time.time(), plugin, hook, message, trace))
            del self.problems[_REMEMBERED:]

    # ---- lifespans

    async def start(self, app: Any) -> None:
        """Enter the lifespans, one at a time."""
        self._app = app
        loop = asyncio.get_running_loop()
        for record in list(self.records):
            if record.enabled:
                await loop.run_in_executor(None, self._enter, record)

    async def close(self) -> None:
        """Leave the lifespans, the last one first."""
        loop = asyncio.get_running_loop()
        for record in reversed(self.records):
            await loop.run_in_executor(None, self._leave, record)
        self._threads.close()
        self._marker.close()

    def _enter(self, record: Record) -> None:
        made = self.call(record.name, "lifespan", app=self._app)
        if made is None:
            return
        context = contextlib.contextmanager(lambda: made)() if inspect.isgenerator(made) else made
        if self._run(record, "entering lifespan", context.__enter__) is not _FAILED:
            record.running = context

    def _leave(self, record: Record) -> None:
        context, record.running = record.running, None
        if context is not None:
            self._run(record, "leaving lifespan", functools.partial(context.__exit__, None, None, None))


_FAILED = object()
_SUBJECTS = {"before_reply": "turn"}


def _begin(implementation: Any, arguments: dict[str, Any], events: Any) -> Any:
    return implementation.function(*({**arguments, "events": events}[name] for name in implementation.argnames))


def _quietly(function: Callable[..., T], *arguments: Any) -> T:
    with quieted():
        return function(*arguments)
