"""Ranks of methods over samples, with intervals, ties, and what it would take to break them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from heatproof.errors import InputError
from heatproof.records import Direction, Estimate
from heatproof.stats.compare import complete, friedman, letters, pairwise, rank_biserial
from heatproof.stats.compare import groups as alike
from heatproof.stats.intervals import resample_counts
from heatproof.stats.means import estimates


@dataclass(frozen=True)
class Rank:
    """Where one method stands among the others.

    Attributes:
        name: the method.
        place: 1 + how many methods are significantly better; methods that do not differ significantly share a place.
        score: its mean score with the interval; rank: its mean rank with the interval, 1 the best.
        letters: two methods that share a letter do not differ significantly.
        support: share of the resamples in which it has the best mean rank.
    """

    name: str
    place: int
    score: Estimate
    rank: Estimate
    letters: str
    support: float


def ranks(scores: ArrayLike, *, better: Direction = "higher") -> Float[np.ndarray, "n m"]:
    """The rank of each column within its row of scores (N, M), 1 the best, equal scores sharing their mean rank.

    A row with an undefined score has no ranks: all NaN.

    >>> ranks([[0.9, 0.1, 0.9]]).tolist()
    [[1.5, 3.0, 1.5]]
    """
    from scipy.stats import rankdata

    table = np.asarray(scores, dtype=np.float64)
    rows = np.isfinite(table).all(axis=1)
    placed = np.full(table.shape, np.nan)
    if rows.any():
        placed[rows] = rankdata(-table[rows] if better == "higher" else table[rows], axis=1)
    return placed


def rank_intervals(
    scores: ArrayLike,
    *,
    better: Direction = "higher",
    level: float = 0.95,
    groups: ArrayLike | None = None,
) -> tuple[Estimate, ...]:
    """The mean rank of each column of scores (N, M) with its interval over samples, or over ``groups`` (N,) of them."""
    placed = ranks(scores, better=better)
    bounds = (1.0, float(placed.shape[1])) if placed.shape[1] > 1 else None
    return estimates(placed, level=level, bounds=bounds, groups=groups)


def support(placed: ArrayLike, *, resamples: int = 2000, seed: int = 0) -> Float[np.ndarray, " m"]:
    """The share of resamples in which each column has the lowest mean; equal columns split theirs.

    ``placed`` are ranks, or anything of which less is better, (N, M), or (B, N, M) for B fills, which are then
    resampled too. Samples with an undefined number are left out; all NaN where none is left.
    """
    table = np.asarray(placed, dtype=np.float64)
    if table.ndim not in (2, 3):
        raise InputError(f"ranks: got shape {table.shape}, expected (N, M) or (fills, N, M)")
    table = table if table.ndim == 3 else table[None]
    table = table[:, np.isfinite(table).all(axis=(0, 2))]
    fills, n, m = table.shape
    if not n or not m:
        return np.full(m, np.nan)
    weights = np.concatenate(list(resample_counts(fills, resamples, seed + 1)))
    blocks = [np.stack([counts @ layer for layer in table]) for counts in resample_counts(n, resamples, seed)]
    total = np.einsum("rb,brm->rm", weights, np.concatenate(blocks, axis=1))
    best = total.min(axis=1, keepdims=True)
    first = total - best <= 1e-9 * np.maximum(np.abs(best), 1.0)
    shares: Float[np.ndarray, " m"] = (first / first.sum(axis=1, keepdims=True)).mean(axis=0)
    return shares


def rank(
    scores: ArrayLike,
    names: Sequence[str],
    *,
    better: Direction = "higher",
    alpha: float = 0.05,
    resamples: int = 2000,
    seed: int = 0,
    groups: ArrayLike | None = None,
) -> list[Rank]:
    """The columns of scores (N, M) from the best to the worst, with ties where the evidence does not separate them.

    Friedman's test first; where it sees a difference, Holm-corrected Wilcoxon tests say which pairs differ. A method
    without any defined score comes last. With ``groups`` (N,) these are taken as independent, not the samples, and the
    tests of pairs alone decide.

    Raises: InputError where scores are not (N, M) with a name a column.
    """
    table = np.asarray(scores, dtype=np.float64)
    complete(table)
    if len(names) != table.shape[1]:
        raise InputError(f"got {len(names)} names for {table.shape[1]} columns of scores; expected a name a column")
    score = estimates(table, level=1.0 - alpha, groups=groups)
    live = [j for j, item in enumerate(score) if item.n]
    part = table[:, live]
    placed = rank_intervals(part, better=better, level=1.0 - alpha, groups=groups)
    shares = support(ranks(part, better=better), resamples=resamples, seed=seed)
    p, wins = _separate(part, better, alpha, groups)
    sets = alike(p, [item.mean for item in placed], alpha=alpha)
    marks = letters(sets, len(live))
    rows = [
        Rank(names[j], 1 + int(wins[:, i].sum()), score[j], placed[i], marks[i], float(shares[i]))
        for i, j in enumerate(live)
    ]
    nothing = Estimate(math.nan, math.nan, math.nan, 0, len(table), 1.0 - alpha)
    rows += [Rank(name, len(names), score[j], nothing, "", 0.0) for j, name in enumerate(names) if j not in set(live)]
    return sorted(rows, key=lambda row: (row.place, math.isnan(row.rank.mean), row.rank.mean))


def _separate(
    table: np.ndarray, better: Direction, alpha: float, groups: ArrayLike | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """P-values (M, M), and where the row is significantly better than the column."""
    m = table.shape[1]
    if m > 2 and groups is None and friedman(table).p >= alpha:
        return np.ones((m, m)), np.zeros((m, m), dtype=bool)
    tests = pairwise(table, groups=groups)
    ahead = tests.rank_biserial > 0 if better == "higher" else tests.rank_biserial < 0
    return tests.p, ahead & (tests.p < alpha)


def power(differences: ArrayLike, samples: int, *, alpha: float = 0.05) -> float:
    """The power of the signed-rank test on ``samples`` samples like these differences (N,).

    Noether (1987), for the signed-rank test, taking the observed effect for the true one.
    """
    from scipy.special import ndtr, ndtri

    effect, kept = _effect(differences)
    return float(ndtr(abs(effect) * math.sqrt(0.75 * kept * samples) + ndtri(alpha / 2.0)))


def samples_needed(differences: ArrayLike, *, alpha: float = 0.05, power: float = 0.8) -> float:
    """How many samples in all would separate A from B with the given power, from paired differences (N,).

    n = 4 (z_alpha + z_power)^2 / (3 r^2) with r the rank-biserial correlation (Noether 1987), over the share of
    samples that differ. Takes the observed effect for the true one. Infinite where there is no effect.

    >>> samples_needed([1.0, -1.0])
    inf
    """
    from scipy.special import ndtri

    effect, kept = _effect(differences)
    if effect == 0.0:
        return math.inf
    reach = float(ndtri(1.0 - alpha / 2.0) + ndtri(power))
    return float(math.ceil(reach**2 / (0.75 * effect**2 * kept)))


def _effect(differences: ArrayLike) -> tuple[float, float]:
    values = np.asarray(differences, dtype=np.float64)
    values = values[np.isfinite(values)]
    return rank_biserial(values), float((values != 0.0).mean()) if len(values) else 0.0
