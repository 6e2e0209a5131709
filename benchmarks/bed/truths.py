"""The two truths: whether a map is where the evidence was planted, and whether it orders parts as they matter.

Nothing here uses a metric of heatproof, so that an error in one cannot hide in the other.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from heatproof import draws

NEAR = 0.05  # a method is right where its truth is within this of the best
CELLS = 8
WHERE = ("pointing", "mass", "rank", "precision")

Margin = Callable[[Tensor], Tensor]


def where(map: Float[Tensor, "n *s"], mask: Bool[Tensor, "n *s"]) -> dict[str, Float[Tensor, " n"]]:
    """Pointing, mass share, rank share and average precision in the mask, each as (v - a) / (1 - a), a its area.

    0 is the value of a uniform map and 1 that of a perfect one. Equal positions share their places. A map without
    positive relevance has no mass: 0.
    """
    values, inside = map.flatten(1).double(), mask.flatten(1).double()
    area = inside.mean(1)
    top = (values == values.amax(1, keepdim=True)).double()
    positive = values.clamp_min(0)
    mass = positive.sum(1)
    shares = {
        "pointing": (top * inside).sum(1) / top.sum(1),
        "mass": torch.where(mass > 0, (positive * inside).sum(1) / mass.clamp_min(1e-300), area),
        "rank": _rank(values, inside),
        "precision": _precision(values, inside),
    }
    return {name: (share - area) / (1 - area) for name, share in shares.items()}


def _rank(values: Float[Tensor, "n p"], inside: Float[Tensor, "n p"]) -> Float[Tensor, " n"]:
    """The share of the mask that its size's number of most relevant positions covers."""
    k = inside.sum(1).long()
    limit = values.sort(1, descending=True).values.gather(1, (k - 1)[:, None])
    above, equal = (values > limit).double(), (values == limit).double()
    share = (k - above.sum(1)) / equal.sum(1)
    return ((above * inside).sum(1) + share * (equal * inside).sum(1)) / k


def _precision(values: Float[Tensor, "n p"], inside: Float[Tensor, "n p"]) -> Float[Tensor, " n"]:
    """The area under precision over recall, by steps of distinct values."""
    value, order = values.sort(1, descending=True)
    hits = inside.gather(1, order).cumsum(1)
    last = torch.ones_like(value, dtype=torch.bool)
    last[:, :-1] = value[:, 1:] != value[:, :-1]  # only where a run of equal values ends
    precision = hits / torch.arange(1, value.shape[1] + 1)
    total = inside.sum(1)
    out = torch.empty(len(value), dtype=torch.float64)
    for i in range(len(value)):
        recall = hits[i][last[i]] / total[i]
        gain = torch.diff(recall, prepend=torch.zeros(1, dtype=torch.float64))
        out[i] = (gain * precision[i][last[i]]).sum()
    return out


def cells(seeds: Int[Tensor, " n"], size: Sequence[int], count: int = CELLS) -> Int[Tensor, "n *s"]:
    """Irregular cells, other ones for each sample: positions by the nearest of some random points (Voronoi)."""
    axes = [torch.arange(length, dtype=torch.float64) for length in size]
    grid = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).reshape(-1, len(size))
    drawn = draws.uniform(seeds, (count, 16, len(size))) * torch.tensor(size, dtype=torch.float64) - 0.5
    points = drawn[:, 0, :1]
    for k in range(1, count):  # of a few candidates the farthest, so that no cell is tiny
        gap = torch.cdist(drawn[:, k, :3], points).amin(2)
        best = gap.argmax(1)[:, None, None].expand(-1, 1, len(size))
        points = torch.cat([points, drawn[:, k].gather(1, best)], dim=1)
    nearest = torch.cdist(grid.expand(len(seeds), -1, -1), points).argmin(2)
    return nearest.reshape(len(seeds), *size)


def coalitions(count: int = CELLS) -> tuple[Bool[Tensor, "m k"], Float[Tensor, "m k"]]:
    """All subsets of the cells, and the weights that make Shapley values of their worths: phi = worths @ weights."""
    subsets = torch.tensor(list(itertools.product((False, True), repeat=count)))
    size = subsets.sum(1, keepdim=True)
    factorial = torch.tensor([math.factorial(k) for k in range(count + 1)], dtype=torch.float64)
    joined = factorial[(size - 1).clamp_min(0)] * factorial[count - size] / factorial[count]
    left = factorial[size] * factorial[(count - size - 1).clamp_min(0)] / factorial[count]
    return subsets, torch.where(subsets, joined, -left)


def shapley(
    margin: Callable[[Tensor, Tensor], Tensor],
    x: Float[Tensor, "n c *s"],
    donor: Float[Tensor, "n c *s"],
    labels: Int[Tensor, "n *s"],
    *,
    rows: int = 256,
) -> Float[Tensor, "n k"]:
    """The exact Shapley value of each cell for the margin; cells that are absent show the donor.

    ``margin`` takes inputs and the numbers of the samples they were made of. Cost: 2^k passes a sample.
    """
    subsets, weights = coalitions(int(labels.max()) + 1)
    step = max(1, rows // len(subsets))
    parts = []
    for start in range(0, len(x), step):
        part = slice(start, start + step)
        kept = subsets[:, labels[part]].movedim(0, 1)[:, :, None]  # (n, m, 1, *s)
        mixed = torch.where(kept, x[part][:, None], donor[part][:, None])
        number = torch.arange(len(x))[part].repeat_interleave(len(subsets))
        parts.append(margin(mixed.flatten(0, 1), number).double().reshape(-1, len(subsets)) @ weights)
    return torch.cat(parts)


def means(map: Float[Tensor, "n *s"], labels: Int[Tensor, "n *s"]) -> Float[Tensor, "n k"]:
    """The mean of the map in each cell."""
    flat, count = labels.flatten(1), int(labels.max()) + 1
    total = torch.zeros(len(map), count, dtype=torch.float64).scatter_add_(1, flat, map.flatten(1).double())
    size = torch.zeros_like(total).scatter_add_(1, flat, torch.ones_like(flat, dtype=torch.float64))
    return total / size.clamp_min(1)


def correlation(a: Float[Tensor, "n k"], b: Float[Tensor, "n k"], *, ranked: bool = False) -> Float[Tensor, " n"]:
    """Pearson's correlation over cells, or Spearman's; 0 where one of them is constant."""
    if ranked:
        a, b = (_ranks(value) for value in (a, b))
    a, b = (value.double() - value.double().mean(1, keepdim=True) for value in (a, b))
    size = a.norm(dim=1) * b.norm(dim=1)
    least = 1e-9 * torch.ones_like(size)
    return torch.where(size > least * 1e-9, (a * b).sum(1) / size.clamp_min(1e-300), 0.0)


def _ranks(value: Float[Tensor, "n k"]) -> Float[Tensor, "n k"]:
    """Ranks, equal values sharing theirs."""
    below = (value[:, None] < value[:, :, None]).double().sum(2)
    equal = (value[:, None] == value[:, :, None]).double().sum(2)
    return below + equal / 2


@dataclass(frozen=True)
class Game:
    """Shapley values of one cut into cells with one donor a sample.

    Attributes:
        labels: cells (n, *S). values: (n, k).
    """

    labels: Int[Tensor, "n *s"]
    values: Float[Tensor, "n k"]

    @property
    def density(self) -> Float[Tensor, "n k"]:
        """The value of a cell divided by its number of positions, so that large cells do not count as important."""
        flat = self.labels.flatten(1)
        size = torch.zeros_like(self.values).scatter_add_(1, flat, torch.ones_like(flat, dtype=self.values.dtype))
        return self.values / size


def games(
    margin: Callable[[Tensor, Tensor], Tensor],
    x: Float[Tensor, "n c *s"],
    predicted: Int[Tensor, " n"],
    pool: Float[Tensor, "p c *s"],
    others: Int[Tensor, " p"],
    *,
    seed: int,
    rounds: int = 2,
    count: int = CELLS,
) -> list[Game]:
    """Shapley values with other cells and other donors in each round; donors are predicted otherwise.

    Donors come from ``pool`` with the predictions ``others``.
    """
    numbers = torch.arange(len(x))
    rounds_ = []
    for k in range(rounds):
        order = draws.permutation(draws.seeds(seed, f"bed donor {k}", numbers), len(pool))
        differs = others[order] != predicted[:, None]
        donor = pool[order.gather(1, differs.double().argmax(1, keepdim=True))[:, 0]]
        labels = cells(draws.seeds(seed, f"bed cells {k}", numbers), x.shape[2:], count)
        rounds_.append(Game(labels, shapley(margin, x, donor, labels)))
    return rounds_


def how_much(map: Float[Tensor, "n *s"], games: Sequence[Game], *, ranked: bool = False) -> Float[Tensor, " n"]:
    """The correlation of the map's mean in each cell with its Shapley value a position, the mean over games.

    The contributions of a linear model score 1.
    """
    each = [correlation(means(map, game.labels), game.density, ranked=ranked) for game in games]
    return torch.stack(each).mean(0)


def right(scores: Mapping[str, float], real: Sequence[str]) -> list[str]:
    """The real methods whose truth is within 0.05 of the best of them."""
    listed = {name: scores[name] for name in real if name in scores}
    best = max(listed.values())
    return [name for name, score in listed.items() if score >= best - NEAR]
