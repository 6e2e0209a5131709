"""How operations share a difference among their operands: elementwise ones, products, maxima."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import grad
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional as F

from heatproof.errors import NotApplicable


class Pair(NamedTuple):
    """A tensor of the pass of the input, with its graph, and the same one of the pass of the baseline."""

    live: Tensor
    base: Tensor

    def each(self, function: Callable[[Tensor], Tensor]) -> Pair:
        """What a linear function makes of both."""
        return Pair(function(self.live), function(self.base))


def slanted(function: Callable[[Tensor], Tensor], pair: Pair) -> Pair:
    """An elementwise function, whose gradient is its difference divided by that of its operand (the rescale rule)."""
    return Pair(_Slant.apply(pair.live, pair.base, function), function(pair.base))


def shared(product: Callable[[Tensor, Tensor], Tensor], a: Pair, b: Pair) -> Pair:
    """A bilinear function, each operand having the gradient at the mean of the other.

    That is its Shapley value: a b - a' b' = (a - a') (b + b') / 2 + (b - b') (a + a') / 2.
    """
    means = [(one.live.detach() + one.base.to(one.live)) / 2 for one in (a, b)]
    return Pair(_Shared.apply(a.live, b.live, product, *means), product(a.base, b.base))


def softmax(pair: Pair, dim: int, dtype: torch.dtype | None = None, _stacklevel: int = 3) -> Tensor:
    """A softmax, from its exponentials and the product with the reciprocal of their sum."""
    kind = pair.live.dtype if dtype is None else dtype
    wide = pair.each(lambda t: t.double())
    top = torch.maximum(wide.live.detach(), wide.base).amax(dim, keepdim=True)
    raised = slanted(torch.exp, wide.each(lambda t: t - top))
    whole = slanted(torch.reciprocal, raised.each(lambda t: t.sum(dim, keepdim=True)))
    return shared(torch.mul, raised, whole).live.to(kind)


def layer_norm(
    pair: Pair, normalized_shape: Sequence[int], weight: Tensor | None = None, bias: Tensor | None = None,
    eps: float = 1e-5, cudnn_enable: bool = True,  # noqa: ARG001
) -> Tensor:  # fmt: skip
    """A normalisation over the last axes."""
    out = _normalised(pair, list(range(-len(normalized_shape), 0)), eps)
    return _scaled(out, weight, bias)


def group_norm(
    pair: Pair, num_groups: int, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5,
    cudnn_enabled: bool = True,  # noqa: ARG001
) -> Tensor:  # fmt: skip
    """A normalisation over groups of channels."""
    shape = pair.live.shape
    out = _normalised(pair.each(lambda t: t.reshape(len(t), num_groups, -1)), [-1], eps).reshape(shape)
    along = (-1, *(1,) * (len(shape) - 2))
    return _scaled(out, *(t if t is None else t.reshape(along) for t in (weight, bias)))


def amax(pair: Pair, dim: int | Sequence[int] = (), keepdim: bool = False) -> Tensor:
    """The largest element along axes."""
    rank = pair.live.ndim
    axes = sorted(a % rank for a in ([dim] if isinstance(dim, int) else dim or range(rank)))
    ends = list(range(rank - len(axes), rank))
    flat = pair.each(lambda t: t.movedim(axes, ends).flatten(-len(axes)))

    peaks: Tensor = _Peak.apply(flat.live, flat.base, lambda t: tuple(t.max(-1, keepdim=True)), 1)
    out = peaks.squeeze(-1)
    if keepdim:
        for axis in axes:
            out = out.unsqueeze(axis)
    return out


def maximum(pair: Pair, dim: int, keepdim: bool = False) -> Any:
    """The largest element along an axis, and where it is."""
    places = pair.live.detach().max(dim, keepdim=keepdim).indices
    return torch.return_types.max((amax(pair, dim, keepdim), places))


def max_pool(
    pair: Pair, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False,
    return_indices: bool = False, *, rank: int,
) -> Tensor:  # fmt: skip
    """A pooling by maxima over the last ``rank`` axes."""
    pool = (F.max_pool1d_with_indices, F.max_pool2d_with_indices, F.max_pool3d_with_indices)[rank - 1]
    return _pooled(pair, rank, lambda t: pool(t, kernel_size, stride, padding, dilation, ceil_mode), return_indices)


def adaptive_max_pool(pair: Pair, output_size: Any, return_indices: bool = False, *, rank: int) -> Tensor:
    """A pooling by maxima to so many positions of the last ``rank`` axes."""
    pool = (F.adaptive_max_pool1d_with_indices, F.adaptive_max_pool2d_with_indices,
            F.adaptive_max_pool3d_with_indices)[rank - 1]  # fmt: skip
    return _pooled(pair, rank, lambda t: pool(t, output_size), return_indices)


def _pooled(pair: Pair, rank: int, pool: Callable[[Tensor], tuple[Tensor, Tensor]], indices: bool) -> Tensor:
    if indices:
        raise NotApplicable("deep-lift has no rule for max-pooling that returns indices; use integrated-gradients")
    out: Tensor = _Peak.apply(pair.live, pair.base, pool, rank)
    return out


def _normalised(pair: Pair, axes: list[int], eps: float) -> Tensor:
    kind = pair.live.dtype
    wide = pair.each(lambda t: t if t.dtype == torch.float64 else t.float())
    centred = wide.each(lambda t: t - t.mean(axes, keepdim=True))
    spread = slanted(torch.square, centred).each(lambda t: t.mean(axes, keepdim=True))
    scale = slanted(lambda t: (t + eps).rsqrt(), spread)
    return shared(torch.mul, centred, scale).live.to(kind)


def _scaled(out: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    out = out if weight is None else out * weight
    return out if bias is None else out + bias


class _Slant(torch.autograd.Function):
    """An elementwise function; what its backward pass needs is not saved, as a checkpointed part would count it."""

    @staticmethod
    def forward(ctx: Any, live: Tensor, base: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
        out = function(live)
        if live.requires_grad:
            ctx.slope = _quotient(live, base, out, function)
        return out

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, None, None]:
        with torch._C.DisableTorchFunction():
            return slopes[0] * ctx.slope, None, None


def _quotient(live: Tensor, base: Tensor, out: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
    """The difference of the results divided by that of the operands; the derivative between them where both are one.

    Rounding decides how close that is: half of the digits.
    """
    gap = live - base
    apart = gap.abs() > math.sqrt(torch.finfo(live.dtype).eps) * torch.maximum(live.abs(), base.abs())
    slope = (out - function(base)) / torch.where(apart, gap, 1)
    if bool(apart.all()):
        return slope
    middle = torch.where(gap == 0, live, (live + base) / 2).detach()
    with torch.enable_grad(), saved_tensors_hooks(_as_it_is, _as_it_is):  # nor may a checkpointed part count this
        middle.requires_grad_()
        (derivative,) = grad(function(middle).sum(), middle)
    return torch.where(apart, slope, derivative)


def _as_it_is(tensor: Tensor) -> Tensor:
    return tensor


class _Shared(torch.autograd.Function):
    """A bilinear function with the gradients that it has at other operands."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, product: Callable[..., Tensor], left: Tensor, right: Tensor) -> Tensor:
        ctx.product, ctx.means = product, (left, right)
        return product(a, b)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, ...]:
        with torch._C.DisableTorchFunction(), torch.enable_grad():
            means = [
                t.detach().requires_grad_(flag) for t, flag in zip(ctx.means, ctx.needs_input_grad[:2], strict=True)
            ]
            asked = [t for t in means if t.requires_grad]
            shares = iter(grad(ctx.product(*means), asked, slopes[0]))
            return *(next(shares) if t.requires_grad else None for t in means), None, None, None


class _Peak(torch.autograd.Function):
    """A maximum over windows of the last ``rank`` axes: what it changes by goes to the larger of the two maxima.

    At the place of that maximum the operand changes by at least as much, in the same direction.
    """

    @staticmethod
    def forward(
        ctx: Any, live: Tensor, base: Tensor, pool: Callable[[Tensor], tuple[Tensor, Tensor]], rank: int
    ) -> Tensor:
        out, places = pool(live)
        before, others = pool(base)
        ctx.shape, ctx.rank = live.shape, rank
        ctx.places = torch.where(out >= before, places, others).flatten(-rank)
        gap = (live - base).flatten(-rank).gather(-1, ctx.places)
        change = (out - before).flatten(-rank)
        ctx.slope = torch.where(gap == 0, 1, change / torch.where(gap == 0, 1, gap)).to(live.dtype)
        return out

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, None, None, None]:
        with torch._C.DisableTorchFunction():
            worth = slopes[0].flatten(-ctx.rank) * ctx.slope
            flat = worth.new_zeros((*ctx.shape[: -ctx.rank], math.prod(ctx.shape[-ctx.rank :])))
            return flat.scatter_add_(-1, ctx.places, worth).reshape(ctx.shape), None, None, None
