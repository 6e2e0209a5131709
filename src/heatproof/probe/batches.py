"""How many rows one pass takes, and whether a sample's scores depend on the others in its batch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from heatproof.errors import HeatproofError
from heatproof.probe.state import note
from heatproof.probe.weights import Versions, versions

MOST = 1024  # rows a pass
ONE_IS_TOO_MUCH = "out of memory with a single sample; use a smaller input"
NUMBERS = 2_500_000  # of an input, a pass


@dataclass(eq=False)
class Capacity:
    """The most rows that one pass takes.

    Attributes:
        batch: as the user asked, or None.
        fits: what is left after the device ran out of memory; None if it never did.
    """

    batch: int | None = None
    fits: int | None = None

    def rows(self, shape: Sequence[int]) -> int:
        """The most rows for inputs of one shape (C, *S)."""
        limit = self.batch or max(1, min(MOST, NUMBERS // max(1, math.prod(shape))))
        return limit if self.fits is None else min(limit, self.fits)

    def halve(self, rows: int, error: torch.OutOfMemoryError) -> None:
        """Goes on with half of what was too much.

        Raises: HeatproofError where one row is too much.
        """
        if rows <= 1:
            raise HeatproofError(ONE_IS_TOO_MUCH) from error
        self.fits = rows // 2
        note(f"out of memory with {rows} samples a pass; going on with {rows // 2}")


@dataclass(eq=False)
class BatchWatch:
    """Compares one sample's scores by itself and within a batch, once.

    Attributes:
        sample: the sample (1, C, *S). alone: its class scores, run by itself. versions: of the weights at that time.
        open: whether the comparison is still to be made.
    """

    sample: Float[Tensor, "1 c *s"]
    alone: Float[Tensor, "1 k"]
    versions: Versions
    open: bool = True

    def compare(self, model: nn.Module, x: Float[Tensor, "n c *s"], logits: Float[Tensor, "n k"]) -> None:
        """Looks at one batch and its logits; says once if the sample's scores depend on the batch it is in."""
        if not self.open or len(x) < 2 or not torch.equal(self.sample, x[:1]):
            return
        self.open = False
        if versions(model) != self.versions:
            return
        alone, among = self.alone.detach(), logits[:1].detach()
        if not torch.allclose(alone, among, rtol=1e-2, atol=1e-3 + 1e-2 * float(alone.abs().max())):
            note("the model's output for a sample depends on the other samples in its batch; maps and scores will "
                 "change with the batch size")  # fmt: skip
