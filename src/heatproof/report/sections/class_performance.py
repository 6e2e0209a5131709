"""A classifier of single classes: each class, the ROC curves, the confusion matrix, calibration, and the errors."""

from __future__ import annotations

from typing import Literal

import numpy as np

from heatproof import plots
from heatproof.performance import Performance
from heatproof.phrases import listed
from heatproof.records import Samples
from heatproof.report.parts import Cell, Part, Picture, Share, Table

LARGE = 40  # classes; beyond, no confusion matrix is drawn
EXAMPLES = 12  # classes of which examples are drawn


def parts_of(performance: Performance, samples: Samples | None) -> list[Part | None]:
    """Measures and curves of the classes, then the errors; with samples also examples of them."""
    return [*_classes(performance), *_errors(performance, samples)]


def _classes(performance: Performance) -> list[Part | None]:
    columns = {"Accuracy (recall)": "accuracy", "Precision": "precision", "F1": "f1", "AUC": "auc"}
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (name, int(performance.support[k]), *(performance.class_intervals[key][k] for key in columns.values()))
        for k, name in enumerate(performance.classes)
    )
    many = len(performance.classes) > LARGE
    parts: list[Part | None] = [
        _accuracies(performance, many=many),
        Table("classes", "Measures by class, with 95 % intervals.", ("Class", "Samples", *columns), rows, folded=True),
        Picture(
            "roc",
            "ROC curves: each class against the rest, their mean (macro), and all decisions pooled (micro).",
            f"ROC curves; AUC macro {performance.auc_macro:.3f}, micro {performance.auc_micro:.3f}",
            plots.roc(performance),
        ),
    ]
    if not many:
        caption = (
            "Confusion matrix: number of samples; the shade is the share of the true class. Blue: correct, orange: "
            "incorrect."
        )
        label = f"Confusion matrix; {int(performance.correct.sum())} of {len(performance)} on the diagonal"
        parts.append(Picture("confusion", caption, label, plots.confusion(performance)))
    caption = (
        "Reliability diagram: accuracy against the predicted probability. A well-calibrated classifier follows the "
        "diagonal."
    )
    label = f"Reliability diagram; expected calibration error {performance.ece:.3f}"
    return [*parts, Picture("reliability", caption, label, plots.reliability(performance))]


def _accuracies(performance: Performance, *, many: bool) -> Picture:
    accuracy = performance.class_accuracy
    lowest = int(np.argmin(np.nan_to_num(accuracy, nan=2.0)))
    which = "the 40 classes with the lowest" if many else "each class, lowest"
    caption = f"Accuracy of {which} accuracy first, with 95 % intervals."
    label = f"Accuracy by class; lowest: {performance.classes[lowest]}, {accuracy[lowest]:.3f}"
    return Picture("class-accuracy", caption, label, plots.per_class(performance))


def _errors(performance: Performance, samples: Samples | None) -> list[Part | None]:
    parts: list[Part | None] = []
    pairs = tuple((c.true, c.predicted, c.count, Share(c.share, 1)) for c in performance.confusions())
    if pairs:
        columns = ("True class", "Prediction", "Samples", "Share of the true class")
        parts.append(Table("confused", "The pairs of classes most often confused.", columns, pairs))
    if samples is None or len(samples) != len(performance):
        return parts
    hard = f" of the {EXAMPLES} classes with the lowest accuracy" if len(performance.classes) > EXAMPLES else ""
    strata: tuple[tuple[Literal["incorrect", "unsure", "correct"], str, str], ...] = (
        ("incorrect", "Most confident errors", "label → prediction, probability"),
        ("unsure", "Least confident predictions", "prediction, probability; label → prediction where incorrect"),
        ("correct", "Most confident correct predictions", "class, probability"),
    )
    for stratum, heading, order in strata:
        if stratum == "incorrect" and performance.correct.all():
            continue
        figure = plots.examples(performance, samples.x, stratum)
        label = f"{heading}{hard}, up to two a class"
        read = f"{label}; classes {listed(performance.classes)}"
        folded = stratum != "incorrect"
        parts.append(Picture(f"examples-{stratum}", f"{label} ({order}).", read, figure, folded, heading))
    return parts
