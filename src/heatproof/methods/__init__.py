"""Attribution methods: each a small function in a registry, run by one engine on signals, images and volumes."""

from heatproof.methods import cam as _cam
from heatproof.methods import control as _control
from heatproof.methods.engine import attribute, explain, method, methods, names, parse

__all__ = ["attribute", "explain", "method", "methods", "names", "parse"]
_REGISTERED = (_cam, _control)
