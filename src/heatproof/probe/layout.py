"""Where the channels and the positions are in a layer's output."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Layout:
    """How a layer's output holds its channels and positions.

    ``first`` is (N, K, *s), ``last`` is (N, *s, K), ``tokens`` is (N, prefix + positions, K).
    """

    kind: Literal["first", "last", "tokens"]
    grid: tuple[int, ...]
    prefix: int = 0

    def read(self, out: Tensor) -> Float[Tensor, "n k *s"]:
        """The output as (N, K, *s)."""
        if self.kind == "first":
            return out
        if self.kind == "last":
            return out.movedim(-1, 1)
        return out[:, self.prefix :].movedim(-1, 1).reshape(len(out), out.shape[-1], *self.grid)

    def write(self, A: Float[Tensor, "n k *s"], out: Tensor) -> Tensor:
        """``A`` in the layer's own layout; what is no position (class tokens) comes from ``out``."""
        if self.kind == "first":
            return A
        if self.kind == "last":
            return A.movedim(1, -1)
        return torch.cat([out[:, : self.prefix], A.flatten(2).movedim(1, -1)], dim=1)


def layout(shape: Sequence[int] | None, size: Sequence[int]) -> Layout | None:
    """How to read an output of this shape (batch axis included) as positions; None where it has none.

    Positions keep the input's proportions; where two readings do, channels first wins.
    """
    rank = len(size)
    if shape is None or len(shape) < 2:
        return None
    if len(shape) == rank + 2:
        first, last = tuple(shape[2:]), tuple(shape[1:-1])
        if rank > 1 and not _alike(first, size) and _alike(last, size):
            return Layout("last", last)
        return Layout("first", first)
    if len(shape) == 3 and rank > 1:
        for prefix in range(9):
            grid = _grid(shape[1] - prefix, size)
            if grid is not None:
                return Layout("tokens", grid, prefix)
    return None


def _alike(grid: Sequence[int], size: Sequence[int]) -> bool:
    shrink = [s / g for g, s in zip(grid, size, strict=True)]
    return max(shrink) <= 1.35 * min(shrink) and all(g <= 2 * s for g, s in zip(grid, size, strict=True))


def _grid(count: int, size: Sequence[int]) -> tuple[int, ...] | None:
    if count < 4:
        return None
    scale = (count / math.prod(size)) ** (1 / len(size))
    grid = tuple(max(1, round(s * scale)) for s in size)
    return grid if math.prod(grid) == count else None
