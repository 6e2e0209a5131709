"""What windows of an input are worth to the model: evidence that no map takes part in.

A window is kept while the rest comes from a donor, a sample that is predicted otherwise, and the other way round. What
the margin gains by it is the worth of the window: it is sufficient and necessary at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from heatproof import draws
from heatproof.probe.goals import Goal
from heatproof.probe.probe import Probe
from heatproof.records import Lazy

SIDES = {1: (0.10, 0.20, 0.35), 2: (0.25, 0.35, 0.50), 3: (0.25, 0.35, 0.50)}  # of each axis, by the number of axes
APART = {1: 0.6, 2: 0.5, 3: 0.75}  # of a window's side, from one window to the next
DONORS = 2  # a sample


@dataclass(frozen=True, eq=False)
class Windows:
    """Boxes of several sizes all over each input; every sample's grids are shifted by its own draw.

    Attributes:
        starts: the first position of each window along each axis (N, K, R). widths: of all samples (K, R).
        scale: to which of the sizes each window belongs (K,), 0 the smallest. size: of the inputs, along each axis.
    """

    starts: Int[Tensor, "n k r"]
    widths: Int[Tensor, "k r"]
    scale: Int[Tensor, " k"]
    size: tuple[int, ...]

    @classmethod
    def over(cls, size: Sequence[int], seeds: Int[Tensor, " n"]) -> Windows:
        """The windows of samples with these seeds."""
        size, rank = tuple(size), len(size)
        starts, widths, scale = [], list[list[int]](), list[int]()
        for number, side in enumerate(SIDES[rank]):
            width = [max(1, round(side * length)) for length in size]
            grid = [_starts(length, w, APART[rank]) for length, w in zip(size, width, strict=True)]
            places = torch.tensor(list(product(*grid)), dtype=torch.float64)
            room = torch.tensor([length - w for length, w in zip(size, width, strict=True)])
            # As far as leaves no gap to the windows at the ends, which stay where they are.
            reach = min(1.0, 2 / APART[rank] - 2) * torch.tensor([APART[rank] * w for w in width])
            shift = (draws.uniform(seeds.cpu() ^ (number + 1), (rank,)) - 0.5) * reach
            inner = (places > 0) & (places < room)
            shifted = (places + torch.where(inner, shift[:, None], 0.0)).clamp(min=torch.zeros(rank), max=room).round()
            starts.append(shifted.long())
            widths += [width] * len(places)
            scale += [number] * len(places)
        return cls(torch.cat(starts, dim=1), torch.tensor(widths), torch.tensor(scale), size)

    def __len__(self) -> int:
        return len(self.scale)

    def take(self, rows: Tensor) -> Windows:
        """The windows of some of the samples."""
        return replace(self, starts=self.starts[rows.to(self.starts.device)])

    def only(self, members: Bool[Tensor, " k"]) -> Windows:
        """Some of the windows, of all samples."""
        return Windows(self.starts[:, members], self.widths[members], self.scale[members], self.size)

    def inside(self, samples: Int[Tensor, " m"], which: Int[Tensor, " m"]) -> Bool[Tensor, "m *s"]:
        """The positions in one window a row: that of the number ``which`` of the sample."""
        first, width = self.starts[samples.cpu(), which.cpu()], self.widths[which.cpu()]
        inside = torch.ones(len(which), *(1,) * len(self.size), dtype=torch.bool)
        for axis, length in enumerate(self.size):
            place = torch.arange(length) - first[:, axis, None]
            along = (place >= 0) & (place < width[:, axis, None])
            inside = inside & along.reshape(len(which), *(length if a == axis else 1 for a in range(len(self.size))))
        return inside

    def means(self, map: Float[Tensor, "n *s"]) -> Float[Tensor, "n k"]:
        """The mean of each map in each of its windows, float64."""
        sums = map.double().cpu()
        for axis in range(1, sums.ndim):
            sums = torch.cat([torch.zeros_like(sums.narrow(axis, 0, 1)), sums.cumsum(axis)], dim=axis)
        flat = sums.flatten(1)
        total = torch.zeros(self.starts.shape[:2], dtype=torch.float64)
        for sign, place in self._corners():
            total += sign * flat.gather(1, place)
        return total / self.widths.prod(1)

    def spread(self, values: Float[Tensor, "n k"]) -> Float[Tensor, "n *s"]:
        """At each position the mean of the values of the windows that it lies in, float64; NaN where it is in none."""
        corners = tuple(length + 1 for length in self.size)
        total = torch.zeros(2, len(values), math.prod(corners), dtype=torch.float64)
        both = torch.stack([values.double().cpu(), torch.ones(values.shape, dtype=torch.float64)])
        for sign, place in self._corners():
            total.scatter_add_(2, place.expand(2, -1, -1), sign * both)
        grids = total.reshape(2, len(values), *corners)
        for axis, length in enumerate(self.size, start=2):
            grids = grids.cumsum(axis).narrow(axis, 0, length)
        # Sums of whole numbers are exact, so that 0 is 0.
        return grids[0] / grids[1]

    def _corners(self) -> Iterator[tuple[int, Int[Tensor, "n k"]]]:
        """The corners of each window among those of all positions, with the signs by which sums become differences."""
        rank = len(self.size)
        strides = torch.tensor([math.prod(n + 1 for n in self.size[axis + 1 :]) for axis in range(rank)])
        for corner in product((0, 1), repeat=rank):
            at = self.starts + self.widths * torch.tensor(corner)
            yield (-1) ** (rank - sum(corner)), (at * strides).sum(2)


@dataclass(frozen=True, eq=False)
class Worths:
    """What each window is worth, with each donor.

    Attributes:
        windows: of N samples. values: the worth in units of the margin, float64 (N, D, K); NaN without donors.
        span: by how much the margin of each sample exceeds that of each of its donors, for the same class (N, D).
    """

    windows: Windows
    values: Float[Tensor, "n d k"]
    span: Float[Tensor, "n d"]

    def take(self, rows: Tensor) -> Worths:
        """The worths of some of the samples."""
        return Worths(self.windows.take(rows), self.values[rows], self.span[rows])

    @property
    def mean(self) -> Float[Tensor, "n k"]:
        """Over the donors."""
        return self.values.mean(1)


def worths(
    probe: Probe,
    x: Float[Tensor, "n c *s"],
    goal: Goal,
    donors: Float[Tensor, "n d c *s"],
    seeds: Int[Tensor, " n"],
    advance: Callable[[int], None] = lambda _: None,
) -> Worths:
    """The worth of every window of every sample: what the margin gains when the window is kept rather than the rest.

    Args:
        donors: samples that are predicted otherwise; rows of NaN where a sample has none.
        advance: called with the number of samples that are done, of all in the end.

    Cost: two passes a window and donor and three a sample, whatever the number of methods; memory for one batch.
    """
    windows = Windows.over(x.shape[2:], seeds)
    count, many = len(windows), donors.shape[1]
    values = torch.full((len(x), many, count), torch.nan, dtype=torch.float64)
    span = torch.full((len(x), many), torch.nan, dtype=torch.float64)
    having = torch.isfinite(donors.flatten(1)).all(1).nonzero()[:, 0]
    if not len(having):
        return Worths(windows, values, span)
    part, others, own = x[having], donors[having], windows.take(having)

    def make(samples: Int[Tensor, " m"], variants: Int[Tensor, " m"]) -> Float[Tensor, "m c *s"]:
        advance(int(samples[0]))
        donor, kept, which = variants // (2 * count), variants // count % 2 == 0, variants % count
        inside = own.inside(samples, which) == kept.reshape(-1, *(1,) * len(windows.size))
        return torch.where(inside[:, None].to(x.device), part[samples], others[samples, donor].to(x))

    runner = replace(probe.runner(part), score="margin")
    scores = runner.variants(part, goal.take(having), many * 2 * count, make).double().cpu()
    kept, removed = scores.reshape(len(part), many, 2, count).unbind(2)
    values[having] = kept - removed
    theirs = runner.variants(part, goal.take(having), many, lambda n, d: others[n, d].to(x)).double().cpu()
    span[having] = runner.scored(part, goal.take(having)).double().cpu()[:, None] - theirs
    advance(len(x))
    return Worths(windows, values, span)


def donors_of(
    goal: Goal,
    logits: Float[Tensor, "n k"],
    pool: Float[Tensor, "p k"],
    seeds: Int[Tensor, " n"],
    *,
    itself: Int[Tensor, " n"] | None = None,
) -> Int[Tensor, "n d"]:
    """The places in a pool of each sample's donors: two that are predicted otherwise, drawn by the sample's seed.

    Donors are not predicted as the class explained; of a label explained, where it is predicted they are without it and
    the other way round; of a regression, their outputs are on the other side of the median. A single one is named
    twice; without any the places are -1.

    Args:
        logits: of the samples. pool: of all that may be donors.
        itself: the place of each sample in the pool, -1 for none; it is no donor of its own where it is predicted
            otherwise than what is explained. None where no sample is in the pool.
    """
    explained, logits, pool = goal.classes.cpu(), logits.cpu(), pool.cpu()
    places = torch.full((len(logits), DONORS), -1, dtype=torch.int64)
    drawn = draws.uniform(seeds.cpu(), (DONORS,))
    own = torch.full((len(logits),), -1) if itself is None else itself.cpu()
    for k in explained.unique().tolist():
        rows = (explained == k).nonzero()[:, 0]
        if goal.task == "classes":
            _draw(places, rows, pool.argmax(1) != k, drawn, own)
            continue
        border = pool[:, k].double().quantile(0.5) if goal.task == "regression" else 0.0
        high, present = pool[:, k] >= border, logits[rows, k] >= border
        _draw(places, rows[present], ~high, drawn, own)
        _draw(places, rows[~present], high, drawn, own)
    return places


def taken(pool: Tensor | Lazy, places: Int[Tensor, "n d"]) -> Float[Tensor, "n d c *s"]:
    """The donors at these places of a pool, rows of NaN where a place is -1."""
    wanted, back = places.clamp_min(0).unique(return_inverse=True)
    few = pool[wanted.to(pool.device)] if isinstance(pool, Tensor) else pool[wanted]
    donors = few[back.to(few.device)].clone()
    donors[(places < 0).to(few.device)] = torch.nan
    return donors


def _draw(
    places: Int[Tensor, "n d"],
    rows: Int[Tensor, " m"],
    allowed: Bool[Tensor, " p"],
    drawn: Float[Tensor, "n d"],
    own: Int[Tensor, " n"],
) -> None:
    """Fills in the donors of some rows: two different ones where there are so many, and never the row itself."""
    others = allowed.nonzero()[:, 0]
    if not len(others):
        return
    at = torch.searchsorted(others, own[rows])
    among = (own[rows] >= 0) & (others[at.clamp(max=len(others) - 1)] == own[rows])
    count = len(others) - among.long()
    rows, at, among, count = rows[count > 0], at[count > 0], among[count > 0], count[count > 0]
    first = (drawn[rows, 0] * count).long()
    second = (first + 1 + (drawn[rows, 1] * (count - 1)).long()) % count
    pair = torch.stack([first, second], dim=1)
    places[rows] = others[pair + (among[:, None] & (pair >= at[:, None])).long()]


def _starts(length: int, width: int, apart: float) -> list[float]:
    """Evenly spread from one end of an axis to the other, at most ``apart`` of the width from each other."""
    room = length - width
    count = 1 + math.ceil(room / max(1.0, apart * width) - 1e-9)
    return torch.linspace(0, room, count).tolist()
