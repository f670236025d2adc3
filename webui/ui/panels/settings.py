"""The Settings tab: theme, folders, what this machine can do, and the logs."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from webui.runtime.process import tail
from webui.ui.panels.handlers import on
from webui.ui.panels.words import quiet

if TYPE_CHECKING:
    from webui.runtime.app import App

TITLE = "Settings"
_THEMES = [("Like the system", "system"), ("Light", "light"), ("Dark", "dark")]


def build(app: App, blocks: gr.Blocks, refresh: gr.Button) -> None:
    """Lay the tab out and bind it."""
    theme = gr.Radio(_THEMES, label="Theme", value="system", elem_id="theme")
    gr.Markdown(_folders(app))
    notices = gr.Markdown()
    with gr.Row():
        doctor = gr.Button("What works on this machine", size="sm", elem_id="doctor")
    report = gr.Textbox(
        label="Doctor", lines=10, max_lines=40, interactive=False, visible=False, elem_id="doctor-report"
    )
    with gr.Row():
        which = gr.Dropdown([], label="Log", elem_id="log-name")
        look = gr.Button("Show", size="sm", elem_id="log-show")
    log = gr.Textbox(label="Its end", lines=16, max_lines=32, interactive=False, elem_id="log-text")

    async def show() -> list[Any]:
        names = sorted(p.name for p in _logs(app).glob("*.log"))
        chosen = app.settings.section("app").get("theme", "system")
        listed = "\n".join(f"- {quiet(n)}" for n in app.notices)
        return [gr.update(value=chosen), gr.update(choices=names, value=names[0] if names else None), listed]

    async def choose(value: str) -> None:
        kept = dict(app.settings.section("app"))
        await app.call(app.settings.save_section, "app", {**kept, "theme": value})

    async def examine() -> Any:
        return gr.update(value=await app.call(_doctor), visible=True)

    async def read(name: str | None) -> str:
        known = {p.name: p for p in _logs(app).glob("*.log")}
        return await app.call(tail, known[name]) if name in known else ""

    on(blocks.load, show, None, [theme, which, notices])
    on(refresh.click, show, None, [theme, which, notices])
    on(theme.input, choose, [theme])
    on(doctor.click, examine, None, [report])
    on(look.click, read, [which], [log])


def _logs(app: App) -> Path:
    return app.config.data / "logs"


def _folders(app: App) -> str:
    config = app.config
    rows = {
        "Models": config.models,
        "Chats, presets, settings": config.data,
        "Logs": _logs(app),
        "Options": config.data / "config.yaml",
    }
    return "\n".join(["| what | where |", "|---|---|", *(f"| {name} | `{path}` |" for name, path in rows.items())])


def _doctor() -> str:
    """What ``python start.py doctor`` prints; in a child, so that no engine comes into this process."""
    import subprocess

    done = subprocess.run(
        [sys.executable, "-m", "webui", "doctor"], capture_output=True, text=True, timeout=120, check=False
    )
    return done.stdout or done.stderr or json.dumps({"exit code": done.returncode})
