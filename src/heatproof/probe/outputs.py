"""Class scores in whatever a model returns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from heatproof.errors import InputError


@dataclass(frozen=True, eq=False)
class Outputs:
    """How the class scores of one model are read.

    Attributes:
        classes: how many classes the model scores; 0 where it returns no class scores.
        softmax: whether its output is already a softmax.
        sigmoid: whether its output is one sigmoid, the probability of the second of two classes.
        trouble: why the output holds no class scores, if it does not.
    """

    classes: int
    softmax: bool = False
    sigmoid: bool = False
    trouble: InputError | None = None

    def read(
        self, raw: Any, softmax: tuple[Tensor, Tensor] | None = None, *, needed: bool = True
    ) -> Float[Tensor, "n k"]:
        """The logits in what the model returned, or in what stood before its final softmax.

        Args:
            softmax: the last softmax of the pass and what went into it, if it was watched.
            needed: whether there must be class scores; otherwise zeros stand in for them.

        Raises: InputError where there are no class scores, and they are needed.
        """
        if softmax is not None and softmax[0] is pick(raw):
            return softmax[1].float()
        try:
            out = class_scores(raw).float()
        except InputError:
            first = next(tensors(raw), None)
            if needed or first is None:
                raise
            return first.new_zeros(len(first), 1).float()
        if self.sigmoid:
            return torch.cat([torch.zeros_like(out[:, :1]), torch.logit(out[:, 1:], eps=1e-7)], dim=1)
        return out.clamp_min(torch.finfo(out.dtype).tiny).log() if self.softmax else out


def class_scores(raw: Any) -> Float[Tensor, "n k"]:
    """The (N, classes) tensor in whatever a classifier returns: a tensor, a tuple, a dict or a record with ``logits``.

    A single column z is read as the two classes [0, z].

    Raises: InputError where there is none.
    """
    out = pick(raw)
    if out is None:
        raise InputError(
            f"the model returned {description(raw)}; expected class scores of shape (N, classes), "
            "or a target that is a function of that output"
        )
    if out.ndim == 1:
        out = out[:, None]
    return torch.cat([torch.zeros_like(out), out], dim=1) if out.shape[1] == 1 else out


def pick(raw: Any) -> Tensor | None:
    """The class scores in a model's output, or None."""
    if isinstance(raw, Tensor):
        while raw.ndim > 2 and raw.shape[-1] == 1:
            raw = raw[..., 0]
        return raw if raw.ndim in (1, 2) and raw.is_floating_point() else None
    if isinstance(raw, Mapping):
        named = [raw[k] for k in ("logits", "out", "output", "prob", "probabilities") if k in raw]
        candidates: Sequence[Any] = [*named, *raw.values()]
    elif hasattr(raw, "logits"):
        candidates = [raw.logits]
    else:
        candidates = raw if isinstance(raw, (tuple, list)) else ()
    return next((out for c in candidates if isinstance(c, Tensor) and (out := pick(c)) is not None), None)


def tensors(value: Any) -> Iterator[Tensor]:
    """Every tensor inside nested tuples, lists and dicts."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from tensors(part)
    elif isinstance(value, dict):
        yield from tensors(list(value.values()))


def description(raw: Any) -> str:
    """What an output is, in words, for an error."""
    if isinstance(raw, Tensor):
        return f"a {raw.dtype} tensor of shape {tuple(raw.shape)}"
    if isinstance(raw, Mapping):
        return f"a dict with {', '.join(map(str, raw))}"
    return f"a {type(raw).__name__}"
