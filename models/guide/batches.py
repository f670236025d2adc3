"""Dialogues as batches of one length, with the weight of each token in the loss."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from models.guide import seeds
from models.guide.dialogues import Dialogues
from models.guide.vocabulary import Encoder

#: Lengths that batches are padded to.
LENGTHS = (48, 64, 80, 96, 128, 160, 192, 256, 384, 512)
#: The first tokens of an answer decide which one it is; of many one-turn answers only these are read.
OPENING = 12


@dataclass(frozen=True)
class Batch:
    """Ids and positions (rows, length); the flat places whose next token counts, that token, and its weight."""

    ids: Tensor
    positions: Tensor
    places: Tensor
    targets: Tensor
    weights: Tensor


@dataclass(frozen=True)
class Recipe:
    """What a training example looks like."""

    wobble: float = 0.25  # chance of an unusual split of a person's message
    asked: float = 0.1  # weight of a person's words in the loss
    opening_only: float = 0.6  # share of one-turn chats cut behind the opening of the answer
    documents: float = 0.02  # share of plain text
    jumps: float = 0.5  # share of longer chats with gaps in their positions, which teaches the whole context cheaply
    context: int = 2048


class Batches:
    """An endless stream of batches of about ``tokens`` tokens each."""

    def __init__(self, dialogues: Dialogues, encoder: Encoder, documents: list[str], recipe: Recipe, seed: int) -> None:
        self.dialogues, self.encoder, self.documents, self.recipe = dialogues, encoder, documents, recipe
        self.rng = random.Random(seed)
        self._looked, self._stamp = time.monotonic(), seeds.stamp()

    def stream(self, tokens: int) -> Iterator[Batch]:
        """Batches; examples of like length go together."""
        waiting: dict[int, list[tuple[list[int], list[float], list[int]]]] = {length: [] for length in LENGTHS}
        while True:
            self._refresh()
            example = self._document() if self.rng.random() < self.recipe.documents else self._dialogue()
            size = len(example[0])
            if size > LENGTHS[-1]:
                continue
            length = next(length for length in LENGTHS if size <= length)
            waiting[length].append(example)
            if len(waiting[length]) * length >= tokens:
                yield self._batch(waiting[length], length)
                waiting[length] = []

    def _refresh(self) -> None:
        """Takes up changes of the corpus while training goes on; a corpus that cannot be read is left for later."""
        if time.monotonic() - self._looked < 30:
            return
        self._looked = time.monotonic()
        if (stamp := seeds.stamp()) != self._stamp:
            self._stamp = stamp
            try:
                self.dialogues = Dialogues(self.dialogues.share)
                print(f"corpus read again: {len(self.dialogues.intents)} intents", flush=True)
            except Exception as error:  # a half-written file must not end an hour's training
                print(f"corpus not read: {error}", flush=True)

    def _dialogue(self) -> tuple[list[int], list[float], list[int]]:
        recipe, rng = self.recipe, self.rng
        dialogue = self.dialogues.draw(rng)
        messages = dialogue.messages()
        cut = len(dialogue.turns) == 1 and rng.random() < recipe.opening_only
        ids: list[int] = []
        weights: list[float] = []
        positions: list[int] = []
        jump = len(dialogue.turns) > 1 and rng.random() < recipe.jumps
        at = rng.randrange(64) if jump else 0
        for role, part in self.encoder.chat(messages, rng, recipe.wobble):
            if cut and role == "assistant":
                part = part[:OPENING]
            if jump and role == "user" and ids:
                at += rng.randrange(1, 400)
            ids += part
            weights += [{"assistant": 1.0, "user": recipe.asked}.get(role, 0.0)] * len(part)
            positions += range(at, at + len(part))
            at += len(part)
        return ids, weights, [min(position, recipe.context - 1) for position in positions]

    def _document(self) -> tuple[list[int], list[float], list[int]]:
        ids = [self.encoder.begin, *self.encoder.text(self.rng.choice(self.documents))][: LENGTHS[-1]]
        return ids, [0.0] + [0.5] * (len(ids) - 1), list(range(len(ids)))

    def _batch(self, examples: list[tuple[list[int], list[float], list[int]]], length: int) -> Batch:
        rows = len(examples)
        ids = torch.full((rows, length), self.encoder.pad)
        positions = torch.zeros((rows, length), dtype=torch.long)
        weights = torch.zeros((rows, length))
        for row, (tokens, weight, places) in enumerate(examples):
            ids[row, : len(tokens)] = torch.tensor(tokens)
            weights[row, : len(tokens)] = torch.tensor(weight)
            positions[row, : len(tokens)] = torch.tensor(places)
        counted = weights[:, 1:] > 0
        places = (torch.arange(rows)[:, None] * length + torch.arange(length - 1))[counted]
        return Batch(ids, positions, places, ids[:, 1:][counted], weights[:, 1:][counted])
