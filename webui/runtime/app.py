"""The composition root: one App, built once and passed to whoever needs it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from webui.core.chat import Character, Message, Turn, new_id
from webui.core.config import Config
from webui.core.errors import Conflict, PatchbayError
from webui.core.fields import sparse
from webui.core.loader import Loader
from webui.runtime.models import Models
from webui.runtime.plugins import Plugins
from webui.runtime.reply import Reply
from webui.runtime.stores import ChatStore, PresetStore, SettingsStore

P = ParamSpec("P")
T = TypeVar("T")

ROOT = Path(__file__).resolve().parents[2]
DEFAULT_PRESET = "Balanced"
_KEEP_SECONDS = 60.0  # a finished reply can be followed for this long
_PRELOAD_SECONDS = 1.5  # the first page comes first


class App:
    """Everything that is running: stores, plugins, models, replies."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.log = logging.getLogger("patchbay")
        self.closing = False
        self.replies: dict[str, Reply] = {}
        self.notices: list[str] = []
        self.panels: dict[str, Any] = {"ready": False, "script": "", "style": "", "reason": ""}  # filled by the server
        self._reserved: set[str] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._threads = ThreadPoolExecutor(8, thread_name_prefix="patchbay")
        data = config.data
        self.settings = SettingsStore(data)
        self.chats = ChatStore(data)
        self.presets = PresetStore(ROOT / "presets", data / "presets")
        interrupted = self.chats.recover()
        if interrupted:
            self.notices.append(
                "One reply was interrupted; it can be continued."
                if interrupted == 1
                else f"{interrupted} replies were interrupted; they can be continued."
            )
        self.plugins = Plugins(config, self.settings)
        self.plugins.load()
        self.loaders: dict[str, Loader] = {}
        self._find_loaders()
        self.models = Models(self._model_folders(), self.loaders, self.settings, data / "logs")
        self.models.default_name = config.model
        self.notices += [*self.settings.notices, *self.chats.notices]

    def _model_folders(self) -> list[Path]:
        bundled = ROOT / "models"
        return list(dict.fromkeys([self.config.models, bundled]))

    def _find_loaders(self) -> None:
        self.loaders.clear()
        for plugin, loaders in self.plugins.collect("register_loaders"):
            for loader in loaders:
                if loader.name in self.loaders:
                    self.notices.append(
                        f"The loader {loader.name} of {plugin} is there already; the first one is used."
                    )
                else:
                    self.loaders[loader.name] = loader

    def plugins_changed(self) -> None:
        """After a plugin was switched on or off: the loaders are looked up again."""
        self._find_loaders()
        self.models.refresh()

    async def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run blocking work off the event loop."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, lambda: function(*args, **kwargs))

    async def start(self) -> None:
        """Enter the plugins' lifespans and load the first model behind the first page."""
        await self.plugins.start(self)
        self._keep(asyncio.create_task(self._preload()))

    async def _preload(self) -> None:
        await asyncio.sleep(_PRELOAD_SECONDS)
        with contextlib.suppress(PatchbayError):  # the reason stands with the model and is shown there
            name = self.models.default()
            if self.config.model or self.models.get(name).size < 200_000_000:
                await self.models.load(name, self.config.loader or None, automatic=True)

    async def close(self) -> None:
        """Save what is being written, end the workers, leave the lifespans."""
        self.closing = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(
            *(r.interrupt() for r in list(self.replies.values()) if not r.done), return_exceptions=True
        )
        await self.models.close()
        await self.plugins.close()
        await self.call(self.chats.close)
        self._threads.shutdown(wait=False, cancel_futures=True)

    def character(self, name: str) -> Character:
        """A character by name; an unknown one is a name only."""
        values = self.settings.section("characters").get(name, {})
        return Character(
            name=name, **{k: str(v) for k, v in dict(values).items() if k in Character.__slots__ and k != "name"}
        )

    def preset_for(self, model: str) -> str:
        """The preset for a model when a chat names none: the one started with, the model's, the default."""
        if self.config.preset:
            return self.config.preset
        try:
            found = self.models.get(model or self.models.default())
        except PatchbayError:
            return DEFAULT_PRESET
        return str(found.settings.get("preset", "")) or DEFAULT_PRESET

    @contextlib.contextmanager
    def reserve(self, chat: str) -> Iterator[None]:
        """Hold a chat while its reply is being set up."""
        if chat in self._reserved:
            raise Conflict("A reply is being started in this chat.", "Wait for it or press Stop.")
        self._reserved.add(chat)
        try:
            yield
        finally:
            self._reserved.discard(chat)

    def reply(self, turn: Turn, message: Message | None = None) -> Reply:
        """Start a reply and return at once. ``message`` is the stored one that grows; without it nothing is stored."""
        message = message or Message(turn.reply or new_id(), "", "assistant", turn.prefix, status="streaming")
        reply = Reply(self, turn, message)
        self.replies[reply.id] = reply
        self._keep(asyncio.create_task(self._forget(reply)))
        return reply

    async def _forget(self, reply: Reply) -> None:
        await reply.wait()
        await asyncio.sleep(_KEEP_SECONDS)
        if self.replies.get(reply.id) is reply:
            del self.replies[reply.id]

    def _keep(self, task: asyncio.Task[Any]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def request(self, turn: Turn, job: str) -> dict[str, Any]:
        """A turn as the worker takes it."""
        settings = turn.settings
        return {
            "job": job,
            "messages": [{"id": m.id, "role": m.role, "content": m.text} for m in turn.messages],
            "system": turn.system,
            "prefix": turn.prefix,
            "settings": sparse(settings),
            "seed": settings.seed if settings.seed >= 0 else random.getrandbits(32),
        }


def create_app(config: Config) -> App:
    """The app for a configuration: stores opened, plugins loaded, nothing running yet."""
    return App(config)
