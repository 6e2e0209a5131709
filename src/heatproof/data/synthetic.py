"""Planted tasks: a textured blob decides the class, and its place is the mask; signals, images and volumes alike."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from heatproof import draws, spatial
from heatproof.data.catalogue import dataset
from heatproof.errors import UsageError
from heatproof.records import Samples, Splits

CLASSES = ("fine", "middle", "coarse")
# In positions; the finest is above the Nyquist limit of 2, the coarsest fits into the smallest blob.
WAVELENGTHS = (2.5, 4.0, 6.5)
_SIZES = {1: 64, 2: 32, 3: 16}
_CANDIDATES = 32


@dataclass(frozen=True)
class Planted:
    """What one planted task may vary.

    Attributes:
        rank: 1 for signals, 2 for images, 3 for volumes.
        size: positions along each axis.
        samples: in all, a fifth of them for testing, the classes in turn.
        distractors: blobs as large and as strong without information on the class: smooth ones and noisy ones in turn.
        shortcut: probability that a cue in the first corner shows the true class of a training sample; otherwise, and
            in every test sample, it shows a class drawn at random. 0 leaves the cue out.
        noise: standard deviation of the background.
        seed: of every draw; a sample depends on it and on the sample's number alone.
    """

    rank: int
    size: int
    samples: int = 1000
    distractors: int = 2
    shortcut: float = 0.0
    noise: float = 0.3
    seed: int = 0

    def __post_init__(self) -> None:
        rules = (
            ("rank", self.rank in (1, 2, 3), "1, 2 or 3"),
            ("size", 12 <= self.size <= 4096, "12 to 4096 positions an axis"),
            ("samples", self.samples >= 10, "at least 10"),
            ("distractors", 0 <= self.distractors <= 8, "0 to 8"),
            ("shortcut", 0 <= self.shortcut <= 1, "a probability"),
            ("noise", 0 <= self.noise < math.inf, "at least 0"),
        )
        for name, holds, expected in rules:
            if not holds:
                raise UsageError(f"synthetic: option {name} got {getattr(self, name)!r}, expected {expected}")

    @property
    def radius(self) -> float:
        """Of every blob."""
        return max(4.0, self.size * (0.16, 0.2, 0.27)[self.rank - 1])

    @property
    def cue(self) -> int:
        """Positions along each axis that the shortcut's cue takes up."""
        return max(3, self.size // 5)


def synthetic(
    rank: int,
    *,
    size: int | None = None,
    samples: int = 1000,
    distractors: int = 2,
    shortcut: float = 0.0,
    noise: float = 0.3,
    seed: int = 0,
) -> Splits:
    """Three classes that differ in the wavelength of a texture in a blob; the blob is the mask.

    Where the blob lies, how the texture is turned, and everything else is random. For the options see `Planted`.

    Raises: UsageError where an option is out of its range.

    >>> synthetic(3, samples=10).test.x.shape
    torch.Size([2, 1, 16, 16, 16])
    """
    task = Planted(rank, _SIZES.get(rank, 16) if size is None else size, samples, distractors, shortcut, noise, seed)
    cut = samples - samples // 5
    parts = [generate(task, torch.arange(0, cut), train=True), generate(task, torch.arange(cut, samples), train=False)]
    return Splits(parts[0], parts[1])


@dataset("synthetic-1d", input_shape=(1, 64), classes=CLASSES)
def synthetic_1d(
    *,
    size: int = 64,
    samples: int = 1000,
    distractors: int = 2,
    shortcut: float = 0.0,
    noise: float = 0.3,
    seed: int = 0,
) -> Splits:
    """Signals in which the wavelength of one textured blob is the class; the blob is the mask."""
    return synthetic(1, size=size, samples=samples, distractors=distractors, shortcut=shortcut, noise=noise, seed=seed)


@dataset("synthetic-2d", input_shape=(1, 32, 32), classes=CLASSES)
def synthetic_2d(
    *,
    size: int = 32,
    samples: int = 1000,
    distractors: int = 2,
    shortcut: float = 0.0,
    noise: float = 0.3,
    seed: int = 0,
) -> Splits:
    """Images in which the wavelength of one textured blob is the class; the blob is the mask."""
    return synthetic(2, size=size, samples=samples, distractors=distractors, shortcut=shortcut, noise=noise, seed=seed)


@dataset("synthetic-3d", input_shape=(1, 16, 16, 16), classes=CLASSES)
def synthetic_3d(
    *,
    size: int = 16,
    samples: int = 1000,
    distractors: int = 2,
    shortcut: float = 0.0,
    noise: float = 0.3,
    seed: int = 0,
) -> Splits:
    """Volumes in which the wavelength of one textured blob is the class; the blob is the mask."""
    return synthetic(3, size=size, samples=samples, distractors=distractors, shortcut=shortcut, noise=noise, seed=seed)


def generate(task: Planted, numbers: Int[Tensor, " n"], *, train: bool = True) -> Samples:
    """The samples of the given numbers."""
    y = numbers % len(CLASSES)
    chunks = [_draw(task, numbers[i : i + 256], y[i : i + 256], train) for i in range(0, len(numbers), 256)]
    return Samples(
        x=torch.cat([x for x, _ in chunks])[:, None].float(),
        y=y,
        mask=torch.cat([mask for _, mask in chunks]),
        classes=CLASSES,
        name=f"synthetic-{task.rank}d",
        about=_about(task),
    )


def _about(task: Planted) -> dict[str, Any]:
    facts = {name: getattr(task, name) for name in task.__dataclass_fields__}
    corner = f"the first {task.cue} positions of each axis"
    return {
        "source": "generated by heatproof",
        "mask": "the blob whose texture decides the class",
        "cue": f"in {corner}; in the test samples it carries no information on the class" if task.shortcut else "none",
        **facts,
    }


def _draw(
    task: Planted, numbers: Int[Tensor, " n"], y: Int[Tensor, " n"], train: bool
) -> tuple[Float[Tensor, "n *s"], Bool[Tensor, "n *s"]]:
    n, shape = len(numbers), (task.size,) * task.rank

    def seeds(label: str) -> Int[Tensor, " n"]:
        return draws.seeds(task.seed, f"synthetic {label}", numbers)

    centres = _centres(task, seeds("centres"))
    axes = torch.stack(torch.meshgrid(*[torch.arange(task.size, dtype=torch.float64)] * task.rank, indexing="ij"))
    offsets = axes - centres.reshape(*centres.shape, *(1,) * task.rank)
    distance = offsets.square().sum(2).sqrt()
    window = (task.radius - distance + 0.5).clamp(0, 1)
    strength = 1 + 0.4 * (draws.uniform(seeds("strength"), (1 + task.distractors,)) - 0.5)
    window = window * strength.reshape(*strength.shape, *(1,) * task.rank)

    x = _background(task, seeds("background")) + window[:, 0] * _grating(offsets[:, 0], y, seeds("grating"))
    for i in range(1, 1 + task.distractors):
        if i % 2:
            sign = draws.uniform(seeds(f"sign {i}"), (1,) * task.rank).sub(0.5).sign()
            x = x + sign * window[:, i]
        else:
            x = x + window[:, i] * draws.normal(seeds(f"speckle {i}"), shape) * math.sqrt(0.5)
    if task.shortcut:
        shown = torch.where(_agrees(task, seeds("agrees"), train), y, _pick(seeds("shown")))
        level = shown.double().sub(1).reshape(n, *(1,) * task.rank)
        corner = (axes < task.cue).all(0)
        x = torch.where(corner, x + 3 * level, x)
    return x, distance[:, 0] <= task.radius


def _centres(task: Planted, seeds: Int[Tensor, " n"]) -> Float[Tensor, "n blobs rank"]:
    """One centre a blob, clear of the edges; each is the candidate that lies farthest from the earlier ones."""
    edge = min(task.radius * 0.8, task.size / 2 - 1)
    low, high = edge, task.size - 1 - edge
    drawn = draws.uniform(seeds, (1 + task.distractors, _CANDIDATES, task.rank)) * (high - low) + low
    centres = drawn[:, 0, :1]
    for i in range(1, 1 + task.distractors):
        gap = torch.cdist(drawn[:, i], centres).amin(2)
        best = gap.argmax(1)[:, None, None].expand(-1, 1, task.rank)
        centres = torch.cat([centres, drawn[:, i].gather(1, best)], dim=1)
    return centres


def _grating(offset: Float[Tensor, "n r *s"], y: Int[Tensor, " n"], seeds: Int[Tensor, " n"]) -> Float[Tensor, "n *s"]:
    """A sine wave of the class's wavelength in a random direction."""
    rank = offset.shape[1]
    drawn = draws.normal(seeds, (rank,))
    direction = drawn / drawn.norm(dim=1, keepdim=True)
    phase = 2 * math.pi * draws.uniform(seeds ^ 1, (1,) * rank)
    along = (offset * spatial.like(direction, offset)).sum(1)
    wavelength = torch.tensor(WAVELENGTHS, dtype=torch.float64)[y].reshape(-1, *(1,) * rank)
    wave: Tensor = torch.sin(2 * math.pi * along / wavelength + phase)
    return wave


def _background(task: Planted, seeds: Int[Tensor, " n"]) -> Float[Tensor, "n *s"]:
    """Half white, half smooth noise, by variance, which is the same everywhere."""
    white, rough = draws.normal(seeds, (2, *(task.size,) * task.rank)).unbind(1)
    smooth = spatial.blur(rough[:, None].float(), 1.0)[:, 0]
    # Blurring leaves more variance at the edges, where values are repeated; the same factor for each axis.
    left = spatial.blur(torch.eye(task.size)[:, None], 1.0).square().sum(0)[0].sqrt()
    for axis in range(task.rank):
        smooth = smooth / left.reshape(-1, *(1,) * (task.rank - 1 - axis))
    return task.noise * math.sqrt(0.5) * (white + smooth)


def _agrees(task: Planted, seeds: Int[Tensor, " n"], train: bool) -> Bool[Tensor, " n"]:
    return (draws.uniform(seeds, ()) < task.shortcut) & train


def _pick(seeds: Int[Tensor, " n"]) -> Int[Tensor, " n"]:
    return (draws.uniform(seeds, ()) * len(CLASSES)).long()
