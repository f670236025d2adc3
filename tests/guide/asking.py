"""Asks the guide, through each engine, greedily and with nothing between the question and the weights.

python -m tests.guide.asking [f16|q8_0|transformers]     scores tests/guide/heldout.yaml, and says what was missing
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import yaml
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

ROOT = Path(__file__).resolve().parents[2]
GUIDE = ROOT / "models" / "guide"
HELD_OUT = Path(__file__).with_name("heldout.yaml")
LONGEST = 120

Messages = list[dict[str, str]]


class Ask(Protocol):
    """Token ids of a prompt -> token ids of the greedy answer, without the end token."""

    def __call__(self, ids: list[int], longest: int = LONGEST) -> list[int]: ...


def prompt(messages: Messages) -> str:
    """The chat as the guide's own template writes it, up to where the answer begins."""
    import json

    template = json.loads((GUIDE / "tokenizer_config.json").read_text("utf-8"))["chat_template"]
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(template).render(
        messages=messages, bos_token="<|begin_of_text|>", add_generation_prompt=True
    )


def tokenizer() -> Tokenizer:
    """The guide's tokenizer, as Transformers uses it."""
    return Tokenizer.from_file(str(GUIDE / "tokenizer.json"))


def answer(ask: Ask, tokens: Tokenizer, messages: Messages) -> str:
    """What the guide says to these messages."""
    said: str = tokens.decode(ask(tokens.encode(prompt(messages), add_special_tokens=False).ids))
    return said


@contextmanager
def llamacpp(name: str = "guide-f16.gguf", path: Path | None = None) -> Iterator[Ask]:
    """llama.cpp, without any sampler: the largest logit wins."""
    import llama_cpp
    import numpy as np

    model = llama_cpp.Llama(str(path or GUIDE / name), n_ctx=2048, n_threads=1, n_threads_batch=1, verbose=False)
    ends = {model.token_eos()}

    def ask(ids: list[int], longest: int = LONGEST) -> list[int]:
        model.reset()
        model.eval(ids)
        said: list[int] = []
        for _ in range(longest):
            logits = np.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(model.ctx, -1), shape=(model.n_vocab(),))
            token = int(logits.argmax())
            if token in ends:
                break
            said.append(token)
            model.eval([token])
        return said

    try:
        yield ask
    finally:
        model.close()


@contextmanager
def transformers() -> Iterator[Ask]:
    """Transformers, in float32."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(GUIDE, dtype=torch.float32)
    ends = set(model.generation_config.eos_token_id)

    @torch.no_grad()
    def ask(ids: list[int], longest: int = LONGEST) -> list[int]:
        made = model(torch.tensor([ids]), use_cache=True)
        said: list[int] = []
        while len(said) < longest and (token := int(made.logits[0, -1].argmax())) not in ends:
            said.append(token)
            made = model(torch.tensor([[token]]), past_key_values=made.past_key_values, use_cache=True)
        return said

    yield ask


def held_out() -> list[dict[str, Any]]:
    """The held-out questions: q, must, must_not, and perhaps history and topic."""
    loaded = yaml.safe_load(HELD_OUT.read_text("utf-8"))
    items: list[dict[str, Any]] = loaded["items"] if isinstance(loaded, dict) else loaded
    return items


def messages_of(item: dict[str, Any]) -> Messages:
    """The chat that ends with the item's question."""
    made: Messages = []
    for turn in item.get("history") or []:
        if isinstance(turn, dict) and "role" in turn:
            made.append({"role": turn["role"], "content": turn["content"]})
        else:
            pair = (turn["q"], turn["a"]) if isinstance(turn, dict) else turn
            made += [{"role": "user", "content": pair[0]}, {"role": "assistant", "content": pair[1]}]
    return [*made, {"role": "user", "content": item["q"]}]


def is_right(item: dict[str, Any], said: str) -> bool:
    """Whether the answer matches every pattern that it must, and none that it must not."""

    def matches(pattern: str) -> bool:
        return re.search(pattern, said, re.IGNORECASE | re.DOTALL) is not None

    return all(map(matches, item.get("must") or [])) and not any(map(matches, item.get("must_not") or []))


def score(ask: Ask) -> tuple[float, list[tuple[dict[str, Any], str]]]:
    """The share of held-out questions answered rightly, and the others with what was said."""
    tokens = tokenizer()
    items = held_out()
    said = [answer(ask, tokens, messages_of(item)) for item in items]
    wrong = [(item, text) for item, text in zip(items, said, strict=True) if not is_right(item, text)]
    return 1 - len(wrong) / len(items), wrong


def main() -> None:
    """Prints the score and the wrong answers, without the questions: whoever improves the corpus must not see them."""
    kind = sys.argv[1] if len(sys.argv) > 1 else "f16"
    with transformers() if kind == "transformers" else llamacpp(f"guide-{kind}.gguf") as ask:
        share, wrong = score(ask)
    print(f"{kind}: {share:.1%} right")
    for item, said in wrong:
        print(f"  should have said {item['must']}: {said}")


if __name__ == "__main__":
    main()
