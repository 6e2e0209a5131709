"""Agreement of a map with what windows of the input are worth to the model: how much each matters, and where the most.

The worths are computed with the model alone, once a sample, and every map of it is compared with the same ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from heatproof.metrics.cases import Case
from heatproof.metrics.catalogue import metric
from heatproof.probe.worth import Worths

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
    """How far the relevance lies where windows of the input are worth the most; 0 is chance, 1 is perfect.

    The mean of two parts (worth: see window-correlation). Pointing: whether the most relevant position lies in the
    window of greatest worth, as (v - a) / (1 - a) with the window's share a of the positions; mean over the three
    sizes. Relevance: the worth at a position is the mean of the smallest windows over it, less its mean over the input;
    of it the mean weighted by the positive relevance, as a share of what its own positive part as a map would reach,
    within -1 and 1. A constant map has 0. NaN where all windows are worth the same, or no sample is predicted
    otherwise.
    Cost: none beside that of window-correlation.
    Tells: whether the map points to the parts of the input that decide, and leaves out the others.
    Cannot: anything finer than its smallest window, a tenth of a signal and a quarter of an image's side.
    Mind: where evidence is spread over the input, no part decides, and all methods are near 0.
    """
    places, map = case.shared("places", lambda: _places(case.evidence)), case.map.flatten(1).double().cpu()
    top = (map == map.amax(1, keepdim=True)).double()
    within = torch.stack([(top * box).sum(1) for box in places.boxes]) / top.sum(1)
    pointing = ((within - places.area) / (1 - places.area).clamp_min(1e-9)).mean(0)
    mass = map.clamp_min(0)
    whole = mass.sum(1).clamp_min(torch.finfo(torch.float64).tiny)
    shares = ((mass * places.worth).sum(1) / whole / places.most).clamp(-1, 1)
    value = torch.where(map.amax(1) > map.amin(1), (pointing + shares) / 2, 0.0)
    return torch.where(torch.isfinite(places.most), value, torch.nan).to(case.map.device)


@dataclass(frozen=True, eq=False)
class Places:
    """Where the evidence of N samples is, over P positions.

    Attributes:
        boxes: the window of greatest worth of each size (3, N, P). area: their shares of the positions (3, N).
        worth: at each position, by the smallest windows, less its mean (N, P).
        most: the mean of the worth weighted by its own positive part (N,); NaN where it is the same everywhere.
    """

    boxes: Bool[Tensor, "r n p"]
    area: Float[Tensor, "r n"]
    worth: Float[Tensor, "n p"]
    most: Float[Tensor, " n"]


def _places(evidence: Worths) -> Places:
    windows, mean = evidence.windows, evidence.mean
    rows, boxes = torch.arange(len(mean)), list[Tensor]()
    for members in _scales(windows.scale):
        best = members.nonzero()[:, 0][mean[:, members].nan_to_num(-torch.inf).argmax(1)]
        boxes.append(windows.inside(rows, best).flatten(1))
    smallest = windows.scale == windows.scale.min()
    worth = windows.only(smallest).spread(mean[:, smallest]).flatten(1)
    level = worth.mean(1, keepdim=True)
    even = worth.amax(1) - worth.amin(1) <= 1e-9 * worth.abs().amax(1)
    worth = worth - level
    positive = worth.clamp_min(0)
    most = positive.square().sum(1) / positive.sum(1)
    box = torch.stack(boxes)
    return Places(box, box.double().mean(2), worth, torch.where(even, torch.nan, most))


def _correlation(a: Float[Tensor, "n k"], b: Float[Tensor, "n k"]) -> Float[Tensor, " n"]:
    """Pearson's correlation of each row; 0 where ``a`` is constant, NaN where ``b`` is."""
    flat = [v.amax(1) - v.amin(1) <= 1e-9 * v.abs().amax(1) for v in (a, b)]
    a, b = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
    value = (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1)).clamp_min(1e-300)
    return torch.where(flat[1] | ~torch.isfinite(b).all(1), torch.nan, torch.where(flat[0], 0.0, value))


def _scales(scale: Tensor) -> list[Bool[Tensor, " k"]]:
    """Which windows have each size."""
    return [scale == number for number in scale.unique().tolist()]
