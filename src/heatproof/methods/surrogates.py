"""Weights of a linear model that stands in for the classifier near the input."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from heatproof import draws
from heatproof.methods.catalogue import method
from heatproof.methods.coalitions import Estimates, Parts, parts, refused, subsets, sums_of_draws
from heatproof.probe import Goal, Probe


@method(
    "lime",
    paper="1602.04938",
    compares=True,
    label="LIME",
    limits={"segments": 2, "samples": 2, "width": 0.05, "ridge": 1e-9},
)
def lime(
    probe: Probe,
    x: Float[Tensor, "n c *s"],
    goal: Goal,
    *,
    seeds: Int[Tensor, " n"],
    segments: int = 16,
    samples: int = 400,
    width: float = 0.25,
    ridge: float = 1.0,
    fill: str = "mean",
) -> Float[Tensor, "n *s"]:
    """The weight of the segment of the position in a linear model of the score of sets of segments (equation 1).

    Ridge regression on random sets, in pairs with their complements, or on all 2^k sets of k segments where ``samples``
    suffices. A set weighs exp(-d^2 / (2 ``width``^2)), d its cosine distance from the whole. Positions have the value
    of their segment, undivided.
    Deviates: all segments stay in the model, with the penalty ``ridge``; the score is the margin.
    Range: signed.
    Cost: ``samples`` forward passes.
    Raises: UsageError for fewer than 2 (k + 1) samples that are not all sets either.
    """
    cut = parts(probe, x, goal, seeds, segments, fill)
    return cut.spread(lime_estimates(cut, samples, width, ridge).values)


def lime_estimates(cut: Parts, samples: int, width: float = 0.25, ridge: float = 1.0) -> Estimates:
    """The weights of the linear model, and their standard errors.

    The error is that of the solution linearised about itself, a pair being one draw; it is 0 where all sets are used.
    Cost: ``samples`` forward passes.
    Raises: UsageError for too few samples.
    """
    designs = [_design(seed, k, samples) for seed, k in zip(cut.seeds.cpu().split(1), cut.counts, strict=True)]
    estimates = Estimates([], [])
    for scores, (kept, pairs) in zip(cut.scores([kept for kept, _ in designs]), designs, strict=True):
        sets = kept.double()
        weights = nearness(sets, width)
        total = weights.sum()
        centred = sets - weights @ sets / total
        slope = scores - weights @ scores / total
        system = centred.T @ (weights[:, None] * centred) + ridge * torch.eye(sets.shape[1], dtype=torch.float64)
        values = torch.linalg.solve(system, centred.T @ (weights * slope))
        errors = torch.zeros_like(values)
        if pairs:
            residual = weights * (slope - centred @ values)
            influence = torch.linalg.solve(system, (residual[:, None] * centred).T).T
            errors = sums_of_draws(influence.unflatten(0, (2, pairs)).sum(0))
        estimates.values.append(values)
        estimates.errors.append(errors)
    return estimates


def nearness(sets: Float[Tensor, "m k"], width: float) -> Float[Tensor, " m"]:
    """exp(-d^2 / (2 width^2)) of each set, d = 1 - cosine with the whole; the empty set has d = 1."""
    distance = 1 - sets.mean(1).sqrt()
    return torch.exp(-distance.square() / (2 * width**2))


def _design(seed: Int[Tensor, " 1"], k: int, samples: int) -> tuple[Bool[Tensor, "m k"], int]:
    """Sets, and how many pairs are drawn: first the sets, then their complements."""
    if 2**k <= samples:
        return subsets(k), 0
    least = min(2 * (k + 1), 2**k)
    if samples < least:
        raise refused(samples, k, least)
    chosen = draws.uniform(seed, (samples // 2, k))[0] < 0.5
    return torch.cat([chosen, ~chosen]), samples // 2
