"""Planted tasks of images."""

from __future__ import annotations

import math

import torch
from benchmarks.bed.scene import (
    BARS,
    CORNER,
    CROSS,
    PLUS,
    SQUARE,
    STEPS,
    TEE,
    WEDGE,
    Scene,
    bar,
    blotch,
    disc,
    each,
    footprint,
    pick,
    ring,
    stamped,
    symbol,
    values,
    wave,
)  # fmt: skip
from benchmarks.bed.tasks import task
from torch import Tensor

Drawn = tuple[Tensor, Tensor | None]
SIZE = (28, 28)
EVERY = "pooled flat residual transformer"


def turned(scene: Scene, angles: tuple[float, ...]) -> Tensor:
    """The direction that stands for the class, (n, 2)."""
    angle = values(angles, scene.y)
    return torch.stack([angle.sin(), angle.cos()], dim=1)


@task(SIZE, "level slanted upright", "pooled flat", design=True)
def grating(scene: Scene) -> Drawn:
    """The orientation of a grating in a disc on natural noise."""
    offset = scene.offsets(scene.places("place", 1, 6)[:, 0])
    window = disc(offset, 5.5)
    lines = wave(offset, turned(scene, (0.0, math.pi / 4, math.pi / 2)), 4.0, scene.uniform("phase"))
    return 0.5 * scene.noise("ground", 1) + 1.5 * window * lines, window


@task(SIZE, "dark middle bright", "pooled residual", design=True, everywhere=True)
def brightness(scene: Scene) -> Drawn:
    """The brightness of the whole image."""
    x = 0.7 * scene.noise("ground", 1)
    return x + each(values((-0.6, 0.0, 0.6), scene.y), x), None


@task(SIZE, "fine middle coarse", "pooled flat transformer", design=True)
def decoys(scene: Scene) -> Drawn:
    """The wavelength of a texture in a disc; a smooth and a speckled disc distract."""
    first, second, third = scene.places("place", 3, 6).unbind(1)
    offset = scene.offsets(first)
    window = disc(offset, 5.5)
    lines = wave(offset, scene.direction("way"), values((2.5, 4.0, 6.5), scene.y), scene.uniform("phase"))
    x = 0.3 * scene.noise("ground", 0.5) + 1.2 * window * lines
    x = x + disc(scene.offsets(second), 5.5) * each(scene.sign("sign"), x)
    return x + disc(scene.offsets(third), 5.5) * scene.noise("speckle"), window


@task(SIZE, "fine middle coarse", EVERY, design=True)
def annulus(scene: Scene) -> Drawn:
    """The wavelength of a texture in a ring; a filled disc distracts."""
    offset = scene.offsets(scene.places("place", 1, 10)[:, 0])
    window = ring(offset, 7.5, 3)
    lines = wave(offset, scene.direction("way"), values((2.5, 4.0, 7.0), scene.y), scene.uniform("phase"))
    return 0.4 * scene.noise("ground", 1) + 1.6 * window * lines, window


@task(SIZE, "plain dotted hatched", EVERY, design=True)
def stripe(scene: Scene) -> Drawn:
    """What a long stripe is filled with."""
    place, way = scene.places("place", 1, 9)[:, 0], scene.direction("way")
    offset = scene.offsets(place)
    window = bar(offset, way, 20, 4)
    fills = [
        torch.full_like(window, 0.8),
        wave(offset, way, 5.0, scene.uniform("phase")),
        wave(offset, way.flip(1) * torch.tensor([1.0, -1.0]), 2.6, scene.uniform("phase")),
    ]
    return 0.4 * scene.noise("ground", 1) + 1.4 * window * pick(fills, scene.y), window


@task(SIZE, "smooth grained lined", EVERY, design=True)
def irregular(scene: Scene) -> Drawn:
    """The texture of a region of irregular outline on natural noise."""
    offset = scene.offsets(scene.places("place", 1, 8)[:, 0])
    window = blotch(scene, "outline", offset, 7.5)
    lines = wave(offset, scene.direction("way"), 4.5, scene.uniform("phase"))
    fills = [torch.full_like(window, 0.9), 1.1 * scene.noise("grain"), 1.2 * lines]
    return 0.4 * scene.noise("ground", 1.2) + window * pick(fills, scene.y), window


@task(SIZE, "plus cross square", EVERY, design=True)
def several(scene: Scene) -> Drawn:
    """Two to four small symbols of one kind; discs distract."""
    *places, other = scene.places("place", 5, 4).unbind(1)
    many = scene.integer("many", 3) + 2
    pictures = [symbol(picture) for picture in (PLUS, CROSS, SQUARE)]
    x = 0.3 * scene.noise("ground", 1) + 1.2 * disc(scene.offsets(other), 2.5)
    window = torch.zeros_like(x)
    for k, place in enumerate(places):
        offset, shown = scene.offsets(place), each((many > k).double(), x)
        x = x + 1.5 * shown * pick([stamped(offset, picture) for picture in pictures], scene.y)
        window = window + shown * footprint(offset, (5, 5))
    return x, window


@task(SIZE, "same different", "flat residual single transformer", train=2000, epochs=24)
def conjunction(scene: Scene) -> Drawn:
    """Whether two symbols are of one kind; neither tells anything by itself."""
    offsets = [scene.offsets(place) for place in scene.places("place", 2, 5).unbind(1)]
    kind = scene.integer("kind", 2)
    pictures = [symbol(picture) for picture in (PLUS, SQUARE)]
    x = 0.25 * scene.noise("ground", 1)
    for offset, which in zip(offsets, (kind, (kind + scene.y) % 2), strict=True):
        x = x + 1.8 * pick([stamped(offset, picture) for picture in pictures], which)
    return x, sum(footprint(offset, (5, 5)) for offset in offsets)  # type: ignore[return-value]


@task(SIZE, "cross-above square-above", "flat transformer residual single", train=2000, epochs=24, design=True)
def relation(scene: Scene) -> Drawn:
    """Which of two symbols is above the other."""
    places = scene.places("place", 2, 5)
    places = places.gather(1, places[..., :1].argsort(1).expand(-1, -1, 2))
    pictures = [symbol(picture) for picture in (CROSS, SQUARE)]
    x = 0.25 * scene.noise("ground", 1)
    window = torch.zeros_like(x)
    for k, place in enumerate(places.unbind(1)):
        offset = scene.offsets(place)
        x = x + 1.8 * pick([stamped(offset, picture) for picture in pictures], (scene.y + k) % 2)
        window = window + footprint(offset, (5, 5))
    return x, window


@task(SIZE, "round long lobed", EVERY, epochs=18, design=True)
def morphology(scene: Scene) -> Drawn:
    """The outline of the largest of several cells of about equal stain."""
    first, *others = scene.places("place", 5, 7).unbind(1)
    offset = scene.offsets(first)
    distance, angle = offset.square().sum(1).sqrt(), torch.atan2(offset[:, 0], offset[:, 1])
    turn = each(scene.uniform("turn", high=2 * math.pi), angle)
    lobed = (5.0 + 2.0 * torch.cos(4 * (angle - turn)) - distance + 0.5).clamp(0, 1)
    long = bar(offset, scene.direction("way"), 13, 5)
    round_ = disc(offset, 5)
    x = 0.3 * scene.noise("ground", 1) + 1.3 * pick([round_, long, lobed], scene.y)
    for k, place in enumerate(others):
        x = x + 1.1 * disc(scene.offsets(place), scene.uniform(f"radius {k}", low=1.5, high=2.5))
    return x, disc(offset, 8)


@task(SIZE, "first second third", EVERY)
def stain(scene: Scene) -> Drawn:
    """Which of three channels shows a region; a patch in all channels distracts."""
    first, second = scene.places("place", 2, 6).unbind(1)
    window = blotch(scene, "outline", scene.offsets(first), 5.5)
    patch = disc(scene.offsets(second), 5)
    shared = scene.noise("shared", 1)
    channels = []
    for k in range(3):
        x = 0.3 * shared + 0.2 * scene.noise(f"ground {k}", 1) + 0.9 * patch
        channels.append(x + 1.2 * window * each((scene.y == k).double(), x))
    return torch.stack(channels, dim=1), window


@task(SIZE, "dark bright", "pooled flat residual single")
def dot(scene: Scene) -> Drawn:
    """Whether a dot of three positions across is bright or dark; longer lines of both kinds distract."""
    first, second, third = scene.places("place", 3, 4).unbind(1)
    window = footprint(scene.offsets(first), (3, 3))
    x = 0.3 * scene.noise("ground", 1) + 2.2 * window * each(2 * scene.y.double() - 1, window)
    for k, (place, sign) in enumerate(((second, 1.0), (third, -1.0))):
        x = x + 1.5 * sign * bar(scene.offsets(place), scene.direction(f"way {k}"), 9, 1.2)
    return x, window


@task(SIZE, "fine middle coarse", EVERY)
def large(scene: Scene) -> Drawn:
    """The wavelength of a texture that fills about two fifths of the image."""
    offset = scene.offsets(scene.places("place", 1, 10)[:, 0])
    window = blotch(scene, "outline", offset, 10.5)
    lines = wave(offset, scene.direction("way"), values((2.6, 4.5, 8.0), scene.y), scene.uniform("phase"))
    return 0.6 * scene.noise("ground", 1) + 0.9 * window * lines, window


@task(SIZE, "plus cross square corner tee bars wedge steps", EVERY, train=2400, epochs=16)
def alphabet(scene: Scene) -> Drawn:
    """One of eight symbols on natural noise; short lines distract."""
    first, second, third = scene.places("place", 3, 5).unbind(1)
    offset = scene.offsets(first)
    pictures = [symbol(picture) for picture in (PLUS, CROSS, SQUARE, CORNER, TEE, BARS, WEDGE, STEPS)]
    x = 0.3 * scene.noise("ground", 1) + 1.8 * pick([stamped(offset, picture) for picture in pictures], scene.y)
    for k, place in enumerate((second, third)):
        x = x + 1.5 * bar(scene.offsets(place), scene.direction(f"way {k}"), 5, 1.2)
    return x, footprint(offset, (5, 5))


@task(SIZE, "level slanted upright", "pooled flat residual", everywhere=True)
def weave(scene: Scene) -> Drawn:
    """The orientation of a texture all over the image."""
    ground = scene.noise("ground", 0.7)
    middle = torch.full((len(scene.y), 2), 13.5, dtype=torch.float64)
    lines = wave(
        scene.offsets(middle), turned(scene, (0.0, math.pi / 4, math.pi / 2)), 4.0, scene.uniform("phase")
    )  # fmt: skip
    return ground + 0.6 * lines, None


@task(SIZE, "rightward downward outward", EVERY)
def shading(scene: Scene) -> Drawn:
    """Where a region of irregular outline grows brighter; an evenly grey disc distracts."""
    first, second = scene.places("place", 2, 7).unbind(1)
    offset = scene.offsets(first)
    window = blotch(scene, "outline", offset, 6.5)
    ramps = [offset[:, 1] / 5, offset[:, 0] / 5, offset.square().sum(1).sqrt() / 3 - 1]
    x = 0.35 * scene.noise("ground", 1) + 0.8 * disc(scene.offsets(second), 4)
    return x + 1.2 * window * pick(ramps, scene.y), window


@task(SIZE, "sharp soft doubled", EVERY)
def border(scene: Scene) -> Drawn:
    """How the edge of a disc falls off; a line distracts."""
    first, second = scene.places("place", 2, 8).unbind(1)
    offset = scene.offsets(first)
    window, distance = disc(offset, 8), offset.square().sum(1).sqrt()
    profiles = [
        (distance <= 6).double(),
        (1.4 - distance / 6).clamp(0, 1),
        ((distance <= 3.5) | ((distance > 5) & (distance <= 6.5))).double(),
    ]
    x = 0.35 * scene.noise("ground", 1) + 0.9 * bar(scene.offsets(second), scene.direction("way"), 11, 1.5)
    return x + 1.3 * window * pick(profiles, scene.y), window


@task(SIZE, "rough middle smooth", "pooled flat residual", design=True, everywhere=True)
def mottle(scene: Scene) -> Drawn:
    """How coarse the grain of the whole image is."""
    return pick([scene.noise("grain", exponent) for exponent in (0.4, 0.9, 1.4)], scene.y), None
