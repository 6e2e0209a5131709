"""The few modules that torch lacks and translated Keras models need; all channels-first, all traceable by torch.fx."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

if TYPE_CHECKING:
    Traced: TypeAlias = Tensor
else:  # torch.fx follows a module by calling it with a stand-in for its tensor
    Traced = Tensor | fx.Proxy

_MERGES: dict[str, Callable[[Any, Any], Any]] = {
    "add": operator.add,
    "subtract": operator.sub,
    "multiply": operator.mul,
    "divide": operator.truediv,
    "maximum": torch.maximum,
    "minimum": torch.minimum,
}


class Merge(nn.Module):
    """Several values made one, entry by entry: add, subtract, multiply, divide, maximum, minimum or average."""

    def __init__(self, kind: str, constants: Sequence[float | None] = ()) -> None:
        super().__init__()
        self.kind, self.constants = kind, tuple(constants)

    def forward(self, *inputs: Traced) -> Traced:
        """The merged value; constants stand in where the layer was called with a number."""
        values: list[Any] = list(inputs)
        if self.constants:
            rest = iter(inputs)
            values = [next(rest) if c is None else c for c in self.constants]
        if self.kind == "average":
            mean: Traced = functools.reduce(operator.add, values) / len(values)
            return mean
        merged: Traced = functools.reduce(_MERGES[self.kind], values)
        return merged


class ScaledSum(nn.Module):
    """A value and a share of another."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, x: Traced, y: Traced) -> Traced:
        """x + scale * y."""
        return x + self.scale * y


class Concatenate(nn.Module):
    """Values joined along an axis."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, *inputs: Traced) -> Traced:
        """The joined value."""
        return torch.cat(inputs, dim=self.dim)


class Reshape(nn.Module):
    """A reshape that means in channels-first order what Keras means in channels-last order."""

    def __init__(self, shape: Sequence[int], *, before: bool, after: bool) -> None:
        super().__init__()
        self.shape, self.before, self.after = tuple(shape), before, after

    def forward(self, x: Traced) -> Traced:
        """The same numbers in another shape; ``before`` and ``after`` say where channels are moved."""
        x = (x.movedim(1, -1) if self.before else x).reshape(x.shape[0], *self.shape)
        return x.movedim(-1, 1) if self.after else x


class Permute(nn.Module):
    """A permutation of axes, given in torch's order."""

    def __init__(self, axes: Sequence[int]) -> None:
        super().__init__()
        self.axes = tuple(axes)

    def forward(self, x: Traced) -> Traced:
        """The same numbers with their axes permuted."""
        return x.permute(self.axes)


class Image(nn.Module):
    """Positions without a channel axis, as Keras takes them: (N, 1, H, W) or (N, H, W) becomes (N, W, H)."""

    def __init__(self, size: Sequence[int]) -> None:
        super().__init__()
        self.size = tuple(size)

    def forward(self, x: Traced) -> Traced:
        """Keras's last axis in the place of channels."""
        return x.reshape(x.shape[0], *self.size).transpose(1, 2)


class Take(nn.Module):
    """Features in another order."""

    index: Traced

    def __init__(self, index: Traced) -> None:
        super().__init__()
        self.register_buffer("index", index)

    def forward(self, x: Traced) -> Traced:
        """The features at ``index``."""
        return x.index_select(1, self.index)


class Pick(nn.Module):
    """One of a layer's several outputs."""

    def __init__(self, which: int) -> None:
        super().__init__()
        self.which = which

    def forward(self, values: Any) -> Any:
        """That output."""
        return values[self.which]


class Affine(nn.Module):
    """x * scale + offset, with constants."""

    scale: Tensor
    offset: Tensor

    def __init__(self, scale: Tensor, offset: Tensor) -> None:
        super().__init__()
        self.register_buffer("scale", scale)
        self.register_buffer("offset", offset)

    def forward(self, x: Traced) -> Traced:
        """The rescaled value."""
        return x * self.scale + self.offset


class ChannelNorm(nn.Module):
    """Layer normalisation over the channels of each position."""

    def __init__(self, norm: nn.LayerNorm) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: Traced) -> Traced:
        """Every position's channels with mean zero and variance one, scaled and shifted."""
        normed: Traced = self.norm(x.movedim(1, -1)).movedim(-1, 1)
        return normed


class Slope(nn.Module):
    """A leaky ReLU whose slope is learnt for each entry."""

    def __init__(self, alpha: Tensor) -> None:
        super().__init__()
        self.alpha = nn.Parameter(alpha)

    def forward(self, x: Traced) -> Traced:
        """x where positive, alpha * x elsewhere."""
        return torch.where(x > 0, x, self.alpha * x)


class Clamp(nn.Module):
    """min(max(x, 0), ceiling) above a threshold, a straight line of the given slope below it."""

    def __init__(self, slope: float, ceiling: float | None, threshold: float) -> None:
        super().__init__()
        self.slope, self.ceiling, self.threshold = slope, ceiling, threshold

    def forward(self, x: Traced) -> Traced:
        """The rectified value."""
        out = torch.where(x >= self.threshold, x, self.slope * (x - self.threshold))
        return out if self.ceiling is None else out.clamp(max=self.ceiling)


class Function(nn.Module):
    """A function without parameters, under a name."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Traced) -> Traced:
        """The function's value."""
        return self.function(x)


def steep_sigmoid(x: Traced) -> Tensor:
    """Keras 2's hard sigmoid, clip(0.2 x + 0.5, 0, 1); Keras 3 took a flatter one under the same name."""
    return (0.2 * x + 0.5).clamp(0, 1)


class SamePadding(nn.Module):
    """TensorFlow's 'same' padding where the size of the input is not known beforehand."""

    def __init__(
        self, size: Sequence[int], stride: Sequence[int], dilation: Sequence[int], *, fill: float | str = 0.0
    ) -> None:
        super().__init__()
        self.size, self.stride, self.dilation, self.fill = tuple(size), tuple(stride), tuple(dilation), fill

    def forward(self, x: Traced) -> Traced:
        """The padded input."""
        return pad_same(x, self.size, self.stride, self.dilation, self.fill)


class MeanPool(nn.Module):
    """'Same' average pooling over entries inside the input only, as TensorFlow has it, for any padding."""

    def __init__(self, size: Sequence[int], stride: Sequence[int]) -> None:
        super().__init__()
        self.size, self.stride = tuple(size), tuple(stride)

    def forward(self, x: Traced) -> Traced:
        """The mean of each window."""
        pool = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[len(self.size) - 1]
        ones = (1,) * len(self.size)
        padded, inside = (pad_same(v, self.size, self.stride, ones, 0.0) for v in (x, torch.ones_like(x[:1, :1])))
        mean: Traced = pool(padded, self.size, self.stride) / pool(inside, self.size, self.stride)
        return mean


def same_padding(length: int, size: int, stride: int, dilation: int = 1) -> tuple[int, int]:
    """How many entries TensorFlow's 'same' adds before and behind an axis."""
    reach = (size - 1) * dilation + 1
    total = max(0, (-(-length // stride) - 1) * stride + reach - length)
    return total // 2, total - total // 2


def transposed_cuts(size: int, stride: int, dilation: int, extra: int | None, *, same: bool) -> tuple[int, int]:
    """How many of a transposed convolution's (length - 1) * stride + reach outputs Keras cuts before and behind.

    Behind it may be less than none: so many zeros are added. ``extra`` is the layer's output_padding.
    """
    reach = (size - 1) * dilation + 1
    if not same:
        return 0, -(max(0, stride - reach) if extra is None else extra)
    total = reach - stride if extra is None else reach - reach % 2 - extra
    before = max(0, total // 2)
    return before, total - before


@fx.wrap
def pad_same(
    x: Traced, size: tuple[int, ...], stride: tuple[int, ...], dilation: tuple[int, ...], fill: float | str
) -> Traced:
    """``x`` padded so that a window of this size and stride gives ceil(length / stride) outputs an axis."""
    ends = [same_padding(*each) for each in zip(x.shape[2:], size, stride, dilation, strict=True)]
    flat = [width for pair in reversed(ends) for width in pair]
    if isinstance(fill, str):
        return F.pad(x, flat, mode=fill)
    return F.pad(x, flat, value=fill)
