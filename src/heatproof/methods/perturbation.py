"""Maps from what happens to the score when parts of the input are hidden, streamed in batches of one size."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import product

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from heatproof import draws, spatial
from heatproof.methods.catalogue import method
from heatproof.probe import Goal, Probe


@method("rise", paper="1806.07421", compares=True, limits={"masks": 1, "cells": 1, "keep": 1e-6}, label="RISE")
def rise(
    probe: Probe,
    x: Float[Tensor, "n c *s"],
    goal: Goal,
    *,
    seeds: Int[Tensor, " n"],
    masks: int = 400,
    cells: int = 7,
    keep: float = 0.5,
) -> Float[Tensor, "n *s"]:
    """The mean score of randomly masked inputs in which a position is visible (equation 6).

    Masks are ``cells`` random on-off cells an axis, on with chance ``keep``, enlarged and shifted at random; what is
    hidden is 0.
    Deviates: the score is the margin unless ``score=probability``, the paper's, is asked for. The sum is divided by how
    far masks show the position, not by the expectation of that, so that the level of the scores adds no noise; a
    position that no mask shows has their mean.
    Range: that of the score.
    Cost: ``masks`` forward passes; memory for one batch.
    """
    size = x.shape[2:]
    grid = tuple(min(cells, s) for s in size)
    total, shown = (torch.zeros(len(x), *size, dtype=torch.float64) for _ in range(2))
    level = torch.zeros(len(x), dtype=torch.float64)
    veils: list[Tensor] = []

    def parts() -> Iterator[tuple[Tensor, Goal]]:
        for which in torch.arange(masks).split(max(1, probe.rows(x) // len(x))):
            own = (seeds[:, None].cpu() * 1009 + which).flatten()
            veils.append(_veils(own, grid, size, keep))
            samples = torch.arange(len(x), device=x.device).repeat_interleave(len(which))
            yield x[samples] * veils[-1][:, None].to(x), goal.take(samples.to(goal.classes.device))

    for scores in probe.stream(x, masks, parts()):
        veil = veils.pop().unflatten(0, (len(x), -1))
        own = scores.double().cpu().reshape(len(x), -1)
        total += torch.einsum("nk,nk...->n...", own, veil)
        shown += veil.sum(1)
        level += own.sum(1) / masks
    return torch.where(shown > 0, total / shown.clamp_min(1e-300), spatial.like(level, shown))


def _veils(seeds: Int[Tensor, " m"], grid: tuple[int, ...], size: torch.Size, keep: float) -> Float[Tensor, "m *s"]:
    """Random cells enlarged, and cut out at a random place; one more cell an axis than are seen."""
    cell = [math.ceil(s / g) for s, g in zip(size, grid, strict=True)]
    cells = [g + 1 for g in grid]
    drawn = draws.uniform(seeds, [math.prod(cells) + len(size)])
    on = (drawn[:, len(size) :] < keep).double().unflatten(1, cells)
    large = spatial.resize(on, [n * c for n, c in zip(cells, cell, strict=True)])
    shift = (drawn[:, : len(size)] * torch.tensor(cell)).long().tolist()
    return torch.stack(
        [
            one[tuple(slice(a, a + s) for a, s in zip(at, size, strict=True))]
            for one, at in zip(large, shift, strict=True)
        ]
    )


@method("occlusion", paper="1311.2901", compares=True, limits={"window": 0, "stride": 1e-6})
def occlusion(
    probe: Probe,
    x: Float[Tensor, "n c *s"],
    goal: Goal,
    *,
    window: float = 0.15,
    stride: float = 0.5,
    fill: float = 0.0,
) -> Float[Tensor, "n *s"]:
    """The score lost when a window that covers the position is set to ``fill``, averaged over the windows.

    ``window`` is a share of each axis, ``stride`` a share of the window.
    Deviates: the score is the margin unless ``score=probability``, the paper's, is asked for.
    Range: signed.
    Cost: one forward pass a window place.
    """
    size = x.shape[2:]
    width = [max(1, round(window * s)) for s in size]
    step = [max(1, round(stride * w)) for w in width]
    starts = [sorted({*range(0, s - w + 1, t), s - w}) for s, w, t in zip(size, width, step, strict=True)]
    holes = torch.zeros(math.prod(map(len, starts)), *size, dtype=torch.bool)
    for i, corner in enumerate(product(*starts)):
        holes[i][tuple(slice(a, a + w) for a, w in zip(corner, width, strict=True))] = True
    runner = probe.runner(x)
    model = runner.quickest(x, len(holes))
    whole = runner.scored(x, goal, model)
    scores = runner.variants(
        x, goal, len(holes), lambda n, k: x[n].masked_fill(holes[k, None].to(x.device), fill), model
    )
    lost = (whole[:, None] - scores).double().cpu()
    return F.linear(lost, holes.flatten(1).double().T).reshape(len(x), *size) / holes.double().sum(0)
