"""Worked cases of a run: three samples of one class, explained and cut down to what the maps call relevant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from heatproof.errors import UnknownName
from heatproof.pipeline.defaults import fills_of, keep_of
from heatproof.pipeline.plan import Plan
from heatproof.probe import Probe, probe_for
from heatproof.records import Samples

if TYPE_CHECKING:
    from heatproof.performance import Assessment
    from heatproof.report import Cases


def cases(
    plan: Plan,
    model: nn.Module,
    samples: Samples,
    performance: Assessment,
    *,
    maps: Mapping[str, Tensor] | None = None,
    rows: Int[Tensor, " n"] | None = None,
) -> Cases | None:
    """Of one class the images whose class has the highest, a middling and the lowest probability; None for no images.

    Of a multi-label model those that have one label, which is explained. None for a regression.

    Args:
        maps: those of the samples at the places ``rows``, which are not computed again.

    Raises: UnknownName for a class that the data does not have.
    """
    from heatproof.fills import Canvas
    from heatproof.masks import mask
    from heatproof.performance import LabelPerformance, Performance
    from heatproof.report import Cases, choose

    check_class(plan, samples)
    label = samples.classes[0] if plan.case_class is None else plan.case_class
    if not isinstance(performance, (Performance, LabelPerformance)):
        return None
    number, labels = samples.classes.index(label), samples.task == "labels"
    members = (samples.y[:, number] if labels else samples.y == number).nonzero()[:, 0]
    keep, fill = keep_of(plan, samples), fills_of(plan, samples)[0]
    if samples.x.ndim != 4 or not len(members) or keep is None:
        return None
    probability = np.asarray(performance.probabilities)
    probability = probability[:, number] if labels else probability.max(axis=1)
    picked = members[choose(probability[members.numpy()])]
    few = samples.take(picked)
    probe = probe_for(
        Probe(model, layer=plan.layer or None, layout=plan.layout, outputs=plan.outputs),
        few.x[:2],
        samples.task,
        len(samples.classes),
    )
    x = probe.check(few.x[:])
    target = torch.full((len(x),), number) if labels else probe.logits(x).argmax(1)
    mapped = [] if rows is None or labels else rows.tolist()
    shown = _explained(plan, probe, x, target, picked, maps or {}, mapped)
    canvas = Canvas(x, fill=fill, seeds=picked, pool=x)
    kept = {name: canvas.without(~mask(heat, at=keep)[None]) for name, heat in shown.items()}
    after = {name: probe.probabilities(left).gather(1, target[:, None])[:, 0] for name, left in kept.items()}
    return Cases(
        label=label,
        ids=few.ids or tuple(f"#{i}" for i in picked.tolist()),
        predictions=tuple(
            f"not {label}" if labels and p < 0.5 else samples.classes[i]
            for i, p in zip(target.tolist(), probability[picked.numpy()], strict=True)
        ),
        probability=tuple(probability[picked.numpy()].tolist()),
        x=x.numpy(force=True),
        maps={name: heat.numpy(force=True) for name, heat in shown.items()},
        kept={name: left.numpy(force=True) for name, left in kept.items()},
        after={name: tuple(map(float, left)) for name, left in after.items()},
        keep=keep,
        fill=str(fill),
        task=samples.task,
    )


def _explained(
    plan: Plan,
    probe: Probe,
    x: Float[Tensor, "k c *s"],
    target: Int[Tensor, " k"],
    rows: Int[Tensor, " k"],
    maps: Mapping[str, Tensor],
    mapped: Sequence[int],
) -> dict[str, Float[Tensor, "k *s"]]:
    """The maps of the plan's methods; those of samples at one of the places ``mapped`` are taken from ``maps``.

    A method without maps, where there are any, is one that does not apply. The stored maps explain the plan's target;
    these images show the predicted class, so that only maps of the predicted class are taken.
    """
    from heatproof.methods import explain, parse
    from heatproof.studies.plan import METHODS

    names = [name for name in map(str, parse(plan.methods or METHODS)) if name in maps or not maps]
    at = {row: k for k, row in enumerate(mapped)} if maps and plan.target is None else {}
    places = rows.tolist()
    new = [k for k, row in enumerate(places) if row not in at]
    fresh: dict[str, Tensor] = {}
    if names and new:
        fresh = explain(probe, x[new], names, target=target[new], seed=plan.seed, index=rows[new])

    def one(name: str, k: int) -> Tensor:
        return fresh[name][new.index(k)] if k in new else maps[name][at[places[k]]]

    return {name: torch.stack([one(name, k) for k in range(len(places))]) for name in names}


def check_class(plan: Plan, samples: Samples) -> None:
    """Refuse a class of the worked cases that the data does not have.

    Raises: UnknownName.
    """
    if plan.case_class is not None and plan.case_class not in samples.classes:
        raise UnknownName("class", plan.case_class, samples.classes)
