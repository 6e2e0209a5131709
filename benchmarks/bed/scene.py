"""What planted tasks are drawn from: places, outlines, textures, shapes and backgrounds, for any number of axes.

Every draw belongs to a sample (its number, the seed and a label) and none depends on the class, so that the same
sample drawn for another class differs in the evidence alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from heatproof import draws, spatial

CANDIDATES = 32

PLUS = ("..#..", "..#..", "#####", "..#..", "..#..")
CROSS = ("#...#", ".#.#.", "..#..", ".#.#.", "#...#")
SQUARE = ("#####", "#...#", "#...#", "#...#", "#####")
CORNER = ("#....", "#....", "#....", "#....", "#####")
TEE = ("#####", "..#..", "..#..", "..#..", "..#..")
BARS = ("#####", ".....", "#####", ".....", "#####")
WEDGE = ("....#", "...##", "..###", ".####", "#####")
STEPS = ("##...", ".##..", "..##.", "...##", "....#")


@dataclass(frozen=True)
class Scene:
    """The samples of the given numbers of one task.

    Attributes:
        name: of the task. seed: of every draw. numbers: the samples' own numbers (n,). y: their classes (n,).
        size: positions along each axis.
    """

    name: str
    seed: int
    numbers: Int[Tensor, " n"]
    y: Int[Tensor, " n"]
    size: tuple[int, ...]

    def seeds(self, label: str) -> Int[Tensor, " n"]:
        """One seed a sample for the given purpose."""
        return draws.seeds(self.seed, f"bed {self.name} {label}", self.numbers)

    def uniform(self, label: str, *shape: int, low: float = 0.0, high: float = 1.0) -> Float[Tensor, "n ..."]:
        """Numbers between ``low`` and ``high``."""
        return draws.uniform(self.seeds(label), shape) * (high - low) + low

    def normal(self, label: str, *shape: int) -> Float[Tensor, "n ..."]:
        """Standard normal numbers."""
        return draws.normal(self.seeds(label), shape)

    def integer(self, label: str, count: int) -> Int[Tensor, " n"]:
        """Whole numbers from 0 to count - 1."""
        return (self.uniform(label) * count).long()

    def sign(self, label: str) -> Float[Tensor, " n"]:
        """1 or -1."""
        return self.uniform(label).sub(0.5).sign()

    @cached_property
    def grid(self) -> Float[Tensor, "r *s"]:
        """The place of each position."""
        axes = [torch.arange(length, dtype=torch.float64) for length in self.size]
        return torch.stack(torch.meshgrid(*axes, indexing="ij"))

    def noise(self, label: str, exponent: float = 0.0) -> Float[Tensor, "n *s"]:
        """Noise whose amplitude falls with frequency as 1/f^exponent: 0 white, 1 natural-looking, 2 a drift.

        Each sample has mean 0 and standard deviation 1.
        """
        white = self.normal(label, *self.size)
        if exponent == 0:
            return white
        axes = tuple(range(1, white.ndim))
        steps = [torch.fft.fftfreq(length, dtype=torch.float64) for length in self.size]
        frequency = torch.stack(torch.meshgrid(*steps, indexing="ij")).square().sum(0).sqrt()
        gain = torch.where(frequency > 0, frequency.clamp_min(1 / max(self.size)), torch.inf) ** -exponent
        coloured = torch.fft.ifftn(torch.fft.fftn(white, dim=axes) * gain, dim=axes).real
        return coloured / coloured.flatten(1).std(1).reshape(-1, *(1,) * len(self.size))

    def places(self, label: str, count: int, margin: float) -> Float[Tensor, "n count r"]:
        """Places that keep ``margin`` from the edges, each the farthest from the earlier ones of some candidates."""
        high = torch.tensor([length - 1 - 2 * margin for length in self.size], dtype=torch.float64)
        drawn = self.uniform(label, count, CANDIDATES, len(self.size)) * high + margin
        chosen = drawn[:, 0, :1]
        for k in range(1, count):
            gap = torch.cdist(drawn[:, k], chosen).amin(2)
            best = gap.argmax(1)[:, None, None].expand(-1, 1, len(self.size))
            chosen = torch.cat([chosen, drawn[:, k].gather(1, best)], dim=1)
        return chosen

    def offsets(self, place: Float[Tensor, "n r"]) -> Float[Tensor, "n r *s"]:
        """The way of each position from a place."""
        return self.grid - place.reshape(*place.shape, *(1,) * len(self.size))

    def direction(self, label: str) -> Float[Tensor, "n r"]:
        """A random direction of length 1."""
        drawn = self.normal(label, len(self.size))
        return drawn / drawn.norm(dim=1, keepdim=True)


def each(value: Tensor, like: Tensor) -> Tensor:
    """A number a sample, shaped to be broadcast over positions."""
    return spatial.like(value, like)


def pick(options: Sequence[Tensor], choice: Int[Tensor, " n"]) -> Tensor:
    """For each sample that option which its number names."""
    return torch.stack(list(options), dim=1)[torch.arange(len(choice)), choice]


def values(choices: Sequence[float], y: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
    """A number for each class."""
    return torch.tensor(choices, dtype=torch.float64)[y]


def disc(offset: Float[Tensor, "n r *s"], radius: float | Tensor) -> Float[Tensor, "n *s"]:
    """1 within the radius, falling to 0 over one position: a span of a signal, a disc, a ball."""
    distance = offset.square().sum(1).sqrt()
    reach = each(radius, distance) if isinstance(radius, Tensor) else radius
    return (reach - distance + 0.5).clamp(0, 1)


def ring(offset: Float[Tensor, "n r *s"], radius: float, width: float) -> Float[Tensor, "n *s"]:
    """1 where the distance is within half a width of the radius."""
    distance = offset.square().sum(1).sqrt()
    return (width / 2 - (distance - radius).abs() + 0.5).clamp(0, 1)


def bar(
    offset: Float[Tensor, "n r *s"], direction: Float[Tensor, "n r"], length: float, width: float
) -> Float[Tensor, "n *s"]:
    """1 within half a length along the direction and half a width across."""
    along = (offset * each(direction, offset)).sum(1)
    across = (offset.square().sum(1) - along.square()).clamp_min(0).sqrt()
    return (length / 2 - along.abs() + 0.5).clamp(0, 1) * (width / 2 - across + 0.5).clamp(0, 1)


def blotch(scene: Scene, label: str, offset: Float[Tensor, "n r *s"], radius: float) -> Float[Tensor, "n *s"]:
    """An irregular region round a place: a disc whose edge is bent by smooth noise."""
    bent = scene.noise(label, 1.6).clamp(-1.5, 1.5)
    distance = offset.square().sum(1).sqrt() + 0.3 * radius * bent
    return (radius - distance + 0.5).clamp(0, 1)


def wave(
    offset: Float[Tensor, "n r *s"], direction: Float[Tensor, "n r"], length: float | Tensor, phase: Tensor
) -> Float[Tensor, "n *s"]:
    """A sine wave of the given wavelength along a direction."""
    along = (offset * each(direction, offset)).sum(1)
    period = each(length, along) if isinstance(length, Tensor) else length
    return torch.sin(2 * math.pi * (along / period + each(phase, along)))


def symbol(picture: Sequence[str]) -> Float[Tensor, "h w"]:
    """A small picture of # and dots as ones and zeros."""
    return torch.tensor([[float(letter == "#") for letter in line] for line in picture], dtype=torch.float64)


def stamped(offset: Float[Tensor, "n r *s"], pattern: Float[Tensor, "*p"]) -> Float[Tensor, "n *s"]:
    """A pattern set with its middle at the place, which is rounded to a position; 0 elsewhere."""
    size = torch.tensor(pattern.shape)
    cell = offset.round().long() + (size // 2).reshape(1, -1, *(1,) * (offset.ndim - 2))
    limit = size.reshape(1, -1, *(1,) * (offset.ndim - 2))
    inside = ((cell >= 0) & (cell < limit)).all(1)
    cell = torch.where(inside[:, None], cell, torch.zeros_like(cell))
    return torch.where(inside, pattern[tuple(cell.unbind(1))], 0.0)


def footprint(offset: Float[Tensor, "n r *s"], size: Sequence[int]) -> Float[Tensor, "n *s"]:
    """1 in the box that a pattern of that size takes up."""
    return stamped(offset, torch.ones(tuple(size), dtype=torch.float64))
