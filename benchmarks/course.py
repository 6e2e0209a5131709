"""How long explaining takes in the loops a Keras user writes first, and here, on the same network and inputs.

    python benchmarks/course.py [--samples 3]

The loops take one sample at a time: Grad-CAM and Grad-CAM++ run the network once for the class and once for the
gradient of its logit at the last convolution; Ablation-CAM calls ``predict`` once for each channel, with that channel's
kernel and bias at zero. Theirs is timed on a few samples, ours on a batch; both are seconds a sample. The correlation
says how far the maps agree.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

import heatproof as hp
from heatproof import spatial
from heatproof.models.formats.keras import translate
from heatproof.models.formats.keras_files import import_keras

Array = np.ndarray[Any, np.dtype[np.float32]]
METHODS = ("grad-cam", "grad-cam-plus-plus", "ablation-cam")


def signal(keras: Any) -> tuple[Any, str, Tensor]:
    """The course's network for MNIST-1D, its last convolution, and signals (N, 1, 40)."""
    L = keras.layers
    layers = [L.Conv1D(25, k, padding="same", activation="relu", name=f"conv_{i}") for i, k in enumerate((5, 3, 3))]
    model = keras.Sequential([keras.Input((40, 1)), *layers, L.Flatten(), L.Dense(10), L.Softmax()])
    return model, "conv_2", hp.data.mnist1d().test.x[:200]


def tile(keras: Any) -> tuple[Any, str, Tensor]:
    """VGG-7, its last convolution, and tiles (N, 3, 224, 224) of random numbers."""
    L = keras.layers
    model = keras.Sequential([keras.Input((224, 224, 3))])
    for place, filters in enumerate((32, 64)):
        for i in range(2):
            model.add(L.Conv2D(filters, 3, padding="same", activation="relu", name=f"conv_{2 * place + i}"))
        model.add(L.MaxPooling2D(2))
    model.add(L.GlobalAveragePooling2D())
    model.add(L.Dense(8))
    model.add(L.Softmax())
    return model, "conv_3", torch.rand(8, 3, 224, 224)


def gradient_loop(keras: Any, model: Any, layer: str, x: Array, plus: bool) -> Array:
    """Grad-CAM or Grad-CAM++ of one sample (*S, C), before it is enlarged."""
    chosen = int(model.predict(x[None], verbose=0).argmax())
    names = [part.name for part in model.layers]
    A = keras.Model(model.inputs, model.get_layer(layer).output)(x[None]).detach().requires_grad_()
    out = A
    for part in model.layers[names.index(layer) + 1 : -1]:  # up to the logits
        out = part(out)
    G = torch.autograd.grad(out[0, chosen], A)[0][0].numpy()
    A = A[0].detach().numpy()
    axes = tuple(range(A.ndim - 1))
    if plus:
        under = 2 * G**2 + (A * G**3).sum(axis=axes, keepdims=True)
        weights = (G**2 / np.where(under != 0, under, 1) * np.maximum(G, 0)).sum(axis=axes)
    else:
        weights = G.mean(axis=axes)
    return np.asarray(np.maximum((A * weights).sum(axis=-1), 0))


def ablation_loop(keras: Any, model: Any, layer: str, x: Array) -> Array:
    """Ablation-CAM of one sample (*S, C), before it is enlarged."""
    whole = model.predict(x[None], verbose=0)[0]
    chosen = int(whole.argmax())
    target = model.get_layer(layer)
    kernel, bias = target.get_weights()
    weights = []
    for k in range(bias.size):
        cut, shift = kernel.copy(), bias.copy()
        cut[..., k], shift[k] = 0, 0
        target.set_weights([cut, shift])
        weights.append((whole[chosen] - model.predict(x[None], verbose=0)[0][chosen]) / whole[chosen])
    target.set_weights([kernel, bias])
    A = keras.Model(model.inputs, target.output).predict(x[None], verbose=0)[0]
    return np.asarray(np.maximum((A * np.array(weights)).sum(axis=-1), 0))


def loop(keras: Any, model: Any, layer: str, x: Array, method: str) -> Array:
    """The map of one sample as such a loop makes it."""
    if method == "ablation-cam":
        return ablation_loop(keras, model, layer, x)
    return gradient_loop(keras, model, layer, x, method == "grad-cam-plus-plus")


def loops(keras: Any, model: Any, layer: str, x: Array, method: str) -> list[Array]:
    """The maps of several samples, one after the other."""
    return [loop(keras, model, layer, one, method) for one in x]


def seconds(run: Callable[[], Any]) -> tuple[float, Any]:
    """Wall-clock seconds of one call, and its value."""
    start = time.perf_counter()
    value = run()
    return time.perf_counter() - start, value


def main() -> None:
    """Measure and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=3, help="how many the loops explain")
    few = parser.parse_args().samples
    warnings.simplefilter("ignore")  # Keras on how a Sequential model is called
    keras = import_keras()
    print(
        "| network | method | loop, s a sample | heatproof, s a sample | loop / heatproof | correlation of the maps |"
    )
    print("| --- | --- | ---: | ---: | ---: | ---: |")
    for build in (signal, tile):
        keras.utils.set_random_seed(0)
        model, layer, x = build(keras)
        probe = hp.Probe(translate(model), layer=layer)
        last = x.movedim(1, -1).numpy()
        loop(keras, model, layer, last[0], METHODS[0])
        for method in METHODS:
            spec = f"{method}:score=probability" if method == "ablation-cam" else method
            hp.explain(probe, x, spec)
            own, maps = seconds(partial(hp.explain, probe, x, spec))
            theirs, grids = seconds(partial(loops, keras, model, layer, last[:few], method))
            large = spatial.resize(torch.from_numpy(np.stack(grids)).float(), x.shape[2:])
            likeness = np.corrcoef(large.flatten(), maps[:few].flatten())[0, 1]
            each, a = theirs / few, own / len(x)
            print(
                f"| {build.__name__} | {method} | {each:.4f} | {a:.5f} | {each / a:,.0f} | {likeness:.4f} |", flush=True
            )


if __name__ == "__main__":
    main()
