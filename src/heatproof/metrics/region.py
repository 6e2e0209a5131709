"""Localisation without a mask: whether the relevance lies within a box that alone keeps enough of the score.

The box is searched with the model and without any map: positions outside it are removed slice by slice. All methods of
a sample are scored with the same box.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from heatproof.errors import UsageError
from heatproof.metrics.cases import Case
from heatproof.metrics.catalogue import metric
from heatproof.metrics.curves import fraction
from heatproof.metrics.localisation import pointing_game, relevance_mass, relevance_rank

PAPER = "1705.07857"


@metric(
    "region-pointing-game",
    better="higher",
    family="region",
    needs=("class",),
    range=(0, 1),
    paper=PAPER,
    binary=True,
    unit="share of samples",
)
def region_pointing_game(case: Case, *, enough: float = 0.5, steps: int = 8, fill: str | None = None) -> Tensor:
    """1 where the most relevant position lies in a box that alone keeps enough of the score, else 0.

    NaN where it is undefined: no such box, a box of everything, a constant map.
    Cost: two passes an axis and slice that is cut off, shared by all methods.
    Tells: whether the most relevant position lies in a box that alone keeps half of the score.
    Cannot: anything about the rest of the map; many methods share the first place.
    Mind: it is undefined where the fill alone keeps half of the score; use several fills.
    """
    return pointing_game(_boxed(case, enough, steps, fill))


@metric(
    "region-relevance-mass",
    better="higher",
    family="region",
    needs=("class",),
    range=(0, 1),
    paper=PAPER,
    unit="share of the relevance",
)
def region_relevance_mass(case: Case, *, enough: float = 0.5, steps: int = 8, fill: str | None = None) -> Tensor:
    """The share of the positive relevance in a box that alone keeps enough of the score.

    Uniform map: the box's share of the positions.
    Tells: how much of the positive relevance lies in a box that alone keeps half of the score.
    Cannot: which positions within the box matter; relevance on sufficient evidence outside the box counts against the
    map.
    Mind: a map with a constant offset scores low, however well it is ordered.
    """
    return relevance_mass(_boxed(case, enough, steps, fill))


@metric(
    "region-relevance-rank",
    better="higher",
    family="region",
    needs=("class",),
    range=(0, 1),
    paper=PAPER,
    unit="share of the box",
)
def region_relevance_rank(case: Case, *, enough: float = 0.5, steps: int = 8, fill: str | None = None) -> Tensor:
    """The share of a box that alone keeps enough of the score, covered by the K most relevant positions, K its size.

    For the box see sufficient_box. Random map: about the box's share of the positions.
    Tells: how much of a box that alone keeps half of the score is covered by the most relevant positions.
    Cannot: the shape of the evidence within the box: a ring, or two distant parts, come with what lies between them.
    Mind: maps that mark a few positions cover little of the box.
    """
    return relevance_rank(_boxed(case, enough, steps, fill))


def _boxed(case: Case, enough: float, steps: int, fill: str | None) -> Case:
    """The case with the box in place of a mask; everything computed for the map stays shared."""
    fraction("enough", enough)
    if steps < 2:
        raise UsageError(f"steps: got {steps}, expected at least 2 slices an axis")
    key = ("sufficient box", enough, steps, case.canvas(fill).fill)
    return replace(case, mask=case.shared(key, lambda: sufficient_box(case, enough=enough, steps=steps, fill=fill)))


def sufficient_box(case: Case, *, enough: float = 0.5, steps: int = 8, fill: str | None = None) -> Bool[Tensor, "n *s"]:
    """A small box that alone keeps at least ``enough`` of the score, the rest being filled.

    From the whole input, of all slices of an axis's 1/steps at either end the one is removed that leaves the highest
    score, as long as that is enough. The idea of the tightest sufficient crop (Dabkowski and Gal 2017, section 3),
    found greedily. Empty where the fill alone is enough, or the score is not positive.
    """
    size = case.map.shape[1:]
    low = torch.zeros(len(case.x), len(size), dtype=torch.int64, device=case.x.device)
    high = low + torch.tensor(size, device=low.device)
    least = enough * case.score
    definable = (case.score > 0) & (case.blank(fill) < least)
    going = definable.clone()
    while bool(going.any()):
        lows, highs = _cuts(low, high, [max(1, round(length / steps)) for length in size])
        left = case.without((~_inside(a, b, size) for a, b in zip(lows, highs, strict=True)), fill=fill)
        left = torch.where((highs > lows).all(2).T, left, -torch.inf)
        best, choice = left.max(1)
        going = going & (best >= least)
        rows = torch.arange(len(choice), device=choice.device)
        low = torch.where(going[:, None], lows[choice, rows], low)
        high = torch.where(going[:, None], highs[choice, rows], high)
    return _inside(low, high, size) & definable.reshape(-1, *(1,) * len(size))


def _cuts(
    low: Int[Tensor, "n r"], high: Int[Tensor, "n r"], widths: list[int]
) -> tuple[Int[Tensor, "k n r"], Int[Tensor, "k n r"]]:
    """The boxes less one slice: at the start and at the end of each axis."""
    steps = torch.diag(torch.tensor(widths, device=low.device))
    nothing = torch.zeros_like(steps)
    return low + torch.cat([steps, nothing])[:, None], high - torch.cat([nothing, steps])[:, None]


def _inside(low: Int[Tensor, "n r"], high: Int[Tensor, "n r"], size: torch.Size) -> Bool[Tensor, "n *s"]:
    inside = torch.ones(len(low), *size, dtype=torch.bool, device=low.device)
    for axis, length in enumerate(size):
        place = torch.arange(length, device=low.device)
        along = (place >= low[:, axis, None]) & (place < high[:, axis, None])
        inside &= along.reshape(len(low), *(length if a == axis else 1 for a in range(len(size))))
    return inside
