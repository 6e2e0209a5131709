"""Agreement between metrics: how similarly they rank the methods."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from heatproof import plots, stats
from heatproof.phrases import plural
from heatproof.report.content import Content
from heatproof.report.parts import Cell, Picture, Section, Table, compose
from heatproof.results.record import Results
from heatproof.verdict.judgement import Judgement
from heatproof.verdict.wording import concordance

LEAST = 2  # metrics that can be compared


def section(content: Content) -> Section | None:
    """Kendall's W of the metrics, and the correlation of every two of them."""
    judgement = content.judgement
    if judgement is None:
        return None
    lead = (
        "The verdict rests on the two questions alone. Where other metrics order the methods differently, they measure "
        "something else; metrics with a negative correlation do not measure the same property."
    )
    parts = [_concordance(judgement), _correlations(judgement)]
    return compose("agreement", "Agreement between metrics", "Metrics", lead, parts)


def _concordance(judgement: Judgement) -> Table | None:
    """Kendall's W of the metrics that bear on which map is right, together and within each family."""
    groups = {"all of these": judgement.comparable, **judgement.families}
    rows: list[tuple[Cell, ...]] = []
    for name, metrics in groups.items():
        w = judgement.results.concordance(metrics)
        if np.isfinite(w):
            rows.append((name, len(metrics), w, concordance(w)))
    caption = (
        "Kendall's W of the mean ranks of "
        f"{plural(len(judgement.results.methods), 'method')}, over the metrics that bear on which map is right: 0 "
        "means no agreement of the metrics, 1 the same order."
    )
    columns = ("Metrics", "Number", "Kendall's W", "They rank the methods")
    return Table("concordance", caption, columns, tuple(rows), digits=2) if rows else None


def _correlations(judgement: Judgement) -> Picture | None:
    matrix, names = metric_correlations(judgement.results)
    if len(names) < LEAST or not np.isfinite(matrix[np.triu_indices(len(names), 1)]).any():
        return None
    caption = (
        "Spearman's correlation between the ranks of methods and reference maps by two metrics, mean over samples. 1: "
        "the same order; 0: no relation; negative (orange): opposite orders."
    )
    label = "Agreement between metrics: " + extremes(matrix, names)
    return Picture("metric-agreement", caption, label, plots.agreement(matrix, names))


def extremes(matrix: Float[np.ndarray, "k k"], names: Sequence[str]) -> str:
    """The most and the least similar pair of a matrix, for a screen reader."""
    rows, columns = np.triu_indices(len(names), 1)
    values = matrix[rows, columns]
    if not np.isfinite(values).any():
        return "undefined throughout"
    ends = (("most", int(np.nanargmax(values))), ("least", int(np.nanargmin(values))))
    return ", ".join(f"{word} similar {names[rows[k]]} and {names[columns[k]]} ({values[k]:.2f})" for word, k in ends)


def metric_correlations(results: Results) -> tuple[Float[np.ndarray, "k k"], tuple[str, ...]]:
    """Spearman's correlation of how each two metrics order methods and controls, a mean over samples; and the metrics.

    A metric without a score for some method is left out.
    """
    everyone = (*results.methods, *results.controls)
    names = tuple(m for m in results.metrics if all((name, m) in results.scores for name in everyone))
    ranks = [stats.ranks(results.table(m), better=results.better(m)) for m in names]
    return correlations(ranks), names


def correlations(tables: Sequence[Float[np.ndarray, "n p"]]) -> Float[np.ndarray, "k k"]:
    """The mean over rows of the correlation of each two tables; NaN where a row of either is constant."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # rows without ranks and means of nothing are NaN, as meant
        scaled = []
        for table in tables:
            centred = table - table.mean(axis=1, keepdims=True)
            spread = np.sqrt((centred**2).sum(axis=1, keepdims=True))
            scaled.append(centred / np.where(spread > 0, spread, np.nan))
        matrix = np.full((len(scaled), len(scaled)), np.nan)
        for i, a in enumerate(scaled):
            for j in range(i, len(scaled)):
                matrix[i, j] = matrix[j, i] = np.nanmean((a * scaled[j]).sum(axis=1)) if len(a) else np.nan
    return np.asarray(np.clip(matrix, -1.0, 1.0))
