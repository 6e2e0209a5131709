"""Agreement of a map with planted truth: the positions that decide the class.

Every value is NaN where it is undefined: an empty mask, a mask of everything, a constant map.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from heatproof.metrics.cases import Case
from heatproof.metrics.catalogue import metric
from heatproof.metrics.similarity import average_ranks


def _pair(case: Case) -> tuple[Float[Tensor, "n p"], Bool[Tensor, "n p"], Bool[Tensor, " n"]]:
    """The flat map (float64), the flat mask, and where both have two values at least."""
    if case.mask is None:
        raise RuntimeError("a localisation metric was run without a mask")
    map, mask = case.map.flatten(1).double(), case.mask.flatten(1)
    defined = mask.any(1) & ~mask.all(1) & (map.amax(1) > map.amin(1))
    return map, mask, defined


def _where(defined: Bool[Tensor, " n"], value: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    return torch.where(defined, value, torch.nan)


@metric(
    "pointing-game",
    better="higher",
    family="localisation",
    needs=("mask",),
    range=(0, 1),
    paper="1608.00507",
    binary=True,
    unit="share of samples",
)
def pointing_game(case: Case) -> Tensor:
    """1 where the most relevant position lies in the mask, else 0; of several equal ones, the share that does.

    Deviates: no tolerance margin. NaN for an empty or full mask and a constant map.
    Tells: whether the most relevant position lies in the mask.
    Cannot: anything about the rest of the map.
    Mind: a sample has 0 or 1, so many samples are needed.
    """
    map, mask, defined = _pair(case)
    top = map == map.amax(1, keepdim=True)
    return _where(defined, (top & mask).sum(1) / top.sum(1))


@metric(
    "relevance-mass",
    better="higher",
    family="localisation",
    needs=("mask",),
    range=(0, 1),
    paper="2003.07258",
    unit="share of the relevance",
)
def relevance_mass(case: Case) -> Tensor:
    """The share of the positive relevance that lies in the mask (section 3.2).

    Deviates: negative relevance counts as none. NaN also where no relevance is positive.
    Uniform map: the mask's share of the positions.
    Tells: how much of the positive relevance lies in the mask.
    Cannot: whether the model uses the mask; the correct map of a model that relies on something else scores low.
    Mind: compare it with the mask's share of the positions, which a uniform map reaches.
    """
    map, mask, defined = _pair(case)
    mass = map.clamp_min(0)
    whole = mass.sum(1)
    return _where(defined & (whole > 0), (mass * mask).sum(1) / whole)


@metric(
    "energy-pointing-game",
    better="higher",
    family="localisation",
    needs=("mask",),
    range=(0, 1),
    paper="1910.01279",
    unit="share of the relevance",
)
def energy_pointing_game(case: Case) -> Tensor:
    """The share of the positive relevance that lies in the bounding box of the mask (section 4.3).

    NaN also where no relevance is positive.
    Tells: how much of the positive relevance lies in the bounding box of the mask.
    Cannot: anything where the box fills most of the input.
    Mind: compare it with the box's share of the positions, which a uniform map reaches.
    """
    map, _, defined = _pair(case)
    mass, box = map.clamp_min(0), bounding_box(case.mask).flatten(1)  # type: ignore[arg-type]
    whole = mass.sum(1)
    return _where(defined & (whole > 0), (mass * box).sum(1) / whole)


@metric(
    "relevance-rank",
    better="higher",
    family="localisation",
    needs=("mask",),
    range=(0, 1),
    paper="2003.07258",
    unit="share of the mask",
)
def relevance_rank(case: Case) -> Tensor:
    """The share of the mask covered by the K most relevant positions, K the size of the mask (section 3.2).

    Equal relevance is ordered by the sample's seed.
    Tells: how much of the mask is covered by as many of the most relevant positions as the mask has.
    Cannot: how large their relevance is.
    Mind: the scale of the map does not matter.
    """
    _, mask, defined = _pair(case)
    size = mask.sum(1, keepdim=True)
    return _where(defined, ((case.ranks.flatten(1) < size) & mask).sum(1) / size[:, 0])


@metric(
    "roc-auc",
    better="higher",
    family="localisation",
    needs=("mask",),
    range=(0, 1),
    label="ROC AUC",
    unit="probability",
)
def roc_auc(case: Case) -> Tensor:
    """The probability that a position in the mask has more relevance than one outside it, ties counting half.

    Random map: 0.5.
    Tells: how well the relevance separates the positions of the mask from all others.
    Cannot: how good the most relevant positions are, where the mask is small.
    Mind: 0.5 is chance.
    """
    map, mask, defined = _pair(case)
    inside, outside = mask.sum(1).double(), (~mask).sum(1).double()
    above = (average_ranks(map) * mask).sum(1) - inside * (inside + 1) / 2
    return _where(defined, above / (inside * outside))


@metric("average-precision", better="higher", family="localisation", needs=("mask",), range=(0, 1), unit="precision")
def average_precision(case: Case) -> Tensor:
    """The precision at the relevance of each position of the mask, averaged over them; ties are one threshold.

    Random map: about the mask's share of the positions.
    Tells: how well the relevance ranks the positions of the mask above all others, also for small masks.
    Cannot: whether the model uses the positions of the mask.
    Mind: prefer it to ROC AUC where the mask is a small share of the positions.
    """
    map, mask, defined = _pair(case)
    hits, count = _at_thresholds(map, mask)
    return _where(defined, (hits / count * mask).sum(1) / mask.sum(1))


@metric(
    "best-iou",
    better="higher",
    family="localisation",
    needs=("mask",),
    range=(0, 1),
    label="Best IoU",
    unit="intersection over union",
)
def best_iou(case: Case) -> Tensor:
    """The intersection over union of the mask and the map, cut at the threshold with the largest value.

    Uniform map: undefined; a threshold below everything gives the mask's share of the positions.
    Tells: how well the map, cut at the best threshold, outlines the mask.
    Cannot: how to choose that threshold; it is chosen with the mask.
    Mind: it is an upper limit of what segmentation by the map can reach.
    """
    map, mask, defined = _pair(case)
    hits, count = _at_thresholds(map, mask)
    return _where(defined, (hits / (count + mask.sum(1, keepdim=True) - hits)).amax(1))


@metric(
    "earth-movers-distance",
    better="lower",
    family="localisation",
    needs=("mask",),
    range=(0, 1),
    label="Earth mover's distance",
    unit="share of the axis",
)
def earth_movers_distance(case: Case) -> Tensor:
    """How far the positive relevance must travel to lie evenly on the mask, as a share of the axis.

    Deviates: in two and three dimensions the mean over the axes of the distance between the marginals, a lower bound.
    NaN also where no relevance is positive.
    Tells: how far the relevance lies from the mask; a near miss scores better than a far one.
    Cannot: how sharply the map marks the mask.
    Mind: each axis is measured on its own, so the value is a lower limit of the true distance.
    """
    _, mask, defined = _pair(case)
    mass, goal = case.map.double().clamp_min(0), mask.reshape(case.map.shape).double()
    defined = defined & (mass.flatten(1).sum(1) > 0)
    axes = range(1, case.map.ndim)
    far = []
    for axis in axes:
        others = [a for a in axes if a != axis]
        start, end = (_shares(m.sum(others) if others else m) for m in (mass, goal))
        far.append((start.cumsum(1) - end.cumsum(1)).abs().sum(1) / max(1, case.map.shape[axis] - 1))
    return _where(defined, torch.stack(far).mean(0))


def bounding_box(mask: Bool[Tensor, "n *s"]) -> Bool[Tensor, "n *s"]:
    """The smallest box around each mask."""
    box = torch.ones_like(mask)
    for axis in range(1, mask.ndim):
        line = mask.movedim(axis, -1).flatten(1, -2).any(1) if mask.ndim > 2 else mask
        inside = (line.int().cummax(1).values * line.int().flip(1).cummax(1).values.flip(1)).bool()
        box = box & inside.reshape(len(mask), *(-1 if a == axis else 1 for a in range(1, mask.ndim)))
    return box


def _shares(mass: Float[Tensor, "n k"]) -> Float[Tensor, "n k"]:
    return mass / mass.sum(1, keepdim=True).clamp_min(torch.finfo(mass.dtype).tiny)


def _at_thresholds(
    map: Float[Tensor, "n p"], mask: Bool[Tensor, "n p"]
) -> tuple[Float[Tensor, "n p"], Float[Tensor, "n p"]]:
    """With each position's own relevance as threshold: how many positions reach it in the mask, and in all."""
    rising, place = map.sort(dim=1)
    first = torch.searchsorted(rising, map, right=False)
    below = torch.nn.functional.pad(mask.gather(1, place).cumsum(1), (1, 0))
    hits = mask.sum(1, keepdim=True) - below.gather(1, first)
    return hits.double(), (map.shape[1] - first).double()
