"""Train or load a classifier, explain it, and prove which of its heatmaps can be trusted."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from heatproof.version import __version__

# Where each public name lives; nothing is imported before it is asked for.
_HOMES = {
    "Contrast": "heatproof.probe",
    "Estimate": "heatproof.records",
    "Finding": "heatproof.records",
    "HeatproofError": "heatproof.errors",
    "Probe": "heatproof.probe",
    "Results": "heatproof.facade",
    "Samples": "heatproof.records",
    "Skip": "heatproof.records",
    "Spec": "heatproof.registry",
    "Splits": "heatproof.records",
    "StudyOptions": "heatproof.studies.options",
    "UsageError": "heatproof.errors",
    "Verdict": "heatproof.verdict",
    "evaluate": "heatproof.performance",
    "explain": "heatproof.methods",
    "load": "heatproof.facade",
    "mask": "heatproof.masks",
    "save": "heatproof.models.folder",
    "score": "heatproof.metrics",
    "show": "heatproof.plots.show",
    "study": "heatproof.facade",
    "train": "heatproof.training",
}
_MODULES = ("data", "metrics", "methods", "nets", "plots")

__all__ = [
    "Contrast",
    "Estimate",
    "Finding",
    "HeatproofError",
    "Probe",
    "Results",
    "Samples",
    "Skip",
    "Spec",
    "Splits",
    "StudyOptions",
    "UsageError",
    "Verdict",
    "__version__",
    "data",
    "evaluate",
    "explain",
    "load",
    "mask",
    "methods",
    "metrics",
    "nets",
    "plots",
    "save",
    "score",
    "show",
    "study",
    "train",
]

if TYPE_CHECKING:
    from heatproof import data, methods, metrics, nets, plots
    from heatproof.errors import HeatproofError, UsageError
    from heatproof.facade import Results, load, study
    from heatproof.masks import mask
    from heatproof.methods import explain
    from heatproof.metrics import score
    from heatproof.models.folder import save
    from heatproof.performance import evaluate
    from heatproof.plots.show import show
    from heatproof.probe import Contrast, Probe
    from heatproof.records import Estimate, Finding, Samples, Skip, Splits
    from heatproof.registry import Spec
    from heatproof.studies.options import StudyOptions
    from heatproof.training import train
    from heatproof.verdict import Verdict


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    if name in _MODULES:
        return importlib.import_module(f"heatproof.{name}")
    raise AttributeError(f"module 'heatproof' has no attribute {name!r}")


def __dir__() -> list[str]:
    return list(__all__)
