"""Has the model learnt anything? It is compared with copies of itself whose weights are drawn at random."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from heatproof.annotations import Task
from heatproof.errors import NotApplicable
from heatproof.metrics.randomisation import as_read, randomised
from heatproof.probe import Probe
from heatproof.records import Samples

COPIES, SEEN = 19, 64  # randomised copies of the model, and samples at most that they classify


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
