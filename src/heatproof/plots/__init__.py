"""Figures of maps, classifiers and evaluations; `show` draws maps, `save` writes a figure, `svg` puts one into a page.

They are matplotlib figures, drawn without pyplot: no backend and no global setting is touched.
"""

from __future__ import annotations

from heatproof.plots.classifier import confusion, examples, history, per_class, reliability, roc
from heatproof.plots.evaluation import agreement, critical_difference, curves, intervals, metric_table, ranking, times
from heatproof.plots.files import png, save, svg
from heatproof.plots.labels import label_reliability, precision_recall
from heatproof.plots.maps import gallery, panels
from heatproof.plots.questions import Answer, Mark, questions
from heatproof.plots.regression import predicted_against_true
from heatproof.plots.show import show
from heatproof.plots.style import INK, PALETTE, STYLE

__all__ = [
    "INK",
    "PALETTE",
    "STYLE",
    "Answer",
    "Mark",
    "agreement",
    "confusion",
    "critical_difference",
    "curves",
    "examples",
    "gallery",
    "history",
    "intervals",
    "label_reliability",
    "metric_table",
    "panels",
    "per_class",
    "png",
    "precision_recall",
    "predicted_against_true",
    "questions",
    "ranking",
    "reliability",
    "roc",
    "save",
    "show",
    "svg",
    "times",
]
