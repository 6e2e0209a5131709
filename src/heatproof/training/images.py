"""Augmentation of images in [0, 1], whole batches at once, and the recipes that use it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from heatproof.training.recipes import Recipe, recipe

Images = Float[Tensor, "n c h w"]
Augmentation = Callable[[Images, torch.Generator], Images]

# Optical densities of haematoxylin, eosin and DAB (Ruifrok and Johnston 2001, table 1).
STAINS = ((0.65, 0.70, 0.29), (0.07, 0.99, 0.11), (0.27, 0.57, 0.78))
_DARKEST = 1 / 255


def tissue(
    x: Images, random: torch.Generator, *, size: int | None = None, colour: float = 1.0
) -> Float[Tensor, "n c i j"]:
    """Tiles turned by any angle, mirrored, zoomed, shifted, and with stain and brightness changed slightly.

    ``colour`` is how strong the changes of colour are, as a multiple.
    """
    x = warp(x, random, turn=180.0, zoom=0.2, shift=0.15, size=size)
    return light(stain(x, random, 0.1 * colour, 0.05 * colour), random, 0.1 * colour)


def course(x: Images, random: torch.Generator) -> Images:
    """Tiles turned by up to 15 degrees, sheared by up to 0.1 radian and mirrored both ways, as the course has it."""
    return warp(x, random, turn=15.0, shear=0.1, edge="border")


def warp(
    x: Images,
    random: torch.Generator,
    *,
    turn: float = 0.0,
    zoom: float = 0.0,
    shift: float = 0.0,
    shear: float = 0.0,
    size: int | None = None,
    edge: Literal["reflection", "border"] = "reflection",
) -> Float[Tensor, "n c i j"]:
    """Each image mirrored or not, turned, sheared, zoomed and shifted by draws of its own, read off bilinearly.

    ``turn`` is the largest angle in degrees, ``zoom`` that of the logarithm of the scale, ``shift`` of the move in half
    sides, ``shear`` of the shear's angle in radians; ``size`` is the new side, the old one by default.
    """
    n, channels, height, width = x.shape
    angle, slant = (_between(random, n, limit) for limit in (math.radians(turn), shear))
    scale = _between(random, n, zoom).exp()
    flips = torch.randint(0, 2, (n, 2), generator=random).mul(2).sub(1).float()
    rows = torch.stack(
        [
            torch.stack([angle.cos(), -torch.sin(angle + slant), _between(random, n, shift)], dim=1),
            torch.stack([angle.sin(), torch.cos(angle + slant), _between(random, n, shift)], dim=1),
        ],
        dim=1,
    )
    rows[:, :, :2] *= (scale[:, None] * flips)[:, None]
    shape = [n, channels, size or height, size or width]
    grid = F.affine_grid(rows.to(x.device), shape, align_corners=False)
    return F.grid_sample(x, grid, padding_mode=edge, align_corners=False)


def stain(x: Images, random: torch.Generator, amount: float, offset: float) -> Images:
    """RGB images whose haematoxylin, eosin and residual are each scaled by N(1, amount), and moved in optical density.

    The offset of each colour is N(0, offset). After Tellez et al. 2018 (arXiv 1808.05896), section III-C.
    """
    if x.shape[1] != 3:
        return x
    n = len(x)
    stains = F.normalize(torch.tensor(STAINS), dim=1)
    scale = 1 + amount * torch.randn(n, 3, generator=random)
    change = torch.linalg.inv(stains) @ (scale[:, :, None] * stains)
    density = -(x * (1 - _DARKEST) + _DARKEST).log()
    density = torch.einsum("nchw,ncd->ndhw", density, change.to(x)) + _normal(random, (n, 3), offset).to(x)
    return (-density).exp()


def light(x: Images, random: torch.Generator, amount: float) -> Images:
    """Images as bright as N(1, amount) makes them, cut to [0, 1]."""
    return (x * (1 + _normal(random, (len(x), 1), amount).to(x))).clamp(0, 1)


def mix(
    x: Images, targets: Float[Tensor, "n k"], random: torch.Generator, share: float
) -> tuple[Images, Float[Tensor, "n k"]]:
    """The batch and its targets blended with itself in another order, with probability ``share``, else as they were.

    By turns at random a weighted sum (mixup, arXiv 1710.09412, Beta(0.4, 0.4)) or a square of one in the other (CutMix,
    arXiv 1905.04899).
    """
    draw = torch.rand(4, generator=random)
    if draw[0] >= share:
        return x, targets
    order = torch.randperm(len(x), generator=random).to(x.device)
    if draw[1] < 0.5:
        kept = _beta(random, 0.4)
        return x.lerp(x[order], 1 - kept), targets.lerp(targets[order], 1 - kept)
    height, width = x.shape[2:]
    side = math.sqrt(1 - float(torch.rand((), generator=random)))
    rows, columns = int(height * side), int(width * side)
    top, left = int(draw[2] * (height - rows + 1)), int(draw[3] * (width - columns + 1))
    x = x.clone()
    square = (slice(None), slice(None), slice(top, top + rows), slice(left, left + columns))
    x[square] = x[order][square]
    return x, targets.lerp(targets[order], rows * columns / (height * width))


augmentations: dict[str, Augmentation] = {"tissue": tissue, "course": course}


@recipe("hmt")
def hmt(*, epochs: int = 60, batch: int = 64, learning_rate: float = 0.004) -> Recipe:
    """AdamW, one cycle, averaged weights, tiles of tissue strongly changed and blended; a tenth held out to watch."""
    return Recipe(
        "hmt",
        epochs,
        batch,
        learning_rate,
        schedule="one-cycle",
        weight_decay=0.05,
        label_smoothing=0.05,
        augment="tissue",
        mixed=0.5,
        clip=5.0,
        precision="bfloat16",
        average=0.998,
        validation=0.1,
    )


@recipe("hmt-course")
def hmt_course(*, epochs: int = 60, batch: int = 32, learning_rate: float = 0.002) -> Recipe:
    """The course's augmentation for its tissue network (small turns, a little shear, both flips), AdamW, one cycle."""
    return Recipe(
        "hmt-course",
        epochs,
        batch,
        learning_rate,
        schedule="one-cycle",
        augment="course",
        precision="bfloat16",
        validation=0.1,
    )


def _between(random: torch.Generator, n: int, limit: float) -> Float[Tensor, " n"]:
    return (torch.rand(n, generator=random) * 2 - 1) * limit


def _normal(random: torch.Generator, shape: tuple[int, int], deviation: float) -> Float[Tensor, "n c 1 1"]:
    return (torch.randn(shape, generator=random) * deviation)[:, :, None, None]


def _beta(random: torch.Generator, alpha: float) -> float:
    # Johnk 1964: the standard samplers read the global random state.
    for _ in range(100):
        a, b = torch.rand(2, generator=random, dtype=torch.float64).pow(1 / alpha).tolist()
        if 0 < a + b <= 1:
            return float(a / (a + b))
    return 0.5
