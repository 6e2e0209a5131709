"""Which method leads, and by how much: over the next eligible method, or where it is alone over the controls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from heatproof import stats
from heatproof.records import Estimate
from heatproof.results.ranking import Ranking, mean_defined, ranking_of
from heatproof.results.record import Results


@dataclass(frozen=True)
class Lead:
    """How far the leader is ahead.

    Attributes:
        order: the eligible methods, the leader first. rival: what it is compared with: the next of them or, where it is
            the only one, the best control; empty without one.
        group: those that no other is significantly better than. support: the share of resamples, over samples and
            fills, in which the leader stays first; NaN without a rival.
        margin: by how many mean ranks it is ahead of the rival, with interval; None without. samples: with all scores.
    """

    order: tuple[str, ...]
    rival: str
    group: tuple[str, ...]
    support: float
    margin: Estimate | None
    samples: int

    @property
    def leader(self) -> str:
        """The method with the best mean rank."""
        return self.order[0]

    def significant(self, level: float) -> bool:
        """Whether no method is better, its support reaches the level, and the interval of its margin is above 0."""
        ahead = self.margin is not None and self.margin.low > 0
        return ahead and self.leader in self.group and self.support >= level


def lead(studies: Sequence[Results], methods: Sequence[str], metrics: Sequence[str]) -> Lead:
    """How far the best of these methods leads by these metrics, over all fills; at least one method is expected."""
    if len(methods) == 1:
        return _over_controls(studies, methods[0], metrics)
    return _over_methods(studies, methods, metrics)


def rankings_by_fill(studies: Sequence[Results], methods: Sequence[str], metrics: Sequence[str]) -> tuple[Ranking, ...]:
    """With each fill the ranking of these methods by these metrics."""
    return tuple(_ranking(studies[0], table, methods) for table in _ranks(studies, methods, metrics))


def _ranks(studies: Sequence[Results], methods: Sequence[str], metrics: Sequence[str]) -> Float[np.ndarray, "b n m"]:
    """With each fill each sample's mean rank of these methods, over the families of the metrics."""
    columns = [studies[0].methods.index(name) for name in methods]
    return np.stack([study.family_ranks(metrics, controls=False)[:, columns] for study in studies])


def _ranking(results: Results, table: Float[np.ndarray, "n m"], methods: Sequence[str]) -> Ranking:
    alpha, seed = 1 - results.level, results.seed
    return ranking_of(table, table, methods, (), metric=None, better="lower", alpha=alpha, seed=seed)


def _over_methods(studies: Sequence[Results], methods: Sequence[str], metrics: Sequence[str]) -> Lead:
    """Two methods or more: the first against the second, each sample's mean ranks ranked again."""
    results, tables = studies[0], _ranks(studies, methods, metrics)
    ranking = _ranking(results, mean_defined(list(tables)), methods)
    order = tuple(row.method for row in ranking.by_rank)
    ranks = np.stack([stats.ranks(table, better="lower") for table in tables])
    first, second = (methods.index(name) for name in order[:2])
    support = float(stats.support(ranks, seed=results.seed)[first])
    ahead = mean_defined(list(ranks[:, :, second] - ranks[:, :, first]))
    margin = stats.estimate(ahead, level=results.level)
    return Lead(order, order[1], ranking.top, support, margin, ranking.samples)


def _over_controls(studies: Sequence[Results], method: str, metrics: Sequence[str]) -> Lead:
    """A single method: it against the best control."""
    results = studies[0]
    columns = [results.methods.index(method), *range(len(results.methods), len(results.everyone))]
    tables = np.stack([study.family_ranks(metrics)[:, columns] for study in studies])
    pooled = mean_defined(list(tables))
    complete = pooled[np.isfinite(pooled).all(axis=1)]
    if not results.controls or not len(complete):
        return Lead((method,), "", (method,), float("nan"), None, len(complete))
    support = float(stats.support(tables, seed=results.seed)[0])
    place = 1 + int(np.argmin(complete[:, 1:].mean(axis=0)))
    margin = stats.estimate(pooled[:, place] - pooled[:, 0], level=results.level)
    return Lead((method,), results.controls[place - 1], (method,), support, margin, len(complete))
