"""Trials of the metrics and of the model itself, made beside a study on some of its samples.

A metric is tried with each method's map turned upside down, and with the map and score of a slightly changed input. The
model is compared with copies of itself whose weights are drawn at random.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

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
from heatproof.results.ranking import TRUTH

TRIED = 32  # samples at most that metrics are tried on
TWINS, SEEN = 19, 64  # copies with random weights, and samples at most that they classify
REACH = 0.02  # of the range of an input: how far it is changed at most


def tried(count: int) -> Int[Tensor, " k"]:
    """Which of ``count`` samples metrics are tried on: all of a few, else evenly spread ones."""
    return torch.linspace(0, count - 1, min(TRIED, count)).round().long()


def applies(metric: Spec) -> bool:
    """Whether a metric can be tried: it speaks on which map is true, and reads the map alone."""
    entry = judging.metrics[metric.name]
    return entry.family in TRUTH and "explain" not in entry.needs


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


def run(
    base: judging.Case,
    near: tuple[Float[Tensor, "n c *s"], Bool[Tensor, " n"]],
    maps: Mapping[Spec, Tensor],
    explain: Callable[[Spec, Tensor], Tensor],
    metrics: Sequence[Spec],
    lap: Callable[[Sequence[Spec]], None] = lambda _: None,
) -> dict[tuple[str, Spec, Spec], np.ndarray]:
    """The scores under trial by (kind, method, metric); a metric that has no meaning here has none.

    Args:
        base: the case of the samples tried, with nothing computed. near: what `nearby` gives for it.
        maps: each method's maps of the samples. explain: (method, inputs) -> its maps of changed inputs, for the same
            goal. metrics: those that can be tried. lap: called with a metric once it has been tried on some maps.
    """
    found: dict[tuple[str, Spec, Spec], np.ndarray] = {}
    moved, same = near
    shifted = judging.moved(base, moved)
    done: list[Spec] = []
    for method, map in maps.items():
        twin = next((m for m in done if torch.equal(maps[m], map)), None)
        for kind, case in (("inverted", base), ("noisy", shifted)):
            if twin is None:
                case = case.of(upside_down(map) if kind == "inverted" else explain(method, moved))
            for metric in metrics:
                if twin is not None:
                    if (kind, twin, metric) in found:
                        found[kind, method, metric] = found[kind, twin, metric]
                    continue
                try:
                    values = judging.measure(case, metric).numpy()
                except NotApplicable:
                    continue
                finally:
                    lap([metric])
                found[kind, method, metric] = (
                    np.where(same.cpu().numpy(), values, np.nan) if kind == "noisy" else values
                )
        done.append(method)
    return found


def hits(probe: Probe, samples: Samples, seed: int) -> dict[str, object] | None:
    """How many of some samples the model and its copies with random weights classify as labelled.

    None where it cannot be told: a single label, or a model that cannot be copied.
    """
    rows = torch.linspace(0, len(samples) - 1, min(SEEN, len(samples))).round().long()
    some = samples.take(rows)
    if not bool((some.y != some.y[0]).any()):
        return None
    x = probe.check(some.x[:])
    try:
        copies = [next(randomised(probe, seed=f"{seed}:{twin}", order="cascading", stages=1)) for twin in range(TWINS)]
    except NotApplicable:
        return None
    right = [int((p.logits(x).argmax(1).cpu() == some.y).sum()) for p in (probe, *copies)]
    return {"samples": len(rows), "model": right[0], "twins": right[1:]}
