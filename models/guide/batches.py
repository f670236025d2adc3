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
LENGTHS = (24, 32, 40, 48, 64, 80, 96, 128, 160, 192, 256, 384, 512)


CONTEXT = 2048


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
    """What training examples look like. The first tokens of an answer decide which one it is, and are what is hard."""

    openings: float  # share of one-turn chats that are cut behind the opening of the answer
    opening: int  # tokens of an opening
    longer: float  # share of chats with more than one turn
    instructed: float  # share of chats with a system prompt
    strength: float = 1.0  # how much questions are dressed
    wobble: float = 0.25  # chance of an unusual split of a person's message
    asked: float = 0.25  # share of chats in which a person's words count a little in the loss
    documents: float = 0.02  # share of plain text
    jumps: float = 0.5  # share of longer chats with gaps in their positions: the whole context, taught cheaply


#: Before this share of the training is done, examples are short: which answer. After it, whole chats.
TURNING_POINT = 0.55
EARLY = Recipe(openings=0.92, opening=8, longer=0.07, instructed=0.15, strength=0.6, wobble=0.12, documents=0.005)
LATE = Recipe(openings=0.6, opening=12, longer=0.35, instructed=0.25)


class Batches:
    """An endless stream of batches of about ``tokens`` tokens each."""

    def __init__(self, dialogues: Dialogues, encoder: Encoder, documents: list[str], seed: int) -> None:
        self.dialogues, self.encoder, self.documents = dialogues, encoder, documents
        self.done = 0.0  # share of the training that is done; the trainer keeps it up to date
        self.turning_point = TURNING_POINT
        self.rng = random.Random(seed)
        self._looked, self._stamp = time.monotonic(), seeds.stamp()

    @property
    def recipe(self) -> Recipe:
        """The recipe for now."""
        return EARLY if self.done < self.turning_point else LATE

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
        turns = rng.choices([2, 3, 4, 6], [0.45, 0.3, 0.2, 0.05])[0] if rng.random() < recipe.longer else 1
        self.dialogues.strength = recipe.strength
        dialogue = self.dialogues.draw(rng, turns, rng.random() < recipe.instructed)
        messages = dialogue.messages()
        cut = turns == 1 and rng.random() < recipe.openings
        asked = 0.3 if rng.random() < recipe.asked else 0.0
        ids: list[int] = []
        weights: list[float] = []
        positions: list[int] = []
        jump = turns > 1 and rng.random() < recipe.jumps
        at = rng.randrange(64) if jump else 0
        for role, part in self.encoder.chat(messages, rng, recipe.wobble):
            if cut and role == "assistant":
                part = part[: recipe.opening]
            if jump and role == "user" and ids:
                at += rng.randrange(1, 400)
            ids += part
            weights += [{"assistant": 1.0, "user": asked}.get(role, 0.0)] * len(part)
            positions += range(at, at + len(part))
            at += len(part)
        return ids, weights, [min(position, CONTEXT - 1) for position in positions]

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
