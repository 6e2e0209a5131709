"""What metrics and methods declare about themselves, as the results file holds it, with defaults where it is silent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from heatproof.results.record import Results
from heatproof.verdict.judgement import Judgement

AXIS = "share of positions removed"


@dataclass(frozen=True)
class MetricFacts:
    """What a metric declares.

    Attributes:
        summary, paper: what it measures, and where it was published. unit: of its values, or empty.
        axis, values: what its curve runs along, and what it holds.
        must_change_with: for a sanity check what a good map changes with, else empty.
        follows_fill: whether its scores depend on the fill of the study.
    """

    summary: str
    paper: str
    unit: str
    axis: str
    values: str
    must_change_with: str
    follows_fill: bool


@dataclass(frozen=True)
class MethodFacts:
    """What a method or control declares.

    Attributes:
        summary, paper: what it does, and where it was published. family: ``cam`` or ``method``.
        scaled: whether its map depends on the scale of the logits.
    """

    summary: str
    paper: str
    family: str
    scaled: bool = False


def metric_facts(results: Results, metric: str) -> MetricFacts:
    """The declarations of one metric of the study; a curve holds the score of the model unless it says otherwise."""
    facts = results.about.get("metrics", {}).get(metric, {})
    curve = facts.get("curve") or {}
    return MetricFacts(
        summary=_text(facts, "summary"),
        paper=_text(facts, "paper"),
        unit=_text(facts, "unit"),
        axis=_text(curve, "along", AXIS),
        values=_text(curve, "shows", _score(results)),
        must_change_with=_text(facts, "must_change_with"),
        follows_fill=bool(facts.get("follows_fill", True)),
    )


def _score(results: Results) -> str:
    """What the score of the model is."""
    if results.task == "regression":
        return "output of the model"
    return f"{results.about.get('score', 'score')} of the explained {'class' if results.task == 'classes' else 'label'}"


def method_facts(results: Results, method: str) -> MethodFacts:
    """The declarations of one method or control of the study."""
    facts = results.about.get("method_facts", {}).get(method, {})
    scaled = bool(facts.get("scaled", False))
    return MethodFacts(_text(facts, "summary"), _text(facts, "paper"), _text(facts, "family"), scaled)


def sanity_checks(results: Results) -> tuple[str, ...]:
    """The metrics of the study that measure whether maps change where they should."""
    return tuple(metric for metric in results.metrics if metric_facts(results, metric).must_change_with)


def unbeatable(judgement: Judgement) -> tuple[str, ...]:
    """The families of metrics by which no method can be better than a control."""
    return tuple(
        dict.fromkeys(judgement.results.family(m) for m in judgement.comparable if m not in judgement.testable)
    )


def arrow(results: Results, metric: str) -> str:
    """An arrow in the direction of good scores."""
    return "↑" if results.better(metric) == "higher" else "↓"


def _text(facts: Mapping[str, Any], key: str, default: str = "") -> str:
    return str(facts.get(key) or default)
