"""Figures of a multi-label model: precision against recall, and the reliability of each label."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import numpy as np
from matplotlib.figure import Figure

from heatproof.annotations import curve_name
from heatproof.plots.classifier import CURVES, Bins, Scored, bracketed, few
from heatproof.plots.names import fold
from heatproof.plots.style import BLUE, DASHES, FAINT, GREY, INK, WIDTH, figure, line_style, styled

COLUMNS = 4  # diagrams side by side


@runtime_checkable
class Curve(Protocol):
    """Precision against recall."""

    @property
    def recall(self) -> np.ndarray: ...
    @property
    def precision(self) -> np.ndarray: ...
    @property
    def average_precision(self) -> float: ...


@runtime_checkable
class Labelled(Scored, Protocol):
    """What a figure needs of the performance of a multi-label model."""

    @property
    def precision_recall(self) -> Mapping[str, Curve]: ...
    @property
    def reliability(self) -> Mapping[str, Bins]: ...


@styled
def precision_recall(performance: Labelled) -> Figure:
    """Precision against recall of each label (of the worst, where there are many), and of all decisions pooled."""
    curves = performance.precision_recall
    drawn = figure(height=3.0)
    axes = drawn.subplots()
    names = [curve_name(name) for name in performance.classes]
    names = [name for name in names if math.isfinite(curves[name].average_precision)]
    if len(names) > CURVES:
        names = sorted(names, key=lambda name: curves[name].average_precision)[:CURVES]
    for i, name in enumerate(names):
        x, y = few(curves[name].recall, curves[name].precision)
        label = f"{fold(name, 24)}: {curves[name].average_precision:.3f}"
        axes.step(x, y, where="pre", linewidth=1.0, label=label, **line_style(i))
    micro = curves["micro"]
    if len(micro.recall):
        x, y = few(micro.recall, micro.precision)
        label = f"micro: {bracketed(performance.intervals['average_precision_micro'])}"
        axes.step(x, y, where="pre", color=INK, linewidth=2, linestyle=DASHES[2], label=label)
    axes.set(xlabel="recall", ylabel="precision", xlim=(-0.012, 1.012), ylim=(0, 1.02))
    axes.set_box_aspect(1)
    axes.grid()
    legend = axes.legend(loc="center left", bbox_to_anchor=(1.03, 0.5), title="Average precision", handlelength=2.6)
    legend.get_title().set_fontweight("bold")
    return drawn


@styled
def label_reliability(performance: Labelled) -> Figure:
    """The share of positives by the probability of each label, in bins; of many labels the 12 with the largest ECE.

    The area of a point is the number of samples in its bin.
    """
    errors = performance.class_intervals["ece"]
    order = range(len(performance.classes))
    if len(order) > CURVES:
        order = sorted(order, key=lambda k: -errors[k].mean)[:CURVES]  # type: ignore[assignment]
    columns = min(COLUMNS, len(order))
    rows = -(-len(order) // columns)
    drawn = figure(WIDTH, (WIDTH - 0.6) / columns * rows + 0.5)
    grid = drawn.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    for axes in grid.ravel()[len(order) :]:
        axes.set_visible(False)
    for axes, k in zip(grid.ravel(), order, strict=False):
        bins = performance.reliability[performance.classes[k]]
        full = bins.count > 0
        axes.plot([0, 1], [0, 1], color=INK, alpha=FAINT, linewidth=0.8)
        axes.plot(bins.probability[full], bins.accuracy[full], color=BLUE, linewidth=1.0)
        area = 70 * bins.count[full] / max(1, bins.count.max()) + 6
        axes.scatter(bins.probability[full], bins.accuracy[full], s=area, color=BLUE, edgecolor=GREY, linewidth=0.4)
        axes.set_title(f"{fold(performance.classes[k], 20)}\nECE {errors[k].mean:.3f}", fontweight="normal")
        axes.set(xlim=(-0.04, 1.04), ylim=(-0.04, 1.04))
        axes.set_box_aspect(1)
        axes.grid()
    drawn.supxlabel("probability", fontsize=9)
    drawn.supylabel("share of positives", fontsize=9)
    return drawn
