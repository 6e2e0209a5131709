"""Shapley values of segments: exact where the samples suffice for all sets, else by regression or random orders."""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import combinations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from heatproof import draws
from heatproof.methods.catalogue import method
from heatproof.methods.coalitions import Estimates, Parts, parts, refused, subsets, sums_of_draws
from heatproof.probe import Goal, Probe


@method("shapley-sampling", paper="10.1016/j.cor.2008.04.004", compares=True, limits={"segments": 2, "samples": 2})
def shapley_sampling(
    probe: Probe,
    x: Float[Tensor, "n c *s"],
    goal: Goal,
    *,
    seeds: Int[Tensor, " n"],
    segments: int = 16,
    samples: int = 400,
    fill: str = "mean",
) -> Float[Tensor, "n *s"]:
    """What the segment of the position adds to the score, averaged over random orders of adding segments.

    Each order is joined by its reverse. All subsets are used, and the values exact, where ``samples`` suffices for them
    (2^k - 2 for k segments). Every position has the value of its segment, undivided.
    Deviates: the score is the margin.
    Range: signed; the values of the segments add up to the score of the input less that of the fill.
    Cost: at most ``samples`` + 2 forward passes.
    Raises: UsageError where ``samples`` does not suffice for one order and its reverse, 2 (k - 1).
    """
    cut = parts(probe, x, goal, seeds, segments, fill)
    return cut.spread(shapley_estimates(cut, samples).values)


@method("kernel-shap", paper="1705.07874", compares=True, label="KernelSHAP", limits={"segments": 2, "samples": 2})
def kernel_shap(
    probe: Probe,
    x: Float[Tensor, "n c *s"],
    goal: Goal,
    *,
    seeds: Int[Tensor, " n"],
    segments: int = 16,
    samples: int = 400,
    fill: str = "mean",
) -> Float[Tensor, "n *s"]:
    """The Shapley value of the segment of the position, by the regression of theorem 2.

    Sets are weighted by the Shapley kernel. Sizes that fit are taken whole, others drawn in pairs of a set and its
    complement; with all 2^k - 2 sets of k segments the values are exact. Every position has the value of its segment,
    undivided.
    Deviates: the score is the margin.
    Range: signed; the values of the segments add up to the score of the input less that of the fill.
    Cost: at most ``samples`` + 2 forward passes.
    Raises: UsageError for fewer than 4 k samples that are not all sets either.
    """
    cut = parts(probe, x, goal, seeds, segments, fill)
    return cut.spread(kernel_estimates(cut, samples).values)


def shapley_estimates(cut: Parts, samples: int) -> Estimates:
    """Shapley values from random orders, and their standard errors.

    Cost: at most ``samples`` + 2 forward passes.
    Raises: UsageError for too few samples.
    """
    sets = []
    for seed, k in zip(cut.seeds.cpu().split(1), cut.counts, strict=True):
        if 2**k - 2 <= samples:
            sets.append(subsets(k))
            continue
        if samples < 2 * (k - 1):
            raise refused(samples, k, 2 * (k - 1))
        places = _places(seed, k, samples // (2 * (k - 1)))
        steps = (places[:, None] < torch.arange(1, k)[:, None]).flatten(0, 1)
        sets.append(torch.cat([torch.zeros(1, k, dtype=torch.bool), steps, torch.ones(1, k, dtype=torch.bool)]))
    estimates = Estimates([], [])
    for seed, scores, kept in zip(cut.seeds.cpu().split(1), cut.scores(sets), sets, strict=True):
        k = kept.shape[1]
        if 2**k - 2 <= samples:
            values, errors = exact(scores, k), torch.zeros(k, dtype=torch.float64)
        else:
            places = _places(seed, k, samples // (2 * (k - 1)))
            inner = scores[1:-1].reshape(len(places), k - 1)
            ends = scores[[0, -1]].expand(len(places), 2)
            added = torch.cat([ends[:, :1], inner, ends[:, 1:]], dim=1).diff(dim=1).gather(1, places)
            pairs = added.unflatten(0, (-1, 2)).mean(1)
            values, errors = pairs.mean(0), sums_of_draws(pairs / len(pairs))
        estimates.values.append(values)
        estimates.errors.append(errors)
    return estimates


def _places(seed: Int[Tensor, " 1"], k: int, pairs: int) -> Int[Tensor, "m k"]:
    """The place of each part in random orders, each followed by its reverse."""
    places = draws.permutation(seed * 1009 + torch.arange(pairs), k)
    return torch.stack([places, k - 1 - places], dim=1).flatten(0, 1)


def exact(scores: Float[Tensor, " m"], k: int) -> Float[Tensor, " k"]:
    """The Shapley values from the scores of all `subsets`."""
    sets = subsets(k)
    size = sets.sum(1)
    with_it = torch.tensor([0.0, *(1 / (k * math.comb(k - 1, s - 1)) for s in range(1, k + 1))], dtype=torch.float64)
    without = torch.tensor([*(1 / (k * math.comb(k - 1, s)) for s in range(k)), 0.0], dtype=torch.float64)
    return torch.where(sets, with_it[size, None], -without[size, None]).T @ scores


def kernel_estimates(cut: Parts, samples: int) -> Estimates:
    """Shapley values by the weighted regression, and their standard errors.

    Only drawn sets add to the error; it is that of the solution linearised about itself, a pair being one draw.
    Cost: at most ``samples`` + 2 forward passes.
    Raises: UsageError for too few samples.
    """
    designs = [_design(seed, k, samples) for seed, k in zip(cut.seeds.cpu().split(1), cut.counts, strict=True)]
    sets = []
    for kept, _, _ in designs:
        ends = torch.zeros(1, kept.shape[1], dtype=torch.bool)
        sets.append(torch.cat([ends, kept, ~ends]))
    estimates = Estimates([], [])
    for scores, (kept, weights, pairs) in zip(cut.scores(sets), designs, strict=True):
        values, errors = _solved(kept.double(), weights, scores, pairs)
        estimates.values.append(values)
        estimates.errors.append(errors)
    return estimates


def _solved(
    sets: Float[Tensor, "m k"], weights: Float[Tensor, " m"], scores: Float[Tensor, " l"], pairs: int
) -> tuple[Float[Tensor, " k"], Float[Tensor, " k"]]:
    """The least squares under the constraint that the values add up, by its Lagrangian, and standard errors."""
    k = sets.shape[1]
    gain, lost = scores[-1] - scores[0], scores[1:-1] - scores[0]
    if k == 1:
        return gain[None], torch.zeros(1, dtype=torch.float64)
    inverse = torch.linalg.inv(sets.T @ (weights[:, None] * sets))
    column = inverse.sum(1)
    reach = inverse - column[:, None] * column / column.sum()
    values = reach @ (sets.T @ (weights * lost)) + column * (gain / column.sum())
    if not pairs:
        return values, torch.zeros_like(values)
    tail = slice(len(sets) - 2 * pairs, None)
    residual = weights[tail] * (lost[tail] - sets[tail] @ values)
    influence = (residual[:, None] * (sets[tail] @ reach)).unflatten(0, (2, pairs)).sum(0)
    return values, sums_of_draws(influence)


def _mass(k: int, size: int) -> float:
    """The weight that the Shapley kernel gives to all sets of a size and, where that differs, of its complement."""
    return (k - 1) / (size * (k - size)) * (1 if 2 * size == k else 2)


@lru_cache(maxsize=8)
def _whole(k: int, samples: int) -> tuple[Bool[Tensor, "m k"], Float[Tensor, " m"], int]:
    """The sets of the sizes that are taken whole, their weights, and the least size that is not.

    A size is taken whole where as many draws as its sets, or more, would be expected to fall to it.
    """
    sets, weights, left = [], [], samples
    for size in range(1, k // 2 + 1):
        sizes = {size, k - size}
        share = _mass(k, size) / sum(_mass(k, s) for s in range(size, k // 2 + 1))
        count = len(sizes) * math.comb(k, size)
        if 2**k - 2 > samples and size > 1 and left * share < count:
            break
        for many in sorted(sizes):
            members = torch.tensor(list(combinations(range(k), many)))
            sets.append(torch.zeros(len(members), k, dtype=torch.bool).scatter_(1, members, True))
        weights += [_mass(k, size) / count] * count
        left -= count
    else:
        size = k // 2 + 1
    return torch.cat(sets), torch.tensor(weights, dtype=torch.float64), size


def _design(seed: Int[Tensor, " 1"], k: int, samples: int) -> tuple[Bool[Tensor, "m k"], Float[Tensor, " m"], int]:
    """Sets, weights, and how many pairs are drawn: these stand last, the sets before their complements."""
    if k == 1:
        return torch.zeros(0, 1, dtype=torch.bool), torch.zeros(0, dtype=torch.float64), 0
    least = min(4 * k, 2**k - 2)
    if samples < least:
        raise refused(samples, k, least)
    sets, weights, start = _whole(k, samples)
    if start > k // 2:
        return sets, weights, 0
    pairs = (samples - len(sets)) // 2
    mass = torch.tensor([_mass(k, s) for s in range(start, k // 2 + 1)], dtype=torch.float64)
    drawn = draws.uniform(seed, (pairs, k + 1))[0]
    size = start + (drawn[:, :1] > mass.cumsum(0) / mass.sum()).sum(1).clamp_max(len(mass) - 1)
    chosen = drawn[:, 1:].argsort(1).argsort(1) < size[:, None]
    weight = torch.full((2 * pairs,), float(mass.sum()) / (2 * pairs), dtype=torch.float64)
    return torch.cat([sets, chosen, ~chosen]), torch.cat([weights, weight]), pairs
