"""Self-checks: is a metric able to tell a real map from a wrong one, and has the model learnt anything?

A metric is computed for each method's map turned upside down, and for the map and score of a slightly changed input.
The model is compared with copies of itself whose weights are drawn at random. Both are done on some of the samples.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from heatproof import draws
from heatproof import metrics as judging
from heatproof.errors import NotApplicable
from heatproof.metrics.randomisation import randomised
from heatproof.probe import Probe
from heatproof.records import Samples
from heatproof.registry import Spec

CHECKED = 32  # samples at most that metrics are checked on
COPIES, SEEN = 19, 64  # randomised copies of the model, and samples at most that they classify
REACH = 0.02  # of the range of an input: how far it is changed at most

Check = Literal["inverted", "noisy"]


def checked_rows(count: int) -> Int[Tensor, " k"]:
    """Which of ``count`` samples metrics are checked on: all of a few, else evenly spread ones."""
    return torch.linspace(0, count - 1, min(CHECKED, count)).round().long()


def applies(metric: Spec) -> bool:
    """Whether a metric can be checked: a wrong map can lose by it, and it reads the map alone."""
    entry = judging.metrics[metric.name]
    family = judging.families[entry.family]
    return family.bears_on_truth and family.beatable and "explain" not in entry.needs


def upside_down(map: Float[Tensor, "n *s"]) -> Float[Tensor, "n *s"]:
    """Each map with its order reversed and its range kept."""
    low, high = (end.reshape(-1, *(1,) * (map.ndim - 1)) for end in map.flatten(1).aminmax(dim=1))
    return low + high - map


def nearby(base: judging.Case) -> tuple[Float[Tensor, "n c *s"], Bool[Tensor, " n"]]:
    """The inputs changed a little, and whether the model still gives them the same class."""
    low, high = base.x.flatten(1).aminmax(dim=1)
    drawn = 2 * draws.uniform(base.seeds("trial"), base.x.shape[1:]) - 1
    moved = base.x + (drawn * (REACH * (high - low)).double().reshape(-1, *(1,) * (base.x.ndim - 1))).to(base.x)
    return moved, base.probe.logits(moved).argmax(1) == base.probe.logits(base.x).argmax(1)


def metric_checks(
    base: judging.Case,
    near: tuple[Float[Tensor, "n c *s"], Bool[Tensor, " n"]],
    maps: Mapping[Spec, Tensor],
    explain: Callable[[Spec, Tensor], Tensor],
    metrics: Sequence[Spec],
    lap: Callable[[Sequence[Spec]], None] = lambda _: None,
) -> dict[tuple[Check, Spec, Spec], np.ndarray]:
    """The scores by (check, method, metric); a metric that does not apply here has none.

    Args:
        base: the case of the samples checked, with nothing computed. near: what `nearby` gives for it.
        maps: each method's maps of the samples. explain: (method, inputs) -> its maps of changed inputs, for the same
            goal. metrics: those that can be checked. lap: called with a metric once it has been computed.
    """
    scores: dict[tuple[Check, Spec, Spec], np.ndarray] = {}
    moved, same_class = near
    shifted = judging.moved(base, moved)
    checks: tuple[tuple[Check, judging.Case], ...] = (("inverted", base), ("noisy", shifted))
    judged: list[Spec] = []
    for method, map in maps.items():
        equal = next((other for other in judged if torch.equal(maps[other], map)), None)
        for check, whole in checks:
            if equal is not None:
                for metric in metrics:
                    if (check, equal, metric) in scores:
                        scores[check, method, metric] = scores[check, equal, metric]
                continue
            case = whole.of(upside_down(map) if check == "inverted" else explain(method, moved))
            for metric in metrics:
                try:
                    values = judging.measure(case, metric).numpy()
                except NotApplicable:
                    continue
                finally:
                    lap([metric])
                defined = check == "inverted" or same_class.cpu().numpy()
                scores[check, method, metric] = np.where(defined, values, np.nan)
        judged.append(method)
    return scores


def model_hits(probe: Probe, samples: Samples, seed: int) -> dict[str, object] | None:
    """How many of some samples the model and its randomised copies classify correctly.

    None where that says nothing: a single label, or a model that cannot be copied.
    """
    rows = torch.linspace(0, len(samples) - 1, min(SEEN, len(samples))).round().long()
    few = samples.take(rows)
    if not bool((few.y != few.y[0]).any()):
        return None
    x = probe.check(few.x[:])
    try:
        copies = [next(randomised(probe, seed=f"{seed}:{copy}", order="cascading", stages=1)) for copy in range(COPIES)]
    except NotApplicable:
        return None
    hits = [int((each.logits(x).argmax(1).cpu() == few.y).sum()) for each in (probe, *copies)]
    return {"samples": len(rows), "model": hits[0], "copies": hits[1:]}
