"""The composition root: one App, built once and passed to whoever needs it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ParamSpec, TypeVar
from weakref import WeakValueDictionary

from webui.core.chat import Character, Message, Turn, new_id
from webui.core.config import Config
from webui.core.errors import Busy, PatchbayError
from webui.core.fields import sparse
from webui.core.loader import Loader
from webui.core.presets import DEFAULT
from webui.runtime.conversation import NEW_CHAT
from webui.runtime.models import Models
from webui.runtime.plugins import Plugins
from webui.runtime.reply import Reply
from webui.runtime.stores import ChatStore, PresetStore, SettingsStore

P = ParamSpec("P")
T = TypeVar("T")

ROOT = Path(__file__).resolve().parents[2]
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
        self._alone: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
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
        self._begin_as_told()
        self.notices += [*self.settings.notices, *self.chats.notices]

    def _begin_as_told(self) -> None:
        """A preset named at the start goes before the one that was kept for new chats."""
        begun = self.settings.section(NEW_CHAT)
        if self.config.preset and begun.pop("preset", ""):
            self.settings.save_section(NEW_CHAT, begun)

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
        """Save what is being written, end the workers, leave the lifespans; each whatever became of the others."""
        if self.closing:
            return
        self.closing = True
        for step in (self._end_replies, self._end_tasks, self.models.close, self.plugins.close):
            try:
                await step()
            except Exception:
                self.log.exception("the program does not end in good order")
        await self.call(self.chats.close)
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _end_replies(self) -> None:
        """Also those that are done: the last words of one may just be on their way to the disk."""
        await asyncio.gather(*(reply.interrupt() for reply in list(self.replies.values())))

    async def _end_tasks(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

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
            return DEFAULT
        return str(found.settings.get("preset", "")) or DEFAULT

    @contextlib.asynccontextmanager
    async def alone(self, chat: str) -> AsyncIterator[None]:
        """Change a chat while nobody else does; who comes second waits."""
        lock = self._alone.setdefault(chat, asyncio.Lock())
        async with lock:
            yield

    def reply(self, turn: Turn, message: Message | None = None) -> Reply:
        """Start a reply and return at once. ``message`` is the stored one that grows; without it nothing is stored."""
        if self.closing:
            raise Busy("The program is ending.", "Start it again and send the message once more.")
        message = message or Message(turn.reply or new_id(), "", "assistant", turn.prefix, status="streaming")
        reply = Reply(self, turn, message)
        self.replies[reply.id] = reply
        self._keep(asyncio.create_task(self._forget(reply)))
        return reply

    async def _forget(self, reply: Reply) -> None:
        await reply.settled()
        await asyncio.sleep(_KEEP_SECONDS)
        if self.replies.get(reply.id) is reply:
            del self.replies[reply.id]

    def _keep(self, task: asyncio.Task[Any]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.log.error("a task failed", exc_info=error)

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
