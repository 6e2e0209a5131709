"""Paired comparisons of methods on the same samples: tests, effect sizes, groups without significant difference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import ArrayLike

from heatproof.errors import InputError
from heatproof.stats.means import labels

Correction = Literal["holm", "none"]
FEW = 50  # differences up to which the signed-rank test is exact, as in scipy; here with ties too
CLUSTERS = 20  # clusters up to which it is exact


@dataclass(frozen=True)
class Test:
    """The outcome of a test: its statistic, its p-value, how many samples it rests on."""

    __test__ = False  # not a test case of pytest

    statistic: float
    p: float
    n: int


@dataclass(frozen=True)
class Effects:
    """How large the paired difference between two columns is; all three are positive where the first is larger."""

    rank_biserial: float
    cliffs_delta: float
    cohens_dz: float


@dataclass(frozen=True, eq=False)
class Pairwise:
    """Every pair of columns compared; rows against columns.

    Attributes:
        p: corrected p-values (M, M), symmetric, 1 on the diagonal.
        rank_biserial: matched-pairs effect (M, M) in [-1, 1], positive where the row's values are larger.
        n: how many samples have a value in both columns (M, M).
    """

    p: Float[np.ndarray, "m m"]
    rank_biserial: Float[np.ndarray, "m m"]
    n: np.ndarray


def complete(scores: ArrayLike) -> Float[np.ndarray, "n m"]:
    """The rows of scores (N, M) that are defined in every column.

    Raises: InputError where scores are not (N, M).
    """
    table = np.asarray(scores, dtype=np.float64)
    if table.ndim != 2:
        raise InputError(f"scores: got shape {table.shape}, expected (N, M): a row a sample, a column a method")
    return table[np.isfinite(table).all(axis=1)]


def friedman(scores: ArrayLike) -> Test:
    """Friedman's test that the M columns of scores (N, M) are alike, ties corrected.

    Only samples defined in every column count. Two columns are allowed (it is then a sign test). Where nothing
    differs, or fewer than two samples or columns are left, p is 1.
    """
    from scipy.stats import chi2, rankdata

    table = complete(scores)
    n, m = table.shape
    if n < 2 or m < 2:
        return Test(0.0, 1.0, n)
    order = rankdata(table, axis=1)
    spread = float(((order - (m + 1) / 2.0) ** 2).sum()) / (m - 1)
    if spread == 0.0:
        return Test(0.0, 1.0, n)
    statistic = float(((order.sum(axis=0) - n * (m + 1) / 2.0) ** 2).sum()) / spread
    return Test(statistic, float(chi2.sf(statistic, m - 1)), n)


def kendall_w(scores: ArrayLike) -> float:
    """Kendall's coefficient of concordance W of the rows of scores (judges, items): 1 where all agree, 0 at odds.

    Ties are corrected. NaN where there are fewer than two judges or items, or where every judge scores all items alike.
    """
    table = complete(scores)
    judges, items = table.shape
    if judges < 2 or items < 2 or bool((table == table[:, :1]).all()):
        return float("nan")
    return float(friedman(table).statistic / (judges * (items - 1)))


def pairwise(scores: ArrayLike, *, correction: Correction = "holm", groups: ArrayLike | None = None) -> Pairwise:
    """Wilcoxon's signed-rank test for every pair of columns of scores (N, M), two-sided, corrected for their number.

    A pair uses the samples defined in both columns; zero differences are dropped (Wilcoxon 1945). A pair without any
    difference has p 1. With ``groups`` (N,), the samples of a patient or slide are one cluster, whose signed ranks turn
    their sign together (Rosner, Glynn and Lee 2006).

    Raises: InputError where scores are not (N, M), groups not (N,), or the correction is unknown.
    """
    table = np.asarray(scores, dtype=np.float64)
    complete(table)
    if correction not in ("holm", "none"):
        raise InputError(f"correction: got {correction!r}, expected 'holm' or 'none'")
    m = table.shape[1]
    table = np.where(np.isfinite(table), table, np.nan)
    rows, columns = np.triu_indices(m, 1)
    differences = table[:, rows] - table[:, columns]
    raw, signed = _signed_rank(np.nan_to_num(differences, nan=0.0))
    clusters = labels(groups, len(table))
    if clusters is not None and len(table) and np.bincount(clusters).max() > 1:
        raw = _clustered(np.nan_to_num(differences, nan=0.0), clusters)
    p, effect = np.ones((m, m)), np.zeros((m, m))
    n = np.broadcast_to(np.isfinite(table).sum(axis=0), (m, m)).copy()
    p[rows, columns] = p[columns, rows] = holm(raw) if correction == "holm" else raw
    effect[rows, columns], effect[columns, rows] = signed, -signed
    n[rows, columns] = n[columns, rows] = np.isfinite(differences).sum(axis=0)
    return Pairwise(p, effect, n)


def _signed_rank(differences: Float[np.ndarray, "n k"]) -> tuple[Float[np.ndarray, " k"], Float[np.ndarray, " k"]]:
    """P-value and rank-biserial correlation of each column; zeros are dropped, p-values exact for few differences."""
    from scipy.stats import binomtest, rankdata, wilcoxon

    kept = (differences != 0.0).sum(axis=0)
    if not kept.any():
        return np.ones(len(kept)), np.zeros(len(kept))
    p = np.ones(len(kept))
    many = kept > FEW
    if many.any():
        p[many] = wilcoxon(differences[:, many], axis=0, method="asymptotic", keepdims=True).pvalue[0]
    sizes = np.abs(differences)
    alike = sizes.max(axis=0) == np.where(sizes > 0, sizes, np.inf).min(axis=0)
    for k in np.flatnonzero((kept > 0) & (~many | alike)):
        column = differences[:, k]
        column = column[column != 0.0]
        p[k] = binomtest(int((column > 0).sum()), len(column)).pvalue if alike[k] else _exact(_ranks(column))
    order = rankdata(sizes, axis=0) - (len(differences) - kept)
    total = kept * (kept + 1) / 2.0
    return p, (np.sign(differences) * order).sum(axis=0) / np.maximum(total, 1.0)


def _clustered(differences: Float[np.ndarray, "n k"], clusters: np.ndarray) -> Float[np.ndarray, " k"]:
    """P-value of each column where the signs of a cluster turn together: exact for few clusters, normal for many."""
    from scipy.special import ndtr

    p = np.ones(differences.shape[1])
    for k, column in enumerate(differences.T):
        kept = column != 0.0
        if not kept.any():
            continue
        sums = np.bincount(clusters[kept], weights=_ranks(column[kept]))
        sums = sums[sums != 0.0]
        if 0 < len(sums) <= CLUSTERS:
            p[k] = _exact(sums)
        elif len(sums):
            p[k] = 2.0 * ndtr(-abs(sums.sum()) / np.sqrt((sums**2).sum()))
    return p


def _ranks(differences: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """The ranks of the sizes of non-zero differences, with their signs."""
    from scipy.stats import rankdata

    signed: Float[np.ndarray, " n"] = np.sign(differences) * rankdata(np.abs(differences))
    return signed


def _exact(signed: Float[np.ndarray, " n"]) -> float:
    """The two-sided p-value of the sum of signed ranks among those of all choices of signs, which are counted."""
    twice = np.rint(2.0 * signed).astype(np.int64)  # tied ranks may be halves
    step = int(np.gcd.reduce(twice))
    ways = np.ones(1)
    for size in np.abs(twice) // step:
        longer = np.zeros(len(ways) + size)
        longer[: len(ways)] += ways
        longer[size:] += ways
        ways = longer / 2.0
    at = int(twice[twice > 0].sum()) // step
    return float(min(1.0, 2.0 * min(ways[: at + 1].sum(), ways[at:].sum())))


def holm(p: ArrayLike) -> Float[np.ndarray, " k"]:
    """P-values (K,) adjusted by Holm's step-down rule (1979), so that the chance of any false alarm is held.

    >>> holm([0.01, 0.04, 0.03]).tolist()
    [0.03, 0.06, 0.06]
    """
    values = np.asarray(p, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    stepped = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1))
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted


def nemenyi(scores: ArrayLike) -> Float[np.ndarray, "m m"]:
    """P-values (M, M) of Nemenyi's test on the mean ranks of scores (N, M), by scikit-posthocs.

    Only samples defined in every column count; all p are 1 where fewer than two samples or columns are left.
    """
    table = complete(scores)
    if len(table) < 2 or table.shape[1] < 2:
        return np.ones((table.shape[1], table.shape[1]))
    from scikit_posthocs import posthoc_nemenyi_friedman

    return np.asarray(posthoc_nemenyi_friedman(table), dtype=np.float64)


def critical_difference(methods: int, samples: int, *, alpha: float = 0.05) -> float:
    """The least difference of mean ranks that Nemenyi's test calls real (Demšar 2006, section 3.2.2).

    >>> round(critical_difference(5, 30), 2)
    1.11
    """
    from scipy.stats import studentized_range

    if methods < 2 or samples < 1:
        raise InputError(f"got {methods} methods and {samples} samples, expected at least two methods and one sample")
    q = float(studentized_range.ppf(1.0 - alpha, methods, np.inf)) / np.sqrt(2.0)
    return float(q * np.sqrt(methods * (methods + 1) / (6.0 * samples)))


def rank_biserial(differences: ArrayLike) -> float:
    """Matched-pairs rank-biserial correlation in [-1, 1] of differences (N,): favourable less unfavourable rank sums.

    Kerby (2014). Zero differences are dropped; 0 where none is left.

    >>> rank_biserial([1.0, 2.0, -3.0])
    0.0
    """
    values = np.asarray(differences, dtype=np.float64)
    return float(_signed_rank(values[np.isfinite(values)][:, None])[1][0])


def cliffs_delta(a: ArrayLike, b: ArrayLike) -> float:
    """Cliff's delta in [-1, 1] between values (N,) and (K,): the share of pairs with a above b, less those below.

    >>> cliffs_delta([2.0, 3.0], [1.0, 2.0])
    0.75
    """
    first, second = (np.asarray(v, dtype=np.float64) for v in (a, b))
    first, second = np.sort(first[np.isfinite(first)]), np.sort(second[np.isfinite(second)])
    if not (len(first) and len(second)):
        return float("nan")
    above = np.searchsorted(second, first, "left").sum()
    below = (len(second) - np.searchsorted(second, first, "right")).sum()
    return float(above - below) / (len(first) * len(second))


def cohens_dz(differences: ArrayLike) -> float:
    """The mean of paired differences (N,) in standard deviations; NaN below two values or without spread."""
    values = np.asarray(differences, dtype=np.float64)
    values = values[np.isfinite(values)]
    spread = float(values.std(ddof=1)) if len(values) > 1 and np.ptp(values) > 0 else 0.0
    return float(values.mean() / spread) if spread > 0 else float("nan")


def effects(a: ArrayLike, b: ArrayLike) -> Effects:
    """All effect sizes of the paired values a and b (N,)."""
    differences = np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64)
    return Effects(rank_biserial(differences), cliffs_delta(a, b), cohens_dz(differences))


def groups(p: ArrayLike, mean_ranks: ArrayLike, *, alpha: float = 0.05) -> tuple[tuple[int, ...], ...]:
    """The largest sets of columns no two of which differ (p >= alpha), best first; every column is in at least one.

    Columns within a group, and groups, are ordered by mean rank (lower is better).

    >>> groups([[1, 0.5, 0.01], [0.5, 1, 0.3], [0.01, 0.3, 1]], [1.2, 2.0, 2.8])
    ((0, 1), (1, 2))
    """
    order = np.argsort(np.asarray(mean_ranks, dtype=np.float64), kind="stable")
    alike: Bool[np.ndarray, "m m"] = np.asarray(p, dtype=np.float64)[np.ix_(order, order)] >= alpha
    near = [set(np.flatnonzero(row).tolist()) - {i} for i, row in enumerate(alike)]
    cliques: list[tuple[int, ...]] = []
    _cliques(set(), set(range(len(order))), set(), near, cliques)
    return tuple(tuple(int(order[i]) for i in clique) for clique in sorted(cliques))


def _cliques(
    chosen: set[int], open_: set[int], closed: set[int], near: Sequence[set[int]], cliques: list[tuple[int, ...]]
) -> None:
    """Bron and Kerbosch (1973), with a pivot."""
    if not open_ and not closed:
        if chosen:
            cliques.append(tuple(sorted(chosen)))
        return
    pivot = max(open_ | closed, key=lambda i: len(near[i] & open_))
    for i in sorted(open_ - near[pivot]):
        _cliques(chosen | {i}, open_ & near[i], closed & near[i], near, cliques)
        open_, closed = open_ - {i}, closed | {i}


def letters(sets: Sequence[Sequence[int]], count: int) -> tuple[str, ...]:
    """The compact letter display of ``count`` columns: two that share a letter do not differ (Piepho 2004).

    >>> letters(((0, 1), (1, 2)), 3)
    ('a', 'ab', 'b')
    """
    alphabet = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
    marks = [alphabet[i] if i < len(alphabet) else f"({i + 1})" for i in range(len(sets))]
    return tuple("".join(mark for mark, members in zip(marks, sets, strict=True) if i in members) for i in range(count))
