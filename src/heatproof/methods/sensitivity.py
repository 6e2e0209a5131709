"""Maps from how much of the score's variation, or of its dependence, is due to each cell of a grid."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from heatproof import draws
from heatproof.methods.catalogue import method
from heatproof.methods.coalitions import Estimates, Parts, cells, refused
from heatproof.probe import Goal, Probe

STILL = 1e-6  # differences of scores, as a share of the largest score, that rounding alone makes


@method("sobol", paper="2111.04138", range=(0, None), compares=True, limits={"segments": 2, "samples": 2})
def sobol(
    probe: Probe,
    x: Float[Tensor, "n c *s"],
    goal: Goal,
    *,
    seeds: Int[Tensor, " n"],
    segments: int = 16,
    samples: int = 544,
    fill: str = "mean",
) -> Float[Tensor, "n *s"]:
    """The share of the score's variance in which the cell of the position takes part (total Sobol index).

    A grid of about ``segments`` equal cells is faded into the fill, each to a share of its own between 0 and 1: a Sobol
    sequence, shifted at random for each sample. Estimator of Jansen. Every position has the value of its cell,
    undivided; 0 where the score does not vary.
    Deviates: the score is the margin.
    Range: at least 0.
    Cost: at most ``samples`` forward passes, k + 1 a point of the sequence for k cells.
    Raises: UsageError for fewer than 2 (k + 1) samples; NotApplicable for a fill that imputes.
    """
    cut = cells(probe, x, goal, seeds, segments, fill)
    return cut.spread(sobol_estimates(cut, samples).values)


def sobol_estimates(cut: Parts, samples: int) -> Estimates:
    """Total Sobol indices, and their standard errors as if the points were independent, the variance taken as known.

    Cost: at most ``samples`` forward passes.
    Raises: UsageError for too few samples.
    """
    k = cut.counts[0]
    points = samples // (k + 1)
    if points < 2:
        raise refused(samples, k, 2 * (k + 1))
    sequence = torch.quasirandom.SobolEngine(2 * k).draw(points, dtype=torch.float64)
    sets = [_mixtures((sequence + shift) % 1, k) for shift in draws.uniform(cut.seeds.cpu(), (2 * k,))]
    estimates = Estimates([], [])
    for scores in cut.scores(sets):
        first, changed = scores[:points], scores[points:].reshape(k, points)
        variance = first.var()
        if float(variance) <= (STILL * float(scores.abs().max())) ** 2:
            variance = variance.new_tensor(torch.inf)
        squares = (first - changed).square() / (2 * variance)
        estimates.values.append(squares.mean(1))
        estimates.errors.append(squares.std(1) / points**0.5)
    return estimates


def _mixtures(sequence: Float[Tensor, "m j"], k: int) -> Float[Tensor, "l k"]:
    """The points A, and then for each cell A with that cell from B."""
    first, second = sequence[:, :k], sequence[:, k:]
    changed = torch.where(torch.eye(k, dtype=torch.bool)[:, None], second, first)
    return torch.cat([first, changed.flatten(0, 1)])


@method("hsic", paper="2206.06219", range=(0, None), compares=True, label="HSIC", limits={"segments": 2, "samples": 4})
def hsic(
    probe: Probe,
    x: Float[Tensor, "n c *s"],
    goal: Goal,
    *,
    seeds: Int[Tensor, " n"],
    segments: int = 16,
    samples: int = 400,
    fill: str = "mean",
) -> Float[Tensor, "n *s"]:
    """How much the score depends on whether the cell of the position is kept (HSIC).

    The Hilbert-Schmidt independence criterion: each of about ``segments`` equal cells is kept in a random half of the
    samples. Kernels: equality for cells; Gaussian for scores, as wide as the median of their distances. Every position
    has the value of its cell, undivided.
    Deviates: distances of 0 do not count for the median; the score is the margin.
    Range: at least 0.
    Cost: ``samples`` forward passes.
    Raises: UsageError for fewer samples than cells.
    """
    cut = cells(probe, x, goal, seeds, segments, fill)
    k = cut.counts[0]
    if samples < k:
        raise refused(samples, k, k)
    ranks = draws.uniform(cut.seeds.cpu(), (samples, k)).argsort(1).argsort(1)
    kept = (ranks < samples // 2).unbind()
    values = []
    for scores, sets in zip(cut.scores(kept), kept, strict=True):
        similar = _similar(scores)
        centred = similar - similar.mean(0) - similar.mean(1, keepdim=True) + similar.mean()
        half = sets.double()
        values.append(2 * (half * (centred @ half)).sum(0).clamp_min(0) / (samples - 1) ** 2)
    return cut.spread(values)


def _similar(scores: Float[Tensor, " m"]) -> Float[Tensor, "m m"]:
    """The Gaussian kernel of the scores; 1 everywhere where they do not vary."""
    distance = (scores[:, None] - scores).abs()
    apart = distance[distance > STILL * scores.abs().max()]
    width = apart.median() if len(apart) else scores.new_tensor(torch.inf)
    return torch.exp(-distance.square() / (2 * width**2))
