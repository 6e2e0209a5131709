"""How good a model is, each number with its interval: `evaluate` a model, or `measure` probabilities at hand."""

from __future__ import annotations

from heatproof.performance.assessment import Assessment
from heatproof.performance.curves import PrecisionRecall, Reliability, Roc
from heatproof.performance.evaluation import evaluate, measure
from heatproof.performance.label_evaluation import measure_labels
from heatproof.performance.labels import LabelPerformance
from heatproof.performance.record import Confusion, Examples, Performance
from heatproof.performance.regression import RegressionPerformance, measure_regression

__all__ = [
    "Assessment",
    "Confusion",
    "Examples",
    "LabelPerformance",
    "Performance",
    "PrecisionRecall",
    "RegressionPerformance",
    "Reliability",
    "Roc",
    "evaluate",
    "measure",
    "measure_labels",
    "measure_regression",
]
