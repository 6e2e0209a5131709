"""A multi-label model: each label, the ROC and precision-recall curves, and calibration."""

from __future__ import annotations

import numpy as np

from heatproof import plots
from heatproof.performance import LabelPerformance
from heatproof.report.parts import Cell, Part, Picture, Table

LARGE = 40  # labels drawn one below the other
COLUMNS = {
    "AUC": "auc",
    "Average precision": "average_precision",
    "F1": "f1",
    "Precision": "precision",
    "Recall": "recall",
    "ECE": "ece",
}


def parts_of(performance: LabelPerformance) -> list[Part | None]:
    """Measures, curves and calibration of the labels."""
    auc = performance.auc
    lowest = int(np.argmin(np.nan_to_num(auc, nan=2.0)))
    many = len(performance.classes) > LARGE
    which = f"the {LARGE} labels with the lowest AUC" if many else "each label, lowest first"
    numbers = performance.intervals
    return [
        Picture(
            "label-auc",
            f"AUC of {which}, with 95 % intervals.",
            f"AUC by label; lowest: {performance.classes[lowest]}, {auc[lowest]:.3f}",
            plots.per_class(performance, "auc"),
        ),
        _table(performance),
        Picture(
            "roc",
            "ROC curves: each label, their mean (macro), and all decisions pooled (micro).",
            f"ROC curves; AUC macro {numbers['auc_macro']:.3f}, micro {numbers['auc_micro']:.3f}",
            plots.roc(performance),
        ),
        Picture(
            "precision-recall",
            "Precision against recall: each label, and all decisions pooled (micro). The precision of a model that "
            "knows nothing is the share of positives.",
            f"Precision-recall curves; average precision micro {numbers['average_precision_micro']:.3f}",
            plots.precision_recall(performance),
        ),
        Picture(
            "reliability",
            "Reliability of each label: the share of positives against the predicted probability; larger points hold "
            "more samples. A well-calibrated model follows the diagonal.",
            f"Reliability diagrams; mean expected calibration error {numbers['ece']:.3f}",
            plots.label_reliability(performance),
        ),
    ]


def _table(performance: LabelPerformance) -> Table:
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (name, int(performance.support[k]), *(performance.class_intervals[key][k] for key in COLUMNS.values()))
        for k, name in enumerate(performance.classes)
    )
    caption = "Measures by label, with 95 % intervals; a label is predicted from probability 0.5 on."
    return Table("labels", caption, ("Label", "Positive samples", *COLUMNS), rows, digits=2)
