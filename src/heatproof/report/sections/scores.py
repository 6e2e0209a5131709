"""Scores by metric: the heat table, every number with its interval, and what metrics and methods are."""

from __future__ import annotations

from heatproof import plots
from heatproof.phrases import listed
from heatproof.records import Estimate
from heatproof.report import facts
from heatproof.report.content import Content
from heatproof.report.parts import Picture, Section, Table, compose
from heatproof.verdict.judgement import Judgement

OPEN = 12  # rows of a glossary that are shown without being opened


def section(content: Content) -> Section | None:
    """Metric by method: the heat table, every number with its interval, and what the metrics mean."""
    judgement = content.judgement
    if judgement is None or not judgement.estimates:
        return None
    everyone, estimates = judgement.everyone, judgement.estimates
    metrics = [m for m in judgement.results.metrics if any((name, m) in estimates for name in everyone)]
    rows = tuple((name, *(estimates.get((name, m)) for m in metrics)) for name in everyone)
    faint = frozenset(range(len(judgement.results.methods), len(everyone)))
    columns = ("Method", *(f"{m} {facts.arrow(judgement.results, m)}" for m in metrics))
    caption = f"Mean scores with {judgement.level_text} intervals."
    table = Table("scores", caption, columns, rows, faint, folded=True)
    lead = (
        "What each metric says of every map. The verdict rests on the two questions alone; the other metrics are "
        "reported, and where one puts another method clearly ahead, that is a finding. The reference maps (random, "
        "edge and others) show the score of a map that ignores the model."
    )
    parts = [_heat(judgement, metrics), _metrics(judgement), table, _methods(judgement)]
    return compose("scores", "Scores by metric", "Scores", lead, parts)


def _heat(judgement: Judgement, metrics: list[str]) -> Picture:
    everyone, results = judgement.everyone, judgement.results
    figure = plots.metric_table(
        [[_mean(judgement.estimates.get((name, m))) for m in metrics] for name in everyone],
        everyone,
        metrics,
        [results.better(m) for m in metrics],
        controls=results.controls,
        strong=[[_beats_all(judgement, name, m) for m in metrics] for name in everyone],
    )
    caption = (
        "Mean scores, one row a metric. Blue: better than the best reference map by this metric; orange: worse; the "
        "deeper the colour, the larger the difference. Bold: significantly better than every reference map. ↑ higher "
        f"is better, ↓ lower is better.{_unbeatable(judgement)}"
    )
    label = (
        f"Heat table of {len(metrics)} metrics by {len(everyone)} methods and reference maps; a table has its numbers"
    )
    return Picture("scores", caption, label, figure)


def _unbeatable(judgement: Judgement) -> str:
    """By which metrics a control always scores best."""
    families = facts.unbeatable(judgement)
    return f" No method can beat a reference map by the {listed(families)} metrics." if families else ""


def _beats_all(judgement: Judgement, name: str, metric: str) -> bool:
    if not judgement.results.controls or metric not in judgement.by_metric:
        return False
    ranking = judgement.by_metric[metric]
    return any(row.method == name and len(row.beats) == len(ranking.controls) for row in ranking.rows)


def _metrics(judgement: Judgement) -> Table | None:
    results, rows = judgement.results, []
    for metric in results.metrics:
        declared = facts.metric_facts(results, metric)
        better = f"{results.better(metric)} {facts.arrow(results, metric)}"
        measures = f"{declared.summary} Unit: {declared.unit}." if declared.unit else declared.summary
        rows.append((metric, measures, better, results.family(metric), declared.paper))
    columns = ("Metric", "What it measures", "Better", "Family", "Source")
    many = len(rows) > OPEN
    return Table("metrics", "What each metric measures.", columns, tuple(rows), folded=many) if rows else None


def _methods(judgement: Judgement) -> Table | None:
    results, rows = judgement.results, []
    scaled = [name for name in judgement.everyone if facts.method_facts(results, name).scaled]
    note = f" The maps of {listed(scaled)} depend on the scale of the logits." if scaled else ""
    for name in judgement.everyone:
        declared = facts.method_facts(results, name)
        if declared.summary:
            family = "reference map" if name in results.controls else declared.family
            rows.append((name, family, declared.summary, declared.paper))
    columns = ("Method", "Family", "What it does", "Source")
    many = len(rows) > OPEN
    return Table("methods", f"What each method does.{note}", columns, tuple(rows), folded=many) if rows else None


def _mean(estimate: Estimate | None) -> float:
    return float("nan") if estimate is None else estimate.mean
