"""Sections on the scores: who ranks where, how surely, and by which metric."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from heatproof import plots, stats
from heatproof.records import Estimate
from heatproof.report.findings import Told
from heatproof.report.parts import Cell, Part, Picture, Section, Table, listed, percent, plural, section
from heatproof.studying import Standing
from heatproof.studying.standing import TRUTH, VOICES

OPEN = 12  # rows of a glossary that need not be opened


def sections(told: Told) -> list[Section | None]:
    """The sections that the scores alone can tell."""
    return [ranking(told), scores(told)]


def ranking(told: Told) -> Section | None:
    """The ranking over all metrics, as table and figure."""
    found = told.ranking
    if not told.rows or not told.results.speaking:
        return None
    tests = "Friedman's test, then Wilcoxon's" if len(found.rows) > 2 else "Wilcoxon's test"
    lead = (
        "Each sample ranks the methods by every metric. Ranks are averaged within a kind of metric, then over the "
        "kinds, so that many variants of one metric have one voice; 1 is the best. Methods that share a "
        f"letter cannot be told apart ({tests}, Holm's correction)."
    )
    parts: list[Part | None] = [
        _ranking_table(told),
        Picture(
            "ranking",
            f"Mean rank among methods and controls (grey) with {told.level} intervals; 1 is best.{_apart(told)}",
            "Mean ranks: " + "; ".join(f"{name} {e.mean:.2f}" for name, e in told.among_all.items()),
            plots.ranking([_rank(told, row) for row in (*told.rows, *found.controls)], controls=told.results.controls),
        ),
        _critical_difference(told.rows),
    ]
    return section("ranking", "Ranking of the methods", "Ranking", lead, parts)


def _ranking_table(told: Told) -> Table:
    rows: list[tuple[Cell, ...]] = []
    lost = told.ranking.unbeaten
    for row in told.rows:
        share = percent(told.shares[row.method])
        worse = listed(lost[row.method]) if lost[row.method] else "none" if told.results.controls else "no control run"
        rows.append((row.place, row.method, row.score, row.letters, share, told.among_all.get(row.method), worse))
    faint = range(len(rows), len(rows) + len(told.ranking.controls))
    rows += [
        (None, f"{row.method} (control)", None, "", "", told.among_all.get(row.method), "")
        for row in told.ranking.controls
    ]
    columns = ("Place", "Method", "Mean rank", "Group", "First in", "Rank with controls", "Not better than")
    basis = f"{plural(told.ranking.samples, 'sample')} and {plural(len(told.counting), 'metric')}"
    caption = (
        f"Ranking over {basis}, with {told.level} bootstrap intervals. First in: share of resamples in which the "
        f"method leads. Controls are maps that know nothing of the model.{_apart(told)}"
    )
    return Table("ranking", caption, columns, tuple(rows), frozenset(faint), digits=2)


def _apart(told: Told) -> str:
    """Why ranks with controls may order the methods otherwise."""
    if all(told.results.family(m) in TRUTH for m in told.counting):
        return ""
    return " Ranks with controls leave out robustness, as a map that ignores the input never moves."


def _rank(told: Told, row: Standing) -> stats.Rank:
    known = told.among_all.get(row.method, row.score)
    return stats.Rank(row.method, row.place, row.score, known, row.letters, row.share)


def _critical_difference(rows: Sequence[Standing]) -> Picture | None:
    live = [row for row in rows if np.isfinite(row.score.mean)]
    if len(live) < 3:
        return None
    marks = sorted({letter for row in live for letter in row.letters})
    groups = [[i for i, row in enumerate(live) if letter in row.letters] for letter in marks]
    together = [listed([live[i].method for i in group], 9) for group in groups if len(group) > 1]
    said = f"Not told apart: {'; '.join(together)}." if together else "All methods can be told apart."
    return Picture(
        "critical-difference",
        "Critical-difference diagram: mean ranks among the methods on one line, 1 is best; an orange bar joins methods "
        "that cannot be told apart.",
        f"Critical-difference diagram. {said}",
        plots.critical_difference([row.method for row in live], [row.score.mean for row in live], groups),
    )


def scores(told: Told) -> Section | None:
    """Metric by method: the heat table, every number with its interval, and what the metrics mean."""
    results = told.results
    if not told.estimates:
        return None
    metrics = [m for m in results.metrics if any((name, m) in told.estimates for name in told.everyone)]
    means = [[_mean(told.estimates.get((name, m))) for m in metrics] for name in told.everyone]
    strong = [[_beats_all(told, name, m) for m in metrics] for name in told.everyone]
    heat = Picture(
        "scores",
        "Mean scores. Blue is better and orange worse than the best control; bold: better than every control beyond "
        "doubt. Arrows: ↑ higher is better, ↓ lower is better.",
        f"Heat table of {len(metrics)} metrics by {len(told.everyone)} methods and controls; a table has its numbers",
        plots.metric_table(
            means,
            told.everyone,
            metrics,
            [results.better(m) for m in metrics],
            controls=results.controls,
            strong=strong,
        ),
    )
    rows = tuple((name, *(told.estimates.get((name, m)) for m in metrics)) for name in told.everyone)
    faint = frozenset(range(len(results.methods), len(told.everyone)))
    heads = ("Method", *(f"{m} {arrow(told, m)}" for m in metrics))
    table = Table("scores", f"Mean scores with {told.level} intervals.", heads, rows, faint, folded=True)
    lead = (
        "A metric is a question put to the model. The controls show what a map scores that knows nothing of the model."
    )
    return section("scores", "Scores by metric", "Scores", lead, [heat, _meanings(told), table, _methods(told)])


def _beats_all(told: Told, name: str, metric: str) -> bool:
    if not told.results.controls or metric not in told.by_metric:
        return False
    found = told.by_metric[metric]
    return any(row.method == name and len(row.beats) == len(found.controls) for row in found.rows)


def _meanings(told: Told) -> Table | None:
    facts = told.results.about.get("metrics", {})
    rows = []
    for metric in told.results.metrics:
        fact = facts.get(metric, {})
        counts = "yes" if metric in told.counting and metric not in told.reasons else _why_silent(told, metric)
        better = f"{told.results.better(metric)} {arrow(told, metric)}"
        rows.append((metric, str(fact.get("summary", "")), better, told.results.family(metric), counts, _paper(fact)))
    columns = ("Metric", "What it measures", "Better", "Kind", "Counts in the ranking", "Source")
    many = len(rows) > OPEN
    return Table("metrics", "What each metric measures.", columns, tuple(rows), folded=many) if rows else None


def _why_silent(told: Told, metric: str) -> str:
    if metric in told.reasons:
        return f"no: {told.reasons[metric]}"
    if told.results.family(metric) not in VOICES:
        return "no, it cannot say which map is true"
    return "no, not computed for all"


def _methods(told: Told) -> Table | None:
    facts = told.results.about.get("method_facts", {})
    rows = [
        (name, "control" if name in told.results.controls else str(facts[name].get("family", "")),
         str(facts[name].get("summary", "")), _paper(facts[name]))
        for name in told.everyone if name in facts
    ]  # fmt: skip
    columns = ("Method", "Kind", "In a line", "Source")
    many = len(rows) > OPEN
    return Table("methods", "What each method does.", columns, tuple(rows), folded=many) if rows else None


def _paper(fact: Any) -> str:
    return str(fact.get("paper", ""))


def _mean(found: Estimate | None) -> float:
    return float("nan") if found is None else found.mean


def arrow(told: Told, metric: str) -> str:
    return "↑" if told.results.better(metric) == "higher" else "↓"
