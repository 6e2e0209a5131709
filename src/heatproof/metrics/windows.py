"""Agreement of a map with what windows of the input are worth to the model: how much each matters, and where the most.

The worths are computed with the model alone, once a sample, and every map of it is compared with the same ones.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from heatproof.metrics.cases import Case
from heatproof.metrics.catalogue import metric

FEWEST = 3  # windows of a size below which their worths say nothing


@metric("window-correlation", better="higher", family="evidence", needs=("evidence",), range=(-1, 1),
        unit="correlation", question="how much")  # fmt: skip
def window_correlation(case: Case) -> Tensor:
    """The correlation, over windows of the input, of the map's mean in a window with what the window is worth.

    Worth: what the margin gains where the window is kept and the rest comes from a sample predicted otherwise, rather
    than the other way round; mean over two such samples. Pearson's correlation over the windows of each of three sizes,
    then the mean. A constant map has 0. NaN where all windows are worth the same, or no sample is predicted otherwise.
    Random map: 0 on average.
    Cost: about 130 passes for a signal, 330 for an image, 860 for a volume, shared by all methods.
    Tells: how well the relevance of each part agrees with how much that part matters to the model.
    Cannot: anything finer than its smallest window, a tenth of a signal and a quarter of an image's side.
    Mind: inputs that mix two samples may look unlike any sample the model was trained on.
    """
    evidence = case.evidence
    means, worth = evidence.windows.means(case.map), evidence.mean
    parts = [
        _correlation(means[:, rows], worth[:, rows])
        for rows in _scales(evidence.windows.scale)
        if int(rows.sum()) >= FEWEST
    ]
    return torch.stack(parts).nanmean(0) if parts else worth.new_full((len(worth),), torch.nan)


@metric("window-localisation", better="higher", family="evidence", needs=("evidence",), range=(None, 1),
        unit="above chance", question="where")  # fmt: skip
def window_localisation(case: Case) -> Tensor:
    """How far the relevance lies in the window that is worth the most; 0 is chance, 1 is perfect.

    For each of three sizes of windows, of the one with the greatest worth (see window-correlation): whether the most
    relevant position lies in it, the share of the positive relevance in it, and the share of it that as many of the
    most relevant positions cover. Each v is read as (v - a) / (1 - a), a being the window's share of the positions; the
    mean of all nine. A constant map has 0. NaN where no sample is predicted otherwise.
    Cost: none beside that of window-correlation.
    Tells: whether the map points to the part of the input that decides.
    Cannot: whether relevance elsewhere is right too, where evidence lies in several places.
    Mind: where evidence is spread over the input, no single window decides, and all methods are near 0.
    """
    evidence, device = case.evidence, case.map.device
    map, ranks = case.map.flatten(1).double(), case.ranks.flatten(1)
    rows, parts = torch.arange(len(map)), list[Tensor]()
    for members in _scales(evidence.windows.scale):
        worth = evidence.mean[:, members]
        best = members.nonzero()[:, 0][worth.nan_to_num(-torch.inf).argmax(1)]
        inside = evidence.windows.inside(rows, best).flatten(1).to(device)
        value = _above_chance(map, ranks, inside)
        parts.append(torch.where(torch.isfinite(worth).all(1).to(device), value, torch.nan))
    return torch.stack(parts).mean(0)


def _above_chance(
    map: Float[Tensor, "n p"], ranks: Float[Tensor, "n p"] | Tensor, inside: Bool[Tensor, "n p"]
) -> Float[Tensor, " n"]:
    """Pointing, mass and rank share in the box, each above what a map without order reaches; 0 of a constant map."""
    area, size = inside.double().mean(1), inside.sum(1)
    top = map == map.amax(1, keepdim=True)
    pointing = (top & inside).sum(1) / top.sum(1)
    mass = map.clamp_min(0)
    whole = mass.sum(1)
    share = torch.where(whole > 0, (mass * inside).sum(1) / whole.clamp_min(torch.finfo(mass.dtype).tiny), area)
    covered = ((ranks < size[:, None]) & inside).sum(1) / size
    value = torch.stack([(v - area) / (1 - area).clamp_min(1e-9) for v in (pointing, share, covered)]).mean(0)
    ordered = (map.amax(1) > map.amin(1)) & (area < 1)
    return torch.where(ordered, value, 0.0)


def _correlation(a: Float[Tensor, "n k"], b: Float[Tensor, "n k"]) -> Float[Tensor, " n"]:
    """Pearson's correlation of each row; 0 where ``a`` is constant, NaN where ``b`` is."""
    flat = [v.amax(1) - v.amin(1) <= 1e-9 * v.abs().amax(1) for v in (a, b)]
    a, b = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
    value = (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1)).clamp_min(1e-300)
    return torch.where(flat[1] | ~torch.isfinite(b).all(1), torch.nan, torch.where(flat[0], 0.0, value))


def _scales(scale: Tensor) -> list[Bool[Tensor, " k"]]:
    """Which windows have each size."""
    return [scale == number for number in scale.unique().tolist()]
