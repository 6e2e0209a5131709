"""Tiles in rows and columns: each an input with its map, under names that are never cut."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from heatproof.plots.colours import scale
from heatproof.plots.names import fit, height, width
from heatproof.plots.panel import Drawing, bars, plane, remark, strip
from heatproof.plots.style import GREEN, INK, ORANGE, WIDTH, page

GAP = 0.05  # inches between tiles
HEAD = 0.14  # above each plane of a volume
SCALE = 0.36  # below all tiles, for the scale of colours


@dataclass(frozen=True, eq=False)
class Tile:
    """One input with what is drawn over it.

    Attributes:
        x: the input (C, *S).
        heat: its map (*S) as shown, in [-1, 1], or None; remark: why nothing of it can be shown, or empty.
        mask: the planted truth (*S), or None.
        place: where a volume is cut.
    """

    x: Float[np.ndarray, "c *s"]
    heat: Float[np.ndarray, "*s"] | None = None
    mask: Bool[np.ndarray, "*s"] | None = None
    remark: str = ""
    place: tuple[int, ...] = ()


@dataclass(frozen=True)
class Lettering:
    """The names around tiles: of columns, of rows, and a caption above each tile; ``marked`` captions are orange."""

    tops: Sequence[str] = ()
    sides: Sequence[str] = ()
    captions: Sequence[str] = ()
    marked: Sequence[bool] = ()


@dataclass(frozen=True)
class Size:
    """The size of tiles: at most so many inches wide, images of so many pixels; ``ticks``: positions stand below."""

    inches: float = 1.6
    pixels: int = 96
    ticks: bool = False


def grid(
    tiles: Sequence[Tile | None],
    columns: int,
    *,
    lettering: Lettering,
    drawing: Drawing = "overlay",
    size: Size,
) -> Figure:
    """Tiles in reading order, None leaving a gap; margins are set by hand, since arranging a hundred takes seconds."""
    rows = max(1, math.ceil(len(tiles) / columns))
    present = [tile for tile in tiles if tile is not None]
    flat = not present or present[0].x.ndim == 2
    sides = [fit(side, 1.5, lines=4) for side in lettering.sides]
    left = max([0.05, *(0.15 + width(*side) for side in sides if side[0])])
    ticked = size.ticks and flat and bool(present)
    right = 0.1 if ticked else 0.0  # half the last position's number
    wide = (WIDTH - left - right - GAP * columns) / columns
    deep = bool(present) and present[0].x.ndim == 4
    wide = wide if flat else min(wide, size.inches * (2.2 if deep else 1.0))
    tall = max([_tall(tile, wide, drawing) for tile in present], default=0.5)
    tops = [fit(top, wide, bold=True) for top in lettering.tops]
    captions = [fit(caption, wide, size=7.5) for caption in lettering.captions]
    lines = [captions[row * columns : (row + 1) * columns] for row in range(rows)]
    above = [max([0.0, *(0.06 + height(*caption) for caption in line if caption[0])]) for line in lines]
    head = max([0.05, *(0.08 + height(*top) for top in tops)])
    each = tall + GAP + (0.17 if ticked else 0.0)
    foot = SCALE if any(tile.heat is not None for tile in present) and (drawing != "contour" or size.ticks) else 0.0
    across = max(left + columns * (wide + GAP) + right, left + 2.9 if foot else 0.0)
    total = head + rows * each + sum(above) + foot
    edges = [total - head - row * each - sum(above[: row + 1]) for row in range(rows)]
    drawn = page(across, total)
    for i, tile in enumerate(tiles):
        row, column = divmod(i, columns)
        if tile is None:
            continue
        x, y = left + column * (wide + GAP), edges[row]
        _tile(drawn, tile, (x, y, wide, tall), drawing, size)
        if i < len(captions):
            colour = ORANGE if i < len(lettering.marked) and lettering.marked[i] else INK
            _write(drawn, captions[i], x + wide / 2, y + 0.03, colour=colour)
        if row == 0 and column < len(tops):
            _write(drawn, tops[column], x + wide / 2, total - head + 0.04, bold=True)
    for row, side in enumerate(sides):
        _write(drawn, side, left - 0.08, edges[row] - tall / 2, ha="right", va="center")
    if foot:
        _foot(drawn, present, drawing, left + 0.45, across)
    return drawn


def _tall(tile: Tile, wide: float, drawing: Drawing) -> float:
    """The height of a tile in inches."""
    shape = tile.x.shape[1:]
    if len(shape) == 1:
        one, channels = 0.62 * min(wide, 1.4), len(tile.x)
        return one if channels == 1 or _alone(tile, drawing) else float(max(0.12 * channels, one * channels**0.4))
    if len(shape) == 2:
        return float(min(4.0, wide * shape[0] / shape[1]))
    return HEAD + max(_plane_sizes(shape, wide)[1])


def _alone(tile: Tile, drawing: Drawing) -> bool:
    return drawing == "map" and tile.heat is not None


def _plane_sizes(shape: tuple[int, ...], wide: float) -> tuple[float, list[float]]:
    """The width of each of the three planes of a volume, and the height of each."""
    d, h, w = shape
    one = (wide - 2 * GAP) / 3
    return one, [one * min(max(rows / columns, 0.3), 1.6) for rows, columns in ((h, w), (d, w), (d, h))]


def _tile(drawn: Figure, tile: Tile, box: tuple[float, float, float, float], drawing: Drawing, size: Size) -> None:
    """Draw one tile with its upper left corner and its size in inches."""
    x, y, wide, tall = box
    shape = tile.x.shape[1:]
    if len(shape) == 3:
        _planes(drawn, tile, box, drawing, size.pixels)
    elif len(shape) == 2:
        axes = _axes(drawn, x, y, wide, tall)
        plane(axes, tile.x, tile.heat, tile.mask, drawing, size.pixels)
        _remark(axes, tile)
    else:
        channels = 1 if _alone(tile, drawing) else len(tile.x)
        each = tall / channels
        for k in range(channels):
            space = 0.03 if channels > 1 else 0.0
            axes = _axes(drawn, x, y - k * each, wide, each - space)
            if tile.heat is not None and drawing == "map":
                bars(axes, tile.heat, tile.mask)
            else:
                strip(axes, tile.x[k], tile.heat, tile.mask, drawing)
            if k == channels // 2:
                _remark(axes, tile)
        if size.ticks:
            axes.xaxis.set_major_locator(MaxNLocator(max(2, int(2 * wide)), integer=True))
            axes.tick_params(axis="x", labelsize=6.5, length=2, pad=1.5)


def _planes(drawn: Figure, tile: Tile, box: tuple[float, float, float, float], drawing: Drawing, pixels: int) -> None:
    """Draw three planes of a volume side by side, through the place where it is cut."""
    x, y, wide, _ = box
    shape = tile.x.shape[1:]
    place = tile.place or tuple(n // 2 for n in shape)
    finite = tile.x[np.isfinite(tile.x)]
    limits = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    one, heights = _plane_sizes(shape, wide)
    for axis in range(3):
        cut = tuple(place[axis] if i == axis else slice(None) for i in range(3))
        heat, mask = (None if part is None else part[cut] for part in (tile.heat, tile.mask))
        axes = _axes(drawn, x + axis * (one + GAP), y - HEAD, one, heights[axis])
        plane(axes, tile.x[(slice(None), *cut)], heat, mask, drawing, pixels, limits=limits)
        rows, columns = (place[i] for i in range(3) if i != axis)
        axes.axhline(rows, color=GREEN, linewidth=0.6, alpha=0.7)
        axes.axvline(columns, color=GREEN, linewidth=0.6, alpha=0.7)
        axes.set_title(f"axis {axis + 1} at {place[axis]}", fontweight="normal", fontsize=6.5, pad=1.5)
        if axis == 1:
            _remark(axes, tile)


def _remark(axes: Axes, tile: Tile) -> None:
    if tile.remark:
        remark(axes, tile.remark)


def _axes(drawn: Figure, x: float, y: float, wide: float, tall: float) -> Axes:
    """Axes with their upper left corner and their size in inches."""
    across, total = drawn.get_size_inches()
    return drawn.add_axes((x / across, (y - tall) / total, wide / across, tall / total))


def _write(
    drawn: Figure,
    text: tuple[str, float],
    x: float,
    y: float,
    *,
    ha: str = "center",
    va: str = "bottom",
    bold: bool = False,
    colour: str = INK,
) -> None:
    across, total = drawn.get_size_inches()
    weight = "bold" if bold else "normal"
    drawn.text(x / across, y / total, text[0], fontsize=text[1], ha=ha, va=va, fontweight=weight, color=colour)


def _foot(drawn: Figure, tiles: Sequence[Tile], drawing: Drawing, x: float, across: float) -> None:
    """The scale of colours below all tiles, or what contours mean."""
    signed = any(tile.heat is not None and (tile.heat < 0).any() for tile in tiles)
    if drawing == "contour" or (drawing == "map" and tiles[0].x.ndim == 2):
        against = ", blue: against it" if signed else ""
        what = "contours at 35 % and 70 % of each map's scale" if drawing == "contour" else "each map on its own scale"
        note = f"{what}; orange: for the class{against}"
        _write(drawn, fit(note, across - 0.2, size=7.5), across / 2, 0.06)
        return
    scale(_axes(drawn, x, 0.3, min(3.0 if signed else 2.0, across - x - 0.6), 0.1), signed=signed)
