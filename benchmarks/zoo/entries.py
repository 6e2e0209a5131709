"""What the hand-written table says of one network. Nothing here imports heatproof."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

Size = tuple[int, ...]


@dataclass(frozen=True)
class Layout:
    """Where a layer's output holds channels and positions.

    Attributes:
        order: ``first`` is (N, K, *s), ``last`` is (N, *s, K), ``tokens`` is (N, prefix + positions + suffix, K),
            ``line`` is (N, K, 1, T) or (N, K, T, 1): a signal in a two-dimensional layer.
        stride: input positions a token, one for all axes or one an axis; for tokens only.
        grid: the token grid where the stride does not give it.
        swapped: whether the tokens run through the second axis of the input first.
    """

    order: Literal["first", "last", "tokens", "line"]
    stride: float | tuple[float, ...] = 0
    prefix: int = 0
    suffix: int = 0
    grid: Size | None = None
    swapped: bool = False

    def read(self, out: Tensor, size: Size) -> Tensor:
        """The output as (N, K, *s); ValueError where it does not fit."""
        rank = len(size)
        if self.order in ("first", "last"):
            if out.ndim != rank + 2:
                raise ValueError(f"the table's layout {self.order} does not fit an output of shape {tuple(out.shape)}")
            return out if self.order == "first" else out.movedim(-1, 1)
        if self.order == "line":
            if out.ndim != 4 or min(out.shape[2:]) != 1:
                raise ValueError(f"the table's line does not fit an output of shape {tuple(out.shape)}")
            return out.flatten(2)
        if out.ndim != 3:
            raise ValueError(f"the table's tokens do not fit an output of shape {tuple(out.shape)}")
        rows = out[:, self.prefix : out.shape[1] - self.suffix]
        grid = self.tokens(size)
        if rows.shape[1] != _product(grid):
            raise ValueError(f"the table's grid {grid} does not fit an output of shape {tuple(out.shape)}")
        if self.swapped:
            return rows.movedim(-1, 1).reshape(len(out), out.shape[-1], *reversed(grid)).transpose(2, 3)
        return rows.movedim(-1, 1).reshape(len(out), out.shape[-1], *grid)

    def tokens(self, size: Size) -> Size:
        """The grid of tokens for inputs of this size."""
        if self.grid is not None:
            return self.grid
        stride = self.stride if isinstance(self.stride, tuple) else (self.stride,) * len(size)
        return tuple(int(s // t) for s, t in zip(size, stride, strict=True))

    def __str__(self) -> str:
        ends = f", {self.prefix} before" * bool(self.prefix) + f", {self.suffix} behind" * bool(self.suffix)
        return {"first": "channels first", "last": "channels last"}.get(self.order, self.order) + ends


FIRST, LAST, LINE = Layout("first"), Layout("last"), Layout("line")


def tokens(stride: float | tuple[float, ...], prefix: int = 0, suffix: int = 0) -> Layout:
    """Tokens (N, prefix + positions + suffix, K), one for ``stride`` input positions along each axis."""
    return Layout("tokens", stride, prefix, suffix)


@dataclass(frozen=True)
class Attention:
    """Softmax attention over one grid of tokens in every layer.

    Attributes:
        layout: of the attended tokens. layers: how many attention layers.
        rows: whose rows of the rollout may be read: the first token's, the last one's, the mean over all, over the
            patches or over all others; halves is the mean of the first token's and of the patches' mean.
        optional: whether a refusal is right too.
    """

    layout: Layout
    layers: int
    rows: Sequence[Literal["first", "last", "all", "patches", "others", "halves"]] = ("first",)
    optional: bool = False


@dataclass(frozen=True)
class Entry:
    """One network, how it is built and what is right for it.

    Attributes:
        shape: of one input, (C, *S).
        layers: a regular expression of the acceptable automatic layers: the last with positions and a gradient.
        layout: of the acceptable layers. others: layouts of other layers, by regular expression; the first fit counts,
            and before ``layout``.
        attention: what the attention methods must read; "none" where they must refuse, "open" where both may be right.
        outputs: what the network returns; behind a softmax module the logits are what goes into it.
        note: why the layer is the right one, where it is not plain.
        absent: why the library itself cannot build it here.
        seconds: the processor time it may take.
        exact: whether the loop runs in float64; in float32 where that takes minutes.
    """

    library: str
    family: str
    name: str
    build: Callable[[], nn.Module]
    shape: Size
    layers: str
    layout: Layout
    others: Sequence[tuple[str, Layout]] = ()
    attention: Attention | Literal["none", "open"] = "none"
    outputs: Literal["logits", "softmax"] = "logits"
    note: str = ""
    seconds: int = 300
    exact: bool = True
    absent: str = ""

    @property
    def key(self) -> str:
        """The name under which results are kept."""
        return f"{self.library}:{self.name}"

    @property
    def size(self) -> Size:
        """The input's position axes."""
        return self.shape[1:]

    def accepts(self, layer: str) -> bool:
        """Whether a layer is one of the acceptable ones."""
        return re.fullmatch(self.layers, layer) is not None

    def layout_of(self, layer: str, module: nn.Module) -> Layout | None:
        """The layout that the table gives a layer, or None.

        Convolutions and batch norms are channels first; dense layers and layer norms of a network whose last layer
        holds its channels last do so too.
        """
        for pattern, layout in self.others:
            if re.fullmatch(pattern, layer):
                return layout
        if self.accepts(layer):
            return self.layout
        if isinstance(module, CHANNELS_FIRST):
            return (
                LINE if len(self.size) == 1 and isinstance(module, (nn.Conv2d, nn.BatchNorm2d, nn.AvgPool2d)) else FIRST
            )
        return self.layout if self.layout.order in ("last", "tokens") and isinstance(module, ROWS) else None


def chain(path: str, *more: str) -> str:
    """A regular expression of a module and of the containers that it ends; ``stages.3.1`` stands for three names."""
    parts = path.split(".")
    names = [".".join(parts[: end + 1]) for end in range(len(parts))]
    return "|".join([*map(re.escape, names), *more])


ROWS = (nn.Linear, nn.LayerNorm, nn.GELU, nn.Dropout)
CHANNELS_FIRST = (
    nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.GroupNorm,
    nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d,
)  # fmt: skip


def _product(numbers: Sequence[int]) -> int:
    total = 1
    for number in numbers:
        total *= number
    return total
