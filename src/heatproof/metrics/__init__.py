"""Metrics of explanations: each a small function in a registry, a value a sample, on signals, images and volumes."""

from heatproof.metrics import curves as _curves
from heatproof.metrics import localisation as _localisation
from heatproof.metrics.engine import (
    FAMILIES,
    Case,
    Curve,
    case,
    check_map,
    measure,
    metric,
    metrics,
    names,
    parse,
    refuse,
    score,
    with_pool,
)

__all__ = [
    "FAMILIES",
    "Case",
    "Curve",
    "case",
    "check_map",
    "measure",
    "metric",
    "metrics",
    "names",
    "parse",
    "refuse",
    "score",
    "with_pool",
]
_REGISTERED = (_curves, _localisation)
