"""The model: its training, how good it is, and what its task has beside that."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from heatproof import plots
from heatproof.annotations import Task
from heatproof.performance import Assessment, LabelPerformance, Performance, RegressionPerformance, wording
from heatproof.phrases import plural
from heatproof.report.content import Content
from heatproof.report.parts import Part, Picture, Section, Table, compose, listing
from heatproof.report.sections import class_performance, label_performance, regression_performance
from heatproof.training.history import Epoch
from heatproof.verdict.wording import Statement

NUMBERS = {
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy (mean over classes)",
    "auc_macro": "AUC, mean over {classes} (macro)",
    "auc_micro": "AUC, all decisions pooled (micro)",
    "average_precision_macro": "Average precision, mean over {classes}",
    "average_precision_micro": "Average precision, all decisions pooled",
    "precision_macro": "Precision, mean over {classes}",
    "precision_micro": "Precision, all decisions pooled",
    "recall_macro": "Recall, mean over {classes}",
    "recall_micro": "Recall, all decisions pooled",
    "f1_macro": "F1, mean over {classes}",
    "f1_micro": "F1, all decisions pooled",
    "precision_weighted": "Precision, weighted by class size",
    "recall_weighted": "Recall, weighted by class size",
    "f1_weighted": "F1, weighted by class size",
    "exact_match": "Exact match (share of samples with every label correct)",
    "hamming_loss": "Hamming loss (share of incorrect decisions; lower is better)",
    "log_loss": "Log loss (lower is better)",
    "ece": "Expected calibration error{mean} (lower is better)",
    "r2": "R2, share of the variance explained",
    "mae": "Mean absolute error (lower is better)",
    "rmse": "Root mean squared error (lower is better)",
    "bias": "Bias, mean of output less true value (best at 0)",
}
TITLES: Mapping[Task, tuple[str, str]] = {
    "classes": ("The classifier", "Classifier"),
    "labels": ("The multi-label classifier", "Classifier"),
    "regression": ("The model", "Model"),
}


def section(content: Content) -> Section | None:
    """Everything that was measured of the model."""
    performance, parts = content.performance, list[Part | None]()
    if performance is not None:
        parts += [listing(statements(performance)), _numbers(performance)]
    parts.append(_training(content.history))
    evaluated = content.pictures.evaluated
    if isinstance(performance, Performance):
        parts += class_performance.parts_of(performance, evaluated)
    elif isinstance(performance, LabelPerformance):
        parts += label_performance.parts_of(performance)
    elif isinstance(performance, RegressionPerformance):
        parts += regression_performance.parts_of(performance)
    lead = f"Measured on {plural(len(performance), 'sample')} ({performance.name})." if performance is not None else ""
    title, short = TITLES["classes" if performance is None else performance.task]
    return compose("classifier", title, short, lead, parts)


def statements(performance: Assessment) -> tuple[Statement, ...]:
    """The findings on a model in words."""
    return tuple(Statement(item.severity, wording.sentence(item), (item,)) for item in performance.findings)


def _numbers(performance: Assessment) -> Table:
    intervals, classes = performance.intervals, performance.task
    mean = ", mean over labels" if classes == "labels" else ""
    keys = {**dict.fromkeys(NUMBERS), **dict.fromkeys(intervals)}
    rows = tuple(
        (NUMBERS.get(key, key.replace("_", " ")).format(classes=classes, mean=mean), intervals[key])
        for key in keys
        if key in intervals
    )
    return Table("classifier", "Measures with 95 % bootstrap intervals over samples.", ("Measure", "Value"), rows)


def _training(history: Sequence[Epoch]) -> Picture | None:
    if not history:
        return None
    last, count = history[-1], plural(len(history), "epoch")
    held_out = f", validation accuracy {last.val_accuracy:.3f}" if math.isfinite(last.val_accuracy) else ""
    accuracy = f", training accuracy {last.train_accuracy:.3f}" if math.isfinite(last.train_accuracy) else ""
    words = f"After {count}: training loss {last.train_loss:.3f}{accuracy}{held_out}."
    what = "Loss and accuracy" if accuracy else "Loss"
    caption = f"{what} during training. {words} Training values are means over an epoch, augmentation included."
    return Picture("training", caption, f"Training curves. {words}", plots.history(history))
