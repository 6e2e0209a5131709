"""Planted tasks: a name, a generator, networks to train on it, and whether the rule was developed on it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from benchmarks.bed.scene import Scene
from jaxtyping import Float, Int
from torch import Tensor

from heatproof.records import Samples, Splits

Generator = Callable[[Scene], tuple[Tensor, Tensor | None]]
TASKS: dict[str, Task] = {}
TESTING = 100_000  # the number of the first test sample
DESIGN_SEEDS = 1000  # seeds from here on belong to the design of the rule


@dataclass(frozen=True)
class Task:
    """A planted task.

    Attributes:
        name: of the generator. make: scene -> inputs (n, C, *S) or (n, *S), and where the evidence lies (n, *S).
        size: positions along each axis. classes: their names. nets: of `networks.NETS`, taken in turn by seed.
        everywhere: the evidence is all over the input; there is no mask. design: the rule was developed on it.
        train: training samples. epochs: of training.
    """

    name: str
    make: Generator
    size: tuple[int, ...]
    classes: tuple[str, ...]
    nets: tuple[str, ...]
    everywhere: bool = False
    design: bool = False
    train: int = 1200
    epochs: int = 14

    def net(self, seed: int) -> str:
        """The network that a seed trains."""
        return self.nets[seed % len(self.nets)]

    def scene(self, seed: int, numbers: Int[Tensor, " n"], y: Int[Tensor, " n"] | None = None) -> Scene:
        """The scene of the given numbers; the classes take turns unless they are named."""
        return Scene(self.name, seed, numbers, numbers % len(self.classes) if y is None else y, self.size)

    def draw(
        self, seed: int, numbers: Int[Tensor, " n"], y: Int[Tensor, " n"] | None = None
    ) -> tuple[Float[Tensor, "n c *s"], Tensor | None]:
        """Inputs and masks, float32 and bool."""
        x, window = self.make(self.scene(seed, numbers, y))
        if x.ndim == 1 + len(self.size):
            x = x[:, None]
        return x.float(), None if window is None else window > 0

    def samples(self, seed: int, first: int, count: int) -> Samples:
        """The samples of the numbers from ``first`` on."""
        numbers = torch.arange(first, first + count)
        parts = [self.draw(seed, part) for part in numbers.split(256)]
        masks = [mask for _, mask in parts if mask is not None]
        return Samples(
            torch.cat([x for x, _ in parts]),
            numbers % len(self.classes),
            torch.cat(masks) if masks else None,
            self.classes,
            self.name,
        )

    def splits(self, seed: int, test: int) -> Splits:
        """Training samples, and as many test samples as asked for."""
        return Splits(self.samples(seed, 0, self.train), self.samples(seed, TESTING, test))


def task(
    size: tuple[int, ...],
    classes: str,
    nets: str,
    *,
    everywhere: bool = False,
    design: bool = False,
    train: int = 1200,
    epochs: int = 14,
) -> Callable[[Generator], Generator]:
    """Registers a generator under its own name; words are separated by blanks."""

    def register(make: Generator) -> Generator:
        name = make.__name__.replace("_", "-")
        TASKS[name] = Task(
            name, make, size, tuple(classes.split()), tuple(nets.split()), everywhere, design, train, epochs
        )
        return make

    return register


def listed(*, design: bool) -> list[Task]:
    """The tasks of the design, or those that are reported."""
    return [one for one in TASKS.values() if one.design is design]


def seeds(one: Task, count: int) -> list[int]:
    """The first seeds of a task."""
    first = DESIGN_SEEDS if one.design else 0
    return list(range(first, first + count))
