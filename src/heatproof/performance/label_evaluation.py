"""The `LabelPerformance` computed from probabilities and true labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import ArrayLike
from torch import Tensor

from heatproof.annotations import curve_name, distinct
from heatproof.errors import InputError
from heatproof.performance.curves import BINS, mean_roc, precision_recall_of, reliability_of, roc_of
from heatproof.performance.label_findings import findings_of
from heatproof.performance.labels import THRESHOLD, LabelPerformance
from heatproof.performance.resamples import Order, mean_defined, ratio, resamples_of
from heatproof.records import Estimate
from heatproof.stats import bootstrap, proportion

NUMBERS = (
    "auc_macro",
    "auc_micro",
    "average_precision_macro",
    "average_precision_micro",
    "f1_macro",
    "f1_micro",
    "precision_macro",
    "precision_micro",
    "recall_macro",
    "recall_micro",
    "exact_match",
    "hamming_loss",
    "log_loss",
    "ece",
)
CLASS_NUMBERS = ("precision", "recall", "f1", "auc", "average_precision", "ece")


def measure_labels(
    probabilities: ArrayLike | Tensor,
    y: ArrayLike | Tensor,
    classes: Sequence[str],
    *,
    seed: int = 0,
    name: str = "samples",
    resamples: int = 2000,
) -> LabelPerformance:
    """The performance computed from the probability of each label (N, L) and the true labels (N, L) of 0 and 1.

    Beyond 50,000 probabilities the number of resamples falls with their count, to no fewer than 200.

    Raises: InputError where shapes, labels or names disagree, or a probability is not finite or outside [0, 1].
    """
    p, labels, names = _checked(probabilities, y, classes)
    n, count = p.shape
    draws = resamples_of(resamples, n * count)
    estimates = bootstrap(_Resampled(p, labels), n, resamples=draws, seed=seed)
    numbers = dict(zip(NUMBERS, estimates, strict=False))
    rest = estimates[len(NUMBERS) :]
    classwise = {key: rest[i * count : (i + 1) * count] for i, key in enumerate(CLASS_NUMBERS)}
    predicted = p >= THRESHOLD
    correct = predicted == labels
    numbers["exact_match"] = proportion(correct.all(axis=1))
    classwise |= {
        "precision": _shares(correct, predicted),
        "recall": _shares(correct, labels),
        "accuracy": _shares(correct, np.ones_like(labels)),
    }
    roc = {curve_name(key): roc_of(labels[:, k], p[:, k]) for k, key in enumerate(names)}
    macro = mean_roc([curve for curve in roc.values() if len(curve.false_positive)])
    precision_recall = {curve_name(key): precision_recall_of(labels[:, k], p[:, k]) for k, key in enumerate(names)}
    performance = LabelPerformance(
        classes=names,
        y=labels.astype(np.int64),
        probabilities=p,
        numbers=numbers,
        class_intervals=classwise,
        roc={**roc, "macro": macro, "micro": roc_of(labels.ravel(), p.ravel())},
        precision_recall={**precision_recall, "micro": precision_recall_of(labels.ravel(), p.ravel())},
        reliability={key: reliability_of(p[:, k], labels[:, k]) for k, key in enumerate(names)},
        name=name,
    )
    return replace(performance, findings=findings_of(performance))


class _Resampled:
    """A callable from weights (R, N) to the numbers (R, M): `NUMBERS`, then each of `CLASS_NUMBERS` for all labels."""

    def __init__(self, p: Float[np.ndarray, "n l"], y: Bool[np.ndarray, "n l"]) -> None:
        n, count = p.shape
        predicted, small = p >= THRESHOLD, np.finfo(np.float64).eps
        self.label, self.predicted = y.astype(np.float64), predicted.astype(np.float64)
        self.hit = self.label * self.predicted
        self.wrong = (predicted != y).mean(axis=1)
        self.exact = (predicted == y).all(axis=1).astype(np.float64)
        self.loss = -np.log(np.clip(np.where(y, p, 1.0 - p), small, 1.0)).mean(axis=1)
        self.gaps = [_binned(p[:, k], y[:, k]) for k in range(count)]
        rows = np.arange(n)
        self.orders = [Order(p[:, k], y[:, k], rows) for k in range(count)]
        self.pooled = Order(p.ravel(), y.ravel(), np.repeat(rows, count))

    def __call__(self, weights: Float[np.ndarray, "r n"]) -> Float[np.ndarray, "r m"]:
        total = weights.sum(axis=1)
        hit, label, predicted = (weights @ part for part in (self.hit, self.label, self.predicted))
        recall, precision, f1 = ratio(hit, label), ratio(hit, predicted), ratio(2.0 * hit, label + predicted)
        auc = np.stack([order.auc(weights) for order in self.orders], axis=1)
        average = np.stack([order.average_precision(weights) for order in self.orders], axis=1)
        ece = np.stack([np.abs(weights @ gap).sum(axis=1) / total for gap in self.gaps], axis=1)
        hits, labels, predictions = (part.sum(axis=1) for part in (hit, label, predicted))
        numbers = [
            mean_defined(auc),
            self.pooled.auc(weights),
            mean_defined(average),
            self.pooled.average_precision(weights),
            mean_defined(f1),
            ratio(2.0 * hits, labels + predictions),
            mean_defined(precision),
            ratio(hits, predictions),
            mean_defined(recall),
            ratio(hits, labels),
            weights @ self.exact / total,
            weights @ self.wrong / total,
            weights @ self.loss / total,
            mean_defined(ece),
        ]
        return np.concatenate([np.stack(numbers, axis=1), precision, recall, f1, auc, average, ece], axis=1)


def _binned(p: Float[np.ndarray, " n"], y: Bool[np.ndarray, " n"]) -> Float[np.ndarray, "n b"]:
    """Each sample's gap between probability and label, in the bin of its probability."""
    place = np.clip(np.ceil(p * BINS).astype(np.int64) - 1, 0, BINS - 1)
    return np.asarray(np.eye(BINS)[place] * (p - y)[:, None])


def _shares(correct: Bool[np.ndarray, "n l"], among: Bool[np.ndarray, "n l"]) -> tuple[Estimate, ...]:
    """The share of correct decisions on each label, among some of the samples."""
    return tuple(proportion(column[rows]) for column, rows in zip(correct.T, among.T, strict=True))


def _checked(
    probabilities: ArrayLike | Tensor, y: ArrayLike | Tensor, classes: Sequence[str]
) -> tuple[Float[np.ndarray, "n l"], Bool[np.ndarray, "n l"], tuple[str, ...]]:
    p, labels = np.asarray(probabilities, dtype=np.float64), np.asarray(y)
    if p.ndim != 2 or not len(p) or len(labels) != len(p) or labels.ndim != 2:
        raise InputError(
            f"got probabilities {p.shape} and labels {labels.shape}, expected (N, L) for both, N at least 1"
        )
    if p.shape[1] != len(classes) or labels.shape != p.shape:
        raise InputError(
            f"the model has {p.shape[1]} outputs, the samples have {len(classes)} labels; "
            "name the samples' labels as the model was trained on, in its order"
        )
    bad = np.flatnonzero(~np.isfinite(p).all(axis=1))
    if len(bad):
        raise InputError(
            f"the model returns NaN or infinite probabilities for {len(bad)} samples; the first is sample {bad[0]}"
        )
    if p.min() < 0 or p.max() > 1:
        raise InputError(f"got numbers from {p.min():.3g} to {p.max():.3g} that are not probabilities; apply a sigmoid")
    if not np.isin(labels, (0, 1)).all():
        raise InputError("got labels other than 0 and 1; expected 1 where a sample has the label, else 0")
    return p, labels.astype(bool), distinct(classes)
