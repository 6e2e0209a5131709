"""The results of a study, put together from its predictions and chunks."""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch

from heatproof import methods as attribution
from heatproof import metrics as judging
from heatproof import version
from heatproof.fills import fills
from heatproof.records import Skip
from heatproof.registry import Spec
from heatproof.results import record
from heatproof.results.record import Band, Gallery, Results
from heatproof.results.self_checks import SelfChecks
from heatproof.studies.chunk import Cell, Chunk, Predictions
from heatproof.studies.plan import Plan
from heatproof.studies.self_checks import checked_rows
from heatproof.studies.timing import total_costs


def gallery_rows(plan: Plan, predictions: Predictions) -> tuple[int, ...]:
    """The places of the first correctly and the first incorrectly classified sample of each class, within limits."""
    correct = (predictions.logits.argmax(1) == plan.samples.y).tolist()
    first: dict[tuple[int, bool], int] = {}
    for place, key in enumerate(zip(plan.samples.y.tolist(), correct, strict=True)):
        first.setdefault(key, place)
    size = math.prod(plan.samples.x.shape[1:])
    most = max(4, min(2 * len(plan.samples.classes), 24, 2**24 // max(size, 1)))
    return tuple(sorted(sorted(first.values(), key=lambda i: (not correct[i], i))[:most]))


def results_of(plan: Plan, fill: Spec, predictions: Predictions, chunks: Sequence[Chunk]) -> Results:
    """The results with one fill, from all chunks in their order; a cell that was skipped in any chunk has no score."""
    skips = {(cell, reason) for chunk in chunks for cell, reason in chunk.skips.items()}
    scored = [cell for cell in plan.cells if cell not in {cell for cell, _ in skips}]
    judged = {method for method, _ in scored}  # a method that does not apply at all is a skip, not a candidate
    order = {cell: i for i, cell in enumerate(plan.cells)}
    probability, classes = predictions.logits.softmax(1).max(1)
    return Results(
        _joined([chunk.scores for chunk in chunks], scored),
        tuple(str(method) for method in plan.methods if method in judged or not judged),
        tuple(str(method) for method in plan.controls if method in judged or not judged),
        tuple(map(str, plan.metrics)),
        plan.samples.y.numpy(),
        classes.numpy(),
        probability.double().numpy(),
        plan.samples.classes,
        plan.samples.ids,
        {_text(cell): _band(chunks, cell) for cell in scored if cell in chunks[0].curves},
        tuple(Skip(*_text(cell), reason) for cell, reason in sorted(skips, key=lambda s: (order[s[0]], s[1]))),
        _gallery(plan, chunks, gallery_rows(plan, predictions)),
        _about(plan, fill, predictions, chunks),
        _self_checks(plan, chunks, scored) if plan.self_checks else None,
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


def _self_checks(plan: Plan, chunks: Sequence[Chunk], scored: Sequence[Cell]) -> SelfChecks:
    return SelfChecks(
        checked_rows(len(plan.samples)).numpy(),
        _joined([chunk.inverted for chunk in chunks], scored),
        _joined([chunk.noisy for chunk in chunks], scored),
    )


def _about(plan: Plan, fill: Spec, predictions: Predictions, chunks: Sequence[Chunk]) -> dict[str, Any]:
    """The settings in plain types, for the manifest and the report, and what the study cost."""
    seconds, passes = total_costs([predictions.costs, *(chunk.costs for chunk in chunks)])
    page = {
        **plan.identity(fill),
        "data": plan.samples.name,
        "data_about": dict(plan.samples.about),
        "method_facts": {str(s): attribution.methods[s.name].facts() for s in plan.all_methods},
        "metrics": {str(s): judging.facts_of(s) for s in plan.metrics},
        "fill_summary": fills[fill.name].summary,
        "hits": predictions.hits,
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
