"""An app of one's own for a test: a fresh data folder, the echo loader, closed at the end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from webui.core.config import Config
from webui.runtime.app import App, create_app


def config(folder: Path, **values: Any) -> Config:
    """A configuration whose folders lie in ``folder``."""
    models = folder / "models"
    models.mkdir(exist_ok=True)
    data = folder / "data"
    data.mkdir(exist_ok=True)
    return Config(models_dir=str(models), data_dir=str(data), **{"model": "echo", "no_browser": True, **values})


def drive(folder: Path, test: Callable[[App], Awaitable[None]], *, seconds: float = 90, **values: Any) -> None:
    """Run an async test with an app, and close the app whatever happens."""

    async def run() -> None:
        app = create_app(config(folder, **values))
        try:
            await test(app)
        finally:
            await app.close()

    asyncio.run(asyncio.wait_for(run(), seconds))
