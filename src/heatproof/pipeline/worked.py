"""Worked cases of a run: three samples of one class, explained and cut down to what the maps call relevant."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from torch import nn

from heatproof.errors import UnknownName
from heatproof.pipeline.defaults import fills_of, keep_of
from heatproof.pipeline.plan import Plan, registry
from heatproof.probe import Probe
from heatproof.records import Samples

if TYPE_CHECKING:
    from heatproof.performance import Performance
    from heatproof.report import Cases


def cases(plan: Plan, model: nn.Module, samples: Samples, performance: Performance) -> Cases | None:
    """Of one class the image classified with the highest, a middling and the lowest confidence; None for no images.

    Raises: UnknownName for a class that the data does not have.
    """
    from heatproof.masks import mask
    from heatproof.methods import explain
    from heatproof.perturb import Canvas
    from heatproof.report import Cases, choose
    from heatproof.studying import METHODS

    check_class(plan, samples)
    label = samples.classes[0] if plan.case_class is None else plan.case_class
    own = (samples.y == samples.classes.index(label)).nonzero()[:, 0]
    keep, fill = keep_of(plan, samples), fills_of(plan, samples)[0]
    if samples.x.ndim != 4 or not len(own) or keep is None:
        return None
    sure = np.asarray(performance.probabilities).max(axis=1)
    rows = own[choose(sure[own.numpy()])]
    borrowed = Probe(model, layer=plan.layer or None)
    few = samples.take(rows)
    x = borrowed.check(few.x[:])
    target = borrowed.logits(x).argmax(1)
    maps = explain(borrowed, x, plan.methods or METHODS, target=target, seed=plan.seed, index=rows)
    canvas = Canvas(x, fill=registry("fills").spec(fill), seeds=rows, pool=x)
    kept = {name: canvas.without(~mask(found, at=keep)[None]) for name, found in maps.items()}
    after = {name: borrowed.probabilities(left).gather(1, target[:, None])[:, 0] for name, left in kept.items()}
    return Cases(
        label=label,
        ids=few.ids or tuple(f"#{i}" for i in rows.tolist()),
        predictions=tuple(samples.classes[i] for i in target.tolist()),
        confidence=tuple(sure[rows.numpy()].tolist()),
        x=x.numpy(force=True),
        maps={name: found.numpy(force=True) for name, found in maps.items()},
        kept={name: left.numpy(force=True) for name, left in kept.items()},
        after={name: tuple(map(float, left)) for name, left in after.items()},
        keep=keep,
        fill=fill,
    )


def check_class(plan: Plan, samples: Samples) -> None:
    """Refuse a class of the worked cases that the data does not have, before anything is trained.

    Raises: UnknownName.
    """
    if plan.case_class is not None and plan.case_class not in samples.classes:
        raise UnknownName("class", plan.case_class, samples.classes)
