"""The fills: what stands in for removed positions.

A fill is a background that removed positions are taken from (black, mean, blur, noise, donor), or an imputer that
computes the removed positions from those that are left (noisy-linear).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, TypeVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from heatproof import draws, spatial
from heatproof.errors import InputError, NotApplicable, UsageError
from heatproof.fills.imputation import diffused, interpolated
from heatproof.registry import Entry, Registry

Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class FillEntry(Entry):
    """A fill; what it needs is read off its parameters.

    Attributes:
        asks: any of ``x``, ``seeds``, ``pool``, ``removed`` and ``grain``, see `heatproof.fills.Canvas`.
    """

    @cached_property
    def asks(self) -> tuple[str, ...]:
        """The names of the positional parameters."""
        parameters = inspect.signature(self.function).parameters.values()
        return tuple(p.name for p in parameters if p.kind is not p.KEYWORD_ONLY)

    @property
    def imputes(self) -> bool:
        """Whether it works out the removed positions from those that are left."""
        return "removed" in self.asks

    @property
    def donors(self) -> bool:
        """Whether it draws from other samples."""
        return "pool" in self.asks


fills: Registry[FillEntry] = Registry("fill")
BACKGROUND = ("x", "seeds", "pool")
IMPUTER = ("x", "removed", "grain")


def fill(name: str, *, paper: str = "", label: str = "") -> Callable[[Function], Function]:
    """Registers a fill, a function of any of these positional parameters that gives inputs (n, C, *S).

    ``x``, the inputs; ``seeds``, one a sample; ``pool``, other samples or None: it gives the background that removed
    positions are taken from. One that takes ``removed``, the removed positions (n, *S), and ``grain``, standard normal
    draws, gives the inputs with these positions worked out.

    Raises: UsageError for a parameter of another name.
    """

    def register(function: Function) -> Function:
        entry = FillEntry(name, function, paper=paper, label=label)
        offered = IMPUTER if entry.imputes else BACKGROUND
        if unknown := [asked for asked in entry.asks if asked not in offered]:
            raise UsageError(f"fill {name!r} asks for {unknown[0]!r}, expected one of {', '.join(offered)}")
        fills.add(entry)
        return function

    return register


@fill("black")
def black(x: Float[Tensor, "n c *s"], *, value: float | Literal["min"] = 0.0) -> Float[Tensor, "n c *s"]:
    """One number everywhere, 0 by default; ``min`` is the smallest value of each sample and channel."""
    if value == "min":
        return spatial.like(x.flatten(2).amin(2), x).expand_as(x)
    return torch.full_like(x, float(value))


@fill("mean")
def mean(x: Float[Tensor, "n c *s"]) -> Float[Tensor, "n c *s"]:
    """The mean of each sample and channel."""
    return spatial.like(spatial.mean(x), x).expand_as(x)


@fill("blur")
def blur(x: Float[Tensor, "n c *s"], *, width: float = 0.05) -> Float[Tensor, "n c *s"]:
    """The sample smoothed by a Gaussian whose deviation is ``width`` of the longest axis."""
    return spatial.blur(x, width * max(x.shape[2:]))


@fill("noise")
def noise(x: Float[Tensor, "n c *s"], seeds: Int[Tensor, " n"]) -> Float[Tensor, "n c *s"]:
    """Normal noise with the mean and deviation of each sample and channel."""
    return torch.addcmul(mean(x), _deviation(x), draws.normal(seeds, x.shape[1:]).to(x))


@fill("donor")
def donor(x: Float[Tensor, "n c *s"], seeds: Int[Tensor, " n"], pool: Tensor | None) -> Float[Tensor, "n c *s"]:
    """Another sample of the same data, drawn by each sample's seed: removed positions stay in the distribution."""
    if pool is None or len(pool) < 2:
        raise NotApplicable("fill 'donor' needs other samples to draw from; pass them as fill=tensor (K, C, *S)")
    if pool.shape[1:] != x.shape[1:]:
        raise InputError(f"donors: got shape {tuple(pool.shape[1:])} a sample, expected {tuple(x.shape[1:])}")
    drawn = (draws.uniform(seeds, ()) * len(pool)).long()
    itself = (pool[drawn].to(x) == x).flatten(1).all(1)
    return pool[(drawn + itself.to(drawn)) % len(pool)].to(x)


@fill("noisy-linear", paper="2202.00449")
def noisy_linear(
    x: Float[Tensor, "m c *s"], removed: Bool[Tensor, "m *s"], grain: Float[Tensor, "m c *s"], *, noise: float = 0.01
) -> Float[Tensor, "m c *s"]:
    """Each removed position becomes the weighted mean of its neighbours, plus a little noise.

    ``grain`` are standard normal draws; ``noise`` is a share of the deviation of the sample's channel. Where nothing is
    left, the channel's mean.
    """
    none_left = removed.flatten(1).all(1).reshape(-1, *(1,) * (removed.ndim - 1))
    solved = interpolated(x, removed) if x.ndim == 3 else diffused(x, removed & ~none_left)
    solved = torch.where(none_left[:, None], mean(x), solved)
    return torch.where(removed[:, None], solved.addcmul(grain, noise * _deviation(x)), x)


def _deviation(x: Float[Tensor, "n c *s"]) -> Float[Tensor, "n c ..."]:
    return spatial.like(x.flatten(2).std(2, correction=0), x)
