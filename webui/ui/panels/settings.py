"""The Settings tab: theme, folders, notices, what this machine can do, and the logs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from webui.runtime.process import tail
from webui.ui.panels.forms import FREE
from webui.ui.panels.handlers import Notebook, on
from webui.ui.panels.words import quiet

if TYPE_CHECKING:
    from webui.runtime.app import App

TITLE = "Settings"
#: The page's script acts on these values at once.
THEMES = [("Like the system", "system"), ("Light", "light"), ("Dark", "dark")]
_DOCTOR_SECONDS = 120


def build(app: App, refresh: gr.Button, blocks: gr.Blocks) -> None:
    """Lay the tab out and bind it."""
    gr.Markdown("## Settings")
    theme = gr.Radio(THEMES, label="Colours", value="system", elem_id="theme")
    notices = gr.Markdown(elem_id="notices-list", elem_classes="pb-note", visible=False)
    gr.Markdown("### Folders")
    gr.Markdown(_folders(app), elem_id="folders")
    with gr.Row(elem_classes="pb-line"):
        gr.Markdown("### What works on this machine", elem_classes="pb-grow")
        doctor = gr.Button("Look", size="sm", elem_id="doctor")
    report = gr.Textbox(
        label="What works on this machine", show_label=False, lines=10, max_lines=40, interactive=False, visible=False,
        elem_id="doctor-report", elem_classes=["pb-tall", "pb-mono"],
    )  # fmt: skip
    gr.Markdown("### Logs")
    with gr.Row(elem_classes="pb-line"):
        which = gr.Dropdown(
            [], label="Log", info="The program's own, and one for each model.", elem_id="log-name", **FREE, scale=3
        )
        look = gr.Button("Read again", size="sm", elem_id="log-show")
    log = gr.Textbox(
        label="The end of the log", show_label=False, lines=12, max_lines=24, interactive=False, elem_id="log-text",
        elem_classes=["pb-tall", "pb-mono"],
    )  # fmt: skip
    parts = {"theme": theme, "notices": notices, "which": which, "log": log}
    note = Notebook(list(parts))
    outputs = [*parts.values(), note.box]

    def situation(chosen: str | None) -> dict[str, dict[str, Any]]:
        logs = {p.name: p for p in sorted(_logs(app).glob("*.log"))}
        first = "patchbay.log" if "patchbay.log" in logs else next(iter(logs), None)
        name = chosen if chosen in logs else first
        kept = app.settings.section("app").get("theme", "system")
        listed = "\n".join(f"- {quiet(n)}" for n in dict.fromkeys(app.notices))
        return {
            "theme": {"value": kept if kept in dict(THEMES).values() else "system"},
            "notices": {"value": listed, "visible": bool(listed)},
            "which": {"choices": [[n, n] for n in logs], "value": name},
            "log": {"value": (tail(logs[name]) or "Nothing yet.") if name else "There is no log yet."},
        }

    async def show(chosen: str | None, noted: str) -> list[Any]:
        return note.write(noted, await app.call(situation, chosen))

    async def choose(value: str, noted: str) -> str:
        kept = dict(app.settings.section("app"))
        await app.call(app.settings.save_section, "app", {**kept, "theme": value})
        return note.noted(noted, "theme", value)

    async def read(chosen: str | None, noted: str) -> list[Any]:
        return await show(chosen, note.noted(noted, "which", chosen))

    async def examine() -> Any:
        return gr.update(value=await app.call(_doctor, app), visible=True)

    on(blocks.load, show, [which, note.box], outputs)
    on(refresh.click, show, [which, note.box], outputs)
    on(theme.input, choose, [theme, note.box], [note.box])
    on(doctor.click, examine, None, [report])
    on(look.click, read, [which, note.box], outputs)
    on(which.input, read, [which, note.box], outputs)


def _logs(app: App) -> Path:
    return app.config.data / "logs"


def _folders(app: App) -> str:
    config = app.config
    rows = {
        "Models": config.models,
        "Chats, settings, everything of yours": config.data,
        "Your presets": config.data / "presets",
        "Your extensions": config.data / "extensions",
        "Logs": _logs(app),
        "Options for the start": config.data / "config.yaml",
    }
    return "\n".join(["| what | where |", "|---|---|", *(f"| {name} | `{path}` |" for name, path in rows.items())])


def _doctor(app: App) -> str:
    """What ``python start.py doctor`` prints; in a child, so that no engine comes into this process."""
    folders = ["--data-dir", str(app.config.data), "--models-dir", str(app.config.models)]
    command = [sys.executable, "-m", "webui", "doctor", *folders]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_DOCTOR_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"It could not be found out: {error}"
    return done.stdout.strip() or done.stderr.strip() or f"It ended with exit code {done.returncode}."
