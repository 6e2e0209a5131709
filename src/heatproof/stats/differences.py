"""Mean differences with t intervals, by cluster where samples belong together."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from heatproof.records import Estimate


def differences(values: ArrayLike, *, groups: ArrayLike | None = None, level: float = 0.95) -> tuple[Estimate, ...]:
    """The mean of each column of differences (N, M) with its t interval; of clusters where groups (N,) are given."""
    table = np.asarray(values, dtype=np.float64)
    return tuple(_one(column, groups, level) for column in table.T)


def _one(column: Float[np.ndarray, " n"], groups: ArrayLike | None, level: float) -> Estimate:
    from scipy.stats import t

    defined = np.isfinite(column)
    values, n = column[defined], int(defined.sum())
    undefined = len(column) - n
    if not n:
        return Estimate(math.nan, math.nan, math.nan, 0, undefined, level)
    mean = float(values.mean())
    clusters = np.arange(n) if groups is None else np.unique(np.asarray(groups)[defined], return_inverse=True)[1]
    count = int(clusters.max()) + 1
    if count < 2:
        return Estimate(mean, math.nan, math.nan, n, undefined, level)
    sums = np.bincount(clusters, values - mean)
    error = math.sqrt(count / (count - 1) * float((sums**2).sum())) / n
    reach = float(t.ppf((1 + level) / 2, count - 1)) * error
    return Estimate(mean, mean - reach, mean + reach, n, undefined, level)
