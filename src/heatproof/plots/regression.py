"""Figures of a regression: outputs against true values, and what is left."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import numpy as np
from matplotlib.figure import Figure

from heatproof.plots.classifier import bracketed
from heatproof.plots.names import fold
from heatproof.plots.style import BLUE, FAINT, INK, ORANGE, figure, styled
from heatproof.records import Estimate

POINTS = 2000  # samples at most that are drawn


@runtime_checkable
class Regressed(Protocol):
    """What a figure needs of the performance of a regression."""

    @property
    def y(self) -> np.ndarray: ...
    @property
    def predictions(self) -> np.ndarray: ...
    @property
    def quantity(self) -> str: ...
    @property
    def unit(self) -> str: ...
    @property
    def intervals(self) -> Mapping[str, Estimate]: ...


@styled
def predicted_against_true(performance: Regressed) -> Figure:
    """The outputs against the true values, and the errors against the outputs; of many samples evenly spread ones."""
    rows = np.unique(np.linspace(0, len(performance.y) - 1, min(POINTS, len(performance.y))).round().astype(int))
    true, predicted = performance.y[rows], performance.predictions[rows]
    name = fold(performance.quantity, 30) + (f" ({performance.unit})" if performance.unit else "")
    drawn = figure(height=3.3)
    left, right = drawn.subplots(1, 2)
    dots = {"s": 10, "color": BLUE, "alpha": 0.5 if len(rows) > 100 else 0.8, "linewidth": 0}
    ends = [float(min(true.min(), predicted.min())), float(max(true.max(), predicted.max()))]
    margin = 0.04 * (ends[1] - ends[0]) or 1.0
    left.plot(ends, ends, color=INK, alpha=FAINT, linewidth=0.8)
    left.scatter(true, predicted, **dots)
    limits = (ends[0] - margin, ends[1] + margin)
    left.set(xlabel=f"true {name}", ylabel=f"predicted {name}", xlim=limits, ylim=limits)
    left.set_title(f"R2 {bracketed(performance.intervals['r2'])}")
    left.set_box_aspect(1)
    right.axhline(0, color=INK, alpha=FAINT, linewidth=0.8)
    right.scatter(predicted, predicted - true, **dots)
    bias = performance.intervals["bias"].mean
    right.axhline(bias, color=ORANGE, linewidth=1.2, label=f"bias {bias:.3g}")
    right.set(xlabel=f"predicted {name}", ylabel="predicted less true")
    right.set_title(f"MAE {performance.intervals['mae'].mean:.3g}, RMSE {performance.intervals['rmse'].mean:.3g}")
    right.legend(loc="best")
    right.set_box_aspect(1)
    for axes in (left, right):
        axes.grid()
    return drawn
