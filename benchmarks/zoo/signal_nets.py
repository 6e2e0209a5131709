"""Networks for signals (N, C, T) as papers and course books build them, small and plain."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CHANNELS, LENGTH, CLASSES, WIDTH = 3, 128, 5, 24


class Pooled(nn.Module):
    """Features (N, K, T), averaged over time, and a dense layer."""

    def __init__(self, features: nn.Module, width: int) -> None:
        super().__init__()
        self.features, self.head = features, nn.Linear(width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x).mean(-1))


def block(before: int, after: int, width: int, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    """Convolution, batch norm, ReLU."""
    return nn.Sequential(
        nn.Conv1d(before, after, width, stride, dilation * (width // 2), dilation), nn.BatchNorm1d(after), nn.ReLU()
    )


def fcn() -> nn.Module:
    """A fully convolutional network (1611.06455)."""
    return Pooled(nn.Sequential(block(CHANNELS, 16, 7), block(16, 32, 5), block(32, WIDTH, 3)), WIDTH)


class Inception(nn.Module):
    """Three widths of convolution behind a bottleneck, and a pooled path (1909.04939)."""

    def __init__(self, before: int, width: int) -> None:
        super().__init__()
        self.bottleneck = nn.Conv1d(before, width, 1, bias=False)
        self.convs = nn.ModuleList(nn.Conv1d(width, width, k, padding=k // 2, bias=False) for k in (39, 19, 9))
        self.pooled = nn.Sequential(nn.MaxPool1d(3, 1, 1), nn.Conv1d(before, width, 1, bias=False))
        self.norm = nn.BatchNorm1d(4 * width)

    def forward(self, x: Tensor) -> Tensor:
        small = self.bottleneck(x)
        return F.relu(self.norm(torch.cat([*(conv(small) for conv in self.convs), self.pooled(x)], dim=1)))


class InceptionTime(nn.Module):
    """Six inception modules with two shortcuts, global average, a dense layer (1909.04939)."""

    def __init__(self) -> None:
        super().__init__()
        widths = [CHANNELS, *[32] * 6]
        self.blocks = nn.ModuleList(Inception(a, 8) for a in widths[:-1])
        self.shortcuts = nn.ModuleList(nn.Sequential(nn.Conv1d(a, 32, 1), nn.BatchNorm1d(32)) for a in (CHANNELS, 32))
        self.head = nn.Linear(32, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        start = x
        for number, module in enumerate(self.blocks):
            x = module(x)
            if number % 3 == 2:
                x = start = F.relu(x + self.shortcuts[number // 3](start))
        return self.head(x.mean(-1))


class Residual(nn.Module):
    """Two convolutions and a shortcut."""

    def __init__(self, before: int, after: int, stride: int = 2) -> None:
        super().__init__()
        self.first = block(before, after, 5, stride)
        self.second = nn.Sequential(nn.Conv1d(after, after, 3, padding=1), nn.BatchNorm1d(after))
        self.shortcut = nn.Conv1d(before, after, 1, stride)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.second(self.first(x)) + self.shortcut(x))


def resnet() -> nn.Module:
    """A ResNet for signals."""
    return Pooled(nn.Sequential(block(CHANNELS, 16, 7), Residual(16, 16), Residual(16, 24), Residual(24, 32)), 32)


def xresnet() -> nn.Module:
    """An xresnet: a stem of three convolutions, pooling, average and largest value joined by the head."""
    stem = nn.Sequential(block(CHANNELS, 8, 5, 2), block(8, 8, 5), block(8, 16, 5), nn.MaxPool1d(3, 2, 1))
    return MaxMean(nn.Sequential(stem, Residual(16, 24, 1), Residual(24, 32)), 32)


class MaxMean(nn.Module):
    """Features, their mean and largest value over time, a dense layer."""

    def __init__(self, features: nn.Module, width: int) -> None:
        super().__init__()
        self.features = features
        self.largest, self.mean = nn.AdaptiveMaxPool1d(1), nn.AdaptiveAvgPool1d(1)
        self.head = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(2 * width), nn.Linear(2 * width, CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)
        return self.head(torch.cat([self.largest(x), self.mean(x)], dim=1))


class Causal(nn.Module):
    """A dilated convolution that sees the past only, twice, and a shortcut (1803.01271)."""

    def __init__(self, before: int, after: int, dilation: int) -> None:
        super().__init__()
        self.pad = 2 * dilation
        self.first = nn.Conv1d(before, after, 3, padding=self.pad, dilation=dilation)
        self.second = nn.Conv1d(after, after, 3, padding=self.pad, dilation=dilation)
        self.shortcut = nn.Conv1d(before, after, 1)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.first(x)[..., : -self.pad])
        y = self.relu(self.second(y)[..., : -self.pad])
        return self.relu(y + self.shortcut(x))


class LastStep(nn.Module):
    """A temporal convolutional network read at its last step (1803.01271)."""

    def __init__(self) -> None:
        super().__init__()
        self.tcn = nn.Sequential(Causal(CHANNELS, 16, 1), Causal(16, 16, 4), Causal(16, WIDTH, 16))
        self.head = nn.Linear(WIDTH, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.tcn(x)[..., -1])


def tcn() -> nn.Module:
    """A temporal convolutional network, averaged over time."""
    return Pooled(nn.Sequential(Causal(CHANNELS, 16, 1), Causal(16, 16, 4), Causal(16, WIDTH, 16)), WIDTH)


class Recurrent(nn.Module):
    """A recurrent network over (N, T, C), read as its mean, its last step or its last state."""

    def __init__(self, cell: type[nn.LSTM] | type[nn.GRU], read: str, both: bool = False, embed: bool = False,
                 first: bool = True) -> None:  # fmt: skip
        super().__init__()
        self.read, self.first = read, first
        self.embed = nn.Linear(CHANNELS, WIDTH) if embed else nn.Identity()
        self.rnn = cell(WIDTH if embed else CHANNELS, WIDTH, 2, batch_first=first, bidirectional=both)
        self.head = nn.Linear(WIDTH * (2 if both else 1), CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x.transpose(1, 2))
        out, state = self.rnn(x if self.first else x.transpose(0, 1))
        out = out if self.first else out.transpose(0, 1)
        if self.read == "state":
            return self.head((state[0] if isinstance(state, tuple) else state)[-1])
        return self.head(out.mean(1) if self.read == "mean" else out[:, -1])


class ConvRecurrent(nn.Module):
    """Convolutions, then an LSTM over their outputs, read at its last step."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(block(CHANNELS, 16, 7, 2), block(16, WIDTH, 5, 2))
        self.lstm = nn.LSTM(WIDTH, WIDTH, batch_first=True)
        self.head = nn.Linear(WIDTH, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        out, _ = self.lstm(self.features(x).transpose(1, 2))
        return self.head(out[:, -1])


class Transformer(nn.Module):
    """A transformer over time steps or patches of them, with a class token at an end or averaged.

    Args:
        patch, stride: time steps a token, and between tokens. token: "first", "last" or "" for the mean; "flat" for a
            dense layer over all tokens. norm_first: whether the norms stand before attention and dense layers.
    """

    def __init__(self, patch: int = 4, stride: int = 4, token: str = "first", norm_first: bool = True) -> None:
        super().__init__()
        self.patch, self.stride, self.token = patch, stride, token
        count = (LENGTH - patch) // stride + 1
        self.embed = nn.Linear(CHANNELS * patch, WIDTH)
        self.position = nn.Parameter(0.1 * torch.randn(1, count, WIDTH))
        self.cls = nn.Parameter(0.1 * torch.randn(1, 1, WIDTH)) if token in ("first", "last") else None
        layer = nn.TransformerEncoderLayer(WIDTH, 4, 48, 0.1, batch_first=True, norm_first=norm_first)
        self.encoder = nn.TransformerEncoder(layer, 3, enable_nested_tensor=False)
        self.head = nn.Linear(WIDTH * (count if token == "flat" else 1), CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = x.unfold(-1, self.patch, self.stride).movedim(2, 1).flatten(2)
        x = self.embed(x) + self.position
        if self.cls is not None:
            cls = self.cls.expand(len(x), -1, -1)
            x = torch.cat([cls, x] if self.token == "first" else [x, cls], dim=1)
        x = self.encoder(x)
        if self.token == "flat":
            return self.head(x.flatten(1))
        return self.head(x.mean(1) if self.cls is None else x[:, 0 if self.token == "first" else -1])


class Mixing(nn.Module):
    """Dense layers over time on (N, C, T) and over channels on (N, T, C) in turn (2303.06053)."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(CHANNELS, WIDTH)
        self.times = nn.ModuleList(nn.Linear(LENGTH, LENGTH) for _ in range(2))
        self.norms = nn.ModuleList(nn.LayerNorm([WIDTH, LENGTH]) for _ in range(2))
        self.channels = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(2))
        self.head = nn.Linear(WIDTH, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x.transpose(1, 2)).transpose(1, 2)
        for time, norm, channel in zip(self.times, self.norms, self.channels, strict=True):
            x = x + F.gelu(time(norm(x)))
            x = x + F.gelu(channel(x.transpose(1, 2))).transpose(1, 2)
        return self.head(x.mean(-1))


class DenseOverTime(nn.Module):
    """The same dense layers at every time step, averaged."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = nn.Sequential(nn.Linear(CHANNELS, 32), nn.GELU(), nn.Linear(32, WIDTH), nn.GELU())
        self.head = nn.Linear(WIDTH, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.steps(x.transpose(1, 2)).mean(1))
