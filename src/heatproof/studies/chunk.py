"""What a study computes, as records: predictions of all samples, and the scores of each chunk of them.

Both are kept on disk as plain arrays; the names and the layout of these arrays are known to this module alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from heatproof.registry import Spec
from heatproof.results.record import Band
from heatproof.studies.timing import Costs

Arrays = dict[str, np.ndarray]
Cell = tuple[Spec, Spec]  # a method and a metric
PAGE = "page"  # the array that holds what is not a number, as JSON


@dataclass(frozen=True, eq=False)
class Predictions:
    """What the model says of all samples.

    Attributes:
        logits: a logit a class or label, or the outputs of a regression (N, K).
        skill: how well the model and its randomised copies do on some samples; None where not computed.
        costs: seconds and passes.
    """

    logits: Float[Tensor, "n k"]
    skill: Mapping[str, Any] | None
    costs: Costs

    def arrays(self) -> Arrays:
        """The predictions as plain arrays."""
        return {"logits": self.logits.numpy(), PAGE: _text({"skill": self.skill, "costs": self.costs})}

    @classmethod
    def of(cls, arrays: Arrays) -> Predictions:
        """The predictions in arrays that `arrays` gave."""
        page = json.loads(str(arrays[PAGE]))
        return cls(torch.from_numpy(arrays["logits"]), page["skill"], page["costs"])


@dataclass(frozen=True, eq=False)
class Chunk:
    """What a study computes of a chunk of n samples, with one fill.

    Attributes:
        scores: float64, NaN where undefined. curves: those that metrics reduce to a score.
        own: the scores of each method's own controls, by (control, method, metric).
        evidence: arrays of what windows of the samples are worth; empty where that was not computed.
        skips: why a cell has no score. maps: those of samples in the gallery, by method.
        costs: seconds and passes.
    """

    scores: dict[Cell, Float[np.ndarray, " n"]] = field(default_factory=dict)
    curves: dict[Cell, Band] = field(default_factory=dict)
    own: dict[tuple[str, Spec, Spec], Float[np.ndarray, " n"]] = field(default_factory=dict)
    evidence: Arrays = field(default_factory=dict)
    skips: dict[Cell, str] = field(default_factory=dict)
    maps: dict[Spec, Float[np.ndarray, "g *s"]] = field(default_factory=dict)
    costs: Costs = field(default_factory=dict)

    def copy(self, source: Chunk, cell: Cell, other: Cell) -> None:
        """Take over the score and curve, or the reason for none, of ``other`` in ``source`` for ``cell``."""
        if other in source.scores:
            self.scores[cell] = source.scores[other]
        if other in source.curves:
            self.curves[cell] = source.curves[other]
        if other in source.skips:
            self.skips[cell] = source.skips[other]

    def arrays(self, methods: Sequence[Spec], metrics: Sequence[Spec]) -> Arrays:
        """The chunk as plain arrays, named by the places of the study's methods and metrics."""
        arrays: Arrays = {f"map.{i}": self.maps[method] for i, method in enumerate(methods) if method in self.maps}
        skips = []
        for cell, i, j in _cells(methods, metrics):
            if cell in self.scores:
                arrays[f"score.{i}.{j}"] = self.scores[cell]
            if cell in self.curves:
                arrays[f"at.{i}.{j}"], arrays[f"curve.{i}.{j}"] = self.curves[cell].at, self.curves[cell].values
            if cell in self.skips:
                skips.append([i, j, self.skips[cell]])
        own = [(control, methods.index(method), metrics.index(metric)) for control, method, metric in self.own]
        arrays |= {f"own.{k}": values for k, values in enumerate(self.own.values())}
        arrays |= {f"evidence.{name}": values for name, values in self.evidence.items()}
        return {**arrays, PAGE: _text({"skips": skips, "own": own, "costs": self.costs})}

    @classmethod
    def of(cls, arrays: Arrays, methods: Sequence[Spec], metrics: Sequence[Spec]) -> Chunk:
        """The chunk in arrays that `arrays` gave for the same methods and metrics."""
        page = json.loads(str(arrays[PAGE]))
        chunk = cls(costs=page["costs"])
        for cell, i, j in _cells(methods, metrics):
            if f"score.{i}.{j}" in arrays:
                chunk.scores[cell] = arrays[f"score.{i}.{j}"]
            if f"curve.{i}.{j}" in arrays:
                chunk.curves[cell] = Band(arrays[f"at.{i}.{j}"], arrays[f"curve.{i}.{j}"])
        chunk.own.update({(c, methods[i], metrics[j]): arrays[f"own.{k}"] for k, (c, i, j) in enumerate(page["own"])})
        chunk.evidence.update({
            name.removeprefix("evidence."): values for name, values in arrays.items() if name.startswith("evidence.")
        })  # fmt: skip
        chunk.skips.update({(methods[i], metrics[j]): reason for i, j, reason in page["skips"]})
        chunk.maps.update({method: arrays[f"map.{i}"] for i, method in enumerate(methods) if f"map.{i}" in arrays})
        return chunk


def _cells(methods: Sequence[Spec], metrics: Sequence[Spec]) -> Iterator[tuple[Cell, int, int]]:
    for i, method in enumerate(methods):
        for j, metric in enumerate(metrics):
            yield (method, metric), i, j


def _text(page: Mapping[str, Any]) -> np.ndarray:
    return np.asarray(json.dumps(page))
