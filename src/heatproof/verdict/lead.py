"""Who leads, and how surely: the best method over the next one, or the only one that counts over the controls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from heatproof import stats
from heatproof.records import Estimate
from heatproof.results.ranking import Ranking, mean_defined, standings
from heatproof.results.record import Results


@dataclass(frozen=True)
class Lead:
    """How far the leader is ahead.

    Attributes:
        order: the methods that count, the leader first. rival: what it is compared with: the next of them or, where
            it counts alone, the best control; empty without one.
        group: those at the top that no other is better than. confidence: the share of resamples, over samples and
            fills, in which the leader stays on top; NaN without a rival.
        margin: by how many mean ranks it is ahead of the rival, with interval; None without. samples: with all scores.
    """

    order: tuple[str, ...]
    rival: str
    group: tuple[str, ...]
    confidence: float
    margin: Estimate | None
    samples: int

    @property
    def leader(self) -> str:
        """The method with the best mean rank."""
        return self.order[0]

    def sure(self, level: float) -> bool:
        """Whether it is first beyond doubt."""
        ahead = self.margin is not None and self.margin.low > 0
        return ahead and self.leader in self.group and self.confidence >= level


def lead(studies: Sequence[Results], methods: Sequence[str]) -> Lead:
    """How far the best of these methods leads, by the metrics that rank, over all fills; at least one is expected."""
    return _over_controls(studies, methods[0]) if len(methods) == 1 else _over_others(studies, methods)


def by_fill(studies: Sequence[Results], methods: Sequence[str]) -> tuple[Ranking, ...]:
    """With each fill the ranking of these methods, by the metrics that rank the first study."""
    return tuple(_ranking(studies[0], table, methods) for table in _voices(studies, methods))


def _voices(studies: Sequence[Results], methods: Sequence[str]) -> Float[np.ndarray, "b n m"]:
    """With each fill each sample's mean rank of these methods, over the families of the metrics that rank."""
    columns = [studies[0].methods.index(name) for name in methods]
    ranked = studies[0].ranked
    return np.stack([study.voices(controls=False, metrics=ranked)[:, columns] for study in studies])


def _ranking(results: Results, table: Float[np.ndarray, "n m"], methods: Sequence[str]) -> Ranking:
    alpha, seed = 1 - results.level, results.seed
    return standings(table, table, methods, (), metric=None, better="lower", alpha=alpha, seed=seed)


def _over_others(studies: Sequence[Results], methods: Sequence[str]) -> Lead:
    """Two methods or more: the first against the second, each sample's mean ranks ranked again."""
    results, tables = studies[0], _voices(studies, methods)
    ranking = _ranking(results, mean_defined(list(tables)), methods)
    order = tuple(row.method for row in ranking.by_rank)
    placed = np.stack([stats.ranks(table, better="lower") for table in tables])
    first, second = (methods.index(name) for name in order[:2])
    confidence = float(stats.winner_share(placed, seed=results.seed)[first])
    ahead = mean_defined(list(placed[:, :, second] - placed[:, :, first]))
    margin = stats.estimate(ahead, confidence=results.level, seed=results.seed)
    return Lead(order, order[1], ranking.top, confidence, margin, ranking.samples)


def _over_controls(studies: Sequence[Results], method: str) -> Lead:
    """A single method: it against the best control."""
    results = studies[0]
    columns = [results.methods.index(method), *range(len(results.methods), len(results.methods + results.controls))]
    tables = np.stack([study.voices(metrics=results.ranked)[:, columns] for study in studies])
    pooled = mean_defined(list(tables))
    known = pooled[np.isfinite(pooled).all(axis=1)]
    if not results.controls or not len(known):
        return Lead((method,), "", (method,), float("nan"), None, len(known))
    confidence = float(stats.winner_share(tables, seed=results.seed)[0])
    place = 1 + int(np.argmin(known[:, 1:].mean(axis=0)))
    margin = stats.estimate(pooled[:, place] - pooled[:, 0], confidence=results.level, seed=results.seed)
    return Lead((method,), results.controls[place - 1], (method,), confidence, margin, len(known))
