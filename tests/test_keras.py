"""Keras files as torch modules: equal to Keras layer by layer, for Keras 2 and 3; unsafe and broken files refused."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import fx, nn

from heatproof.errors import FileError, InputError, UsageError

FILES = Path(__file__).parent / "files"


@pytest.fixture(scope="session")
def keras() -> Any:
    from heatproof.interop.keras_files import import_keras

    try:
        return import_keras()
    except UsageError as error:
        pytest.skip(str(error))


def randomised(keras: Any, model: Any, seed: int = 0) -> Any:
    """The model with weights far from their initial values, so that no bias or statistic is trivially right."""
    draw = np.random.default_rng(seed)
    for variable in model.weights:
        shape = tuple(variable.shape)
        positive = any(part in variable.path for part in ("variance", "gamma"))
        values = draw.uniform(0.5, 1.5, shape) if positive else draw.normal(0, 0.3, shape)
        variable.assign(values.astype("float32") if "seed" not in variable.path else values * 0)
    for part in model._flatten_layers():
        if hasattr(part, "finalize_state"):
            part.finalize_state()
    return model


def layer(keras: Any, name: str, rank: int) -> Any:
    return getattr(keras.layers, f"{name}{rank}D")


def random_model(keras: Any, rank: int, seed: int) -> Any:
    """A network of random layers and branches that ends in a softmax over four classes."""
    draw = np.random.default_rng(seed)
    L = keras.layers
    size = [int(draw.integers(11, 17)) if rank < 3 else int(draw.integers(7, 10)) for _ in range(rank)]

    def pick(*choices: Any) -> Any:
        return choices[draw.integers(len(choices))]

    def convolve(x: Any) -> Any:
        stride = int(pick(1, 1, 2, 3))
        options: dict[str, Any] = {"strides": stride, "dilation_rate": int(pick(1, 2)) if stride == 1 else 1}
        options |= {"padding": pick("same", "same", "valid", *(("causal",) if rank == 1 else ()))}
        kernel = int(pick(1, 2, 3)) if options["padding"] == "valid" else int(pick(2, 3, 4, 5))
        if options["padding"] == "valid":
            kernel = min(kernel, *x.shape[1:-1])
            options["strides"] = options["dilation_rate"] = 1
        act = pick("relu", "elu", "tanh", "gelu", "swish", "hard_sigmoid", "linear", None, "leaky_relu", "softplus")
        return layer(keras, "Conv", rank)(
            6, kernel, groups=int(pick(1, 2)), activation=act, use_bias=bool(pick(True, False)), **options
        )(x)

    def separable(x: Any) -> Any:
        if rank == 3:
            return convolve(x)
        kind = pick("SeparableConv", "DepthwiseConv")
        first = {"filters": 6} if kind == "SeparableConv" else {}
        options = {
            "strides": int(pick(1, 2)),
            "padding": "same",
            "depth_multiplier": 1,
            "activation": pick("relu", None),
        }
        return layer(keras, kind, rank)(kernel_size=int(pick(2, 3)), **first, **options)(x)

    def pool(x: Any) -> Any:
        kind = pick("MaxPooling", "AveragePooling")
        return layer(keras, kind, rank)(int(pick(2, 3)), strides=int(pick(1, 2)), padding="same")(x)

    def act(x: Any) -> Any:
        return pick(
            L.ReLU(), L.ReLU(6.0), L.ReLU(2.0, negative_slope=0.1, threshold=0.3), L.LeakyReLU(), L.ELU(0.7),
            L.PReLU(shared_axes=list(range(1, rank + 1))), L.PReLU(), L.Activation("mish"), L.Activation("sigmoid"),
        )(x)  # fmt: skip

    def norm(x: Any) -> Any:
        return pick(L.BatchNormalization(), L.BatchNormalization(scale=False), L.LayerNormalization(),
                    L.GroupNormalization(3), L.Dropout(0.5), layer(keras, "SpatialDropout", rank)(0.5))(x)  # fmt: skip

    def branch(x: Any) -> Any:
        joined = pick(L.Add, L.Subtract, L.Multiply, L.Average, L.Maximum, L.Minimum, L.Concatenate)
        other = layer(keras, "Conv", rank)(6, 3, padding="same", activation="relu")(x)
        out = joined()([x, other])
        return layer(keras, "Conv", rank)(6, 1)(out) if joined is L.Concatenate else out

    def reshape(x: Any) -> Any:
        crop = layer(keras, "Cropping", rank)(1)
        return layer(keras, "ZeroPadding", rank)(2)(crop(x) if min(x.shape[1:-1]) > 3 else x)

    x = inputs = keras.Input((*size, 3))
    x = pick(L.Rescaling(1 / 7.0, -0.5), L.Normalization(mean=[0.1, 0.2, 0.3], variance=[1.0, 2.0, 3.0]))(x)
    x = layer(keras, "Conv", rank)(6, 3, padding="same", strides=2)(x)
    for _ in range(6):
        x = pick(convolve, separable, pool, act, norm, branch, reshape)(x)
    end = pick("flatten", "flatten", "average", "max", "nested")
    if end == "nested":
        x = keras.Sequential([keras.Input(x.shape[1:]), layer(keras, "Conv", rank)(5, 1), L.ReLU(), L.Flatten()])(x)
    elif end == "flatten":
        x = L.Flatten()(x)
        x = pick(L.BatchNormalization(), L.ReLU(), L.Dropout(0.2), L.LeakyReLU(), L.Reshape((-1,)))(x)
    else:
        x = layer(keras, "GlobalAveragePooling" if end == "average" else "GlobalMaxPooling", rank)()(x)
    x = L.Dense(5, activation="relu")(x)
    outputs = pick(lambda v: L.Dense(4, activation="softmax")(v), lambda v: L.Softmax()(L.Dense(4)(v)))(x)
    return randomised(keras, keras.Model(inputs, outputs), seed)


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("seed", range(8))
def test_every_layer_of_a_random_network_equals_keras(keras: Any, rank: int, seed: int) -> None:
    from heatproof.interop.keras_check import differences

    model = random_model(keras, rank, seed)
    found = differences(model)
    assert len(found) >= len(model.layers) - 1
    assert {name: error for name, error in found.items() if not error <= 1e-5} == {}
