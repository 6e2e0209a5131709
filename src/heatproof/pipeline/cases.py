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
from heatproof.pipeline.plan import Plan, registry
from heatproof.probe import Probe
from heatproof.records import Samples

if TYPE_CHECKING:
    from heatproof.performance import Performance
    from heatproof.report import Cases


def cases(
    plan: Plan,
    model: nn.Module,
    samples: Samples,
    performance: Performance,
    *,
    maps: Mapping[str, Tensor] | None = None,
    rows: Int[Tensor, " n"] | None = None,
) -> Cases | None:
    """Of one class the image classified with the highest, a middling and the lowest confidence; None for no images.

    Args:
        maps: those that are known, of the samples at the places ``rows``; maps of other samples are made.

    Raises: UnknownName for a class that the data does not have.
    """
    from heatproof.fills import Canvas
    from heatproof.masks import mask
    from heatproof.report import Cases, choose

    check_class(plan, samples)
    label = samples.classes[0] if plan.case_class is None else plan.case_class
    own = (samples.y == samples.classes.index(label)).nonzero()[:, 0]
    keep, fill = keep_of(plan, samples), fills_of(plan, samples)[0]
    if samples.x.ndim != 4 or not len(own) or keep is None:
        return None
    sure = np.asarray(performance.probabilities).max(axis=1)
    picked = own[choose(sure[own.numpy()])]
    borrowed = Probe(model, layer=plan.layer or None)
    few = samples.take(picked)
    x = borrowed.check(few.x[:])
    target = borrowed.logits(x).argmax(1)
    shown = _explained(plan, borrowed, x, target, picked, maps or {}, [] if rows is None else rows.tolist())
    canvas = Canvas(x, fill=registry("fills").spec(fill), seeds=picked, pool=x)
    kept = {name: canvas.without(~mask(found, at=keep)[None]) for name, found in shown.items()}
    after = {name: borrowed.probabilities(left).gather(1, target[:, None])[:, 0] for name, left in kept.items()}
    return Cases(
        label=label,
        ids=few.ids or tuple(f"#{i}" for i in picked.tolist()),
        predictions=tuple(samples.classes[i] for i in target.tolist()),
        confidence=tuple(sure[picked.numpy()].tolist()),
        x=x.numpy(force=True),
        maps={name: found.numpy(force=True) for name, found in shown.items()},
        kept={name: left.numpy(force=True) for name, left in kept.items()},
        after={name: tuple(map(float, left)) for name, left in after.items()},
        keep=keep,
        fill=fill,
    )


def _explained(
    plan: Plan,
    borrowed: Probe,
    x: Float[Tensor, "k c *s"],
    target: Int[Tensor, " k"],
    rows: Int[Tensor, " k"],
    maps: Mapping[str, Tensor],
    known: Sequence[int],
) -> dict[str, Float[Tensor, "k *s"]]:
    """The maps of the plan's methods; of a sample at one of the ``known`` places those that are at hand.

    A method without maps, where there are some, is one that does not apply.
    """
    from heatproof.methods import explain, parse
    from heatproof.studies.plan import METHODS

    names = [name for name in map(str, parse(plan.methods or METHODS)) if name in maps or not maps]
    places, at = rows.tolist(), {row: k for k, row in enumerate(known)} if maps else {}
    new = [k for k, row in enumerate(places) if row not in at]
    made: dict[str, Tensor] = {}
    if names and new:
        made = explain(borrowed, x[new], names, target=target[new], seed=plan.seed, index=rows[new])

    def one(name: str, k: int) -> Tensor:
        return made[name][new.index(k)] if k in new else maps[name][at[places[k]]]

    return {name: torch.stack([one(name, k) for k in range(len(places))]) for name in names}


def check_class(plan: Plan, samples: Samples) -> None:
    """Refuse a class of the worked cases that the data does not have, before anything is trained.

    Raises: UnknownName.
    """
    if plan.case_class is not None and plan.case_class not in samples.classes:
        raise UnknownName("class", plan.case_class, samples.classes)
