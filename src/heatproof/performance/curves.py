"""Curves of a model's probabilities: ROC, precision against recall, and reliability; the numbers are scikit-learn's."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from heatproof.performance.assessment import thinned

BINS = 15  # of a reliability diagram


@dataclass(frozen=True, eq=False)
class PrecisionRecall:
    """Precision (P,) against recall (P,), from recall 0 to 1; empty if undefined.

    Attributes:
        average_precision: the mean precision, weighted by the rise of recall. prevalence: the share of positives, which
            a model that knows nothing reaches.
    """

    recall: Float[np.ndarray, " p"]
    precision: Float[np.ndarray, " p"]
    average_precision: float
    prevalence: float


@dataclass(frozen=True, eq=False)
class Roc:
    """A receiver operating characteristic: false and true positive rates (P,) from 0 to 1; empty if undefined."""

    false_positive: Float[np.ndarray, " p"]
    true_positive: Float[np.ndarray, " p"]
    auc: float


@dataclass(frozen=True, eq=False)
class Reliability:
    """Accuracy by the probability of the predicted class, in bins of equal width over [0, 1]; NaN in an empty bin.

    Of a label: the share of positives by its probability.

    Attributes:
        edges: (B + 1,); probability, accuracy, count: mean probability, share classified correctly (or positive) and
            number of samples (B,).
    """

    edges: Float[np.ndarray, " b1"]
    probability: Float[np.ndarray, " b"]
    accuracy: Float[np.ndarray, " b"]
    count: Int[np.ndarray, " b"]


def thinned_roc(curve: Roc) -> dict[str, Any]:
    """A curve for a file."""
    false_positive, true_positive = thinned(curve.false_positive, curve.true_positive)
    return {"false_positive": false_positive, "true_positive": true_positive, "auc": curve.auc}


def roc_of(positive: np.ndarray, score: Float[np.ndarray, " n"]) -> Roc:
    from sklearn.metrics import auc, roc_curve

    if positive.all() or not positive.any():
        return Roc(np.empty(0), np.empty(0), math.nan)
    false_positive, true_positive, _ = roc_curve(positive, score)
    return Roc(false_positive, true_positive, float(auc(false_positive, true_positive)))


def mean_roc(curves: list[Roc]) -> Roc:
    """The mean of the curves along the false positive rate; its AUC is the mean of theirs."""
    if not curves:
        return Roc(np.empty(0), np.empty(0), math.nan)
    grid = np.unique(np.concatenate([curve.false_positive for curve in curves]))
    both = np.mean([_sides(curve, grid) for curve in curves], axis=0)
    return Roc(np.repeat(grid, 2), both.ravel(), float(np.mean([curve.auc for curve in curves])))


def _sides(curve: Roc, grid: Float[np.ndarray, " g"]) -> Float[np.ndarray, "g 2"]:
    """The true positive rate just before and just after each false positive rate; they differ where the curve jumps."""
    x, y = curve.false_positive, curve.true_positive
    between = np.interp(grid, x, y)
    first = np.searchsorted(x, grid, "left").clip(max=len(x) - 1)
    last = np.searchsorted(x, grid, "right") - 1
    return np.stack([np.where(x[i] == grid, y[i], between) for i in (first, last)], axis=1)


def reliability_of(probability: Float[np.ndarray, " n"], correct: np.ndarray) -> Reliability:
    edges = np.linspace(0.0, 1.0, BINS + 1)
    place = np.clip(np.ceil(probability * BINS).astype(np.int64) - 1, 0, BINS - 1)
    count = np.bincount(place, minlength=BINS)
    sums = [np.bincount(place, weights=w, minlength=BINS) for w in (probability, correct.astype(np.float64))]
    mean = [np.divide(s, count, out=np.full(BINS, np.nan), where=count > 0) for s in sums]
    return Reliability(edges, mean[0], mean[1], count)


def precision_recall_of(positive: Bool[np.ndarray, " n"], score: Float[np.ndarray, " n"]) -> PrecisionRecall:
    """The curve of a score that should be high where ``positive``; empty without positives."""
    from sklearn.metrics import average_precision_score, precision_recall_curve

    if not positive.any():
        return PrecisionRecall(np.empty(0), np.empty(0), math.nan, 0.0)
    precision, recall, _ = precision_recall_curve(positive, score)
    average = float(average_precision_score(positive, score))
    return PrecisionRecall(recall[::-1], precision[::-1], average, float(positive.mean()))
