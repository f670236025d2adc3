"""The Gradio tabs beside the chat: Parameters, Model, Extensions, Settings.

They are embedded into the chat page on demand. Which chat they speak of is told by a cookie that the page sets.
Handlers are thin, run on the app's own event loop, and keep nothing between calls.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import gradio as gr

from webui.ui.panels import extensions, model, parameters, settings
from webui.ui.panels.look import CSS, THEME

if TYPE_CHECKING:
    from webui.runtime.app import App

__all__ = ["CSS", "THEME", "build"]


def build(app: App) -> gr.Blocks:
    """The tabs, in one Blocks. The page's script presses ``#refresh-panels`` when a tab is opened."""
    with gr.Blocks(analytics_enabled=False, title="Patchbay", fill_width=True) as blocks:
        refresh = gr.Button("Refresh", elem_id="refresh-panels")
        with gr.Tabs(elem_id="panels"):
            for part in (parameters, model, extensions, settings):
                with gr.Tab(part.TITLE, id=part.TITLE.lower(), elem_id=f"panel-{part.TITLE.lower()}"):
                    part.build(app, blocks, refresh)
    return blocks
