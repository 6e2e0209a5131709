"""What of a map is shown: its outliers clipped, signed values about zero, values without a sign above their floor."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

PERCENTILE = 99.5
FLAT = 1e-6  # a map whose values differ by less than this share of their size is constant


def scaled(map: Float[np.ndarray, "*s"], percentile: float = PERCENTILE) -> Float[np.ndarray, "*s"]:
    """The map in [-1, 1]: divided by a percentile of its absolute values, larger ones clipped; zero stays zero.

    The lowest value of a map that is nowhere negative is subtracted first. What is not finite is zero; a constant map
    is zero everywhere.
    """
    finite = np.isfinite(map)
    values = map[finite]
    if note(map):
        return np.zeros_like(map)
    shifted = np.where(finite, map - _floor(values), 0.0)
    sizes = np.abs(shifted[finite])
    limit = np.percentile(sizes, percentile) or sizes.max()
    return np.asarray(np.clip(shifted / limit, -1.0, 1.0))


def note(map: Float[np.ndarray, "*s"]) -> str:
    """Why nothing of a map can be shown; empty where something can."""
    values = map[np.isfinite(map)]
    if not values.size:
        return "no finite value"
    return "constant map" if np.ptp(values) <= FLAT * np.abs(values).max() else ""


def strongest(map: Float[np.ndarray, "*s"]) -> tuple[int, ...]:
    """The position furthest from zero, or from the floor of a map without a sign; the middle of a constant map."""
    if note(map):
        return tuple(n // 2 for n in map.shape)
    finite = np.isfinite(map)
    sizes = np.where(finite, np.abs(map - _floor(map[finite])), -1.0)
    return tuple(int(i) for i in np.unravel_index(int(sizes.argmax()), map.shape))


def _floor(values: Float[np.ndarray, " k"]) -> float:
    return max(float(values.min()), 0.0)
