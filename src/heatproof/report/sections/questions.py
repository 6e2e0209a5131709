"""The evidence for the verdict: every method's answer to both questions, its own controls, and pairs of methods."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from heatproof import plots, stats
from heatproof.phrases import listed, plural, rounded
from heatproof.records import Estimate
from heatproof.report.content import Content
from heatproof.report.parts import Cell, Part, Picture, Section, Table, compose
from heatproof.verdict import wording
from heatproof.verdict.decision import Comparison
from heatproof.verdict.eligibility import MethodCheck
from heatproof.verdict.judgement import Judgement
from heatproof.verdict.questions import Question, controls_of, scores

OPEN = 12  # rows that are shown without being opened
TITLES: dict[Question, str] = {"where": "Where does the model look?", "how much": "How much does each part matter?"}


def section(content: Content) -> Section | None:
    """Both questions in one picture, each method's standing, and the eligible methods compared with each other."""
    judgement = content.judgement
    if judgement is None or not judgement.questions or not judgement.results.methods:
        return None
    checks = judgement.verdict.by_score
    if not any(check.overall.n for check in checks):
        return None
    delta = judgement.delta
    lead = (
        "Every map is compared with what the model itself shows: what windows of the input are worth to it when they "
        "are exchanged with those of another sample. Two questions are asked of a map: does it point to the parts "
        "that matter most (where), and does its relevance follow what all windows are worth (how much). A method may "
        "be named if it beats its own controls, which are its maps made wrong on purpose. Of these methods, all that "
        f"are not worse than any other by {delta:g} or more are named for a question."
    )
    parts: list[Part | None] = [_drawn(judgement, checks), _standings(judgement, checks), *_pairs(judgement)]
    return compose("questions", "Verdict: the evidence", "Questions", lead, parts)


def _drawn(judgement: Judgement, checks: Sequence[MethodCheck]) -> Picture:
    results, verdict = judgement.results, judgement.verdict
    answers = {
        TITLES[question]: [
            plots.Answer(
                check.where if question == "where" else check.how_much,
                _mark(check, named=question in verdict.named_for(check.method)),
                [_mean(judgement, check.method, question, control) for control in controls_of(results, check.method)],
            )
            for check in checks
        ]
        for question in judgement.questions
    }
    references = {
        name: [_mean(judgement, name, question) for question in judgement.questions] for name in results.controls
    }
    figure = plots.questions([check.method for check in checks], answers, references=references)
    caption = (
        f"Mean scores with {judgement.level_text} intervals. Full blue discs: named for this question; rings: "
        "eligible; grey: not yet shown to beat their own controls, or barred. Strokes: mean scores of the method's own "
        "controls."
    )
    if references:
        caption += f" Green lines: reference maps that ignore the model ({listed([*references])}); they bar no method."
    numbers = "; ".join(
        f"{check.method} {check.where.mean:.2f} and {check.how_much.mean:.2f}" for check in checks if check.overall.n
    )
    return Picture("questions", caption, f"Scores for where and for how much: {numbers}", figure)


def _mark(check: MethodCheck, *, named: bool) -> plots.Mark:
    return "named" if named else "eligible" if check.eligible else "faint"


def _mean(judgement: Judgement, method: str, question: Question, control: str = "") -> float:
    """The mean score of a method, of one of its own controls, or of a reference map."""
    values = scores(judgement.results, method, question, control)
    if values is None or not np.isfinite(values).any():
        return math.nan
    return float(np.nanmean(values))


def _standings(judgement: Judgement, checks: Sequence[MethodCheck]) -> Table:
    """A row a method: its standing, its scores, for what it is named, and what keeps it from being named."""
    rows: list[tuple[Cell, ...]] = [
        (
            check.method, check.standing, _defined(check.where), _defined(check.how_much), _defined(check.overall),
            wording.questions(judgement.verdict.named_for(check.method)), _obstacles(check),
        )
        for check in checks
    ]  # fmt: skip
    faint = {i for i, check in enumerate(checks) if not check.eligible}
    for name in judgement.results.controls:
        faint.add(len(rows))
        rows.append((f"{name} (reference)", "", *_reference(judgement, name), "", ""))
    caption = (
        f"Standing and scores of the methods, with {judgement.level_text} intervals; 0 is chance, 1 is a perfect map. "
        "Overall: the mean of both. Eligible: beats all of its own controls. Barred: does not beat one of them. Not "
        "yet shown: these samples do not decide it. Only eligible methods can be named; reference maps never are."
    )
    columns = ("Method", "Standing", "Where", "How much", "Overall", "Named for", "Controls not beaten")
    return Table("methods-verdict", caption, columns, tuple(rows), frozenset(faint), digits=2)


def _defined(estimate: Estimate) -> Estimate | None:
    return estimate if estimate.n else None


def _reference(judgement: Judgement, name: str) -> tuple[Cell, Cell, Cell]:
    """The scores of a reference map for both questions and overall."""
    results = judgement.results
    place = results.everyone.index(name)
    columns = [
        scores(results, name, "where"),
        scores(results, name, "how much"),
        judgement.overall(controls=True)[:, place],
    ]
    cells = [
        None
        if column is None
        else _defined(stats.estimates(column[:, None], groups=results.groups, level=results.level)[0])
        for column in columns
    ]
    return cells[0], cells[1], cells[2]


def _obstacles(check: MethodCheck) -> str:
    """The controls that a method does not beat, and those that are open with the samples that would decide."""
    words = [*check.barred_by]
    for test in check.controls:
        if test.outcome == "open":
            needed = f" (about {rounded(test.needed):,} samples needed)" if math.isfinite(test.needed) else ""
            words.append(f"open: {test.control}{needed}")
    return "; ".join(words) or ("none" if check.controls else "not computed")


def _pairs(judgement: Judgement) -> list[Part | None]:
    """The eligible methods compared two by two, for each question."""
    pairs = judgement.decision.comparisons
    if not pairs:
        return []
    delta = judgement.delta
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (one.question, one.first, one.second, one.ahead, reading(one, delta)) for one in pairs
    )
    samples = plural(len(judgement.results), "sample")
    caption = (
        f"Eligible methods compared on the same {samples}: mean difference of their scores with its "
        f"{judgement.level_text} interval. A difference of {delta:g} is the smallest that matters; whole intervals "
        "within it mean that the methods are interchangeable for that question."
    )
    columns = ("Question", "Method", "Compared with", "Difference", "Reading")
    short = f"{plural(len(rows), 'comparison')} of eligible methods"
    return [Table("comparisons", caption, columns, rows, digits=3, folded=len(rows) > OPEN, short=short)]


def reading(one: Comparison, delta: float) -> str:
    """What a comparison says, in words.

    >>> reading(Comparison("where", "a", "b", Estimate(0.0, -0.02, 0.03, 9)), 0.05)
    'within 0.05'
    >>> reading(Comparison("where", "a", "b", Estimate(-0.2, -0.3, -0.1, 9)), 0.05)
    'b is better by 0.05 or more'
    """
    low, high = one.ahead.low, one.ahead.high
    if low > -delta and high < delta:
        return f"within {delta:g}"
    if low >= delta or high <= -delta:
        return f"{one.first if low >= delta else one.second} is better by {delta:g} or more"
    if low > 0 or high < 0:
        return f"{one.first if low > 0 else one.second} is better; by {delta:g} or more is open"
    if low > -delta or high < delta:
        worse = one.first if low > -delta else one.second
        return f"{worse} is not worse by {delta:g} or more"
    return "open"
