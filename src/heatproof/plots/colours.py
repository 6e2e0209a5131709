"""Colours for signed numbers: clear at zero, warm above it, cold below, deeper the further from it."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb

WARM = ("#e8b54a", "#e0752d", "#8f1d14")  # at a third, two thirds, and one
COLD = ("#7cc4e4", "#2f83c5", "#1d2f86")
STOPS = (0.0, 1 / 3, 2 / 3, 1.0)
OPACITY = (0.0, 0.55, 0.8, 0.9)


def heat(values: Float[np.ndarray, "*s"]) -> Float[np.ndarray, "*s 4"]:
    """Relevance in [-1, 1] as colours (*s, RGBA); what is not a number is clear."""
    relevance = np.clip(np.nan_to_num(values), -1.0, 1.0)
    size = np.abs(relevance)
    colours = np.empty((*relevance.shape, 4))
    for channel in range(3):
        warm, cold = (
            np.interp(size, STOPS, [to_rgb(names[0])[channel], *(to_rgb(n)[channel] for n in names)])
            for names in (WARM, COLD)
        )
        colours[..., channel] = np.where(relevance < 0, cold, warm)
    colours[..., 3] = np.interp(size, STOPS, OPACITY)
    return colours


def scale(axes: Axes, *, signed: bool) -> None:
    """Draw the scale that `heat` follows, with words at its ends."""
    low = -1.0 if signed else 0.0
    axes.imshow(
        heat(np.linspace(low, 1.0, 128))[None], extent=(low, 1.0, 0.0, 1.0), aspect="auto", interpolation="none",
        clip_on=False,
    )  # fmt: skip
    axes.set_yticks([])
    names = {-1.0: "most against", 0.0: "none" if signed else "least", 1.0: "most for"}
    axes.set_xticks([at for at in names if at >= low], [name for at, name in names.items() if at >= low])
    axes.tick_params(length=0, labelsize=7.5, pad=2)
    for spine in axes.spines.values():
        spine.set(visible=True, alpha=0.3)
