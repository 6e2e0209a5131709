"""Who agrees with whom: metrics about methods, and methods about positions."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from heatproof import plots, stats
from heatproof.report.findings import PLAIN, Told
from heatproof.report.parts import Picture, Section, plural, section
from heatproof.studying import Results

BUDGET = 2**21  # map values that are ranked for a method


def agreement(told: Told, maps: Mapping[str, np.ndarray]) -> Section | None:
    """Who agrees with whom, drawn; ``maps`` (N, *S) of some samples by method."""
    lead = "Where metrics disagree, the ranking depends on which of them is believed."
    return section("agreement", "Agreement", "Agreement", lead, [_metrics(told), _methods(told, maps)])


def _metrics(told: Told) -> Picture | None:
    matrix, names = metrics_agree(told.results)
    if len(names) < 2 or not np.isfinite(matrix[np.triu_indices(len(names), 1)]).any():
        return None
    caption = (
        "Between metrics: how alike they order methods and controls (Spearman's correlation, mean over samples). Where "
        "they contradict each other (orange) they do not measure the same thing."
    )
    label = "Agreement between metrics: " + _extremes(matrix, names)
    return Picture("metric-agreement", caption, label, plots.agreement(matrix, names))


def _methods(told: Told, maps: Mapping[str, np.ndarray]) -> Picture | None:
    if len(maps) < 2:
        return None
    matrix, count = maps_agree(maps)
    caption = (
        "Between methods: how alike their maps are (Spearman's correlation over positions, mean of "
        f"{plural(count, 'sample')})."
    )
    if "edge" in told.results.controls:
        caption += f" A method much like {PLAIN['edge']} may show edges rather than reasons."
    label = "Agreement between methods: " + _extremes(matrix, list(maps))
    return Picture("method-agreement", caption, label, plots.agreement(matrix, list(maps)))


def _extremes(matrix: np.ndarray, names: Sequence[str]) -> str:
    rows, columns = np.triu_indices(len(names), 1)
    values = matrix[rows, columns]
    if not np.isfinite(values).any():
        return "undefined throughout"
    ends = (("most", int(np.nanargmax(values))), ("least", int(np.nanargmin(values))))
    return ", ".join(f"{word} alike {names[rows[k]]} and {names[columns[k]]} ({values[k]:.2f})" for word, k in ends)


def metrics_agree(results: Results) -> tuple[Float[np.ndarray, "k k"], tuple[str, ...]]:
    """Spearman's correlation of how each two metrics order methods and controls, a mean over samples; and the metrics.

    A metric without a score for some method is left out.
    """
    everyone = (*results.methods, *results.controls)
    names = tuple(m for m in results.metrics if all((name, m) in results.scores for name in everyone))
    placed = [stats.ranks(results.table(m), better=results.better(m)) for m in names]
    return _correlations(placed), names


def maps_agree(maps: Mapping[str, np.ndarray]) -> tuple[Float[np.ndarray, "k k"], int]:
    """Spearman's correlation of the maps (N, *S) of each two methods, a mean over samples; and over how many."""
    some = next(iter(maps.values()))
    positions = max(1, int(np.prod(some.shape[1:])))
    rows = np.unique(np.linspace(0, len(some) - 1, min(len(some), max(4, BUDGET // positions))).round().astype(int))
    placed = [stats.ranks(np.asarray(found)[rows].reshape(len(rows), -1)) for found in maps.values()]
    return _correlations(placed), len(rows)


def _correlations(placed: list[np.ndarray]) -> np.ndarray:
    """The mean over rows of the correlation of each two tables of ranks; NaN where a row of either is all ties."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # rows without ranks and means of nothing are NaN, as meant
        scaled = []
        for table in placed:
            centred = table - table.mean(axis=1, keepdims=True)
            spread = np.sqrt((centred**2).sum(axis=1, keepdims=True))
            scaled.append(centred / np.where(spread > 0, spread, np.nan))
        found = np.full((len(placed), len(placed)), np.nan)
        for i, a in enumerate(scaled):
            for j in range(i, len(scaled)):
                found[i, j] = found[j, i] = np.nanmean((a * scaled[j]).sum(axis=1)) if len(a) else np.nan
    return np.asarray(np.clip(found, -1.0, 1.0))
