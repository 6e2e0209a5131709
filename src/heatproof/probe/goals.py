"""Which number of a model's output is explained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor

from heatproof.errors import InputError
from heatproof.probe.entries import description
from heatproof.probe.kinds import Task
from heatproof.probe.outputs import predicted

Score = Literal["probability", "logit", "margin"]
NOUNS: dict[Task, str] = {"classes": "classes", "labels": "labels", "regression": "outputs"}


@dataclass(frozen=True)
class Contrast:
    """The target "why this class and not that one".

    Attributes:
        target: the class explained; None for the predicted one.
        against: the class it is held against; None for the most probable other class.
    """

    target: int | Sequence[int] | Tensor | None = None
    against: int | Sequence[int] | Tensor | None = None


Target: TypeAlias = int | Sequence[int] | Tensor | Contrast | Callable[[Any], Tensor] | None


@dataclass(frozen=True)
class Goal:
    """The target of each sample of a batch, resolved.

    Attributes:
        classes: the class explained. against: the class it is held against, or None.
        mix: weights (n, k) of the logits whose sum is explained instead, or None.
        function: a function of the model's raw output to explain instead, or None.
        task: what the model does. Of labels, ``classes`` holds the label explained; of a regression, the output.
    """

    classes: Int[Tensor, " n"]
    against: Int[Tensor, " n"] | None = None
    mix: Float[Tensor, "n k"] | None = None
    function: Callable[[Any], Tensor] | None = None
    task: Task = "classes"

    @classmethod
    def of(cls, target: Target, logits: Float[Tensor, "n k"], task: Task = "classes") -> Goal:
        """The goal for every row of ``logits``.

        Raises: InputError where the number or the range of the targets is wrong, or they do not fit the task.
        """
        with torch.inference_mode(False):
            return cls._of(target, logits.detach().clone(), task)

    @classmethod
    def _of(cls, target: Target, logits: Float[Tensor, "n k"], task: Task) -> Goal:
        if isinstance(target, Contrast):
            if task == "regression":
                raise InputError("Contrast: the model is a regression and has no classes to hold against each other; "
                                 "leave the target out, or name an output")  # fmt: skip
            first = _targets(target.target, logits, task)
            rest = logits.scatter(1, first[:, None], float("-inf"))
            against = _targets(target.against, rest, task)
            if (first == against).any():
                word = "label" if task == "labels" else "class"
                raise InputError(f"Contrast: a {word} is held against itself; name two different {NOUNS[task]}")
            return cls(first, against, task=task)
        if callable(target) and not isinstance(target, Tensor):
            return cls(predicted(logits, task), function=target, task=task)
        return cls(_targets(target, logits, task), task=task)

    def for_task(self, task: Task) -> Goal:
        """The goal for what a model does."""
        return self if self.task == task else replace(self, task=task)

    def take(self, rows: Tensor | slice) -> Goal:
        """The goal of the rows named, in that order."""
        against = None if self.against is None else self.against[rows]
        mix = None if self.mix is None else self.mix[rows]
        return replace(self, classes=self.classes[rows], against=against, mix=mix)

    def score(self, logits: Float[Tensor, "n k"], kind: Score, raw: Any = None) -> Float[Tensor, " n"]:
        """The number explained: a probability in [0, 1], a logit, a margin, an output of a regression, or what the
        function returns.

        The margin of a class is its logit less the largest other one; that of a label is its logit. A contrast is
        sigmoid(z_target - z_against), or that difference of logits.

        Raises: InputError where the function does not return one number a sample.
        """
        if self.function is not None:
            value = self.function(raw)
            if not isinstance(value, Tensor) or value.shape != (len(logits),):
                raise InputError(
                    f"the target function returned {description(value)}; expected one number a sample, "
                    f"shape ({len(logits)},)"
                )
            return value.float()
        if self.mix is not None:
            total = (logits * self.mix).sum(1)
            return total.sigmoid() if kind == "probability" else total
        if self.against is not None:
            pair = logits.gather(1, torch.stack([self.classes, self.against], dim=1))
            gap = pair[:, 0] - pair[:, 1]
            return gap.sigmoid() if kind == "probability" else gap
        if kind == "probability" and self.task != "regression":
            logits = logits.sigmoid() if self.task == "labels" else logits.softmax(1)
        chosen = self.classes[:, None]
        value = logits.gather(1, chosen)[:, 0]
        if kind == "margin" and self.task == "classes":
            return value - logits.scatter(1, chosen, float("-inf")).amax(1)
        return value


def _targets(target: Any, logits: Float[Tensor, "n k"], task: Task) -> Int[Tensor, " n"]:
    n, count = logits.shape
    noun = {"classes": "class", "labels": "label", "regression": "output"}[task]
    if target is None:
        if task == "regression" and count > 1:
            raise InputError(
                f"target: the model is a regression with {count} outputs; name the one to explain, 0 to {count - 1}"
            )
        return predicted(logits, task)
    try:
        index = torch.as_tensor(target, device=logits.device)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            f"target {target!r}: expected None, a {noun}, one {noun} a sample, a Contrast or a function"
        ) from error
    if index.is_floating_point() or index.is_complex() or index.dtype == torch.bool:
        raise InputError(f"targets are of type {index.dtype}; expected whole {noun} numbers")
    if task == "regression" and count == 1:
        raise InputError(f"target: got {target!r} for a regression with one output, which has no classes; leave the "
                         "target out, or write outputs='binary-logit' for two classes")  # fmt: skip
    if index.ndim == 0:
        index = index.expand(n)
    if tuple(index.shape) != (n,):
        raise InputError(f"got targets of shape {tuple(index.shape)} for {n} samples; expected one {noun} a sample")
    if n and (int(index.min()) < 0 or int(index.max()) >= count):
        worst = int(index.min()) if int(index.min()) < 0 else int(index.max())
        raise InputError(
            f"target {noun} {worst} is out of range; the model has {count} {NOUNS[task]}, 0 to {count - 1}"
        )
    return index.to(torch.int64).clone()
