"""With and without the incorrectly classified samples, and class by class."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from heatproof import stats
from heatproof.phrases import listed
from heatproof.records import Estimate
from heatproof.report import facts
from heatproof.report.content import Content
from heatproof.report.parts import Cell, Part, Section, Table, compose
from heatproof.results.record import Stratum
from heatproof.verdict.evidence import FEW, SPREAD
from heatproof.verdict.judgement import Judgement

BY = {"classes": "class", "labels": "explained label"}
CLASSES = 40  # in a table
SPACIOUS = 3  # methods up to which a table has room for intervals
OPEN = 12  # rows that are shown without being opened
STRATA: tuple[tuple[str, Stratum], ...] = (
    ("All", "all"), ("Correctly classified", "correct"), ("Incorrectly classified", "incorrect"),
)  # fmt: skip


def section(content: Content) -> Section | None:
    """Overall scores by correctness of the prediction and by class."""
    judgement = content.judgement
    if judgement is None or not judgement.results.methods or not judgement.results.gradable:
        return None
    results = judgement.results
    both = bool(results.correct.any() and not results.correct.all())
    answered = bool(np.isfinite(judgement.overall()).any())
    order = [results.methods.index(check.method) for check in judgement.verdict.by_score]
    parts: list[Part | None] = [
        _by_correctness(judgement, order) if both and answered else None,
        _by_class(judgement, order) if answered else None,
        _scores(judgement) if both else None,
    ]
    lead = (
        "A method that explains correct predictions well may explain errors poorly, and its quality may differ between "
        "classes. The verdict uses all samples, also those that are classified incorrectly."
    )
    if results.task == "labels":
        lead = lead.replace("classes.", "labels.")
    if not both:
        how = "correctly" if results.correct.all() else "incorrectly"
        lead = f"All {len(results):,} samples are classified {how}, so only the {results.task} can be compared."
    return compose("strata", "Correctly and incorrectly classified samples, and classes", "Classes", lead, parts)


def _means(judgement: Judgement, rows: np.ndarray) -> tuple[Estimate, ...]:
    """The mean overall score of each method over some samples, by patient or slide where these are known."""
    results = judgement.results
    groups = None if results.groups is None else results.groups[rows]
    return stats.estimates(judgement.overall()[rows], groups=groups, level=results.level)


def _cell(estimate: Estimate, *, bare: bool = False) -> Cell:
    """An estimate, without its interval where there are few samples or little room; None where it is undefined."""
    return None if not estimate.n else estimate.mean if bare or estimate.n < FEW else estimate


def _by_correctness(judgement: Judgement, order: Sequence[int]) -> Table:
    results, heads, columns = judgement.results, list[str](), list[tuple[Estimate, ...]]()
    for name, stratum in STRATA:
        rows = results.rows(stratum)
        heads.append(f"{name} ({int(rows.sum()):,})")
        columns.append(_means(judgement, rows))
    cells: tuple[tuple[Cell, ...], ...] = tuple(
        (results.methods[i], *(_cell(column[i]) for column in columns)) for i in order
    )
    caption = (
        "Overall score (the mean of where and how much; 0 is chance, 1 is a perfect map) with and without the "
        f"incorrectly classified samples; with {judgement.level_text} intervals from {FEW} samples on."
    )
    return Table("correct-and-incorrect", caption, ("Method", *heads), cells, digits=2)


def _by_class(judgement: Judgement, order: Sequence[int]) -> Table | None:
    """A row a class: how reliable and how concentrated its evidence is, and the overall score of each method."""
    results, strata = judgement.results, judgement.results.strata
    if strata is None:
        return None
    present = [k for k in range(len(results.classes)) if (strata == k).any()]
    if not 2 <= len(present) <= CLASSES:
        return None
    wide, evidence = len(order) > SPACIOUS, judgement.class_evidence
    rows, faint = list[tuple[Cell, ...]](), set[int]()
    for k in present:
        members = strata == k
        means = _means(judgement, members)
        kind: tuple[Cell, ...] = ()
        if evidence:
            kind = tuple(_cell(e, bare=True) for e in (evidence[k].reliability, evidence[k].concentration))
        faint |= {len(rows)} if members.sum() < FEW else set()
        rows.append((results.classes[k], int(members.sum()), *kind, *(_cell(means[i], bare=wide) for i in order)))
    noun = BY[results.task]
    caption = f"Overall score of the methods by {noun}"
    caption += "." if wide else f", with {judgement.level_text} intervals from {FEW} samples on."
    if faint:
        few = "all" if len(faint) == len(rows) else listed([str(rows[i][0]) for i in sorted(faint)], 6)
        caption += f" Fewer than {FEW} samples, too few to judge the {noun} by itself (grey): {few}."
    if evidence:
        caption += (
            " Reliability: correlation of the worth of windows between two donors; near 0, what a window is worth "
            "depends on the sample that replaces the rest. Concentration: how much denser the evidence "
            f"is where it lies than on average; below {SPREAD:g}, it is all over the input."
        )
    heads = ("Reliability", "Concentration") if evidence else ()
    columns = (noun.capitalize(), "Samples", *heads, *(results.methods[i] for i in order))
    return Table("by-class", caption, columns, tuple(rows), frozenset(faint), digits=2, folded=len(rows) > OPEN)


def _scores(judgement: Judgement) -> Table:
    results = judgement.results
    correct, incorrect = results.estimates("correct"), results.estimates("incorrect")
    cells = [(name, m) for m in results.metrics for name in judgement.everyone if (name, m) in results.scores]
    rows = tuple((f"{m} {facts.arrow(results, m)}", name, correct[name, m], incorrect[name, m]) for name, m in cells)
    faint = frozenset(i for i, (name, _) in enumerate(cells) if name in results.controls)
    caption = f"Mean scores with {judgement.level_text} intervals, of correctly and of incorrectly classified samples."
    columns = ("Metric", "Method", "Correct", "Incorrect")
    return Table("scores-correct-and-incorrect", caption, columns, rows, faint, folded=True)
