"""What stands in for removed positions, and the scores of inputs with positions removed.

A fill is a background that removed positions are taken from (black, mean, blur, noise, donor), or an imputer that works
out the removed positions from those that are left (noisy-linear). Positions are the features: all channels of a
position are removed together.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from heatproof import draws, spatial
from heatproof.errors import InputError, NotApplicable
from heatproof.probe import Goal, Probe
from heatproof.registry import Registry, Spec

fills = Registry("fill")
SMALL = 1000  # positions of a grid on which one call costs more than its sums
NEAR = 2**19  # numbers that are worked on at once on the CPU
_CONVOLUTIONS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


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
    solved = _interpolated(x, removed) if x.ndim == 3 else _diffused(x, removed & ~none_left)
    solved = torch.where(none_left[:, None], mean(x), solved)
    return torch.where(removed[:, None], solved.addcmul(grain, noise * _deviation(x)), x)


def _deviation(x: Float[Tensor, "n c *s"]) -> Float[Tensor, "n c ..."]:
    return spatial.like(x.flatten(2).std(2, correction=0), x)


def _interpolated(x: Float[Tensor, "m c p"], removed: Bool[Tensor, "m p"]) -> Float[Tensor, "m c p"]:
    """The solution of the linear system in one dimension: straight lines between the positions that are left."""
    last = x.shape[2] - 1
    place = torch.arange(last + 1, device=x.device).expand(len(x), -1)
    left = torch.where(removed, -1, place).cummax(1).values
    right = torch.where(removed, last + 1, place).flip(1).cummin(1).values.flip(1)
    left, right = torch.where(left < 0, right, left), torch.where(right > last, left, right)
    left, right = left.clamp(0, last), right.clamp(0, last)
    share = ((place - left) / (right - left).clamp_min(1)).to(x)[:, None]
    start, end = (x.gather(2, side[:, None].expand_as(x)) for side in (left, right))
    return start + (end - start) * share


def _diffused(x: Float[Tensor, "m c *s"], removed: Bool[Tensor, "m *s"]) -> Float[Tensor, "m c *s"]:
    """The solution of the linear system on a grid; a few large samples at a time, no further than their holes reach.

    What is left of the error is 0.004 of the sample's deviation where one hole is a tenth of it, 0.013 at a half and
    0.024 at nine tenths (root mean square; two images).
    """
    step = max(1, NEAR // x[0].numel()) if x.device.type == "cpu" else len(x)
    out = x.clone()
    for start in range(0, len(x), step):
        rows = slice(start, start + step)
        place = (rows, slice(None), *_reach(removed[rows]))
        free = removed[place[:1] + place[2:]][:, None]
        out[place] = torch.where(free, _solved(x[place], free.to(x)), x[place])
    return out


def _reach(removed: Bool[Tensor, "m *s"]) -> list[slice]:
    """The box of the positions removed in any of the samples, and of their neighbours."""
    found = []
    for axis in range(1, removed.ndim):
        lines = removed.movedim(axis, 0).flatten(1).any(1).nonzero()[:, 0].tolist() or [0]
        found.append(slice(max(0, lines[0] - 1), lines[-1] + 2))
    return found


def _solved(x: Float[Tensor, "m c *s"], free: Float[Tensor, "m 1 *s"]) -> Float[Tensor, "m c *s"]:
    """The free positions; the first guess is the solution on a grid four times as coarse, on a small one the mean."""
    held, size = 1 - free, x.shape[2:]
    if max(size) <= 16:
        known = held.flatten(2).sum(2).clamp_min(1)
        return _refined(x, free, spatial.like(spatial.total(x * held) / known, x) * free)
    count, total = _pooled(_pooled(held)), _pooled(_pooled(x * held))
    empty, middle = (count == 0).to(x), total / count.clamp_min(1)
    coarse = torch.where(empty > 0, _solved(middle, empty), middle)
    guess = F.interpolate(coarse, scale_factor=4.0, mode=spatial.MODES[len(size)], align_corners=False)
    return _refined(x, free, _corner(guess, size) * free)


def _corner(x: Float[Tensor, "n c *t"], size: Sequence[int]) -> Float[Tensor, "n c *s"]:
    """What lies within the size from the origin: a coarse grid made fine again may reach beyond."""
    for axis, length in enumerate(size, start=2):
        x = x.narrow(axis, 0, length)
    return x


def _refined(
    x: Float[Tensor, "m c *s"],
    free: Float[Tensor, "m 1 *s"],
    guess: Float[Tensor, "m c *s"],
    tolerance: float = 3e-3,
    steps: int = 1000,
) -> Float[Tensor, "m c *s"]:
    """The guess brought to the solution by conjugate gradients; a row that is done is left alone.

    Preconditioned by all coarser grids at once (Bramble, Pasciak and Xu 1990), so that large holes need few steps.
    """
    held = 1 - free
    degree = _around(torch.ones_like(x[:1, :1]))
    inverse, coarse, degree = free / degree, _coarser(free, _around(held) * free), degree * free
    right = _around(x * held).mul_(free)
    residual = right - (degree * guess).sub_(_around(guess).mul_(free))
    scaled = _preconditioned(residual, inverse, coarse).mul_(free)
    direction, size = scaled, _dot(residual, scaled)
    goal = (tolerance**2 * _dot(right, right * inverse)).clamp_min(torch.finfo(x.dtype).tiny)
    for _ in range(steps):
        active = size > goal
        if not bool(active.any()):
            break
        pushed = (degree * direction).sub_(_around(direction).mul_(free))
        length = torch.where(active, size / _dot(direction, pushed).clamp_min(1e-30), 0)
        guess.addcmul_(length, direction)
        residual.addcmul_(-length, pushed)
        scaled = _preconditioned(residual, inverse, coarse).mul_(free)
        fresh = torch.where(active, _dot(residual, scaled), size)
        direction = torch.addcmul(scaled, torch.where(active, fresh / size.clamp_min(1e-30), 0), direction)
        size = fresh
    return guess


def _dot(a: Float[Tensor, "m c *s"], b: Float[Tensor, "m c *s"]) -> Float[Tensor, "m c ..."]:
    return spatial.like((a * b).flatten(2).sum(2), a)


def _around(x: Float[Tensor, "m c *s"]) -> Float[Tensor, "m c *s"]:
    """The weighted sum of each position's neighbours."""
    rank = x.ndim - 2
    if rank == 2:  # here the weights are a product of (1/2, 1, 1/2) with itself, less its middle
        rows = _smeared(x, 3)
        return (_smeared(rows, 2) - x) / 3
    kernel = torch.zeros((3,) * rank, dtype=x.dtype, device=x.device)
    for offset, weight in spatial.neighbours(rank):
        kernel[tuple(1 + o for o in offset)] = weight
    flat = x.reshape(-1, 1, *x.shape[2:])
    return _CONVOLUTIONS[rank](flat, kernel[None, None], padding=1).reshape(x.shape)


def _smeared(x: Tensor, axis: int) -> Tensor:
    out, last = x.clone(), x.shape[axis] - 1
    out.narrow(axis, 1, last).add_(x.narrow(axis, 0, last), alpha=0.5)
    out.narrow(axis, 0, last).add_(x.narrow(axis, 1, last), alpha=0.5)
    return out


def _coarser(free: Float[Tensor, "m 1 *s"], held: Float[Tensor, "m 1 *s"]) -> list[Tensor]:
    """The inverse diagonal of the system on each coarser grid; ``held`` is the weight of each position's known ones."""
    found, width = [], 1
    while max(free.shape[2:]) > 2:
        free, held, width = _pooled(free), _pooled(held), 2 * width
        found.append(torch.where(free > 0, 1 / (0.6 * free / width + held).clamp_min(1e-6), 0))
    return found


def _pooled(x: Float[Tensor, "m c *s"]) -> Tensor:
    """The sum over boxes of two positions an axis."""
    if x.ndim == 4 and x[0, 0].numel() <= SMALL:
        return F.avg_pool2d(x, 2, ceil_mode=True, divisor_override=1)
    for axis in range(2, x.ndim):
        pairs, odd = divmod(x.shape[axis], 2)
        both = x.narrow(axis, 0, 2 * pairs).unflatten(axis, (pairs, 2))
        total = both.select(axis + 1, 0) + both.select(axis + 1, 1)
        x = torch.cat([total, x.narrow(axis, 2 * pairs, 1)], dim=axis) if odd else total
    return x


def _preconditioned(residual: Tensor, inverse: Tensor, coarse: list[Tensor]) -> Tensor:
    parts, pooled = [residual * inverse], residual
    for diagonal in coarse:
        pooled = _pooled(pooled)
        parts.append(pooled * diagonal)
    total = parts.pop()
    while parts:
        finer = parts.pop()
        spread = F.interpolate(total, scale_factor=2.0, mode="nearest")
        total = finer.add_(_corner(spread, finer.shape[2:]))
    return total


@dataclass(frozen=True, eq=False)
class Canvas:
    """Inputs of which positions can be removed, with one fill.

    Attributes:
        x: the inputs (N, C, *S). fill: the checked spec of the fill. seeds: a seed a sample.
        pool: samples that donors are drawn from.
    """

    x: Float[Tensor, "n c *s"]
    fill: Spec = field(default_factory=lambda: Spec("mean"))
    seeds: Int[Tensor, " n"] | None = None
    pool: Tensor | None = None

    @cached_property
    def blank(self) -> Float[Tensor, "n c *s"]:
        """The inputs with every position removed."""
        entry = fills[self.fill.name]
        if entry.imputes:
            everywhere = torch.ones_like(self.x[:, 0], dtype=torch.bool)
            return self._call(x=self.x, removed=everywhere, grain=self._grain)
        return self._call(x=self.x, seeds=self._seeds, pool=self.pool)

    def without(self, removed: Bool[Tensor, "g n *s"]) -> Float[Tensor, "g*n c *s"]:
        """Each input with each of ``g`` sets of its positions removed; all inputs with the first set come first."""
        if not fills[self.fill.name].imputes:
            return torch.where(removed[:, :, None], self.blank, self.x).flatten(0, 1)
        rows = torch.arange(len(self.x), device=self.x.device).repeat(len(removed))
        return self._call(x=self.x[rows], removed=removed.flatten(0, 1), grain=self._grain[rows])

    def faded(self, share: Float[Tensor, "n *s"]) -> Float[Tensor, "n c *s"]:
        """Each input kept to the given share in [0, 1] at each position, the rest from the fill.

        Raises: NotApplicable for a fill that imputes.
        """
        if fills[self.fill.name].imputes:
            raise NotApplicable(f"fill {self.fill} cannot fade positions; choose black, mean, blur, noise or donor")
        return self.blank + share[:, None].to(self.x) * (self.x - self.blank)

    @cached_property
    def _seeds(self) -> Int[Tensor, " n"]:
        own = torch.arange(len(self.x)) if self.seeds is None else self.seeds
        return draws.seeds(0, str(self.fill), own.to(self.x.device))

    @cached_property
    def _grain(self) -> Float[Tensor, "n c *s"]:
        """Drawn once: every removal has the same grain."""
        return draws.normal(self._seeds, self.x.shape[1:]).to(self.x)

    def _call(self, **given: Any) -> Tensor:
        function = fills[self.fill.name].function
        asks = [p.name for p in inspect.signature(function).parameters.values() if p.kind is not p.KEYWORD_ONLY]
        found: Tensor = function(*(given[name] for name in asks), **self.fill.kwargs)
        return found


def scores(probe: Probe, canvas: Canvas, goal: Goal, removals: Iterable[Bool[Tensor, "n *s"]]) -> Float[Tensor, "n r"]:
    """The score of each input after each removal; removals are drawn lazily and put into full batches.

    Cost: one pass a removal.
    """
    n, waiting = len(canvas.x), iter(removals)
    step = max(1, probe.rows(canvas.x) // n)

    def parts() -> Iterator[tuple[Tensor, Goal]]:
        while group := list(islice(waiting, step)):
            rows = torch.arange(n, device=goal.classes.device).repeat(len(group))
            yield canvas.without(torch.stack(group)), goal if len(group) == 1 else goal.take(rows)

    found = [part.reshape(-1, n) for part in probe.stream(parts())]
    return torch.cat(found).T if found else canvas.x.new_zeros(n, 0)


def removals(
    ranks: Int[Tensor, "n *s"], counts: Iterable[int], *, first: Literal["most", "least"] = "most"
) -> Iterator[Bool[Tensor, "n *s"]]:
    """The positions removed when exactly ``count`` of the most (or least) relevant are, for each count."""
    total = ranks[0].numel()
    return (ranks < count if first == "most" else ranks >= total - count for count in counts)


def counts(total: int, steps: int) -> list[int]:
    """How many of ``total`` positions are removed at each of ``steps`` even steps, from none to all, without repeats.

    >>> counts(5, 2)
    [0, 2, 5]
    """
    if steps < 1:
        raise InputError(f"steps: got {steps}, expected at least 1")
    return sorted({round(total * step / steps) for step in range(steps + 1)})


def curve(
    probe: Probe,
    canvas: Canvas,
    goal: Goal,
    ranks: Int[Tensor, "n *s"],
    *,
    steps: int = 20,
    first: Literal["most", "least"] = "most",
) -> tuple[Float[Tensor, " p"], Float[Tensor, "n p"]]:
    """The removed fractions, from 0 to 1, and the score of each input at each.

    Cost: one pass a step, and one.
    """
    total = ranks[0].numel()
    removed = counts(total, steps)
    values = scores(probe, canvas, goal, removals(ranks, removed, first=first))
    return torch.tensor(removed, dtype=torch.float64) / total, values
