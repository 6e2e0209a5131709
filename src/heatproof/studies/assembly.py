"""The beginning and the end of a study: what it needs before its chunks, and its results put together from them."""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

import heatproof
from heatproof import methods as attribution
from heatproof import metrics as judging
from heatproof.fills import fills
from heatproof.records import Skip
from heatproof.registry import Spec
from heatproof.results.record import Band, Cell, Gallery, Results
from heatproof.results.self_checks import KINDS, Trials
from heatproof.studies import self_checks as trials
from heatproof.studies.checkpoint import Arrays
from heatproof.studies.plan import Plan
from heatproof.studies.timing import Clock, together


def begin(plan: Plan) -> Arrays:
    """The class scores of all samples, by the same chunks as all else, and how the model's random twins do."""
    clock = Clock(plan.probe.passes)
    logits = torch.cat([plan.probe.logits(plan.x(rows)).cpu() for rows in plan.chunks()])
    clock.lap("trials", [])
    hits = trials.hits(plan.probe, plan.samples, plan.seed) if plan.trials else None
    clock.lap("trials", ["model"])
    return {"logits": logits.float().numpy(), "hits": np.asarray(json.dumps(hits)), **clock.array()}


def shown(plan: Plan, logits: Tensor) -> list[int]:
    """Of each class the first sample told right and the first told wrong, as many as can be shown."""
    right = (logits.argmax(1) == plan.samples.y).tolist()
    first: dict[tuple[int, bool], int] = {}
    for place, key in enumerate(zip(plan.samples.y.tolist(), right, strict=True)):
        first.setdefault(key, place)
    size = math.prod(plan.samples.x.shape[1:])
    most = max(4, min(2 * len(plan.samples.classes), 24, 2**24 // max(size, 1)))
    return sorted(sorted(first.values(), key=lambda i: (not right[i], i))[:most])


def gathered(plan: Plan, fill: Spec, begun: Arrays, parts: list[Arrays], places: Sequence[int]) -> Results:
    """The results with one fill, from the arrays of all chunks in their order."""
    skips = {Skip(*item) for part in parts for item in json.loads(str(part["skips"]))}
    skipped = {(skip.method, skip.metric) for skip in skips}
    scores: dict[Cell, np.ndarray] = {}
    curves: dict[Cell, Band] = {}
    for i, method in enumerate(plan.everyone):
        for j, metric in enumerate(plan.metrics):
            cell, name = (str(method), str(metric)), f"{i}.{j}"
            if cell in skipped:
                continue
            scores[cell] = np.concatenate([part[f"score.{name}"] for part in parts])
            if f"curve.{name}" in parts[0]:
                values = np.concatenate([part[f"curve.{name}"] for part in parts])
                curves[cell] = Band(parts[0][f"at.{name}"], values)
    judged = {method for method, _ in scores}  # one that does not apply at all is a skip, not a candidate
    sure, predictions = torch.from_numpy(begun["logits"]).softmax(1).max(1)
    order = {name: i for i, name in enumerate(map(str, (*plan.everyone, *plan.metrics)))}
    return Results(
        scores,
        tuple(name for name in map(str, plan.methods) if name in judged or not judged),
        tuple(name for name in map(str, plan.controls) if name in judged or not judged),
        tuple(map(str, plan.metrics)),
        plan.samples.y.numpy(),
        predictions.numpy(),
        sure.double().numpy(),
        plan.samples.classes,
        plan.samples.ids,
        curves,
        tuple(sorted(skips, key=lambda s: (order[s.method], order[s.metric]))),
        _gallery(plan, parts, places),
        _about(plan, fill, begun, parts),
        _trials(plan, parts, skipped) if plan.trials else None,
    )


def _gallery(plan: Plan, parts: list[Arrays], places: Sequence[int]) -> Gallery:
    index, mask = torch.tensor(places), plan.samples.mask
    maps = {str(m): [part[f"map.{i}"] for part in parts if f"map.{i}" in part] for i, m in enumerate(plan.everyone)}
    return Gallery(
        index.numpy(),
        torch.cat([plan.samples.x[i : i + 1] for i in places]).float().cpu().numpy(),
        {name: np.concatenate(found) for name, found in maps.items() if found},
        None if mask is None else mask[index].numpy(),
    )


def _trials(plan: Plan, parts: list[Arrays], skipped: set[Cell]) -> Trials:
    """What the chunks' trials found, put together; a cell that was skipped anywhere has none."""
    gathered: dict[str, dict[Cell, np.ndarray]] = {kind: {} for kind in KINDS}
    for i, method in enumerate(plan.methods):
        for j, metric in enumerate(plan.metrics):
            cell = (str(method), str(metric))
            for kind in KINDS:
                values = [part[f"{kind}.{i}.{j}"] for part in parts if f"{kind}.{i}.{j}" in part]
                if values and cell not in skipped:
                    gathered[kind][cell] = np.concatenate(values)
    return Trials(trials.tried(len(plan.samples)).numpy(), gathered["inverted"], gathered["noisy"])


def _about(plan: Plan, fill: Spec, begun: Arrays, parts: list[Arrays]) -> dict[str, Any]:
    """The settings in plain types, for the manifest and the report, and what the study cost."""

    def facts(spec: Spec, registry: Any) -> dict[str, Any]:
        entry = registry[spec.name]
        return {"summary": entry.summary, "paper": entry.paper, **{k: v for k, v in entry.facts.items() if k != "asks"}}

    seconds, passes = together([begun, *parts])
    page = {
        **plan.identity(fill),
        "data": plan.samples.name,
        "data_about": dict(plan.samples.about),
        "method_facts": {str(s): facts(s, attribution.methods) for s in plan.everyone},
        "metrics": {str(s): facts(s, judging.metrics) for s in plan.metrics},
        "fill_summary": fills[fill.name].summary,
        "hits": json.loads(str(begun["hits"])),
        "passes": passes,
        "seconds": seconds,
        "versions": {
            "heatproof": heatproof.__version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
    }
    return cast(dict[str, Any], json.loads(json.dumps(page, default=str)))
