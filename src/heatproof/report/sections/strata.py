"""Correctly and incorrectly classified samples compared, and the classes."""

from __future__ import annotations

from collections.abc import Sequence

from heatproof import stats
from heatproof.records import Estimate
from heatproof.report import facts
from heatproof.report.content import Content
from heatproof.report.parts import Cell, Part, Section, Table, compose
from heatproof.results.record import Stratum
from heatproof.verdict.judgement import Judgement

BY = {"classes": "class", "labels": "explained label"}
CLASSES = 40  # in a table
SPACIOUS = 4  # methods up to which a table has room for intervals
FEW = 10  # samples below which no interval is shown
OPEN = 12  # rows that are shown without being opened


def section(content: Content) -> Section | None:
    """Mean ranks by correctness of the prediction and by class."""
    judgement = content.judgement
    if judgement is None or not judgement.comparable or not judgement.rows:
        return None
    results = judgement.results
    if not results.gradable:
        return None
    both = bool(results.correct.any() and not results.correct.all())
    order = [results.methods.index(row.method) for row in judgement.rows]
    parts: list[Part | None] = [
        _by_correctness(judgement, order) if both else None,
        _by_class(judgement, order),
        _scores(judgement) if both else None,
    ]
    lead = (
        "A method that explains correct predictions well may explain errors poorly, and its quality may differ between "
        "classes."
    )
    if results.task == "labels":
        lead = lead.replace("classes", "labels")
    if not both:
        how = "correctly" if results.correct.all() else "incorrectly"
        lead = f"All {len(results):,} samples are classified {how}, so only the {results.task} can be compared."
    return compose("strata", "Correctly and incorrectly classified samples", "Correctness", lead, parts)


def _by_correctness(judgement: Judgement, order: Sequence[int]) -> Table:
    results, columns, estimates = judgement.results, list[str](), list[tuple[Estimate, ...]]()
    strata: tuple[tuple[str, Stratum], ...] = (
        ("All", "all"),
        ("Correctly classified", "correct"),
        ("Incorrectly classified", "incorrect"),
    )
    for name, stratum in strata:
        ranks = judgement.ranks(stratum)
        columns.append(f"{name} ({len(ranks):,})")
        estimates.append(stats.estimates(ranks, level=results.level))
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (results.methods[i], *(e.mean if e.n < FEW else e for e in (column[i] for column in estimates))) for i in order
    )
    caption = (
        "Mean rank among the methods (1 is best), by whether the prediction is correct; with "
        f"{judgement.level_text} intervals from {FEW} samples on."
    )
    return Table("correct-and-incorrect", caption, ("Method", *columns), rows, digits=2)


def _by_class(judgement: Judgement, order: Sequence[int]) -> Table | None:
    results, groups = judgement.results, judgement.results.groups
    if groups is None:
        return None
    present = [k for k in range(len(results.classes)) if (groups == k).any()]
    if not 2 <= len(present) <= CLASSES or len(results.methods) < 2:
        return None
    ranks, wide = judgement.ranks(), len(order) > SPACIOUS
    rows: list[tuple[Cell, ...]] = []
    for k in present:
        in_class = ranks[groups == k][:, list(order)]
        estimates = stats.estimates(in_class, level=results.level)
        cells: list[Cell] = [e.mean if wide or e.n < FEW else e for e in estimates]
        rows.append((results.classes[k], int((groups == k).sum()), *cells))
    noun = "Class" if results.task == "classes" else "Label"
    columns = (noun, "Samples", *(results.methods[i] for i in order))
    ends = "" if wide else f", with {judgement.level_text} intervals from {FEW} samples on"
    caption = (
        f"Mean rank among the methods (1 is best) by {BY[results.task]}{ends}. Ranks from few samples are uncertain."
    )
    return Table("by-class", caption, columns, tuple(rows), digits=2, folded=len(rows) > OPEN)


def _scores(judgement: Judgement) -> Table:
    results = judgement.results
    correct, incorrect = results.estimates("correct"), results.estimates("incorrect")
    cells = [(name, m) for m in results.metrics for name in judgement.everyone if (name, m) in results.scores]
    rows = tuple((f"{m} {facts.arrow(results, m)}", name, correct[name, m], incorrect[name, m]) for name, m in cells)
    faint = frozenset(i for i, (name, _) in enumerate(cells) if name in results.controls)
    caption = f"Mean scores with {judgement.level_text} intervals, of correctly and of incorrectly classified samples."
    columns = ("Metric", "Method", "Correct", "Incorrect")
    return Table("scores-correct-and-incorrect", caption, columns, rows, faint, folded=True)
