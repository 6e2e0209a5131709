"""Small networks of several architectures for signals, images and volumes, trained in seconds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from heatproof.nets.blocks import CONV, MAX_POOL, GlobalAverage, NormBlock
from heatproof.records import Samples

Shape = tuple[int, ...]  # (C, *S)
WIDTH = {1: (16, 32, 32), 2: (12, 24, 32), 3: (8, 16, 16)}


def pooled(shape: Shape, outputs: int) -> nn.Module:
    """Three convolutions, one halving, the mean over positions."""
    rank, (a, b, c) = len(shape) - 1, WIDTH[len(shape) - 1]
    return nn.Sequential(
        NormBlock(rank, shape[0], a), MAX_POOL[rank](2), NormBlock(rank, a, b), NormBlock(rank, b, c),
        GlobalAverage(rank), nn.Linear(c, outputs),
    )  # fmt: skip


def flat(shape: Shape, outputs: int) -> nn.Module:
    """Two convolutions, two halvings, and dense layers over all positions."""
    rank, (a, b, _) = len(shape) - 1, WIDTH[len(shape) - 1]
    left = b
    for length in shape[1:]:
        left *= length // 4
    return nn.Sequential(
        NormBlock(rank, shape[0], a, 5 if rank == 1 else 3), MAX_POOL[rank](2), NormBlock(rank, a, b),
        MAX_POOL[rank](2), nn.Flatten(), nn.Dropout(0.3), nn.Linear(left, 48), nn.ReLU(), nn.Linear(48, outputs),
    )  # fmt: skip


class Step(nn.Module):
    """Two convolutions beside a shortcut."""

    def __init__(self, rank: int, before: int, after: int, stride: int = 1) -> None:
        super().__init__()
        self.first = NormBlock(rank, before, after, stride=stride)
        self.second = CONV[rank](after, after, 3, padding=1)
        same = before == after and stride == 1
        self.way = nn.Identity() if same else CONV[rank](before, after, 1, stride=stride)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.relu(self.second(self.first(x)) + self.way(x))
        return y


def residual(shape: Shape, outputs: int) -> nn.Module:
    """A stem and three residual steps, the mean over positions, and two dense layers."""
    rank, (a, b, c) = len(shape) - 1, WIDTH[len(shape) - 1]
    return nn.Sequential(
        NormBlock(rank, shape[0], a), MAX_POOL[rank](2) if rank < 3 else nn.Identity(),
        Step(rank, a, a), Step(rank, a, b, 2), Step(rank, b, c),
        GlobalAverage(rank), nn.Linear(c, 32), nn.ReLU(), nn.Linear(32, outputs),
    )  # fmt: skip


class Block(nn.Module):
    """Self-attention and a small network for each token, both beside a shortcut."""

    def __init__(self, width: int, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.before, self.after = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: Float[Tensor, "n t d"]) -> Float[Tensor, "n t d"]:
        n, tokens, width = x.shape
        qkv = self.qkv(self.before(x)).reshape(n, tokens, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, tokens, width)
        x = x + self.out(mixed)
        y: Tensor = x + self.mlp(self.after(x))
        return y


class Transformer(nn.Module):
    """A convolutional stem, patches as tokens, two blocks, and a class token that is read."""

    def __init__(self, shape: Shape, outputs: int, width: int = 40) -> None:
        super().__init__()
        rank, patch = len(shape) - 1, {1: 4, 2: 4, 3: 3}[len(shape) - 1]
        tokens = 1
        for length in shape[1:]:
            tokens *= length // patch
        self.stem = NormBlock(rank, shape[0], 16, 5 if rank == 1 else 3)
        self.patches = CONV[rank](16, width, patch, stride=patch)
        self.first = nn.Parameter(torch.zeros(1, 1, width))
        self.place = nn.Parameter(0.02 * torch.randn(1, 1 + tokens, width))
        self.blocks = nn.Sequential(Block(width), Block(width))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(self.stem(x)).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.first.expand(len(x), -1, -1), tokens], dim=1) + self.place
        y: Tensor = self.head(self.norm(self.blocks(tokens))[:, 0])
        return y


class Recurrent(nn.Module):
    """A convolution, a recurrent layer in both directions, the mean over time."""

    def __init__(self, shape: Shape, outputs: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(NormBlock(1, shape[0], 16, 5), nn.MaxPool1d(2), NormBlock(1, 16, 24))
        self.memory = nn.GRU(24, 24, batch_first=True, bidirectional=True)
        self.head = nn.Linear(48, outputs)

    def forward(self, x: Tensor) -> Tensor:
        states, _ = self.memory(self.stem(x).transpose(1, 2))
        y: Tensor = self.head(states.mean(1))
        return y


def single(shape: Shape, outputs: int) -> nn.Module:
    """The residual network for two classes with one logit."""
    if outputs != 2:
        raise ValueError(f"single: got {outputs} classes, expected 2")
    return residual(shape, 1)


NETS: Mapping[str, Callable[[Shape, int], nn.Module]] = {
    "pooled": pooled, "flat": flat, "residual": residual, "transformer": Transformer, "recurrent": Recurrent,
    "single": single,
}  # fmt: skip
LEARNT = 0.985  # share of the training samples of an epoch
RATES = {"transformer": 0.003, "recurrent": 0.008, "flat": 0.004}


def trained(name: str, samples: Samples, *, epochs: int, seed: int, batch: int = 48) -> nn.Module:
    """The network after AdamW, in evaluation mode; the samples are shifted a little in each batch.

    The rate is constant until nearly all training samples are classified correctly, or all epochs but two are over,
    and falls to zero in two more.
    """
    x, y = samples.x, samples.y
    if not isinstance(x, Tensor):
        raise TypeError("training samples have to be in memory")
    epochs = 2 * epochs if name == "transformer" else epochs
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = NETS[name](tuple(x.shape[1:]), len(samples.classes))
        optimiser = torch.optim.AdamW(model.parameters(), RATES.get(name, 0.008), weight_decay=0.02)
        for epoch in range(epochs - 2):
            if _epoch(model, optimiser, x, y, batch, (min(1.0, 0.25 + epoch), min(1.0, 0.25 + epoch))) >= LEARNT:
                break
        _epoch(model, optimiser, x, y, batch, (0.75, 0.3))
        _epoch(model, optimiser, x, y, batch, (0.3, 0.0))
    return model.eval()


def _epoch(
    model: nn.Module, optimiser: torch.optim.Optimizer, x: Tensor, y: Tensor, batch: int, factor: tuple[float, float]
) -> float:
    """One pass over the samples while the rate goes from one factor to the other; how many were correct."""
    axes, correct = tuple(range(2, x.ndim)), 0.0
    rate = optimiser.defaults["lr"]
    parts = torch.randperm(len(x))[: len(x) // batch * batch].split(batch)
    for k, rows in enumerate(parts):
        for group in optimiser.param_groups:
            group["lr"] = rate * (factor[0] + (factor[1] - factor[0]) * k / len(parts))
        moved = torch.roll(x[rows], torch.randint(-2, 3, (len(axes),)).tolist(), axes)
        logits = model(moved)
        optimiser.zero_grad()
        cost(logits, y[rows]).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        correct += float((classes(logits) == y[rows]).double().mean()) / len(parts)
    return correct


def classes(logits: Float[Tensor, "n k"]) -> Int[Tensor, " n"]:
    """The predicted classes."""
    return (logits[:, 0] > 0).long() if logits.shape[1] == 1 else logits.argmax(1)


def cost(logits: Float[Tensor, "n k"], y: Int[Tensor, " n"]) -> Tensor:
    """Cross entropy, also of one logit for two classes."""
    if logits.shape[1] == 1:
        return F.binary_cross_entropy_with_logits(logits[:, 0], y.to(logits.dtype))
    return F.cross_entropy(logits, y)


def accuracy(model: nn.Module, samples: Samples) -> float:
    """The share of samples that are classified correctly."""
    x: Any = samples.x
    with torch.no_grad():
        logits = torch.cat([model(part) for part in x.split(256)])
    return float((classes(logits) == samples.y).double().mean())
