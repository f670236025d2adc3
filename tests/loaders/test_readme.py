"""The example in loaders/README.md works as printed."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

from tests.loaders.conftest import Speaker
from webui import Finish, ModelSpec, build

README = Path(__file__).parents[2] / "loaders" / "README.md"


def test_the_loader_in_30_lines_runs(tmp_path: Path) -> None:
    source = re.search(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert source
    lines = [line for line in source[1].splitlines() if line.strip()]
    assert len(lines) <= 36
    file = tmp_path / "backwards.py"
    file.write_text(source[1])
    spec = importlib.util.spec_from_file_location("backwards", file)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    (loader,) = module.register_loaders()
    model = tmp_path / "letters.txt"
    model.write_text("abcdefghijklmnopqrstuvwxyz ")
    assert loader.accepts(model) == 1.0
    engine = loader.open(ModelSpec("letters", str(model), "backwards"), build(loader.options, {}), lambda *_: True)
    speaker = Speaker("backwards", engine)
    assert speaker.text(speaker.job("Hello you!", 50)) == b"uoy olle"
    finish = speaker.run(speaker.job("Hello you!", 3))[-1]
    assert isinstance(finish, Finish) and finish.reason == "length" and finish.reply_tokens == 3


def test_every_command_of_the_echo_is_explained() -> None:
    from loaders.echo.script import COMMANDS

    text = README.read_text(encoding="utf-8")
    assert all(f"`/{name}" in text for name in COMMANDS)
