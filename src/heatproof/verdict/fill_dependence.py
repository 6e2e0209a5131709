"""The same study with several fills: whether what replaces removed positions decides which method leads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from heatproof.results.record import Results
from heatproof.verdict.leader import rankings_by_fill


@dataclass(frozen=True)
class FillDependence:
    """Whether the fill decides which method leads.

    Attributes:
        leaders: by fill the method with the best mean rank. shared: those in the top group with every fill.
        eligible: whether only eligible methods were compared; all were where none is eligible.
    """

    leaders: Mapping[str, str]
    shared: tuple[str, ...]
    eligible: bool = True

    @property
    def changes(self) -> bool:
        """Whether another fill puts another method first."""
        return len(set(self.leaders.values())) > 1


def fill_dependence(
    studies: Sequence[Results], eligible: Sequence[str], metrics: Sequence[str]
) -> FillDependence | None:
    """Whether another fill puts another eligible method first, by these metrics; None without methods."""
    methods = tuple(eligible) or studies[0].methods
    if not methods:
        return None
    rankings = {study.fill: r for study, r in zip(studies, rankings_by_fill(studies, methods, metrics), strict=True)}
    leaders = {fill: ranking.by_rank[0].method for fill, ranking in rankings.items()}
    shared = tuple(sorted(set.intersection(*(set(ranking.top) for ranking in rankings.values()))))
    return FillDependence(leaders, shared, bool(eligible))
