"""Sums over the gradients at many changes of each sample, streamed in batches of one size."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from heatproof import draws
from heatproof.probe import Goal, Probe

Make = Callable[[Tensor, Tensor], Tensor]
Terms = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, ...]]


def totals(
    probe: Probe, x: Float[Tensor, "n c *s"], goal: Goal, count: int, make: Make, terms: Terms
) -> list[Float[Tensor, "n c *s"]]:
    """The sums over ``count`` changes of each sample of what ``terms`` makes of their gradients, float64.

    Args:
        make: (samples (m,), changes (m,)) -> inputs (m, C, *S).
        terms: (samples, changes, gradients in float64) -> tensors (m, C, *S), each summed by itself; called for each
            batch after ``make``, before the next one.

    Cost: n * count forward and backward passes; memory for one batch and the sums.
    """
    sums: list[Tensor] = []
    for samples, changes, slope in probe.runner(x).slopes(x, goal, count, make):
        parts = terms(samples, changes, slope.double())
        sums = sums or [slope.new_zeros(x.shape, dtype=torch.float64) for _ in parts]
        places, counts = samples.unique_consecutive(return_counts=True)
        for total, part in zip(sums, parts, strict=True):
            for place, own in zip(places.tolist(), part.split(counts.tolist()), strict=True):
                total[place] += own.sum(0)
    return sums


def streams(
    seeds: Int[Tensor, " n"], samples: Int[Tensor, " m"], changes: Int[Tensor, " m"], label: str
) -> Int[Tensor, " m"]:
    """One seed a change of a sample, for the purpose named."""
    return draws.seeds(0, label, seeds.to(samples.device)[samples] * 1009 + changes)
