"""Faithfulness by removing positions in the order of relevance: read off two curves, most and least relevant first.

Exactly k positions are removed at a time; equal relevance is ordered at random by the sample's seed. All of these share
the passes of the two curves. ``fill`` says what removed positions become; None is the fill of the case.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from heatproof import spatial
from heatproof.errors import UsageError
from heatproof.fills import even_counts, removals
from heatproof.metrics.engine import Case, Curve, metric
from heatproof.segments import boxes
from heatproof.segments import segments as slic

Ties = Literal["random", "drop"]


@metric("deletion", better="lower", family="faithfulness", range=(0, 1), paper="1806.07421", curve=True)
def deletion(case: Case, *, steps: int = 20, fill: str | None = None) -> Curve:
    """The area under the score while the most relevant positions are removed, over the removed fraction (section 4.1).

    Range: that of the score; for logits unbounded.
    Cost: one pass a step, shared.
    """
    return case.removal_curve(first="most", steps=steps, fill=fill)


@metric("insertion", better="higher", family="faithfulness", range=(0, 1), paper="1806.07421", curve=True)
def insertion(case: Case, *, steps: int = 20, fill: str | None = None) -> Curve:
    """The area under the score while the most relevant positions are put back into the empty fill (section 4.1).

    Range: that of the score; for logits unbounded.
    Cost: one pass a step, shared: it is the curve of least relevant first, read backwards.
    """
    backwards = case.removal_curve(first="least", steps=steps, fill=fill)
    return Curve(1 - backwards.at.flip(0), backwards.values.flip(1))


@metric(
    "insertion-minus-deletion", better="higher", family="faithfulness", range=(-1, 1), paper="1806.07421", curve=True
)
def insertion_minus_deletion(
    case: Case, *, steps: int = 20, fill: str | None = None, start: str | None = None
) -> Curve:
    """Insertion less deletion. With ``start`` insertion starts from a fill of its own, ``blur`` in the paper.

    Range: -1 to 1 for probabilities. Without ``start`` it equals the MoRF/LeRF gap.
    """
    put_back = insertion(case, steps=steps, fill=start or fill)
    return Curve(put_back.at, put_back.values - deletion(case, steps=steps, fill=fill).values)


@metric("morf-lerf-gap", better="higher", family="faithfulness", range=(-1, 1), paper="2401.06654", curve=True)
def morf_lerf_gap(case: Case, *, steps: int = 20, fill: str | None = None) -> Curve:
    """The area between the curves of least and of most relevant first: the symmetric relevance gain (section 3.3).

    Range: -1 to 1 for probabilities; 0 expected for a random order.
    """
    least = case.removal_curve(first="least", steps=steps, fill=fill)
    return Curve(least.at, least.values - case.removal_curve(first="most", steps=steps, fill=fill).values)


@metric("aopc", better="higher", family="faithfulness", range=(-1, 1), paper="1509.06321", curve=True)
def aopc(case: Case, *, steps: int = 20, until: float = 1.0, fill: str | None = None) -> Curve:
    """The mean drop of the score while the most relevant positions are removed, up to the fraction ``until`` (eq. 12).

    Deviates: the mean over the removed fraction, not over a count of steps.
    Range: -1 to 1 for probabilities.
    """
    fraction("until", until)
    whole = case.removal_curve(first="most", steps=steps, fill=fill)
    kept = whole.at <= until + 1e-9
    return Curve(whole.at[kept] / whole.at[kept].amax().clamp_min(1e-12), case.score[:, None] - whole.values[:, kept])


@metric("irof", better="higher", family="faithfulness", range=(None, 1), paper="2003.08747", curve=True)
def irof(case: Case, *, segments: int = 50, by: Literal["slic", "boxes"] = "slic", fill: str | None = None) -> Curve:
    """One less the score over its first value, while segments are removed by their mean relevance, averaged (eq. 2).

    The segments are each sample's own, by SLIC on its values as they are (see `heatproof.segments`), or with
    ``by="boxes"`` equal boxes. Over the share of the segments removed; the curve of a sample with fewer segments than
    there are boxes is brought to as many points by linear interpolation.
    Range: at most 1. NaN where the score is not positive.
    Cost: one pass a segment.
    """
    count = int(boxes(case.map.shape[1:], segments).max()) + 1
    labels = case.shared(("segments", segments, by), lambda: _segments(case, segments, by))
    own = labels.flatten(1).amax(1) + 1
    means = block_means(case.map, labels, count).nan_to_num(nan=-torch.inf)
    order = spatial.ranks(means, seeds=case.seeds("ties")).gather(1, labels.flatten(1)).reshape(labels.shape)
    values = case.without(removals(order, range(1, int(own.max()))), fill=fill)
    values = torch.cat([case.score[:, None], values, case.blank(fill)[:, None]], dim=1)
    at = torch.linspace(0, 1, count + 1, dtype=torch.float64)
    return Curve(at, 1 - _stretched(values, own, count) / _positive(case.score)[:, None])


@metric("road", better="lower", family="faithfulness", range=(0, 1), paper="2202.00449", curve=True)
def road(case: Case, *, steps: int = 10, fill: str = "noisy-linear") -> Curve:
    """The mean score with 10, 20, ... 90 % of the most relevant positions replaced by noisy linear imputation.

    Deviates: the score of the target, not the accuracy, so that each sample has a value.
    Range: that of the score.
    """
    counts = [c for c in even_counts(case.positions, steps) if 0 < c < case.positions] or [case.positions]
    at = torch.tensor(counts, dtype=torch.float64) / case.positions
    return Curve(at, case.removed(counts, first="most", fill=fill), by="mean")


@metric("average-drop", better="lower", family="faithfulness", range=(0, 1), paper="1710.11063")
def average_drop(case: Case, *, keep: float = 0.5, ties: Ties = "random", fill: str | None = None) -> Tensor:
    """The share of the score Y that is lost when only the most relevant fraction ``keep`` stays: max(0, Y - O) / Y.

    Deviates: a fraction, not a percentage; exactly round(keep * P) positions stay. With ``ties="drop"`` those strictly
    above the next value stay, so that ties at the threshold are all dropped.
    Range: 0 to 1. NaN where Y is not positive (possible for logits, which this measure was not made for).
    """
    score = case.score
    return (score - _kept(case, keep, ties, fill)).clamp_min(0) / _positive(score)


@metric("increase-in-confidence", better="higher", family="faithfulness", range=(0, 1), paper="1710.11063", binary=True)
def increase_in_confidence(case: Case, *, keep: float = 0.5, ties: Ties = "random", fill: str | None = None) -> Tensor:
    """1 where the score rises when only the most relevant fraction ``keep`` stays, else 0.

    ``ties`` as in average-drop.
    """
    return (_kept(case, keep, ties, fill) > case.score).double()


@metric(
    "average-gain", better="higher", family="faithfulness", needs=("probability",), range=(0, 1), paper="2301.07002"
)
def average_gain(case: Case, *, keep: float = 0.5, ties: Ties = "random", fill: str | None = None) -> Tensor:
    """The share of what was lacking to certainty that is gained when only ``keep`` stays: max(0, O - Y) / (1 - Y).

    Range: 0 to 1. NaN where Y is 1.
    """
    score = case.score
    return (_kept(case, keep, ties, fill) - score).clamp_min(0) / _positive(1 - score)


@metric("comprehensiveness", better="higher", family="faithfulness", range=(-1, 1), paper="1911.03429")
def comprehensiveness(
    case: Case, *, bins: tuple[float, ...] = (0.05, 0.1, 0.2, 0.5), fill: str | None = None
) -> Tensor:
    """The mean drop of the score without the most relevant 5, 10, 20 and 50 % of the positions (section 4).

    Range: -1 to 1 for probabilities.
    """
    return case.score - case.removed(_bins(case, bins), first="most", fill=fill).mean(1)


@metric("sufficiency", better="lower", family="faithfulness", range=(-1, 1), paper="1911.03429")
def sufficiency(case: Case, *, bins: tuple[float, ...] = (0.05, 0.1, 0.2, 0.5), fill: str | None = None) -> Tensor:
    """The mean drop of the score when only the most relevant 5, 10, 20 and 50 % of the positions stay (section 4).

    Range: -1 to 1 for probabilities.
    """
    left = [case.positions - count for count in _bins(case, bins)]
    return case.score - case.removed(left, first="least", fill=fill).mean(1)


def block_means(map: Float[Tensor, "n *s"], labels: Int[Tensor, "..."], count: int) -> Float[Tensor, "n b"]:
    """The mean of the map in each block, NaN for one without positions; labels (*S), or (N, *S) a sample its own."""
    flat, place = map.flatten(1).double(), labels.expand(map.shape).flatten(1)
    sums, sizes = (flat.new_zeros(len(flat), count).scatter_add_(1, place, v) for v in (flat, torch.ones_like(flat)))
    return sums / sizes


def _segments(case: Case, count: int, by: str) -> Int[Tensor, "n *s"]:
    if by == "slic":
        return slic(case.x, count)
    return boxes(case.map.shape[1:], count).to(case.x.device).expand(case.map.shape)


def _stretched(values: Float[Tensor, "n p"], own: Int[Tensor, " n"], count: int) -> Float[Tensor, "n q"]:
    """Each sample's first ``own`` values and the next, brought to ``count`` and one by linear interpolation."""
    place = torch.arange(count + 1, device=own.device) * own[:, None]
    low = place // count
    start, end = (values.gather(1, side) for side in (low, (low + 1).clamp_max(values.shape[1] - 1)))
    return start + (end - start) * (place % count).double() / count


def _kept(case: Case, keep: float, ties: Ties, fill: str | None) -> Float[Tensor, " n"]:
    fraction("keep", keep)
    count = round(keep * case.positions)
    if ties == "random":
        return case.removed([case.positions - count], first="least", fill=fill)[:, 0]
    return case.own(
        ("drop", count, case.canvas(fill).fill), lambda: case.without([_at_most(case.map, count)], fill=fill)[:, 0]
    )


def _at_most(map: Float[Tensor, "n *s"], count: int) -> Bool[Tensor, "n *s"]:
    """The positions that are not above the value of rank ``count``."""
    flat = map.flatten(1)
    if count == flat.shape[1]:
        return torch.zeros_like(map, dtype=torch.bool)
    threshold = flat.sort(dim=1, descending=True).values[:, count]
    return map <= threshold.reshape(-1, *(1,) * (map.ndim - 1))


def _positive(score: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    return torch.where(score > 0, score, torch.nan)


def _bins(case: Case, bins: tuple[float, ...]) -> list[int]:
    for share in bins:
        fraction("bins", share)
    return [max(1, round(share * case.positions)) for share in bins]


def fraction(name: str, value: float | int) -> None:
    """Refuses what is not a fraction in (0, 1]."""
    if not 0 < value <= 1:
        raise UsageError(f"{name}: got {value}, expected a fraction of the positions in (0, 1]")
