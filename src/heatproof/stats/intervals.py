"""Bootstrap intervals, bias-corrected and accelerated (BCa), of any statistic, for many columns at once.

A resample is a row of counts, so that the means of all columns over all resamples are one matrix product.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import lru_cache

import numpy as np
from jaxtyping import Float

from heatproof.errors import InputError
from heatproof.records import Estimate

CELLS = 2**22  # the largest block of counts held in memory


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
