"""Building blocks that are written once for signals, images and volumes."""

from __future__ import annotations

from torch import nn

CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
NORM = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
MAX_POOL = {1: nn.MaxPool1d, 2: nn.MaxPool2d, 3: nn.MaxPool3d}
MEAN_POOL = {1: nn.AdaptiveAvgPool1d, 2: nn.AdaptiveAvgPool2d, 3: nn.AdaptiveAvgPool3d}


class ConvBlock(nn.Sequential):
    """A 'same' convolution and its ReLU as one named layer, as in Keras; started Glorot-uniform with zero bias."""

    def __init__(self, rank: int, channels: int, filters: int, kernel: int = 3) -> None:
        super().__init__()
        self.conv = CONV[rank](channels, filters, kernel, padding="same")
        self.relu = nn.ReLU()
        nn.init.xavier_uniform_(self.conv.weight)
        if self.conv.bias is not None:
            nn.init.zeros_(self.conv.bias)


class NormBlock(nn.Sequential):
    """A convolution without bias, batch normalisation and ReLU."""

    def __init__(self, rank: int, channels: int, filters: int, kernel: int = 3, stride: int = 1) -> None:
        super().__init__()
        self.conv = CONV[rank](channels, filters, kernel, stride, kernel // 2, bias=False)
        self.norm = NORM[rank](filters)
        self.relu = nn.ReLU()


class GlobalAverage(nn.Sequential):
    """The mean over positions, (N, C)."""

    def __init__(self, rank: int) -> None:
        super().__init__()
        self.pool = MEAN_POOL[rank](1)
        self.flatten = nn.Flatten()
