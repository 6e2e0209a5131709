"""Who agrees with whom: metrics about methods, and methods about positions."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float

from heatproof import plots, stats
from heatproof.metrics.similarity import Similarity, similarity
from heatproof.report.facts import PLAIN, Told, alike
from heatproof.report.parts import Cell, Part, Picture, Section, Table, plural, section
from heatproof.results.record import Results

BUDGET: dict[Similarity, int] = {"spearman": 2**21, "ssim": 2**24}  # positions ranked a method; compared in all
LEAST = 4  # samples that are compared whatever their size
SAID: dict[Similarity, str] = {"spearman": "Spearman's correlation", "ssim": "structural similarity (SSIM)"}


def agreement(told: Told, maps: Mapping[str, np.ndarray]) -> Section | None:
    """Who agrees with whom, drawn; ``maps`` (N, *S) of some samples by method."""
    lead = (
        "Where metrics disagree, the ranking depends on which of them is believed. Where methods agree, they say the "
        "same, right or wrong."
    )
    parts: list[Part | None] = [_concordance(told), _metrics(told)]
    if len(maps) > 1:
        parts.append("Two measures of how alike two maps are: the order of their positions, and what they look like.")
        parts += [_methods(told, maps, "spearman"), _methods(told, maps, "ssim")]
    return section("agreement", "Who agrees with whom", "Agreement", lead, parts)


def _concordance(told: Told) -> Table | None:
    """Kendall's W of the metrics that count, together and within each kind."""
    groups = {"all that count": told.results.counting, **told.families}
    rows: list[tuple[Cell, ...]] = []
    for name, metrics in groups.items():
        found = told.results.concordance(metrics)
        if np.isfinite(found):
            rows.append((name, len(metrics), found, alike(found)))
    caption = (
        "How far metrics put the methods in the same order: Kendall's W, from 0 (no agreement) to 1 (the same order), "
        f"of the mean ranks of {plural(len(told.results.methods), 'method')}."
    )
    heads = ("Metrics", "Count", "Kendall's W", "So they order the methods")
    return Table("concordance", caption, heads, tuple(rows), digits=2) if rows else None


def _metrics(told: Told) -> Picture | None:
    matrix, names = metrics_agree(told.results)
    if len(names) < 2 or not np.isfinite(matrix[np.triu_indices(len(names), 1)]).any():
        return None
    caption = (
        "Between metrics: how alike they order methods and controls (Spearman's correlation, mean over samples). 1 is "
        "the same order; where they contradict each other (orange) they do not measure the same thing."
    )
    label = "Agreement between metrics: " + _extremes(matrix, names)
    return Picture("metric-agreement", caption, label, plots.agreement(matrix, names))


def _methods(told: Told, maps: Mapping[str, np.ndarray], kind: Similarity) -> Picture:
    matrix, count = maps_agree(maps, kind)
    caption = f"Between methods: how alike their maps are, by {SAID[kind]}, mean of {plural(count, 'sample')}. "
    if kind == "ssim":
        caption += "SSIM compares shapes and shades in small windows, each map brought to [0, 1] first."
    elif "edge" in told.results.controls:
        caption += f"1 is the same order of positions. A method much like {PLAIN['edge']} may show edges, not reasons."
    label = f"Agreement between methods by {SAID[kind]}: " + _extremes(matrix, list(maps))
    name = "method-agreement" if kind == "spearman" else "method-agreement-ssim"
    title = "Spearman correlation" if kind == "spearman" else "SSIM"
    return Picture(name, caption, label, plots.agreement(matrix, list(maps), label=title))


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


def maps_agree(maps: Mapping[str, np.ndarray], kind: Similarity = "spearman") -> tuple[Float[np.ndarray, "k k"], int]:
    """How alike the maps (N, *S) of each two methods are, a mean over samples; and over how many.

    A pair with a constant map is left out of the mean; NaN where no pair is left.
    """
    tables = list(maps.values())
    work = max(1, int(np.prod(tables[0].shape[1:]))) * (1 if kind == "spearman" else len(tables) ** 2)
    most = min(len(tables[0]), max(LEAST, BUDGET[kind] // work))
    rows = np.unique(np.linspace(0, len(tables[0]) - 1, most).round().astype(int))
    shown = [np.asarray(found)[rows] for found in tables]
    if kind == "spearman":
        return _correlations([stats.ranks(found.reshape(len(rows), -1)) for found in shown]), len(rows)
    flat = [torch.as_tensor(np.ascontiguousarray(found)) for found in shown]
    matrix = np.full((len(flat), len(flat)), np.nan)
    for i, j in itertools.combinations_with_replacement(range(len(flat)), 2):
        matrix[i, j] = matrix[j, i] = float(similarity(flat[i], flat[j], kind).nanmean())
    return matrix, len(rows)


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
