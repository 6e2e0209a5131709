"""Figures, made with matplotlib but without pyplot; `svg` puts one into a page, `save` writes it for a paper."""

from __future__ import annotations

from heatproof.plots.classifier import confusion, examples, history, per_class, reliability, roc
from heatproof.plots.evaluation import agreement, critical_difference, curves, intervals, metric_table, ranking, times
from heatproof.plots.files import png, save, svg
from heatproof.plots.maps import attribution, gallery, panels
from heatproof.plots.style import INK, PALETTE, STYLE

__all__ = [
    "INK",
    "PALETTE",
    "STYLE",
    "agreement",
    "attribution",
    "confusion",
    "critical_difference",
    "curves",
    "examples",
    "gallery",
    "history",
    "intervals",
    "metric_table",
    "panels",
    "per_class",
    "png",
    "ranking",
    "reliability",
    "roc",
    "save",
    "svg",
    "times",
]
