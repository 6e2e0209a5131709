"""Dependence on the fill: the same study with each fill, side by side."""

from __future__ import annotations

from collections.abc import Sequence

from heatproof.phrases import listed
from heatproof.report import facts
from heatproof.report.content import Content
from heatproof.report.parts import Cell, Part, Section, Table, compose, listing
from heatproof.results.record import Results
from heatproof.verdict.eligibility import check_methods
from heatproof.verdict.judgement import Judgement

KINDS = ("leader-depends-on-fill", "leader-does-not-depend-on-fill", "top-with-every-fill")


def section(content: Content) -> Section | None:
    """Each method's group and mean rank by fill, the controls it does not beat, and who leads by each metric."""
    judgement = content.judgement
    if judgement is None or not judgement.others or not judgement.rows:
        return None
    studies = judgement.studies
    fills = [study.fill for study in studies]
    lead = (
        "Removing positions means replacing their values, and no replacement is neutral. The whole study was therefore "
        f"repeated with the fills {listed(fills)}; the verdict takes all of them into account. Rankings, scores and "
        f"curves in the other sections use the fill {fills[0]}."
    )
    parts: list[Part | None] = [
        listing(item for item in judgement.statements if item.findings[0].kind in KINDS),
        _ranks(judgement, studies, fills),
        _not_better_than(judgement, studies, fills),
        _by_metric(judgement, studies, fills),
    ]
    return compose("fills", "Dependence on the fill", "Fills", lead, parts)


def _ranks(judgement: Judgement, studies: Sequence[Results], fills: Sequence[str]) -> Table:
    """Mean rank and group of each method by fill."""
    standings = [{row.method: row for row in judgement.ranking_with(study).rows} for study in studies]
    rows: list[tuple[Cell, ...]] = []
    for method in (row.method for row in judgement.rows):
        placed = [standing.get(method) for standing in standings]
        rows.append((method, *(cell for row in placed for cell in ((row.rank, row.letters) if row else (None, "")))))
    caption = (
        f"Mean rank (1 is best) with its {judgement.level_text} interval, by fill. Methods that share a letter do not "
        "differ significantly with that fill."
    )
    if not any(facts.metric_facts(judgement.results, metric).follows_fill for metric in judgement.ranking_metrics):
        caption += " The metrics that rank use fills of their own, so this choice does not affect them."
    columns = ("Method", *(column for fill in fills for column in (fill, "Group")))
    return Table("fills", caption, columns, tuple(rows), digits=2)


def _not_better_than(judgement: Judgement, studies: Sequence[Results], fills: Sequence[str]) -> Table | None:
    """The controls that each method does not beat, by fill."""
    if not judgement.results.controls:
        return None
    checks = [{c.method: c.not_better_than for c in check_methods(study, judgement.valid)} for study in studies]
    rows = tuple((row.method, *(listed(one.get(row.method, ())) or "none" for one in checks)) for row in judgement.rows)
    caption = "Controls that a method is not significantly better than, by fill. An eligible method has none."
    return Table("fills-controls", caption, ("Method", *fills), rows)


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
