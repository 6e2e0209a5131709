"""Mosaics: a piece of one sample set into another, whose relevance should lie in the piece.

A piece is half of every axis, at a corner: so a map that always marks the middle of an input gains nothing. It stays
where it was. Donor and corner are drawn by the sample's seed; mosaics are made once for all methods.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from heatproof import draws
from heatproof.errors import InputError, NotApplicable, UsageError
from heatproof.metrics.cases import Case, take
from heatproof.metrics.catalogue import metric
from heatproof.probe import Goal


@metric(
    "mosaic-localisation",
    better="higher",
    family="localisation",
    needs=("class", "explain", "donors"),
    range=(-1, 1),
    paper="2104.00032",
    unit="share of the relevance above chance",
)
def mosaic_localisation(case: Case, *, rise: float = 0.5) -> Tensor:
    """The share of positive relevance inside a piece of the sample that was set into another sample, above chance.

    The mosaic is explained for the class of the sample; (v - a) / (1 - a) of the share v, a the piece's share of the
    positions: 1 all inside, 0 a uniform map or one without positive relevance.
    Deviates: one piece and one other sample in place of a grid of samples.
    NaN unless the piece closes at least ``rise`` * a of the gap between the two samples' margins for the class, and
    where all others are predicted alike. Cost: two or three passes a sample, shared, and one explanation.
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
    donors, logits = donors_of(case)
    corner = corners(case)
    rows = ((donors >= 0) & ~corner.flatten(1).all(1)).nonzero()[:, 0]
    piece, goal, x, before = corner[rows], case.goal.take(rows), case.x[rows], logits[rows]
    if not len(rows) or case.pool is None:
        return Mosaics(rows, x, piece)
    mosaic = torch.where(piece[:, None], x, case.pool[donors[rows].to(case.pool.device)].to(x))
    own = case.shared("logits", lambda: case.probe.logits(case.x))[rows]
    bottom, top, middle = (margins(goal, z) for z in (before, own, case.probe.logits(mosaic)))
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


def donors_of(case: Case) -> tuple[Int[Tensor, " n"], Float[Tensor, "n k"]]:
    """The place in the pool of another sample predicted otherwise than what is explained, -1 for none; its logits.

    The first such of the pool in an order drawn by the sample's seed. Only those that are asked for are classified.
    """
    pool, x = case.pool, case.x
    if pool is None or pool.shape[1:] != x.shape[1:]:
        shape = None if pool is None else tuple(pool.shape[1:])
        raise InputError(f"donors: got shape {shape} a sample, expected {tuple(x.shape[1:])}")
    width = case.shared("logits", lambda: case.probe.logits(x)).shape[1]
    logits = x.new_full((len(pool), width), torch.nan)
    donors = torch.full((len(x),), -1, device=x.device)
    for place in draws.permutation(case.seeds("mosaic donor"), len(pool)).unbind(1):
        rows = (donors < 0).nonzero()[:, 0]
        asked = place[rows].unique()
        new = asked[logits[asked, 0].isnan()]
        if len(new):
            logits[new] = case.probe.logits(pool[new.to(pool.device)].to(x)).to(logits)
        place = place[rows]
        other = (pool[place.to(pool.device)].to(x) != x[rows]).flatten(1).any(1)
        fit = other & ~predicts(case.goal.take(rows), logits[place])
        donors[rows[fit]] = place[fit]
        if not len(rows) or bool(fit.all()):
            break
    return donors, logits[donors.clamp_min(0)]


def predicts(goal: Goal, logits: Float[Tensor, "n k"]) -> Bool[Tensor, " n"]:
    """Whether the logits predict the class, or the label, that is explained."""
    if goal.task == "labels":
        return logits.gather(1, goal.classes[:, None])[:, 0] >= 0
    return logits.argmax(1) == goal.classes


def margins(goal: Goal, logits: Float[Tensor, "n k"]) -> Float[Tensor, " n"]:
    """The logit of the class less the largest other one; of a label its logit, of a contrast the difference."""
    if goal.task == "labels" or goal.against is not None or goal.mix is not None:
        return goal.score(logits, "logit").double()
    z, own = logits.double(), goal.classes[:, None]
    return z.gather(1, own)[:, 0] - z.scatter(1, own, -torch.inf).amax(1)
