"""Scores of inputs of which only some parts are kept: all sets of all samples in one stream of batches of one size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import accumulate

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from heatproof.errors import NotApplicable, UsageError
from heatproof.fills import Canvas, fills
from heatproof.methods.catalogue import method
from heatproof.probe import Goal, Probe
from heatproof.registry import Spec
from heatproof.segments import boxes
from heatproof.segments import segments as slic

Kept = Bool[Tensor, "_m _k"] | Float[Tensor, "_m _k"]  # samples may differ in both


@dataclass(frozen=True)
class Estimates:
    """Values of the parts of each sample, with standard errors.

    Attributes:
        values: one tensor (k,) a sample, float64. errors: likewise; 0 where nothing was drawn at random.
    """

    values: list[Float[Tensor, " _k"]]
    errors: list[Float[Tensor, " _k"]]


@dataclass(frozen=True, eq=False)
class Parts:
    """Inputs cut into parts that are kept or replaced by a fill.

    Attributes:
        labels: the part of each position, 0 to k - 1; samples may differ in k.
    """

    probe: Probe
    x: Float[Tensor, "n c *s"]
    goal: Goal
    labels: Int[Tensor, "n *s"]
    fill: Spec
    seeds: Int[Tensor, " n"]

    @cached_property
    def counts(self) -> list[int]:
        """The number of parts of each sample."""
        return [int(most) + 1 for most in self.labels.flatten(1).amax(1)]

    @cached_property
    def _blank(self) -> Tensor:
        return Canvas(self.x, self.fill, self.seeds).blank

    def scores(self, kept: Sequence[Kept]) -> list[Float[Tensor, " _m"]]:
        """The score of each sample with each set of its parts kept, float64.

        Args:
            kept: for each sample sets (m, k) of booleans, or of shares in [0, 1] to which parts are kept.

        Cost: one forward pass a set; memory for one batch.
        """
        runner = self.probe.runner(self.x)
        model = runner.quickest(self.x, max(map(len, kept)))
        start = [0, *accumulate(map(len, kept))]
        owner = torch.arange(len(kept)).repeat_interleave(torch.tensor([len(sets) for sets in kept]))
        widest = max(self.counts)

        def work(rows: slice) -> Tensor:
            samples = owner[rows]
            sets = [
                F.pad(kept[i][max(rows.start - start[i], 0) : rows.stop - start[i]], (0, widest - self.counts[i]))
                for i in range(int(samples[0]), int(samples[-1]) + 1)
            ]
            part = self.masked(samples, torch.cat(sets))
            return runner.scored(part, self.goal.take(samples.to(self.goal.classes.device)), model).double().cpu()

        return list(torch.cat(list(runner.batches(start[-1], work))).split([len(sets) for sets in kept]))

    def masked(self, samples: Int[Tensor, " m"], kept: Kept) -> Float[Tensor, "m c *s"]:
        """Samples with one set of their parts kept each, the rest from the fill."""
        samples = samples.to(self.x.device)
        labels = self.labels[samples]
        seen = kept.to(self.x.device).gather(1, labels.flatten(1)).reshape(labels.shape)
        if kept.dtype != torch.bool:
            return self._blank[samples] + seen[:, None].to(self.x) * (self.x[samples] - self._blank[samples])
        if fills[self.fill.name].imputes:
            return Canvas(self.x[samples], self.fill, self.seeds[samples]).without(~seen[None])
        return torch.where(seen[:, None], self.x[samples], self._blank[samples])

    def spread(self, values: Sequence[Float[Tensor, " _k"]]) -> Float[Tensor, "n *s"]:
        """Maps in which every position has the value of its part, undivided."""
        return torch.stack([value[labels] for value, labels in zip(values, self.labels.cpu(), strict=True)])


def parts(
    probe: Probe, x: Float[Tensor, "n c *s"], goal: Goal, seeds: Int[Tensor, " n"], segments: int, fill: str
) -> Parts:
    """Each sample cut into about ``segments`` segments of its own, by SLIC.

    Raises: UsageError where there are fewer positions, or where that gives one segment.
    """
    _check(x, segments)
    return Parts(probe, x, goal, slic(x, segments), fills.spec(fill), seeds.to(x.device))


def cells(
    probe: Probe, x: Float[Tensor, "n c *s"], goal: Goal, seeds: Int[Tensor, " n"], segments: int, fill: str
) -> Parts:
    """Every sample cut into the same grid of about ``segments`` equal boxes.

    Raises: as `parts`; NotApplicable for a fill that imputes.
    """
    _check(x, segments)
    spec = fills.spec(fill)
    if fills[spec.name].imputes:
        raise NotApplicable(f"fill {spec} cannot fade positions; choose black, mean, blur or noise")
    grid = boxes(x.shape[2:], segments).to(x.device)
    return Parts(probe, x, goal, grid.expand(len(x), *grid.shape), spec, seeds.to(x.device))


def _check(x: Tensor, segments: int) -> None:
    total, shape = math.prod(x.shape[2:]), "x".join(map(str, x.shape[2:]))
    if segments > total:
        raise UsageError(f"segments: got {segments} for inputs of {total} positions, expected at most {total}")
    if total > 1 and int(boxes(x.shape[2:], segments).max()) == 0:
        least = next(count for count in range(2, total + 1) if int(boxes(x.shape[2:], count).max()))
        raise UsageError(
            f"segments: {segments} of equal edges give one segment for inputs of {shape} positions; "
            f"expected at least {least}"
        )


def refused(samples: int, parts: int, least: int) -> UsageError:
    """What is said where there are too few samples for so many parts."""
    return UsageError(
        f"samples: got {samples} for {parts} segments, expected at least {least}; "
        f"ask for more samples or for fewer segments"
    )


@lru_cache(maxsize=4)
def subsets(k: int) -> Bool[Tensor, "m k"]:
    """All subsets of k parts, from the empty to the whole one."""
    return (torch.arange(2**k)[:, None] >> torch.arange(k) & 1).bool()


def sums_of_draws(influence: Float[Tensor, "m k"]) -> Float[Tensor, " k"]:
    """The standard error of a sum over independent draws; infinite for a single one."""
    if len(influence) < 2:
        return torch.full_like(influence[0], torch.inf)
    return influence.std(0).mul(len(influence) ** 0.5)


@method("segment-ablation", paper="1311.2901", compares=True, limits={"segments": 2})
def segment_ablation(
    probe: Probe,
    x: Float[Tensor, "n c *s"],
    goal: Goal,
    *,
    seeds: Int[Tensor, " n"],
    segments: int = 16,
    fill: str = "mean",
) -> Float[Tensor, "n *s"]:
    """The score lost when the segment of the position is replaced by the fill, one segment at a time.

    Segments are those of SLIC. Every position has the value of its segment, undivided.
    Deviates: segments of the sample stand for the paper's sliding square; the score is the margin.
    Range: signed.
    Cost: ``segments`` + 1 forward passes.
    """
    cut = parts(probe, x, goal, seeds, segments, fill)
    kept = [torch.cat([torch.ones(1, k, dtype=torch.bool), ~torch.eye(k, dtype=torch.bool)]) for k in cut.counts]
    return cut.spread([score[0] - score[1:] for score in cut.scores(kept)])
