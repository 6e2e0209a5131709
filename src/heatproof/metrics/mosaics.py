"""Mosaics: a piece of one sample set into another, whose relevance should lie in the piece.

A piece is half of every axis, at a corner: so a map that always marks the middle of an input gains nothing. It stays
where it was. The other sample is the first donor of the evidence; mosaics are made once for all methods.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from heatproof import draws
from heatproof.errors import NotApplicable, UsageError
from heatproof.metrics.cases import Case, take
from heatproof.metrics.catalogue import metric


@metric(
    "mosaic-localisation",
    better="higher",
    family="localisation",
    needs=("class", "explain", "evidence"),
    range=(-1, 1),
    paper="2104.00032",
    unit="share of the relevance above chance",
)
def mosaic_localisation(case: Case, *, rise: float = 0.5) -> Tensor:
    """The share of positive relevance inside a piece of the sample that was set into another sample, above chance.

    The mosaic is explained for the class of the sample; (v - a) / (1 - a) of the share v, a the piece's share of the
    positions: 1 all inside, 0 a uniform map or one without positive relevance.
    Deviates: one piece and one other sample in place of a grid of samples.
    NaN unless the piece closes at least ``rise`` * a of the gap between the two samples' margins for the class.
    Cost: three passes a sample, shared, and one explanation.
    Tells: whether the map of a class points at the part of the input that brought the class in.
    Cannot: where within the piece the evidence lies.
    Mind: the other sample may hold evidence for the class too, and the edges of the piece are unlike the data.
    """
    if not rise > 0:
        raise UsageError(f"rise: got {rise}, expected a number above 0")
    mosaics = case.shared(("mosaics", rise), lambda: mosaics_of(case, rise))
    values = torch.full((len(case.x),), torch.nan, dtype=torch.float64, device=case.x.device)
    if len(mosaics.rows):
        map = take(case, mosaics.rows).again(mosaics.x).double().clamp_min(0).flatten(1)
        piece = mosaics.piece.flatten(1)
        chance, whole = piece.double().mean(1), map.sum(1)
        inside = torch.where(whole > 0, (map * piece).sum(1) / whole, chance)
        values[mosaics.rows] = (inside - chance) / (1 - chance)
    return values


@dataclass(frozen=True, eq=False)
class Mosaics:
    """Mosaics of those samples whose piece brings their class in.

    Attributes:
        rows: the places of these samples. x: the mosaics. piece: which positions are the sample's.
    """

    rows: Int[Tensor, " m"]
    x: Float[Tensor, "m c *s"]
    piece: Bool[Tensor, "m *s"]


def mosaics_of(case: Case, rise: float) -> Mosaics:
    """The mosaics in which the piece closes the gap in margin between donor and sample by more than a bit.

    By at least ``rise`` times the piece's share of the positions, which evidence that is everywhere alike would close.

    Raises: NotApplicable for a function of the output, which has no margin.
    """
    if case.goal.function is not None:
        raise NotApplicable("mosaic-localisation: a function of the output is explained, which has no margin")
    if case.donors is None:
        raise RuntimeError("mosaics were asked for without donors")
    donors, corner = case.donors[:, 0].to(case.x), corners(case)
    rows = (torch.isfinite(donors).flatten(1).all(1) & ~corner.flatten(1).all(1)).nonzero()[:, 0]
    piece, goal, x, donors = corner[rows], case.goal.take(rows), case.x[rows], donors[rows]
    mosaic = torch.where(piece[:, None], x, donors)
    if not len(rows):
        return Mosaics(rows, mosaic, piece)
    own = case.shared("logits", lambda: case.probe.logits(case.x))[rows]
    logits = (case.probe.logits(donors), own, case.probe.logits(mosaic))
    bottom, top, middle = (goal.score(z, "margin").double() for z in logits)
    least = rise * piece.flatten(1).double().mean(1)
    raised = (top > bottom) & (middle - bottom >= least * (top - bottom))
    return Mosaics(rows[raised], mosaic[raised], piece[raised])


def corners(case: Case) -> Bool[Tensor, "n *s"]:
    """For each sample half of every axis, at a corner drawn by its seed."""
    size = case.x.shape[2:]
    last = draws.uniform(case.seeds("mosaic corner"), (len(size),)) < 0.5
    piece = torch.ones(len(case.x), *size, dtype=torch.bool, device=case.x.device)
    for axis, length in enumerate(size):
        place, half = torch.arange(length, device=case.x.device), max(1, length // 2)
        along = torch.where(last[:, axis, None], place >= length - half, place < half)
        piece &= along.reshape(len(case.x), *(length if a == axis else 1 for a in range(len(size))))
    return piece
