"""Figures of a classifier: how it learned, how good it is, where it errs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from matplotlib.figure import Figure

from heatproof.plots.style import (
    BLUE,
    FAINT,
    GREY,
    INK,
    ORANGE,
    WIDTH,
    figure,
    line_style,
    longest,
    short,
    styled,
)
from heatproof.plots.tables import cells

if TYPE_CHECKING:
    from heatproof.performance import Performance

ClassNumber = Literal["accuracy", "precision", "f1", "auc"]
NAMED = {"accuracy": "accuracy", "precision": "precision", "f1": "F1", "auc": "AUC"}
CURVES = 12  # classes drawn one by one in a ROC figure


class Epoch(Protocol):
    """One row of a training history."""

    @property
    def epoch(self) -> int: ...
    @property
    def train_loss(self) -> float: ...
    @property
    def train_accuracy(self) -> float: ...
    @property
    def val_loss(self) -> float: ...
    @property
    def val_accuracy(self) -> float: ...


@styled
def history(epochs: Sequence[Epoch], *, best: int | None = None) -> Figure:
    """Loss and accuracy over the epochs, training and validation; ``best`` marks the epoch that was kept."""
    drawn = figure(height=2.5)
    x = [row.epoch for row in epochs]
    for axes, quantity in zip(drawn.subplots(1, 2), ("loss", "accuracy"), strict=True):
        for part, name, colour in (("train", "training", BLUE), ("val", "validation", ORANGE)):
            y = np.array([getattr(row, f"{part}_{quantity}") for row in epochs], dtype=np.float64)
            if np.isfinite(y).any():
                axes.plot(x, y, color=colour, label=name, marker="o" if len(x) == 1 else None)
        if best is not None:
            axes.axvline(best, color=INK, alpha=FAINT, linestyle=":", label=f"kept: epoch {best}")
        axes.set(xlabel="epoch", ylabel=quantity)
        axes.locator_params(axis="x", integer=True)
        axes.grid(axis="y")
        if axes.lines:
            axes.legend(loc="best")
    return drawn


@styled
def roc(performance: Performance) -> Figure:
    """ROC curves of each class against the rest (of the worst, where there are many), their mean, and all pooled."""
    drawn = figure(height=3.6)
    axes = drawn.subplots()
    names = [name for name, area in zip(performance.classes, performance.auc, strict=True) if math.isfinite(area)]
    if len(names) > CURVES:
        names = sorted(names, key=lambda name: performance.roc[name].auc)[:CURVES]
    for i, name in enumerate(names):
        curve = performance.roc[name]
        legend = f"{short(name)}: {curve.auc:.3f}"
        axes.plot(curve.false_positive, curve.true_positive, linewidth=1.0, label=legend, **line_style(i))
    for name, dash in (("macro", "-"), ("micro", (0, (4, 1.5)))):
        curve, interval = performance.roc[name], performance.intervals[f"auc_{name}"]
        if len(curve.false_positive):
            x, y = _few(curve.false_positive, curve.true_positive)
            axes.plot(x, y, color=INK, linewidth=2, linestyle=dash, label=f"{name}: {_interval(interval)}")
    axes.plot([0, 1], [0, 1], color=INK, alpha=FAINT, linewidth=0.8)
    axes.set(xlabel="false positive rate", ylabel="true positive rate", xlim=(-0.01, 1.01), ylim=(-0.01, 1.02))
    axes.set_box_aspect(1)
    axes.grid()
    legend_box = axes.legend(loc="center left", bbox_to_anchor=(1.03, 0.5), title="AUC", handlelength=2.6)
    legend_box.get_title().set_fontweight("bold")
    return drawn


@styled
def confusion(performance: Performance) -> Figure:
    """The confusion matrix: shares of each true class as shade, counts as numbers."""
    share = np.nan_to_num(performance.confusion_normalised)
    k = len(performance.classes)
    names = [short(name, 16) for name in performance.classes]
    side = min(WIDTH, max(3.0, 0.42 * k + 1.2 + 0.06 * longest(names)))
    drawn = figure(side, side)
    axes = drawn.subplots()
    numbers = [[str(n) if n else "" for n in row] for row in performance.confusion] if k <= 30 else None
    right = np.eye(k, dtype=bool)
    signed = np.where(right, share, -share)
    cells(axes, signed, rows=names, columns=names, numbers=numbers)
    axes.set(xlabel="predicted class", ylabel="true class")
    return drawn


@styled
def class_bars(performance: Performance, value: ClassNumber = "accuracy") -> Figure:
    """One number a class with its interval, worst first, the line of the mean behind."""
    found = performance.class_intervals[value]
    order = sorted(range(len(found)), key=lambda k: (math.isnan(found[k].mean), found[k].mean))
    order = [k for k in order if found[k].n and not math.isnan(found[k].mean)][:40]
    drawn = figure(height=max(1.4, 0.22 * len(order) + 0.7))
    axes = drawn.subplots()
    y = range(len(order))
    means = np.array([found[k].mean for k in order])
    ends = np.array([[found[k].low, found[k].high] for k in order]).reshape(-1, 2)
    axes.barh(y, means, height=0.62, color=BLUE, alpha=0.55)
    axes.hlines(y, ends[:, 0], ends[:, 1], color=INK, linewidth=1.3)
    for place, k in zip(y, order, strict=True):
        axes.text(1.01, place, f"{_interval(found[k])}", va="center", transform=axes.get_yaxis_transform(), fontsize=8)
    if len(means):
        axes.axvline(float(means.mean()), color=ORANGE, linewidth=1.2, label=f"mean {means.mean():.3f}")
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.1)
    low = math.floor(10 * max(0.0, np.nanmin([*means, *ends[:, 0], 0.9]) - 0.05)) / 10
    axes.set(xlim=(low, 1.0), xlabel=NAMED[value] if low == 0 else f"{NAMED[value]} (axis starts at {low:g})")
    axes.set_yticks(y, [short(performance.classes[k]) for k in order])
    axes.invert_yaxis()
    axes.grid(axis="x")
    return drawn


@styled
def reliability(performance: Performance) -> Figure:
    """Accuracy against confidence in bins, and how many samples each bin has."""
    bins = performance.reliability
    drawn = figure(3.6, 3.6)
    upper, lower = drawn.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    full = bins.count > 0
    middle, width = (bins.edges[1:] + bins.edges[:-1]) / 2, np.diff(bins.edges)
    upper.plot([0, 1], [0, 1], color=INK, alpha=FAINT, linewidth=0.8)
    upper.bar(middle[full], bins.accuracy[full], width[full] * 0.94, color=BLUE, alpha=0.3)
    upper.plot(bins.confidence[full], bins.accuracy[full], color=BLUE, marker="o", markersize=4)
    title = f"ECE {_interval(performance.intervals['ece'])}"
    upper.set(ylabel="share right", ylim=(0, 1.02), xlim=(0, 1), title=title)
    upper.grid()
    lower.bar(middle, bins.count, width * 0.94, color=GREY, alpha=0.6)
    lower.set(xlabel="confidence", ylabel="samples")
    lower.locator_params(axis="y", nbins=3, integer=True)
    return drawn


def _few(x: np.ndarray, y: np.ndarray, points: int = 400) -> tuple[Any, Any]:
    keep = np.unique(np.linspace(0, len(x) - 1, points).round().astype(np.int64))
    return x[keep], y[keep]


def _interval(found: Any) -> str:
    if not math.isfinite(found.low):
        return f"{found.mean:.3f}"
    return f"{found.mean:.3f} [{found.low:.3f}, {found.high:.3f}]"
