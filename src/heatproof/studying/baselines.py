"""The same study with several fills: how much the verdict depends on what removed positions become."""

from __future__ import annotations

from collections.abc import Sequence

from heatproof.studying.results import Results


def fill_of(results: Results) -> str:
    """What removed positions became in a study."""
    return str(results.about.get("fill", "not recorded"))


def leaders(studies: Sequence[Results]) -> dict[str, tuple[str, ...]]:
    """By fill, the methods at the top that cannot be told apart, the one with the best mean rank first."""
    found = {}
    for study in studies:
        ranking = study.ranking()
        if not ranking.rows:
            continue
        found[fill_of(study)] = (ranking.rows[0].method, *(m for m in ranking.top if m != ranking.rows[0].method))
    return found


def dependence(studies: Sequence[Results]) -> str:
    """A sentence: whether another baseline would have put another method first."""
    tops = leaders(studies)
    if not tops:
        return "Only controls were judged, so no method can lead with any baseline."
    first = {fill: names[0] for fill, names in tops.items()}
    if len(set(first.values())) == 1:
        return f"The baseline does not change who leads: {next(iter(first.values()))} is first with {_and([*tops])}."
    said = "; ".join(f"{fill}: {name}" for fill, name in first.items())
    shared = set.intersection(*(set(names) for names in tops.values()))
    if shared:
        return (
            f"The baseline changes who leads ({said}), but not beyond doubt: {_and(sorted(shared))} "
            f"{'is' if len(shared) == 1 else 'are'} in the top group with every one."
        )
    return f"The baseline changes who wins ({said}); no method is in the top group with every one."


def _and(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else list(names))
