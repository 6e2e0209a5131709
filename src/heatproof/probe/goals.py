"""Which number of a model's output is explained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor

from heatproof.errors import InputError
from heatproof.probe.outputs import description

Score = Literal["probability", "logit"]


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
    """

    classes: Int[Tensor, " n"]
    against: Int[Tensor, " n"] | None = None
    mix: Float[Tensor, "n k"] | None = None
    function: Callable[[Any], Tensor] | None = None

    @classmethod
    def of(cls, target: Target, logits: Float[Tensor, "n k"]) -> Goal:
        """The goal for every row of ``logits``.

        Raises: InputError where the number or the range of the targets is wrong.
        """
        with torch.inference_mode(False):
            return cls._of(target, logits.detach().clone())

    @classmethod
    def _of(cls, target: Target, logits: Float[Tensor, "n k"]) -> Goal:
        if isinstance(target, Contrast):
            first = _classes(target.target, logits)
            rest = logits.scatter(1, first[:, None], float("-inf"))
            against = _classes(target.against, rest)
            if (first == against).any():
                raise InputError("Contrast: a class is held against itself; name two different classes")
            return cls(first, against)
        if callable(target) and not isinstance(target, Tensor):
            return cls(logits.argmax(1), function=target)
        return cls(_classes(target, logits))

    def take(self, rows: Tensor | slice) -> Goal:
        """The goal of the rows named, in that order."""
        against = None if self.against is None else self.against[rows]
        mix = None if self.mix is None else self.mix[rows]
        return replace(self, classes=self.classes[rows], against=against, mix=mix)

    def score(self, logits: Float[Tensor, "n k"], kind: Score, raw: Any = None) -> Float[Tensor, " n"]:
        """The number explained: a probability in [0, 1], a logit, or what the function returns.

        A contrast is sigmoid(z_target - z_against), or that difference of logits.

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
        if kind == "probability":
            logits = logits.softmax(1)
        return logits.gather(1, self.classes[:, None])[:, 0]


def _classes(target: Any, logits: Float[Tensor, "n k"]) -> Int[Tensor, " n"]:
    n, count = logits.shape
    if target is None:
        return logits.argmax(1)
    try:
        index = torch.as_tensor(target, device=logits.device)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            f"target {target!r}: expected None, a class, one class a sample, a Contrast or a function"
        ) from error
    if index.is_floating_point() or index.is_complex() or index.dtype == torch.bool:
        raise InputError(f"targets are of type {index.dtype}; expected whole class numbers")
    if index.ndim == 0:
        index = index.expand(n)
    if tuple(index.shape) != (n,):
        raise InputError(f"got targets of shape {tuple(index.shape)} for {n} samples; expected one class a sample")
    if n and (int(index.min()) < 0 or int(index.max()) >= count):
        worst = int(index.min()) if int(index.min()) < 0 else int(index.max())
        raise InputError(f"target class {worst} is out of range; the model has {count} classes, 0 to {count - 1}")
    return index.to(torch.int64).clone()
