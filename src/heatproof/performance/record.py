"""The performance of a classifier on labelled samples: numbers with intervals, curves, examples and findings."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import Float, Int

from heatproof.performance.resamples import AVERAGES, NUMBERS
from heatproof.records import Estimate, Finding

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
    """Accuracy by the probability of the predicted class, in bins of equal width over [0, 1]; NaN in an empty bin.

    Attributes:
        edges: (B + 1,); probability, accuracy, count: mean probability, share classified correctly and number of
            samples (B,).
    """

    edges: Float[np.ndarray, " b1"]
    probability: Float[np.ndarray, " b"]
    accuracy: Float[np.ndarray, " b"]
    count: Int[np.ndarray, " b"]


@dataclass(frozen=True)
class Confusion:
    """How often one class is classified as another; share is of the true class's samples."""

    true: str
    predicted: str
    count: int
    share: float


@dataclass(frozen=True)
class Examples:
    """Sample indices of one class, by the probability of the predicted class.

    Attributes:
        correct, incorrect: samples classified correctly or incorrectly, most probable first.
        unsure: samples of either sort, least probable first.
    """

    name: str
    correct: tuple[int, ...]
    incorrect: tuple[int, ...]
    unsure: tuple[int, ...]


@dataclass(frozen=True, eq=False, repr=False)
class Performance:
    """The performance of a classifier on N samples of K classes; what a missing class leaves undefined is NaN.

    Attributes:
        y, probabilities: the true labels (N,) and the model's class probabilities (N, K).
        accuracy, balanced_accuracy, auc_macro, auc_micro, log_loss, ece: single numbers with their intervals.
        averages: precision, recall and F1 averaged, by name: "f1_macro", "precision_weighted", ...
        class_accuracy, auc, precision, recall, f1: one number a class (K,), auc one against the rest.
        class_intervals: the same numbers with their intervals, by name.
        roc: curves by class name, and "macro" and "micro".
        confusion: counts (K, K), true by predicted.
        findings: conclusions; `heatproof.performance.wording.sentence` puts one in words.

    Intervals are BCa, but Wilson's for accuracies and for a class's precision: a few samples all classified correctly
    do not show that all are.
    """

    classes: tuple[str, ...]
    y: Int[np.ndarray, " n"]
    probabilities: Float[np.ndarray, "n k"]
    accuracy: Estimate
    balanced_accuracy: Estimate
    class_accuracy: Float[np.ndarray, " k"]
    auc: Float[np.ndarray, " k"]
    auc_macro: Estimate
    auc_micro: Estimate
    roc: Mapping[str, Roc]
    confusion: Int[np.ndarray, "k k"]
    precision: Float[np.ndarray, " k"]
    recall: Float[np.ndarray, " k"]
    f1: Float[np.ndarray, " k"]
    averages: Mapping[str, Estimate]
    log_loss: Estimate
    ece: Estimate
    reliability: Reliability
    class_intervals: Mapping[str, tuple[Estimate, ...]]
    name: str = "samples"
    findings: tuple[Finding, ...] = ()

    def __repr__(self) -> str:
        ends = f" ({self.accuracy.low:.3f} to {self.accuracy.high:.3f})" if math.isfinite(self.accuracy.low) else ""
        size = f"{len(self):,} samples, {len(self.classes)} classes"
        return f"Performance({self.name}: {size}, accuracy {self.accuracy:.3f}{ends}, ECE {self.ece:.3f})"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{key.replace('_', ' ')}</td><td>{e:.3f}</td><td>{e.low:.3f} to {e.high:.3f}</td></tr>"
            for key, e in self.intervals.items()
        )
        caption = html.escape(f"{self.name}: {len(self):,} samples, {len(self.classes)} classes")
        head = "<tr><th>number</th><th>value</th><th>95 % CI</th></tr>"
        return f"<table><caption>{caption}</caption>{head}{rows}</table>"

    def __len__(self) -> int:
        return len(self.y)

    @property
    def predictions(self) -> Int[np.ndarray, " n"]:
        """The most probable class of each sample."""
        return np.asarray(self.probabilities.argmax(axis=1))

    @property
    def probability(self) -> Float[np.ndarray, " n"]:
        """The probability of the predicted class."""
        return np.asarray(self.probabilities.max(axis=1))

    @property
    def correct(self) -> np.ndarray:
        """Which samples are classified correctly (N,)."""
        return np.asarray(self.predictions == self.y)

    @property
    def intervals(self) -> dict[str, Estimate]:
        """Every single number by name, those of `averages` among them."""
        return {key: self.averages[key] if key in AVERAGES else getattr(self, key) for key in NUMBERS}

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
        """Of each class the most confident correct and incorrect predictions, and the least confident ones."""
        classwise = []
        for k, name in enumerate(self.classes):
            rows = np.flatnonzero(self.y == k)
            rising = rows[np.argsort(self.probability[rows], kind="stable")]
            correct = self.correct[rising]
            orders = (rising[correct][::-1], rising[~correct][::-1], rising)
            classwise.append(Examples(name, *(tuple(int(i) for i in order[:count]) for order in orders)))
        return tuple(classwise)

    def confusions(self, count: int = 10) -> tuple[Confusion, ...]:
        """The pairs of classes most often confused, most frequent first; only pairs that occur."""
        errors = self.confusion - np.diag(np.diag(self.confusion))
        order = np.argsort(-errors, axis=None, kind="stable")[:count]
        pairs = [divmod(int(i), len(self.classes)) for i in order if errors.flat[i]]
        return tuple(
            Confusion(self.classes[t], self.classes[p], int(errors[t, p]), float(errors[t, p] / self.support[t]))
            for t, p in pairs
        )

    def to_frame(self, rows: Literal["classes", "samples"] = "classes") -> pd.DataFrame:
        """A table with a row a class (numbers with the ends of their intervals) or a row a sample."""
        import pandas as pd

        if rows == "samples":
            names = [self.classes[i] for i in self.y], [self.classes[i] for i in self.predictions]
            columns: dict[str, Any] = {"label": names[0], "prediction": names[1], "probability": self.probability}
            columns |= {"correct": self.correct}
            columns |= {f"probability {name}": self.probabilities[:, k] for k, name in enumerate(self.classes)}
            return pd.DataFrame(columns)
        table: dict[str, Any] = {"class": list(self.classes), "samples": self.support}
        for key, estimates in self.class_intervals.items():
            table |= {key: [e.mean for e in estimates], f"{key} low": [e.low for e in estimates]}
            table |= {f"{key} high": [e.high for e in estimates]}
        return pd.DataFrame(table)

    def to_dict(self) -> dict[str, Any]:
        """Everything but the samples themselves, ready for JSON; undefined numbers are None, ROC curves are thinned."""
        parts = {
            "name": self.name,
            "samples": len(self),
            "classes": self.classes,
            "support": self.support,
            "numbers": {key: asdict(estimate) for key, estimate in self.intervals.items()},
            "classwise": {key: [asdict(e) for e in estimates] for key, estimates in self.class_intervals.items()},
            "confusion": self.confusion,
            "roc": {key: _thinned(curve) for key, curve in self.roc.items()},
            "reliability": asdict(self.reliability),
            "examples": [asdict(e) for e in self.examples()],
            "confusions": [asdict(c) for c in self.confusions()],
            "findings": [asdict(finding) for finding in self.findings],
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
