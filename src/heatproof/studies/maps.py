"""The maps of a chunk: computed once, by all methods together, and kept in a folder where one is named.

The file of a chunk holds its maps, why some methods have none, and what they cost, so that reading it is the same as
computing it. It appears whole or not at all.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from heatproof import methods as attribution
from heatproof.errors import FileError, InputError, NotApplicable
from heatproof.files import writing
from heatproof.probe import Goal
from heatproof.registry import Spec
from heatproof.studies.failures import end_of_study, reason
from heatproof.studies.plan import Plan
from heatproof.studies.timing import Clock, Costs

PAGE = "explained"


@dataclass(frozen=True, eq=False)
class Maps:
    """The maps of a chunk.

    Attributes:
        maps: (n, *S) of every method that applies. skips: why the others have none. costs: seconds and passes.
    """

    maps: Mapping[Spec, Tensor]
    skips: Mapping[Spec, str]
    costs: Costs


def maps_of(plan: Plan, x: Tensor, goal: Goal, rows: Tensor, folder: Path | None = None) -> Maps:
    """The maps of all methods; read from the folder where they are kept there."""
    path = None if folder is None else folder / f"{int(rows[0]):09d}.safetensors"
    if path is not None and path.exists():
        return _read(plan, path)
    maps = _computed(plan, x, goal, rows)
    if path is not None:
        _write(maps, path)
    return maps


def kept_maps(folder: Path) -> list[Path]:
    """The files of the chunks whose maps are kept in a folder, in the order of the samples."""
    return sorted(folder.glob("[0-9]*.safetensors"))


def _write(maps: Maps, path: Path) -> None:
    page = {"absent": {str(spec): reason for spec, reason in maps.skips.items()}, "cost": maps.costs}
    tensors = {str(spec): map.contiguous() for spec, map in maps.maps.items()}
    with writing(path) as part:
        safetensors.torch.save_file(tensors, part, metadata={PAGE: json.dumps(page)})


def _read(plan: Plan, path: Path) -> Maps:
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in sorted(file.keys())}  # memory maps
            page = json.loads(file.metadata()[PAGE])
        skips = {spec: str(page["absent"][str(spec)]) for spec in plan.all_methods if str(spec) not in tensors}
        costs: Costs = {part: dict(values) for part, values in page["cost"].items()}
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise FileError(f"{str(path)!r} is damaged ({type(error).__name__}); delete it and run again") from None
    return Maps({spec: tensors[str(spec)] for spec in plan.all_methods if spec not in skips}, skips, costs)


def _computed(plan: Plan, x: Tensor, goal: Goal, rows: Tensor) -> Maps:
    """Methods that share passes go together, each by itself where one fails; so that costs no other anything."""
    clock = Clock(plan.probe.passes)

    def explain(specs: Sequence[Spec]) -> Mapping[Spec, Tensor]:
        lap = partial(clock.lap, "methods")
        return attribution.attribute(
            plan.probe, x, specs, target=goal, seed=plan.seed, index=rows, pool=plan.pool, lap=lap
        )

    maps, skips, errors = dict[Spec, Tensor](), dict[Spec, str](), dict[Spec, Exception]()
    groups = attribution.companions(plan.all_methods)
    while groups:
        group = groups.pop(0)
        try:
            maps |= explain(group)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # whatever a method raises, the others go on
            clock.lap("methods", [])
            if len(group) > 1:  # one of them failed, which one will show
                groups += [[spec] for spec in group]
                continue
            skips[group[0]] = reason(group[0], error)
            errors[group[0]] = error
    for spec, map in list(maps.items()):
        bad = (~torch.isfinite(map.flatten(1)).all(1)).nonzero()[:, 0]
        if len(bad):
            faulty = InputError(
                f"NaN or infinite maps for {len(bad)} of {len(map)} samples (the first is number {int(rows[bad[0]])})"
            )
            skips[spec], errors[spec] = reason(spec, faulty), faulty
            del maps[spec]
    own = {spec: errors[spec] for spec in plan.methods if spec in errors}
    if len(own) == len(plan.methods) and not all(isinstance(error, NotApplicable) for error in own.values()):
        raise end_of_study(own)
    return Maps({spec: maps[spec] for spec in plan.all_methods if spec in maps}, skips, clock.costs)
