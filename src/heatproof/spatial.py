"""The one module that knows how many positional axes there are: signals, images and volumes by the same code.

Tensors are (N, C, *S), maps are (N, *S); `*S` is one to three axes long.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from itertools import product
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from heatproof import draws
from heatproof.errors import InputError

CACHED = 2**17  # numbers that stay near the processor while they are gone over many times
MODES = {1: "linear", 2: "bilinear", 3: "trilinear"}
Ties = Literal["random", "first"]


def like(weights: Float[Tensor, "n ..."], other: Float[Tensor, "m ..."]) -> Float[Tensor, "n ..."]:
    """The weights with one trailing axis of length one a position axis of ``other``, ready to multiply it."""
    return weights.reshape(*weights.shape, *(1,) * (other.ndim - weights.ndim))


def positions(x: Tensor, lead: int = 2) -> tuple[int, ...]:
    """The axes after the first ``lead``, as a tuple for reductions."""
    return tuple(range(lead, x.ndim))


def mean(x: Float[Tensor, "n k *s"]) -> Float[Tensor, "n k"]:
    """The mean over positions."""
    return x.flatten(2).mean(2)


def total(x: Float[Tensor, "n k *s"]) -> Float[Tensor, "n k"]:
    """The sum over positions."""
    return x.flatten(2).sum(2)


def resize(maps: Float[Tensor, "n *s"], size: Sequence[int]) -> Float[Tensor, "n *t"]:
    """Maps brought to another size by (bi-, tri-)linear interpolation, align_corners=False.

    Raises: InputError for more than three position axes.
    """
    if tuple(maps.shape[1:]) == tuple(size):
        return maps
    rank = maps.ndim - 1
    if rank not in MODES or len(size) != rank:
        raise InputError(
            f"cannot resize a map of shape {tuple(maps.shape)} to {tuple(size)}; expected 1 to 3 axes each"
        )
    return F.interpolate(maps[:, None], size=tuple(size), mode=MODES[rank], align_corners=False)[:, 0]


def order(
    maps: Float[Tensor, "n *s"], *, ties: Ties = "random", seeds: Int[Tensor, " n"] | None = None
) -> Int[Tensor, "n p"]:
    """Flat positions from the most to the least relevant, each exactly once.

    Equal values are put in random order by the sample's own seed, or kept in reading order with ``ties="first"``.
    """
    flat = maps.flatten(1)
    if ties == "first":
        return flat.argsort(dim=1, descending=True, stable=True)
    if seeds is None:
        seeds = draws.seeds(0, "ties", torch.arange(len(flat), device=flat.device))
    shuffle = draws.permutation(seeds.to(flat.device), flat.shape[1])
    best = flat.gather(1, shuffle).argsort(dim=1, descending=True, stable=True)
    return shuffle.gather(1, best)


def ranks(
    maps: Float[Tensor, "n *s"], *, ties: Ties = "random", seeds: Int[Tensor, " n"] | None = None
) -> Int[Tensor, "n *s"]:
    """The rank of each position, 0 the most relevant; see `order`."""
    places = order(maps, ties=ties, seeds=seeds)
    counts = torch.arange(places.shape[1], device=places.device).expand_as(places)
    return torch.empty_like(places).scatter_(1, places, counts).reshape(maps.shape)


def gaussian(sigma: float, *, truncate: float = 4.0) -> Float[Tensor, " w"]:
    """A normalised Gaussian window, float64, reaching ``truncate`` standard deviations."""
    radius = max(1, int(truncate * sigma + 0.5))
    grid = torch.arange(-radius, radius + 1, dtype=torch.float64)
    window = torch.exp(-0.5 * (grid / sigma) ** 2)
    return window / window.sum()


def blur(x: Float[Tensor, "n c *s"], sigma: float) -> Float[Tensor, "n c *s"]:
    """The input smoothed by a Gaussian along every position axis, edges replicated.

    Raises: InputError where sigma is not positive.
    """
    if not sigma > 0:
        raise InputError(f"blur: got sigma {sigma}, expected a positive number of positions")
    window = gaussian(sigma).to(x)
    return separable(x, [window] * (x.ndim - 2))


def diffuse(x: Float[Tensor, "n c *s"], sigmas: Float[Tensor, " n"]) -> Float[Tensor, "n c *s"]:
    """Each sample smoothed by a Gaussian of its own deviation along every position axis, edges mirrored.

    The Gaussian is not cut off: with a growing deviation each channel becomes its mean, and 0 changes nothing.
    """
    smooth = x if x.dtype in (torch.float32, torch.float64) else x.float()
    for axis in positions(x):
        length = x.shape[axis]
        waves = torch.arange(length + 1, dtype=smooth.dtype, device=x.device) * (math.pi / length)
        gain = torch.exp(-0.5 * (sigmas.to(smooth)[:, None] * waves).square())
        gain = gain.reshape(len(x), *(length + 1 if a == axis else 1 for a in range(1, x.ndim)))
        spectrum = torch.fft.rfft(torch.cat([smooth, smooth.flip(axis)], axis), dim=axis)
        smooth = torch.fft.irfft(spectrum * gain, n=2 * length, dim=axis).narrow(axis, 0, length)
    return smooth.to(x)


def separable(
    x: Float[Tensor, "n c *s"], windows: Sequence[Tensor], *, edges: Literal["replicate", "zero"] = "replicate"
) -> Float[Tensor, "n c *s"]:
    """One odd window correlated along each position axis in turn, edges replicated or taken as zero."""
    planes = x.flatten(0, 1)
    few = max(1, CACHED // max(1, x.shape[2:].numel()))  # each tap reads what the one before left in the cache
    return torch.cat([_correlated(part, windows, edges) for part in planes.split(few)]).reshape(x.shape)


def _correlated(x: Float[Tensor, "p *s"], windows: Sequence[Tensor], edges: str) -> Float[Tensor, "p *s"]:
    for axis, window in enumerate(windows, start=1):
        taps, length, radius = window.to(x), x.shape[axis], len(window) // 2
        shape = [*x.shape[:axis], radius, *x.shape[axis + 1 :]]
        ends = (x.narrow(axis, at, 1) if edges == "replicate" else x.new_zeros(()) for at in (0, length - 1))
        before, behind = (end.expand(shape) for end in ends)
        wide = torch.cat([before, x, behind], dim=axis)
        x = wide.narrow(axis, 0, length) * taps[0]
        for at, tap in enumerate(taps[1:], start=1):
            x.addcmul_(wide.narrow(axis, at, length), tap)
    return x


def edges(x: Float[Tensor, "n c *s"]) -> Float[Tensor, "n *s"]:
    """Gradient magnitude by the Sobel operator (at any rank), root of the sum of squares over axes and channels."""
    slope, smooth = torch.tensor([-0.5, 0.0, 0.5]), torch.tensor([0.25, 0.5, 0.25])
    axes = range(x.ndim - 2)
    steep = (separable(x, [slope if other == axis else smooth for other in axes]).square_().sum(1) for axis in axes)
    return functools.reduce(torch.add, steep).sqrt()


def centre(size: Sequence[int], *, width: float = 0.25) -> Float[Tensor, "*s"]:
    """A Gaussian blob in the middle; its standard deviation is ``width`` of each axis."""
    blob = torch.ones(tuple(size), dtype=torch.float64)
    for axis, length in enumerate(size):
        grid = (torch.arange(length, dtype=torch.float64) - (length - 1) / 2) / max(width * length, 1e-12)
        shape = [1] * len(size)
        shape[axis] = length
        blob = blob * torch.exp(-0.5 * grid**2).reshape(shape)
    return blob


def neighbours(rank: int) -> list[tuple[tuple[int, ...], float]]:
    """Offsets to the touching positions (2, 8 or 26) with weights that fall with their squared distance."""
    offsets = [o for o in product((-1, 0, 1), repeat=rank) if any(o)]
    raw = [1.0 / sum(map(abs, o)) for o in offsets]
    return [(o, w / sum(raw)) for o, w in zip(offsets, raw, strict=True)]


def flat(mask: Bool[Tensor, "n *s"]) -> Bool[Tensor, "n p"]:
    """The mask with its positions in one axis."""
    return mask.reshape(len(mask), math.prod(mask.shape[1:]))


def project(A: Float[Tensor, "n k *s"], *, centred: bool = False) -> Float[Tensor, "n *s"]:
    """The rows (one a position) times their first right singular vector, by the smaller of the two Gram matrices."""
    rows = A.flatten(2).movedim(1, 2).double()
    sums = rows.sum(2)
    if centred:
        rows = rows - rows.mean(1, keepdim=True)
    if rows.shape[1] <= rows.shape[2]:
        values, vectors = torch.linalg.eigh(rows @ rows.movedim(1, 2))
        maps = vectors[..., -1] * values[:, -1:].clamp_min(0).sqrt()
    else:
        _, vectors = torch.linalg.eigh(rows.movedim(1, 2) @ rows)
        maps = (rows @ vectors[..., -1:])[..., 0]
    return turn(maps, sums).to(A).reshape(len(A), *A.shape[2:])


def turn(maps: Float[Tensor, "n p"], sums: Float[Tensor, "n p"]) -> Float[Tensor, "n p"]:
    """The maps with the sign that makes them grow with ``sums``."""
    agreement = (maps * (sums - sums.mean(1, keepdim=True))).sum(1, keepdim=True)
    agreement = torch.where(
        agreement.abs() > 1e-12 * sums.abs().amax(1, keepdim=True), agreement, maps.sum(1, keepdim=True)
    )
    return torch.where(agreement < 0, -maps, maps)
