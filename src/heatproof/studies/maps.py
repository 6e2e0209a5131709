"""The maps of a chunk: made once, by all methods together, and kept in a folder where the plan names one.

A chunk's file holds its maps, why some methods have none, and what it cost to make them, so that whoever reads it can
tell as if it had made them. It appears whole or not at all.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import safetensors.torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from heatproof import methods as attribution
from heatproof.errors import FileError, NotApplicable
from heatproof.files import writing
from heatproof.probe import Goal
from heatproof.registry import Spec
from heatproof.studies.plan import Plan
from heatproof.studies.timing import Clock

NAME = "explained"
Maps = dict[Spec, Tensor]
Absent = dict[Spec, str]


def maps_of(plan: Plan, x: Tensor, goal: Goal, rows: Tensor, clock: Clock) -> tuple[Maps, Absent]:
    """The maps of all methods, and why some have none; from the plan's folder where they are kept there.

    ``clock`` is told what they cost, also where they were made before.
    """
    path = None if plan.maps is None else plan.maps / f"{int(rows[0]):09d}.safetensors"
    if path is not None and path.exists():
        return _read(plan, path, clock)
    made = Clock(plan.probe.passes)
    maps, absent = _made(plan, x, goal, rows, made)
    if path is not None:
        page = {"absent": {str(spec): reason for spec, reason in absent.items()}, "cost": made.spent}
        with writing(path) as part:
            named = {str(spec): found.contiguous() for spec, found in maps.items()}
            safetensors.torch.save_file(named, part, metadata={NAME: json.dumps(page)})
    clock.add(made.spent)
    return maps, absent


def kept_maps(folder: Path) -> list[Path]:
    """The files of the chunks whose maps are kept in a folder, in the order of the samples."""
    return sorted(folder.glob("[0-9]*.safetensors"))


def _read(plan: Plan, path: Path, clock: Clock) -> tuple[Maps, Absent]:
    try:
        with safe_open(path, framework="pt") as file:
            found = {name: file.get_tensor(name) for name in sorted(file.keys())}  # memory maps
            page = json.loads(file.metadata()[NAME])
        absent = {spec: page["absent"][str(spec)] for spec in plan.everyone if str(spec) not in found}
        clock.add(page["cost"])
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise FileError(f"{str(path)!r} is damaged ({type(error).__name__}); delete it and run again") from None
    return {spec: found[str(spec)] for spec in plan.everyone if spec not in absent}, absent


def _made(plan: Plan, x: Tensor, goal: Goal, rows: Tensor, clock: Clock) -> tuple[Maps, Absent]:
    """All CAMs share their passes; every other method is by itself, so that one that fails costs no other anything."""

    def run(specs: Sequence[Spec]) -> Mapping[Spec, Tensor]:
        lap = partial(clock.lap, "methods")
        return attribution.attribute(plan.probe, x, specs, target=goal, seed=plan.seed, index=rows, lap=lap)

    maps, absent = Maps(), Absent()
    cams = [spec for spec in plan.everyone if attribution.methods[spec.name].family == "cam"]
    groups = [[spec] for spec in plan.everyone if spec not in cams]
    try:
        maps |= run(cams) if cams else {}
    except NotApplicable:
        clock.lap("methods", [])
        groups += [[spec] for spec in cams]
    for group in groups:
        try:
            maps |= run(group)
        except NotApplicable as reason:
            clock.lap("methods", [])
            absent[group[0]] = str(reason)
    return {spec: maps[spec] for spec in plan.everyone if spec in maps}, absent
