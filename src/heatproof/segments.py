"""Superpixels by SLIC, for signals, images and volumes by the same code.

A segment is a window of a signal, a superpixel of an image, a supervoxel of a volume. Everything that is summed is a
whole number and every other operation is by entry, so that neither the batch nor the device changes a label.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from heatproof.errors import InputError

LEVELS = 2**16 - 1  # steps between the least and the largest value of a sample
NEAR = 2**18  # positions that are worked on at once on the CPU


def boxes(size: Iterable[int], count: int) -> Int[Tensor, "*s"]:
    """Which of about ``count`` equal boxes each position lies in, numbered from 0; at most one box a position.

    >>> boxes((6,), 3).tolist()
    [0, 0, 1, 1, 2, 2]
    """
    size = tuple(size)
    pieces = _pieces(size, count)
    labels = torch.zeros(size, dtype=torch.int64)
    for axis, (length, many) in enumerate(zip(size, pieces, strict=True)):
        place = torch.arange(length) * many // length
        labels = labels * many + place.reshape([-1 if a == axis else 1 for a in range(len(size))])
    return labels


def segments(
    x: Float[Tensor, "n c *s"], count: int, *, compactness: float = 1.0, iterations: int = 10
) -> Int[Tensor, "n *s"]:
    """About ``count`` connected segments of each sample that follow its structures (SLIC, Achanta et al. 2012).

    k-means over values and places together: D^2 = |value difference|^2 / variance + (compactness * distance / step)^2,
    started from the boxes' middles moved to the lowest gradient. A position is compared with the centres of its own and
    the neighbouring boxes. The variance is the sample's own, summed over channels, so that ``compactness`` means the
    same for any range of values; channels are taken as they are, without a change of colour space. What is not
    connected to the position nearest to its centre goes to the most similar segment beside it.

    Returns: labels 0 to K - 1 of each sample, K at most the number of `boxes`; these are what a constant sample gets.

    Raises: InputError for NaN or infinite values, or options out of range.
    """
    if not compactness > 0 or iterations < 1:
        raise InputError(
            f"segments: got compactness {compactness}, {iterations} iterations; expected more than 0, and at least 1"
        )
    x = x.detach()
    grid = _Grid(tuple(x.shape[2:]), _pieces(x.shape[2:], count), x.device)
    labels = torch.empty(len(x), *x.shape[2:], dtype=torch.int64, device=x.device)
    step = max(1, NEAR // grid.total) if x.device.type == "cpu" else max(1, len(x))
    for start in range(0, len(x), step):
        rows = slice(start, start + step)
        labels[rows] = _Clusters(grid, _levels(x[rows]), compactness).labels(iterations)
    return labels


def _pieces(size: Sequence[int], count: int) -> tuple[int, ...]:
    """How many boxes each axis is cut into."""
    if count < 1:
        raise InputError(f"boxes: got {count}, expected at least 1")
    edge = max(1.0, (math.prod(size) / count) ** (1 / len(size)))
    return tuple(max(1, min(length, round(length / edge))) for length in size)


def _levels(x: Float[Tensor, "n c *s"]) -> Float[Tensor, "n c p"]:
    """The values as whole numbers from 0 to `LEVELS`, the least and the largest of each sample, float64."""
    flat = x.flatten(2).double()
    low, high = flat.flatten(1).amin(1)[:, None, None], flat.flatten(1).amax(1)[:, None, None]
    if not bool((high - low).isfinite().all()):
        raise InputError("segments: got NaN or infinite values, expected finite ones")
    return ((flat - low) / torch.where(high > low, high - low, 1) * LEVELS).round()


@dataclass(frozen=True)
class _Grid:
    """The boxes that segments start from.

    Tensors are (boxes, slots): a box has a slot for each of its positions, and smaller boxes have idle ones.
    """

    size: tuple[int, ...]
    pieces: tuple[int, ...]
    device: torch.device

    @property
    def rank(self) -> int:
        return len(self.size)

    @property
    def total(self) -> int:
        return math.prod(self.size)

    @property
    def count(self) -> int:
        return math.prod(self.pieces)

    @cached_property
    def _lines(self) -> list[tuple[Tensor, Tensor]]:
        """For each axis the first place of each piece (pieces,), and all its places (pieces, slots)."""
        lines = []
        for length, many in zip(self.size, self.pieces, strict=True):
            start = -(-torch.arange(many + 1) * length // many)
            lines.append((start, start[:-1, None] + torch.arange(int((start[1:] - start[:-1]).max()))))
        return lines

    def _spread(self, parts: Sequence[Tensor]) -> Tensor:
        """One (pieces, slots) tensor an axis, as (rank, boxes, slots)."""
        rank, spread = len(parts), []
        for axis, part in enumerate(parts):
            shape = [1] * (2 * rank)
            shape[axis], shape[rank + axis] = part.shape
            full = [*self.pieces, *(p.shape[1] for p in parts)]
            spread.append(part.reshape(shape).expand(full).reshape(self.count, -1))
        return torch.stack(spread).to(self.device)

    @cached_property
    def inside(self) -> Bool[Tensor, "k m"]:
        """Whether a slot is a position of its box."""
        return self._spread([place < start[1:, None] for start, place in self._lines]).all(0)

    @cached_property
    def places(self) -> Int[Tensor, "r k m"]:
        """The place of each slot on each axis; idle ones repeat a position."""
        return self._spread([torch.minimum(place, start[1:, None] - 1) for start, place in self._lines])

    @cached_property
    def index(self) -> Int[Tensor, "k m"]:
        """The flat position of each slot."""
        return self.flat(self.places)

    def flat(self, places: Int[Tensor, "r *k"]) -> Int[Tensor, "*k"]:
        """Places as flat positions."""
        index = torch.zeros_like(places[0])
        for length, place in zip(self.size, places, strict=True):
            index = index * length + place
        return index

    @cached_property
    def corners(self) -> tuple[Int[Tensor, "r k"], Int[Tensor, "r k"]]:
        """The first and the last place of each box on each axis."""
        first = self._spread([start[:-1, None] for start, _ in self._lines])[..., 0]
        last = self._spread([start[1:, None] - 1 for start, _ in self._lines])[..., 0]
        return first, last

    @cached_property
    def middle(self) -> Float[Tensor, "r k"]:
        """The middle of each box of equal edges, where a step is 1."""
        return self._spread([torch.arange(many)[:, None] + 0.5 for many in self.pieces])[..., 0]

    def steps(self, places: Tensor) -> Tensor:
        """Places (rank, ...) in units of a box's edge, float64."""
        scale = torch.tensor([many / length for many, length in zip(self.pieces, self.size, strict=True)]).double()
        return (places.double() + 0.5) * scale.to(self.device).reshape(-1, *(1,) * (places.ndim - 1)).double()

    @cached_property
    def around(self) -> list[tuple[int, ...]]:
        """Offsets to a box itself, and then to those that touch it."""
        return sorted(product((-1, 0, 1), repeat=self.rank), key=any)

    @cached_property
    def owner(self) -> Int[Tensor, "k 32"]:
        """The box that lies at each offset from a box, itself where there is none."""
        own = torch.arange(self.count).reshape(self.pieces)
        owners = own.flatten()[:, None].repeat(1, 32)
        index = torch.stack(torch.meshgrid(*(torch.arange(k) for k in self.pieces), indexing="ij"))
        for number, offset in enumerate(self.around):
            at = [(i + o).clamp(0, k - 1) for i, o, k in zip(index, offset, self.pieces, strict=True)]
            owners[:, number] = own[tuple(at)].flatten()
        return owners.to(self.device)

    def axes(self, offset: Sequence[int]) -> Int[Tensor, "r 1"]:
        """An offset as a column."""
        return torch.tensor(offset, device=self.device)[:, None]


class _Clusters:
    """k-means over the values and places of some samples."""

    def __init__(self, grid: _Grid, levels: Float[Tensor, "n c p"], compactness: float) -> None:
        self.grid, self.compactness = grid, compactness
        self.values = _standard(levels)
        local = (grid.steps(grid.places) - grid.middle[..., None]).float() * compactness
        self.features = [*self.values[:, :, grid.index].unbind(1), *local[:, None].unbind(0)]
        self.square = _squares(self.features)
        self.sums = [part[:, grid.index] * grid.inside for part in (torch.ones_like(levels[:, 0]), *levels.unbind(1))]
        self.sums += [(place * grid.inside).double().expand(len(levels), -1, -1) for place in grid.places]
        self.scale = _scale(levels)

    def labels(self, iterations: int) -> Int[Tensor, "n *s"]:
        """Connected segments of each sample, numbered without gaps."""
        centre = self._start()
        code = self._codes(centre)
        for _ in range(iterations - 1):
            last, centre = centre, self._means(code, centre)
            if centre.equal(last):
                break
            code = self._codes(centre)
        return _numbered(self._joined(*self._spread(code), centre))

    def _spread(self, code: Int[Tensor, "n k m"]) -> tuple[Int[Tensor, "n *s"], Int[Tensor, "n k"]]:
        """The centre nearest to each position, and the position nearest to each centre (-1 where it has none)."""
        grid, n = self.grid, len(code)
        owner = grid.owner[torch.arange(grid.count, device=code.device)[:, None], (code & 31).long()]
        labels = owner.new_empty(n, grid.total)
        labels[:, grid.index[grid.inside]] = owner[:, grid.inside]
        key = (code >> 5).long() * grid.total + grid.index
        none = torch.iinfo(torch.int64).max
        least = key.new_full((n, grid.count), none).scatter_reduce_(1, owner.flatten(1), key.flatten(1), "amin")
        return labels.reshape(n, *grid.size), torch.where(least == none, -1, least % grid.total)

    def _joined(
        self, labels: Int[Tensor, "n *s"], seeds: Int[Tensor, "n k"], centre: Float[Tensor, "n f k"]
    ) -> Int[Tensor, "n *s"]:
        """Labels of which each is connected: what cannot be reached from the seed goes to the nearest one beside it."""
        labels = torch.where(_reached(labels, seeds), labels, -1)
        held = F.pad(labels, (1, 1) * self.grid.rank, value=-1)
        flat, size = held.flatten(), held.shape
        inner = F.pad(labels < 0, (1, 1) * self.grid.rank, value=False)
        left = inner.flatten().nonzero()[:, 0]
        strides = [math.prod(size[axis + 1 :]) for axis in range(1, len(size))]
        beside = torch.tensor([sign * stride for stride in strides for sign in (-1, 1)], device=flat.device)
        while len(left):
            near = flat[left[:, None] + beside]
            edge = (near >= 0).any(1)
            places, near = left[edge], near[edge]
            apart = self._apart(places, near, size, strides, centre).masked_fill(near < 0, math.inf)
            flat[places] = near.gather(1, apart.argmin(1, keepdim=True))[:, 0]
            left = left[~edge]
        return held[(slice(None), *(slice(1, -1),) * self.grid.rank)]

    def _apart(
        self,
        places: Int[Tensor, " o"],
        labels: Int[Tensor, "o b"],
        size: Sequence[int],
        strides: Sequence[int],
        centre: Float[Tensor, "n f k"],
    ) -> Float[Tensor, "o b"]:
        """The squared distance of positions in the padded grid from some centres."""
        row = places // math.prod(size[1:])
        where = torch.stack([places // stride % length - 1 for stride, length in zip(strides, size[1:], strict=True)])
        own = self.values[row, :, self.grid.flat(where)]
        steps = (self.grid.steps(where).float() * self.compactness).T
        labels = labels.clamp_min(0)
        other = centre[row[:, None], :, labels]
        middle = self.grid.middle.float().T[labels] * self.compactness
        channels = own.shape[1]
        parts = [own[:, None] - other[..., :channels], steps[:, None] - middle - other[..., channels:]]
        return _squares(torch.cat(parts, dim=2).unbind(2))

    def _start(self) -> Float[Tensor, "n f k"]:
        """The middles of the boxes, moved to the lowest gradient in their neighbourhood."""
        grid = self.grid
        first, last = grid.corners
        middle = (first + last) // 2
        n = len(self.values)
        best = self._gradient(middle)
        moved = torch.zeros(n, *middle.shape, device=middle.device, dtype=torch.int64)
        for offset in grid.around:
            place = torch.minimum(torch.maximum(middle + grid.axes(offset), first), last)
            slope = self._gradient(place)
            moved = torch.where((slope < best)[:, None], place - middle, moved)
            best = torch.minimum(best, slope)
        place = grid.flat((middle + moved).movedim(1, 0))[:, None]
        values = self.values.gather(2, place.expand(-1, self.values.shape[1], -1))
        return self._joint(values, (first + last).double() / 2 + moved)

    def _gradient(self, place: Int[Tensor, "r k"]) -> Float[Tensor, "n k"]:
        """The squared central differences at some places, over axes and channels."""
        total = self.values.new_zeros(len(self.values), place.shape[1])
        for axis, length in enumerate(self.grid.size):
            sides = []
            for step in (-1, 1):
                beside = place.clone()
                beside[axis] = (beside[axis] + step).clamp(0, length - 1)
                sides.append(self.values[:, :, self.grid.flat(beside)])
            total = total + _squares((sides[1] - sides[0]).unbind(1))
        return total

    def _codes(self, centre: Float[Tensor, "n f k"]) -> Int[Tensor, "n k m"]:
        """The squared distance to the nearest centre; its last five bits say whose box that centre started in."""
        n, many = centre.shape[:2]
        edge = (1, 1) * self.grid.rank
        padded = F.pad(centre.reshape(n, many, *self.grid.pieces), edge)
        beyond = F.pad(torch.zeros(self.grid.pieces, device=centre.device), edge, value=math.inf)
        distance, term = torch.empty_like(self.square), torch.empty_like(self.square)
        best = torch.full_like(distance, math.inf).view(torch.int32)
        for number, offset in enumerate(self.grid.around):
            window = [slice(1 + o, 1 + o + k) for o, k in zip(offset, self.grid.pieces, strict=True)]
            shift = centre.new_tensor([*(0,) * (many - len(offset)), *offset]) * self.compactness
            near = padded[(slice(None), slice(None), *window)].reshape(n, many, -1) + shift[:, None]
            constant = beyond[tuple(window)].reshape(1, -1) + _squares(near.unbind(1))
            torch.add(self.square, constant[..., None], out=distance)
            for feature, other in zip(self.features, (-2 * near).unbind(1), strict=True):
                distance.add_(torch.mul(feature, other[..., None], out=term))
            code = distance.clamp_min_(0).view(torch.int32).bitwise_and_(-32).bitwise_or_(number)
            torch.minimum(best, code, out=best)
        return best

    def _means(self, code: Int[Tensor, "n k m"], centre: Float[Tensor, "n f k"]) -> Float[Tensor, "n f k"]:
        """The middles of what is nearest to each centre; a centre that has nothing stays."""
        n, grid = len(code), self.grid
        place = (code & 31) + 32 * torch.arange(n * grid.count, device=code.device, dtype=torch.int32).reshape(n, -1, 1)
        place = place.flatten().long()
        owner = grid.owner[None].expand(n, -1, -1).flatten(1)
        parts = []
        for weight in self.sums:
            boxed = weight.new_zeros(n * grid.count * 32).scatter_add_(0, place, weight.flatten())
            parts.append(weight.new_zeros(n, grid.count).scatter_add_(1, owner, boxed.reshape(n, -1)))
        count, *rest = parts
        mean = torch.stack(rest, dim=1) / count.clamp_min(1)[:, None]
        channels = mean.shape[1] - grid.rank
        low, width = self.scale
        values = ((mean[:, :channels] - low) / width).float()
        return torch.where(count[:, None] > 0, self._joint(values, mean[:, channels:]), centre)

    def _joint(self, values: Float[Tensor, "n c k"], places: Float[Tensor, "n r k"]) -> Float[Tensor, "n f k"]:
        """Values beside the distance from the middle of the box, in units of its edge times the compactness."""
        steps = self.grid.steps(places.movedim(1, 0)).movedim(0, 1) - self.grid.middle
        return torch.cat([values, steps.float() * self.compactness], dim=1)


def _scale(levels: Float[Tensor, "n c p"]) -> tuple[Float[Tensor, "n c 1"], Float[Tensor, "n 1 1"]]:
    """The mean of each channel, and the root of the variance summed over channels (1 where there is none)."""
    total = levels.shape[2]
    whole = levels.long()
    mean = whole.sum(2).double() / total
    spread = (whole * whole).sum(2).double() / total - mean * mean
    variance = _total(spread.unbind(1)).clamp_min(0)
    return mean[..., None], torch.where(variance > 0, variance, 1).sqrt()[:, None, None]


def _standard(levels: Float[Tensor, "n c p"]) -> Float[Tensor, "n c p"]:
    mean, width = _scale(levels)
    return ((levels - mean) / width).float()


def _squares(features: Sequence[Tensor]) -> Tensor:
    return _total([feature * feature for feature in features])


def _total(parts: Sequence[Tensor]) -> Tensor:
    """The sum, added in the order of the parts: a reduction's own order may depend on the batch."""
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def _reached(labels: Int[Tensor, "n *s"], seeds: Int[Tensor, "n k"]) -> Bool[Tensor, "n *s"]:
    """The positions that are connected to the seed of their label (-1: none) within it."""
    reached = labels.new_zeros(labels.shape, dtype=torch.bool)
    row, label = (seeds >= 0).nonzero(as_tuple=True)
    reached.view(len(labels), -1)[row, seeds[row, label]] = True
    alike = [
        labels.narrow(a, 1, labels.shape[a] - 1) == labels.narrow(a, 0, labels.shape[a] - 1)
        for a in range(1, labels.ndim)
    ]
    count = -1
    while count != (count := int(reached.sum())):
        for axis, same in enumerate(alike, start=1):
            ahead, behind = (reached.narrow(axis, start, labels.shape[axis] - 1) for start in (1, 0))
            ahead |= behind & same
            behind |= ahead & same
    return reached


def _numbered(labels: Int[Tensor, "n *s"]) -> Int[Tensor, "n *s"]:
    """The labels of each sample numbered without gaps, in their order."""
    flat = labels.flatten(1)
    used = flat.new_zeros(len(flat), int(flat.max()) + 1).scatter_(1, flat, 1)
    return (used.cumsum(1) - 1).gather(1, flat).reshape(labels.shape)
