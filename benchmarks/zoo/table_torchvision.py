"""Every classifier of torchvision, for images and videos: what is right for it, written by hand."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

from benchmarks.zoo.entries import FIRST, LAST, Attention, Entry, Layout, chain, tokens
from torch import nn

CLASSES = 10
BIG = re.compile(r"vit_h|vit_l|regnet_y_128gf|_l$|large|b[67]$|swin_b|swin_v2_b|101|152|32gf|16gf")


def make(name: str, **options: Any) -> Callable[[], nn.Module]:
    """Builds a network of torchvision with ten classes."""

    def build() -> nn.Module:
        from torchvision.models import get_model

        return get_model(name, weights=None, num_classes=CLASSES, **options)

    return build


def multiscale(name: str) -> Callable[[], nn.Module]:
    """A video MViT for 8 frames of 96 x 96 instead of 16 of 224 x 224."""

    def build() -> nn.Module:
        from torchvision.models.video import mvit

        plain = mvit.MViT

        def small(**options: Any) -> nn.Module:
            return plain(**{**options, "spatial_size": (96, 96), "temporal_size": 8})

        with patch.object(mvit, "MViT", small):
            return getattr(mvit, name)(weights=None, num_classes=CLASSES)

    return build


def entry(name: str) -> Entry:
    """The entry of one network by its family."""
    shape, layers, layout, options = (3, 96, 96), "", FIRST, {}
    others: list[tuple[str, Layout]] = []
    attention: Any = "none"
    family, note, build = name.split("_")[0], "", None
    if name == "alexnet":
        shape, layers = (3, 224, 224), r"features(\.1[012])?"
    elif name.startswith("vgg"):
        family, shape = "vgg", (3, 128, 128)
        end = {"vgg11": 18, "vgg11_bn": 25, "vgg13": 22, "vgg13_bn": 31, "vgg16": 28, "vgg16_bn": 40, "vgg19": 34,
               "vgg19_bn": 49}[name]  # fmt: skip
        steps = 3 if name.endswith("_bn") else 2
        layers = rf"features(\.({'|'.join(str(end + s) for s in range(1, steps + 1))}))?"
        note = "the last convolution with its activation, or the pooling behind it"
    elif name.startswith("convnext"):
        layers = r"features(\.7(\.2)?)?"
    elif name.startswith("densenet"):
        family, layers = "densenet", r"features(\.norm5)?"
    elif name.startswith("efficientnet"):
        last = 7 if name in ("efficientnet_v2_s",) else 8
        layers = rf"features(\.{last}(\.2)?)?"
    elif name == "googlenet":
        layers, options = "inception5b", {"init_weights": False}
    elif name == "inception_v3":
        shape, layers, options = (3, 160, 160), "Mixed_7c", {"init_weights": False}
    elif name == "maxvit_t":
        shape, layers = (3, 224, 224), r"blocks\.3(\.layers\.1(\.layers(\.grid_attention)?)?)?"
        note = "attention in windows and grids"
    elif name.startswith("mnasnet"):
        family, layers = "mnasnet", r"layers(\.16)?"
    elif name.startswith("mobilenet"):
        last = {"mobilenet_v2": 18, "mobilenet_v3_large": 16, "mobilenet_v3_small": 12}[name]
        layers = rf"features(\.{last}(\.2)?)?"
    elif name.startswith("regnet"):
        layers = r"trunk_output(\.block4(\.block4-\d+(\.activation)?)?)?"
    elif name.startswith(("resnet", "resnext", "wide_resnet")):
        family = "resnet"
        layers = r"layer4(\.[12](\.relu@\d)?)?"
    elif name.startswith("shufflenet"):
        layers = r"conv5(\.2)?"
    elif name.startswith("squeezenet"):
        family, layers = "squeezenet", r"classifier\.[12]|features(\.12)?"
        note = "the classifier's own convolution is the last before pooling"
    elif name.startswith("swin3d"):
        family, shape, layers, layout = "swin3d", (3, 8, 64, 64), r"norm|features(\.6(\.1)?)?", LAST
        others = [(r"norm|features(\..*)?|patch_embed", LAST), (r"patch_embed\.proj", FIRST)]
    elif name.startswith("swin"):
        layers, layout = r"norm|permute|features(\.7(\.1)?)?", LAST
        others = [("permute", FIRST), (r"features\.\d\.\d\..*", LAST)]
    elif name.startswith("vit"):
        depth = {"b": 12, "l": 24, "h": 32}[name.split("_")[1]]
        patch_size = int(name.split("_")[2])
        size = {14: 98, 16: 96, 32: 128}[patch_size]
        shape, options, layout = (3, size, size), {"image_size": size}, tokens(patch_size, 1)
        layers = rf"encoder\.layers\.encoder_layer_({depth - 1}\.ln_1|{depth - 2})"
        attention = Attention(layout, depth)
        note = "only the class token is read behind the last attention"
    elif name.startswith("mvit"):
        build, shape = multiscale(name), (3, 8, 96, 96)
        layers, layout = r"blocks\.(15\.norm1|14)", tokens((2, 32, 32), 1)
        others = [(r"blocks\.14\.norm1", tokens((2, 16, 16), 1))]
        note = "only the class token is read behind the last attention"
    elif name == "s3d":
        shape, layers = (3, 16, 224, 224), r"features(\.15)?"
    elif name in ("r3d_18", "mc3_18", "r2plus1d_18"):
        shape, layers, family = (3, 8, 48, 48), r"layer4(\.1(\.relu(@2)?)?)?", "resnet3d"
    else:
        raise KeyError(name)
    if not layers:
        layers = chain("features")
    return Entry("torchvision", family, name, build or make(name, **options), shape, layers, layout, others, attention,
                 "logits", note, 900 if BIG.search(name) or len(shape) == 4 else 300, exact=name != "s3d")  # fmt: skip


def entries() -> list[Entry]:
    """All classifiers, images first."""
    from torchvision import models

    names = models.list_models(module=models) + models.list_models(module=models.video)
    return [entry(name) for name in names]
