"""Trains the guide: Muon for the matrices, Adam for the rest, and a running average of the weights."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from models.guide.batches import Batches
from models.guide.network import Network


@dataclass(frozen=True)
class Plan:
    """How long and how fast."""

    minutes: float
    tokens: int = 4096  # a step
    muon_rate: float = 0.02
    adam_rate: float = 0.001
    warm_up: float = 0.02  # share of the time
    decay_from: float = 0.3  # share of the time after which the rates fall to zero
    average: float = 0.995
    dropout: float = 0.0
    checkpoint_minutes: float = 3.0


class Muon(torch.optim.Optimizer):
    """Momentum whose matrices are made orthogonal before they are applied (Jordan 2024, Muon)."""

    def __init__(self, weights: list[Tensor], lr: float, momentum: float = 0.95, decay: float = 0.01) -> None:
        super().__init__(weights, {"lr": lr, "momentum": momentum, "decay": decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]  # no closure is ever given
        """One update; matrices of one shape, or its transpose, are worked on together."""
        for group in self.param_groups:
            alike: dict[tuple[int, ...], list[tuple[Tensor, Tensor]]] = {}
            for weight in group["params"]:
                moving = self.state[weight].setdefault("momentum", torch.zeros_like(weight))
                moving.lerp_(weight.grad, 1 - group["momentum"])
                update = weight.grad.lerp(moving, group["momentum"])
                update = update.T if update.shape[0] > update.shape[1] else update
                alike.setdefault(tuple(update.shape), []).append((weight, update))
            for pairs in alike.values():
                for (weight, _), update in zip(
                    pairs, orthogonal(torch.stack([update for _, update in pairs])), strict=True
                ):
                    tall = weight.shape[0] > weight.shape[1]
                    weight.mul_(1 - group["lr"] * group["decay"])
                    weight.add_(
                        update.T if tall else update,
                        alpha=-group["lr"] * max(1, weight.shape[0] / weight.shape[1]) ** 0.5,
                    )


def orthogonal(matrices: Tensor, steps: int = 4) -> Tensor:
    """The nearest matrices (rows <= columns) with singular values near one, by a Newton-Schulz iteration."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrices / (matrices.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x


def train(
    network: Network, batches: Batches, plan: Plan, folder: Path, report: Callable[[str], None]
) -> dict[str, float]:
    """Trains for ``plan.minutes`` and leaves checkpoints in ``folder``; returns tokens, steps and minutes."""
    matrices = [weight for name, weight in network.named_parameters() if weight.ndim == 2 and "embed" not in name]
    others = [weight for name, weight in network.named_parameters() if weight.ndim < 2 or "embed" in name]
    muon = Muon(matrices, plan.muon_rate)
    adam = torch.optim.AdamW(others, lr=plan.adam_rate, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.0)
    average = {name: weight.detach().clone() for name, weight in network.named_parameters()}
    began = saved = told = time.monotonic()
    tokens = steps = 0
    running = 0.0
    stream = batches.stream(plan.tokens)
    network.train()
    network.dropout = plan.dropout
    while (done := (time.monotonic() - began) / 60 / plan.minutes) < 1:
        rate = min(1.0, done / plan.warm_up + 0.02, max(0.0, (1 - done) / (1 - plan.decay_from)))
        for optimizer, top in ((muon, plan.muon_rate), (adam, plan.adam_rate)):
            for group in optimizer.param_groups:
                group["lr"] = top * rate
        batches.done = done
        batch = next(stream)
        hidden = network(batch.ids, batch.positions).flatten(0, 1)[batch.places]
        losses = F.cross_entropy(network.logits(hidden), batch.targets, reduction="none")
        loss = (losses * batch.weights).sum() / batch.weights.sum()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(others, 1.0)
        muon.step()
        adam.step()
        muon.zero_grad()
        adam.zero_grad()
        steps += 1
        tokens += batch.ids.numel()
        keep = min(plan.average, steps / (steps + 10))
        with torch.no_grad():
            for name, weight in network.named_parameters():
                average[name].lerp_(weight, 1 - keep)
        answered = batch.weights == 1
        running = 0.97 * running + 0.03 * float(losses.detach()[answered].mean() if answered.any() else loss.detach())
        now = time.monotonic()
        if now - told > 20:
            loss_now, speed = running / (1 - 0.97**steps), tokens / (now - began)
            report(f"{done:5.1%}  step {steps}  loss {loss_now:.3f}  rate {rate:.2f}  {speed:.0f} tokens/s")
            told = now
        if now - saved > 60 * plan.checkpoint_minutes:
            save(network, average, folder / "checkpoint.pt")
            saved = now
    save(network, average, folder / "checkpoint.pt")
    return {"tokens": tokens, "steps": steps, "minutes": (time.monotonic() - began) / 60}


def save(network: Network, average: dict[str, Tensor], path: Path) -> None:
    """Writes the averaged and the newest weights, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    torch.save({"shape": network.shape.config(), "average": average, "newest": network.state_dict()}, part)
    part.replace(path)
