"""What the evidence itself shows: how far it is concentrated, and how reliable it is for each class."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float

from heatproof import stats
from heatproof.probe.worth import Windows
from heatproof.records import Estimate
from heatproof.results.evidence import Evidence
from heatproof.results.record import Results

FEW = 10  # samples, or samples of a class, below which nothing is concluded of their evidence
SPREAD = 0.15  # the concentration below which evidence is called spread out
ROWS = 32  # samples whose evidence is laid out at a time


@dataclass(frozen=True)
class ClassEvidence:
    """The evidence of the samples of one class.

    Attributes:
        name: of the class, or of the label explained. samples: how many there are.
        reliability: the correlation of the windows' worths between the two donors, with interval.
        concentration: how much denser the evidence is where it lies than on average, with interval.
    """

    name: str
    samples: int
    reliability: Estimate
    concentration: Estimate


def reliability(evidence: Evidence) -> Float[np.ndarray, " n"]:
    """For each sample the correlation, over windows of a size, of their worths between its donors; mean over sizes."""
    values = []
    for scale in np.unique(evidence.scale):
        first, second = (evidence.values[:, d][:, evidence.scale == scale] for d in (0, -1))
        a, b = first - first.mean(axis=1, keepdims=True), second - second.mean(axis=1, keepdims=True)
        size = np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1))
        values.append(np.divide((a * b).sum(axis=1), size, out=np.full(len(a), np.nan), where=size > 0))
    alike = evidence.donors[:, 0] == evidence.donors[:, -1]
    return np.where(alike, np.nan, _mean(values))


def concentration(evidence: Evidence, size: tuple[int, ...]) -> Float[np.ndarray, " n"]:
    """How much denser the evidence of each sample is where it lies than on average; 0 if it is even.

    The density at a position is the share of the margin between sample and donor that the smallest windows over it
    hold, divided by the windows' share a of the positions: 1 where all positions count alike. Its mean is weighted by
    what another donor's density exceeds its own average by, so that chance does not count; less the plain mean, times
    the root of a. Densities of unequal but independent places vary as 1 / sqrt(a), in any number of axes. NaN where a
    sample has a single donor.
    """
    smallest = evidence.scale == evidence.scale.min()
    area = float(evidence.widths[smallest][0].prod() / np.prod(size))
    parts = [_densest(evidence, smallest, size, slice(k, k + ROWS)) for k in range(0, len(evidence.values), ROWS)]
    excess = np.concatenate(parts) if parts else np.empty(0)
    independent = evidence.donors[:, 0] != evidence.donors[:, -1]
    return np.where((evidence.span > 0).all(axis=1) & independent, excess / math.sqrt(area), np.nan)


def _densest(
    evidence: Evidence, smallest: Bool[np.ndarray, " k"], size: tuple[int, ...], rows: slice
) -> Float[np.ndarray, " m"]:
    """By how much the share that a window holds is greater where another donor's is, for some of the samples."""
    starts, widths, scale = (
        torch.from_numpy(np.ascontiguousarray(v))
        for v in (evidence.starts[rows][:, smallest], evidence.widths[smallest], evidence.scale[smallest])
    )
    windows = Windows(starts, widths, scale, size)
    held = list[np.ndarray]()
    for donor in (0, -1):
        worth, span = evidence.values[rows][:, donor][:, smallest], evidence.span[rows][:, donor, None]
        with np.errstate(divide="ignore", invalid="ignore"):
            share = np.where(span > 0, (worth / span + 1) / 2, np.nan)
        held.append(windows.spread(torch.from_numpy(share)).flatten(1).numpy())
    excess = [value - value.mean(axis=1, keepdims=True) for value in held]
    values = []
    for weight, read in ((excess[0], excess[1]), (excess[1], excess[0])):
        positive = np.maximum(weight, 0)
        total = positive.sum(axis=1)
        values.append(np.divide((positive * read).sum(axis=1), total, out=np.zeros_like(total), where=total > 0))
    mean: np.ndarray = (values[0] + values[1]) / 2
    return mean


def by_class(results: Results) -> tuple[ClassEvidence, ...]:
    """The evidence of each class (or label explained), where there are classes and evidence."""
    evidence, strata = results.evidence, results.strata
    if evidence is None or strata is None:
        return ()
    columns = [reliability(evidence), concentration(evidence, results.size)]
    rows = []
    for k, name in enumerate(results.classes):
        members = np.flatnonzero(strata == k)
        groups = None if results.groups is None else results.groups[members]
        means = (stats.estimates(column[members][:, None], groups=groups, level=results.level)[0] for column in columns)
        rows.append(ClassEvidence(name, len(members), *means))
    return tuple(rows)


def _mean(values: list[np.ndarray]) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        mean: np.ndarray = np.nanmean(np.stack(values), axis=0)
    return mean
