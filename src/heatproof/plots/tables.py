"""Heat tables: shaded cells with numbers in them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb

from heatproof.plots.names import longest
from heatproof.plots.style import BLUE, ORANGE, WIDTH


def crowded(names: Sequence[str], width: float) -> bool:
    """Whether names do not fit side by side below a table in a figure so many inches wide."""
    return longest(names) * len(names) * 0.07 > 0.68 * width


def shade(
    values: Float[np.ndarray, "*s"], *, above: str = BLUE, below: str = ORANGE, strength: float = 0.85
) -> Float[np.ndarray, "*s 4"]:
    """Values in [-1, 1] as colours (*s, RGBA): one hue above zero, one below, and clear at zero, whatever the page."""
    shares = np.clip(np.nan_to_num(values), -1.0, 1.0)
    colours = np.where(shares[..., None] < 0, to_rgb(below), to_rgb(above))
    return np.concatenate([colours, strength * np.abs(shares)[..., None]], axis=-1)


def cells(
    axes: Axes,
    values: Float[np.ndarray, "r c"],
    *,
    rows: Sequence[str],
    columns: Sequence[str],
    numbers: Sequence[Sequence[str]] | None = None,
    strong: np.ndarray | None = None,
    width: float = WIDTH,
) -> None:
    """Draw a shaded table into a figure so many inches wide; ``strong`` sets numbers in bold."""
    r, c = values.shape
    axes.imshow(
        shade(values), aspect="auto", interpolation="none", extent=(-0.5, c - 0.5, r - 0.5, -0.5), clip_on=False
    )
    size = 8 if c <= 14 else 6.5 if c <= 22 else 5.5
    for i, line in enumerate(numbers or ()):
        for j, text in enumerate(line):
            weight = "bold" if strong is not None and strong[i, j] else "normal"
            cell = axes.text(j, i, text, ha="center", va="center_baseline", fontsize=size, fontweight=weight)
            cell.set_in_layout(False)  # it lies inside; measuring hundreds takes seconds
    upright = crowded(columns, width)
    axes.set_xticks(range(c), columns, rotation=45 if upright else 0, ha="right" if upright else "center")
    if upright:
        for label in axes.get_xticklabels():
            label.set_rotation_mode("anchor")
    axes.set_yticks(range(r), rows)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_xticks(np.arange(c + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(r + 1) - 0.5, minor=True)
    axes.tick_params(which="minor", length=0)
    axes.grid(which="minor")
    axes.set_xlim(-0.5, c - 0.5)
    axes.set_ylim(r - 0.5, -0.5)
