"""What a long chat costs, with a real tokenizer: once a message, few renders, and the ids of one-shot tokenisation."""

from __future__ import annotations

import math
from pathlib import Path

from loaders.llamacpp import LlamaCpp
from tests import models as tiny
from webui.core.loader import ModelSpec
from webui.core.prompt import Prompter, Template


def test_four_hundred_turns_for_an_8k_context(tmp_path: Path) -> None:
    path = tiny.make_gguf(tmp_path / "tiny.gguf")
    loader = LlamaCpp()
    engine = loader.open(ModelSpec("tiny", str(path), "llamacpp"), loader.options(threads=1), lambda *_: True)
    info = engine.info
    template = Template(info.template, info.bos_text, info.eos_text, tuple(info.control))
    messages = [
        {"id": str(i), "role": ("user", "assistant")[i % 2], "content": f"Turn {i}: Grüße, 世界 🦙 <|eot_id|>! " * 9}
        for i in range(801)
    ]
    prompter = Prompter(lambda text, special: engine.tokenize(text, special=special))
    prompt = prompter.build(template, messages, budget=8192, system="Be kind.", bos=info.bos)
    assert prompt.dropped and len(prompt.ids) <= 8192
    assert prompter.renders <= 2 + math.log2(len(messages))
    assert prompter.tokenised <= 2 * len(messages) + 20

    kept = [{"role": "system", "content": "Be kind."}, *messages[len(prompt.dropped) :]]
    guarded = [{**m, "content": m["content"].replace("<|eot_id|>", "")} for m in kept]
    plain = Prompter(lambda text, special: engine.tokenize(text, special=special))
    rendered = template.render(guarded, {})
    whole = engine.tokenize(rendered, special=True)  # one shot: the engine finds the control tokens itself
    parts: list[int] = []
    for text, control in template.split(rendered):
        parts.extend(plain.ids(text, control))
    assert parts == whole
    before = prompter.tokenised
    prompter.build(template, [*messages, {"id": "x", "role": "assistant", "content": "And one more."}], budget=8192)
    assert prompter.tokenised - before <= 3
    engine.close()
