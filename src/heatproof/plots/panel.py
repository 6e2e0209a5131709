"""One input with its map, drawn into axes: a channel of a signal, an image, or a plane of a volume."""

from __future__ import annotations

from typing import Literal

import numpy as np
from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from heatproof.plots.colours import heat as coloured
from heatproof.plots.style import BLUE, GREEN, INK, ORANGE, bare

Drawing = Literal["overlay", "contour", "map"]
LEVELS = (0.35, 0.7)  # of contours
SIGNS = ((1.0, ORANGE), (-1.0, BLUE))


def strip(
    axes: Axes,
    channel: Float[np.ndarray, " p"],
    heat: Float[np.ndarray, " p"] | None,
    mask: Bool[np.ndarray, " p"] | None,
    drawing: Drawing,
) -> None:
    """Draw one channel of a signal over its heat in [-1, 1], with the mask as a bar below."""
    length = len(channel)
    finite = channel[np.isfinite(channel)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    space = 0.08 * (high - low) or 1.0
    low, high = low - (2.2 if mask is not None else 1.0) * space, high + space
    if heat is not None and drawing == "overlay":
        extent = (-0.5, length - 0.5, low, high)
        axes.imshow(coloured(heat)[None], extent=extent, aspect="auto", interpolation="none", zorder=0, clip_on=False)
    if heat is not None and drawing == "contour":
        for sign, colour in SIGNS:
            for level, width in zip(LEVELS, (0.9, 1.8), strict=True):
                for start, stop in runs(sign * heat >= level):
                    place, tall = (start - 0.5, low + 0.3 * space), high - low - 0.6 * space
                    axes.add_patch(Rectangle(place, stop - start, tall, fill=False, color=colour, linewidth=width))
    axes.plot(channel, color=INK, linewidth=0.9, zorder=2, clip_on=False)
    _span(axes, mask, low, 0.7 * space)
    _frame(axes, length, low, high)


def bars(axes: Axes, heat: Float[np.ndarray, " p"], mask: Bool[np.ndarray, " p"] | None) -> None:
    """Draw the heat of a signal by itself, above zero and below."""
    length, low = len(heat), -1.1 if (heat < 0).any() else -0.05
    low -= 0.1 if mask is not None else 0.0
    for sign, colour in SIGNS:
        part = np.maximum(sign * heat, 0.0) * sign
        if part.any():
            axes.fill_between(np.arange(length), part, step="mid", color=colour, linewidth=0, clip_on=False)
    axes.axhline(0.0, color=INK, linewidth=0.6, alpha=0.5)
    _span(axes, mask, low, 0.09)
    _frame(axes, length, low, 1.1)


def plane(
    axes: Axes,
    x: Float[np.ndarray, "c h w"],
    heat: Float[np.ndarray, "h w"] | None,
    mask: Bool[np.ndarray, "h w"] | None,
    drawing: Drawing,
    side: int,
    *,
    limits: tuple[float, float] | None = None,
) -> None:
    """Draw an image of at most ``side`` pixels, its heat in [-1, 1] over it, and the outline of the mask.

    ``limits`` are the values that are black and white, by default the lowest and the highest.
    """
    h, w = x.shape[1:]
    shown = heat if drawing == "overlay" else None
    colours = (
        picture(x, shown, side, limits) if heat is None or drawing != "map" else coloured(shrunk(heat[None], side)[0])
    )
    axes.imshow(colours, extent=(-0.5, w - 0.5, h - 0.5, -0.5), aspect="auto", interpolation="none", clip_on=False)
    if heat is not None and drawing == "contour":
        for sign, colour in SIGNS:
            strength = sign * heat
            levels = [level for level in LEVELS if strength.min() < level < strength.max()]
            if levels:
                axes.contour(strength, levels, colors=colour, linewidths=(1.0, 1.8)[: len(levels)])
    if mask is not None and mask.any() and not mask.all():
        axes.contour(mask.astype(np.float64), [0.5], colors=GREEN, linewidths=1.2)
    bare(axes)
    if heat is not None and drawing == "map":
        axes.patch.set(edgecolor=INK, linewidth=0.7, alpha=0.3)


def remark(axes: Axes, text: str) -> None:
    """Write a remark into the middle of axes, readable on any background."""
    box = {"boxstyle": "round,pad=0.25", "facecolor": "#ececec", "linewidth": 0, "alpha": 0.9}
    axes.text(0.5, 0.5, text, ha="center", va="center", fontsize=6.5, color="#3a3a3a", style="italic",
              transform=axes.transAxes, bbox=box, zorder=3)  # fmt: skip


def picture(
    x: Float[np.ndarray, "c h w"],
    heat: Float[np.ndarray, "h w"] | None,
    side: int,
    limits: tuple[float, float] | None = None,
) -> Float[np.ndarray, "h2 w2 3"]:
    """The image as RGB in [0, 1]; under heat it is grey, so that colour means relevance."""
    values = np.where(np.isfinite(x), x, 0.0)
    low, high = limits or (float(values.min()), float(values.max()))
    if low < 0.0 or high > 1.0 or len(x) != 3:
        values = np.clip((values - low) / (high - low if high > low else 1.0), 0.0, 1.0)
    colour = values if len(x) == 3 else np.repeat(values.mean(axis=0, keepdims=True), 3, axis=0)
    colour = shrunk(colour, side)
    if heat is None:
        return np.moveaxis(colour, 0, -1)
    grey = np.tensordot([0.299, 0.587, 0.114], colour, axes=1)[..., None]
    over = coloured(shrunk(heat[None], side)[0])
    return np.asarray(over[..., :3] * over[..., 3:] + (0.15 + 0.85 * grey) * (1.0 - over[..., 3:]))


def shrunk(planes: Float[np.ndarray, "c h w"], side: int) -> Float[np.ndarray, "c h2 w2"]:
    """Planes of at most ``side`` positions a side; larger ones are averaged in boxes."""
    h, w = planes.shape[1:]
    if max(h, w) <= side:
        return planes
    from PIL import Image

    size = max(1, round(w * side / max(h, w))), max(1, round(h * side / max(h, w)))
    parts = [Image.fromarray(part.astype(np.float32)).resize(size, Image.Resampling.BOX) for part in planes]
    return np.stack([np.asarray(part, dtype=np.float64) for part in parts]).clip(-1.0, 1.0)


def runs(mask: Bool[np.ndarray, " p"]) -> list[tuple[int, int]]:
    """The stretches of True as (first, last + 1).

    >>> runs(np.array([False, True, True, False, True]))
    [(1, 3), (4, 5)]
    """
    steps = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    return [(int(a), int(b)) for a, b in zip(steps[::2], steps[1::2], strict=True)]


def _span(axes: Axes, mask: Bool[np.ndarray, " p"] | None, low: float, tall: float) -> None:
    for start, stop in runs(mask) if mask is not None else ():
        axes.add_patch(Rectangle((start - 0.5, low), stop - start, tall, color=GREEN, linewidth=0, clip_on=False))


def _frame(axes: Axes, length: int, low: float, high: float) -> None:
    axes.set(xlim=(-0.5, length - 0.5), ylim=(low, high))
    bare(axes)
    axes.patch.set(edgecolor=INK, linewidth=0.7, alpha=0.3)
