"""The registries by name; a room is loaded when its registry is asked for."""

from __future__ import annotations

from typing import Any, Literal, get_args

from heatproof.errors import UnknownName
from heatproof.registry import Registry

Kind = Literal["methods", "metrics", "fills", "data", "recipes", "nets"]
KINDS: tuple[Kind, ...] = get_args(Kind)


def registry(kind: str) -> Registry[Any]:
    """The registry of methods, metrics, fills, data sets, recipes or networks.

    Raises: UnknownName for another kind.
    """
    match kind:
        case "methods":
            from heatproof.methods import methods

            return methods
        case "metrics":
            from heatproof.metrics import metrics

            return metrics
        case "fills":
            from heatproof.fills import fills

            return fills
        case "data":
            from heatproof.data import datasets

            return datasets
        case "recipes":
            from heatproof.training import recipes

            return recipes
        case "nets":
            from heatproof.nets import nets

            return nets
    raise UnknownName("registry", kind, KINDS)
