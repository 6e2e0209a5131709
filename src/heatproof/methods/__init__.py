"""Attribution methods: each a small function in a registry, run by one engine on signals, images and volumes."""

from heatproof.methods import attention as _attention
from heatproof.methods import coalitions as _coalitions
from heatproof.methods import controls as _controls
from heatproof.methods import eigen as _eigen
from heatproof.methods import gradient as _gradient
from heatproof.methods import layer_cams as _layer_cams
from heatproof.methods import noise as _noise
from heatproof.methods import paths as _paths
from heatproof.methods import perturbation as _perturbation
from heatproof.methods import rules as _rules
from heatproof.methods import score_cams as _score_cams
from heatproof.methods import sensitivity as _sensitivity
from heatproof.methods import shapley as _shapley
from heatproof.methods import surrogates as _surrogates
from heatproof.methods.catalogue import (
    MethodEntry,
    cam,
    companions,
    control,
    default_controls,
    method,
    methods,
    names,
    needs_donors,
    parse,
)
from heatproof.methods.engine import attribute, explain

__all__ = [
    "MethodEntry",
    "attribute",
    "cam",
    "companions",
    "control",
    "default_controls",
    "explain",
    "method",
    "methods",
    "names",
    "needs_donors",
    "parse",
]
_REGISTERED = (
    _attention, _coalitions, _controls, _eigen, _gradient, _layer_cams, _noise, _paths, _perturbation, _rules,
    _score_cams, _sensitivity, _shapley, _surrogates,
)  # fmt: skip
