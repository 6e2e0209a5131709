"""The attention of vision transformers, however it is computed.

Attention is read where `scaled_dot_product_attention` is called (it is computed openly for the time of the pass) and
where a module named like ``attn_drop`` is given a softmax over tokens.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from heatproof.errors import NotApplicable
from heatproof.probe.goals import Goal
from heatproof.probe.layout import Layout, layout
from heatproof.probe.runner import Runner
from heatproof.probe.state import Hook


@dataclass(frozen=True)
class Heads:
    """One layer's attention (n, heads, T, T), rows summing to one; its gradient or None; where the positions are."""

    weights: Float[Tensor, "n h t t"]
    gradient: Float[Tensor, "n h t t"] | None
    layout: Layout


def look(runner: Runner, x: Float[Tensor, "n c *s"], goal: Goal | None) -> list[Heads]:
    """The attention of every layer for one batch, with the gradient of the goal's logit by it.

    Raises: NotApplicable where there is none over one grid of tokens.
    """
    attention: list[Tensor] = []
    hooks: dict[nn.Module, Hook] = {
        module: lambda _, inputs, out: _keep(attention, inputs[0] if inputs else None, out)
        for name, module in runner.model.named_modules()
        if isinstance(module, (nn.Dropout, nn.Identity)) and "attn" in name.rsplit(".", 1)[-1]
    }
    with runner.borrowed(hooks) as run, _open_attention(attention), torch.enable_grad():
        raw = runner.model(x.detach().clone().requires_grad_())
        logits = run.read(raw, goal)
        grids = [layout((len(x), w.shape[-1], 1), x.shape[2:]) for w in attention]
        fits = [grid is not None and len(w) == len(x) for grid, w in zip(grids, attention, strict=True)]
        if not fits or not all(fits):
            raise NotApplicable("the model has no attention over one grid of tokens; attention methods need a vision "
                                "transformer with global attention (ViT, DeiT)")  # fmt: skip
        slopes: Any = [None] * len(attention)
        if goal is not None:
            slopes = torch.autograd.grad(goal.score(logits, "logit", raw).sum(), attention, allow_unused=True)
    runner.count("forward", len(x))
    runner.count("backward", len(x) * (goal is not None))
    return [
        Heads(w.detach().float(), _float(slope, w, goal), grid)
        for w, slope, grid in zip(attention, slopes, grids, strict=True)
        if grid is not None
    ]


def _float(slope: Tensor | None, weights: Tensor, goal: Goal | None) -> Tensor | None:
    if goal is None:
        return None
    return torch.zeros_like(weights).float() if slope is None else slope.float()


def _keep(attention: list[Tensor], weights: Any, out: Tensor) -> None:
    """Keeps what a dropout made of its input, if that is a softmax over tokens."""
    if not isinstance(weights, Tensor) or weights.ndim != 4 or not weights.requires_grad:
        return
    if weights.shape[-1] == weights.shape[-2]:
        attention.append(out)


@contextmanager
def _open_attention(attention: list[Tensor]) -> Iterator[None]:
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
        if is_causal or enable_gqa or query.shape[-2] != key.shape[-2]:
            return fused(query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa)
        products = query @ key.transpose(-2, -1) * (1 / math.sqrt(query.shape[-1]) if scale is None else scale)
        if attn_mask is not None:
            lowest = (
                torch.zeros_like(products).masked_fill(~attn_mask, -math.inf) if attn_mask.dtype == torch.bool else 0
            )
            products = products + (lowest if attn_mask.dtype == torch.bool else attn_mask)
        weights = products.softmax(-1)
        if weights.ndim == 4:
            attention.append(weights)
        return weights @ value

    fused = F.scaled_dot_product_attention
    F.scaled_dot_product_attention = attend
    try:
        yield
    finally:
        F.scaled_dot_product_attention = fused
