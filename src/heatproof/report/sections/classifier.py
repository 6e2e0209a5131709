"""The classifier: its training, its accuracy and calibration, its errors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np

from heatproof import plots
from heatproof.performance import Performance, wording
from heatproof.phrases import listed, plural
from heatproof.records import Samples
from heatproof.report.content import Content
from heatproof.report.parts import Cell, Part, Picture, Section, Share, Table, compose, listing
from heatproof.training.history import Epoch
from heatproof.verdict.wording import Statement

NUMBERS = {
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy (mean over classes)",
    "auc_macro": "AUC, mean over classes (macro)",
    "auc_micro": "AUC, all decisions pooled (micro)",
    "precision_macro": "Precision, mean over classes",
    "recall_macro": "Recall, mean over classes",
    "f1_macro": "F1, mean over classes",
    "precision_weighted": "Precision, weighted by class size",
    "recall_weighted": "Recall, weighted by class size",
    "f1_weighted": "F1, weighted by class size",
    "log_loss": "Log loss (lower is better)",
    "ece": "Expected calibration error (lower is better)",
}
LARGE = 40  # classes; beyond, no confusion matrix is drawn
EXAMPLES = 12  # classes of which examples are drawn


def section(content: Content) -> Section | None:
    """Everything that was measured of the classifier."""
    performance, parts = content.performance, list[Part | None]()
    if performance is not None:
        parts += [listing(statements(performance)), _numbers(performance)]
    parts.append(_training(content.history))
    if performance is not None:
        parts += [*_classes(performance), *_errors(performance, content.pictures.evaluated)]
    lead = f"Measured on {plural(len(performance), 'sample')} ({performance.name})." if performance is not None else ""
    return compose("classifier", "The classifier", "Classifier", lead, parts)


def statements(performance: Performance) -> tuple[Statement, ...]:
    """The findings on a classifier in words."""
    return tuple(Statement(item.severity, wording.sentence(item), (item,)) for item in performance.findings)


def _numbers(performance: Performance) -> Table:
    intervals = performance.intervals
    keys = {**dict.fromkeys(NUMBERS), **dict.fromkeys(intervals)}
    rows = tuple((NUMBERS.get(key, key.replace("_", " ")), intervals[key]) for key in keys if key in intervals)
    return Table("classifier", "Measures with 95 % bootstrap intervals over samples.", ("Measure", "Value"), rows)


def _training(history: Sequence[Epoch]) -> Picture | None:
    if not history:
        return None
    last, count = history[-1], plural(len(history), "epoch")
    held_out = f", validation accuracy {last.val_accuracy:.3f}" if math.isfinite(last.val_accuracy) else ""
    words = (
        f"After {count}: training loss {last.train_loss:.3f}, training accuracy {last.train_accuracy:.3f}{held_out}."
    )
    caption = (
        f"Loss and accuracy during training. {words} Training values are means over an epoch, augmentation included."
    )
    return Picture("training", caption, f"Training curves. {words}", plots.history(history))


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
