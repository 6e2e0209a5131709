"""Ready batches from tensors in memory: no workers, no collating, augmentation for a whole batch at once."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from heatproof import draws
from heatproof.data.strata import strata
from heatproof.errors import InputError, UnknownName
from heatproof.records import Samples
from heatproof.training.images import Augmentation, augmentations, mix
from heatproof.training.recipes import Recipe

# Classes, labels, the share of each of them in a blended sample, or the values of a regression.
Labels = Int[Tensor, " n"] | Int[Tensor, "n k"] | Float[Tensor, "n k"] | Float[Tensor, " n"]
Batch = tuple[Float[Tensor, "n c *s"], Labels]
# Its batches differ in length, which one set of axis names could not say.
Stretch = tuple[tuple[Tensor, Tensor], ...]


@dataclass(frozen=True)
class Shuffled:
    """The training batches of one epoch, in an order and with an augmentation that (seed, epoch) alone decides."""

    samples: Samples
    recipe: Recipe
    seed: int
    epoch: Callable[[], int]

    def __len__(self) -> int:
        # A last batch of one sample is left out: batch normalisation cannot use it.
        n, size = len(self.samples), self.recipe.batch
        return max(1, n // size + (n % size > 1))

    def __iter__(self) -> Iterator[Batch]:
        random = generator(self.seed, f"epoch {self.epoch()}")
        order = torch.randperm(len(self.samples), generator=random)
        mixed = self.recipe.mixing(self.epoch())
        for rows in order.split(self.recipe.batch)[: len(self)]:
            x, y = augment(self.samples.x[rows], self.recipe, random), self.samples.y[rows]
            yield (x, y) if not mixed else blend(x, y, len(self.samples.classes), random, mixed)


@dataclass(frozen=True)
class Stretches:
    """The batches of an epoch in groups: of 16 where they are small, else one by one."""

    batches: Shuffled

    @property
    def size(self) -> int:
        """Batches a group."""
        x, batch = self.batches.samples.x, self.batches.recipe.batch
        return 16 if is_small(batch * math.prod(x.shape[1:])) else 1

    def __len__(self) -> int:
        return -(-len(self.batches) // self.size)

    def __iter__(self) -> Iterator[Stretch]:
        batches = iter(self.batches)
        while stretch := tuple(itertools.islice(batches, self.size)):
            yield stretch


def is_small(elements: int) -> bool:
    """Whether so many numbers in a batch make a step too short to be worth sharing or watching."""
    return elements <= 2**16


@dataclass(frozen=True)
class InOrder:
    """The samples in their order, in large batches."""

    samples: Samples

    @property
    def size(self) -> int:
        """Samples a batch: at most 1024, and about four million numbers."""
        return max(1, min(1024, 2**22 // max(1, math.prod(self.samples.x.shape[1:]))))

    def __len__(self) -> int:
        return -(-len(self.samples) // self.size)

    def __iter__(self) -> Iterator[Batch]:
        for start in range(0, len(self.samples), self.size):
            rows = slice(start, start + self.size)
            yield self.samples.x[rows], self.samples.y[rows]


def generator(seed: int, label: str) -> torch.Generator:
    """A random state of its own for one purpose."""
    return torch.Generator().manual_seed(int(draws.seeds(seed, label, torch.zeros(1, dtype=torch.int64))))


def augment(x: Float[Tensor, "n c *s"], recipe: Recipe, random: torch.Generator) -> Float[Tensor, "n c *s"]:
    """Each sample shifted round every axis, scaled and made noisy as the recipe says, by draws of its own."""
    n = len(x)
    if recipe.augment:
        x = _augmentation(recipe.augment, x)(x, random)
    if recipe.shift:
        for axis in range(2, x.ndim):
            size = x.shape[axis]
            shifts = torch.randint(-recipe.shift, recipe.shift + 1, (n, 1), generator=random)
            places = ((torch.arange(size) - shifts) % size).reshape(
                n, *(size if a == axis else 1 for a in range(1, x.ndim))
            )
            x = x.gather(axis, places.expand_as(x))
    if recipe.scale:
        amplitude = 1 + recipe.scale * (torch.rand(n, generator=random) - 0.5)
        x = x * amplitude.reshape(n, *(1,) * (x.ndim - 1))
    if recipe.noise:
        x = x + recipe.noise * torch.randn(x.shape, generator=random)
    return x


def blend(
    x: Float[Tensor, "n c *s"], y: Labels, classes: int, random: torch.Generator, share: float
) -> tuple[Float[Tensor, "n c *s"], Float[Tensor, "n k"]]:
    """A batch of images blended with itself with probability ``share``, and the share of each class in each."""
    if x.ndim != 4:
        raise InputError(f"blending (mixed={share}) is for images (N, C, H, W); got inputs of shape {tuple(x.shape)}")
    if y.is_floating_point():
        raise InputError(f"blending (mixed={share}) is for classes and labels; set mixed=0 for a regression")
    return mix(x, (y if y.ndim == 2 else functional.one_hot(y, classes)).float(), random, share)


def _augmentation(name: str, x: Tensor) -> Augmentation:
    if name not in augmentations:
        raise UnknownName("augmentation", name, augmentations)
    if x.ndim != 4:
        raise InputError(f"augmentation {name!r} is for images (N, C, H, W); got inputs of shape {tuple(x.shape)}")
    return augmentations[name]


def hold_out(samples: Samples, share: float, seed: int) -> tuple[Samples, Samples | None]:
    """The samples to train on and those held out: the share of each stratum, at least one of two.

    Raises: InputError where too few samples are left on either side.
    """
    if share == 0:
        return samples, None
    order = torch.randperm(len(samples), generator=generator(seed, "validation"))
    held, codes = torch.zeros(len(samples), dtype=torch.bool), strata(samples.y)
    for stratum in range(int(codes.max()) + 1 if len(codes) else 0):
        members = order[codes[order] == stratum]
        if len(members) > 1:
            held[members[: min(max(1, round(share * len(members))), len(members) - 1)]] = True
    if not held.any():
        raise InputError(f"cannot hold out {share:.0%} of {len(samples)} samples; give more, or set validation=0")
    return samples.take(held.logical_not().nonzero()[:, 0]), samples.take(held.nonzero()[:, 0])
