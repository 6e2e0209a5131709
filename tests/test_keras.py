"""Keras files as torch modules: equal to Keras layer by layer, for Keras 2 and 3; unsafe and broken files refused."""

from __future__ import annotations

import copy
import json
import re
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
# Keras's own, when it saves or predicts on its torch backend.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


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


def layer_names(model: Any, head: str = "") -> set[str]:
    """Every layer that computes something; those of nested models as ``model.layer``."""
    names = set()
    for part in model.layers:
        if hasattr(part, "layers"):
            names |= layer_names(part, f"{head}{part.name}.")
        if type(part).__name__ != "InputLayer":
            names.add(f"{head}{part.name}")
    return names


def kinds(model: nn.Module) -> list[str]:
    return [type(part).__name__ for part in model.modules()]


def refusal(path: Path) -> str:
    """The message with which a file is refused."""
    from heatproof.models.formats.keras import load_keras

    with pytest.raises(FileError) as caught:
        load_keras(path)
    return str(caught.value)


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
    from heatproof.models.formats.keras_check import differences

    model = random_model(keras, rank, seed)
    errors = differences(model)
    assert set(errors) == layer_names(model)
    assert {name: error for name, error in errors.items() if not error <= 1e-5} == {}


KERAS2 = {
    "signal.h5": [[0.41637743, 0.32557383, 0.02139667, 0.23665211], [0.37410262, 0.39507687, 0.02125391, 0.20956661]],
    "image.h5": [
        [0.00036904, 0.00253883, 0.00000143, 0.99675095, 0.00033969],
        [0.00011647, 0.00003418, 0.00000047, 0.99983013, 0.00001867],
    ],
    "volume.h5": [[0.14316083, 0.39302567, 0.46381351], [0.10375915, 0.52262712, 0.37361372]],
    "volume.keras": [[0.14316083, 0.39302567, 0.46381351], [0.10375915, 0.52262712, 0.37361372]],
    "operations.h5": [[0.99697864, 0.00113255, 0.00188889], [0.9971118, 0.00106671, 0.00182144]],
    "lstm.h5": [[0.30924678, 0.28194544, 0.40880778], [0.3042585, 0.27872905, 0.41701242]],
}


def predictions(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model(x)


@pytest.mark.parametrize("name", KERAS2)
def test_a_file_of_keras_2_predicts_what_keras_2_predicted(keras: Any, name: str) -> None:
    from heatproof.models.formats.keras import load_keras

    model = load_keras(FILES / f"keras2_{name}")
    channels, *size = model.input_shape
    x = torch.tensor(np.random.default_rng(7).random((2, *size, channels)), dtype=torch.float32).movedim(-1, 1)
    got = predictions(model, x * 255 if name == "image.h5" else x)
    torch.testing.assert_close(got, torch.tensor(KERAS2[name]), rtol=0, atol=1e-5)


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_a_file_keras_wrote_predicts_what_keras_predicts(keras: Any, tmp_path: Path, suffix: str, rank: int) -> None:
    import heatproof as hp

    model = random_model(keras, rank, seed=31)
    path = tmp_path / f"model{suffix}"
    save(model, path)
    x = torch.rand(3, 3, *model.input_shape[1:-1])
    want = torch.tensor(model.predict(x.movedim(1, -1).numpy(), verbose=0))
    torch.testing.assert_close(predictions(hp.load(path), x), want, rtol=0, atol=1e-5)


TRANSPOSED = [
    {"strides": strides, "padding": padding, "kernel_size": size, "output_padding": extra}
    for strides in (1, 2, 3)
    for padding in ("same", "valid")
    for size in (1, 2, 3, 4, 5)
    for extra in (None, *range(strides))
]
TRANSPOSED += [
    {"dilation_rate": d, "padding": p, "kernel_size": k} for d in (2, 3) for p in ("same", "valid") for k in (2, 3)
]


@pytest.mark.parametrize("options", TRANSPOSED, ids=lambda o: ",".join(map(str, o.values())))
def test_transposed_convolutions_equal_keras(keras: Any, options: dict[str, Any]) -> None:
    from heatproof.models.formats.keras import translate
    from heatproof.models.formats.keras_check import differences

    i = keras.Input((7, 3))
    x = keras.layers.Conv1DTranspose(4, activation="tanh", **options)(i)
    model = randomised(keras, keras.Model(i, keras.layers.Dense(2)(keras.layers.Flatten()(x))))
    assert all(error <= 1e-5 for error in differences(model).values())
    assert kinds(translate(model)) == ["KerasModel", "Sequential", "ConvTranspose1d", "Tanh", "Flatten", "Linear"]


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize("sized", [True, False])
def test_transposed_convolutions_of_any_rank(keras: Any, rank: int, data_format: str, sized: bool) -> None:
    from heatproof.models.formats.keras import translate
    from heatproof.models.formats.keras_check import differences

    size = (5, 6, 4)[:rank] if sized else (None,) * rank
    i = keras.Input((*size, 3) if data_format == "channels_last" else (3, *size))
    options: dict[str, Any] = {"data_format": data_format, "activation": "relu"}
    x = layer(keras, "Conv", rank)(4, 3, padding="same", **options)(i)
    x = getattr(keras.layers, f"Conv{rank}DTranspose")(
        5, (4, 3, 1)[:rank], strides=(2, 2, 3)[:rank], padding="same", use_bias=rank != 2, **options
    )(x)
    x = getattr(keras.layers, f"Conv{rank}DTranspose")(2, 3, strides=3, output_padding=2, **options)(x)
    x = layer(keras, "GlobalMaxPooling", rank)(data_format=data_format)(x)
    model = randomised(keras, keras.Model(i, keras.layers.Dense(3)(x)))
    assert all(error <= 1e-5 for error in differences(model).values())
    blocks = ["Sequential", f"Conv{rank}d", "ReLU", *["Sequential", f"ConvTranspose{rank}d", "ReLU"] * 2]
    end = ["Sequential", f"AdaptiveMaxPool{rank}d", "Flatten", "Linear"]
    assert kinds(translate(model)) == ["KerasModel", *blocks, *end]


def save(model: Any, path: Path) -> None:
    """Keras asks on the log to prefer its newer format."""
    import absl.logging

    level = absl.logging.get_verbosity()
    absl.logging.set_verbosity(absl.logging.ERROR)
    try:
        model.save(path)
    finally:
        absl.logging.set_verbosity(level)


def transfer(keras: Any) -> Any:
    """A backbone inside a functional model, as transfer learning leaves it."""
    L = keras.layers
    i = keras.Input((12, 12, 3))
    x = L.Conv2D(4, 3, padding="same", activation="relu", name="inner_conv")(i)
    backbone = keras.Model(i, L.Add(name="inner_add")([x, L.Conv2D(4, 1, name="mix")(x)]), name="backbone")
    backbone.trainable = False
    o = keras.Input((12, 12, 3))
    x = L.GlobalAveragePooling2D(name="pool")(backbone(o, training=False))
    return keras.Model(o, L.Dense(3, activation="softmax", name="head")(x))


def several(keras: Any) -> Any:
    """A layer called twice, and flattened values joined and added."""
    L = keras.layers
    i = keras.Input((6, 5, 2))
    twice = L.Conv2D(2, 3, padding="same", activation="relu")
    f, g = L.Flatten()(i), L.Flatten()(twice(twice(i)))
    return keras.Model(i, L.Dense(3)(L.Concatenate()([f, L.Add()([f, g])])))


def sizeless(keras: Any) -> Any:
    """No axis of known length, so that 'same' depends on the input."""
    L = keras.layers
    i = keras.Input((None, None, 3))
    x = L.Conv2D(4, 3, strides=2, padding="same", activation="relu")(i)
    x = L.AveragePooling2D(3, strides=2, padding="same")(L.MaxPooling2D(2, padding="same")(x))
    return keras.Model(i, L.Dense(3)(L.GlobalMaxPooling2D(keepdims=True)(x)))


def first(keras: Any) -> Any:
    """Channels-first in Keras too."""
    L = keras.layers
    i = keras.Input((3, 11, 12))
    options = {"data_format": "channels_first"}
    x = L.Conv2D(4, 3, strides=2, padding="same", activation="relu", **options)(i)
    x = L.MaxPooling2D(2, **options)(L.BatchNormalization(axis=1)(x))
    return keras.Model(i, L.Dense(3)(L.Flatten(**options)(x)))


def plain_image(keras: Any) -> Any:
    """An image without a channel axis."""
    L = keras.layers
    i = keras.Input((9, 9))
    return keras.Model(i, L.Dense(3)(L.Flatten()(L.Conv2D(2, 3)(L.Reshape((9, 9, 1))(i)))))


def features(keras: Any) -> Any:
    """A flat vector, reshaped to a signal."""
    L = keras.layers
    i = keras.Input((40,))
    x = L.Conv1D(2, 3, dilation_rate=2, padding="causal")(L.Reshape((20, 2))(i))
    return keras.Model(i, L.Dense(3)(L.Flatten()(x)))


def squeezed(keras: Any) -> Any:
    """Arithmetic between tensors, and a squeeze-and-excitation gate."""
    L = keras.layers
    i = keras.Input((8, 9, 4))
    x = L.Conv2D(4, 3)(i / 2.0 - 0.5)
    gate = L.Dense(4, activation="sigmoid")(L.Reshape((1, 1, 4))(L.GlobalAveragePooling2D()(x)))
    return keras.Model(i, L.Dense(2)(L.GlobalMaxPooling2D()(L.Permute((2, 1, 3))(x * gate))))


def augmented(keras: Any) -> Any:
    """Layers that only act in training, and those only Keras can run."""
    L = keras.layers
    i = keras.Input((12, 10, 3))
    x = L.RandomZoom(0.1)(L.RandomRotation(0.1)(L.RandomFlip()(i)))
    x = L.RandomBrightness(0.1)(L.RandomContrast(0.1)(L.RandomTranslation(0.1, 0.1)(x)))
    x = L.Conv2DTranspose(4, 3, strides=2)(L.Resizing(8, 9)(L.GaussianNoise(0.1)(x)))
    x = L.UpSampling2D(2)(L.UpSampling2D((2, 3), interpolation="bilinear")(x))
    x = L.TimeDistributed(L.Conv1D(2, 3))(L.Conv2D(3, 1, activation=L.LeakyReLU(0.1))(x))
    return keras.Model(i, L.Dense(1, activation="sigmoid")(L.Flatten()(x)))


def recurrent(keras: Any) -> Any:
    """Attention and a recurrent layer, which Keras runs."""
    L = keras.layers
    i = keras.Input((10, 4))
    x = L.LayerNormalization()(L.MultiHeadAttention(2, 3)(i, i))
    return keras.Model(i, L.Dense(3)(L.GRU(5)(x)))


def joined(keras: Any) -> Any:
    """A nested model of two inputs."""
    L = keras.layers
    a, b = keras.Input((10, 3)), keras.Input((10, 3))
    pair = keras.Model([a, b], L.Add()([L.Conv1D(3, 1)(a), b]), name="pair")
    i = keras.Input((10, 3))
    return keras.Model(i, L.Dense(2)(L.Flatten()(pair([i, L.ReLU()(i)]))))


ODD: list[Callable[[Any], Any]] = [
    transfer, several, sizeless, first, plain_image, features, squeezed, augmented, recurrent, joined,
]  # fmt: skip


@pytest.mark.parametrize("build", ODD)
def test_every_layer_of_an_odd_network_equals_keras(keras: Any, build: Callable[[Any], Any]) -> None:
    from heatproof.models.formats.keras_check import differences

    model = randomised(keras, build(keras))
    errors = differences(model)
    # Arithmetic between tensors is an operation of the graph and none of the model's layers.
    operations = {re.sub(r"_\d+$", "", name) for name in set(errors) - layer_names(model)}
    assert operations == ({"true_divide", "subtract", "multiply"} if build is squeezed else set())
    assert layer_names(model) <= set(errors)
    assert {name: error for name, error in errors.items() if not error <= 1e-5} == {}


def test_layers_inside_keras_own_networks(keras: Any, tmp_path: Path) -> None:
    """Of ConvNeXt and Inception-ResNet; one of the same name that somebody registered stays what it is."""
    from keras.src.applications.convnext import LayerScale
    from keras.src.applications.inception_resnet_v2 import CustomScaleLayer

    from heatproof.models.formats.keras import load_keras

    x = keras.Input((9, 9, 3))
    h = keras.layers.Conv2D(4, 3)(x)
    h = CustomScaleLayer(0.3)([h, LayerScale(0.5, 4)(h)])
    y = keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(h))
    model = randomised(keras, keras.Model(x, y))
    model.save(tmp_path / "own.keras")
    batch = np.random.default_rng(1).normal(size=(2, 9, 9, 3)).astype("float32")
    loaded = load_keras(tmp_path / "own.keras")
    want = torch.as_tensor(np.asarray(model(batch).detach().cpu()))
    torch.testing.assert_close(loaded(torch.as_tensor(batch).movedim(-1, 1)).detach(), want, rtol=1e-4, atol=1e-5)

    class Twice(keras.layers.Layer):
        def call(self, x: Any) -> Any:
            return 2 * x

    keras.saving.get_custom_objects()["LayerScale"] = Twice
    try:
        Twice.__name__ = "LayerScale"
        other = keras.Model(x, keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(Twice()(x))))
        other.save(tmp_path / "other.keras")
        want = torch.as_tensor(np.asarray(other(batch).detach().cpu()))
        loaded = load_keras(tmp_path / "other.keras")
        torch.testing.assert_close(loaded(torch.as_tensor(batch).movedim(-1, 1)).detach(), want, rtol=1e-4, atol=1e-5)
    finally:
        del keras.saving.get_custom_objects()["LayerScale"]


def test_lopsided_average_pooling_leaves_out_the_edge_as_tensorflow_does(keras: Any) -> None:
    from heatproof.models.formats.keras import translate

    i = keras.Input((7, 1))
    model = keras.Model(i, keras.layers.AveragePooling1D(4, strides=3, padding="same")(i))
    x = torch.arange(1.0, 8.0)[None, None]
    got = predictions(translate(model, exclude=True), x)
    torch.testing.assert_close(got, torch.tensor([[[2.0, 4.5, 6.5]]]))
    i = keras.Input((4, 1))
    model = keras.Model(i, keras.layers.AveragePooling1D(2, strides=1, padding="same")(i))
    got = predictions(translate(model, exclude=True), torch.tensor([[[1.0, 2.0, 4.0, 8.0]]]))
    torch.testing.assert_close(got, torch.tensor([[[1.5, 3.0, 6.0, 8.0]]]))


def test_names_blocks_and_the_last_softmax(keras: Any) -> None:
    from heatproof.models.formats.keras import translate

    model = translate(transfer(keras))
    names = dict(model.named_modules())
    assert list(names) == [
        "", "backbone", "backbone.inner_conv", "backbone.inner_conv.conv", "backbone.inner_conv.activation",
        "backbone.mix", "backbone.inner_add", "pool", "pool.pool", "pool.flatten", "head", "head.linear",
        "head.activation",
    ]  # fmt: skip
    assert isinstance(names["head.activation"], nn.Softmax)
    x = torch.rand(2, 3, 12, 12)
    seen: dict[str, torch.Tensor] = {}
    hook = names["backbone.inner_conv"].register_forward_hook(lambda _, __, out: seen.update(out=out))
    out = predictions(model, x)
    hook.remove()
    assert seen["out"].shape == (2, 4, 12, 12)
    assert (seen["out"] >= 0).all()
    torch.testing.assert_close(out.sum(1), torch.ones(2))


@pytest.mark.parametrize("build", [transfer, several, sizeless, squeezed, plain_image])
def test_the_graph_can_be_followed(keras: Any, build: Callable[[Any], Any]) -> None:
    from heatproof.models.formats.keras import translate

    model = translate(randomised(keras, build(keras)))
    x = torch.rand(3, *(length or 21 for length in model.input_shape))
    want = predictions(model, x)
    torch.testing.assert_close(predictions(fx.symbolic_trace(model), x), want)
    torch.testing.assert_close(predictions(copy.deepcopy(model), x), want)


def test_inputs_of_another_shape_are_refused(keras: Any) -> None:
    from heatproof.models.formats.keras import translate

    with pytest.raises(InputError, match=r"got inputs of shape \(N, 3, 12, 13\), expected \(N, 3, 12, 12\)"):
        translate(transfer(keras))(torch.rand(2, 3, 12, 13))
    signal = translate(features(keras))
    torch.testing.assert_close(signal(torch.ones(2, 40)), signal(torch.ones(2, 1, 40)))


def test_loading_leaves_the_random_state_alone(keras: Any) -> None:
    from heatproof.models.formats.keras import load_keras

    before = torch.get_rng_state()
    load_keras(FILES / "keras2_volume.h5")
    assert torch.equal(before, torch.get_rng_state())


def with_lambda(keras: Any) -> Any:
    L = keras.layers
    return keras.Sequential([keras.Input((8, 1)), L.Lambda(lambda v: v * 2, name="doubled"), L.Flatten(), L.Dense(2)])


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
def test_a_lambda_layer_is_refused_by_name(keras: Any, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"sly{suffix}"
    save(with_lambda(keras), path)
    assert refusal(path) == (
        f"{str(path)!r}: layer 'doubled' is a Lambda, which would run code stored in the file; "
        "rebuild the model with ordinary layers and save it again"
    )


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
def test_an_unknown_class_is_refused_by_name_and_a_registered_one_is_run(
    keras: Any, tmp_path: Path, suffix: str
) -> None:
    from heatproof.models.formats.keras import load_keras

    class Twice(keras.layers.Layer):
        def call(self, x: Any) -> Any:
            return 2 * x

    L = keras.layers
    model = keras.Sequential([keras.Input((8, 1)), Twice(name="two"), L.Flatten(), L.Dense(2)])
    path = tmp_path / f"custom{suffix}"
    save(randomised(keras, model), path)
    assert refusal(path) == (
        f"{str(path)!r}: layer 'two' is a Twice, which Keras {keras.__version__} does not know; "
        "import its class first, decorated with keras.saving.register_keras_serializable"
    )
    with keras.saving.custom_object_scope({"Twice": Twice, "Custom>Twice": Twice}):
        x = torch.rand(2, 1, 8)
        want = torch.tensor(model.predict(x.movedim(1, -1).numpy(), verbose=0))
        torch.testing.assert_close(predictions(load_keras(path), x), want, rtol=0, atol=1e-5)


def broken(path: Path, how: str) -> Path:
    whole = (FILES / f"keras2_volume{path.suffix}").read_bytes()
    path.write_bytes({"empty": b"", "foreign": b"GIF89a" + bytes(100), "half": whole[: len(whole) // 2]}[how])
    return path


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
def test_broken_files_are_named(keras: Any, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"bad{suffix}"
    assert refusal(broken(path, "empty")) == f"{str(path)!r} is empty (0 bytes); copy or save it again"
    assert refusal(broken(path, "foreign")) == (
        f"{str(path)!r} is not a Keras {suffix} file: it is neither HDF5 nor a zip archive"
    )
    reason = {".h5": "Unable to synchronously open file (truncated file", ".keras": "File is not a zip file"}[suffix]
    half = refusal(broken(path, "half"))
    assert half.startswith(f"{str(path)!r} is truncated or damaged: {reason}")
    assert "\n" not in half


def test_other_bad_files_are_named(keras: Any, tmp_path: Path) -> None:
    path = tmp_path / "none.h5"
    assert refusal(path) == f"cannot read {str(path)!r}: No such file or directory"
    path = tmp_path / "misnamed.keras"
    shutil.copy(FILES / "keras2_volume.h5", path)
    assert refusal(path) == f"{str(path)!r} is not a Keras .keras file: it is an HDF5 file; rename it to .h5"
    path = tmp_path / "only.weights.h5"
    keras.Sequential([keras.Input((8, 1)), keras.layers.Flatten()]).save_weights(path)
    assert refusal(path) == f"{str(path)!r} holds weights only; save the whole model with model.save(...)"
    path = tmp_path / "other.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("hello.txt", "not a model")
    assert refusal(path) == f"{str(path)!r} is a zip archive without config.json, so not a Keras model"
    path = tmp_path / "config.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", json.dumps([1, 2]))
    assert refusal(path) == f"{str(path)!r} is damaged: its configuration describes no model"


def damaged(config: Any, draw: np.random.Generator) -> str:
    """The key of a random place in a configuration, which is overwritten."""
    place, key = config, "config"
    while isinstance(place[key], (dict, list)) and len(place[key]) and draw.random() < 0.9:
        place = place[key]
        key = draw.choice(list(place)) if isinstance(place, dict) else int(draw.integers(len(place)))
    place[key] = [None, 1, "x", [], {}, -5][draw.integers(6)]
    return str(key)


def test_a_damaged_configuration_is_refused_in_one_line_or_predicts_the_same(keras: Any, tmp_path: Path) -> None:
    from heatproof.models.formats.keras import load_keras

    draw, path = np.random.default_rng(0), tmp_path / "damaged.keras"
    refusals: list[str] = []
    with zipfile.ZipFile(FILES / "keras2_volume.keras") as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    whole = load_keras(FILES / "keras2_volume.keras")
    x = torch.rand(2, *whole.input_shape)
    for _ in range(30):
        config = json.loads(parts["config.json"])
        key = damaged(config, draw)
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in parts.items():
                archive.writestr(name, json.dumps(config) if name == "config.json" else content)
        try:
            model = load_keras(path)
        except FileError as error:
            refusals.append(str(error))
        else:
            torch.testing.assert_close(predictions(model, x), predictions(whole, x), rtol=0, atol=0, msg=key)
    assert len(refusals) == 23
    assert all(text.startswith(f"Keras {keras.__version__} cannot rebuild {str(path)!r}: ") for text in refusals)
    assert not any("\n" in text for text in refusals)


def test_a_bare_operation_without_a_layer_is_refused_by_name(keras: Any, tmp_path: Path) -> None:
    import h5py

    path = tmp_path / "model.h5"
    shutil.copy(FILES / "keras2_operations.h5", path)
    with h5py.File(path, "r+") as file:
        text = file.attrs["model_config"]
        text = text.decode() if isinstance(text, bytes) else text
        file.attrs["model_config"] = text.replace('"nn.relu"', '"math.cumsum"')
    assert refusal(path) == (
        f"{str(path)!r}: 'tf.nn.relu' is a bare TensorFlow operation (math.cumsum); "
        "replace it by a layer where the model was made, and save it again"
    )


def test_several_inputs_or_outputs_are_refused(keras: Any) -> None:
    from heatproof.models.formats.keras import translate

    a, b = keras.Input((4,), name="a"), keras.Input((4,), name="b")
    total = keras.layers.Add()([a, b])
    with pytest.raises(FileError, match=r"^the Keras model: the model has 2 inputs \(a, b\); expected one$"):
        translate(keras.Model([a, b], total))
    outputs = [keras.layers.ReLU()(a), keras.layers.Dense(2)(a)]
    with pytest.raises(FileError) as caught:
        translate(keras.Model(a, outputs))
    names = ", ".join(part.name for part in outputs)
    assert str(caught.value) == f"the Keras model: the model has 2 outputs ({names}); expected one"


def test_importing_heatproof_does_not_import_keras() -> None:
    code = (
        "import sys, heatproof, heatproof.models.formats.keras; "
        "sys.exit('keras' in sys.modules or 'h5py' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_without_keras_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from heatproof.models.formats.keras import load_keras

    monkeypatch.setitem(sys.modules, "keras", None)
    with pytest.raises(UsageError) as caught:
        load_keras(FILES / "keras2_volume.keras")
    assert str(caught.value) == 'Keras files need keras; pip install "heatproof[keras]"'
