"""Means of scores with confidence intervals that hold for few, skewed, rare and clustered values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from heatproof.errors import InputError
from heatproof.records import Estimate

Bounds = ArrayLike | Sequence[float | None] | Sequence[Sequence[float | None]]
TOLERANCE = 1e-6  # of a range, by which rounding may pass its ends
RARE = 0.05  # below this much evidence of spread, scores are taken to vary as 0 and 1 do
SMALL = 9.0  # number of values below which the skewness of a sample says much less than that of its population


@dataclass(frozen=True, eq=False)
class _Moments:
    """What the interval of each column needs.

    Attributes:
        mean: over samples; error: its standard error; count: how many clusters it rests on.
        skewness: of the values of clusters, unbiased for normal ones; freedom: degrees of freedom of the error.
    """

    mean: Float[np.ndarray, " m"]
    error: Float[np.ndarray, " m"]
    count: Float[np.ndarray, " m"]
    skewness: Float[np.ndarray, " m"]
    freedom: Float[np.ndarray, " m"]


def estimate(
    values: ArrayLike,
    *,
    level: float = 0.95,
    bounds: Bounds | None = None,
    groups: ArrayLike | None = None,
) -> Estimate:
    """The mean of values (N,) with its confidence interval; see `estimates`.

    Raises: InputError where values are not (N,), or an option does not fit them.

    >>> print(estimate([1.0, 1.0, 1.0, float("nan")]))
    1.000 (95 % CI 1.000 to 1.000)
    >>> print(estimate([0.2, 0.1, 0.4, 0.2, 0.3]))
    0.240 (95 % CI 0.098 to 0.384)
    """
    column = np.asarray(values, dtype=np.float64)
    if column.ndim != 1:
        raise InputError(f"values: got shape {column.shape}, expected (N,); use estimates for many columns")
    return estimates(column[:, None], level=level, bounds=bounds, groups=groups)[0]


def estimates(
    values: ArrayLike, *, level: float = 0.95, bounds: Bounds | None = None, groups: ArrayLike | None = None
) -> tuple[Estimate, ...]:
    """The mean of each column of values (N, M) with its confidence interval; for paired differences too.

    Student's t, with the longer tail corrected for skewness by Hall's transformation (1992). ``bounds`` are the range
    of scores, (2,) or (M, 2), None or NaN where it is open. Intervals stay in it; in a closed range they are Wilson's
    (1927) with the variance as a share of the largest possible one, as a few equal values near an end say little about
    rare others. With ``groups`` (N,), the samples of a patient or slide are one cluster: jackknife over clusters with
    Satterthwaite's degrees of freedom.

    NaN and infinite values are left out and counted; order does not matter. Equal values have no width without bounds.
    A single value or cluster has no interval: its ends are NaN.

    Raises: InputError where values are not (N, M), lie outside their bounds, or an option does not fit them.
    """
    table = np.asarray(values, dtype=np.float64)
    if table.ndim != 2:
        raise InputError(f"values: got shape {table.shape}, expected (N, M)")
    _check(level)
    clusters = labels(groups, len(table))
    lowest, highest = _range(bounds, table)
    defined = np.isfinite(table)
    number = defined.sum(axis=0)
    moments = _moments(np.where(defined, table, np.nan), clusters)
    with np.errstate(divide="ignore", invalid="ignore"):
        low, high = _ends(moments, level, lowest, highest)
    return tuple(
        Estimate(float(m), float(a), float(b), int(n), len(table) - int(n), level)
        for m, a, b, n in zip(moments.mean, low, high, number, strict=True)
    )


def _moments(table: Float[np.ndarray, "n m"], clusters: np.ndarray | None) -> _Moments:
    table = _sorted(table, clusters)
    defined = np.isfinite(table)
    total = defined.sum(axis=0).astype(np.float64)
    filled = np.where(defined, table, 0.0)
    least = np.where(defined, table, np.inf).min(axis=0, initial=np.inf)
    most = np.where(defined, table, -np.inf).max(axis=0, initial=-np.inf)
    mean = np.where(total > 0, filled.sum(axis=0) / np.maximum(total, 1.0), np.nan)
    mean = np.where(least == most, least, mean)
    centred = np.where(defined, table - mean, 0.0)
    sizes = defined.astype(np.float64)
    if clusters is not None:
        starts = np.flatnonzero(np.diff(np.sort(clusters), prepend=-1))
        centred, sizes = np.add.reduceat(centred, starts, axis=0), np.add.reduceat(sizes, starts, axis=0)
    count = (sizes > 0).sum(axis=0).astype(np.float64)
    rest = total - sizes
    shift = np.divide(
        centred, rest, out=np.zeros_like(centred), where=(sizes > 0) & (rest > 0)
    )  # of the mean, left out
    square, cube = (shift**2).sum(axis=0), (shift**3).sum(axis=0)
    error = np.sqrt(square * (count - 1.0) / np.maximum(count, 1.0))
    enough = (count > 2) & (square > 0)
    unbiased = np.sqrt(count * np.maximum(count - 1.0, 0.0)) / np.maximum(count - 2.0, 1.0)
    skewness = np.divide(cube * np.sqrt(count), square**1.5, out=np.zeros_like(cube), where=enough) * unbiased
    freedom = count - 1.0 if clusters is None else _freedom(sizes, total)
    return _Moments(mean, error, count, skewness, freedom)


def _sorted(table: Float[np.ndarray, "n m"], clusters: np.ndarray | None) -> Float[np.ndarray, "n m"]:
    """The columns in ascending order, within each group: sums then do not depend on the order of samples."""
    if clusters is None:
        return np.sort(table, axis=0)
    order = np.lexsort((table, np.broadcast_to(clusters[:, None], table.shape)), axis=0)
    ordered: Float[np.ndarray, "n m"] = np.take_along_axis(table, order, axis=0)
    return ordered


def _freedom(sizes: Float[np.ndarray, "g m"], total: Float[np.ndarray, " m"]) -> Float[np.ndarray, " m"]:
    """Satterthwaite's degrees of freedom of the jackknife where clusters of these sizes differ, but not within.

    The variance is a quadratic form of the clusters' values; G - 1 for equal sizes, fewer where few clusters are large.
    """
    share = sizes / np.maximum(total, 1.0)
    weight = (sizes / np.maximum(total - sizes, 1.0)) ** 2
    both = (share**2).sum(axis=0)
    own = 1.0 - 2.0 * share + both
    zeroth, first, second = ((weight * share**k).sum(axis=0) for k in range(3))
    cross = both**2 * zeroth**2 + 2.0 * zeroth * second + 2.0 * first**2 - 4.0 * both * zeroth * first
    norm = cross + (weight**2 * (own**2 - (both - 2.0 * share) ** 2)).sum(axis=0)
    trace = (weight * own).sum(axis=0)
    freedom: Float[np.ndarray, " m"] = np.maximum(
        np.divide(trace**2, norm, out=np.ones_like(trace), where=norm > 0), 1.0
    )
    return freedom


def _ends(
    moments: _Moments, level: float, lowest: Float[np.ndarray, " m"], highest: Float[np.ndarray, " m"]
) -> tuple[Float[np.ndarray, " m"], Float[np.ndarray, " m"]]:
    from scipy.special import stdtrit

    mean, error = moments.mean, moments.error
    reach = stdtrit(np.maximum(moments.freedom, 1.0), (1.0 + level) / 2.0)
    low, high, implied = mean - reach * error, mean + reach * error, np.zeros_like(mean)
    closed = np.isfinite(lowest) & np.isfinite(highest)
    if closed.any():
        width = np.where(closed, highest - lowest, 1.0)
        scaled = np.clip((mean - np.where(closed, lowest, 0.0)) / width, 0.0, 1.0)
        a, b, skewness = _bounded(scaled, error / width, moments.count, reach)
        low, high = np.where(closed, lowest + width * a, low), np.where(closed, lowest + width * b, high)
        implied = np.where(closed, skewness, 0.0)
    tail = _tail(moments, implied, reach) * error
    right = moments.skewness > np.maximum(implied, 0.0)
    left = moments.skewness < np.minimum(implied, 0.0)
    low = np.fmax(np.where(left, np.minimum(low, mean - tail), low), lowest)
    high = np.fmin(np.where(right, np.maximum(high, mean + tail), high), highest)
    empty = moments.count < 2
    low, high = np.minimum(low, mean), np.maximum(high, mean)
    return np.where(empty, np.nan, low), np.where(empty, np.nan, high)


def _bounded(
    mean: Float[np.ndarray, " m"],
    error: Float[np.ndarray, " m"],
    count: Float[np.ndarray, " m"],
    reach: Float[np.ndarray, " m"],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Wilson's ends for scores in [0, 1] with their share of the variance of 0 and 1, and the skewness it implies."""
    binary = mean * (1.0 - mean)
    seen = count * binary
    share = np.where(binary > 0, np.minimum(count * error**2 / binary, 1.0), 1.0)
    doubt = RARE**2 / (seen**2 + RARE**2)
    square = reach**2 * (share * (1.0 - doubt) + doubt) / count
    half = np.sqrt(square * (binary + square / 4.0))
    middle = mean + square / 2.0
    skewness = np.where(binary > 0, np.sqrt(share) * (1.0 - 2.0 * mean) / np.sqrt(binary), 0.0)
    return (middle - half) / (1.0 + square), (middle + half) / (1.0 + square), skewness


def _tail(
    moments: _Moments, implied: Float[np.ndarray, " m"], reach: Float[np.ndarray, " m"]
) -> Float[np.ndarray, " m"]:
    """How many standard errors the interval reaches on the side of the longer tail, at most about thrice ``reach``.

    Skewness within its sampling error does not count; of few values it is scaled up, as a sample hides most of it.
    """
    count = np.maximum(moments.count, 2.0)
    excess = np.abs(moments.skewness) - np.maximum(implied * np.sign(moments.skewness), 0.0)
    clear = (np.maximum(excess, 0.0) / np.sqrt(6.0 / count)) ** 4
    skewness = np.abs(moments.skewness) * (1.0 + (SMALL / count) ** 2) * clear / (clear + 1.0)
    third = np.minimum(skewness / np.sqrt(count), 3.0 * (np.sqrt(reach**2 + 2.0 / 3.0) - reach))
    root = 1.0 - np.cbrt(np.maximum(1.0 - third * (reach + third / 6.0), 0.0))
    far: Float[np.ndarray, " m"] = np.divide(3.0 * root, third, out=reach.copy(), where=third > 1e-6)
    return np.where(far > reach, far, reach)


def proportion(values: ArrayLike, *, level: float = 0.95) -> Estimate:
    """The share of ones among values (N,) of 0 and 1 with its exact interval (Clopper and Pearson 1934).

    It contains the true share at least as often as it says, and always has a width. NaN is left out and counted.

    Raises: InputError for other values, or a level out of its range.

    >>> print(proportion([1.0] * 50))
    1.000 (95 % CI 0.929 to 1.000)
    """
    from scipy.special import betaincinv

    _check(level)
    column = np.asarray(values, dtype=np.float64)
    defined = column[np.isfinite(column)]
    if column.ndim != 1 or not np.isin(defined, (0.0, 1.0)).all():
        raise InputError(f"values: got shape {column.shape} or others than 0 and 1; expected (N,) of 0 and 1")
    n, ones = len(defined), int(defined.sum())
    if not n:
        return Estimate(math.nan, math.nan, math.nan, 0, len(column), level)
    low = betaincinv(ones, n - ones + 1, (1.0 - level) / 2.0) if ones else 0.0
    high = betaincinv(ones + 1, n - ones, (1.0 + level) / 2.0) if ones < n else 1.0
    return Estimate(ones / n, float(low), float(high), n, len(column) - n, level)


def labels(groups: ArrayLike | None, n: int) -> np.ndarray | None:
    """The groups of n samples as numbers from 0; None without groups.

    Raises: InputError where groups are not (N,).
    """
    if groups is None:
        return None
    names = np.asarray(groups)
    if names.shape != (n,):
        raise InputError(f"groups: got shape {names.shape}, expected ({n},): the group of each sample")
    return np.unique(names, return_inverse=True)[1]


def _range(bounds: Bounds | None, table: Float[np.ndarray, "n m"]) -> tuple[np.ndarray, np.ndarray]:
    m = table.shape[1]
    if bounds is None:
        return np.full(m, np.nan), np.full(m, np.nan)
    ends = np.asarray(bounds, dtype=np.float64)
    if ends.shape not in ((2,), (m, 2)):
        raise InputError(f"bounds: got shape {ends.shape}, expected (2,) or ({m}, 2): the ends of the range of scores")
    lowest, highest = np.broadcast_to(np.where(np.isfinite(ends), ends, np.nan), (m, 2)).T
    if (lowest >= highest).any():
        raise InputError("bounds: got a lower end that is not below the upper one")
    slack = TOLERANCE * np.nan_to_num(highest - lowest, nan=1.0)
    if ((table < lowest - slack) | (table > highest + slack))[np.isfinite(table)].any():
        raise InputError("bounds: values lie outside; expected all values in the range, or wider bounds")
    return lowest, highest


def _check(level: float) -> None:
    if not 0.0 < level < 1.0:
        raise InputError(f"level: got {level}, expected a number between 0 and 1, such as 0.95")
