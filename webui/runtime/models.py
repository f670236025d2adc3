"""The models: what lies in the folder, what is loaded, and loading on demand.

A model is a file or a folder; each loader says how well it fits, and a person may choose another one. A loaded model
is a worker process. Models are loaded when a reply needs them; the one unused for longest is unloaded to make room.
"""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from webui.core.errors import LoaderUnavailable, LoadFailed, NoModelLoaded, NotFound, PatchbayError
from webui.core.events import Progress
from webui.core.fields import build, did_you_mean
from webui.core.loader import Loader, MemoryReport, ModelSpec
from webui.runtime.catalogue import Model as Model
from webui.runtime.catalogue import candidates, card, scan, size
from webui.runtime.process import EngineProcess, tail

if TYPE_CHECKING:
    from webui.runtime.stores import SettingsStore

#: How many models stay loaded at once; the one unused for longest goes first.
KEEP_LOADED = 2
_CRASHES, _CRASH_SECONDS = 3, 600.0
_LOOK_SECONDS = 0.1
_END_SECONDS = 1.0  # for loads to notice that the program ends
GUIDE = "guide"


class Models:
    """The catalogue and the worker processes."""

    def __init__(self, folders: list[Path], loaders: Mapping[str, Loader], settings: SettingsStore, logs: Path) -> None:
        self._folders = folders
        self._loaders = loaders
        self._settings = settings
        self._logs = logs
        self._models: dict[str, Model] = {}
        self._processes: dict[str, EngineProcess] = {}
        self._starting: dict[str, EngineProcess] = {}
        self._starters: set[asyncio.Task[Any] | None] = set()  # the tasks that start a worker now
        self._locks: dict[str, asyncio.Lock] = {}
        self._crashes: dict[str, list[float]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closing = ""
        self._catalogue = threading.RLock()  # held while the catalogue or what is kept of models changes
        self.default_name = ""
        self.refresh()

    def refresh(self) -> None:
        """Look at the folders again; what is loaded stays."""
        with self._catalogue:
            self._models = self._found()

    def _found(self) -> dict[str, Model]:
        own = self._settings.section("models")
        found: dict[str, Model] = {}
        for folder in self._folders:
            for name, path, files in scan(folder):
                fitting = candidates(self._loaders, [path, *files])
                if name in found or not fitting:
                    continue
                model = self._models.get(name) or Model(name, path)
                model.path, model.candidates = path, fitting
                model.size = sum(size(p) for p in ([path] if path.is_file() else files))
                model.settings = {**card(folder, name), **dict(own.get(name, {}))}
                if model.state in ("unloaded", "failed"):
                    wanted = model.settings.get("loader", "")
                    model.loader = wanted if wanted in fitting else self._best(model)
                found[name] = model
        for name, loader in self._loaders.items():  # a loader that opens nothing is a model by itself
            if getattr(loader, "opens_nothing", False) and name not in found:
                model = self._models.get(name) or Model(name, Path())
                model.candidates, model.loader = {name: (1.0, Path())}, name
                model.settings = dict(own.get(name, {}))
                found[name] = model
        for name, model in self._models.items():
            if name not in found and (model.state in ("loading", "loaded") or model.outside):
                found[name] = model
        return found

    def _best(self, model: Model) -> str:
        names = [n for n, _ in model.loaders]
        return next((n for n in names if not self._loaders[n].available()), names[0])

    def list(self) -> list[Model]:
        """All models by name; the guide and loaders that need no model last."""
        return sorted(self._models.values(), key=lambda m: (m.path == Path(), m.name == GUIDE, m.name.lower()))

    def get(self, name: str) -> Model:
        """One model; raises NotFound with what there is."""
        try:
            return self._models[name]
        except KeyError:
            raise NotFound(f"There is no model {name!r}.", did_you_mean(name, self._models)) from None

    def default(self) -> str:
        """The model that a new chat uses: the chosen one, the one used last, the first real one, else the guide."""
        if self.default_name:
            return self.get(self._named(self.default_name)).name
        last = str(self._settings.section("app").get("model", ""))
        if last in self._models:
            return last
        names = [m.name for m in self.list()]
        if not names:
            raise NoModelLoaded("There is no model.", "Put a .gguf file into the models folder.")
        return names[0]

    def _named(self, text: str) -> str:
        """The name of a model given by its name or by a path; a path outside the folders joins the catalogue."""
        path = Path(text).expanduser()
        if text in self._models or not path.exists():
            return text
        for model in self._models.values():
            if model.path != Path() and model.path.samefile(path):
                return model.name
        name = path.stem if path.is_file() else path.name
        files = sorted(path.glob("*.gguf")) if path.is_dir() else []
        fitting = candidates(self._loaders, [path.resolve(), *files])
        if fitting:
            model = Model(name, path.resolve(), size(path), fitting, outside=True)
            model.loader = self._best(model)
            with self._catalogue:
                self._models = {**self._models, name: model}
        return name

    def save_settings(self, name: str, **values: Any) -> Model:
        """Keep loader, its options, template or preset for a model; None takes one back."""
        model = self.get(name)
        if values.get("loader") and values["loader"] not in model.candidates:
            raise NotFound(
                f"The loader {values['loader']!r} cannot open {name}.", did_you_mean(values["loader"], model.candidates)
            )
        with self._catalogue:
            own = dict(self._settings.section("models"))
            mine = dict(own.get(name, {}))
            if values.get("options") is not None:
                loader = values.get("loader") or model.loader
                build(self._loaders[loader].options, values["options"])
                values["options"] = {**dict(mine.get("options", {})), loader: dict(values["options"])}
            own[name] = {k: v for k, v in {**mine, **values}.items() if v is not None}
            self._settings.save_section("models", own)
            self.refresh()
            return self.get(name)

    def process(self, name: str) -> EngineProcess:
        """The worker of a loaded model."""
        worker = self._processes.get(name or self.default())
        if worker is None or worker.ended.is_set():
            raise NoModelLoaded(f"The model {name} is not loaded.")
        return worker

    async def ensure(self, name: str, loader: str, job: str) -> AsyncGenerator[Progress, None]:
        """Load the model unless it is; yields the progress meanwhile. Raises LoadFailed or LoaderUnavailable.

        Whoever stops listening ends nothing that has begun; a load that still waits for its turn is taken back.
        """
        model = self.get(name or self.default())
        task = self._kept(asyncio.create_task(self.load(model.name, loader or None, automatic=True)))
        last: Progress | None = None
        try:
            while not task.done():
                await asyncio.wait({task}, timeout=_LOOK_SECONDS)
                if model.state == "loading":
                    now = Progress(job, "loading", model.progress, 1.0, model.text)
                else:
                    now = Progress(job, "queued", 0, 1, "Waits until another reply of this model is written")
                if now != last and not task.done():
                    last = now
                    yield now
        finally:
            if task not in self._starters:
                task.cancel()
        task.result()

    def _kept(self, task: asyncio.Task[Any]) -> asyncio.Task[Any]:
        """The task, held until it ends, whoever listens; what it raises stands with the model."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
        return task

    async def load(
        self,
        name: str,
        loader: str | None = None,
        options: Mapping[str, Any] | None = None,
        *,
        automatic: bool = False,
    ) -> Model:
        """Load a model and wait for it; returns at once when it is loaded that way already.

        ``automatic`` loads are given up after three crashes in ten minutes, until a person asks; and they wait while
        the model writes another reply that they would cut off.
        """
        model = self.get(name)
        wanted = loader or model.loader
        if wanted not in model.candidates:
            raise NotFound(f"The loader {wanted!r} cannot open {name}.", did_you_mean(wanted, model.candidates))
        while True:
            async with self._locks.setdefault(name, asyncio.Lock()):
                if self._closing:
                    raise LoadFailed(self._closing)
                chosen = model.options(wanted) if options is None else dict(options)
                path = model.candidates[wanted][1]
                spec = ModelSpec(name, "" if path == Path() else str(path), wanted, chosen, model.template)
                model.used = time.monotonic()
                running = self._processes.get(name)
                if running is None or running.ended.is_set():
                    return await self._start(model, spec, automatic)
                if running.spec == spec:
                    return model
                if automatic and loader in (None, running.spec.loader) and running.spec.template == spec.template:
                    return model  # loaded by hand with options that were not kept
                if not automatic or not running.busy:
                    await self._close(name, "The model was loaded again with other options.")
                    return await self._start(model, spec, automatic)
            await asyncio.sleep(_LOOK_SECONDS)

    async def _start(self, model: Model, spec: ModelSpec, automatic: bool) -> Model:
        recent = [t for t in self._crashes.get(model.name, []) if time.monotonic() - t < _CRASH_SECONDS]
        if not automatic:
            self._crashes.pop(model.name, None)
        elif len(recent) >= _CRASHES:
            raise LoadFailed(
                f"{model.name} has crashed {len(recent)} times in ten minutes.",
                "Press Load in the Model tab to try again.",
            )
        task = asyncio.current_task()
        self._starters.add(task)
        model.loader, model.error, model.hint = spec.loader, "", ""
        model.state, model.progress, model.text = "loading", 0.0, "Starting"
        try:
            worker = await self._opened(model, spec)
        except PatchbayError as error:
            model.state, model.error, model.hint = "failed", error.message, error.hint
            raise
        except Exception as error:  # of a loader from elsewhere, or of the system
            model.state, model.error = "failed", f"{type(error).__name__}: {error}"
            raise LoadFailed(model.error) from error
        except BaseException:
            model.state = "unloaded"
            raise
        finally:
            self._starters.discard(task)
        self._processes[model.name] = worker
        model.state, model.progress, model.info = "loaded", 1.0, worker.info
        model.used = time.monotonic()
        self._kept(asyncio.create_task(self._watch(model, worker)))
        return model

    async def _opened(self, model: Model, spec: ModelSpec) -> EngineProcess:
        """A worker with the model in it."""
        loader = self._loaders[spec.loader]
        reason = await asyncio.to_thread(loader.available)
        if reason:
            raise LoaderUnavailable(f"The loader {loader.title} cannot run here: {reason}")
        build(loader.options, spec.options)
        model.capabilities = loader.capabilities()
        await self._make_room(model.name)

        def progress(fraction: float, text: str) -> None:
            model.progress, model.text = fraction, text

        worker = self._starting[model.name] = EngineProcess(loader, spec, self._log_path(model.name))
        try:
            if self._closing:
                raise LoadFailed(self._closing)
            await worker.open(progress)
        finally:
            del self._starting[model.name]
            if worker.crashed:
                self._crashes.setdefault(model.name, []).append(time.monotonic())
        return worker

    async def _watch(self, model: Model, worker: EngineProcess) -> None:
        await worker.ended.wait()
        if self._processes.get(model.name) is worker:  # nobody asked for it: it crashed
            del self._processes[model.name]
            model.state, model.error = "failed", worker.reason
            model.hint = "The next message starts it again."
            self._crashes.setdefault(model.name, []).append(time.monotonic())

    async def _make_room(self, name: str) -> None:
        idle = sorted(
            (self._models[n].used, n)
            for n, p in self._processes.items()
            if n != name and not p.busy and n in self._models
        )
        while len(self._processes) >= KEEP_LOADED and idle:
            _, oldest = idle.pop(0)
            await self._close(oldest, "The model was unloaded to make room.")

    async def _close(self, name: str, reason: str) -> None:
        worker = self._processes.pop(name, None)
        if worker is not None:
            if name in self._models:  # at once: while the worker ends, another one may be started
                self._models[name].state, self._models[name].info = "unloaded", None
            await worker.close(reason)

    async def unload(self, name: str) -> None:
        """End the worker, also one that still loads; replies in work fail with the reason."""
        model = self.get(name)
        await self.abort(name)
        async with self._locks.setdefault(name, asyncio.Lock()):
            await self._close(name, "The model was unloaded.")
            model.state, model.error, model.hint = "unloaded", "", ""

    async def abort(self, name: str) -> None:
        """Give up loading a model."""
        worker = self._starting.get(name)
        if worker is not None:
            await worker.close("Loading was cancelled.")

    async def memory(self, name: str) -> MemoryReport:
        """Bytes in use by a loaded model."""
        return await self.process(name).memory()

    def log(self, name: str) -> str:
        """The end of the worker's log."""
        return tail(self._log_path(self.get(name).name))

    def _log_path(self, name: str) -> Path:
        return self._logs / ("model-" + re.sub(r"[^\w.-]+", "_", name)[:80] + ".log")

    async def close(self) -> None:
        """End all workers, those that still load too; nothing is loaded after that."""
        self._closing = "The program is ending."
        ending = [w.close(self._closing) for w in self._starting.values()]
        await asyncio.gather(*ending, *(self._close(n, self._closing) for n in list(self._processes)))
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_END_SECONDS)
