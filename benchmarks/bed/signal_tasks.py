"""Planted tasks of signals."""

from __future__ import annotations

import math

import torch
from benchmarks.bed.scene import Scene, disc, each, pick, stamped, values, wave
from benchmarks.bed.tasks import task
from torch import Tensor

Drawn = tuple[Tensor, Tensor | None]
SIZE = (96,)
LETTERS = 7


def along(scene: Scene, length: Tensor | float, label: str) -> Tensor:
    """A sine wave over the whole signal with a random phase."""
    place = torch.zeros(len(scene.y), 1, dtype=torch.float64)
    return wave(scene.offsets(place), torch.ones_like(place), length, scene.uniform(label))


def motifs(count: int, length: int) -> Tensor:
    """Smooth random shapes that are the same for every seed, (count, length)."""
    fixed = Scene("motif", 0, torch.arange(count), torch.arange(count), (length,))
    return fixed.noise("shape", 0.8) * torch.hann_window(length + 2, periodic=False, dtype=torch.float64)[1:-1] * 1.5


@task(SIZE, "triangle square biphasic", "pooled flat recurrent", design=True)
def pulse(scene: Scene) -> Drawn:
    """The shape of one pulse on natural noise; a spike distracts."""
    first, second = scene.places("place", 2, 10).unbind(1)
    offset = scene.offsets(first)
    window, u = disc(offset, 9), offset[:, 0] / 9.5
    shapes = [1 - u.abs(), torch.full_like(u, 0.6), torch.sin(math.pi * u)]
    spike = disc(scene.offsets(second), 1) * each(scene.sign("sign"), u)
    return 0.35 * scene.noise("ground", 1) + 1.6 * window * pick(shapes, scene.y) + 1.5 * spike, window


@task(SIZE, "near far", "flat residual single", design=True, epochs=20)
def distance(scene: Scene) -> Drawn:
    """The distance of two equal pulses."""
    middle = scene.places("middle", 1, 20)[:, 0]
    half = values((4.0, 11.0), scene.y)[:, None]
    window = disc(scene.offsets(middle - half), 2) + disc(scene.offsets(middle + half), 2)
    return 0.3 * scene.noise("ground", 1) + 1.8 * window, window


@task(SIZE, "low middle high", "pooled residual", design=True)
def height(scene: Scene) -> Drawn:
    """The height of one wide bump; narrow spikes of any height distract."""
    first, *others = scene.places("place", 4, 12).unbind(1)
    window = disc(scene.offsets(first), 11)
    bump = window * torch.cos(scene.offsets(first)[:, 0] / 12 * math.pi / 2)
    x = 0.25 * scene.noise("ground", 1) + bump * each(values((0.6, 1.3, 2.0), scene.y), bump)
    for k, place in enumerate(others):
        x = x + disc(scene.offsets(place), 1) * each(scene.uniform(f"spike {k}", low=0.5, high=2.5), x)
    return x, window


@task(SIZE, "slow middle fast", "pooled recurrent", design=True, everywhere=True)
def rhythm(scene: Scene) -> Drawn:
    """The frequency of a wave all along the signal."""
    return 0.7 * scene.noise("ground", 0.5) + along(scene, values((11.0, 7.0, 5.0), scene.y), "phase"), None


@task(SIZE, "fast-first slow-first", "flat transformer recurrent", epochs=24)
def order(scene: Scene) -> Drawn:
    """Which of two bursts comes first."""
    places = scene.places("place", 2, 9).sort(1).values
    windows = [disc(scene.offsets(place), 7) for place in places.unbind(1)]
    x = 0.35 * scene.noise("ground", 1)
    for k, (place, window) in enumerate(zip(places.unbind(1), windows, strict=True)):
        length = torch.where((scene.y == k), 3.0, 7.0).double()
        x = x + 1.4 * window * wave(scene.offsets(place), torch.ones_like(place), length, scene.uniform(f"phase {k}"))
    return x, windows[0] + windows[1]


@task(SIZE, "fine middle coarse", "pooled residual recurrent transformer")
def lead(scene: Scene) -> Drawn:
    """The wavelength of a burst in one of six channels; speckles in the others distract."""
    places = scene.places("place", 2, 9)
    offset = scene.offsets(places[:, 0])
    window = disc(offset, 8)
    length = values((3.0, 5.0, 9.0), scene.y)
    burst = window * wave(offset, torch.ones_like(places[:, 0]), length, scene.uniform("phase"))
    speckle = disc(scene.offsets(places[:, 1]), 8) * scene.noise("speckle")
    shown, other = scene.integer("channel", 6), scene.integer("other", 6)
    channels = []
    for k in range(6):
        x = 0.3 * scene.noise(f"ground {k}", 1)
        x = x + 1.6 * burst * each((shown == k).double(), x) + speckle * each((other == k).double(), x)
        channels.append(x)
    return torch.stack(channels, dim=1), window


@task((160,), "wide inverted elevated", "pooled residual recurrent flat", epochs=18)
def beats(scene: Scene) -> Drawn:
    """One of five beats of two leads has a wide complex, an inverted wave after it, or a raised stretch between."""
    jitter = scene.uniform("jitter", 5, low=-3, high=3)
    which = scene.integer("which", 3) + 1
    drift = 0.3 * scene.noise("drift", 2)
    total, mask = torch.zeros_like(drift), torch.zeros_like(drift)
    for k in range(5):
        t = scene.offsets((16 + 32 * k + jitter[:, k])[:, None])[:, 0]
        support = ((t >= -12) & (t <= 17)).double()
        early = 0.2 * torch.exp(-((t + 8) ** 2) / 6)
        late = 0.4 * torch.exp(-((t - 10) ** 2) / 14)
        narrow = 1.8 * torch.exp(-(t**2) / 1.5) - 0.5 * torch.exp(-((t - 2.5) ** 2) / 2)
        broad = 1.5 * torch.exp(-(t**2) / 8) - 0.5 * torch.exp(-((t - 4) ** 2) / 4)
        raised = 0.6 * ((t >= 3) & (t <= 9)).double()
        altered = pick([early + broad + late, early + narrow - late, early + narrow + late + raised], scene.y)
        chosen = each((which == k).double(), t)
        total = total + support * torch.where(chosen > 0, altered, early + narrow + late)
        mask = mask + support * chosen
    leads = [gain * total + drift + 0.08 * scene.noise(f"white {k}") for k, gain in enumerate((1.0, -0.6))]
    return torch.stack(leads, dim=1), mask


@task(SIZE, "a b c d e f", "pooled flat residual transformer", train=1800)
def motif(scene: Scene) -> Drawn:
    """One of six motifs on a drift; a seventh one distracts."""
    shapes = motifs(LETTERS, 15)
    first, second = scene.places("place", 2, 9).unbind(1)
    offset = scene.offsets(first)
    evidence = pick([stamped(offset, shape) for shape in shapes[:-1]], scene.y)
    x = 0.6 * scene.noise("drift", 2) + 0.2 * scene.noise("white") + 1.2 * evidence
    return x + 1.2 * stamped(scene.offsets(second), shapes[-1]), stamped(offset, torch.ones(15, dtype=torch.float64))


@task(SIZE, "one two three", "pooled residual recurrent transformer")
def count(scene: Scene) -> Drawn:
    """How many pulses there are; flat steps distract."""
    *places, other = scene.places("place", 4, 8).unbind(1)
    window = torch.zeros(len(scene.y), *scene.size, dtype=torch.float64)
    for k, place in enumerate(places):
        window = window + disc(scene.offsets(place), 4) * each((scene.y >= k).double(), window)
    step = 0.8 * disc(scene.offsets(other), 6) * each(scene.sign("sign"), window)
    return 0.3 * scene.noise("ground", 1) + 2 * window - step.abs(), window


@task(SIZE, "together apart", "pooled flat single residual", epochs=18)
def coincidence(scene: Scene) -> Drawn:
    """Whether bursts of two channels come at the same time; the third channel holds another one."""
    first, second, third = scene.places("place", 3, 8).unbind(1)
    there = torch.where((scene.y == 0)[:, None], first, second)
    windows = [disc(scene.offsets(place), 6) for place in (first, there)]
    channels = [
        0.3 * scene.noise(f"ground {k}", 1) + 1.6 * window * torch.cos(scene.offsets(place)[:, 0])
        for k, (place, window) in enumerate(
            [(first, windows[0]), (there, windows[1]), (third, disc(scene.offsets(third), 6))]
        )
    ]
    return torch.stack(channels, dim=1), windows[0] + windows[1]


@task(SIZE, "dense middle sparse", "pooled residual recurrent", everywhere=True)
def tempo(scene: Scene) -> Drawn:
    """How densely pulses follow each other all along the signal."""
    gap = values((8.0, 12.0, 18.0), scene.y)
    t = scene.grid[0] + 20 * scene.uniform("phase")[:, None]
    near = (t.remainder(gap[:, None]) - gap[:, None] / 2).abs()
    return 0.4 * scene.noise("ground", 1) + 1.5 * (1.8 - near).clamp(0, 1), None


@task(SIZE, "dip bump step", "pooled flat residual recurrent", epochs=18)
def notch(scene: Scene) -> Drawn:
    """A short dip, bump or step on a slow wave of any phase; a long bump distracts."""
    first, second = scene.places("place", 2, 12).unbind(1)
    offset = scene.offsets(first)
    window, t = disc(offset, 5), offset[:, 0] / 5
    shapes = [-(1 - t.square()), 1 - t.square(), t.sign()]
    x = 0.25 * scene.noise("ground", 1) + 0.6 * along(scene, 60.0, "phase")
    x = x + 1.2 * disc(scene.offsets(second), 10) * torch.cos(scene.offsets(second)[:, 0] / 11 * math.pi / 2)
    return x + 1.6 * window * pick(shapes, scene.y), window
