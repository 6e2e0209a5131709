"""Networks for tiles of tissue, and any other small images."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from torch import nn

from heatproof.errors import UsageError
from heatproof.nets.blocks import ConvBlock, GlobalAverage, NormBlock
from heatproof.nets.catalogue import net


class Residual(nn.Module):
    """Two 3 x 3 convolutions with batch normalisation beside a shortcut, and a ReLU after their sum.

    The shortcut is the input itself, or where the size changes its 2 x 2 mean and a 1 x 1 convolution (He et al. 2016,
    with the mean of He et al. 2019, arXiv 1812.01187, figure 2c).
    """

    def __init__(self, channels: int, filters: int, stride: int = 1) -> None:
        super().__init__()
        self.block = NormBlock(2, channels, filters, 3, stride)
        self.conv = nn.Conv2d(filters, filters, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(filters)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels != filters:
            self.shortcut = nn.Sequential(
                OrderedDict(
                    mean=nn.AvgPool2d(stride, ceil_mode=True) if stride > 1 else nn.Identity(),
                    conv=nn.Conv2d(channels, filters, 1, bias=False),
                    norm=nn.BatchNorm2d(filters),
                )
            )
        self.relu = nn.ReLU()

    def forward(self, x: Any) -> Any:
        """The rectified sum of both paths; (N, C, H, W), or what a tracer passes in its place."""
        return self.relu(self.shortcut(x) + self.norm(self.conv(self.block(x))))


@net("tissue-resnet", input_shape=(3, 128, 128), layer="residual_6")
def tissue_resnet(
    *,
    classes: int = 8,
    channels: int = 3,
    filters: tuple[int, ...] = (16, 32, 64, 128),
    depth: tuple[int, ...] = (2, 3, 2),
    dropout: float = 0.1,
) -> nn.Sequential:
    """A residual network of 0.78 M parameters and 0.27 GFLOP (0.133 G multiply-adds) a tile of 128 x 128.

    A 5 x 5 and a 3 x 3 convolution, each halving the positions; then ``depth`` residual blocks a stage, all stages but
    the first halving again; global mean, dropout, dense. Layers: ``stem``, ``stem_1``, ``residual`` to ``residual_6``,
    ``average``, ``dropout``, ``dense``. Inputs in [0, 1]; the first batch normalisation takes care of their mean.

    Raises: UsageError for a size below one, or unless filters has one entry more than depth.
    """
    if len(filters) != len(depth) + 1 or min(*filters, *depth, classes, channels) < 1:
        raise UsageError(
            f"tissue-resnet: got filters {filters}, depth {depth}; expected the filters of the stem and of each stage, "
            "and the blocks of each stage, such as filters=16+32+64+128, depth=2+3+2"
        )
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    layers["stem"] = NormBlock(2, channels, filters[0], 5, stride=2)
    layers["stem_1"] = NormBlock(2, filters[0], filters[1], 3, stride=2)
    width, count = filters[1], 0
    for stage, (after, blocks) in enumerate(zip(filters[1:], depth, strict=True)):
        for block in range(blocks):
            layers[_numbered("residual", count)] = Residual(width, after, 2 if stage and not block else 1)
            width, count = after, count + 1
    layers["average"], layers["dropout"] = GlobalAverage(2), nn.Dropout(dropout)
    layers["dense"] = nn.Linear(width, classes)
    return nn.Sequential(layers)


@net("vgg-7", input_shape=(3, 224, 224), layer="conv2d_3")
def vgg_7(*, classes: int = 8, channels: int = 3, filters: tuple[int, ...] = (32, 64)) -> nn.Sequential:
    """The course's network for tissue: two pairs of 3 x 3 convolutions, each pooled, a global mean and a dense layer.

    66,088 parameters for eight classes, 1.20 G multiply-adds a tile of 224 x 224. Layers are named as Keras names them:
    ``conv2d`` to ``conv2d_3``, each with its ReLU, ``max_pooling2d``, ``max_pooling2d_1``,
    ``global_average_pooling2d``, ``dense``. Weights start Glorot-uniform, biases at zero. Inputs in [0, 1].

    Raises: UsageError for a size below one.
    """
    if not filters or min(*filters, classes, channels) < 1:
        raise UsageError(f"vgg-7: got {classes} classes, {channels} channels, filters {filters}; expected 1 or more")
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    before = channels
    for i, after in enumerate(filters):
        layers[_numbered("conv2d", 2 * i)] = ConvBlock(2, before, after)
        layers[_numbered("conv2d", 2 * i + 1)] = ConvBlock(2, after, after)
        layers[_numbered("max_pooling2d", i)] = nn.MaxPool2d(2)
        before = after
    dense = nn.Linear(before, classes)
    nn.init.xavier_uniform_(dense.weight)
    nn.init.zeros_(dense.bias)
    layers["global_average_pooling2d"], layers["dense"] = GlobalAverage(2), dense
    return nn.Sequential(layers)


def _numbered(name: str, number: int) -> str:
    return f"{name}_{number}" if number else name
