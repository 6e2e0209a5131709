"""What windows of the inputs are worth to the model, as a study keeps it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int


@dataclass(frozen=True, eq=False)
class Evidence:
    """The worth of windows of every sample, with each of its donors.

    Attributes:
        starts: the first position of each window along each axis (N, K, R). widths: (K, R).
        scale: to which of the sizes each window belongs (K,), 0 the smallest.
        values: what the margin gains where the window is kept and the rest is the donor's, rather than the other way
            round (N, D, K); NaN without donors. donors: their places in the study (N, D), -1 for none.
        span: by how much the margin of the sample exceeds that of each donor, for the same class (N, D).
    """

    starts: Int[np.ndarray, "n k r"]
    widths: Int[np.ndarray, "k r"]
    scale: Int[np.ndarray, " k"]
    values: Float[np.ndarray, "n d k"]
    donors: Int[np.ndarray, "n d"]
    span: Float[np.ndarray, "n d"]

    @property
    def worth(self) -> Float[np.ndarray, "n k"]:
        """The mean over donors."""
        worth: np.ndarray = self.values.mean(axis=1)
        return worth

    @property
    def held(self) -> Float[np.ndarray, "n k"]:
        """How much of the margin between sample and donor each window holds, the mean over donors; 0 where nothing.

        Where evidence adds up, a window that holds h of a span s has the worth h - (s - h).
        """
        held: np.ndarray = ((self.values + self.span[:, :, None]) / 2).mean(axis=1)
        return held

    def over(self, size: tuple[int, ...], row: int) -> Float[np.ndarray, "*s"]:
        """What the windows of one sample hold, spread over its positions: the mean of those that cover a position.

        Each size of windows is divided by its largest absolute value before; NaN where no window covers a position.
        """
        total, count = np.zeros(size), np.zeros(size)
        worth = self.held[row]
        for start, width, scale, value in zip(self.starts[row], self.widths, self.scale, worth, strict=True):
            place = tuple(slice(a, a + w) for a, w in zip(start, width, strict=True))
            peak = np.abs(worth[self.scale == scale]).max()
            total[place] += value / peak if peak else 0.0
            count[place] += 1
        return np.where(count > 0, total / np.maximum(count, 1), np.nan)
