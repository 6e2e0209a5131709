"""Inputs of which positions can be removed, and the scores of what is left.

Positions are the features: all channels of a position are removed together.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain, islice
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from heatproof import draws
from heatproof.errors import InputError, NotApplicable
from heatproof.fills.catalogue import FillEntry, fills
from heatproof.probe import Goal, Probe
from heatproof.registry import Spec

MANY = 20  # removals a sample that the probe hears of beforehand: from here on a quicker copy of the model may pay


@dataclass(frozen=True, eq=False)
class Canvas:
    """Inputs of which positions can be removed, with one fill.

    Attributes:
        x: the inputs (N, C, *S). fill: the checked spec of the fill. seeds: a seed a sample.
        pool: samples that donors are drawn from.
    """

    x: Float[Tensor, "n c *s"]
    fill: Spec = field(default_factory=lambda: Spec("mean"))
    seeds: Int[Tensor, " n"] | None = None
    pool: Tensor | None = None

    @cached_property
    def blank(self) -> Float[Tensor, "n c *s"]:
        """The inputs with every position removed."""
        if self._entry.imputes:
            everywhere = torch.ones_like(self.x[:, 0], dtype=torch.bool)
            return self._filled({"x": self.x, "removed": everywhere, "grain": self._grain})
        return self._filled({"x": self.x, "seeds": self._seeds, "pool": self.pool})

    def without(self, removed: Bool[Tensor, "g n *s"]) -> Float[Tensor, "g*n c *s"]:
        """Each input with each of ``g`` sets of its positions removed; all inputs with the first set come first."""
        if not self._entry.imputes:
            return torch.where(removed[:, :, None], self.blank, self.x).flatten(0, 1)
        rows = torch.arange(len(self.x), device=self.x.device).repeat(len(removed))
        return self._filled({"x": self.x[rows], "removed": removed.flatten(0, 1), "grain": self._grain[rows]})

    def faded(self, share: Float[Tensor, "n *s"]) -> Float[Tensor, "n c *s"]:
        """Each input kept to a share in [0, 1] at each position, the rest from the fill.

        Raises: NotApplicable for a fill that imputes.
        """
        if self._entry.imputes:
            raise NotApplicable(f"fill {self.fill} cannot fade positions; choose black, mean, blur, noise or donor")
        return self.blank + share[:, None].to(self.x) * (self.x - self.blank)

    @property
    def _entry(self) -> FillEntry:
        return fills[self.fill.name]

    @cached_property
    def _seeds(self) -> Int[Tensor, " n"]:
        seeds = torch.arange(len(self.x)) if self.seeds is None else self.seeds
        return draws.seeds(0, str(self.fill), seeds.to(self.x.device))

    @cached_property
    def _grain(self) -> Float[Tensor, "n c *s"]:
        """Drawn once: every removal has the same grain."""
        return draws.normal(self._seeds, self.x.shape[1:]).to(self.x)

    def _filled(self, values: dict[str, Any]) -> Float[Tensor, "m c *s"]:
        """What the fill makes of those of the values that it asks for."""
        entry = self._entry
        filled: Tensor = entry.function(*(values[name] for name in entry.asks), **self.fill.kwargs)
        return filled


def removal_scores(
    probe: Probe, canvas: Canvas, goal: Goal, removals: Iterable[Bool[Tensor, "n *s"]]
) -> Float[Tensor, "n r"]:
    """The score of each input after each removal; removals are drawn lazily and put into full batches.

    Cost: one pass a removal.
    """
    n, waiting = len(canvas.x), iter(removals)
    first = list(islice(waiting, MANY))
    step = max(1, probe.rows(canvas.x) // n)

    def parts() -> Iterator[tuple[Tensor, Goal]]:
        while group := list(islice(every, step)):
            rows = torch.arange(n, device=goal.classes.device).repeat(len(group))
            yield canvas.without(torch.stack(group)), goal if len(group) == 1 else goal.take(rows)

    every = chain(first, waiting)
    scores = [part.reshape(-1, n) for part in probe.stream(canvas.x, len(first), parts())]
    return torch.cat(scores).T if scores else canvas.x.new_zeros(n, 0)


def removals(
    ranks: Int[Tensor, "n *s"], counts: Iterable[int], *, first: Literal["most", "least"] = "most"
) -> Iterator[Bool[Tensor, "n *s"]]:
    """The positions removed when exactly ``count`` of the most (or least) relevant are, for each count."""
    total = ranks[0].numel()
    return (ranks < count if first == "most" else ranks >= total - count for count in counts)


def even_counts(total: int, steps: int) -> list[int]:
    """How many of ``total`` positions are removed at each of ``steps`` even steps, from none to all, without repeats.

    Raises: InputError for less than one step.

    >>> even_counts(5, 2)
    [0, 2, 5]
    """
    if steps < 1:
        raise InputError(f"steps: got {steps}, expected at least 1")
    return sorted({round(total * step / steps) for step in range(steps + 1)})
