"""Classification networks of MONAI for images and volumes: what is right for them, written by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from benchmarks.zoo.entries import FIRST, Attention, Entry, Layout, tokens
from torch import nn

CLASSES = 4


def make(name: str, *args: Any, **options: Any) -> Callable[[], nn.Module]:
    """Builds a network of monai.networks.nets."""

    def build() -> nn.Module:
        from monai.networks import nets

        return getattr(nets, name)(*args, **options)

    return build


def squeezed(rank: int, bottleneck: str, groups: int) -> Callable[[], nn.Module]:
    """A SENet with one block a stage."""

    def build() -> nn.Module:
        from monai.networks import nets
        from monai.networks.blocks import squeeze_and_excitation as blocks

        return nets.SENet(
            rank, 1, getattr(blocks, bottleneck), [1, 1, 1, 1], groups, 4, num_classes=CLASSES, inplanes=32
        )

    return build


def dense_prediction(rank: int) -> Callable[[], nn.Module]:
    """HighResNet, whose maps of classes are averaged."""

    def build() -> nn.Module:
        from monai.networks import nets

        pool = nn.AdaptiveAvgPool2d(1) if rank == 2 else nn.AdaptiveAvgPool3d(1)
        return nn.Sequential(nets.HighResNet(rank, 1, CLASSES), pool, nn.Flatten())

    return build


def net(
    family: str, name: str, build: Callable[[], nn.Module], size: tuple[int, ...], layers: str, layout: Layout = FIRST,
    attention: Attention | Literal["none", "open"] = "none", channels: int = 1, note: str = "",
    seconds: int = 300,
) -> Entry:  # fmt: skip
    """An entry."""
    return Entry(
        "monai", family, name, build, (channels, *size), layers, layout, (), attention, "logits", note, seconds
    )


RESNET = {"block": "basic", "layers": [1, 1, 1, 1], "block_inplanes": [16, 32, 48, 64], "n_input_channels": 1,
          "num_classes": CLASSES}  # fmt: skip
DENSE = {"init_features": 16, "growth_rate": 8, "block_config": (2, 2, 2, 2), "in_channels": 1, "out_channels": CLASSES}
VIT = {"hidden_size": 48, "mlp_dim": 96, "num_layers": 3, "num_heads": 4, "classification": True,
       "num_classes": CLASSES}  # fmt: skip
CLASS = r"blocks\.(2\.norm1|1)"
READ = "only the class token is read behind the last attention"

ENTRIES = [
    net("densenet", "densenet121_2d", make("DenseNet121", spatial_dims=2, in_channels=1, out_channels=CLASSES),
        (96, 96), r"class_layers\.relu|features(\.norm5)?"),
    net("densenet", "densenet_3d", make("DenseNet", spatial_dims=3, **DENSE), (64, 64, 64),
        r"class_layers\.relu|features(\.norm5)?"),
    net("resnet", "resnet10_2d", make("ResNet", spatial_dims=2, **RESNET), (64, 96), r"layer4(\.0)?|layer4\.0\.act@2"),
    net("resnet", "resnet10_3d", make("ResNet", spatial_dims=3, **RESNET), (32, 48, 48),
        r"layer4(\.0)?|layer4\.0\.act@2"),
    net("efficientnet", "efficientnet_b0_2d", make("EfficientNetBN", "efficientnet-b0", pretrained=False,
        spatial_dims=2, in_channels=1, num_classes=CLASSES), (96, 96), r"_swish(@2)?|_bn1"),
    net("efficientnet", "efficientnet_b0_3d", make("EfficientNetBN", "efficientnet-b0", pretrained=False,
        spatial_dims=3, in_channels=1, num_classes=CLASSES), (64, 64, 64), r"_swish(@2)?|_bn1", seconds=900),
    net("senet", "seresnet_2d", squeezed(2, "SEResNetBottleneck", 1), (96, 96), r"layer4(\.0(\.act)?)?"),
    net("senet", "seresnext_3d", squeezed(3, "SEResNeXtBottleneck", 4), (48, 48, 48), r"layer4(\.0(\.act)?)?"),
    net("vit", "vit_2d", make("ViT", 1, (64, 96), (16, 16), spatial_dims=2, **VIT), (64, 96), CLASS, tokens(16, 1),
        Attention(tokens(16, 1), 3), note=READ),
    net("vit", "vit_3d", make("ViT", 1, (32, 32, 48), (8, 8, 16), **VIT), (32, 32, 48), CLASS, tokens((8, 8, 16), 1),
        Attention(tokens((8, 8, 16), 1), 3), note=READ),
    net("classifier", "classifier_2d", make("Classifier", (1, 64, 64), CLASSES, (8, 16, 24, 32), (2, 2, 2, 2)),
        (64, 64), r"net(\.layer_3)?"),
    net("classifier", "classifier_3d", make("Classifier", (1, 32, 32, 32), CLASSES, (8, 16, 24), (2, 2, 2)),
        (32, 32, 32), r"net(\.layer_2)?"),
    net("highresnet", "highresnet_2d", dense_prediction(2), (48, 48), r"0|0\.blocks(\.11(\.adn(\.A)?)?)?"),
    net("highresnet", "highresnet_3d", dense_prediction(3), (24, 24, 24), r"0|0\.blocks(\.11(\.adn(\.A)?)?)?"),
    net("torchvision", "torchvision_resnet18", make("TorchVisionFCModel", "resnet18", num_classes=CLASSES,
        pretrained=False), (224, 224), r"features(\.7(\.1(\.relu@2)?)?)?", channels=3),
]  # fmt: skip
