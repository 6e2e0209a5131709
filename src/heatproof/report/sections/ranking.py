"""Ranking of the methods: mean ranks over all metrics, as table and figures, and how many samples are needed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from heatproof import plots, stats
from heatproof.phrases import listed, plural, rounded
from heatproof.report import facts
from heatproof.report.content import Content
from heatproof.report.parts import Cell, Part, Picture, Section, Share, Table, compose
from heatproof.results.ranking import Standing
from heatproof.verdict.judgement import Judgement

OPEN = 12  # rows that are shown without being opened
PAIRS = 15  # of methods, in a table that lists all of them
MANY = 1_000_000  # samples; more than any study has


def section(content: Content) -> Section | None:
    """The ranking over all metrics, as table and figure."""
    judgement = content.judgement
    if judgement is None or not judgement.rows or not judgement.comparable:
        return None
    rows = judgement.rows
    tests = "Friedman's test, then Wilcoxon's" if len(rows) > 2 else "Wilcoxon's test"
    lead = (
        f"In each sample the methods are ranked by {_basis(judgement)}. Ranks are averaged within a family of metrics, "
        "then over the families, so that the variants of one metric count once; the method with the best average has "
        "rank 1 in that sample. Methods that share a group letter do not differ significantly "
        f"({tests}, Holm's correction)."
    )
    if judgement.others:
        lead += f" The ranks here are those with the fill {judgement.results.fill}; see Dependence on the fill."
    parts: list[Part | None] = [_table(judgement), _drawn(judgement), _critical_difference(rows), _power(judgement)]
    return compose("ranking", "Ranking of the methods", "Ranking", lead, parts)


def _basis(judgement: Judgement) -> str:
    """The metrics that rank, in words."""
    metrics = judgement.ranking_metrics
    if len(metrics) == len(judgement.considered):
        return "every valid metric" if judgement.valid else "every metric"
    return f"the valid {listed([*dict.fromkeys(judgement.results.family(m) for m in metrics)])} metrics"


def _table(judgement: Judgement) -> Table:
    rows: list[tuple[Cell, ...]] = []
    worse_than, controls = judgement.not_better_than, judgement.ranking().controls
    for row in judgement.rows:
        worse = listed(worse_than[row.method]) or ("none" if judgement.results.controls else "no control run")
        with_controls = judgement.ranks_with_controls.get(row.method)
        needed = _needed(judgement, row.method)
        rows.append((row.method, row.place, row.rank, row.letters, Share(row.support), needed, with_controls, worse))
    faint = range(len(rows), len(rows) + len(controls))
    rows += [
        (f"{row.method} (control)", None, None, "", None, None, judgement.ranks_with_controls.get(row.method), "")
        for row in controls
    ]
    columns = ("Method", "Place", "Mean rank", "Group", "Support", "Samples needed", "Rank with controls",
               "Not better than")  # fmt: skip
    basis = f"{plural(judgement.ranking().samples, 'sample')} and {plural(len(judgement.ranking_metrics), 'metric')}"
    caption = (
        f"Ranking over {basis}, with {judgement.level_text} intervals. Support: share of resamples in which "
        "the method leads. Samples needed (at 80 % power, assuming the observed effect): how many in all would make "
        "its difference from the first method significant. Controls are maps that ignore the model."
        f"{_left_out(judgement)}"
    )
    return Table("ranking", caption, columns, tuple(rows), frozenset(faint), digits=2)


def _needed(judgement: Judgement, method: str) -> float | int | None:
    first = judgement.rows[0].method
    needed = None if method == first else judgement.samples_needed[first, method]
    return needed if needed is None or not np.isfinite(needed) else rounded(needed)


def _left_out(judgement: Judgement) -> str:
    """Why ranks with controls may order the methods otherwise."""
    ranking = {judgement.results.family(metric) for metric in judgement.ranking_metrics}
    families = [family for family in facts.unbeatable(judgement) if family in ranking]
    if not families:
        return ""
    return f" Ranks with controls leave out the {listed(families)} metrics, by which no method can beat a control."


def _drawn(judgement: Judgement) -> Picture:
    rows = [_rank(judgement, row) for row in (*judgement.rows, *judgement.ranking().controls)]
    return Picture(
        "ranking",
        f"Mean rank among methods and controls (grey); further left is better. Bars: {judgement.level_text} intervals. "
        f"Methods that share a letter, on the right, do not differ significantly.{_left_out(judgement)}",
        "Mean ranks: " + "; ".join(f"{name} {e.mean:.2f}" for name, e in judgement.ranks_with_controls.items()),
        plots.ranking(rows, controls=judgement.results.controls),
    )


def _rank(judgement: Judgement, row: Standing) -> stats.Rank:
    rank = judgement.ranks_with_controls.get(row.method, row.rank)
    return stats.Rank(row.method, row.place, row.score, rank, row.letters, row.support)


def _critical_difference(rows: Sequence[Standing]) -> Picture | None:
    ranked = [row for row in rows if np.isfinite(row.rank.mean)]
    if len(ranked) < 3:
        return None
    letters = sorted({letter for row in ranked for letter in row.letters})
    groups = [[i for i, row in enumerate(ranked) if letter in row.letters] for letter in letters]
    together = [listed([ranked[i].method for i in group], 9) for group in groups if len(group) > 1]
    label = (
        f"Not significantly different: {'; '.join(together)}."
        if together
        else "All pairs of methods differ significantly."
    )
    bars = "An orange bar joins methods that do not differ significantly." if together else label
    return Picture(
        "critical-difference",
        f"Critical-difference diagram: mean ranks among the methods on one line, 1 is best. {bars}",
        f"Critical-difference diagram. {label}",
        plots.critical_difference([row.method for row in ranked], [row.rank.mean for row in ranked], groups),
    )


def _power(judgement: Judgement) -> Table | str | None:
    """How many samples would make the differences significant that are not."""
    if len(judgement.rows) < 2:
        return None
    letters = {row.method: set(row.letters) for row in judgement.rows}
    pairs = {pair: n for pair, n in judgement.samples_needed.items() if letters[pair[0]] & letters[pair[1]]}
    samples = plural(judgement.ranking().samples, "sample")
    if not pairs:
        more = "" if judgement.verdict.winner else " To name a method, the verdict also requires a significant lead."
        return f"Every two methods differ significantly on these {samples}, in paired tests.{more}"
    ranks = judgement.ranks()
    column = {row.method: ranks[:, judgement.results.methods.index(row.method)] for row in judgement.rows}
    rows: list[tuple[Cell, ...]] = []
    for (a, b), needed in [*pairs.items()][:PAIRS]:
        if np.nanmean(column[b]) < np.nanmean(column[a]):
            a, b = b, a
        ahead = stats.estimate(column[b] - column[a], level=judgement.results.level)
        rows.append((a, b, ahead, rounded(needed) if needed < MANY else float("inf")))
    caption = (
        f"Pairs of methods that do not differ significantly on these {samples}. Samples needed (at 80 % power, "
        "assuming the observed effect): how many in all would make the difference significant, as a guide for "
        "planning; ∞ where no difference is observed."
    )
    if len(pairs) > PAIRS:
        caption += f" The first {PAIRS} of {len(pairs)} pairs."
    columns = ("Better here", "Worse here", "Difference (mean ranks)", "Samples needed")
    short = f"{plural(len(pairs), 'pair')} of methods without a significant difference on these {samples}"
    return Table("samples-needed", caption, columns, tuple(rows), digits=2, folded=len(rows) > OPEN, short=short)
