"""The registry of data sets; each entry is a function that returns Splits."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from heatproof.errors import UsageError
from heatproof.records import Splits
from heatproof.registry import Registry, Spec

datasets = Registry("data set")
dataset = datasets.add


def load(data: str | Spec, path: str | Path | None = None) -> Splits:
    """The training and test samples named by a spec; ``path`` says where, for those that lie on disk.

    Raises: UnknownName, UsageError where the data set or one of its options does not exist, or a path is lacking.

    >>> len(load("mnist1d:samples=100").train)
    80
    """
    spec = datasets.spec(data)
    entry = datasets[spec.name]
    wants = entry.facts.get("path", "none")
    if path is None and wants == "required":
        raise UsageError(f"data set {spec.name!r} lies on disk; give its path")
    if path is not None and wants == "none":
        raise UsageError(f"data set {spec.name!r} is generated and takes no path; got {path}")
    return cast(Splits, entry.function(*(() if path is None else (path,)), **spec.kwargs))
