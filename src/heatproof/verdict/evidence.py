"""What the evidence itself shows: how far it is concentrated, and how reliable it is for each class."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from heatproof import stats
from heatproof.records import Estimate
from heatproof.results.evidence import Evidence
from heatproof.results.record import Results

FEW = 10  # samples, or samples of a class, below which nothing is concluded of their evidence
SPREAD = 0.2  # of the margin: what the best window holds beyond its area where evidence is called spread out


@dataclass(frozen=True)
class ClassEvidence:
    """The evidence of the samples of one class.

    Attributes:
        name: of the class, or of the label explained. samples: how many there are.
        reliability: the correlation of the windows' worths between the two donors, with interval.
        concentration: the share of the margin that the best window holds beyond its area, with interval.
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
    """For each sample the share of the margin that the best window holds beyond its area, mean over sizes; 0 if even.

    The window is chosen with one donor and read with the other, so that chance does not count for it. Of evidence that
    adds up, a window with a share a of the positions holds a of the margin between sample and donor.
    """
    values, rows = [], np.arange(len(evidence.values))
    area = evidence.widths.prod(axis=1) / np.prod(size)
    for scale in np.unique(evidence.scale):
        place = np.flatnonzero(evidence.scale == scale)
        for chosen, read in ((0, -1), (-1, 0)):
            worth = evidence.values[:, chosen][:, place]
            best = place[np.nan_to_num(worth, nan=-np.inf).argmax(axis=1)]
            span = np.where(evidence.span[:, read] > 0, evidence.span[:, read], np.nan)
            held = (evidence.values[rows, read, best] / span + 1) / 2
            values.append((held - area[best]) / np.maximum(1 - area[best], 1e-9))
    return np.where((evidence.span > 0).all(axis=1), _mean(values), np.nan)


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
