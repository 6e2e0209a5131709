"""Planted tasks of volumes."""

from __future__ import annotations

import torch
from benchmarks.bed.scene import Scene, bar, blotch, disc, each, pick, ring, values, wave
from benchmarks.bed.tasks import task
from torch import Tensor

Drawn = tuple[Tensor, Tensor | None]
SIZE = (12, 12, 12)
EVERY = "pooled flat residual"


@task(SIZE, "hollow solid", "pooled flat single", design=True, train=800, epochs=10)
def shell(scene: Scene) -> Drawn:
    """Whether a ball is hollow or solid."""
    offset = scene.offsets(scene.places("place", 1, 4)[:, 0])
    window = disc(offset, 3.3)
    balls = [ring(offset, 2.8, 1.2), 0.7 * disc(offset, 3.0)]
    return 0.35 * scene.noise("ground", 1) + 1.6 * window * pick(balls, scene.y), window


@task(SIZE, "bright dark lined", EVERY, train=900, epochs=10)
def lesion(scene: Scene) -> Drawn:
    """An irregular lesion that is bright, dark or lined, in smooth tissue with a vessel."""
    first, second = scene.places("place", 2, 3.5).unbind(1)
    offset = scene.offsets(first)
    window = blotch(scene, "outline", offset, 3.6)
    lines = wave(offset, scene.direction("way"), 2.8, scene.uniform("phase"))
    level = torch.ones_like(lines)
    x = 0.4 * scene.noise("ground", 1.3) + 0.1 * scene.noise("white")
    x = x + 0.9 * bar(scene.offsets(second), scene.direction("vessel"), 16, 1.4)
    return x + window * pick([level, -level, 1.3 * lines], scene.y), window


@task(SIZE, "first second third", EVERY, train=900, epochs=10)
def tube(scene: Scene) -> Drawn:
    """The axis along which a tube runs; a ball distracts."""
    first, second = scene.places("place", 2, 3).unbind(1)
    offset = scene.offsets(first)
    tubes = [bar(offset, torch.eye(3, dtype=torch.float64)[k].expand(len(scene.y), 3), 9, 2.2) for k in range(3)]
    window = pick(tubes, scene.y)
    return 0.35 * scene.noise("ground", 1) + 1.3 * window + 1.1 * disc(scene.offsets(second), 2), window


@task(SIZE, "alike opposite", "pooled residual single", train=1200, epochs=14)
def nodules(scene: Scene) -> Drawn:
    """Whether two nodules, each bright or dark, are alike."""
    sign = scene.sign("sign")
    other = sign * (1 - 2 * scene.y.double())
    x = 0.3 * scene.noise("ground", 1)
    window = torch.zeros_like(x)
    for place, level in zip(scene.places("place", 2, 3).unbind(1), (sign, other), strict=True):
        ball = disc(scene.offsets(place), 2.2)
        x, window = x + 1.8 * ball * each(level, x), window + ball
    return x, window


@task(SIZE, "fine coarse", "pooled residual single", everywhere=True, train=700, epochs=8)
def grain(scene: Scene) -> Drawn:
    """How coarse the grain of the whole volume is."""
    return pick([scene.noise("grain", exponent) for exponent in (0.5, 1.0)], scene.y), None


@task(SIZE, "fine coarse", "pooled flat residual", train=900, epochs=12)
def core(scene: Scene) -> Drawn:
    """The wavelength of lines in a ball; a speckled ball distracts."""
    first, second = scene.places("place", 2, 3.5).unbind(1)
    offset = scene.offsets(first)
    window = disc(offset, 3.4)
    lines = wave(offset, scene.direction("way"), values((2.4, 5.0), scene.y), scene.uniform("phase"))
    speckle = disc(scene.offsets(second), 3.4) * scene.noise("speckle")
    return 0.35 * scene.noise("ground", 1) + 1.4 * window * lines + 0.8 * speckle, window


@task(SIZE, "first second third", EVERY, train=900, epochs=12)
def plate(scene: Scene) -> Drawn:
    """Across which axis a thin round plate lies; a bright tube distracts."""
    first, second = scene.places("place", 2, 4).unbind(1)
    offset = scene.offsets(first)
    plates = [disc(offset, 3.8) * (1.5 - offset[:, axis].abs()).clamp(0, 1) for axis in range(3)]
    window = pick(plates, scene.y)
    x = 0.35 * scene.noise("ground", 1) + 0.9 * bar(scene.offsets(second), scene.direction("way"), 8, 1.6)
    return x + 1.5 * window, window


@task(SIZE, "dark bright", "pooled residual flat", design=True, everywhere=True, train=700, epochs=8)
def level(scene: Scene) -> Drawn:
    """The brightness of the whole volume."""
    x = 0.7 * scene.noise("ground", 1)
    return x + each(values((-0.3, 0.3), scene.y), x), None
