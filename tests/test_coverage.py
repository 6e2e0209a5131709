"""Intervals contain the mean as often as they say, and equal methods are seldom called different."""

from __future__ import annotations

import numpy as np
import pytest

from heatproof import stats

DRAWS = 3000
NOISE = 2.5 * np.sqrt(0.95 * 0.05 / DRAWS)
SHAPES = {  # values, their mean, their range, the most that is allowed
    "normal": (lambda g, s: g.normal(size=s), 0.0, None, 0.97),
    "Laplace": (lambda g, s: g.laplace(size=s), 0.0, None, 0.97),
    "exponential": (lambda g, s: g.exponential(size=s), 1.0, None, 1.0),
    "log-normal": (lambda g, s: g.lognormal(sigma=0.75, size=s), float(np.exp(0.75**2 / 2)), None, 1.0),
    "half zeros": (lambda g, s: (g.random(s) < 0.5) * g.exponential(size=s), 0.5, None, 1.0),
    "even in a range": (lambda g, s: g.beta(8, 2, s), 0.8, (0, 1), 0.97),
    "skewed in a range": (lambda g, s: g.beta(0.3, 3, s), 0.3 / 3.3, (0, 1), 1.0),
    "rare in a range": (lambda g, s: (g.random(s) < 0.1) * g.random(s), 0.05, (0, 1), 1.0),
}


@pytest.mark.parametrize("n", [10, 50])
@pytest.mark.parametrize("shape", SHAPES)
def test_intervals_contain_the_mean_as_often_as_they_say(shape: str, n: int) -> None:
    draw, mean, bounds, most = SHAPES[shape]
    drawn = stats.estimates(draw(np.random.default_rng(n), (n, DRAWS)), bounds=bounds)
    share = np.mean([e.low <= mean <= e.high for e in drawn])
    assert 0.93 - NOISE <= share <= most + NOISE


@pytest.mark.parametrize("p", [0.02, 0.05, 0.3])
@pytest.mark.parametrize("n", [10, 20, 50, 200])
def test_exact_intervals_of_shares_contain_them(p: float, n: int) -> None:
    from scipy.stats import binom

    shares = [stats.proportion(np.arange(n) < k) for k in range(n + 1)]
    assert sum(binom.pmf(k, n, p) for k, e in enumerate(shares) if e.low <= p <= e.high) >= 0.95


def test_samples_of_groups_are_not_independent() -> None:
    generator, of = np.random.default_rng(3), np.repeat(np.arange(10), np.arange(1, 11))
    values = generator.normal(size=(10, DRAWS))[of] + generator.normal(size=(len(of), DRAWS))
    share = np.mean([e.low <= 0 <= e.high for e in stats.estimates(values, groups=of)])
    assert 0.93 <= share <= 0.98
    assert np.mean([e.low <= 0 <= e.high for e in stats.estimates(values)]) < 0.8


@pytest.mark.parametrize("n", [10, 50, 200])
def test_equal_methods_are_seldom_called_different(n: int) -> None:
    generator = np.random.default_rng(n)
    scores = (generator.random((2, n, DRAWS)) < 0.02).astype(float)
    apart = stats.estimates(scores[0] - scores[1])
    assert np.mean([e.low > 0 or e.high < 0 for e in apart]) <= 0.05
    tests = [stats.pairwise(pair.T).p[0, 1] for pair in np.moveaxis(scores[..., :300], 2, 0)]
    assert np.mean(np.less(tests, 0.05)) <= 0.05
