"""What the samples say of a model's output, where the model itself leaves it open."""

from __future__ import annotations

from dataclasses import replace

from jaxtyping import Float
from torch import Tensor

from heatproof.errors import InputError
from heatproof.probe.evidence import kind_for
from heatproof.probe.kinds import Task
from heatproof.probe.probe import Probe


def probe_for(probe: Probe, x: Float[Tensor, "n c *s"], task: Task, classes: int) -> Probe:
    """The probe for samples of a task; they settle what the model's output leaves open.

    One bare number a sample is the logit of two classes, of one label, or a regression, as the samples are; bare
    columns are logits of labels where the samples have several each.

    Args:
        classes: how many classes or labels the samples have.

    Raises: InputError where output and samples contradict each other, or leave it open together.
    """
    outputs = probe.outputs_for(x)
    if outputs.trouble is None and outputs.task == task:
        return probe
    kind = None if outputs.stated else kind_for(outputs, task, classes)
    if kind is not None:
        return probe.alike(outputs=replace(outputs, kind=kind).statement)
    if outputs.trouble is not None:
        raise outputs.trouble.with_traceback(None)
    hold = {"classes": f"one of {classes} classes each", "labels": f"{classes} labels each, several of which may hold",
            "regression": "one real number each"}[task]  # fmt: skip
    raise InputError(
        f"the samples have {hold}, but the model returns {outputs}; "
        "give samples that fit, or say with outputs= what the model returns"
    )
