"""The verdict in words: the paragraph, and the findings that a reader should know first."""

from __future__ import annotations

from collections.abc import Sequence

from heatproof.results.ranking import TRUTH
from heatproof.results.record import Results
from heatproof.verdict.checks import LEAST, MethodCheck
from heatproof.verdict.lead import Lead, by_fill


def verdict(results: Results, lead: Lead, winner: str | None, methods: Sequence[MethodCheck]) -> str:
    """What is said where at least one method counts."""
    if lead.samples < LEAST:
        return f"Too few samples to tell: {lead.samples} have all scores, and at least {LEAST} are needed."
    return _alone(results, lead, winner, methods) if len(lead.order) == 1 else _among(results, lead, winner)


def refusal(results: Results, methods: Sequence[MethodCheck], unknowing: str) -> str:
    """What is said where no method counts, or the model knows nothing."""
    if not methods:
        return "No verdict: no method was judged, only controls."
    if unknowing:
        return f"No verdict: the model cannot be said to have learnt anything, as {unknowing}."
    if not results.passed:
        return "No verdict: no metric can tell a method's maps from random or inverted ones on these samples."
    controls = sorted({name for method in methods for name in method.unbeaten})
    why = f"none is better than {listed(controls)}" if controls else "none passes its sanity checks"
    if controls and any(not m.unbeaten for m in methods):
        why = "none both beats every control and passes its sanity checks"
    return f"No method can be trusted for this model and data: {why}."


def findings(
    studies: Sequence[Results], methods: Sequence[MethodCheck], lead: Lead | None, group: Sequence[str]
) -> tuple[str, ...]:
    """What fails, which metrics put none of the ``group`` first, and whether a baseline changes who leads."""
    results = studies[0]
    found = [f"{m.method} is no better than {listed(m.unbeaten)}." for m in methods if m.unbeaten]
    found += [
        f"{m.method} hardly changes when the {'class' if 'logit' in metric else 'model'} does ({metric})."
        for m in methods
        for metric in m.unmoved
    ]
    found += [f"{check.metric} is left out: {check.reason}." for check in results.checks if not check.counts]
    if lead is None or len(lead.order) == 1:
        return tuple(found)
    for metric in (m for m in results.passed if results.family(m) in TRUTH):
        top = set(results.ranking(metric).top)
        if not top & set(group):
            found.append(f"{metric} disagrees: it puts {listed(sorted(top))} first.")
    leaders = {ranking.by_rank[0].method for ranking in by_fill(studies, lead.order)}
    if len(leaders) > 1:
        found.append(f"Another baseline changes who leads: {listed(sorted(leaders))}.")
    return tuple(found)


def listed(names: Sequence[str]) -> str:
    """Names joined by commas and a final "and"."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else list(names))


def _among(results: Results, lead: Lead, winner: str | None) -> str:
    """Of several methods that count."""
    sure = _share(lead.confidence, results.level)
    if winner is not None:
        return (
            f"Trust {winner} for this model and data: it is first in {sure}, {_ranks(lead)} ahead of {lead.rival}, and "
            "it beats every control."
        )
    if len(lead.group) > 1:
        better = ", and are better than the others that beat every control" if len(lead.group) < len(lead.order) else ""
        told = f"{listed(lead.group)} cannot be told apart on these {len(results)} samples{better}"
        return f"{told}; {lead.leader} leads in {sure}."
    return f"No verdict: {lead.leader} leads in {sure}, but {_doubts(lead, results.level)}."


def _alone(results: Results, lead: Lead, winner: str | None, methods: Sequence[MethodCheck]) -> str:
    """Of the only method that counts, with the controls as its rivals."""
    method, sure = lead.leader, _share(lead.confidence, results.level)
    if not results.controls:
        return f"No verdict: {method} alone could count, but no control was tried to compare it with."
    if not lead.sure(results.level):
        doubts = _doubts(lead, results.level)
        return f"No verdict: {method} alone could count; it is ahead of every control in {sure}, but {doubts}."
    if winner is None:
        return (
            f"No verdict: {method} alone beats every control, but no sanity check was made, so it is not known to "
            "explain this model; add parameter-randomisation or random-logit to the metrics."
        )
    passed = listed(next(check.passed for check in methods if check.method == method))
    return (
        f"Trust {method} for this model and data: it alone beats every control, {_ranks(lead)} ahead of "
        f"{lead.rival} and first in {sure}, and passes its sanity checks ({passed})."
    )


def _doubts(lead: Lead, level: float) -> str:
    """Why the leader is not first beyond doubt."""
    doubts = []
    if lead.leader not in lead.group:
        doubts.append(f"{listed(lead.group)} is better in paired tests")
    if lead.confidence < level:
        doubts.append(f"{100 * level:.0f} % are needed")
    if lead.margin is not None and not lead.margin.low > 0:
        doubts.append(f"its margin over {lead.rival}, {_ranks(lead)}, may be none")
    return listed(doubts)


def _ranks(lead: Lead) -> str:
    """The margin with its interval."""
    margin = lead.margin
    return f"{margin.mean:.2f} mean ranks [{margin.low:.2f}, {margin.high:.2f}]" if margin is not None else ""


def _share(confidence: float, level: float) -> str:
    """The confidence as a share of the resamples, never rounded up to the level."""
    digits = 1 if round(confidence, 2) >= level > confidence else 0
    return f"{100 * confidence:.{digits}f} % of the resamples"
