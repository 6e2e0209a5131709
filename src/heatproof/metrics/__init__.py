"""Metrics of explanations: each a small function in a registry, a value a sample, on signals, images and volumes."""

from heatproof.metrics import axioms as _axioms
from heatproof.metrics import complexity as _complexity
from heatproof.metrics import curves as _curves
from heatproof.metrics import faithfulness as _faithfulness
from heatproof.metrics import localisation as _localisation
from heatproof.metrics import mosaics as _mosaics
from heatproof.metrics import randomisation as _randomisation
from heatproof.metrics import robustness as _robustness
from heatproof.metrics import windows as _windows
from heatproof.metrics.cases import Case, Curve, case, check_map, take, with_donors, with_pool
from heatproof.metrics.catalogue import (
    Axes,
    MetricEntry,
    facts_of,
    follows_fill,
    metric,
    metrics,
    names,
    needs_donors,
    parse,
)
from heatproof.metrics.engine import measure, refuse, score
from heatproof.metrics.families import Family, families

__all__ = [
    "Axes",
    "Case",
    "Curve",
    "Family",
    "MetricEntry",
    "case",
    "check_map",
    "facts_of",
    "families",
    "follows_fill",
    "measure",
    "metric",
    "metrics",
    "names",
    "needs_donors",
    "parse",
    "refuse",
    "score",
    "take",
    "with_donors",
    "with_pool",
]
_REGISTERED = (
    _axioms, _complexity, _curves, _faithfulness, _localisation, _mosaics, _randomisation, _robustness, _windows,
)  # fmt: skip
