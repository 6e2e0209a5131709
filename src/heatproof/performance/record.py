"""The performance of a classifier on labelled samples: numbers with intervals, curves, examples and findings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import Float, Int

from heatproof.annotations import Task
from heatproof.performance.assessment import as_table, brackets, columns_of, plain
from heatproof.performance.curves import Reliability, Roc, thinned_roc
from heatproof.performance.resamples import AVERAGES, NUMBERS
from heatproof.records import Estimate, Finding

if TYPE_CHECKING:
    import pandas as pd


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

    Intervals are BCa, but exact for accuracies and for a class's precision: a few samples all classified correctly
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
        size, ends = f"{len(self):,} samples, {len(self.classes)} classes", brackets(self.accuracy)
        return f"Performance({self.name}: {size}, accuracy {self.accuracy:.3f}{ends}, ECE {self.ece:.3f})"

    def _repr_html_(self) -> str:
        return as_table(f"{self.name}: {len(self):,} samples, {len(self.classes)} classes", self.intervals)

    def __len__(self) -> int:
        return len(self.y)

    @property
    def task(self) -> Task:
        """That of a classifier of single classes."""
        return "classes"

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
        return pd.DataFrame({"class": list(self.classes), "samples": self.support, **columns_of(self.class_intervals)})

    def to_dict(self) -> dict[str, Any]:
        """Everything but the samples themselves, ready for JSON; undefined numbers are None, ROC curves are thinned."""
        parts = {
            "name": self.name,
            "task": self.task,
            "samples": len(self),
            "classes": self.classes,
            "support": self.support,
            "numbers": {key: asdict(estimate) for key, estimate in self.intervals.items()},
            "classwise": {key: [asdict(e) for e in estimates] for key, estimates in self.class_intervals.items()},
            "confusion": self.confusion,
            "roc": {key: thinned_roc(curve) for key, curve in self.roc.items()},
            "reliability": asdict(self.reliability),
            "examples": [asdict(e) for e in self.examples()],
            "confusions": [asdict(c) for c in self.confusions()],
            "findings": [asdict(finding) for finding in self.findings],
        }
        return {key: plain(value) for key, value in parts.items()}
