"""The guide's tokenizer: byte-level BPE with Llama 3's split and special tokens, trained on the guide's own text."""

from __future__ import annotations

import random
from collections.abc import Iterable
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

BEGIN, END, HEADER, HEADER_END, TURN_END = (
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
)
PAD = "<|pad|>"
SPECIAL = [BEGIN, END, HEADER, HEADER_END, TURN_END, PAD, *(f"<|reserved_special_token_{i}|>" for i in range(10))]
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
TEMPLATE = (
    "{{- bos_token }}{%- for message in messages %}"
    "{{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' }}"
    "{{- message['content'] | trim + '<|eot_id|>' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{%- endif %}"
)


def train(texts: Iterable[str], size: int) -> Tokenizer:
    """A tokenizer of exactly ``size`` entries; the special tokens are the last ones."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size - len(SPECIAL),
        min_frequency=2,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    room = size - len(SPECIAL) - tokenizer.get_vocab_size()
    tokenizer.add_special_tokens(
        [
            AddedToken(text, normalized=False, special=True)
            for text in [*SPECIAL, *(f"<|unused_{i}|>" for i in range(room))]
        ]
    )
    begin = tokenizer.token_to_id(BEGIN)
    tokenizer.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(
                single=f"{BEGIN} $A", pair=f"{BEGIN} $A {BEGIN}:1 $B:1", special_tokens=[(BEGIN, begin)]
            ),
        ]
    )
    return tokenizer


class Encoder:
    """Chats to ids, for training now and then split at unusual places (BPE dropout, arXiv:1910.13267)."""

    def __init__(self, path: Path) -> None:
        self.exact = Tokenizer.from_file(str(path))
        self.loose = Tokenizer.from_file(str(path))
        self.loose.model.ignore_merges = False
        self.loose.model.dropout = 0.15
        self.begin, self.turn_end, self.pad = (self.exact.token_to_id(text) for text in (BEGIN, TURN_END, PAD))

    def text(self, text: str) -> list[int]:
        """Ids of plain text, without a beginning token."""
        ids: list[int] = self.exact.encode(text, add_special_tokens=False).ids
        return ids

    def chat(self, messages: list[dict[str, str]], rng: random.Random, wobble: float) -> list[tuple[str, list[int]]]:
        """(role, ids) for each stretch; headers have no role, an end token belongs to what is said.

        ``wobble`` is the chance that a person's message is split at unusual places.
        """
        parts = [("", [self.begin])]
        for message in messages:
            role, said = message["role"], message["content"].strip()
            parts.append(("", self.text(f"{HEADER}{role}{HEADER_END}\n\n")))
            loose = role == "user" and rng.random() < wobble
            ids = self.loose.encode(said, add_special_tokens=False).ids if loose else self.text(said)
            parts.append((role, [*ids, self.turn_end]))
        return parts

    def prompt(self, messages: list[dict[str, str]]) -> list[int]:
        """Ids up to where the answer begins."""
        ids = [token for _, part in self.chat(messages, random.Random(0), 0) for token in part]
        return ids + self.text(f"{HEADER}assistant{HEADER_END}\n\n")
