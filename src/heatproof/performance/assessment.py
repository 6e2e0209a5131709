"""What the performance of any model offers, whatever its task: `Assessment`, and its forms for files and notebooks."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from heatproof.annotations import Task
from heatproof.records import Estimate, Finding


@runtime_checkable
class Assessment(Protocol):
    """How good a model is on labelled samples; what `heatproof.evaluate` returns for any task."""

    def __len__(self) -> int: ...

    @property
    def name(self) -> str:
        """What the samples are called."""

    @property
    def task(self) -> Task:
        """What is asked of the model."""

    @property
    def intervals(self) -> Mapping[str, Estimate]:
        """Every single number by name, with its interval."""

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Conclusions; `heatproof.performance.wording.sentence` puts one in words."""

    def to_dict(self) -> dict[str, Any]:
        """Everything but the samples themselves, ready for JSON."""


def as_table(caption: str, intervals: Mapping[str, Estimate]) -> str:
    """The numbers as an HTML table."""
    rows = "".join(
        f"<tr><td>{html.escape(key.replace('_', ' '))}</td><td>{e:.3f}</td><td>{e.low:.3f} to {e.high:.3f}</td></tr>"
        for key, e in intervals.items()
    )
    head = "<tr><th>number</th><th>value</th><th>95 % CI</th></tr>"
    return f"<table><caption>{html.escape(caption)}</caption>{head}{rows}</table>"


def brackets(estimate: Estimate) -> str:
    """The ends of an interval in brackets, behind a blank; nothing where there is none."""
    return f" ({estimate.low:.3f} to {estimate.high:.3f})" if math.isfinite(estimate.low) else ""


def plain(value: object) -> Any:
    """The value in types of JSON; undefined numbers are None."""
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def thinned(*columns: np.ndarray, points: int = 200) -> tuple[np.ndarray, ...]:
    """A curve's columns at no more than so many of its points, evenly spread, its ends among them."""
    keep = np.unique(np.linspace(0, max(len(columns[0]) - 1, 0), points).round().astype(np.int64))
    return tuple(column[keep[: len(column)]] for column in columns)


def columns_of(numbers: Mapping[str, Sequence[Estimate]]) -> dict[str, list[float]]:
    """Three columns for each number of classes or labels: the estimate and the ends of its interval."""
    table: dict[str, list[float]] = {}
    for key, estimates in numbers.items():
        table |= {key: [e.mean for e in estimates], f"{key} low": [e.low for e in estimates]}
        table |= {f"{key} high": [e.high for e in estimates]}
    return table
