"""The similarity of two maps, one number a sample; NaN where a map is constant."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from heatproof import spatial

Similarity = Literal["spearman", "pearson", "ssim"]


def average_ranks(values: Float[Tensor, "n p"]) -> Float[Tensor, "n p"]:
    """The rank of each value in its row, 1 the smallest, equal values sharing their mean rank, float64."""
    values = values.contiguous()
    rising = values.sort(dim=1).values
    low = torch.searchsorted(rising, values, right=False)
    return (low + torch.searchsorted(rising, values, right=True) + 1).double() / 2


def pearson(a: Float[Tensor, "n p"], b: Float[Tensor, "n p"]) -> Float[Tensor, " n"]:
    """The correlation of each pair of rows, in [-1, 1]; NaN where a row is constant."""
    flat = [m.double() - m.double().mean(1, keepdim=True) for m in (a, b)]
    spread = [m.square().sum(1).sqrt() for m in flat]
    varied = (a.amax(1) > a.amin(1)) & (b.amax(1) > b.amin(1)) & (spread[0] > 0) & (spread[1] > 0)
    correlation = ((flat[0] / spread[0][:, None]) * (flat[1] / spread[1][:, None])).sum(1).clamp(-1, 1)
    return torch.where(varied, correlation, torch.nan)


def spearman(a: Float[Tensor, "n p"], b: Float[Tensor, "n p"]) -> Float[Tensor, " n"]:
    """The correlation of the ranks of each pair of rows, ties averaged; NaN where a row is constant."""
    return pearson(average_ranks(a), average_ranks(b))


def ssim(a: Float[Tensor, "n *s"], b: Float[Tensor, "n *s"], sigma: float = 1.5) -> Float[Tensor, " n"]:
    """Structural similarity (Wang et al. 2004, equation 13) in a Gaussian window, each map first brought to [0, 1].

    NaN where a map is constant.
    """
    few = max(1, spatial.CACHED // max(1, a.shape[1:].numel()))
    return torch.cat([_ssim(*part, sigma) for part in zip(a.split(few), b.split(few), strict=True)])


def _ssim(a: Float[Tensor, "n *s"], b: Float[Tensor, "n *s"], sigma: float) -> Float[Tensor, " n"]:
    low = [m.double().flatten(1).aminmax(dim=1) for m in (a, b)]
    varied = torch.stack([m.max > m.min for m in low]).all(0)
    x, y = (
        (m.double() - spatial.like(r.min[:, None], m[:, None])[:, 0])
        / spatial.like((r.max - r.min)[:, None], m[:, None])[:, 0].clamp_min(torch.finfo(torch.float64).tiny)
        for m, r in zip((a, b), low, strict=True)
    )
    window = [spatial.gaussian(sigma, truncate=3.5)] * (a.ndim - 1)
    stack = torch.stack([x, y, x * x, y * y, x * y], dim=1)
    u, v, uu, vv, uv = spatial.separable(stack, window).unbind(1)
    c1, c2 = 0.01**2, 0.03**2
    local = ((2 * u * v + c1) * (2 * (uv - u * v) + c2)) / ((u * u + v * v + c1) * (uu - u * u + vv - v * v + c2))
    return torch.where(varied, local.flatten(1).mean(1), torch.nan)


def similarity(a: Float[Tensor, "n *s"], b: Float[Tensor, "n *s"], kind: Similarity) -> Float[Tensor, " n"]:
    """The similarity of the given kind; NaN where a map is constant."""
    if kind == "ssim":
        return ssim(a, b)
    return (spearman if kind == "spearman" else pearson)(a.flatten(1), b.flatten(1))
