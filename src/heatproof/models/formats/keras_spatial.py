"""Which torch module stands for which of Keras's convolutions, poolings and paddings; see `keras_layers`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from heatproof.models.formats import keras_modules as km
from heatproof.models.formats.keras_layers import (
    CONV,
    Axes,
    Ranked,
    Untranslatable,
    Value,
    activation,
    array,
    bias,
    block,
    filled,
    layer,
)

_POOL: dict[str, Ranked] = {
    "Max": (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d),
    "Average": (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d),
}
_WHOLE: dict[str, Ranked] = {
    "Max": (nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d),
    "Average": (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d),
}
_TRANSPOSED: Ranked = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_PAD: Ranked = (nn.ConstantPad1d, nn.ConstantPad2d, nn.ConstantPad3d)
_EDGE: Ranked = (nn.ReplicationPad1d, nn.ReplicationPad2d, nn.ReplicationPad3d)


def _positional(op: Any, x: Value, axes: Axes) -> None:
    if not 1 <= x.rank <= 3 or getattr(op, "quantization_mode", None):
        raise Untranslatable(type(op).__name__)
    if (getattr(op, "data_format", None) or "channels_last") != ("channels_last" if axes.last else "channels_first"):
        raise Untranslatable("mixed axis orders")


def _flat(pads: Sequence[tuple[int, int]]) -> tuple[int, ...]:
    return tuple(width for pair in reversed(pads) for width in pair)


def _same(x: Value, axes: Axes, window: Sequence[tuple[int, int, int]]) -> list[tuple[int, int]] | None:
    """The 'same' padding of each axis for (size, stride, dilation) each; None where it depends on an unknown length."""
    lengths = x.size(axes)
    if any(length is None and stride > 1 for length, (_, stride, _) in zip(lengths, window, strict=True)):
        return None
    return [km.same_padding(length or 1 << 20, *each) for length, each in zip(lengths, window, strict=True)]


def _conv(
    op: Any, x: Value, axes: Axes, kernel: NDArray[Any], shift: Any, groups: int
) -> tuple[nn.Module | None, nn.Module]:
    """The padding, where it must stand alone, and the convolution; ``kernel`` is (*s, in / groups, out)."""
    rank, size = x.rank, kernel.shape[:-2]
    stride, dilation = _tuple(op.strides, rank), _tuple(op.dilation_rate, rank)
    pads: list[tuple[int, int]] | None = [(0, 0)] * rank
    if op.padding == "same":
        pads = _same(x, axes, list(zip(size, stride, dilation, strict=True)))
    elif op.padding == "causal":
        pads = [((size[0] - 1) * dilation[0], 0)]
    even = pads is not None and all(before == behind for before, behind in pads)
    ahead: nn.Module | None = None
    if pads is None:
        ahead = km.SamePadding(size, stride, dilation)
    elif not even:
        ahead = _PAD[rank - 1](_flat(pads), 0.0)
    conv = CONV[rank - 1](
        kernel.shape[-2] * groups,
        kernel.shape[-1],
        size,
        stride=stride,
        padding=tuple(before for before, _ in pads) if pads is not None and even else 0,
        dilation=dilation,
        groups=groups,
        bias=shift is not None,
    )
    weight = np.moveaxis(kernel, (-1, -2), (0, 1))
    return ahead, filled(conv, weight, shift)


def _tuple(value: Any, rank: int) -> tuple[int, ...]:
    return (int(value),) * rank if isinstance(value, int) else tuple(int(v) for v in value)


@layer("Conv1D", "Conv2D", "Conv3D")
def _convolution(op: Any, x: Value, axes: Axes) -> nn.Module:
    _positional(op, x, axes)
    ahead, conv = _conv(op, x, axes, array(op.kernel), bias(op), int(op.groups))
    return block(pad=ahead, conv=conv, activation=activation(op.activation, x, axes))


@layer("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose")
def _transposed(op: Any, x: Value, axes: Axes) -> nn.Module:
    _positional(op, x, axes)
    kernel, shift, rank = array(op.kernel), bias(op), x.rank
    stride, dilation = _tuple(op.strides, rank), _tuple(op.dilation_rate, rank)
    extra = (None,) * rank if op.output_padding is None else _tuple(op.output_padding, rank)
    window = zip(kernel.shape[:-2], stride, dilation, extra, strict=True)
    cuts = [km.transposed_cuts(*each, same=op.padding == "same") for each in window]
    # torch cuts no more behind than before; a zero in front of the kernel moves the outputs, and so evens the cuts.
    lopsided = [before < behind for before, behind in cuts]
    kernel = np.pad(kernel, [*((int(one), 0) for one in lopsided), (0, 0), (0, 0)])
    before = [cut + one * step for (cut, _), one, step in zip(cuts, lopsided, dilation, strict=True)]
    conv = _TRANSPOSED[rank - 1](
        kernel.shape[-1],
        kernel.shape[-2],
        kernel.shape[:-2],
        stride=stride,
        padding=tuple(before),
        output_padding=tuple(cut - behind for cut, (_, behind) in zip(before, cuts, strict=True)),
        dilation=dilation,
        bias=shift is not None,
    )
    filled(conv, np.moveaxis(kernel, (-1, -2), (0, 1)), shift)
    return block(conv=conv, activation=activation(op.activation, x, axes))


def _depthwise_kernel(kernel: NDArray[Any]) -> NDArray[Any]:
    return kernel.reshape(*kernel.shape[:-2], 1, kernel.shape[-2] * kernel.shape[-1])


@layer("DepthwiseConv1D", "DepthwiseConv2D")
def _depthwise(op: Any, x: Value, axes: Axes) -> nn.Module:
    _positional(op, x, axes)
    kernel = _depthwise_kernel(array(op.kernel))
    ahead, conv = _conv(op, x, axes, kernel, bias(op), x.channels(axes))
    return block(pad=ahead, conv=conv, activation=activation(op.activation, x, axes))


@layer("SeparableConv1D", "SeparableConv2D")
def _separable(op: Any, x: Value, axes: Axes) -> nn.Module:
    _positional(op, x, axes)
    kernel = _depthwise_kernel(array(op.depthwise_kernel))
    ahead, depthwise = _conv(op, x, axes, kernel, None, x.channels(axes))
    mix = array(op.pointwise_kernel)
    shift = bias(op)
    pointwise = CONV[x.rank - 1](mix.shape[-2], mix.shape[-1], 1, bias=shift is not None)
    filled(pointwise, np.moveaxis(mix, (-1, -2), (0, 1)), shift)
    last = activation(op.activation, x, axes)
    return block(pad=ahead, depthwise=depthwise, pointwise=pointwise, activation=last)


@layer("MaxPooling1D", "MaxPooling2D", "MaxPooling3D", "AveragePooling1D", "AveragePooling2D", "AveragePooling3D")
def _pool(op: Any, x: Value, axes: Axes) -> nn.Module:
    _positional(op, x, axes)
    kind, rank = type(op).__name__.split("Pooling")[0], x.rank
    size, stride = _tuple(op.pool_size, rank), _tuple(op.strides or op.pool_size, rank)
    make = _POOL[kind][rank - 1]
    if op.padding == "valid":
        return make(size, stride)
    ones, average = (1,) * rank, kind == "Average"
    pads = _same(x, axes, list(zip(size, stride, ones, strict=True)))
    even = pads is not None and all(before == behind for before, behind in pads)
    options: dict[str, Any] = {"count_include_pad": False} if average else {}
    if pads is not None and even:
        return make(size, stride, padding=tuple(before for before, _ in pads), **options)
    if average and axes.edges == "replicate":
        ahead = _EDGE[rank - 1](_flat(pads)) if pads else km.SamePadding(size, stride, ones, fill="replicate")
        return block(pad=ahead, pool=make(size, stride))
    if pads is not None and all(s > 1 or before == behind for s, (before, behind) in zip(stride, pads, strict=True)):
        # The window that sticks out behind is what ceil_mode means; nothing needs to be copied.
        return make(size, stride, padding=tuple(before for before, _ in pads), ceil_mode=True, **options)
    if average:
        return km.MeanPool(size, stride)
    lowest = -math.inf
    pad = _PAD[rank - 1](_flat(pads), lowest) if pads else km.SamePadding(size, stride, ones, fill=lowest)
    return block(pad=pad, pool=make(size, stride))


@layer(*(f"Global{kind}Pooling{rank}D" for kind in ("Max", "Average") for rank in (1, 2, 3)))
def _global_pool(op: Any, x: Value, axes: Axes) -> nn.Module:
    _positional(op, x, axes)
    pool = _WHOLE["Max" if "Max" in type(op).__name__ else "Average"][x.rank - 1](1)
    return block(pool=pool, flatten=None if op.keepdims else nn.Flatten(1))


@layer("ZeroPadding1D", "ZeroPadding2D", "ZeroPadding3D", "Cropping1D", "Cropping2D", "Cropping3D")
def _pad(op: Any, x: Value, axes: Axes) -> nn.Module:
    cropping = "Cropping" in type(op).__name__
    if not (x.rank == 1 and axes.last):
        _positional(op, x, axes)
    widths = op.cropping if cropping else op.padding
    pairs = [(int(w), int(w)) if isinstance(w, int) else (int(w[0]), int(w[1])) for w in widths]
    if x.rank == 1:
        pairs = [(int(widths[0]), int(widths[1]))]
    sign = -1 if cropping else 1
    return _PAD[x.rank - 1](tuple(sign * w for w in _flat(pairs)), 0.0)


@layer("UpSampling1D", "UpSampling2D", "UpSampling3D")
def _upsample(op: Any, x: Value, axes: Axes) -> nn.Module:
    if x.rank > 1:
        _positional(op, x, axes)
    mode = getattr(op, "interpolation", "nearest")
    if mode not in ("nearest", "bilinear") or not axes.last:
        raise Untranslatable(f"{mode} up-sampling")
    factors = tuple(float(f) for f in _tuple(op.size, x.rank))
    return nn.Upsample(scale_factor=factors, mode=mode, align_corners=False if mode == "bilinear" else None)


@layer("Flatten")
def _flatten(_op: Any, _x: Value, _axes: Axes) -> nn.Module:
    return nn.Flatten(1)


def flattened_order(op: Any, x: Value, axes: Axes) -> NDArray[Any] | None:
    """Which of Keras's features stands at each place after torch flattened ``x``; None where they agree.

    Raises: Untranslatable where the shape is not known.
    """
    if any(length is None for length in x.shape[1:]):
        raise Untranslatable("flatten of an unknown size")
    shape = [int(length or 0) for length in x.shape[1:]]
    if op.data_format == "channels_first" and len(shape) > 1:
        # Keras moves the channels behind the positions before it flattens.
        places = np.moveaxis(np.arange(math.prod(shape)).reshape(*shape[1:], shape[0]), -1, 0)
    else:
        places = np.arange(math.prod(shape)).reshape(shape)
    order: NDArray[Any] = (np.moveaxis(places, -1, 0) if axes.last else places).ravel()
    return None if (np.diff(order) == 1).all() else order


@layer("Reshape")
def _reshape(op: Any, x: Value, axes: Axes) -> nn.Module:
    shape = tuple(int(s) for s in op.target_shape)
    return km.Reshape(shape, before=axes.last and x.rank > 0, after=axes.last and len(shape) > 1)
