"""Sections on the scores: who ranks where, how surely, and by which metric."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from heatproof import plots, stats
from heatproof.records import Estimate
from heatproof.report.facts import MANY, Told
from heatproof.report.parts import Cell, Part, Picture, Section, Share, Table, listed, plural, rounded, section
from heatproof.results.ranking import TRUTH, Standing
from heatproof.verdict.fill_dependence import fill_of

OPEN = 12  # rows of a glossary that need not be opened
PAIRS = 15  # of methods, in a table that lists all of them


def ranking(told: Told) -> Section | None:
    """The ranking over all metrics, as table and figure."""
    found = told.ranking
    if not told.rows or not told.results.speaking:
        return None
    tests = "Friedman's test, then Wilcoxon's" if len(found.rows) > 2 else "Wilcoxon's test"
    lead = (
        f"Each sample ranks the methods by every metric that counts{_leading(told)}. Ranks are averaged within a kind "
        "of metric, then over the kinds, so that many variants of one metric have one voice; the method with the best "
        "average has rank 1 in that sample. Methods "
        f"that share a group letter cannot be told apart ({tests}, Holm's correction)."
    )
    if told.others:
        lead += f" Removed positions become {fill_of(told.results)} here; see Baselines for what else was tried."
    parts: list[Part | None] = [
        _ranking_table(told),
        Picture(
            "ranking",
            f"Mean rank among methods and controls (grey): the further left, the better. Bars: {told.level} intervals. "
            f"Methods that share a letter, on the right, cannot be told apart.{_apart(told)}",
            "Mean ranks: " + "; ".join(f"{name} {e.mean:.2f}" for name, e in told.among_all.items()),
            plots.ranking([_rank(told, row) for row in (*told.rows, *found.controls)], controls=told.results.controls),
        ),
        _critical_difference(told.rows),
        _power(told),
    ]
    return section("ranking", "Ranking of the methods", "Ranking", lead, parts)


def _leading(told: Told) -> str:
    """Which metrics alone rank, where others count too."""
    if len(told.results.ranked) == len(told.results.counting):
        return ""
    kinds = dict.fromkeys(told.results.family(m) for m in told.results.ranked)
    return f" and ranks; here those of {listed([*kinds])}"


def _ranking_table(told: Told) -> Table:
    rows: list[tuple[Cell, ...]] = []
    lost = told.unbeaten
    for row in told.rows:
        share = Share(row.share)
        worse = listed(lost[row.method]) if lost[row.method] else "none" if told.results.controls else "no control run"
        against = told.among_all.get(row.method)
        rows.append((row.method, row.place, row.rank, row.letters, share, _needed(told, row.method), against, worse))
    faint = range(len(rows), len(rows) + len(told.ranking.controls))
    rows += [
        (f"{row.method} (control)", None, None, "", None, None, told.among_all.get(row.method), "")
        for row in told.ranking.controls
    ]
    columns = ("Method", "Place", "Mean rank", "Group", "First in", "Samples needed", "Rank with controls",
               "Not better than")  # fmt: skip
    basis = f"{plural(told.ranking.samples, 'sample')} and {plural(len(told.results.ranked), 'metric')}"
    caption = (
        f"Ranking over {basis}, with {told.level} bootstrap intervals. First in: share of resamples in which the "
        "method leads. Samples needed: how many in all would tell it from the first. Controls are maps that know "
        f"nothing of the model.{_apart(told)}"
    )
    return Table("ranking", caption, columns, tuple(rows), frozenset(faint), digits=2)


def _needed(told: Told, method: str) -> float | int | None:
    first = told.rows[0].method
    found = None if method == first else told.needed[first, method]
    return found if found is None or not np.isfinite(found) else rounded(found)


def _power(told: Told) -> Table | str | None:
    """How many samples would tell the pairs apart that these do not."""
    if len(told.rows) < 2:
        return None
    letters = {row.method: set(row.letters) for row in told.rows}
    pairs = {pair: needed for pair, needed in told.needed.items() if letters[pair[0]] & letters[pair[1]]}
    samples = plural(told.ranking.samples, "sample")
    if not pairs:
        more = "" if told.verdict.winner else " The verdict asks for more: that the lead be beyond doubt as well."
        return f"Every two methods are told apart by these {samples}, in paired tests.{more}"
    ranks = told.ranks()
    column = {row.method: ranks[:, told.results.methods.index(row.method)] for row in told.rows}
    level, seed = told.results.level, told.results.seed
    rows: list[tuple[Cell, ...]] = []
    for (a, b), needed in [*pairs.items()][:PAIRS]:
        if np.nanmean(column[b]) < np.nanmean(column[a]):
            a, b = b, a
        ahead = stats.estimate(column[b] - column[a], confidence=level, seed=seed)
        rows.append((a, b, ahead, rounded(needed) if needed < MANY else float("inf")))
    caption = (
        f"Pairs that these {samples} cannot tell apart, and how many in all would, with a chance of 80 %, were the "
        "difference seen here the true one; ∞ where none is seen. A guess for planning, not a promise."
    )
    if len(pairs) > PAIRS:
        caption += f" The first {PAIRS} of {len(pairs)} pairs."
    heads = ("Better here", "Worse here", "Ahead by (mean ranks)", "Samples needed")
    short = f"{plural(len(pairs), 'pair')} of methods that these {samples} cannot tell apart"
    return Table("samples-needed", caption, heads, tuple(rows), digits=2, folded=len(rows) > OPEN, short=short)


def _apart(told: Told) -> str:
    """Why ranks with controls may order the methods otherwise."""
    if all(told.results.family(m) in TRUTH for m in told.results.ranked):
        return ""
    return " Ranks with controls leave out robustness, as a map that ignores the input never moves."


def _rank(told: Told, row: Standing) -> stats.Rank:
    known = told.among_all.get(row.method, row.rank)
    return stats.Rank(row.method, row.place, row.score, known, row.letters, row.share)


def _critical_difference(rows: Sequence[Standing]) -> Picture | None:
    live = [row for row in rows if np.isfinite(row.rank.mean)]
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
        plots.critical_difference([row.method for row in live], [row.rank.mean for row in live], groups),
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
        "Mean scores, a row a metric. Blue: better than the best control by this metric; orange: worse; the deeper, "
        "the further. Bold: better than every control beyond doubt. ↑ higher is better, ↓ lower is "
        f"better.{_unfair(told)}",
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


def _unfair(told: Told) -> str:
    """By which metrics a control cannot be beaten."""
    families = {told.results.family(m) for m in told.results.metrics}
    return " By robustness no control can be beaten: it ignores the model." if "robustness" in families else ""


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
        better = f"{told.results.better(metric)} {arrow(told, metric)}"
        rows.append((metric, str(fact.get("summary", "")), better, told.results.family(metric), _paper(fact)))
    columns = ("Metric", "What it measures", "Better", "Kind", "Source")
    many = len(rows) > OPEN
    return Table("metrics", "What each metric measures.", columns, tuple(rows), folded=many) if rows else None


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
