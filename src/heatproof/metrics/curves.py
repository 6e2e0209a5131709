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
from heatproof.metrics.cases import Case, Curve
from heatproof.metrics.catalogue import Axes, metric
from heatproof.segments import boxes
from heatproof.segments import segments as slic

Ties = Literal["random", "drop"]


@metric("deletion", better="lower", family="faithfulness", range=(0, 1), paper="1806.07421", unit="score", curve=Axes())
def deletion(case: Case, *, steps: int = 20, fill: str | None = None) -> Curve:
    """The area under the score while the most relevant positions are removed, over the removed fraction (section 4.1).

    Range: that of the score; for logits unbounded.
    Cost: one pass a step, shared.
    Tells: how soon the score falls when the most relevant positions are removed first.
    Cannot: evidence from the effect of unnatural inputs; a single adversarial pixel scores well.
    Mind: read it with insertion, and with a second fill.
    """
    return case.removal_curve(first="most", steps=steps, fill=fill)


@metric(
    "insertion",
    better="higher",
    family="faithfulness",
    range=(0, 1),
    paper="1806.07421",
    unit="score",
    curve=Axes("share of positions put back"),
)
def insertion(case: Case, *, steps: int = 20, fill: str | None = None) -> Curve:
    """The area under the score while the most relevant positions are put back into the empty fill (section 4.1).

    Range: that of the score; for logits unbounded.
    Cost: one pass a step, shared: it is the curve of least relevant first, read backwards.
    Tells: how soon the score returns when the most relevant positions are put back first.
    Cannot: evidence from the effect of the fill, which the first inputs consist of almost entirely.
    Mind: sharp maps do better with blurred fills; repeat it with another fill.
    """
    backwards = case.removal_curve(first="least", steps=steps, fill=fill)
    return Curve(1 - backwards.at.flip(0), backwards.values.flip(1))


@metric(
    "insertion-minus-deletion",
    better="higher",
    family="faithfulness",
    range=(-1, 1),
    paper="1806.07421",
    unit="score",
    curve=Axes("share of positions changed", "insertion minus deletion"),
)
def insertion_minus_deletion(
    case: Case, *, steps: int = 20, fill: str | None = None, start: str | None = None
) -> Curve:
    """Insertion minus deletion; with ``start`` insertion starts from another fill, ``blur`` in the paper.

    Range: -1 to 1 for probabilities. Without ``start`` it equals the MoRF/LeRF gap.
    Tells: insertion and deletion in one number, so that an advantage in only one of them cancels out.
    Cannot: which of the two is good or bad.
    Mind: look at the two curves as well.
    """
    put_back = insertion(case, steps=steps, fill=start or fill)
    return Curve(put_back.at, put_back.values - deletion(case, steps=steps, fill=fill).values)


@metric(
    "morf-lerf-gap",
    better="higher",
    family="faithfulness",
    range=(-1, 1),
    paper="2401.06654",
    label="MoRF-LeRF gap",
    unit="score",
    curve=Axes(shows="least minus most relevant first"),
)
def morf_lerf_gap(case: Case, *, steps: int = 20, fill: str | None = None) -> Curve:
    """The area between the curves of least and of most relevant first: the symmetric relevance gain (section 3.3).

    Range: -1 to 1 for probabilities; 0 expected for a random order.
    Tells: how much the score differs between removing the least and the most relevant positions first; 0 for a random
    order.
    Cannot: which of the two curves the difference comes from.
    Mind: effects of the fill cancel in part, which makes it the least sensitive of the removal curves to the fill.
    """
    least = case.removal_curve(first="least", steps=steps, fill=fill)
    return Curve(least.at, least.values - case.removal_curve(first="most", steps=steps, fill=fill).values)


@metric(
    "aopc",
    better="higher",
    family="faithfulness",
    range=(-1, 1),
    paper="1509.06321",
    label="AOPC",
    unit="score",
    curve=Axes(shows="drop of the score"),
)
def aopc(case: Case, *, steps: int = 20, until: float = 1.0, fill: str | None = None) -> Curve:
    """The mean drop of the score while the most relevant positions are removed, up to the fraction ``until`` (eq. 12).

    Deviates: the mean over the removed fraction, not over a count of steps.
    Range: -1 to 1 for probabilities.
    Tells: how fast the score falls when the most relevant positions are removed, up to a chosen fraction.
    Cannot: whether the score falls because evidence is lost, or because the model has never seen such inputs.
    Mind: repeat it with another fill; a ranking that changes with the fill is not reliable.
    """
    fraction("until", until)
    whole = case.removal_curve(first="most", steps=steps, fill=fill)
    kept = whole.at <= until + 1e-9
    return Curve(whole.at[kept] / whole.at[kept].amax().clamp_min(1e-12), case.score[:, None] - whole.values[:, kept])


@metric(
    "irof",
    better="higher",
    family="faithfulness",
    needs=("class",),
    range=(None, 1),
    paper="2003.08747",
    label="IROF",
    unit="share of the score",
    curve=Axes("share of segments removed", "relative drop of the score"),
)
def irof(case: Case, *, segments: int = 50, by: Literal["slic", "boxes"] = "slic", fill: str | None = None) -> Curve:
    """The mean relative drop of the score while segments are removed by their mean relevance (equation 2).

    The segments are each sample's own, by SLIC on its values as they are (see `heatproof.segments`), or with
    ``by="boxes"`` equal boxes. Over the share of the segments removed; the curve of a sample with fewer segments than
    there are boxes is brought to as many points by linear interpolation.
    Range: at most 1. NaN where the score is not positive.
    Cost: one pass a segment.
    Tells: how fast the score falls when whole segments are removed, so that noise within a segment does not matter.
    Cannot: detail finer than a segment. Segments follow edges of the input (SLIC), not objects.
    Mind: vary `segments` once; `by=boxes` shows how much of the value is due to the edges.
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


@metric(
    "road",
    better="lower",
    family="faithfulness",
    range=(0, 1),
    paper="2202.00449",
    label="ROAD",
    unit="score",
    curve=Axes(),
)
def road(case: Case, *, steps: int = 10, fill: str = "noisy-linear") -> Curve:
    """The mean score with 10, 20, ... 90 % of the most relevant positions replaced by noisy linear imputation.

    Deviates: the score of the target, not the accuracy, so that each sample has a value.
    Range: that of the score.
    Tells: how low the score is when the most relevant positions are replaced by a mixture of their neighbours.
    Cannot: a loss of evidence that the neighbours restore.
    Mind: it disturbs the model less than a constant fill does; it is the mean over the fractions.
    """
    counts = [c for c in even_counts(case.positions, steps) if 0 < c < case.positions] or [case.positions]
    at = torch.tensor(counts, dtype=torch.float64) / case.positions
    return Curve(at, case.removed(counts, first="most", fill=fill), by="mean")


@metric(
    "average-drop",
    better="lower",
    family="faithfulness",
    needs=("class",),
    range=(0, 1),
    paper="1710.11063",
    unit="share of the score",
)
def average_drop(case: Case, *, keep: float = 0.5, ties: Ties = "random", fill: str | None = None) -> Tensor:
    """The share of the score Y that is lost when only the most relevant fraction ``keep`` stays: max(0, Y - O) / Y.

    Deviates: a fraction, not a percentage; exactly round(keep * P) positions stay. With ``ties="drop"`` those strictly
    above the next value stay, so that ties at the threshold are all dropped.
    Range: 0 to 1. NaN where Y is not positive (possible for logits, which this measure was not made for).
    Tells: how much of the score is lost when only the most relevant share of the positions is kept.
    Cannot: which positions matter within that share; a map that marks too much can lose nothing.
    Mind: choose `keep` before looking at the results; the smaller it is, the stricter the metric.
    """
    score = case.score
    return (score - _kept(case, keep, ties, fill)).clamp_min(0) / _positive(score)


@metric(
    "increase-in-confidence",
    better="higher",
    family="faithfulness",
    needs=("class",),
    range=(0, 1),
    paper="1710.11063",
    binary=True,
    unit="share of samples",
)
def increase_in_confidence(case: Case, *, keep: float = 0.5, ties: Ties = "random", fill: str | None = None) -> Tensor:
    """1 where the score rises when only the most relevant fraction ``keep`` stays, else 0.

    ``ties`` as in average-drop.
    Tells: how often the score rises when only the most relevant share of the positions is kept.
    Cannot: by how much it rises; a sample has 0 or 1, so many samples are needed.
    Mind: the score of a sample that is close to 1 can hardly rise.
    """
    return (_kept(case, keep, ties, fill) > case.score).double()


@metric(
    "average-gain",
    better="higher",
    family="faithfulness",
    needs=("probability",),
    range=(0, 1),
    paper="2301.07002",
    unit="share of the missing score",
)
def average_gain(case: Case, *, keep: float = 0.5, ties: Ties = "random", fill: str | None = None) -> Tensor:
    """The share of 1 - Y that is gained when only the fraction ``keep`` stays: max(0, O - Y) / (1 - Y).

    Range: 0 to 1. NaN where Y is 1.
    Tells: how far the score rises towards 1 when only the most relevant share of the positions is kept.
    Cannot: anything about samples whose score is already close to 1; they have little to gain.
    Mind: read it with average-drop: one measures losses, the other gains.
    """
    score = case.score
    return (_kept(case, keep, ties, fill) - score).clamp_min(0) / _positive(1 - score)


@metric("comprehensiveness", better="higher", family="faithfulness", range=(-1, 1), paper="1911.03429", unit="score")
def comprehensiveness(
    case: Case, *, bins: tuple[float, ...] = (0.05, 0.1, 0.2, 0.5), fill: str | None = None
) -> Tensor:
    """The mean drop of the score without the most relevant 5, 10, 20 and 50 % of the positions (section 4).

    Range: -1 to 1 for probabilities.
    Tells: whether the few most relevant per cent hold evidence that the score needs.
    Cannot: whether evidence was found that also stands elsewhere in the input; the score is kept when a copy is left.
    Mind: read it with sufficiency.
    """
    return case.score - case.removed(_bins(case, bins), first="most", fill=fill).mean(1)


@metric("sufficiency", better="lower", family="faithfulness", range=(-1, 1), paper="1911.03429", unit="score")
def sufficiency(case: Case, *, bins: tuple[float, ...] = (0.05, 0.1, 0.2, 0.5), fill: str | None = None) -> Tensor:
    """The mean drop of the score when only the most relevant 5, 10, 20 and 50 % of the positions stay (section 4).

    Range: -1 to 1 for probabilities.
    Tells: whether the few most relevant per cent alone keep the score.
    Cannot: which of these positions keep it; the score of unnatural inputs may be high as well.
    Mind: read it with comprehensiveness.
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
