"""Intervals hold the mean of all values as often as they say, for scores of several shapes."""

from __future__ import annotations

import numpy as np
import pytest

from heatproof import stats
from heatproof.stats.intervals import widened

WHOLE = 2000
SHAPES = {
    "even": lambda g: g.beta(8, 2, WHOLE),
    "skewed": lambda g: g.beta(0.5, 5, WHOLE),
    "long": lambda g: g.exponential(size=WHOLE),
    "binary": lambda g: (g.random(WHOLE) < 0.9).astype(float),
    "saturated": lambda g: np.where(g.random(WHOLE) < 0.8, 1.0 - 1e-4 * g.random(WHOLE), g.random(WHOLE)),
}


def covered(values: np.ndarray, n: int, resamplings: int = 1000) -> float:
    """The share of samples of n values whose 95 % interval holds the mean of all."""
    generator, step, hits = np.random.default_rng(5), 100, 0
    for part in range(resamplings // step):
        drawn = values[generator.integers(0, len(values), (n, step))]
        hits += sum(e.low <= values.mean() <= e.high for e in stats.estimates(drawn, resamples=1000, seed=part))
    return hits / resamplings


@pytest.mark.parametrize("n", [50, 200])
@pytest.mark.parametrize("shape", SHAPES)
def test_intervals_of_some_samples_hold_the_mean_of_all(shape: str, n: int) -> None:
    values = SHAPES[shape](np.random.default_rng(1))
    noise = 2.5 * np.sqrt(0.95 * 0.05 / 1000)  # of 1,000 draws themselves
    assert covered(values, n) == pytest.approx(0.95, abs=0.02 + noise / 2)


def test_small_samples_are_widened_and_large_ones_are_not() -> None:
    shares = [widened(0.95, n) for n in (5, 20, 100, 10_000)]
    assert shares == sorted(shares, reverse=True)
    assert shares[-1] == pytest.approx(0.95, abs=1e-3)
    assert widened(0.95, 2) < 1.0
