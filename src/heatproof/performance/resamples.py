"""Every number of a classifier for many weightings of its samples at once, as the bootstrap needs it."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

NUMBERS = (
    "accuracy",
    "balanced_accuracy",
    "auc_macro",
    "auc_micro",
    "precision_macro",
    "recall_macro",
    "f1_macro",
    "precision_weighted",
    "recall_weighted",
    "f1_weighted",
    "log_loss",
    "ece",
)
AVERAGES = tuple(key for key in NUMBERS if key.startswith(("precision", "recall", "f1")))
CLASS_NUMBERS = ("accuracy", "precision", "f1", "auc")
BLOCK = 2**21  # sorted scores summed up at a time


def resamples_of(asked: int, size: int) -> int:
    """How many resamples are drawn of so many numbers: beyond 50,000 numbers fewer, but at least 200."""
    return max(200, min(asked, int(asked * 50_000 / size)))


class Resampled:
    """A callable from weights (R, N) to the numbers (R, M): `NUMBERS`, then each of `CLASS_NUMBERS` for all classes."""

    def __init__(self, p: Float[np.ndarray, "n k"], y: Int[np.ndarray, " n"], bins: int) -> None:
        n, k = p.shape
        predicted, probability = p.argmax(axis=1), p.max(axis=1)
        correct = predicted == y
        self.label = np.eye(k)[y]
        self.predicted = np.eye(k)[predicted]
        self.hit = self.label * correct[:, None]
        chance = p[np.arange(n), y] / p.sum(axis=1)
        self.loss = -np.log(np.clip(chance, np.finfo(np.float64).eps, 1.0))
        place = np.clip(np.ceil(probability * bins).astype(np.int64) - 1, 0, bins - 1)
        self.gap = np.eye(bins)[place] * (probability - correct)[:, None]
        rows = np.arange(n)
        self.orders = [Order(p[:, j], y == j, rows) for j in range(k)]
        self.micro = Order(p.ravel(), (y[:, None] == np.arange(k)).ravel(), np.repeat(rows, k))

    def __call__(self, weights: Float[np.ndarray, "r n"]) -> Float[np.ndarray, "r m"]:
        total = weights.sum(axis=1)
        hit, label, predicted = (weights @ part for part in (self.hit, self.label, self.predicted))
        recall, precision = ratio(hit, label), ratio(hit, predicted)
        f1 = ratio(2.0 * hit, label + predicted)
        auc = np.stack([order.auc(weights) for order in self.orders], axis=1)
        numbers = [
            hit.sum(axis=1) / total,
            mean_defined(recall),
            mean_defined(auc),
            self.micro.auc(weights),
            *(mean_defined(part) for part in (precision, recall, f1)),
            *(mean_defined(part, label) for part in (precision, recall, f1)),
            weights @ self.loss / total,
            np.abs(weights @ self.gap).sum(axis=1) / total,
        ]
        return np.concatenate([np.stack(numbers, axis=1), recall, precision, f1, auc], axis=1)


class Order:
    """The area under a ROC curve, and the average precision, for any weights of the samples."""

    def __init__(self, score: Float[np.ndarray, " e"], positive: np.ndarray, rows: Int[np.ndarray, " e"]) -> None:
        falling = np.argsort(-score, kind="stable")
        self.ranked, self.positives = rows[falling], positive[falling]
        self.ends = np.flatnonzero(np.append(np.diff(score[falling]) != 0, True))  # the last of equal scores
        order = np.argsort(score, kind="stable")
        negative = order[~positive[order]]
        self.negative, self.positive = rows[negative], rows[positive]
        self.below = np.searchsorted(score[negative], score[positive], "left")
        self.upto = np.searchsorted(score[negative], score[positive], "right")

    def average_precision(self, weights: Float[np.ndarray, "r n"]) -> Float[np.ndarray, " r"]:
        """The precision at each score, weighted by the rise of recall there; NaN without positives."""
        step = max(1, BLOCK // max(1, len(self.ranked)))
        return np.concatenate([self._average_precision(weights[a : a + step]) for a in range(0, len(weights), step)])

    def _average_precision(self, weights: Float[np.ndarray, "r n"]) -> Float[np.ndarray, " r"]:
        all_weights = weights[:, self.ranked]
        count = np.cumsum(all_weights, axis=1)[:, self.ends]
        hits = np.cumsum(all_weights * self.positives, axis=1)[:, self.ends]
        precision = np.divide(hits, count, out=np.zeros_like(hits), where=count > 0)
        return ratio((np.diff(hits, axis=1, prepend=0.0) * precision).sum(axis=1), hits[:, -1])

    def auc(self, weights: Float[np.ndarray, "r n"]) -> Float[np.ndarray, " r"]:
        """The area under the ROC curve, ties counted half (Mann and Whitney 1947); NaN without both sorts."""
        step = max(1, BLOCK // max(1, len(self.negative)))
        return np.concatenate([self._auc(weights[a : a + step]) for a in range(0, len(weights), step)])

    def _auc(self, weights: Float[np.ndarray, "r n"]) -> Float[np.ndarray, " r"]:
        below = np.zeros((len(weights), len(self.negative) + 1))
        np.cumsum(weights[:, self.negative], axis=1, out=below[:, 1:])
        positive = weights[:, self.positive]
        won = (positive * (below[:, self.below] + below[:, self.upto])).sum(axis=1)
        return ratio(0.5 * won, positive.sum(axis=1) * below[:, -1])


def ratio(top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    """The quotient; NaN where the divisor is not positive."""
    return np.asarray(np.divide(top, bottom, out=np.full(top.shape, np.nan), where=bottom > 0))


def mean_defined(
    values: Float[np.ndarray, "r k"], weights: Float[np.ndarray, "r k"] | None = None
) -> Float[np.ndarray, " r"]:
    """The mean over classes, undefined ones left out."""
    weight = np.isfinite(values) * (1.0 if weights is None else weights)
    return ratio((np.nan_to_num(values) * weight).sum(axis=1), weight.sum(axis=1))
