"""How quick a loaded Keras model is beside a network written by hand in torch; prints a Markdown table.

Run: ``python benchmarks/keras_twin.py [--repeats 15]``. Each cell is the median time of one batch over repeats that
take turns, so that a busy machine slows all alike. The ratio is the median of the turn-wise ratios.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from heatproof.models.formats.keras import translate
from heatproof.models.formats.keras_files import import_keras


def signal(keras: Any) -> tuple[Any, nn.Module, tuple[int, ...]]:
    """The course's network for MNIST-1D."""
    L = keras.layers
    layers = [L.Conv1D(25, k, padding="same", activation="relu") for k in (5, 3, 3)]
    model = keras.Sequential([keras.Input((40, 1)), *layers, L.Flatten(), L.Dense(10, activation="softmax")])
    parts: list[nn.Module] = []
    for before, k in ((1, 5), (25, 3), (25, 3)):
        parts += [nn.Conv1d(before, 25, k, padding=k // 2), nn.ReLU()]
    return model, nn.Sequential(*parts, nn.Flatten(), nn.Linear(1000, 10), nn.Softmax(1)), (1, 40)


def image(keras: Any) -> tuple[Any, nn.Module, tuple[int, ...]]:
    """VGG-7 on tissue tiles."""
    L = keras.layers
    model = keras.Sequential([keras.Input((224, 224, 3))])
    parts: list[nn.Module] = []
    before = 3
    for filters in (32, 64):
        for _ in range(2):
            model.add(L.Conv2D(filters, 3, padding="same", activation="relu"))
            parts += [nn.Conv2d(before, filters, 3, padding=1), nn.ReLU()]
            before = filters
        model.add(L.MaxPooling2D(2))
        parts.append(nn.MaxPool2d(2))
    model.add(L.GlobalAveragePooling2D())
    model.add(L.Dense(8, activation="softmax"))
    parts += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 8), nn.Softmax(1)]
    return model, nn.Sequential(*parts), (3, 224, 224)


def volume(keras: Any) -> tuple[Any, nn.Module, tuple[int, ...]]:
    """A small 3-D network with batch normalisation."""
    L = keras.layers
    model = keras.Sequential([keras.Input((24, 24, 24, 1))])
    parts: list[nn.Module] = []
    for before, filters in ((1, 16), (16, 32)):
        model.add(L.Conv3D(filters, 3, padding="same"))
        model.add(L.BatchNormalization())
        model.add(L.ReLU())
        model.add(L.MaxPooling3D(2))
        parts += [
            nn.Conv3d(before, filters, 3, padding=1),
            nn.BatchNorm3d(filters, eps=1e-3),
            nn.ReLU(),
            nn.MaxPool3d(2),
        ]
    model.add(L.Flatten())
    model.add(L.Dense(2))
    return model, nn.Sequential(*parts, nn.Flatten(), nn.Linear(32 * 6**3, 2)), (1, 24, 24, 24)


def timed(run: Callable[[Tensor], Any], x: Tensor) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    run(x)
    return time.perf_counter() - start


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--repeats", type=int, default=15)
    repeats = parser.parse_args().repeats
    keras = import_keras()
    print("| network | batch | torch twin, ms | loaded, ms | Keras itself, ms | loaded / twin | Keras / twin |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for build, batch in ((signal, 256), (image, 8), (volume, 16)):
        model, twin, shape = build(keras)
        loaded, twin = translate(model), twin.eval()
        x = torch.rand(batch, *shape)
        last = x.movedim(1, -1).contiguous()
        runs: list[tuple[Callable[[Tensor], Any], Tensor]] = [(twin, x), (loaded, x), (model, last)]
        with torch.inference_mode():
            for run, inputs in runs:
                run(inputs)
            rounds = [[timed(run, inputs) for run, inputs in runs] for _ in range(repeats)]
        hand, ours, theirs = (statistics.median(column) * 1000 for column in zip(*rounds, strict=True))
        ratio, worst = (statistics.median(r[i] / r[0] for r in rounds) for i in (1, 2))
        numbers = f"{hand:.1f} | {ours:.1f} | {theirs:.1f} | {ratio:.2f} | {worst:.2f}"
        print(f"| {build.__name__}: {(build.__doc__ or '').rstrip('.')} | {batch} | {numbers} |")


if __name__ == "__main__":
    main()
