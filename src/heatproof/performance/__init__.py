"""How good the classifier is, each number with its interval: `evaluate` a model, or `measure` probabilities at hand."""

from __future__ import annotations

from heatproof.performance.evaluation import evaluate, measure
from heatproof.performance.record import Confusion, Examples, Performance, Reliability, Roc

__all__ = ["Confusion", "Examples", "Performance", "Reliability", "Roc", "evaluate", "measure"]
