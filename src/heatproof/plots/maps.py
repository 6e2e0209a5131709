"""Heatmaps drawn over what they explain: signals, images and volumes.

Warm is evidence for the explained class, cold against it, clear is none, and deeper is more. Each map is scaled by its
own largest absolute value, zero staying zero; that is for display only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import ArrayLike

from heatproof.errors import InputError
from heatproof.plots.colours import heat as coloured
from heatproof.plots.colours import scale
from heatproof.plots.style import BLUE, GREEN, INK, ORANGE, PALETTE, WIDTH, bare, figure, longest, short, styled

Drawing = Literal["overlay", "contour"]
SIDE = 224  # pixels of a single image; larger ones are shrunk
THUMB = 96  # pixels of an image in a gallery


@styled
def attribution(
    x: ArrayLike,
    map: ArrayLike | None = None,
    *,
    mask: ArrayLike | None = None,
    title: str = "",
    drawing: Drawing = "overlay",
) -> Figure:
    """One input x (C, *S) with its map (*S) over it, and the mask (*S) outlined: a signal, an image, or slices.

    A volume is shown in three slices through its most relevant position (its middle without a map).

    Raises: InputError where x has no 1 to 3 position axes, or map or mask do not fit it.
    """
    inputs, heat, truth = _fitting(x, map, mask)
    if inputs.ndim == 4:
        drawn = _slices(inputs, heat, truth, drawing)
        drawn.suptitle(title, fontweight="bold", fontsize=9.5)
        return drawn
    flat = inputs.ndim == 2
    drawn = figure(WIDTH if flat else 3.0, 2.0 if flat else 3.2)
    axes = drawn.subplots()
    panel(axes, inputs, heat, truth, drawing)
    if flat:
        axes.set(xlabel="position", ylabel="value")
    axes.set_title(title)
    return drawn


@styled
def gallery(
    x: ArrayLike,
    maps: Mapping[str, ArrayLike],
    *,
    labels: Sequence[str] = (),
    mask: ArrayLike | None = None,
    drawing: Drawing = "overlay",
) -> Figure:
    """Inputs x (N, C, *S) down, methods across, each with its map (N, *S); images and volumes also by themselves.

    A volume is shown in the one slice where its maps (or its mask) have most to say.

    Raises: InputError where maps, mask or labels do not fit x.
    """
    inputs = np.asarray(x, dtype=np.float64)
    heats = {name: np.asarray(heat, dtype=np.float64) for name, heat in maps.items()}
    truth = None if mask is None else np.asarray(mask, dtype=bool)
    if labels and len(labels) != len(inputs):
        raise InputError(f"got {len(labels)} labels for {len(inputs)} inputs; expected one each")
    for name, heat in heats.items():
        _fit(heat, (len(inputs), *inputs.shape[2:]), f"map of {name}")
    if truth is not None:
        _fit(truth, (len(inputs), *inputs.shape[2:]), "mask")
    columns: list[str | None] = [*heats] if inputs.ndim == 3 else [None, *heats]
    cells = []
    for i, one in enumerate(inputs):
        rows = {name: heat[i] for name, heat in heats.items()}
        one, rows, own = _flattened(one, rows, None if truth is None else truth[i])
        cells += [(one, None if name is None else rows[name], own) for name in columns]
    return _grid(cells, max(1, len(columns)), tops=[name or "input" for name in columns], sides=labels, drawing=drawing)


@styled
def panels(
    x: ArrayLike,
    captions: Sequence[str],
    *,
    maps: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    wrong: Sequence[bool] = (),
    columns: int = 4,
    rows: Sequence[str] = (),
    heads: Sequence[str] = (),
) -> Figure:
    """Inputs x (N, C, *S) one after the other, each under its caption; ``wrong`` ones have it in orange.

    Images and volumes with maps are shown by themselves too, before the map. ``rows`` and ``heads`` name a table's.
    """
    inputs = np.asarray(x, dtype=np.float64)
    if len(captions) != len(inputs):
        raise InputError(f"got {len(captions)} captions for {len(inputs)} inputs; expected one each")
    heats = None if maps is None else np.asarray(maps, dtype=np.float64)
    truth = None if mask is None else np.asarray(mask, dtype=bool)
    for name, part in (("maps", heats), ("mask", truth)):
        if part is not None:
            _fit(part, (len(inputs), *inputs.shape[2:]), name)
    cells: list[Cell] = []
    double = heats is not None and inputs.ndim > 3
    for i, one in enumerate(inputs):
        shown = {} if heats is None else {"map": heats[i]}
        one, shown, own = _flattened(one, shown, None if truth is None else truth[i])
        cells += [(one, None, own)] * double + [(one, shown.get("map"), own)]
    if double:
        captions = [said for caption in captions for said in (caption, "its map")]
        wrong = [flag for one in wrong for flag in (one, False)]
    count = max(1, min(columns, len(cells)))
    return _grid(cells, count, tops=heads, sides=rows, captions=captions, wrong=wrong)


Cell = tuple[np.ndarray, np.ndarray | None, np.ndarray | None]


def _grid(
    cells: Sequence[Cell],
    columns: int,
    *,
    tops: Sequence[str] = (),
    sides: Sequence[str] = (),
    captions: Sequence[str] = (),
    wrong: Sequence[bool] = (),
    drawing: Drawing = "overlay",
) -> Figure:
    """Panels in reading order; margins are set by hand, since arranging a hundred of them takes seconds."""
    rows = max(1, math.ceil(len(cells) / columns))
    flat = not cells or cells[0][0].ndim == 2
    sides = [_folded(side, 1.1) for side in sides]
    left = 0.1 + 0.068 * longest([line for side in sides for line in side.split("\n")]) if any(sides) else 0.05
    gap, head = (0.2 if captions else 0.05), (0.34 if tops else 0.0) + (0.22 if captions or not tops else 0.0)
    wide = (WIDTH - left - 0.05 * columns) / columns
    wide = wide if flat else min(wide, 1.6)
    one = cells[0][0].shape if cells else (1, 1)
    tall = 0.62 * min(wide, 1.4) if flat else wide * one[-2] / one[-1]
    foot = 0.36 if any(heat is not None for _, heat, _ in cells) and drawing == "overlay" else 0.0
    width, height = left + columns * (wide + 0.05), head + rows * (tall + gap) + foot
    drawn = Figure(figsize=(width, height))
    for i, (x, heat, mask) in enumerate(cells):
        row, column = divmod(i, columns)
        bottom = height - head - row * (tall + gap) - tall
        axes = drawn.add_axes(((left + column * (wide + 0.05)) / width, bottom / height, wide / width, tall / height))
        panel(axes, x, heat, mask, drawing, side=THUMB, small=True)
        if row == 0 and tops:
            at = axes.get_position()
            low = at.y1 + (0.24 if captions else 0.04) / height
            drawn.text((at.x0 + at.x1) / 2, low, _folded(tops[column], wide), ha="center", va="bottom", fontsize=8,
                       fontweight="bold")  # fmt: skip
        if column == 0 and any(sides):
            axes.text(-0.05, 0.5, sides[row], ha="right", va="center", transform=axes.transAxes, fontsize=8)
        if captions:
            colour = ORANGE if i < len(wrong) and wrong[i] else INK
            axes.set_title(captions[i], fontsize=7.5, pad=2, color=colour, fontweight="normal")
    if foot:
        signed = any(heat is not None and (scaled(heat) < 0).any() for _, heat, _ in cells)
        long = min(3.0 if signed else 2.0, width - left - 0.6)
        strip = drawn.add_axes(((left + 0.3) / width, 0.2 / height, long / width, 0.1 / height))
        scale(strip, signed=signed)
    return drawn


def panel(
    axes: Axes,
    x: Float[np.ndarray, "c *s"],
    map: Float[np.ndarray, "*s"] | None = None,
    mask: Bool[np.ndarray, "*s"] | None = None,
    drawing: Drawing = "overlay",
    *,
    side: int = SIDE,
    small: bool = False,
) -> None:
    """Draw a signal or an image with its map into the axes."""
    heat = None if map is None else scaled(map)
    if x.ndim == 2:
        _signal(axes, x, heat, mask, small)
    else:
        _image(axes, x, heat, mask, drawing, side)


def scaled(map: Float[np.ndarray, "*s"]) -> Float[np.ndarray, "*s"]:
    """The map divided by its largest absolute value: in [-1, 1], zero stays zero; what is not finite is zero."""
    known = np.where(np.isfinite(map), map, 0.0)
    limit = np.abs(known).max(initial=0.0)
    return np.asarray(known / limit) if limit > 0 else np.zeros_like(known)


def _signal(
    axes: Axes,
    x: Float[np.ndarray, "c p"],
    map: Float[np.ndarray, " p"] | None,
    mask: Bool[np.ndarray, " p"] | None,
    small: bool,
) -> None:
    length = x.shape[1]
    low, high = float(np.nanmin(x)), float(np.nanmax(x))
    space = 0.08 * (high - low) or 1.0
    low, high = low - (2.2 if mask is not None else 1.0) * space, high + space
    if map is not None:
        band = coloured(map)[None]
        axes.imshow(
            band, extent=(-0.5, length - 0.5, low, high), aspect="auto", interpolation="none", zorder=0, clip_on=False
        )
    for i, channel in enumerate(x):
        colour = INK if len(x) == 1 else PALETTE[i % len(PALETTE)]
        axes.plot(channel, color=colour, linewidth=0.9 if small else 1.3, zorder=2, clip_on=False)
    for start, stop in _runs(mask) if mask is not None else ():
        axes.add_patch(
            Rectangle((start - 0.5, low), stop - start, 0.7 * space, color=GREEN, linewidth=0, clip_on=False)
        )
    axes.set(xlim=(-0.5, length - 0.5), ylim=(low, high))
    if small:
        bare(axes)
        axes.patch.set(edgecolor=INK, linewidth=0.7, alpha=0.3)


def _image(
    axes: Axes,
    x: Float[np.ndarray, "c h w"],
    map: Float[np.ndarray, "h w"] | None,
    mask: Bool[np.ndarray, "h w"] | None,
    drawing: Drawing,
    side: int,
) -> None:
    overlay = map if drawing == "overlay" else None
    h, w = x.shape[1:]
    extent = (-0.5, w - 0.5, h - 0.5, -0.5)
    axes.imshow(_picture(x, overlay, side), extent=extent, interpolation="none", clip_on=False)
    if map is not None and drawing == "contour":
        for sign, colour in ((1.0, ORANGE), (-1.0, BLUE)):
            strength = sign * map
            levels = [v for v in (0.35, 0.7) if strength.min() < v < strength.max()]
            if levels:
                axes.contour(strength, levels, colors=colour, linewidths=(1.0, 1.8)[: len(levels)])
    if mask is not None and mask.any() and not mask.all():
        axes.contour(mask.astype(np.float64), [0.5], colors=GREEN, linewidths=1.2)
    bare(axes)


def _picture(
    x: Float[np.ndarray, "c h w"], map: Float[np.ndarray, "h w"] | None, side: int
) -> Float[np.ndarray, "h2 w2 3"]:
    """The image as RGB in [0, 1]; under a map it is grey, so that colour means relevance."""
    known = np.where(np.isfinite(x), x, 0.0)
    low, high = known.min(), known.max()
    if low < 0.0 or high > 1.0 or len(x) != 3:
        known = (known - low) / (high - low if high > low else 1.0)
    colour = known if len(x) == 3 else np.repeat(known.mean(axis=0, keepdims=True), 3, axis=0)
    colour = _shrunk(colour, side)
    if map is None:
        return np.moveaxis(colour, 0, -1)
    grey = np.tensordot([0.299, 0.587, 0.114], colour, axes=1)[..., None]
    heat = coloured(_shrunk(map[None], side)[0])
    return np.asarray(heat[..., :3] * heat[..., 3:] + (0.15 + 0.85 * grey) * (1.0 - heat[..., 3:]))


def _shrunk(planes: Float[np.ndarray, "c h w"], side: int) -> Float[np.ndarray, "c h2 w2"]:
    h, w = planes.shape[1:]
    if max(h, w) <= side:
        return planes
    from PIL import Image

    size = max(1, round(w * side / max(h, w))), max(1, round(h * side / max(h, w)))
    parts = [Image.fromarray(plane.astype(np.float32)).resize(size, Image.Resampling.BOX) for plane in planes]
    return np.stack([np.asarray(part, dtype=np.float64) for part in parts]).clip(-1.0, 1.0)


def _slices(
    x: Float[np.ndarray, "c d h w"],
    map: Float[np.ndarray, "d h w"] | None,
    mask: Bool[np.ndarray, "d h w"] | None,
    drawing: Drawing,
) -> Figure:
    size = x.shape[1:]
    place = [n // 2 for n in size]
    if map is not None and np.isfinite(map).any():
        place = [int(i) for i in np.unravel_index(np.nanargmax(np.where(np.isfinite(map), map, -np.inf)), size)]
    heat = None if map is None else scaled(map)
    drawn = figure(WIDTH, 2.7)
    for axis, axes in enumerate(drawn.subplots(1, 3)):
        cut: list[Any] = [place[axis] if i == axis else slice(None) for i in range(3)]
        flat_heat, flat_mask = (None if part is None else part[tuple(cut)] for part in (heat, mask))
        _image(axes, x[(slice(None), *cut)], flat_heat, flat_mask, drawing, SIDE)
        rest = [place[i] for i in range(3) if i != axis]
        axes.axhline(rest[0], color=GREEN, linewidth=0.6, alpha=0.7)
        axes.axvline(rest[1], color=GREEN, linewidth=0.6, alpha=0.7)
        axes.set_title(f"axis {axis + 1} at {place[axis]}", fontweight="normal", fontsize=8.5)
    return drawn


def _flattened(
    x: Float[np.ndarray, "c *s"], maps: Mapping[str, Float[np.ndarray, "*s"]], mask: Bool[np.ndarray, "*s"] | None
) -> tuple[np.ndarray, dict[str, np.ndarray], np.ndarray | None]:
    """A volume cut at the slice of its first axis with the most relevance or mask; anything else as it is."""
    if x.ndim < 4:
        return x, dict(maps), mask
    weight = np.zeros(x.shape[1])
    for heat in maps.values():
        weight += np.abs(scaled(heat)).sum(axis=(1, 2))
    if mask is not None and mask.any():
        weight = mask.sum(axis=(1, 2)).astype(np.float64)
    at = int(weight.argmax()) if weight.any() else x.shape[1] // 2
    return x[:, at], {name: heat[at] for name, heat in maps.items()}, None if mask is None else mask[at]


def _fitting(
    x: ArrayLike, map: ArrayLike | None, mask: ArrayLike | None
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
    inputs = np.asarray(x, dtype=np.float64)
    if inputs.ndim not in (2, 3, 4):
        raise InputError(f"got an input of shape {inputs.shape}, expected (C, *S) with one to three position axes")
    heat = None if map is None else np.asarray(map, dtype=np.float64)
    truth = None if mask is None else np.asarray(mask, dtype=bool)
    for name, part in (("map", heat), ("mask", truth)):
        if part is not None:
            _fit(part, inputs.shape[1:], name)
    return inputs, heat, truth


def _fit(part: np.ndarray, shape: tuple[int, ...], name: str) -> None:
    if part.shape != shape:
        raise InputError(f"{name}: got shape {part.shape}, expected {shape} to fit the input")


def _runs(mask: Bool[np.ndarray, " p"]) -> list[tuple[int, int]]:
    """The stretches of True as (first, last + 1)."""
    steps = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    return [(int(a), int(b)) for a, b in zip(steps[::2], steps[1::2], strict=True)]


def _folded(name: str, wide: float) -> str:
    """The name on two lines where it is too wide for its column, broken at a hyphen or colon where there is one."""
    room = max(6, int(wide * 13))
    if len(name) <= room:
        return name
    breaks = [i + 1 for i, letter in enumerate(name) if letter in "-: " and i + 1 <= room]
    at = max(breaks, default=room)
    return f"{name[:at]}\n{short(name[at:], room)}"
