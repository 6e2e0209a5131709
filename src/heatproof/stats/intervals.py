"""Bootstrap intervals: bias-corrected and accelerated (BCa), widened for small samples, for many columns at once.

A resample is a row of counts, so that the means of all columns over all resamples are one matrix product.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import lru_cache

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from heatproof.errors import InputError
from heatproof.records import Estimate

CELLS = 2**22  # the largest block of counts held in memory
FARTHEST = 6.0  # normal deviates beyond which every resample lies within


def resample_counts(n: int, resamples: int, seed: int) -> Iterator[Float[np.ndarray, "r n"]]:
    """How often each of ``n`` samples occurs in each resample, in blocks of at most `CELLS` numbers.

    The draws are those of ``scipy.stats.bootstrap`` under the same seed.

    >>> [int(block.sum()) for block in resample_counts(5, 3, seed=0)]
    [15]
    """
    if resamples * n <= CELLS:
        yield _small(n, resamples, seed)
    else:
        generator = np.random.default_rng(seed)
        step = max(1, CELLS // n)
        for start in range(0, resamples, step):
            yield _draw(generator, n, min(step, resamples - start))


@lru_cache(maxsize=2)
def _small(n: int, resamples: int, seed: int) -> Float[np.ndarray, "r n"]:
    counts = _draw(np.random.default_rng(seed), n, resamples)
    counts.flags.writeable = False
    return counts


def _draw(generator: np.random.Generator, n: int, rows: int) -> Float[np.ndarray, "r n"]:
    drawn = generator.integers(0, n, size=(rows, n))
    drawn += n * np.arange(rows)[:, None]
    return np.bincount(drawn.ravel(), minlength=rows * n).reshape(rows, n).astype(np.float64)


def bca(
    observed: Float[np.ndarray, " m"],
    resampled: Float[np.ndarray, "r m"],
    influence: Float[np.ndarray, "n m"],
    level: float = 0.95,
) -> tuple[Float[np.ndarray, " m"], Float[np.ndarray, " m"]]:
    """The two ends of the BCa interval of each column (Efron 1987, equations 2.3 and 7.4).

    ``influence`` holds the jackknife's (n - 1)(mean - value without i). NaN resamples
    are left out. The interval is widened, where need be, to hold the observed value; a constant column has no width.
    """
    from scipy.special import ndtr, ndtri

    defined = np.isfinite(resampled).sum(axis=0)
    gap = resampled - observed
    near = 1e-12 * np.nanmax(np.abs(gap), axis=0, initial=0.0)  # ties, whatever the rounding
    below = (gap < -near).sum(axis=0) + 0.5 * (np.abs(gap) <= near).sum(axis=0)
    edge = 0.5 / np.maximum(defined, 1)
    bias = ndtri(np.clip(below / np.maximum(defined, 1), edge, 1.0 - edge))
    spread = np.nansum(influence**2, axis=0)
    skew = np.nansum(influence**3, axis=0)
    cube = 6.0 * spread**1.5
    acceleration = np.divide(skew, cube, out=np.zeros_like(skew), where=cube > 0)
    ordered = np.sort(resampled, axis=0)
    ends = []
    for tail in ((1.0 - level) / 2.0, (1.0 + level) / 2.0):
        z = bias + ndtri(tail)
        share = ndtr(bias + z / (1.0 - acceleration * z))
        ends.append(_quantile(ordered, share, defined))
    low, high = np.fmin(ends[0], observed), np.fmax(ends[1], observed)
    empty = (defined == 0) | ~np.isfinite(observed)
    return np.where(empty, np.nan, low), np.where(empty, np.nan, high)


def widened(level: float, n: int) -> float:
    """The level whose percentiles of resampled means of n values hold the mean as often as asked for.

    Resamples vary by (n - 1) / n of what samples do, and percentiles are normal where Student's t is called for: the
    tails become those of a normal deviate of t sqrt(n / (n - 1)) (Hesterberg 2015, arXiv 1411.5279).

    >>> [round(widened(0.95, n), 4) for n in (10, 50, 1000)]
    [0.9829, 0.9576, 0.9504]
    """
    from scipy.special import ndtr
    from scipy.stats import t

    deviate = math.sqrt(n / (n - 1)) * float(t.ppf((1.0 + level) / 2.0, n - 1))
    return float(2.0 * ndtr(min(deviate, FARTHEST)) - 1.0)


def _quantile(
    ordered: Float[np.ndarray, "r m"], share: Float[np.ndarray, " m"], defined: np.ndarray
) -> Float[np.ndarray, " m"]:
    place = share * np.maximum(defined - 1, 0)
    lower = np.floor(place).astype(np.int64)
    upper = np.minimum(lower + 1, np.maximum(defined - 1, 0))
    columns = np.arange(ordered.shape[1])
    first, second = ordered[lower, columns], ordered[upper, columns]
    value: Float[np.ndarray, " m"] = first + (second - first) * (place - lower)
    return value


def estimate(values: ArrayLike, *, level: float = 0.95, resamples: int = 2000, seed: int = 0) -> Estimate:
    """The mean of values (N,) with its BCa bootstrap interval, widened for small N.

    NaN and infinite values are left out and counted. The order of the values does not matter. A single value has no
    interval: its ends are NaN.

    Raises: InputError where values are not (N,), or an option is out of its range.

    >>> print(estimate([1.0, 1.0, 1.0, float("nan")]))
    1.000 (95 % CI 1.000 to 1.000)
    """
    column = np.asarray(values, dtype=np.float64)
    if column.ndim != 1:
        raise InputError(f"values: got shape {column.shape}, expected (N,); use estimates for many columns")
    return estimates(column[:, None], level=level, resamples=resamples, seed=seed)[0]


def estimates(values: ArrayLike, *, level: float = 0.95, resamples: int = 2000, seed: int = 0) -> tuple[Estimate, ...]:
    """`estimate` of each column of values (N, M), all of them at the price of about one.

    Raises: InputError where values are not (N, M), or an option is out of its range.
    """
    table = np.asarray(values, dtype=np.float64)
    if table.ndim != 2:
        raise InputError(f"values: got shape {table.shape}, expected (N, M)")
    _check(level, resamples)
    counts = np.isfinite(table).sum(axis=0)
    packed = np.sort(np.where(np.isfinite(table), table, np.nan), axis=0)
    low, high = np.full((2, table.shape[1]), np.nan)
    mean = np.full(table.shape[1], np.nan)
    for n in np.unique(counts[counts > 0]):
        columns = np.flatnonzero(counts == n)
        mean[columns], low[columns], high[columns] = _means(packed[:n, columns], level, resamples, seed)
    undefined = len(table) - counts
    return tuple(
        Estimate(float(m), float(a), float(b), int(n), int(u), level)
        for m, a, b, n, u in zip(mean, low, high, counts, undefined, strict=True)
    )


def proportion(values: ArrayLike, *, level: float = 0.95) -> Estimate:
    """The share of ones among values (N,) of 0 and 1 with its Wilson interval (Wilson 1927), which has a width always.

    A bootstrap of a sample without a single failure would say that there never is one. NaN is left out and counted.

    Raises: InputError for other values, or a level out of its range.

    >>> print(proportion([1.0] * 50))
    1.000 (95 % CI 0.929 to 1.000)
    """
    from scipy.stats import binomtest

    _check(level, 100)
    column = np.asarray(values, dtype=np.float64)
    defined = column[np.isfinite(column)]
    if column.ndim != 1 or not np.isin(defined, (0.0, 1.0)).all():
        raise InputError(f"values: got shape {column.shape} or others than 0 and 1; expected (N,) of 0 and 1")
    if not len(defined):
        return Estimate(math.nan, math.nan, math.nan, 0, len(column), level)
    ends = binomtest(int(defined.sum()), len(defined)).proportion_ci(level, method="wilson")
    undefined = len(column) - len(defined)
    return Estimate(float(defined.mean()), float(ends.low), float(ends.high), len(defined), undefined, level)


def _means(
    table: Float[np.ndarray, "n m"], level: float, resamples: int, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    mean = np.where(table[0] == table[-1], table[0], table.mean(axis=0))  # sorted: equal ends, equal values
    if len(table) == 1:
        return mean, np.full_like(mean, np.nan), np.full_like(mean, np.nan)
    centred = table - mean
    blocks = [counts @ centred for counts in resample_counts(len(table), resamples, seed)]
    resampled = np.concatenate(blocks) / len(table)
    low, high = bca(np.zeros_like(mean), resampled, centred, widened(level, len(table)))
    return mean, np.maximum(mean + low, table[0]), np.minimum(mean + high, table[-1])


def bootstrap(
    statistic: Callable[[Float[np.ndarray, "r n"]], Float[np.ndarray, "r m"]],
    n: int,
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
    folds: int = 400,
) -> tuple[Estimate, ...]:
    """BCa intervals of M numbers computed from ``n`` samples whose weights are given: (R, N) -> (R, M).

    The acceleration comes from a jackknife over ``folds`` random blocks (over single samples where there are fewer).

    Raises: InputError where an option is out of its range.
    """
    _check(level, resamples)
    observed = statistic(np.ones((1, n)))[0]
    if n < 2:
        return tuple(Estimate(float(value), math.nan, math.nan, n, 0, level) for value in observed)
    resampled = np.concatenate([statistic(counts) for counts in resample_counts(n, resamples, seed)])
    fold = np.random.default_rng(seed).permutation(n) % min(n, folds)
    left = np.concatenate([statistic((fold != part[:, None]).astype(np.float64)) for part in _parts(min(n, folds), n)])
    defined = np.isfinite(left)
    centre = np.where(defined, left, 0.0).sum(axis=0) / np.maximum(defined.sum(axis=0), 1)
    influence = (n - np.bincount(fold)[:, None]) * (centre - left)
    low, high = bca(observed, resampled, influence, level)
    return tuple(
        Estimate(float(v), float(a), float(b), n, 0, level) for v, a, b in zip(observed, low, high, strict=True)
    )


def _parts(count: int, n: int) -> list[np.ndarray]:
    return np.array_split(np.arange(count), max(1, math.ceil(count * n / CELLS)))


def _check(level: float, resamples: int) -> None:
    if not 0.0 < level < 1.0:
        raise InputError(f"level: got {level}, expected a number between 0 and 1, such as 0.95")
    if resamples < 100:
        raise InputError(f"resamples: got {resamples}, expected at least 100")
