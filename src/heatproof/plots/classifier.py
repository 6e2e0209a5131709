"""Figures of a classifier: its training, its performance, its errors."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from matplotlib.figure import Figure

from heatproof.annotations import curve_name
from heatproof.plots.maps import panels
from heatproof.plots.names import fold, longest
from heatproof.plots.style import BLUE, DASHES, FAINT, GREY, INK, ORANGE, WIDTH, figure, line_style, styled
from heatproof.plots.tables import cells
from heatproof.records import Estimate

ClassNumber = Literal["accuracy", "precision", "recall", "f1", "auc", "average_precision"]
NAMED = {"f1": "F1", "auc": "AUC", "average_precision": "average precision"}
CURVES = 12  # classes drawn one by one in a ROC figure


@runtime_checkable
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


@runtime_checkable
class Curve(Protocol):
    """A receiver operating characteristic."""

    @property
    def false_positive(self) -> np.ndarray: ...
    @property
    def true_positive(self) -> np.ndarray: ...
    @property
    def auc(self) -> float: ...


@runtime_checkable
class Bins(Protocol):
    """Accuracy by the probability of the predicted class, in bins."""

    @property
    def edges(self) -> np.ndarray: ...
    @property
    def probability(self) -> np.ndarray: ...
    @property
    def accuracy(self) -> np.ndarray: ...
    @property
    def count(self) -> np.ndarray: ...


@runtime_checkable
class Examples(Protocol):
    """Indices of samples of one class."""

    @property
    def correct(self) -> Sequence[int]: ...
    @property
    def incorrect(self) -> Sequence[int]: ...
    @property
    def unsure(self) -> Sequence[int]: ...


@runtime_checkable
class Scored(Protocol):
    """Numbers of each class or label with their intervals."""

    @property
    def classes(self) -> Sequence[str]: ...
    @property
    def intervals(self) -> Mapping[str, Estimate]: ...
    @property
    def class_intervals(self) -> Mapping[str, Sequence[Estimate]]: ...


@runtime_checkable
class Ranked(Scored, Protocol):
    """The ROC curves of classes or labels."""

    @property
    def auc(self) -> np.ndarray: ...
    @property
    def roc(self) -> Mapping[str, Curve]: ...


@runtime_checkable
class Classified(Ranked, Protocol):
    """What a figure needs of a classifier's performance on N samples of K classes; `heatproof.evaluate` returns one."""

    @property
    def y(self) -> np.ndarray: ...
    @property
    def probabilities(self) -> np.ndarray: ...
    @property
    def class_accuracy(self) -> np.ndarray: ...
    @property
    def confusion(self) -> np.ndarray: ...
    @property
    def confusion_normalised(self) -> np.ndarray: ...
    @property
    def reliability(self) -> Bins: ...
    def examples(self, count: int = 3) -> Sequence[Examples]: ...


@styled
def history(epochs: Sequence[Epoch], *, best: int | None = None) -> Figure:
    """Loss and accuracy over the epochs, training and validation; ``best`` marks the epoch that was kept.

    A regression has no accuracy.
    """
    drawn = figure(height=2.5)
    x = [row.epoch for row in epochs]
    classified = any(math.isfinite(row.train_accuracy) for row in epochs)
    quantities = ("loss", "accuracy") if classified else ("loss",)
    for axes, quantity in zip(drawn.subplots(1, len(quantities), squeeze=False)[0], quantities, strict=True):
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
def roc(performance: Ranked) -> Figure:
    """ROC curves of each class or label (of the worst, where there are many), their mean, and all pooled.

    Good classifiers get a second panel that enlarges the corner.
    """
    drawn = figure(height=3.0)
    corner = performance.intervals["auc_macro"].mean > 0.9
    squares = drawn.subplots(1, 2 if corner else 1, squeeze=False)[0]
    names = [name for name, area in zip(performance.classes, performance.auc, strict=True) if math.isfinite(area)]
    if len(names) > CURVES:
        names = sorted(names, key=lambda name: performance.roc[curve_name(name)].auc)[:CURVES]
    for axes, size in zip(squares, (1.0, 0.25), strict=False):
        for i, name in enumerate(names):
            curve = performance.roc[curve_name(name)]
            x, y = few(curve.false_positive, curve.true_positive)
            axes.plot(x, y, linewidth=1.0, label=f"{fold(name, 24)}: {curve.auc:.3f}", **line_style(i))
        for name, dash in (("macro", DASHES[0]), ("micro", DASHES[2])):
            curve, interval = performance.roc[name], performance.intervals[f"auc_{name}"]
            if len(curve.false_positive):
                x, y = few(curve.false_positive, curve.true_positive)
                axes.plot(x, y, color=INK, linewidth=2, linestyle=dash, label=f"{name}: {bracketed(interval)}")
        axes.plot([0, 1], [0, 1], color=INK, alpha=FAINT, linewidth=0.8)
        axes.set(xlabel="false positive rate", xlim=(-0.012 * size, size), ylim=(1.0 - size, 1.0 + 0.02 * size))
        axes.set_box_aspect(1)
        axes.grid()
    squares[0].set_ylabel("true positive rate")
    legend = squares[-1].legend(loc="center left", bbox_to_anchor=(1.03, 0.5), title="AUC", handlelength=2.6)
    legend.get_title().set_fontweight("bold")
    return drawn


@styled
def confusion(performance: Classified) -> Figure:
    """The confusion matrix: counts as numbers, the root of the share of each true class as shade."""
    share = np.sqrt(np.nan_to_num(performance.confusion_normalised))
    k = len(performance.classes)
    names = [fold(name, 16) for name in performance.classes]
    side = min(WIDTH, max(3.0, 0.42 * k + 1.2 + 0.06 * longest(names)))
    drawn = figure(side, side)
    axes = drawn.subplots()
    numbers = [[str(n) if n else "" for n in row] for row in performance.confusion] if k <= 30 else None
    signed = np.where(np.eye(k, dtype=bool), share, -share)
    cells(axes, signed, rows=names, columns=names, numbers=numbers, width=side)
    axes.set(xlabel="predicted class", ylabel="true class")
    return drawn


@styled
def per_class(performance: Scored, value: ClassNumber = "accuracy") -> Figure:
    """One number a class with its interval, worst first, and the line of their mean; at most the 40 worst."""
    estimates = performance.class_intervals[value]
    defined = [k for k, estimate in enumerate(estimates) if math.isfinite(estimate.mean)]
    order = sorted(defined, key=lambda k: estimates[k].mean)[:40]
    drawn = figure(height=max(1.4, 0.22 * len(order) + 0.8))
    axes = drawn.subplots()
    if order:
        mean = float(np.mean([estimates[k].mean for k in defined]))
        axes.axvline(mean, color=ORANGE, linewidth=1.2, label=f"mean {mean:.3f}")
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.1)
    for y, k in enumerate(order):
        axes.hlines(y, estimates[k].low, estimates[k].high, color=BLUE, linewidth=2.2, alpha=0.7)
        axes.plot(estimates[k].mean, y, marker="o", color=BLUE, markersize=5.5, linestyle="none")
        axes.text(1.02, y, bracketed(estimates[k]), va="center", transform=axes.get_yaxis_transform(), fontsize=8)
    axes.set_xlabel(NAMED.get(value, value))
    axes.locator_params(axis="x", nbins=6)
    axes.set_yticks(range(len(order)), [fold(performance.classes[k], 34) for k in order])
    axes.set_ylim(len(order) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x")
    return drawn


def examples(
    performance: Classified, x: Any, kind: Literal["correct", "incorrect", "unsure"] = "incorrect", *, count: int = 2
) -> Figure:
    """Inputs x (N, C, *S) classified correctly or incorrectly with the highest probability, or with the lowest.

    ``count`` a class, the class with the lowest accuracy first; of many classes the lowest 12. The caption is the
    prediction with its probability, after the label where they differ.
    """
    classwise = performance.examples(count)
    hardest = np.argsort(np.nan_to_num(performance.class_accuracy, nan=2.0), kind="stable")[:CURVES]
    rows = [i for k in hardest for i in getattr(classwise[k], kind)]
    predictions, probability = performance.probabilities.argmax(axis=1), performance.probabilities.max(axis=1)
    names = performance.classes
    errors = [bool(predictions[i] != performance.y[i]) for i in rows]
    captions = [
        f"{names[performance.y[i]]} → {caption}" if error else caption
        for i, error in zip(rows, errors, strict=True)
        for caption in [f"{names[predictions[i]]} ({probability[i]:.2f})"]
    ]
    inputs = np.stack([np.asarray(x[i]) for i in rows]) if rows else np.zeros((0, 1, 1))
    return panels(inputs, captions, incorrect=errors)


@styled
def reliability(performance: Classified) -> Figure:
    """Accuracy by the probability of the predicted class, in bins, and how many samples each bin has."""
    bins = performance.reliability
    drawn = figure(3.6, 3.6)
    upper, lower = drawn.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    full = bins.count > 0
    middle, width = (bins.edges[1:] + bins.edges[:-1]) / 2, np.diff(bins.edges)
    upper.plot([0, 1], [0, 1], color=INK, alpha=FAINT, linewidth=0.8)
    upper.bar(middle[full], bins.accuracy[full], width[full] * 0.94, color=BLUE, alpha=0.3)
    upper.plot(bins.probability[full], bins.accuracy[full], color=BLUE, marker="o", markersize=4)
    title = f"ECE {bracketed(performance.intervals['ece'])}"
    upper.set(ylabel="accuracy", ylim=(0, 1.02), xlim=(0, 1), title=title)
    upper.grid()
    lower.bar(middle, bins.count, width * 0.94, color=GREY, alpha=0.6)
    lower.set(xlabel="probability of the predicted class", ylabel="samples")
    lower.locator_params(axis="y", nbins=3, integer=True)
    return drawn


def few(x: np.ndarray, y: np.ndarray, points: int = 400) -> tuple[Any, Any]:
    """A curve at no more than so many of its points."""
    keep = np.unique(np.linspace(0, len(x) - 1, points).round().astype(np.int64))
    return x[keep], y[keep]


def bracketed(estimate: Estimate) -> str:
    """A number with its interval in square brackets."""
    if not math.isfinite(estimate.low):
        return f"{estimate.mean:.3f}"
    return f"{estimate.mean:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]"
