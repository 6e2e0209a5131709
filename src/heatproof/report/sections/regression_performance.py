"""A regression: its outputs against the true values, and the errors that are left."""

from __future__ import annotations

import numpy as np

from heatproof import plots
from heatproof.performance import RegressionPerformance
from heatproof.report.parts import Cell, Part, Picture, Table

WORST = 8  # samples with the largest errors


def parts_of(performance: RegressionPerformance) -> list[Part | None]:
    """The outputs against the true values, and the largest errors."""
    caption = (
        "Left: outputs against true values; an exact model follows the diagonal. Right: errors against outputs; the "
        "orange line is their mean, the bias."
    )
    label = f"Outputs against true values; R2 {performance.r2:.3f}, mean absolute error {performance.mae:.4g}"
    return [Picture("regression", caption, label, plots.predicted_against_true(performance)), _worst(performance)]


def _worst(performance: RegressionPerformance) -> Table:
    order = np.argsort(-np.abs(performance.errors), kind="stable")[:WORST]
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (f"#{i}", float(performance.y[i]), float(performance.predictions[i]), float(performance.errors[i]))
        for i in order
    )
    return Table("largest-errors", "The largest errors.", ("Sample", "True", "Predicted", "Error"), rows, folded=True)
