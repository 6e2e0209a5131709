"""Attribution methods: each a small function in a registry, run by one engine on signals, images and volumes."""

from heatproof.methods import attention, cam, control, eigen, gradient, perturbation
from heatproof.methods import score_cams as masking
from heatproof.methods.engine import attribute, explain, method, methods, names, parse

__all__ = ["attribute", "explain", "method", "methods", "names", "parse"]
_REGISTERED = (attention, cam, control, eigen, gradient, masking, perturbation)
