"""The right maps by plain hooks, autograd and loops. Nothing here imports heatproof."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import product
from typing import Any
from unittest.mock import patch

import torch
from benchmarks.zoo.entries import Attention, Layout, Size
from torch import Tensor, nn
from torch.nn import functional as F

MODES = {1: "linear", 2: "bilinear", 3: "trilinear"}


def scores(model: nn.Module, x: Tensor, outputs: str = "logits") -> Tensor:
    """The logits (N, K) of a classifier of the zoo: what it returns, or what goes into its last softmax."""
    before: list[Tensor] = []
    handles = []
    if outputs == "softmax":
        ends = [m for m in model.modules() if isinstance(m, nn.Softmax)]
        handles = [m.register_forward_hook(lambda _, inputs, __: before.append(inputs[0])) for m in ends]
    try:
        raw = model(x)
    finally:
        for handle in handles:
            handle.remove()
    if before:
        raw = before[-1]
    elif hasattr(raw, "logits"):
        raw = raw.logits
    elif isinstance(raw, (tuple, list)):
        raw = raw[0]
    return raw.flatten(1)


class Watch:
    """A plain forward hook that keeps one call's output and hands a copy on."""

    def __init__(self, module: nn.Module, call: int = 1) -> None:
        self.module, self.call, self.times = module, call, 0
        self.out: Tensor | None = None

    def __enter__(self) -> Watch:
        self.handle = self.module.register_forward_hook(self._keep)
        return self

    def __exit__(self, *_: object) -> None:
        self.handle.remove()

    def _keep(self, _: nn.Module, __: Any, out: Any) -> Any:
        self.times += 1
        if self.times != self.call:
            return None
        first = out[0] if isinstance(out, (tuple, list)) else getattr(out, "last_hidden_state", out)
        self.out = first
        if not first.is_floating_point():
            return None
        copy = first.clone()  # so that an activation in place behind the layer leaves what was kept alone
        if isinstance(out, tuple):
            return (copy, *out[1:])
        return copy if first is out else None


def cams(
    model: nn.Module, x: Tensor, module: nn.Module, call: int, layout: Layout, target: Tensor, outputs: str
) -> dict[str, Tensor]:
    """Saliency; Grad-CAM and HiRes-CAM at the input's size; Grad-CAM before its ReLU; the layer's gradient."""
    with torch.enable_grad(), Watch(module, call) as watch:
        image = x.clone().requires_grad_()
        z = scores(model, image, outputs).gather(1, target[:, None]).sum()
        assert watch.out is not None
        slope, pixels = torch.autograd.grad(z, [watch.out, image], allow_unused=True)
    slope = torch.zeros_like(watch.out) if slope is None else slope
    size = tuple(x.shape[2:])
    A, G = layout.read(watch.out.detach(), size), layout.read(slope, size)
    weights = G.flatten(2).mean(2).reshape(*G.shape[:2], *(1,) * len(size))
    signed = (weights * A).sum(1)
    return {
        "saliency": pixels.abs().amax(1),
        "grad-cam": enlarged(signed.relu(), size),
        "hires-cam": enlarged((G * A).sum(1), size),
        "signed": enlarged(signed, size),
        "G": G,
    }


def enlarged(maps: Tensor, size: Size) -> Tensor:
    """Maps at the input's size by linear interpolation."""
    return F.interpolate(maps[:, None], size=size, mode=MODES[len(size)], align_corners=False)[:, 0]


def saliency(model: nn.Module, x: Tensor, target: Tensor, outputs: str) -> Tensor:
    """The largest absolute gradient over the channels."""
    with torch.enable_grad():
        image = x.clone().requires_grad_()
        z = scores(model, image, outputs).gather(1, target[:, None]).sum()
        (slope,) = torch.autograd.grad(z, image)
    return slope.abs().amax(1)


def occlusion(model: nn.Module, x: Tensor, target: Tensor, window: float, stride: float, outputs: str) -> Tensor:
    """The probability lost while a window is zero, averaged over the windows that cover a position.

    At the first and the last position of all axes and at those next to them, which one window covers; NaN elsewhere.
    """
    size = tuple(x.shape[2:])
    width = [max(1, round(window * s)) for s in size]
    step = [max(1, round(stride * w)) for w in width]
    lost = torch.full((len(x), *size), math.nan, dtype=torch.float64)

    def probability(image: Tensor) -> Tensor:
        z = scores(model, image, outputs).double()
        return z.softmax(1).gather(1, target[:, None])[:, 0]

    with torch.no_grad():
        whole = probability(x)
        for first in (True, False):
            place = tuple(slice(0, w) if first else slice(s - w, s) for w, s in zip(width, size, strict=True))
            covered = x.clone()
            covered[(slice(None), slice(None), *place)] = 0
            gap = (whole - probability(covered)).reshape(-1, *(1,) * len(size))
            ends = [min(t, 1 + (s - w) % t) for s, w, t in zip(size, width, step, strict=True)]
            alone = tuple(slice(0, e) if first else slice(s - e, s) for e, s in zip(ends, size, strict=True))
            lost[(slice(None), *alone)] = gap
    return lost


def attention(model: nn.Module, x: Tensor, target: Tensor, entry: Attention) -> dict[str, list[Tensor]]:
    """Rollout, transformer attribution and LeGrad from every softmax over the entry's tokens; one map for each row.

    ValueError where there are other than the entry's number of layers.
    """
    size = tuple(x.shape[2:])
    grid = entry.layout.tokens(size)
    count = math.prod(grid) + entry.layout.prefix + entry.layout.suffix
    seen: list[Tensor] = []
    with torch.enable_grad(), _softmaxes(seen, count):
        image = x.clone().requires_grad_()
        z = scores(model, image).gather(1, target[:, None]).sum()
        seen = [w for w in seen if w.ndim in (3, 4) and len(w) % len(x) == 0]  # heads apart, or with the samples
        if len(seen) != entry.layers:
            raise ValueError(f"the table says {entry.layers} attention layers over {count} tokens, seen: {len(seen)}")
        slopes = torch.autograd.grad(z, seen, allow_unused=True)
    eye = torch.eye(count, dtype=x.dtype)
    rollout = attribution = eye.expand(len(x), -1, -1)
    shares = []
    for weights, slope in zip(seen, slopes, strict=True):
        slope = (torch.zeros_like(weights) if slope is None else slope).reshape(len(x), -1, count, count)
        weights = weights.detach().reshape(slope.shape)
        step = weights.mean(1) + eye
        rollout = step / step.sum(-1, keepdim=True) @ rollout
        attribution = ((weights * slope).relu().mean(1) + eye) @ attribution
        shares.append(slope.relu().mean((1, 2)))

    def drawn(tokens: Tensor) -> Tensor:
        return enlarged(entry.layout.read(tokens[..., None], size)[:, 0], size)

    def read(total: Tensor, row: str) -> Tensor:
        patches = torch.zeros(count, dtype=torch.bool)
        patches[entry.layout.prefix : count - entry.layout.suffix] = True
        if row in ("first", "last"):
            return drawn(total[:, 0 if row == "first" else -1])
        if row == "halves":
            return (read(total, "first") + read(total, "patches")) / 2
        here = {"all": patches | ~patches, "patches": patches, "others": ~patches}[row]
        return drawn(total[:, here].mean(1))

    return {
        "attention-rollout": [read(rollout, row) for row in entry.rows],
        "transformer-attribution": [read(attribution, row) for row in entry.rows],
        "le-grad": [drawn(torch.stack(shares).mean(0))],
    }


@contextmanager
def _softmaxes(seen: list[Tensor], count: int) -> Iterator[None]:
    """Keeps every softmax over rows of ``count`` tokens, fused attention computed openly."""
    plain, method = torch.softmax, Tensor.softmax  # torch.nn.functional.softmax calls the method

    def keep(make: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def kept(*args: Any, **kwargs: Any) -> Tensor:
            out = make(*args, **kwargs)
            if out.ndim >= 3 and out.shape[-2:] == (count, count) and out.requires_grad:
                seen.append(out)
            return out

        return kept

    def attend(
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,  # noqa: ARG001
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        if enable_gqa:
            key, value = (t.repeat_interleave(query.shape[-3] // t.shape[-3], -3) for t in (key, value))
        products = query @ key.transpose(-2, -1) * (query.shape[-1] ** -0.5 if scale is None else scale)
        if is_causal:
            attn_mask = torch.ones(products.shape[-2:], dtype=torch.bool).tril()
        if attn_mask is not None:
            products = (
                products.masked_fill(~attn_mask, -math.inf) if attn_mask.dtype == torch.bool else products + attn_mask
            )
        return keep(method)(products, -1) @ value

    with (
        patch.object(F, "scaled_dot_product_attention", attend),
        patch.object(torch, "softmax", keep(plain)),
        patch.object(Tensor, "softmax", keep(method)),
    ):
        yield


EDGES = (0.2, 0.8)  # the middles of the places along an axis at which the input is disturbed
REPEATS = 2


def places(size: Size) -> list[tuple[slice, ...]]:
    """A patch at both ends of every axis, two fifths wide: 2, 4 or 8 places."""
    return list(product(*([slice(0, round(0.4 * s)), slice(round(0.6 * s), s)] for s in size)))


def located(
    model: nn.Module, x: Tensor, module: nn.Module, call: int, layout: Layout, amount: float = 0.02
) -> float | None:
    """The share of places at which the layer's output, read by the layout, answers to its own place most.

    The input is disturbed near the corners. Each answer is divided by its own mean and each cell by its mean over the
    answers, so that what changes everywhere (attention, gates) does not count; at the cell below each place the answer
    to that place must then be the largest. None where an axis has fewer than two cells.
    """
    size = tuple(x.shape[2:])
    generator = torch.Generator().manual_seed(3)
    totals: list[Tensor] = []
    with torch.no_grad():
        plain = _seen(model, x[:1], module, call, layout)
        if min(plain.shape[1:]) < 2:
            return None
        for place in places(size):
            total = torch.zeros(plain.shape[1:], dtype=torch.float64)
            for _ in range(REPEATS):
                noise = torch.randn(x[:1].shape, generator=generator).abs().to(x) * x.std() * amount
                other, index = x[:1].clone(), (slice(None), slice(None), *place)
                other[index] = other[index] + noise[index]
                total += (_seen(model, other, module, call, layout) - plain).abs().double().sum(0)
            totals.append(total / total.mean().clamp_min(1e-300))
    changes = torch.stack(totals)
    changes = changes / changes.mean(0).clamp_min(1e-300)
    right = 0
    for number, corner in enumerate(product(EDGES, repeat=len(size))):
        cell = tuple(min(g - 1, int(g * part)) for g, part in zip(plain.shape[1:], corner, strict=True))
        right += int(changes[(slice(None), *cell)].argmax()) == number
    return right / len(changes)


def _seen(model: nn.Module, x: Tensor, module: nn.Module, call: int, layout: Layout) -> Tensor:
    with Watch(module, call) as watch:
        model(x)
    assert watch.out is not None
    return layout.read(watch.out, tuple(x.shape[2:]))[0]


def error(maps: Tensor, right: Tensor, scale: Tensor | None = None) -> float:
    """The largest difference of a sample's maps as a share of the scale of its right map, the worst of the samples.

    Where the right map is NaN it is not known.
    """
    by = (right if scale is None else scale).flatten(1).abs().nan_to_num(0).amax(1)
    if not bool(torch.isfinite(maps).all()):
        return math.inf
    gap = (maps.double() - right.double()).flatten(1).abs().nan_to_num(0).amax(1)
    return float((gap / by.double().clamp_min(1e-300)).max()) if float(gap.max()) > 0 else 0.0
