"""Checks of the model and the methods: copies with random weights, own controls, maps that should change."""

from __future__ import annotations

import math

from heatproof.phrases import listed, plural, rounded
from heatproof.report import facts
from heatproof.report.content import Content
from heatproof.report.parts import Cell, Part, Picture, Section, Table, compose, listing
from heatproof.report.sections.curves import LINES, curve
from heatproof.verdict import wording
from heatproof.verdict.judgement import Judgement

KINDS = (
    "model-has-learnt", "model-has-not-learnt", "no-question", "no-own-controls", "eligible-methods", "barred",
    "not-yet-shown",
)  # fmt: skip
OPEN = 12  # rows that are shown without being opened
MANY = 1_000_000  # samples; more than any study has


def section(content: Content) -> Section | None:
    """Whether the model has learnt anything, and each method against each of its own controls."""
    judgement = content.judgement
    if judgement is None or not judgement.results.methods or not judgement.results.metrics:
        return None
    lead = (
        "Before anything is concluded, the model is compared with copies of it that have random weights, and each "
        "method with its own controls: its maps of other samples, of another class (or of a model with random "
        "weights), and its maps moved by an eighth of the input. A method that follows model and input loses by all of "
        "these changes. No other method takes part in this."
    )
    parts: list[Part | None] = [
        listing(item for kind in KINDS for item in judgement.statements if item.findings[0].kind == kind),
        _controls(judgement),
        _similarities(judgement),
        *_curves(judgement),
    ]
    return compose("checks", "Checks of the model and the methods", "Checks", lead, parts)


def _controls(judgement: Judgement) -> Table | None:
    """A row a method and control: by how much the method is ahead, and whether that is enough."""
    rows, faint = list[tuple[Cell, ...]](), set[int]()
    for check in judgement.verdict.by_score:
        for test in check.controls:
            if test.outcome != "beaten":
                faint.add(len(rows))
            needed = test.needed if test.outcome == "open" else math.nan
            more = rounded(needed) if needed < MANY else None
            rows.append((check.method, wording.control(test.control), test.ahead, test.least, test.outcome, more))
    if not rows:
        return None
    caption = (
        "Methods against their own controls: mean difference of the overall scores in the same samples, with "
        f"{judgement.level_text} intervals. Beaten: the whole interval lies above what is required. Samples needed: "
        "how many in all would decide an open comparison (at 80 % power, assuming the observed effect)."
    )
    columns = ("Method", "Control", "Difference", "Required above", "Outcome", "Samples needed")
    short = f"{plural(len(rows), 'comparison')} of methods with their own controls"
    return Table(
        "own-controls", caption, columns, tuple(rows), frozenset(faint), digits=2, folded=len(rows) > OPEN, short=short
    )


def _similarities(judgement: Judgement) -> Table | None:
    """How similar maps remain where they should change."""
    limits = {metric: judgement.results.unchanged_above(metric) for metric in judgement.results.metrics}
    metrics = [metric for metric, limit in limits.items() if limit is not None]
    if not metrics:
        return None
    rows = tuple((name, *(judgement.estimates.get((name, m)) for m in metrics)) for name in judgement.everyone)
    above = listed([f"{limits[metric]} for {metric}" for metric in metrics])
    caption = (
        f"Similarity of maps that should change (1: unchanged), with {judgement.level_text} intervals. Maps barely "
        f"change where the whole interval lies above {above}. Reference maps ignore the model, so they stay the same."
    )
    faint = frozenset(range(len(judgement.results.methods), len(rows)))
    return Table("sanity", caption, ("Method", *metrics), rows, faint, digits=2)


def _curves(judgement: Judgement) -> list[Picture]:
    """The curves of the sanity checks, of the best methods."""
    results = judgement.results
    metrics = [m for m in facts.sanity_checks(results) if any(metric == m for _, metric in results.curves)]
    shown = [name for name in judgement.everyone if name not in results.controls][:LINES]
    return [curve(judgement, metric, shown, folded=i > 0) for i, metric in enumerate(metrics)]
