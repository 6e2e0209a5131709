"""All of keras.applications, saved by Keras and read by heatproof: what is right for them, written by hand."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from benchmarks.zoo.entries import FIRST, Entry
from torch import nn

CLASSES = 10
LAYERS = {  # the activation behind the last convolution, or behind the last sum
    "VGG16": r"block5_(conv3(\.activation)?|pool)", "VGG19": r"block5_(conv4(\.activation)?|pool)",
    "ResNet50V2": "post_(relu|bn)", "ResNet101V2": "post_(relu|bn)", "ResNet152V2": "post_(relu|bn)",
    "ResNet": "conv5_block3_out", "InceptionV3": "mixed10", "Xception": "block14_sepconv2_act",
    "InceptionResNetV2": "conv_7b_ac", "MobileNetV2": "out_relu", "MobileNetV3Large": r"activation_\d+",
    "MobileNetV3Small": r"activation_\d+", "MobileNet": "conv_pw_13_relu", "DenseNet": "relu",
    "EfficientNet": "top_activation", "NASNet": r"activation_\d+|normal_add_5_\d+", "ConvNeXt": r"add(_\d+)?",
}  # fmt: skip
LARGE = ("XLarge", "Large", "B7", "V2L", "V2M", "152", "VGG")


def entry(name: str) -> Entry:
    """The entry of one network, by the longest fitting name."""
    layers = LAYERS[max((key for key in LAYERS if name.startswith(key)), key=len)]
    size = 128 if name.startswith(("Inception", "Xception", "VGG")) else 96
    family = max((key for key in LAYERS if name.startswith(key)), key=len).lower()
    return Entry("keras", family, name, make(name, size), (3, size, size), layers, FIRST, outputs="softmax",
                 absent="Keras refuses to build it on its torch backend" if name.startswith("NASNet") else "",
                 seconds=900 if name.endswith(LARGE) or "152" in name else 400)  # fmt: skip


def make(name: str, size: int) -> Callable[[], nn.Module]:
    """Builds a network in Keras, saves it, and reads the file; both must agree."""

    def build() -> nn.Module:
        import keras

        import heatproof as hp

        keras.utils.clear_session()
        keras.utils.set_random_seed(0)
        model = getattr(keras.applications, name)(weights=None, classes=CLASSES, input_shape=(size, size, 3))
        random = np.random.default_rng(0)
        for weight in model.weights:
            value = np.array(weight.detach().cpu() if hasattr(weight, "detach") else weight)
            if np.ptp(value) == 0 and value.size > 1:
                weight.assign(value + random.uniform(-0.1, 0.1, value.shape))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.keras"
            model.save(path)
            loaded = hp.load(path)
        x = random.normal(size=(1, size, size, 3)).astype("float32")
        right, beside = (
            torch.as_tensor(np.asarray(model(part, training=False).detach().cpu())) for part in (x, x * (1 + 1e-6))
        )
        noise = float((right - beside).abs().max())  # of float32, which very deep networks with random weights amplify
        with torch.no_grad():
            read = loaded(torch.as_tensor(x).movedim(-1, 1).contiguous())
        if not torch.allclose(read, right, atol=max(1e-4, 10 * noise)):
            raise ValueError(f"the loaded network differs from Keras by {float((read - right).abs().max()):.1e}")
        return loaded

    return build


def entries() -> list[Entry]:
    """Every network that keras.applications has."""
    import keras

    names = [name for name in dir(keras.applications) if name[0].isupper()]
    return [entry(name) for name in sorted(names)]
