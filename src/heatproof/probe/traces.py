"""Which row of a dense layer or convolution each number of a later tensor came from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

Step: TypeAlias = Callable[[Tensor], Tensor]

# Operations that only move numbers, so that the same call moves their places.
MOVES = frozenset({
    "view", "reshape", "permute", "transpose", "swapaxes", "swapdims", "movedim", "moveaxis", "flatten", "unflatten",
    "squeeze", "unsqueeze", "expand", "repeat", "repeat_interleave", "tile", "unbind", "chunk", "split", "tensor_split",
    "split_with_sizes", "__getitem__", "select", "slice", "narrow", "t", "roll", "flip", "__get__", "broadcast_to",
})  # fmt: skip
# Operations whose numbers are new, with the axis of their channels; the other axes are rows.
LINEAR = {"linear": -1, "addmm": -1, "conv1d": 1, "conv2d": 1, "conv3d": 1, "convolution": 1}


@dataclass(frozen=True)
class Trace:
    """How a tensor came from the output of a dense layer or convolution.

    Attributes:
        shape: of that output. channel: its axis of channels. steps: the moves since.
    """

    shape: tuple[int, ...]
    channel: int
    steps: tuple[Step, ...] = ()

    @property
    def lead(self) -> tuple[int, ...]:
        """The shape without channels."""
        axes = list(self.shape)
        del axes[self.channel]
        return tuple(axes)

    def rows(self, device: torch.device) -> Tensor:
        """For every number of the tensor, its row in the flattened output without channels."""
        count = self.shape[self.channel]
        lead = torch.arange(torch.Size(self.lead).numel(), device=device).reshape(self.lead)
        axis = self.channel % len(self.shape)
        rows = lead.unsqueeze(axis).expand(*lead.shape[:axis], count, *lead.shape[axis:]).contiguous()
        for step in self.steps:
            rows = step(rows)
        return rows


def moves(name: str) -> bool:
    """Whether an operation of this name, in place or not, only moves numbers."""
    return name in MOVES or name.removesuffix("_") in MOVES


class Traces:
    """The traces of the tensors of one pass, kept as long as these live."""

    def __init__(self) -> None:
        self._of = WeakTensorKeyDictionary()

    def of(self, tensor: Tensor) -> Trace | None:
        """The trace of a tensor, or None."""
        trace: Trace | None = self._of.get(tensor)
        return trace

    def follow(
        self, name: str, func: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any], out: Any
    ) -> None:
        """Writes down what one operation did."""
        if name in LINEAR and isinstance(out, Tensor) and out.ndim > 1:
            self._of[out] = Trace(tuple(out.shape), LINEAR[name])
            return
        inputs = list(tensors((*args, *kwargs.values())))
        traced = [(t, trace) for t in inputs if (trace := self.of(t)) is not None]
        if not traced:
            return
        tensor, trace = traced[0]
        if moves(name) and len(inputs) == 1 and args and args[0] is tensor:
            move = Tensor.reshape if name == "view" else func
            several = isinstance(out, (tuple, list))
            for index, part in enumerate(out if several else (out,)):
                if isinstance(part, Tensor):
                    step = _step(move, args[1:], kwargs, index if several else None)
                    self._of[part] = replace(trace, steps=(*trace.steps, step))
        elif isinstance(out, Tensor) and out.shape == tensor.shape and out is not tensor:
            self._of[out] = trace


def _step(func: Callable[..., Any], rest: Sequence[Any], kwargs: dict[str, Any], index: int | None) -> Step:
    def step(rows: Tensor) -> Tensor:
        moved = func(rows, *rest, **kwargs)
        part: Tensor = moved if index is None else moved[index]
        return part

    return step


def tensors(values: Sequence[Any]) -> Iterator[Tensor]:
    """The tensors among arguments, and in lists among them."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (tuple, list)):
            yield from tensors(value)
