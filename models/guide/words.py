"""Word vectors to begin with: which words speak for which intent, learned by averaging the words of a question.

It costs a minute and saves the network most of its first hour: attention then has something to gather.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.guide.dialogues import Dialogues
from models.guide.vocabulary import Encoder


def vectors(
    dialogues: Dialogues, encoder: Encoder, shape: tuple[int, int], examples: int, report: Callable[[str], None]
) -> Tensor:
    """A vector for each token that questions use; zero for the others. ``shape``: entries, dimensions."""
    rng = random.Random(1)
    names = {intent.name: number for number, intent in enumerate(dialogues.intents)} | {"pair": len(dialogues.intents)}
    bag = nn.EmbeddingBag(*shape, mode="mean")
    nn.init.normal_(bag.weight, std=0.05)
    head = nn.Linear(shape[1], len(names))
    optimizer = torch.optim.Adam([*bag.parameters(), *head.parameters()], lr=0.01)
    seen = torch.zeros(shape[0], dtype=torch.bool)
    steps = examples // 512
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 0.01 * (1 - step / steps)
        tokens, offsets, labels = _examples(dialogues, encoder, rng, 512, names)
        seen[tokens] = True
        loss = F.cross_entropy(head(bag(tokens, offsets)), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 100 == 99:
            report(f"word vectors: step {step + 1} of {steps}, loss {float(loss.detach()):.2f}")
    _measure(dialogues, encoder, bag, head, names, report)
    made = bag.weight.detach() * seen[:, None]
    return made / made[seen].norm(dim=1).mean()


def _examples(
    dialogues: Dialogues, encoder: Encoder, rng: random.Random, count: int, names: dict[str, int]
) -> tuple[Tensor, Tensor, Tensor]:
    tokens: list[int] = []
    offsets: list[int] = []
    labels: list[int] = []
    for _ in range(count):
        drawn = dialogues.draw(rng)
        tokenizer = encoder.loose if rng.random() < 0.25 else encoder.exact
        offsets.append(len(tokens))
        tokens += tokenizer.encode(drawn.turns[0][0], add_special_tokens=False).ids or [encoder.pad]
        labels.append(names[drawn.intents[0]])
    return torch.tensor(tokens), torch.tensor(offsets), torch.tensor(labels)


@torch.no_grad()
def _measure(
    dialogues: Dialogues,
    encoder: Encoder,
    bag: nn.EmbeddingBag,
    head: nn.Linear,
    names: dict[str, int],
    report: Callable[[str], None],
) -> None:
    """Says how many of the seeds that were held back the words alone would place rightly."""
    right = total = 0
    for name, question, _ in dialogues.held_back_questions() if dialogues.share else []:
        guess = int(head(bag(torch.tensor([encoder.text(question)]))).argmax())
        right += guess == names[name]
        total += 1
    if total:
        report(f"word vectors alone: {right / total:.1%} of the held back questions right")
