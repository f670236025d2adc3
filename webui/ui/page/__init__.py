"""The chat page: what is served to it. Its own files are in ``webui/ui/static`` and ``shell.html``."""

from __future__ import annotations

from webui.ui.page.routes import routes

__all__ = ["routes"]
