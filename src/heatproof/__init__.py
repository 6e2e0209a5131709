"""Train or load a classifier, explain it, and prove which of its heatmaps can be trusted."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Where each public name lives; nothing is imported before it is asked for.
_HOMES = {
    "Contrast": "heatproof.probe",
    "Estimate": "heatproof.records",
    "HeatproofError": "heatproof.errors",
    "Probe": "heatproof.probe",
    "Results": "heatproof.results",
    "Samples": "heatproof.records",
    "Skip": "heatproof.records",
    "Spec": "heatproof.registry",
    "Splits": "heatproof.records",
    "UsageError": "heatproof.errors",
    "evaluate": "heatproof.performance",
    "explain": "heatproof.methods",
    "load": "heatproof.models.folder",
    "mask": "heatproof.masks",
    "save": "heatproof.models.folder",
    "score": "heatproof.metrics",
    "study": "heatproof.studies.run",
    "train": "heatproof.training",
}
_MODULES = ("data", "metrics", "methods", "nets")

__all__ = [
    "Contrast",
    "Estimate",
    "HeatproofError",
    "Probe",
    "Results",
    "Samples",
    "Skip",
    "Spec",
    "Splits",
    "UsageError",
    "__version__",
    "data",
    "evaluate",
    "explain",
    "load",
    "mask",
    "methods",
    "metrics",
    "nets",
    "save",
    "score",
    "study",
    "train",
]

if TYPE_CHECKING:
    from heatproof import data, methods, metrics, nets
    from heatproof.errors import HeatproofError, UsageError
    from heatproof.masks import mask
    from heatproof.methods import explain
    from heatproof.metrics import score
    from heatproof.models.folder import load, save
    from heatproof.performance import evaluate
    from heatproof.probe import Contrast, Probe
    from heatproof.records import Estimate, Samples, Skip, Splits
    from heatproof.registry import Spec
    from heatproof.results.record import Results
    from heatproof.studies.run import study
    from heatproof.training import train


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    if name in _MODULES:
        return importlib.import_module(f"heatproof.{name}")
    raise AttributeError(f"module 'heatproof' has no attribute {name!r}")


def __dir__() -> list[str]:
    return list(__all__)
