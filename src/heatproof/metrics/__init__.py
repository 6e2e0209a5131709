"""Metrics of explanations: each a small function in a registry, a value a sample, on signals, images and volumes."""

from heatproof.metrics import axioms as _axioms
from heatproof.metrics import complexity as _complexity
from heatproof.metrics import curves as _curves
from heatproof.metrics import faithfulness as _faithfulness
from heatproof.metrics import localisation as _localisation
from heatproof.metrics import randomisation as _randomisation
from heatproof.metrics import region as _region
from heatproof.metrics import robustness as _robustness
from heatproof.metrics.engine import (
    FAMILIES,
    Case,
    Curve,
    case,
    check_map,
    measure,
    metric,
    metrics,
    moved,
    names,
    parse,
    refuse,
    score,
    take,
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
    "moved",
    "names",
    "parse",
    "refuse",
    "score",
    "take",
    "with_pool",
]
_REGISTERED = (_axioms, _complexity, _curves, _faithfulness, _localisation, _randomisation, _region, _robustness)
