"""The section on the classifier itself: how it learned, how good it is, where it errs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np

from heatproof import plots
from heatproof.performance import Performance
from heatproof.records import Samples
from heatproof.report.parts import Cell, Finding, Listing, Part, Picture, Section, Share, Table, listed, plural, section
from heatproof.training.history import Epoch

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


def classifier(performance: Performance | None, history: Sequence[Epoch], samples: Samples | None) -> Section | None:
    """Everything known of the classifier."""
    parts: list[Part | None] = []
    if performance is not None:
        parts += [Listing(tuple(Finding("note", text) for text in performance.findings)), _headline(performance)]
    parts.append(_history(history))
    if performance is not None:
        parts += [*_class_by_class(performance), *_errors(performance, samples)]
    lead = f"Measured on {plural(len(performance), 'sample')} ({performance.name})." if performance is not None else ""
    return section("classifier", "The classifier", "Classifier", lead, parts)


def _headline(found: Performance) -> Table:
    known = {**dict.fromkeys(NUMBERS), **dict.fromkeys(found.intervals)}
    rows = tuple(
        (NUMBERS.get(key, key.replace("_", " ")), found.intervals[key]) for key in known if key in found.intervals
    )
    return Table(
        "classifier", "Headline numbers with 95 % bootstrap intervals over samples.", ("Number", "Value"), rows
    )


def _history(history: Sequence[Epoch]) -> Picture | None:
    if not history:
        return None
    last, count = history[-1], plural(len(history), "epoch")
    held = f", validation accuracy {last.val_accuracy:.3f}" if math.isfinite(last.val_accuracy) else ""
    said = f"After {count}: training loss {last.train_loss:.3f}, training accuracy {last.train_accuracy:.3f}{held}."
    caption = (
        f"Loss and accuracy while training. {said} Training values are means over an epoch, augmentation included."
    )
    return Picture("training", caption, f"Training curves. {said}", plots.history(history))


def _class_by_class(found: Performance) -> list[Part | None]:
    columns = {"Accuracy (recall)": "accuracy", "Precision": "precision", "F1": "f1", "AUC": "auc"}
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (name, int(found.support[k]), *(found.class_intervals[key][k] for key in columns.values()))
        for k, name in enumerate(found.classes)
    )
    many = len(found.classes) > LARGE
    parts: list[Part | None] = [
        _accuracies(found, many=many),
        Table("classes", "Class by class, with 95 % intervals.", ("Class", "Samples", *columns), rows, folded=True),
        Picture(
            "roc",
            "ROC curves: each class against the rest, their mean (macro), and all pooled (micro).",
            f"ROC curves; AUC macro {found.auc_macro:.3f}, micro {found.auc_micro:.3f}",
            plots.roc(found),
        ),
    ]
    if not many:
        caption = "Confusion matrix: counts as numbers; shade: share of the true class. Blue is right, orange wrong."
        label = f"Confusion matrix; {int(found.right.sum())} of {len(found)} on the diagonal"
        parts.append(Picture("confusion", caption, label, plots.confusion(found)))
    caption = "Reliability: a well-calibrated classifier is right as often as its confidence says (the diagonal)."
    label = f"Reliability diagram; expected calibration error {found.ece:.3f}"
    return [*parts, Picture("reliability", caption, label, plots.reliability(found))]


def _accuracies(found: Performance, *, many: bool) -> Picture:
    worst = int(np.argmin(np.nan_to_num(found.class_accuracy, nan=2.0)))
    caption = f"Accuracy of {'the 40 worst classes' if many else 'each class'}, worst first, with 95 % intervals."
    label = f"Accuracy by class; lowest: {found.classes[worst]}, {found.class_accuracy[worst]:.3f}"
    return Picture("class-accuracy", caption, label, plots.per_class(found))


def _errors(found: Performance, samples: Samples | None) -> list[Part | None]:
    parts: list[Part | None] = []
    pairs = tuple((c.true, c.predicted, c.count, Share(c.share, 1)) for c in found.confusions())
    if pairs:
        columns = ("True class", "Taken for", "Samples", "Share of the true class")
        parts.append(Table("confused", "The pairs of classes most often confused.", columns, pairs))
    if samples is None or len(samples) != len(found):
        return parts
    hard = " of the 12 hardest classes" if len(found.classes) > 12 else ""
    shown: tuple[tuple[Literal["wrong", "unsure", "right"], str, str], ...] = (
        ("wrong", "Failures: the surest wrong predictions", " (label → prediction, confidence)"),
        ("unsure", "Doubt: the least sure predictions", " (prediction, confidence; label → prediction where wrong)"),
        ("right", "Successes: the surest right predictions", " (class, confidence)"),
    )
    for kind, said, how in shown:
        if kind == "wrong" and found.right.all():
            continue
        figure = plots.examples(found, samples.x, kind)
        label = f"{said}{hard}, up to two a class"
        read = f"{label}; classes {listed(found.classes)}"
        parts.append(Picture(f"examples-{kind}", f"{label}{how}.", read, figure, kind != "wrong", said))
    return parts
