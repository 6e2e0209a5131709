"""Figures of an evaluation: ranks with their intervals, scores, curves, and agreement between metrics or methods."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from heatproof.errors import InputError
from heatproof.plots.names import fit, fold, longest, spaced
from heatproof.plots.style import BLUE, DASHES, GREY, INK, ORANGE, WIDTH, figure, line_style, styled
from heatproof.plots.tables import cells, crowded
from heatproof.records import Direction, Estimate
from heatproof.stats import Rank, estimates


@styled
def ranking(
    rows: Sequence[Rank],
    *,
    controls: Collection[str] = (),
    value: Literal["rank", "score"] = "rank",
    label: str = "",
) -> Figure:
    """Methods from best to worst with their intervals, controls grey.

    Methods that share a letter do not differ significantly.
    """
    names = [f"{fold(row.name, 34)}{' (reference)' if row.name in controls else ''}" for row in rows]
    drawn = figure(height=spaced(names, 0.24) + 0.75)
    axes = drawn.subplots()
    for y, row in enumerate(rows):
        estimate = row.rank if value == "rank" else row.score
        control = row.name in controls
        colour = GREY if control else BLUE
        axes.hlines(y, estimate.low, estimate.high, color=colour, linewidth=2.2, alpha=0.7)
        axes.plot(estimate.mean, y, marker="D" if control else "o", color=colour, markersize=5.5, linestyle="none")
        axes.text(1.01, y, row.letters, transform=axes.get_yaxis_transform(), va="center", fontsize=8.5)
    axes.set_yticks(range(len(rows)), names)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlabel(label or ("mean rank over samples, 1 is best" if value == "rank" else "mean score"))
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x")
    return drawn


@styled
def curves(
    fractions: ArrayLike,
    lines: Mapping[str, ArrayLike],
    *,
    controls: Collection[str] = (),
    xlabel: str = "fraction of positions removed",
    ylabel: str = "score",
) -> Figure:
    """The mean of each method's curves (N, P) over fractions (P,), in a band: the 95 % interval of the mean.

    Raises: InputError where curves and fractions do not fit.
    """
    x = np.asarray(fractions, dtype=np.float64)
    drawn = figure(height=3.2)
    axes = drawn.subplots()
    methods = references = 0
    for name, values in lines.items():
        table = np.asarray(values, dtype=np.float64)
        if table.ndim != 2 or table.shape[1:] != x.shape:
            raise InputError(f"curves of {name}: got {table.shape}, expected (N, {len(x)}) for {x.shape} fractions")
        means = estimates(table)
        if name in controls:
            style, references = {"color": GREY, "linestyle": DASHES[(references + 1) % len(DASHES)]}, references + 1
        else:
            style, methods = line_style(methods), methods + 1
        axes.plot(x, [e.mean for e in means], label=fold(name, 30), **style)
        low, high = [e.low for e in means], [e.high for e in means]
        axes.fill_between(x, low, high, color=style["color"], alpha=0.16, linewidth=0)
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.margins(x=0.01)
    axes.grid()
    if lines:
        axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), handlelength=2.6)
    return drawn


@styled
def critical_difference(
    names: Sequence[str],
    mean_ranks: ArrayLike,
    groups: Sequence[Sequence[int]],
    *,
    controls: Collection[str] = (),
    reach: float | None = None,
) -> Figure:
    """Mean ranks on one line; bars join groups that do not differ significantly (Demšar 2006).

    ``reach`` is the critical difference, drawn above.

    Raises: InputError where names and ranks do not fit.
    """
    ranks = np.asarray(mean_ranks, dtype=np.float64)
    if ranks.shape != (len(names),) or not len(names):
        raise InputError(
            f"got {len(names)} names and mean ranks {ranks.shape}, expected one rank a name, and at least one"
        )
    order = [int(i) for i in np.argsort(ranks, kind="stable")]
    low, high = math.floor(ranks.min()), max(math.ceil(ranks.max()), math.floor(ranks.min()) + 1)
    bars = [group for group in groups if len(group) > 1]
    half = math.ceil(len(order) / 2)
    top = 0.35 + 0.16 * len(bars)
    depth = top + 0.3 * half
    drawn = figure(height=0.75 + 0.72 * depth)
    axes = drawn.subplots()
    span = high - low
    axes.set(xlim=(low - 0.5 * span, high + 0.5 * span), ylim=(-depth, 0.75 if reach is None else 1.0))
    axes.axis("off")
    axes.hlines(0, low, high, color=INK, linewidth=1)
    step = max(1, span // 10)
    for tick in range(low, high + 1, step):
        axes.vlines(tick, 0, 0.12, color=INK, linewidth=0.8)
        axes.text(tick, 0.2, str(tick), ha="center", fontsize=8)
    for j, i in enumerate(order):
        left = j < half
        y = -top - 0.3 * (j if left else len(order) - 1 - j)
        edge = low - 0.04 * span if left else high + 0.04 * span
        colour = GREY if names[i] in controls else BLUE
        axes.plot([ranks[i], ranks[i], edge], [0, y, y], color=colour, linewidth=1)
        axes.plot(ranks[i], 0, marker="o", color=colour, markersize=4, linestyle="none")
        name, size = fit(names[i], 1.4, lines=1)
        text = f"{name}  {ranks[i]:.2f}" if left else f"{ranks[i]:.2f}  {name}"
        put = edge - 0.015 * span if left else edge + 0.015 * span
        axes.text(put, y, text, ha="right" if left else "left", va="center", fontsize=size)
    for j, group in enumerate(bars):
        ends = ranks[list(group)]
        y = -0.2 - 0.16 * j
        axes.hlines(y, ends.min() - 0.012 * span, ends.max() + 0.012 * span, color=ORANGE, linewidth=3)
    if reach is not None:
        axes.plot([low, low + reach], [0.68, 0.68], color=INK, marker="|", linewidth=1)
        axes.text(low + reach + 0.02 * span, 0.68, f"critical difference {reach:.2f}", va="center", fontsize=8)
    return drawn


@styled
def metric_table(
    means: ArrayLike,
    methods: Sequence[str],
    metrics: Sequence[str],
    better: Sequence[Direction],
    *,
    controls: Collection[str] = (),
    strong: ArrayLike | None = None,
) -> Figure:
    """Mean scores (methods, metrics) as a heat table, a row a metric; blue beats the best control, orange does not.

    Without controls the metric's median takes their place. ``strong`` (methods, metrics) sets numbers in bold: those
    that are significantly better than every reference map, say.

    Raises: InputError where the parts do not fit.
    """
    table = np.asarray(means, dtype=np.float64)
    if table.shape != (len(methods), len(metrics)) or len(better) != len(metrics):
        raise InputError(
            f"got scores {table.shape} for {len(methods)} methods, {len(metrics)} metrics and {len(better)} directions"
        )
    references = [i for i, name in enumerate(methods) if name in controls]
    shaded = np.zeros_like(table.T)
    for j, direction in enumerate(better):
        column = table[:, j] if direction == "higher" else -table[:, j]
        shaded[j] = _against(column, column[references])
    digits = 3 if len(methods) <= 12 else 2
    rows = [f"{fold(name, 40)} {'↑' if up == 'higher' else '↓'}" for name, up in zip(metrics, better, strict=True)]
    heads = [f"{fold(name, 24)}{' (reference)' if name in controls else ''}" for name in methods]
    upright = crowded(heads, WIDTH)
    drawn = figure(WIDTH, spaced(rows, 0.27) + (0.058 * longest(heads) if upright else 0.1) + 0.4)
    bold = None if strong is None else np.asarray(strong, dtype=bool).T
    numbers = [_alike(line, digits) for line in table.T] if len(methods) <= 20 else None
    cells(drawn.subplots(), shaded, rows=rows, columns=heads, numbers=numbers, strong=bold)
    return drawn


def _against(column: Float[np.ndarray, " m"], controls: Float[np.ndarray, " c"]) -> Float[np.ndarray, " m"]:
    finite = column[np.isfinite(column)]
    if not len(finite):
        return np.zeros_like(column)
    fair = controls[np.isfinite(controls)]
    gap = column - (fair.max() if len(fair) else np.median(finite))
    widest = np.abs(gap[np.isfinite(gap)]).max()
    return np.asarray(0.8 * gap / widest) if widest > 0 else np.zeros_like(column)


def _alike(values: Float[np.ndarray, " k"], digits: int) -> list[str]:
    """Numbers that are compared with each other, with as many decimals each; a dash where one is undefined."""
    size = np.abs(values[np.isfinite(values)]).max(initial=0.0)
    if size >= 1e4 or 0 < size < 1e-3:
        texts = [f"{v:.0e}".replace("e-0", "e-").replace("e+0", "e") for v in values]
    else:
        places = digits - max(0, math.floor(math.log10(size)) + 1) if size else 0
        texts = [f"{v:.{max(0, places)}f}" for v in values]
    texts = [f"−{one[1:]}" if one.startswith("-") else one for one in texts]
    return [one if math.isfinite(v) else "–" for v, one in zip(values, texts, strict=True)]


@styled
def agreement(matrix: ArrayLike, names: Sequence[str], *, label: str = "Spearman correlation") -> Figure:
    """A matrix (K, K) of agreement in [-1, 1], between metrics or between methods: blue agrees, orange contradicts.

    Raises: InputError where the matrix does not fit the names.
    """
    table = np.asarray(matrix, dtype=np.float64)
    if table.shape != (len(names), len(names)):
        raise InputError(f"got a matrix {table.shape} for {len(names)} names, expected a row and a column a name")
    shown = [fold(name, 32) for name in names]
    side = min(WIDTH, 0.4 * len(names) + 0.075 * longest(shown) + 0.6)
    drawn = figure(side, side)
    axes = drawn.subplots()
    numbers = [["–" if math.isnan(v) else _signed(v) for v in row] for row in table]
    cells(axes, table, rows=shown, columns=shown, numbers=numbers if len(names) <= 20 else None, width=side)
    axes.set_title(label, fontweight="normal", fontsize=9)
    return drawn


def _signed(value: float) -> str:
    """A correlation without its leading zero: .52, −.10, 1.00."""
    texts = f"{abs(value):.2f}"
    return ("−" if value < 0 and float(texts) else "") + texts.replace("0.", ".")


@styled
def intervals(
    names: Sequence[str],
    estimates: Sequence[Estimate],
    *,
    label: str = "",
    quiet: Sequence[bool] = (),
    line: float | None = None,
) -> Figure:
    """Estimates with their intervals one below the other, ``quiet`` ones grey, and a line to compare them with.

    Raises: InputError where names and estimates do not fit.
    """
    if len(names) != len(estimates):
        raise InputError(f"got {len(names)} names and {len(estimates)} estimates; expected one each")
    shown = [fold(name, 40) for name in names]
    drawn = figure(height=spaced(shown, 0.24) + 0.75)
    axes = drawn.subplots()
    if line is not None:
        axes.axvline(line, color=ORANGE, linewidth=1.2)
    for y, row in enumerate(estimates):
        colour = GREY if y < len(quiet) and quiet[y] else BLUE
        axes.hlines(y, row.low, row.high, color=colour, linewidth=2.2, alpha=0.7)
        axes.plot(row.mean, y, marker="o", color=colour, markersize=5.5, linestyle="none")
    axes.set_yticks(range(len(names)), shown)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlabel(label)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x")
    return drawn


@styled
def times(spent: Sequence[tuple[str, str, float]]) -> Figure:
    """Seconds as bars by (kind, name, seconds): methods blue, metrics orange, anything else grey."""
    colours = {"method": BLUE, "metric": ORANGE}
    names = [fold(name, 40) for _, name, _ in spent]
    drawn = figure(height=spaced(names, 0.24) + 0.75)
    axes = drawn.subplots()
    for y, (kind, _, seconds) in enumerate(spent):
        axes.barh(y, seconds, height=0.7, color=colours.get(kind, GREY), alpha=0.8)
        axes.text(seconds, y, f" {seconds:.3g}", va="center", fontsize=8)
    axes.set_yticks(range(len(spent)), names)
    axes.set_ylim(len(spent) - 0.4, -0.6)
    axes.margins(x=0.08)
    axes.set_xlabel("seconds")
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x")
    return drawn
