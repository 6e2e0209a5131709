"""Where a layer's output changes when the input changes at one place: what the operations leave open."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from heatproof.probe.ends import end
from heatproof.probe.layout import ROWS, Layout, Places
from heatproof.probe.state import borrowed, holding_weakly

COUNT = 12  # places at which the input is disturbed
MOST_ENDS = 8  # tokens that are no positions
FINE = 8  # positions along an axis on which one more or less is no matter
ENOUGH = 0.75  # the least share of places that must answer where they should
CHANCE = 1e-3  # of some reading fitting as well where nothing follows the place
DOUBT = 0.01  # the same for one axis by itself
CLOSE = 3.0  # readings whose chances differ by less, as logarithms, fit alike


@holding_weakly("model")
@dataclass(eq=False)
class Trial:
    """One pass of a sample and of copies of it, each disturbed at one place, made when it is first asked for.

    Attributes:
        model, sample: the model, and the sample (1, C, *S). asked: the calls to look at, by number in the pass, with
            the shape of their output for one sample. passes: where its rows are counted.
    """

    model: nn.Module
    sample: Float[Tensor, "1 c *s"]
    asked: dict[int, tuple[int, ...]]
    passes: Counter[str] = field(default_factory=Counter)
    _layouts: dict[int, Layout | None] | None = None

    def layout(self, number: int) -> Layout | None:
        """How the output of a call is read, or None where nothing in it follows the place that was disturbed."""
        if self._layouts is None:
            self._layouts = self._run() if self.asked else {}
        return self._layouts.get(number)

    def _run(self) -> dict[int, Layout | None]:
        places = _places(self.sample.shape[2:])
        batch = _disturbed(self.sample, places)
        changes: dict[int, tuple[int, Tensor]] = {}
        count = [0]

        def look(_: nn.Module, __: Any, out: Any) -> None:
            number, count[0] = count[0], count[0] + 1
            shape = self.asked.get(number)
            tensor = end(out)
            if shape is not None and tensor is not None and tensor.is_floating_point():
                change = _change(tensor.detach(), shape, len(batch))
                if change is not None:
                    changes[number] = change

        with borrowed(self.model, dict.fromkeys(self.model.modules(), look)):
            try:
                self.model(batch)
            except (RuntimeError, ValueError, TypeError, IndexError, AssertionError):
                return {}
        self.passes["forward"] += len(batch)
        extent = tuple(self.sample.shape[2:])
        return {number: decided(change, rows, places, extent) for number, (rows, change) in changes.items()}


def _places(size: Sequence[int]) -> list[tuple[int, ...]]:
    """Places spread over all axes, no two alike along any of them where it is long enough.

    Each axis runs through its shares in an order drawn for it alone: no axis must tell where another one is.
    """
    generator = torch.Generator().manual_seed(0)
    orders = [torch.randperm(COUNT, generator=generator).tolist() for _ in size]
    return [
        tuple(min(s - 1, int((order[i] + 0.5) / COUNT * s)) for s, order in zip(size, orders, strict=True))
        for i in range(COUNT)
    ]


def _width(size: int) -> int:
    """How many positions are disturbed on each side of a place."""
    return size // 40


def _disturbed(x: Float[Tensor, "1 c *s"], places: Sequence[tuple[int, ...]]) -> Float[Tensor, "m c *s"]:
    """The sample, and once for each place with a small box of noise there, five deviations strong."""
    batch = x.repeat(len(places) + 1, *(1,) * (x.ndim - 1))
    scale = 5 * float(x.float().std()) if x.numel() > 1 else 0.0
    generator = torch.Generator().manual_seed(0)
    for row, place in enumerate(places, 1):
        widths = [_width(size) for size in x.shape[2:]]
        box = tuple(slice(max(0, at - width), at + width + 1) for at, width in zip(place, widths, strict=True))
        part = batch[row : row + 1][(slice(None), slice(None), *box)]
        noise = torch.randn(part.shape, generator=generator).sign()
        part += noise.to(part) * (scale or 1.0)
    return batch


def _change(out: Tensor, shape: tuple[int, ...], rows: int) -> tuple[int, Tensor] | None:
    """The axis of the samples, and how much each number of the others differs from the undisturbed ones."""
    if out.ndim != len(shape) or out.ndim < 2:
        return None
    apart = [i for i, (a, b) in enumerate(zip(out.shape, shape, strict=True)) if a != b]
    if len(apart) != 1 or shape[apart[0]] != 1 or out.shape[apart[0]] != rows:
        return None
    out = out.movedim(apart[0], 0).float()
    return apart[0], (out[1:] - out[:1]).abs().cpu()


def decided(
    change: Float[Tensor, "m *d"], rows: int, places: Sequence[tuple[int, ...]], extent: tuple[int, ...]
) -> Layout | None:
    """The layout under which the changes lie where the input was disturbed; None where none fits better than by chance.

    Args:
        change: for each place, how much each entry of the output changed. rows: the output's axis of samples.
    """
    if not bool(torch.isfinite(change).all()):
        return None
    fits: list[tuple[float, int, Places, tuple[int, ...], int, int]] = []
    for axes in _assignments(change.ndim - 1, len(extent)):
        held = [i for i, place in enumerate(axes) if place]
        others = [i + 1 for i in range(len(axes)) if i not in held]
        profile = change.amax(others) if others else change
        for peaks in _peaks(profile):
            for grid, prefix, suffix in _grids(axes, change.shape[1:], extent):
                fits.append((_chance(peaks, grid, prefix, places, extent), prefix + suffix, axes, grid, prefix, suffix))
    best = min((fit[0] for fit in fits), default=0.0)
    if not fits or best + math.log(len(fits)) > math.log(CHANCE):
        return None
    close = [fit for fit in fits if fit[0] <= best + CLOSE]
    fits = sorted(close, key=lambda fit: (fit[1], fit[0], -math.prod(fit[3])))
    _, _, axes, grid, prefix, suffix = fits[0]
    return Layout.of((*axes[:rows], (ROWS,), *axes[rows:]), grid, prefix, suffix)


def _peaks(profile: Float[Tensor, "m *g"]) -> Iterator[list[tuple[int, ...]]]:
    """Where each row changes most, more than the others do; and along one axis, where it changes first."""
    own = profile - profile.median(0).values
    flat = own.flatten(1).argmax(1)
    yield [tuple(int(i) for i in torch.unravel_index(at, own.shape[1:])) for at in flat]
    if profile.ndim == 2:
        changed = profile > 0.02 * profile.amax(1, keepdim=True)
        yield [(int(at),) for at in changed.int().argmax(1)]


def _chance(
    peaks: Sequence[tuple[int, ...]],
    grid: tuple[int, ...],
    prefix: int,
    places: Sequence[tuple[int, ...]],
    extent: tuple[int, ...],
) -> float:
    """The logarithm of the chance that so many peaks lie in the cells of their places, or beside them.

    Places may share a cell, and a channel that always answers then fits all of them: only distinct cells count. Each
    axis must show by itself that it follows the place.
    """
    best = 0.0
    # Where each axis of the input has one of its own, the largest change may lie one cell off on short ones too.
    own = len(grid) > 1 and all(len(peak) == len(grid) for peak in peaks)
    wide = [_width(size) * g / size for g, size in zip(grid, extent, strict=True)]
    for slack in (0.5, 1.0, 1.5) if own else (0.5, 1.0):
        reach = [
            (slack if g >= (FINE // 2 if own else FINE) else 0.5) + (w if g >= FINE else 0.0)
            for g, w in zip(grid, wide, strict=True)
        ]
        hits: dict[tuple[int, ...], tuple[bool, ...]] = {}
        for peak, place in zip(peaks, places, strict=True):
            at = peak if len(peak) == len(grid) else _unravelled(peak[0] - prefix, grid)
            middle = [(p + 0.5) * g / s for p, g, s in zip(place, grid, extent, strict=True)]
            cell = tuple(min(g - 1, int(m)) for m, g in zip(middle, grid, strict=True))
            near = tuple(
                at is not None and abs(at[axis] + 0.5 - m) <= r + 1e-6
                for axis, (m, r) in enumerate(zip(middle, reach, strict=True))
            )
            hits[cell] = tuple(a and b for a, b in zip(hits.get(cell, near), near, strict=True))
        good, cells = sum(map(all, hits.values())), len(hits)
        if good < ENOUGH * cells or good < 2:
            continue
        chances = [
            math.log(math.comb(cells, right)) + (right - 1) * math.log(min(1.0, 2 * r / g))
            for axis, (r, g) in enumerate(zip(reach, grid, strict=True))
            if g > 1 and (right := sum(near[axis] for near in hits.values()))
        ]
        if all(chance < math.log(DOUBT) for chance in chances):
            best = min(best, sum(chances))
    return best


def _unravelled(at: int, grid: tuple[int, ...]) -> tuple[int, ...] | None:
    if not 0 <= at < math.prod(grid):
        return None
    parts = []
    for size in grid[::-1]:
        parts.append(at % size)
        at //= size
    return tuple(parts[::-1])


def _assignments(ndim: int, rank: int) -> Iterator[Places]:
    """Which axes of the output hold which axes of the input, in their order; the rest are channels."""
    seen: set[Places] = set()
    for axes in combinations(range(ndim), rank):
        seen.add(tuple((axes.index(axis),) if axis in axes else () for axis in range(ndim)))
    for axis in range(ndim):
        seen.add(tuple(tuple(range(rank)) if i == axis else () for i in range(ndim)))
    yield from sorted(seen)


def _grids(axes: Places, shape: Sequence[int], extent: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], int, int]]:
    """The grids that these axes may be, with tokens before and behind them; never finer than the input."""
    held = [i for i, place in enumerate(axes) if place]
    if len(held) == len(extent) > 1:
        grid = tuple(shape[i] for i in held)
        if all(g <= 2 * s for g, s in zip(grid, extent, strict=True)):
            yield grid, 0, 0
        return
    count = shape[held[0]]
    for ends in range(MOST_ENDS + 1):
        for grid in _factors(count - ends, extent):
            for prefix in range(ends + 1):
                yield grid, prefix, ends - prefix


def _factors(count: int, extent: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    if len(extent) == 1:
        if min(2, extent[0]) <= count <= extent[0]:
            yield (count,)
        return
    for first in range(min(2, extent[0]), min(count, extent[0]) + 1):
        if count % first == 0:
            yield from ((first, *rest) for rest in _factors(count // first, extent[1:]))
