"""What is known of a classifier on labelled samples: numbers, curves, examples and sentences."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import Float, Int

from heatproof.performance import findings
from heatproof.records import Estimate

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class Roc:
    """A receiver operating characteristic: false and true positive rates (P,) from 0 to 1; empty if undefined."""

    false_positive: Float[np.ndarray, " p"]
    true_positive: Float[np.ndarray, " p"]
    auc: float


@dataclass(frozen=True, eq=False)
class Reliability:
    """Confidence against accuracy in bins of equal width over [0, 1]; NaN in an empty bin.

    Attributes:
        edges: (B + 1,); confidence, accuracy, count: mean confidence, share right and number of samples (B,).
    """

    edges: Float[np.ndarray, " b1"]
    confidence: Float[np.ndarray, " b"]
    accuracy: Float[np.ndarray, " b"]
    count: Int[np.ndarray, " b"]


@dataclass(frozen=True)
class Confusion:
    """How often one class is taken for another; share is of the true class's samples."""

    true: str
    predicted: str
    count: int
    share: float


@dataclass(frozen=True)
class Examples:
    """Sample indices of one class: right and wrong by falling confidence, unsure by rising confidence."""

    name: str
    right: tuple[int, ...]
    wrong: tuple[int, ...]
    unsure: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Performance:
    """How good a classifier is on N samples of K classes; what a missing class leaves undefined is NaN.

    Attributes:
        y, probabilities: the true labels (N,) and what the model says (N, K).
        accuracy, balanced_accuracy, auc_macro, auc_micro, log_loss, ece: single numbers.
        class_accuracy, auc, precision, recall, f1: one number a class (K,), auc one against the rest.
        averages: precision, recall and F1 averaged, by name: "f1_macro", "precision_weighted", ...
        roc: curves by class name, and "macro" and "micro".
        confusion: counts (K, K), true by predicted.
        intervals: of every single number; class_intervals: of every number a class. BCa, but Wilson's of accuracies and
            of a class's precision: a few samples all told right do not show that all are.
    """

    classes: tuple[str, ...]
    y: Int[np.ndarray, " n"]
    probabilities: Float[np.ndarray, "n k"]
    accuracy: float
    balanced_accuracy: float
    class_accuracy: Float[np.ndarray, " k"]
    auc: Float[np.ndarray, " k"]
    auc_macro: float
    auc_micro: float
    roc: Mapping[str, Roc]
    confusion: Int[np.ndarray, "k k"]
    precision: Float[np.ndarray, " k"]
    recall: Float[np.ndarray, " k"]
    f1: Float[np.ndarray, " k"]
    averages: Mapping[str, float]
    log_loss: float
    ece: float
    reliability: Reliability
    intervals: Mapping[str, Estimate]
    class_intervals: Mapping[str, tuple[Estimate, ...]]
    name: str = "samples"

    def __len__(self) -> int:
        return len(self.y)

    @property
    def predictions(self) -> Int[np.ndarray, " n"]:
        """The most probable class of each sample."""
        return np.asarray(self.probabilities.argmax(axis=1))

    @property
    def confidence(self) -> Float[np.ndarray, " n"]:
        """The probability of the predicted class."""
        return np.asarray(self.probabilities.max(axis=1))

    @property
    def right(self) -> np.ndarray:
        """Which samples are classified correctly (N,)."""
        return np.asarray(self.predictions == self.y)

    @property
    def support(self) -> Int[np.ndarray, " k"]:
        """How many samples each class has."""
        return np.asarray(self.confusion.sum(axis=1))

    @property
    def confusion_normalised(self) -> Float[np.ndarray, "k k"]:
        """The confusion matrix as shares of each true class; a row of NaN for a class without samples."""
        total = self.support[:, None].astype(np.float64)
        share = np.full(self.confusion.shape, np.nan)
        return np.asarray(np.divide(self.confusion, total, out=share, where=total > 0))

    def examples(self, count: int = 3) -> tuple[Examples, ...]:
        """Successes and failures of each class: the surest right, the surest wrong, the least sure samples."""
        found = []
        for k, name in enumerate(self.classes):
            rows = np.flatnonzero(self.y == k)
            rising = rows[np.argsort(self.confidence[rows], kind="stable")]
            right = self.right[rising]
            falling = (rising[right][::-1], rising[~right][::-1], rising)
            found.append(Examples(name, *(tuple(int(i) for i in part[:count]) for part in falling)))
        return tuple(found)

    def confusions(self, count: int = 10) -> tuple[Confusion, ...]:
        """The pairs of classes most often confused, most frequent first; only pairs that occur."""
        wrong = self.confusion - np.diag(np.diag(self.confusion))
        order = np.argsort(-wrong, axis=None, kind="stable")[:count]
        pairs = [divmod(int(i), len(self.classes)) for i in order if wrong.flat[i]]
        return tuple(
            Confusion(self.classes[t], self.classes[p], int(wrong[t, p]), float(wrong[t, p] / self.support[t]))
            for t, p in pairs
        )

    @property
    def findings(self) -> tuple[str, ...]:
        """A few sentences: how good, which classes are hard and with which they are confused, how well calibrated."""
        return findings.sentences(self)

    def to_frame(self, rows: Literal["classes", "samples"] = "classes") -> pd.DataFrame:
        """A table with a row a class (numbers with the ends of their intervals) or a row a sample."""
        import pandas as pd

        if rows == "samples":
            names = [self.classes[i] for i in self.y], [self.classes[i] for i in self.predictions]
            columns: dict[str, Any] = {"label": names[0], "prediction": names[1], "confidence": self.confidence}
            columns |= {"right": self.right}
            columns |= {f"probability {name}": self.probabilities[:, k] for k, name in enumerate(self.classes)}
            return pd.DataFrame(columns)
        table: dict[str, Any] = {"class": list(self.classes), "samples": self.support}
        for key, found in self.class_intervals.items():
            table |= {key: [e.mean for e in found], f"{key} low": [e.low for e in found]}
            table |= {f"{key} high": [e.high for e in found]}
        return pd.DataFrame(table)

    def to_dict(self) -> dict[str, Any]:
        """Everything but the samples themselves, ready for JSON; undefined numbers are None, ROC curves are thinned."""
        parts = {
            "name": self.name,
            "samples": len(self),
            "classes": self.classes,
            "support": self.support,
            "numbers": {key: asdict(found) for key, found in self.intervals.items()},
            "classwise": {key: [asdict(e) for e in found] for key, found in self.class_intervals.items()},
            "confusion": self.confusion,
            "roc": {key: _thinned(curve) for key, curve in self.roc.items()},
            "reliability": asdict(self.reliability),
            "examples": [asdict(e) for e in self.examples()],
            "confusions": [asdict(c) for c in self.confusions()],
            "findings": self.findings,
        }
        return {key: _plain(value) for key, value in parts.items()}


def _thinned(curve: Roc, points: int = 200) -> dict[str, Any]:
    keep = np.unique(np.linspace(0, max(len(curve.false_positive) - 1, 0), points).round().astype(np.int64))
    keep = keep[: len(curve.false_positive)]
    return {
        "false_positive": curve.false_positive[keep],
        "true_positive": curve.true_positive[keep],
        "auc": curve.auc,
    }


def _plain(value: object) -> Any:
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
