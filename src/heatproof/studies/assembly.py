"""The results of a study, put together from its predictions and chunks."""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from heatproof import methods as attribution
from heatproof import metrics as judging
from heatproof import version
from heatproof.fills import fills
from heatproof.preprocessing import Preprocessing, SignalPreprocessing
from heatproof.records import Skip
from heatproof.registry import Spec
from heatproof.results import record
from heatproof.results.evidence import Evidence
from heatproof.results.record import Band, Gallery, Results
from heatproof.studies.chunk import Cell, Chunk, Predictions
from heatproof.studies.plan import Plan
from heatproof.studies.timing import total_costs

SPREAD = 8  # samples of a regression in a gallery


@dataclass(frozen=True, eq=False)
class Judged:
    """What is true and what is predicted of each row of a study.

    Attributes:
        y, predictions: the true and the predicted class; of labels 1 where the label explained is true, or predicted,
            else 0; of a regression the true value and the output.
        probability: of the predicted class, or of the label explained; NaN for a regression.
        explained: the label explained; None for classes and a regression.
    """

    y: Tensor
    predictions: Tensor
    probability: Tensor
    explained: Tensor | None = None

    @classmethod
    def of(cls, plan: Plan, logits: Tensor) -> Judged:
        """The truth in the samples and the predictions in the logits (or outputs) of all rows."""
        y = plan.samples.y
        if plan.task == "regression":
            return cls(y, logits[:, 0].double(), torch.full_like(y, torch.nan))
        if plan.task == "classes":
            probability, classes = logits.softmax(1).max(1)
            return cls(y, classes, probability)
        label = plan.goal(torch.arange(len(y)), logits).classes
        z, true = (values.gather(1, label[:, None])[:, 0] for values in (logits, y))
        return cls(true, (z >= 0).long(), z.sigmoid(), label)


def gallery_rows(plan: Plan, predictions: Predictions) -> tuple[int, ...]:
    """The places of the first correct and the first incorrect prediction of each class or label, within limits.

    Of a regression those of evenly spread true values.
    """
    judged, size = Judged.of(plan, predictions.logits), math.prod(plan.samples.x.shape[1:])
    most = max(4, min(2 * len(plan.samples.classes), 24, 2**24 // max(size, 1)))
    if plan.task == "regression":
        order = judged.y.argsort(stable=True)
        spread = torch.linspace(0, len(order) - 1, min(SPREAD, len(order))).round().long()
        return tuple(sorted(set(order[spread].tolist())))
    correct = (judged.predictions == judged.y).tolist()
    groups = (judged.y if judged.explained is None else judged.explained).tolist()
    first: dict[tuple[int, bool], int] = {}
    for place, key in enumerate(zip(groups, correct, strict=True)):
        first.setdefault(key, place)
    return tuple(sorted(sorted(first.values(), key=lambda i: (not correct[i], i))[:most]))


def results_of(plan: Plan, fill: Spec, predictions: Predictions, chunks: Sequence[Chunk]) -> Results:
    """The results with one fill, from all chunks in their order; a cell that was skipped in any chunk has no score."""
    skips = {(cell, reason) for chunk in chunks for cell, reason in chunk.skips.items()}
    scored = [cell for cell in plan.cells if cell not in {cell for cell, _ in skips}]
    judged = {method for method, _ in scored}  # a method that does not apply at all is a skip, not a candidate
    order = {cell: i for i, cell in enumerate(plan.cells)}
    rows = Judged.of(plan, predictions.logits)
    return Results(
        _joined([chunk.scores for chunk in chunks], scored),
        tuple(str(method) for method in plan.methods if method in judged or not judged),
        tuple(str(method) for method in plan.controls if method in judged or not judged),
        tuple(map(str, plan.metrics)),
        rows.y.numpy(),
        rows.predictions.numpy(),
        rows.probability.double().numpy(),
        plan.samples.classes,
        plan.samples.ids,
        {_text(cell): _band(chunks, cell) for cell in scored if cell in chunks[0].curves},
        tuple(Skip(*_text(cell), reason) for cell, reason in sorted(skips, key=lambda s: (order[s[0]], s[1]))),
        _gallery(plan, chunks, gallery_rows(plan, predictions)),
        _about(plan, fill, predictions, chunks),
        _own_controls(chunks, scored),
        _evidence(chunks),
        plan.task,
        None if rows.explained is None else rows.explained.numpy(),
        _groups(plan),
    )


def _text(cell: Cell) -> record.Cell:
    return str(cell[0]), str(cell[1])


def _joined(parts: Sequence[Mapping[Cell, np.ndarray]], cells: Sequence[Cell]) -> dict[record.Cell, np.ndarray]:
    """The values of all chunks by cell, where there are any."""
    values = {cell: [part[cell] for part in parts if cell in part] for cell in cells}
    return {_text(cell): np.concatenate(arrays) for cell, arrays in values.items() if arrays}


def _band(chunks: Sequence[Chunk], cell: Cell) -> Band:
    return Band(chunks[0].curves[cell].at, np.concatenate([chunk.curves[cell].values for chunk in chunks]))


def _gallery(plan: Plan, chunks: Sequence[Chunk], places: Sequence[int]) -> Gallery:
    index, mask = torch.tensor(places), plan.samples.mask
    maps = {method: [chunk.maps[method] for chunk in chunks if method in chunk.maps] for method in plan.all_methods}
    return Gallery(
        index.numpy(),
        torch.cat([plan.samples.x[i : i + 1] for i in places]).float().cpu().numpy(),
        {str(method): np.concatenate(parts) for method, parts in maps.items() if parts},
        None if mask is None else mask[index].numpy(),
    )


def _own_controls(chunks: Sequence[Chunk], scored: Sequence[Cell]) -> dict[tuple[str, str, str], np.ndarray]:
    """The scores of own controls that every chunk has."""
    keys = [key for key in chunks[0].own if key[1:] in set(scored) and all(key in chunk.own for chunk in chunks)]
    return {(key[0], *_text(key[1:])): np.concatenate([chunk.own[key] for chunk in chunks]) for key in keys}


def _groups(plan: Plan) -> np.ndarray | None:
    """The patient or slide of each row as a number; of pairs of a sample and a label, without such, the sample."""
    names = plan.samples.groups
    return np.unique(np.asarray(names), return_inverse=True)[1] if names else None


def _evidence(chunks: Sequence[Chunk]) -> Evidence | None:
    parts = [chunk.evidence for chunk in chunks]
    if not all(parts):
        return None
    joined = {name: np.concatenate([part[name] for part in parts]) for name in ("starts", "values", "donors", "span")}
    return Evidence(
        joined["starts"], parts[0]["widths"], parts[0]["scale"], joined["values"], joined["donors"], joined["span"]
    )


def _about(plan: Plan, fill: Spec, predictions: Predictions, chunks: Sequence[Chunk]) -> dict[str, Any]:
    """The settings in plain types, for the manifest and the report, and what the study cost."""
    seconds, passes = total_costs([predictions.costs, *(chunk.costs for chunk in chunks)])
    page = {
        **plan.identity(fill),
        "outputs_about": str(plan.outputs),
        "data": plan.samples.name,
        "data_about": {key: _plain(value) for key, value in plan.samples.about.items()},
        "method_facts": {str(s): attribution.methods[s.name].facts() for s in plan.all_methods},
        "metrics": {str(s): judging.facts_of(s) for s in plan.metrics},
        "fill_summary": fills[fill.name].summary,
        "pairs": plan.pairs,
        "size": list(plan.samples.x.shape[2:]),
        "skill": predictions.skill,
        "passes": passes,
        "seconds": seconds,
        "versions": {
            "heatproof": version.__version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
    }
    return cast(dict[str, Any], json.loads(json.dumps(page, default=str)))


def _plain(value: Any) -> Any:
    """A preprocessing in the types of JSON; anything else as it is."""
    return value.record() if isinstance(value, (Preprocessing, SignalPreprocessing)) else value
