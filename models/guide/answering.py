"""Greedy answers from the network itself, many at a time, to measure it while it is trained."""

from __future__ import annotations

import torch

from models.guide.network import Network
from models.guide.vocabulary import Encoder


@torch.no_grad()
def openings(network: Network, encoder: Encoder, questions: list[str], length: int = 24) -> list[str]:
    """The first ``length`` tokens of the answer to each question."""
    network.eval()
    answers = []
    for start in range(0, len(questions), 32):
        prompts = [encoder.prompt([{"role": "user", "content": text}]) for text in questions[start : start + 32]]
        rows = [list(prompt) for prompt in prompts]
        for _ in range(length):
            width = max(map(len, rows))
            ids = torch.tensor([row + [encoder.pad] * (width - len(row)) for row in rows])
            hidden = network(ids, torch.arange(width).expand(len(rows), -1))
            last = hidden[torch.arange(len(rows)), torch.tensor([len(row) - 1 for row in rows])]
            for row, token in zip(rows, network.logits(last).argmax(-1).tolist(), strict=True):
                row.append(token)
        for row, prompt in zip(rows, prompts, strict=True):
            said = row[len(prompt) :]
            said = said[: said.index(encoder.turn_end)] if encoder.turn_end in said else said
            answers.append(encoder.exact.decode(said))
    return answers


def share_right(
    network: Network, encoder: Encoder, held_back: list[tuple[str, str, str]]
) -> tuple[float, list[tuple[str, str, str]]]:
    """The share of answers that begin as they should, and (intent, question, answer) of the others."""
    said = openings(network, encoder, [question for _, question, _ in held_back], 16)
    wrong = [
        (name, question, answer)
        for (name, question, right), answer in zip(held_back, said, strict=True)
        if answer[:40].strip() != right[: len(answer[:40])].strip()
    ]
    return 1 - len(wrong) / len(held_back), wrong
