"""Where a pass multiplies values by weights, as attention does; every operation is observed, none is replaced."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from types import FunctionType
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

from heatproof.errors import NotApplicable
from heatproof.probe.ends import Place, place
from heatproof.probe.traces import Trace, Traces, moves, tensors

SOFTMAXES = frozenset({"softmax", "_softmax", "_safe_softmax", "softmin", "gumbel_softmax"})
MATRIX = frozenset({"matmul", "bmm", "__matmul__", "__rmatmul__"})
HIDDEN = frozenset({"_native_multi_head_attention", "_transformer_encoder_layer_fwd", "flex_attention"})


@dataclass(frozen=True, eq=False)
class Axes:
    """How the operands of a product, and what comes out, are brought to (lead, q, k), (lead, k, ...), (lead, q, ...).

    Attributes:
        weights, values, out: the order of the axes; None in it is a new one, along which the tensor is the same.
    """

    weights: tuple[int, ...]
    values: tuple[int | None, ...]
    out: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Product:
    """One product of weights and values.

    Attributes:
        used: the weights that were multiplied; gradients are taken of them. out: what came of it.
        axes: of the three. softmax: whether the weights come from a softmax.
        trace: of the values; source: of the weights, None where they are themselves a product.
        weighed, valued: where the gradient graph has weights and values, None where it has not.
    """

    used: Tensor
    out: Tensor
    axes: Axes
    softmax: bool
    trace: Trace | None
    source: Trace | None
    weighed: Place | None
    valued: Place | None

    def weights(self, tensor: Tensor) -> Tensor:
        """The weights, or their gradient, as (lead, q, k)."""
        return tensor.permute(self.axes.weights).flatten(0, -3)

    def outputs(self, tensor: Tensor) -> Tensor:
        """What came out, or its gradient, as (lead, q, d)."""
        lead = len(self.axes.weights) - 2
        moved = tensor.permute(self.axes.out)
        return moved.reshape(moved.shape[:lead].numel(), moved.shape[lead], -1)

    def rows(self) -> Tensor | None:
        """The rows that the values came from, as (lead, k, d); None where that was not seen."""
        if self.trace is None:
            return None
        lead = self.used.permute(self.axes.weights).shape[:-2]
        rows = self.trace.rows(self.used.device)
        old = [a for a in self.axes.values if a is not None]
        if rows.ndim < len(old):
            return None
        rows = rows.permute(old)
        for axis, at in enumerate(self.axes.values):
            if at is None:
                rows = rows.unsqueeze(axis)
        rows = rows.flatten(len(lead) + 1) if rows.ndim > len(lead) + 1 else rows[..., None]
        return rows.expand(*lead, *rows.shape[-2:]).reshape(lead.numel(), *rows.shape[-2:])


class ProductWatch(TorchFunctionMode):
    """Finds the products of a pass whose weights come from a softmax, or are square or of one row.

    Fused attention is computed openly: its weights are a softmax, and multiply its values. Only what a product takes is
    replaced, by a copy, so that its gradient is that of exactly this use.

    Args:
        keep: called with every such product in turn; what it raises ends the pass.
    """

    def __init__(self, keep: Callable[[Product], None]) -> None:
        super().__init__()
        self.keep = keep
        self.traces = Traces()
        self.softmaxes = WeakTensorKeyDictionary()
        self.open: dict[int, int] = {}
        self.numbers = count()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "").partition(".")[0]
        if func is F.multi_head_attention_forward:
            with self:
                return _multi_head(*args, **kwargs)
        if name == "scaled_dot_product_attention":
            with self:
                return attend(*args, **kwargs)
        if name in HIDDEN:
            raise NotApplicable(f"the model's attention cannot be observed: {name} computes it as a whole")
        if name in MATRIX or name == "einsum":
            return self._product(name, func, args, kwargs)
        out = func(*args, **kwargs)
        if name in SOFTMAXES and isinstance(out, Tensor) and out.ndim > 2:
            out = out.clone()  # what follows may work in place, which the gradient of a softmax does not bear
        if isinstance(out, (Tensor, tuple, list)):
            self.traces.follow(name, func, args, kwargs, out)
            self._mark(name, args, kwargs, out)
        return out

    @property
    def idle(self) -> int | None:
        """The number of tokens of a softmax among them that weighs no values, or None."""
        return next(iter(self.open.values()), None)

    def _mark(self, name: str, args: Sequence[Any], kwargs: dict[str, Any], out: Any) -> None:
        """Follows what is a softmax through operations that keep its shape or only move it."""
        if not isinstance(out, Tensor) or not out.is_floating_point():
            return
        inputs = list(tensors((*args, *kwargs.values())))
        if name in SOFTMAXES:
            number = self.softmaxes[out] = next(self.numbers)
            if out.ndim > 2 and out.shape[-1] == out.shape[-2] > 1:
                self.open[number] = out.shape[-1]
            return
        moved = moves(name) and len(inputs) == 1
        for tensor in inputs:
            number = self.softmaxes.get(tensor)
            if number is not None and (moved or tensor.shape == out.shape):
                self.softmaxes[out] = number
                return

    def _product(self, name: str, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        parts = list(tensors((*args, *kwargs.values())))
        laid = self._weights(name, parts, args)
        if laid is None:
            return func(*args, **kwargs)
        which, axes = laid
        weights, values = parts[which], parts[1 - which]
        used = weights.clone()
        if name != "einsum":
            lead = torch.broadcast_shapes(weights.shape[:-2], values.shape[:-2])
            used = used.expand(*lead, *used.shape[-2:]).clone() if lead != used.shape[:-2] else used
        if torch.is_grad_enabled() and not used.requires_grad:
            used.requires_grad_()
        operands = (used, values) if which == 0 else (values, used)
        equation = (args[0] if args else kwargs["equation"],) if name == "einsum" else ()
        out = func(*equation, *operands)
        product = Product(
            used, out, axes, weights in self.softmaxes, self.traces.of(values), self.traces.of(weights),
            place(weights), place(values),
        )  # fmt: skip
        self.open.pop(self.softmaxes.get(weights, -1), None)
        self.keep(product)
        return out.clone()

    def _weights(self, name: str, parts: list[Tensor], args: tuple[Any, ...]) -> tuple[int, Axes] | None:
        """Which operand is the weights, and how all are laid out; None where the product is none of values."""
        if len(parts) != 2 or max(p.ndim for p in parts) < 3 or not all(p.is_floating_point() for p in parts):
            return None
        marked = [p in self.softmaxes for p in parts]
        for which in sorted((0, 1), key=lambda i: not marked[i]):
            axes = _einsum(args[0], which, parts) if name == "einsum" else _matrix(name, which, parts)
            if axes is None:
                continue
            weights = parts[which].permute(axes.weights) if name == "einsum" else _turned(parts[which], axes)
            queries, keys = weights.shape[-2:]
            plain = keys > 1 and queries in (1, keys) and parts[which].ndim > 2 and stochastic(weights)
            if marked[which] or plain:
                return which, axes
        return None


def stochastic(weights: Tensor) -> bool:
    """Whether all rows are at least 0 and sum to one, as exactly as their type allows."""
    weights = weights.detach()
    slack = max(1e-4, 2 * torch.finfo(weights.dtype).eps)
    sums = weights.sum(-1, dtype=torch.float64 if weights.dtype == torch.float64 else torch.float32)
    return bool(((sums - 1).abs() <= slack).all()) and bool((weights >= -slack).all())


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """What `torch.nn.functional.scaled_dot_product_attention` computes, in operations that can be observed."""
    kind = query.dtype if query.dtype == torch.float64 else torch.float32
    if enable_gqa:
        key, value = (t.repeat_interleave(query.shape[-3] // t.shape[-3], -3) for t in (key, value))
    with torch.autocast(query.device.type, enabled=False):
        factor = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
        products = (query.to(kind) * factor) @ key.to(kind).transpose(-2, -1)
        if is_causal:
            attn_mask = torch.ones(products.shape[-2:], dtype=torch.bool, device=query.device).tril()
        if attn_mask is not None:
            masks = attn_mask.dtype == torch.bool
            products = products.masked_fill(~attn_mask, -math.inf) if masks else products + attn_mask.to(kind)
        weights = F.dropout(products.softmax(-1), dropout_p) if dropout_p else products.softmax(-1)
        mixed = weights @ value.to(kind)
    return mixed.to(value.dtype)


def transparent(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of torch whose own operations a mode sees; it hands the call to the mode as a whole otherwise."""
    if not isinstance(function, FunctionType):
        return function
    names = {**function.__globals__, "has_torch_function": lambda _: False}
    same = FunctionType(function.__code__, names, function.__name__, function.__defaults__, function.__closure__)
    same.__kwdefaults__ = function.__kwdefaults__
    return same


_multi_head = transparent(F.multi_head_attention_forward)


def _turned(weights: Tensor, axes: Axes) -> Tensor:
    """The weights as (..., q, k), before they are brought to the rank of the values."""
    return weights if axes.weights[-1] > axes.weights[-2] else weights.transpose(-2, -1)


def _matrix(name: str, which: int, parts: list[Tensor]) -> Axes | None:
    if min(p.ndim for p in parts) < 2:
        return None
    rank = max(p.ndim for p in parts)
    first = (name == "__rmatmul__") == bool(which)  # the weights are on the left
    lead = tuple(range(rank - 2))
    order = (*lead, rank - 2, rank - 1) if first else (*lead, rank - 1, rank - 2)
    missing = rank - parts[1 - which].ndim
    values = (*(None for _ in range(missing)), *(a - missing for a in order[missing:]))
    return Axes(order, values, order)


def _einsum(equation: Any, which: int, parts: list[Tensor]) -> Axes | None:
    """The axes of a product written in letters; None where the sum is not over one axis that both have."""
    if not isinstance(equation, str) or "->" not in equation:
        return None
    terms, _, out = equation.replace(" ", "").partition("->")
    both = terms.split(",")
    if len(both) != 2:
        return None
    spare = "".join(chr(code) for code in range(0x3B1, 0x3C9))
    dots = max(p.ndim - len(t.replace("...", "")) for p, t in zip(parts, both, strict=True))
    both = [
        t.replace("...", spare[dots - (p.ndim - len(t) + 3) : dots] if "..." in t else "")
        for p, t in zip(parts, both, strict=True)
    ]
    out = out.replace("...", spare[:dots])
    weights, values = both[which], both[1 - which]
    summed = [a for a in weights if a not in out]
    free = [a for a in weights if a in out and a not in values]
    if len(summed) != 1 or summed[0] not in values or not free or any(a not in out for a in values if a != summed[0]):
        return None
    if any(len(set(t)) != len(t) for t in (weights, values, out)):
        return None
    key, query = summed[0], free[-1]
    lead = [a for a in weights if a not in (key, query)]
    rest = [a for a in values if a not in (*lead, key)]
    order = tuple(weights.index(a) for a in (*lead, query, key))
    placed = tuple(values.index(a) if a in values else None for a in (*lead, key, *rest))
    return Axes(order, placed, tuple(out.index(a) for a in (*lead, query, *rest)))
