"""What stands in for removed positions.

A fill is a background that removed positions are taken from (black, mean, blur, noise, donor), or an imputer that works
out the removed positions from those that are left (noisy-linear).
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from heatproof import draws, spatial
from heatproof.errors import InputError, NotApplicable
from heatproof.fills.imputation import diffused, interpolated
from heatproof.registry import Registry

fills = Registry("fill")


@fills.add("black", imputes=False)
def black(x: Float[Tensor, "n c *s"], *, value: float | Literal["min"] = 0.0) -> Float[Tensor, "n c *s"]:
    """One number everywhere, 0 unless given; ``min`` is the least value of each sample and channel."""
    if value == "min":
        return spatial.like(x.flatten(2).amin(2), x).expand_as(x)
    return torch.full_like(x, float(value))


@fills.add("mean", imputes=False)
def mean(x: Float[Tensor, "n c *s"]) -> Float[Tensor, "n c *s"]:
    """The mean of each sample and channel."""
    return spatial.like(spatial.mean(x), x).expand_as(x)


@fills.add("blur", imputes=False)
def blur(x: Float[Tensor, "n c *s"], *, width: float = 0.05) -> Float[Tensor, "n c *s"]:
    """The sample smoothed by a Gaussian whose deviation is ``width`` of the longest axis."""
    return spatial.blur(x, width * max(x.shape[2:]))


@fills.add("noise", imputes=False)
def noise(x: Float[Tensor, "n c *s"], seeds: Int[Tensor, " n"]) -> Float[Tensor, "n c *s"]:
    """Normal noise with the mean and deviation of each sample and channel."""
    return torch.addcmul(mean(x), _deviation(x), draws.normal(seeds, x.shape[1:]).to(x))


@fills.add("donor", imputes=False)
def donor(x: Float[Tensor, "n c *s"], seeds: Int[Tensor, " n"], pool: Tensor | None) -> Float[Tensor, "n c *s"]:
    """Another sample of the same data, drawn by each sample's seed: removed positions stay in the distribution."""
    if pool is None or len(pool) < 2:
        raise NotApplicable("fill 'donor' needs other samples to draw from; pass them as fill=tensor (K, C, *S)")
    if pool.shape[1:] != x.shape[1:]:
        raise InputError(f"donors: got shape {tuple(pool.shape[1:])} a sample, expected {tuple(x.shape[1:])}")
    drawn = (draws.uniform(seeds, ()) * len(pool)).long()
    itself = (pool[drawn].to(x) == x).flatten(1).all(1)
    return pool[(drawn + itself.to(drawn)) % len(pool)].to(x)


@fills.add("noisy-linear", paper="2202.00449", imputes=True)
def noisy_linear(
    x: Float[Tensor, "m c *s"], removed: Bool[Tensor, "m *s"], grain: Float[Tensor, "m c *s"], *, noise: float = 0.01
) -> Float[Tensor, "m c *s"]:
    """Each removed position the weighted mean of its neighbours, solved for all at once, plus a little noise.

    ``grain`` are standard normal draws; ``noise`` is a share of the deviation of the sample's channel. Where nothing is
    left, the channel's mean.
    """
    none_left = removed.flatten(1).all(1).reshape(-1, *(1,) * (removed.ndim - 1))
    solved = interpolated(x, removed) if x.ndim == 3 else diffused(x, removed & ~none_left)
    solved = torch.where(none_left[:, None], mean(x), solved)
    return torch.where(removed[:, None], solved.addcmul(grain, noise * _deviation(x)), x)


def _deviation(x: Float[Tensor, "n c *s"]) -> Float[Tensor, "n c ..."]:
    return spatial.like(x.flatten(2).std(2, correction=0), x)
