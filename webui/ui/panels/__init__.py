"""The Gradio tabs beside the chat: Parameters, Model, Extensions, Settings.

They are embedded into the chat page on demand. Which chat they speak of is told by a cookie that the page sets.
Handlers are thin, run on the app's own event loop, and keep nothing between calls.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import gradio as gr

from webui.ui.panels import extensions, model, parameters, settings
from webui.ui.panels.look import THEME

if TYPE_CHECKING:
    from webui.runtime.app import App

__all__ = ["THEME", "build"]


def build(app: App) -> gr.Blocks:
    """The tabs, in one Blocks. The page's script presses ``#refresh-NAME`` whenever it opens the tab of that name."""
    parts = {part.TITLE: part for part in (parameters, model, extensions, settings)}
    blocks = gr.Blocks(analytics_enabled=False, title="Patchbay", fill_width=True)
    with blocks:
        presses = {t: gr.Button(f"Read {t} again", elem_id=f"refresh-{t}", elem_classes="pb-press") for t in parts}
        with gr.Tabs(elem_id="panels"):
            for title, part in parts.items():
                with gr.Tab(title, id=title.lower(), elem_id=f"panel-{title.lower()}"):
                    part.build(app, presses[title], blocks)
    return blocks
