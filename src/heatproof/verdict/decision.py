"""Which method to use on this model and data, or why none is named.

    (0) The model must have learnt something (checks).
    (1) A metric must be valid: able to tell a real map from a wrong one here (checks).
    (2) A method must be eligible: beat every control, pass every sanity check that was made (eligibility).
    (3) Metrics of region rank the methods where they are valid; else those of faithfulness and localisation do. Ranks
        are averaged within a family of metrics, then over the families.
    (4) Friedman's test and Holm-corrected paired tests give the top group: those that no other is better than (leader).
    (5) The support is the share of resamples, over samples and fills, in which the leader stays first.

A method is named only if it is in the top group, its support reaches the confidence level, and the interval of its
margin over the next lies above 0. Where a single method is eligible, the controls are its rivals, and it must also have
passed a sanity check.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from heatproof.records import Finding
from heatproof.results.record import Results
from heatproof.verdict.checks import LEAST
from heatproof.verdict.eligibility import MethodCheck
from heatproof.verdict.leader import Lead, lead

Kind = Literal[
    "use", "use-only-eligible", "not-significantly-different", "leader-uncertain", "only-eligible-uncertain",
    "only-eligible-without-controls", "only-eligible-without-sanity-check", "too-few-samples", "no-methods",
    "model-has-not-learnt", "no-valid-metric", "no-eligible-method",
]  # fmt: skip
Doubt = Literal["better-method", "support", "margin"]


@dataclass(frozen=True)
class Decision:
    """What is decided, and what it rests on.

    Attributes:
        kind: "use" and "use-only-eligible" name a method, all others name none.
        winner: the method named, or None. group: the methods at the top; empty where none is eligible.
        samples: how many were studied. level: the confidence level asked for.
        lead: how far the leader is ahead; None where no method is eligible. doubts: what keeps it from being named.
        model: what the check of the model found. controls: those that some method does not beat.
        passed: the sanity checks that the leader passed. barred: why methods are not eligible: "controls",
            "sanity-checks" or "both".
    """

    kind: Kind
    samples: int
    level: float
    winner: str | None = None
    group: tuple[str, ...] = ()
    lead: Lead | None = None
    doubts: tuple[Doubt, ...] = ()
    model: Finding | None = None
    controls: tuple[str, ...] = ()
    passed: tuple[str, ...] = ()
    barred: Literal["", "controls", "sanity-checks", "both"] = ""


def decide(
    studies: Sequence[Results],
    *,
    model: Finding | None,
    valid: Sequence[str],
    ranking_metrics: Sequence[str],
    methods: Sequence[MethodCheck],
) -> Decision:
    """The decision on a study (with each of its fills).

    Args:
        model: what the check of the model found. valid: the valid metrics; ranking_metrics: those of them that rank.
        methods: the checks of all methods, under every fill.
    """
    samples, level = len(studies[0]), studies[0].level
    if not methods:
        return Decision("no-methods", samples, level)
    if model is not None and model.severity == "bad":
        return Decision("model-has-not-learnt", samples, level, model=model)
    if not valid:
        return Decision("no-valid-metric", samples, level)
    eligible = [check.method for check in methods if check.eligible]
    if not eligible:
        controls = tuple(sorted({name for check in methods for name in check.not_better_than}))
        all_lose = all(check.not_better_than for check in methods)
        barred: Literal["controls", "sanity-checks", "both"] = (
            "sanity-checks" if not controls else "controls" if all_lose else "both"
        )
        return Decision("no-eligible-method", samples, level, model=model, controls=controls, barred=barred)
    ahead = lead(studies, eligible, ranking_metrics)
    passed = next(check.passed for check in methods if check.method == ahead.leader)
    kind = _kind(ahead, level, passed)
    winner = ahead.leader if kind in ("use", "use-only-eligible") else None
    group = () if ahead.samples < LEAST else (winner,) if winner else ahead.group
    return Decision(kind, samples, level, winner, group, ahead, _doubts(ahead, level), model, passed=passed)


def _kind(ahead: Lead, level: float, passed: Sequence[str]) -> Kind:
    """What is said where at least one method is eligible."""
    if ahead.samples < LEAST:
        return "too-few-samples"
    if len(ahead.order) > 1:
        if ahead.significant(level):
            return "use"
        return "not-significantly-different" if len(ahead.group) > 1 else "leader-uncertain"
    if not ahead.rival:
        return "only-eligible-without-controls"
    if not ahead.significant(level):
        return "only-eligible-uncertain"
    return "use-only-eligible" if passed else "only-eligible-without-sanity-check"


def _doubts(ahead: Lead, level: float) -> tuple[Doubt, ...]:
    """Why the leader is not significantly ahead."""
    doubts: list[Doubt] = []
    if ahead.leader not in ahead.group:
        doubts.append("better-method")
    if ahead.support < level:
        doubts.append("support")
    if ahead.margin is not None and not ahead.margin.low > 0:
        doubts.append("margin")
    return tuple(doubts)
