"""Dependence on the fill: what metrics that remove positions say with each fill, side by side."""

from __future__ import annotations

from collections.abc import Sequence

from heatproof.phrases import listed
from heatproof.report.content import Content
from heatproof.report.parts import Cell, Section, Table, compose
from heatproof.results.record import Results
from heatproof.verdict.judgement import Judgement


def section(content: Content) -> Section | None:
    """The best method by each metric that the fill changes."""
    judgement = content.judgement
    if judgement is None or not judgement.others or not judgement.results.methods:
        return None
    studies = judgement.studies
    fills = [study.fill for study in studies]
    lead = (
        "Removing positions means replacing their values, and no replacement is neutral. The metrics that remove "
        f"positions were therefore computed with the fills {listed(fills)}. The verdict does not depend on the fill: "
        "its two questions replace windows by those of other samples. Scores and curves in the other sections use the "
        f"fill {fills[0]}."
    )
    table = _by_metric(judgement, studies, fills)
    parts = [table if table is not None else "No metric of this study changes with the fill."]
    return compose("fills", "Dependence on the fill", "Fills", lead, parts)


def _by_metric(judgement: Judgement, studies: Sequence[Results], fills: Sequence[str]) -> Table | None:
    """The mean of the best method by every metric that the fill changes."""
    rows: list[tuple[Cell, ...]] = []
    estimates = [study.estimates() for study in studies]
    for metric in judgement.results.metrics:
        cells = []
        for study, means_of in zip(studies, estimates, strict=True):
            cell = {m: means_of[m, metric] for m in study.methods if (m, metric) in means_of}
            means = {m: estimate.mean for m, estimate in cell.items() if estimate.n}
            best = sorted(means, key=means.__getitem__, reverse=study.better(metric) == "higher")[:1]
            cells.append(f"{best[0]} {means[best[0]]:.3f}" if best else "–")
        if len(set(cells)) > 1:
            rows.append((metric, judgement.results.better(metric), *cells))
    caption = "The best method and its mean score, by each metric whose best method or score changes with the fill."
    return Table("fills-metrics", caption, ("Metric", "Better", *fills), tuple(rows)) if rows else None
