"""The same study with several fills: how much the verdict depends on what removed positions become."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from heatproof.results.record import Results
from heatproof.verdict.lead import by_fill
from heatproof.verdict.wording import listed


@dataclass(frozen=True)
class Dependence:
    """Whether the fill decides who leads.

    Attributes:
        leaders: by fill the method with the best mean rank. shared: those in the top group with every fill.
        text: the same as a sentence.
    """

    leaders: dict[str, str]
    shared: tuple[str, ...]
    text: str

    @property
    def changes(self) -> bool:
        """Whether another fill puts another method first."""
        return len(set(self.leaders.values())) > 1


def fill_of(results: Results) -> str:
    """What removed positions became in a study."""
    return str(results.about.get("fill", "not recorded"))


def dependence(studies: Sequence[Results], counting: Sequence[str]) -> Dependence:
    """Whether another fill would have put another method first, of those that count, or of all where none does."""
    everyone = studies[0].methods
    if not everyone:
        return Dependence({}, (), "Only controls were judged, so no method can lead with any baseline.")
    methods = tuple(counting) or everyone
    rankings = dict(zip(map(fill_of, studies), by_fill(studies, methods), strict=True))
    leaders = {fill: ranking.by_rank[0].method for fill, ranking in rankings.items()}
    shared = tuple(sorted(set.intersection(*(set(ranking.top) for ranking in rankings.values()))))
    whom = "" if len(methods) == len(counting) == len(everyone) else " among the methods that count"
    return Dependence(leaders, shared, _said(leaders, shared, whom if counting else ", though no method counts"))


def _said(leaders: dict[str, str], shared: Sequence[str], whom: str) -> str:
    if len(set(leaders.values())) == 1:
        first = next(iter(leaders.values()))
        return f"The baseline does not change who leads{whom}: {first} is first with {listed([*leaders])}."
    said = "; ".join(f"{fill}: {name}" for fill, name in leaders.items())
    if shared:
        verb = "is" if len(shared) == 1 else "are"
        top = f"{listed(shared)} {verb} in the top group with every one"
        return f"The baseline changes who leads{whom} ({said}), but not beyond doubt: {top}."
    return f"The baseline changes who leads{whom} ({said}); no method is in the top group with every one."
