"""How much depends on the baseline: the same ranking with each fill, side by side."""

from __future__ import annotations

from collections.abc import Sequence

from heatproof.report.facts import Told
from heatproof.report.parts import Cell, Finding, Kind, Listing, Part, Section, Table, listed, section
from heatproof.results.ranking import Ranking
from heatproof.results.record import Results
from heatproof.verdict.checks import check_methods
from heatproof.verdict.fill_dependence import fill_of


def baselines(told: Told) -> Section | None:
    """Each method's place and mean rank by fill, who leads by each metric, and whether the winner changes."""
    studies = (told.results, *told.others)
    if len(studies) < 2 or not told.rows:
        return None
    fills = [fill_of(study) for study in studies]
    rankings = [study.ranking_by(told.results.ranked) for study in studies]
    found = told.dependence
    sure = not found.changes and bool(told.verdict.counting)
    kind: Kind = "bad" if not found.shared else "good" if sure else "note"
    lead = (
        "Removing positions means replacing them, and no replacement is neutral. So the whole study was done with "
        f"{listed(fills)}, and the verdict rests on all of them. Rankings, scores and curves elsewhere on this page "
        f"are those with {fills[0]}."
    )
    parts: list[Part | None] = [
        Listing((Finding(kind, found.text),)),
        _ranks(told, rankings, fills),
        _unbeaten(told, studies, fills),
        _by_metric(told, studies, fills),
    ]
    return section("baselines", "How much depends on the baseline", "Baselines", lead, parts)


def _ranks(told: Told, rankings: Sequence[Ranking], fills: Sequence[str]) -> Table:
    """Mean rank and group of each method by fill."""
    placed = [{row.method: row for row in ranking.rows} for ranking in rankings]
    rows: list[tuple[Cell, ...]] = []
    for method in (row.method for row in told.rows):
        found = [rows_.get(method) for rows_ in placed]
        rows.append((method, *(cell for row in found for cell in ((row.rank, row.letters) if row else (None, "")))))
    caption = (
        f"Mean rank (1 is best) with its {told.level} interval, by what removed positions become; methods that share a "
        "letter cannot be told apart with that baseline."
    )
    if all("fill=" in metric for metric in told.results.ranked):
        caption += " The metrics that rank ask with fills of their own, so this baseline does not touch them."
    heads = ("Method", *(head for fill in fills for head in (fill, "Group")))
    return Table("baselines", caption, heads, tuple(rows), digits=2)


def _unbeaten(told: Told, studies: Sequence[Results], fills: Sequence[str]) -> Table | None:
    """The controls that each method does not beat, by fill."""
    if not told.results.controls:
        return None
    lost = [{c.method: c.unbeaten for c in check_methods(study, told.results.counting)} for study in studies]
    rows = tuple((row.method, *(listed(one.get(row.method, ())) or "none" for one in lost)) for row in told.rows)
    caption = "The controls that a method is not better than, with each baseline. It counts only where none is left."
    return Table("baselines-controls", caption, ("Method", *fills), rows)


def _by_metric(told: Told, studies: tuple[Results, ...], fills: list[str]) -> Table | None:
    """The mean of the leader by every metric that the fill changes."""
    rows: list[tuple[Cell, ...]] = []
    estimates = [study.estimates() for study in studies]
    for metric in told.results.metrics:
        cells = []
        for study, found in zip(studies, estimates, strict=True):
            means = {m: found[m, metric].mean for m in study.methods if (m, metric) in found and found[m, metric].n}
            best = sorted(means, key=means.__getitem__, reverse=study.better(metric) == "higher")[:1]
            cells.append(f"{best[0]} {means[best[0]]:.3f}" if best else "–")
        if len(set(cells)) > 1:
            rows.append((metric, told.results.better(metric), *cells))
    caption = "The best method by each metric that the baseline changes, with its mean score."
    return Table("baselines-metrics", caption, ("Metric", "Better", *fills), tuple(rows)) if rows else None
