"""The registry of data sets; each entry is a function that returns Splits."""

from __future__ import annotations

from typing import cast

from heatproof.records import Splits
from heatproof.registry import Registry, Spec

datasets = Registry("data set")
dataset = datasets.add


def load(data: str | Spec) -> Splits:
    """The training and test samples named by a spec.

    Raises: UnknownName, UsageError where the data set or one of its options does not exist.

    >>> len(load("mnist1d:samples=100").train)
    80
    """
    spec = datasets.spec(data)
    return cast(Splits, datasets[spec.name].function(**spec.kwargs))
