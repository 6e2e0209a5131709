"""Sections that look closer: along the curves, at right and wrong predictions, and class by class."""

from __future__ import annotations

from collections.abc import Sequence

from heatproof import plots, stats
from heatproof.records import Estimate
from heatproof.report.facts import FEW, Told
from heatproof.report.parts import Cell, Part, Picture, Section, Table, section
from heatproof.report.sections.scores import arrow
from heatproof.results.record import Stratum

LINES = 7  # methods in a figure of curves
OPEN = 4  # figures of curves that need not be opened
CLASSES = 40  # in a table
SPACIOUS = 4  # methods up to which a table has room for intervals
ALONG = {
    "insertion": "share of positions put back",
    "sensitivity-n": "share of positions in a subset",
    "parameter-randomisation": "share of layers with random weights, from the top",
}
SCORES = ("deletion", "insertion", "road")  # their curves are the model's score itself
YLABEL = {"parameter-randomisation": "likeness to the true map"}
SANITY = "parameter-randomisation"


def curves(told: Told) -> Section | None:
    """A figure for each metric that is read off a curve."""
    results = told.results
    count = len(results.methods)
    shown = [*told.everyone[:count][:LINES], *told.everyone[count:]]
    parts: list[Part | None] = []
    for metric in results.metrics:
        if not sanity(metric) and any((name, metric) in results.curves for name in shown):
            parts.append(curve(told, metric, shown, folded=len(parts) >= OPEN))
    lead = (
        "The most relevant positions are removed (or put back) step by step, and the model's answer is watched. A map "
        "is better than a control only where its band leaves the control's."
    )
    if count > LINES:
        lead += f" Of {count} methods the {LINES} best are drawn."
    return section("curves", "Curves", "Curves", lead, parts)


def sanity(metric: str) -> bool:
    """Whether the metric is a sanity check, with curves over randomised layers."""
    return metric.partition(":")[0] == SANITY


def curve(told: Told, metric: str, shown: Sequence[str], *, folded: bool) -> Picture:
    """The curves of some methods by one metric."""
    results, plain = told.results, metric.partition(":")[0]
    alone = "order=independent" in metric
    bands = {name: results.curves[name, metric] for name in shown if (name, metric) in results.curves}
    score = str(results.about.get("score", "score"))
    figure = plots.curves(
        next(iter(bands.values())).at,
        {name: band.values for name, band in bands.items()},
        controls=results.controls,
        xlabel="place of the layers with random weights, from the top" if alone else _along(plain),
        ylabel=f"{score} of the explained class" if plain in SCORES else YLABEL.get(plain, plain),
        seed=results.seed,
    )
    want = "high" if results.better(metric) == "higher" else "low"
    caption = f"{metric}: line, the mean over samples; band, its 95 % interval. A good map has a {want} curve."
    if sanity(metric):
        caption += " A map that stays alike does not depend on what the model has learnt."
    found = {name: told.estimates.get((name, metric)) for name in bands}
    ends = "; ".join(f"{name} {e.mean:.3f}" for name, e in found.items() if e is not None)
    label = f"Curves of {metric}. Mean scores: {ends}"
    return Picture(f"curve-{_stem(metric)}", caption, label, figure, folded, f"Curves of {metric}")


def _along(plain: str) -> str:
    return ALONG.get(plain, "share of positions removed")


def _stem(metric: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in metric).strip("-")


def strata(told: Told) -> Section | None:
    """Right and wrong predictions apart, and each class by itself."""
    results = told.results
    if not results.speaking or not told.rows:
        return None
    both = bool(results.right.any() and not results.right.all())
    order = [results.methods.index(row.method) for row in told.rows]
    parts: list[Part | None] = [
        _right_and_wrong(told, order) if both else None,
        _by_class(told, order),
        _scores(told) if both else None,
    ]
    lead = "A method that explains successes well need not explain errors well, nor every class."
    if not both:
        how = "rightly" if results.right.all() else "wrongly"
        lead = f"All {len(results):,} samples judged are classified {how}, so only classes can be compared."
    return section("strata", "Right and wrong, class by class", "Right or wrong", lead, parts)


def _right_and_wrong(told: Told, order: Sequence[int]) -> Table:
    results, heads, columns = told.results, list[str](), list[tuple[Estimate, ...]]()
    kinds: tuple[tuple[str, Stratum], ...] = (
        ("All", "all"),
        ("Classified rightly", "right"),
        ("Misclassified", "wrong"),
    )
    for name, stratum in kinds:
        placed = told.ranks(stratum)
        heads.append(f"{name} ({len(placed):,})")
        columns.append(stats.estimates(placed, confidence=results.level, seed=results.seed))
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (results.methods[i], *(e.mean if e.n < FEW else e for e in (c[i] for c in columns))) for i in order
    )
    caption = (
        f"Mean rank among the methods (1 is best) with {told.level} intervals from {FEW} samples on, by whether the "
        "classifier is right."
    )
    return Table("right-and-wrong", caption, ("Method", *heads), rows, digits=2)


def _by_class(told: Told, order: Sequence[int]) -> Table | None:
    results = told.results
    present = [k for k in range(len(results.classes)) if (results.y == k).any()]
    if not 2 <= len(present) <= CLASSES or len(results.methods) < 2:
        return None
    placed, wide = told.ranks(), len(order) > SPACIOUS
    rows: list[tuple[Cell, ...]] = []
    for k in present:
        own = placed[results.y == k][:, list(order)]
        found = stats.estimates(own, confidence=results.level, seed=results.seed)
        cells: list[Cell] = [e.mean if wide or e.n < FEW else e for e in found]
        rows.append((results.classes[k], int((results.y == k).sum()), *cells))
    heads = ("Class", "Samples", *(results.methods[i] for i in order))
    ends = "" if wide else f" with {told.level} intervals from {FEW} samples on"
    caption = f"Mean rank among the methods (1 is best){ends}, class by class. Few samples tell little."
    return Table("by-class", caption, heads, tuple(rows), digits=2, folded=len(rows) > 12)


def _scores(told: Told) -> Table:
    results = told.results
    right, wrong = results.estimates("right"), results.estimates("wrong")
    cells = [(name, metric) for metric in results.metrics for name in told.everyone if (name, metric) in results.scores]
    rows = tuple(
        (f"{metric} {arrow(told, metric)}", name, right[name, metric], wrong[name, metric]) for name, metric in cells
    )
    faint = frozenset(i for i, (name, _) in enumerate(cells) if name in results.controls)
    caption = f"Mean scores with {told.level} intervals, for samples classified rightly and wrongly."
    heads = ("Metric", "Method", "Right", "Wrong")
    return Table("scores-right-and-wrong", caption, heads, rows, faint, folded=True)
