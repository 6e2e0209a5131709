"""The performance of a multi-label model: of each label, averaged over labels, and of all labels together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import Bool, Float, Int

from heatproof.annotations import Task, curve_name
from heatproof.performance.assessment import as_table, brackets, columns_of, plain, thinned
from heatproof.performance.curves import PrecisionRecall, Reliability, Roc, thinned_roc
from heatproof.records import Estimate, Finding

if TYPE_CHECKING:
    import pandas as pd

THRESHOLD = 0.5  # the probability from which a label is predicted


@dataclass(frozen=True, eq=False, repr=False)
class LabelPerformance:
    """The performance of a multi-label model on N samples with L labels; a label is predicted from probability 0.5 on.

    Attributes:
        classes: a name a label. y, probabilities: the true labels and the model's probabilities (N, L).
        numbers: averages over labels (macro) and over all decisions pooled (micro), and of all labels together: the
            share of samples with every label correct (exact_match), of incorrect decisions (hamming_loss).
        class_intervals: accuracy, precision, recall, f1, auc, average_precision and ece of each label, by name.
        auc: of each label (L,). roc, precision_recall, reliability: curves by label; roc also "macro" and "micro",
            precision_recall also "micro".
        findings: conclusions; `heatproof.performance.wording.sentence` puts one in words.

    What a label without positives (or without negatives) leaves undefined is NaN and left out of averages. Intervals
    are BCa over samples, but exact for shares.
    """

    classes: tuple[str, ...]
    y: Int[np.ndarray, "n l"]
    probabilities: Float[np.ndarray, "n l"]
    numbers: Mapping[str, Estimate]
    class_intervals: Mapping[str, tuple[Estimate, ...]]
    roc: Mapping[str, Roc]
    precision_recall: Mapping[str, PrecisionRecall]
    reliability: Mapping[str, Reliability]
    name: str = "samples"
    findings: tuple[Finding, ...] = ()

    def __repr__(self) -> str:
        auc = self.numbers["auc_macro"]
        size = f"{len(self):,} samples, {len(self.classes)} labels"
        return f"LabelPerformance({self.name}: {size}, macro AUC {auc:.3f}{brackets(auc)})"

    def _repr_html_(self) -> str:
        return as_table(f"{self.name}: {len(self):,} samples, {len(self.classes)} labels", self.intervals)

    def __len__(self) -> int:
        return len(self.y)

    @property
    def task(self) -> Task:
        """That of a multi-label model."""
        return "labels"

    @property
    def intervals(self) -> Mapping[str, Estimate]:
        """Every single number by name."""
        return self.numbers

    @property
    def predictions(self) -> Bool[np.ndarray, "n l"]:
        """Which labels are predicted."""
        return np.asarray(self.probabilities >= THRESHOLD)

    @property
    def correct(self) -> Bool[np.ndarray, "n l"]:
        """Which decisions are correct."""
        return np.asarray(self.predictions == self.y)

    @property
    def support(self) -> Int[np.ndarray, " l"]:
        """How many samples have each label."""
        return np.asarray(self.y.sum(axis=0))

    @property
    def auc(self) -> Float[np.ndarray, " l"]:
        """The area under the ROC curve of each label."""
        return np.array([self.roc[curve_name(name)].auc for name in self.classes])

    def to_frame(self, rows: Literal["labels", "samples"] = "labels") -> pd.DataFrame:
        """A table with a row a label (numbers with the ends of their intervals) or a row a sample."""
        import pandas as pd

        if rows == "samples":
            columns: dict[str, Any] = {f"label {name}": self.y[:, k] for k, name in enumerate(self.classes)}
            columns |= {f"probability {name}": self.probabilities[:, k] for k, name in enumerate(self.classes)}
            return pd.DataFrame(columns)
        return pd.DataFrame({"label": list(self.classes), "positive": self.support, **columns_of(self.class_intervals)})

    def to_dict(self) -> dict[str, Any]:
        """Everything but the samples themselves, ready for JSON; undefined numbers are None, curves are thinned."""
        parts = {
            "name": self.name,
            "task": self.task,
            "samples": len(self),
            "classes": self.classes,
            "support": self.support,
            "numbers": {key: asdict(estimate) for key, estimate in self.intervals.items()},
            "classwise": {key: [asdict(e) for e in estimates] for key, estimates in self.class_intervals.items()},
            "roc": {key: thinned_roc(curve) for key, curve in self.roc.items()},
            "precision_recall": {key: _thinned(curve) for key, curve in self.precision_recall.items()},
            "reliability": {key: asdict(bins) for key, bins in self.reliability.items()},
            "findings": [asdict(finding) for finding in self.findings],
        }
        return {key: plain(value) for key, value in parts.items()}


def _thinned(curve: PrecisionRecall) -> dict[str, Any]:
    recall, precision = thinned(curve.recall, curve.precision)
    return {"recall": recall, "precision": precision, "average_precision": curve.average_precision}
