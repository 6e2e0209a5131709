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
from heatproof.annotations import Task
from heatproof.errors import NotApplicable
from heatproof.metrics.randomisation import as_read, randomised
from heatproof.probe import Probe
from heatproof.records import Samples
from heatproof.registry import Spec
from heatproof.studies.failures import reason

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
    """The inputs changed a little, and whether the model still predicts the same of what is explained."""
    low, high = base.x.flatten(1).aminmax(dim=1)
    drawn = 2 * draws.uniform(base.seeds("trial"), base.x.shape[1:]) - 1
    moved = base.x + (drawn * (REACH * (high - low)).double().reshape(-1, *(1,) * (base.x.ndim - 1))).to(base.x)
    return moved, base.same_prediction(base.probe.logits(moved), base.probe.logits(base.x))


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
            try:
                case = whole.of(upside_down(map) if check == "inverted" else explain(method, moved))
            except torch.OutOfMemoryError:
                raise
            except Exception as error:  # without maps of changed inputs a metric goes unchecked on them
                reason(method, error)
                continue
            for metric in metrics:
                try:
                    values = judging.measure(case, metric).numpy()
                except torch.OutOfMemoryError:
                    raise
                except Exception as error:  # a metric that cannot be checked has no check
                    reason(metric, error)
                    continue
                finally:
                    lap([metric])
                defined = check == "inverted" or same_class.cpu().numpy()
                scores[check, method, metric] = np.where(defined, values, np.nan)
        judged.append(method)
    return scores


def model_skill(probe: Probe, samples: Samples, seed: int) -> dict[str, object] | None:
    """How well the model and its randomised copies do on some samples; higher is better.

    Of classes the number classified correctly ("correct"), of labels the mean AUC ("auc"), of a regression the
    correlation of outputs and true values ("correlation"). None where that says nothing: a single class or value, no
    label that some have and others have not, or a model that cannot be copied.
    """
    rows = torch.linspace(0, len(samples) - 1, min(SEEN, len(samples))).round().long()
    few = samples.take(rows)
    if not bool((few.y != few.y[:1]).any()):
        return None
    x = probe.check(few.x[:])
    asked = as_read(probe, x)
    try:
        copies = [next(randomised(asked, seed=f"{seed}:{copy}", order="cascading", stages=1)) for copy in range(COPIES)]
    except NotApplicable:
        return None
    measure, skill = SKILLS[few.task]
    values = [skill(each.logits(x).cpu(), few.y) for each in (probe, *copies)]
    return {"samples": len(rows), "measure": measure, "model": values[0], "copies": values[1:]}


def _correct(logits: Float[Tensor, "n k"], y: Int[Tensor, " n"]) -> float:
    return int((logits.argmax(1) == y).sum())


def _auc(logits: Float[Tensor, "n l"], y: Int[Tensor, "n l"]) -> float:
    """The mean area under the ROC curves of labels that some samples have and others have not."""
    areas = []
    for z, present in zip(logits.T.double(), (y == 1).T, strict=True):
        gap = z[present][:, None] - z[~present]
        if gap.numel():
            areas.append(float(((gap > 0).double() + 0.5 * (gap == 0).double()).mean()))
    return float(np.mean(areas))


def _correlation(outputs: Float[Tensor, "n 1"], y: Float[Tensor, " n"]) -> float:
    pairs = np.stack([outputs[:, 0].double().numpy(), y.numpy()])
    return float(np.corrcoef(pairs)[0, 1]) if pairs.std(axis=1).all() else 0.0


SKILLS: Mapping[Task, tuple[str, Callable[[Tensor, Tensor], float]]] = {
    "classes": ("correct", _correct),
    "labels": ("auc", _auc),
    "regression": ("correlation", _correlation),
}
