"""Which method to use on this model and data, or why none is named.

    (0) The model must have learnt something (checks).
    (1) A method must be eligible: beat its own controls (eligibility).
    (2) For each question the eligible methods are named that are not worse than any other eligible one by as much as
        the smallest difference that matters: the lower limit of their mean difference lies above minus that (IUT).
    (3) Methods named for both questions are the answer. Where there is none, each question has its own.

With fewer than 48 samples nothing is named.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from heatproof import stats
from heatproof.records import Estimate, Finding
from heatproof.results.record import Results
from heatproof.verdict.eligibility import MethodCheck, samples_needed
from heatproof.verdict.questions import QUESTIONS, Question, scores

FEWEST = 48  # samples below which no method is named
Kind = Literal["use", "interchangeable", "by question", "none", "cannot tell yet"]
Reason = Literal[
    "", "no-methods", "model-has-not-learnt", "no-evidence", "no-donors", "no-own-controls", "no-eligible-method",
    "one-group", "too-few-samples", "not-yet-shown", "not-separated",
]  # fmt: skip


@dataclass(frozen=True)
class Comparison:
    """Two eligible methods compared for one question.

    Attributes:
        ahead: by how much the first scores more than the second, with interval.
    """

    question: Question
    first: str
    second: str
    ahead: Estimate


@dataclass(frozen=True)
class Decision:
    """What is decided, and what it rests on.

    Attributes:
        kind: the answer. reason: why no method is named, where none is.
        trusted: the methods named; where, how_much: those named for each question.
        samples: how many were studied. level: the confidence level. delta: the smallest difference that matters.
        needed: about how many samples in all would give an answer; NaN where there is one or none is expected.
        asked: the questions that have a metric; open: those of them without an answer.
        undecided: eligible methods that are not named, and that no method named is shown to be better than.
        comparisons: of every two eligible methods for each question. model: what the check of the model gave.
    """

    kind: Kind
    samples: int
    level: float
    delta: float
    reason: Reason = ""
    trusted: tuple[str, ...] = ()
    where: tuple[str, ...] = ()
    how_much: tuple[str, ...] = ()
    needed: float = math.nan
    comparisons: tuple[Comparison, ...] = ()
    model: Finding | None = None
    open: tuple[Question, ...] = ()
    undecided: tuple[str, ...] = ()
    asked: tuple[Question, ...] = ()


def decide(
    results: Results, checks: Sequence[MethodCheck], *, model: Finding | None, asked: Sequence[Question], delta: float
) -> Decision:
    """The decision on a study.

    Args:
        checks: of all methods. model: what the check of the model gave. asked: the questions that have a metric.
    """
    samples, level = len(results), results.level

    def without(kind: Kind, reason: Reason, needed: float = math.nan) -> Decision:
        return Decision(kind, samples, level, delta, reason, needed=needed, model=model)

    if not checks:
        return without("none", "no-methods")
    if model is not None and model.severity == "bad":
        return without("none", "model-has-not-learnt")
    defined = max(check.overall.n for check in checks)
    if not asked or not defined:
        alike = bool(asked) and len(np.unique(results.predictions)) < 2
        return without("cannot tell yet", "no-donors" if alike else "no-evidence")
    if all(not check.controls for check in checks):
        return without("cannot tell yet", "no-own-controls")
    if results.groups is not None and len(np.unique(results.groups)) < 2:
        return without("cannot tell yet", "one-group")
    if defined < FEWEST:
        return without("cannot tell yet", "too-few-samples", FEWEST)
    eligible = [check.method for check in checks if check.eligible]
    if not eligible:
        waiting = [check.needed for check in checks if check.standing == "not yet shown" and check.controls]
        if not waiting:
            return without("none", "no-eligible-method")
        return without("cannot tell yet", "not-yet-shown", min(waiting))
    comparisons = compared(results, eligible, asked)
    names = {question: named(comparisons, eligible, question, delta) for question in asked}
    return _answer(results, eligible, names, comparisons, model, delta)


def _answer(
    results: Results,
    eligible: Sequence[str],
    names: Mapping[Question, tuple[str, ...]],
    comparisons: tuple[Comparison, ...],
    model: Finding | None,
    delta: float,
) -> Decision:
    """What follows from the methods named for each question."""
    both = tuple(name for name in eligible if all(name in part for part in names.values()))
    open_ = tuple(question for question, part in names.items() if not part)
    kind: Kind = "use" if len(both) == 1 else "interchangeable" if both else "by question"
    reason: Reason = ""
    if len(open_) == len(names):
        kind, reason = "cannot tell yet", "not-separated"
    needed = max((_needed(comparisons, eligible, question, delta) for question in open_), default=math.nan)
    trusted = both or tuple(dict.fromkeys(name for question in QUESTIONS for name in names.get(question, ())))
    return Decision(
        kind, len(results), results.level, delta, reason, trusted, names.get("where", ()), names.get("how much", ()),
        needed, comparisons, model, open_, _undecided(comparisons, eligible, trusted),
        tuple(names),
    )  # fmt: skip


def _undecided(comparisons: Sequence[Comparison], eligible: Sequence[str], trusted: Sequence[str]) -> tuple[str, ...]:
    """The eligible methods that are neither named nor shown to be worse than one that is, for any question."""
    ahead = {(one.first, one.second) for one in comparisons if one.ahead.low > 0}
    ahead |= {(one.second, one.first) for one in comparisons if one.ahead.high < 0}
    return tuple(
        name for name in eligible if name not in trusted and not any((other, name) in ahead for other in trusted)
    )


def compared(results: Results, methods: Sequence[str], asked: Sequence[Question]) -> tuple[Comparison, ...]:
    """Every two methods compared for each question, in samples where both have a score."""
    rows, columns = list[tuple[Question, str, str]](), list[np.ndarray]()
    for question in asked:
        values = {name: scores(results, name, question) for name in methods}
        for i, first in enumerate(methods):
            for second in methods[i + 1 :]:
                a, b = values[first], values[second]
                if a is not None and b is not None:
                    rows.append((question, first, second))
                    columns.append(a - b)
    if not rows:
        return ()
    means = stats.estimates(np.stack(columns, axis=1), groups=results.groups, level=results.level)
    return tuple(Comparison(*row, mean) for row, mean in zip(rows, means, strict=True))


def named(
    comparisons: Sequence[Comparison], methods: Sequence[str], question: Question, delta: float
) -> tuple[str, ...]:
    """The methods that are not worse than any other by as much as ``delta``."""
    return tuple(name for name in methods if all(low > -delta for low in _limits(comparisons, name, question).values()))


def _limits(comparisons: Sequence[Comparison], name: str, question: Question) -> dict[str, float]:
    """The lower limit of how far a method is ahead of each other."""
    limits = {}
    for one in comparisons:
        if one.question == question and name in (one.first, one.second):
            other = one.second if name == one.first else one.first
            limits[other] = one.ahead.low if name == one.first else -one.ahead.high
    return limits


def _needed(comparisons: Sequence[Comparison], methods: Sequence[str], question: Question, delta: float) -> float:
    """About how many samples would name the method that needs the fewest."""
    most = []
    for name in methods:
        needed = [0.0]
        for one in comparisons:
            if one.question == question and name in (one.first, one.second):
                e, sign = one.ahead, 1 if name == one.first else -1
                ahead = sign * e.mean + delta > 0
                needed.append(samples_needed(e, -sign * delta) if ahead else math.inf)
        most.append(max(needed))
    return min(most, default=math.inf)
