"""Which Keras layer stands for which torch operation: one small function an operation, in the table `COUNTERPARTS`.

A function gets the writer and the call, and returns the value on both sides; None where no Keras layer is exactly the
same. Kinds are classes of modules, functions, and names of tensor methods.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx, nn
from torch.nn import functional as F

from heatproof.models.formats.keras_modules import same_padding, transposed_cuts
from heatproof.models.formats.keras_writer import Call, Counterpart, Pair, Writer

_ACTIVATIONS: dict[Any, str] = {
    nn.ReLU: "relu", nn.ReLU6: "relu6", nn.SELU: "selu", nn.SiLU: "silu", nn.Mish: "mish", nn.Sigmoid: "sigmoid",
    nn.Tanh: "tanh", nn.Softplus: "softplus", nn.Softsign: "softsign", nn.Hardsigmoid: "hard_sigmoid",
    nn.Hardswish: "hard_silu", nn.GELU: "gelu", F.relu: "relu", torch.relu: "relu", F.relu6: "relu6", F.selu: "selu",
    F.silu: "silu", F.mish: "mish", torch.sigmoid: "sigmoid", torch.tanh: "tanh", F.hardsigmoid: "hard_sigmoid",
    F.hardswish: "hard_silu", F.gelu: "gelu", "relu": "relu", "relu_": "relu", "sigmoid": "sigmoid", "tanh": "tanh",
}  # fmt: skip
_SLOPED: tuple[Any, ...] = (nn.LeakyReLU, nn.ELU, F.leaky_relu, F.elu)
_SOFTMAX: tuple[Any, ...] = (nn.Softmax, nn.LogSoftmax, F.softmax, F.log_softmax, torch.softmax, "softmax")
_IDLE: tuple[Any, ...] = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, F.dropout)
_IDLE_METHODS = ("contiguous", "clone", "detach", "float")
_ADD: tuple[Any, ...] = (operator.add, operator.iadd, torch.add, "add", "add_")
_MULTIPLY: tuple[Any, ...] = (operator.mul, operator.imul, torch.mul, "mul", "mul_")
_SUBTRACT: tuple[Any, ...] = (operator.sub, operator.isub, torch.sub, "sub", "sub_")
_DIVIDE: tuple[Any, ...] = (operator.truediv, operator.itruediv, torch.div, "div", "div_")
_ARITHMETIC = {"Add": _ADD, "Multiply": _MULTIPLY, "Subtract": _SUBTRACT, "Divide": _DIVIDE}
_CONV, _NORM = (nn.Conv1d, nn.Conv2d, nn.Conv3d), (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_MAX, _MEAN = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d), (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)
_WHOLE_MAX = (nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d)
_WHOLE_MEAN = (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)
_PAD = (nn.ZeroPad1d, nn.ZeroPad2d, nn.ZeroPad3d, nn.ConstantPad1d, nn.ConstantPad2d, nn.ConstantPad3d)
_POSITIVE = ("relu", "relu6", "sigmoid", "hard_sigmoid", "softplus")

COUNTERPARTS: dict[Any, Counterpart] = {}


def counterpart(*kinds: Any) -> Callable[[Counterpart], Counterpart]:
    """A decorator that puts a function into the table under kinds of operations."""

    def put(function: Counterpart) -> Counterpart:
        COUNTERPARTS.update(dict.fromkeys(kinds, function))
        return function

    return put


@counterpart(*_CONV)
def _conv(writer: Writer, call: Call) -> Pair | None:
    module, x, name, out = call.module, call.x, call.name, call.out
    rank = x.torch.ndim - 2
    if module.padding_mode != "zeros":
        return None
    padding, source = "valid", x.keras
    if module.padding == "same":
        padding = "same"
    elif module.padding != "valid" and any(module.padding):
        widths = list(zip(module.padding, module.padding, strict=True))
        reach = zip(x.torch.shape[2:], module.kernel_size, module.stride, module.dilation, strict=True)
        if [same_padding(*each) for each in reach] == widths:
            padding = "same"
        else:
            source = _zeros(writer, source, widths, f"{name}_pad")
    name, activation = _fused(writer, name)
    layer = writer.ranked("Conv", rank + 2)(
        module.out_channels,
        module.kernel_size,
        strides=module.stride,
        padding=padding,
        dilation_rate=module.dilation,
        groups=module.groups,
        use_bias=module.bias is not None,
        activation=activation,
        name=writer.named(name),
    )
    kernel = module.weight.detach().cpu().movedim((0, 1), (-1, -2)).contiguous()
    return writer.pair(layer, source, out, [kernel, *([] if module.bias is None else [module.bias])])


@counterpart(*_TRANSPOSED)
def _transposed(writer: Writer, call: Call) -> Pair | None:
    module, x, name, out = call.module, call.x, call.name, call.out
    rank = x.torch.ndim - 2
    if module.groups != 1 or (max(module.stride) > 1 and max(module.dilation) > 1):
        return None
    cuts = [(p, p - more) for p, more in zip(module.padding, module.output_padding, strict=True)]
    window = zip(module.kernel_size, module.stride, module.dilation, strict=True)
    same = [transposed_cuts(*each, None, same=True) for each in window] == cuts
    more = tuple(max(0, -behind) for _, behind in cuts)
    crop = [(0, 0)] * rank if same else [(before, max(0, behind)) for before, behind in cuts]
    if not same and any(m >= s for m, s in zip(more, module.stride, strict=True)):
        return None
    name, activation = _fused(writer, name)
    layer = writer.ranked("Conv", rank + 2, "Transpose")(
        module.out_channels,
        module.kernel_size,
        strides=module.stride,
        padding="same" if same else "valid",
        output_padding=None if same else more,
        dilation_rate=module.dilation,
        use_bias=module.bias is not None,
        activation=activation,
        name=writer.named(name),
    )
    kernel = module.weight.detach().cpu().movedim((0, 1), (-1, -2)).contiguous()
    whole = writer.pair(layer, x.keras, out, [kernel, *([] if module.bias is None else [module.bias])])
    return whole if not any(map(any, crop)) else Pair(_cropped(writer, whole.keras, crop, f"{name}_crop"), out)


def _cropped(writer: Writer, source: Any, crop: Sequence[tuple[int, int]], name: str) -> Any:
    layer = writer.ranked("Cropping", len(crop) + 2)
    return layer(crop[0] if len(crop) == 1 else tuple(crop), name=writer.named(name))(source)


def _zeros(writer: Writer, source: Any, widths: Sequence[tuple[int, int]], name: str) -> Any:
    layer = writer.ranked("ZeroPadding", len(widths) + 2)
    return layer(widths[0] if len(widths) == 1 else tuple(widths), name=writer.named(name))(source)


@counterpart(nn.Linear)
def _dense(writer: Writer, call: Call) -> Pair | None:
    module, x, name, out = call.module, call.x, call.name, call.out
    if x.torch.ndim != 2:
        return None
    kernel = module.weight.detach().cpu().numpy().T
    kernel = kernel if x.order is None else kernel[x.order]
    name, activation = _fused(writer, name)
    options = {"use_bias": module.bias is not None, "activation": activation}
    layer = writer.layers.Dense(module.out_features, **options, name=writer.named(name))
    return writer.pair(layer, x.keras, out, [kernel, *([] if module.bias is None else [module.bias])])


@counterpart(*_NORM)
def _norm(writer: Writer, call: Call) -> Pair | None:
    module, x, name, out = call.module, call.x, call.name, call.out
    if module.running_mean is None:
        return None
    momentum = 0.99 if module.momentum is None else 1 - module.momentum
    options = {"epsilon": module.eps, "momentum": momentum, "center": module.affine, "scale": module.affine}
    layer = writer.layers.BatchNormalization(**options, name=writer.named(name))
    learnt = [module.weight, module.bias] if module.affine else []
    values = [v.detach().cpu().numpy() for v in (*learnt, module.running_mean, module.running_var)]
    values = values if x.order is None else [v[x.order] for v in values]
    return writer.pair(layer, x.keras, out, values, order=x.order)


@counterpart(*_ACTIVATIONS)
def _activate(writer: Writer, call: Call) -> Pair | None:
    module, x, name, out = call.module, call.x, call.name, call.out
    kind = writer.node.target if module is None else type(module)
    if not _is_plain(module, call.kwargs):
        return None
    text = _ACTIVATIONS[kind]
    if writer.node in writer.done:
        return Pair(x.keras, out, x.order, text in _POSITIVE)
    layer = writer.layers.Activation(text, name=writer.named(name))
    return writer.pair(layer, x.keras, out, order=x.order, positive=text in _POSITIVE)


@counterpart(*_SLOPED)
def _sloped(writer: Writer, call: Call) -> Pair | None:
    module, x, name, out = call.module, call.x, call.name, call.out
    leaky = isinstance(module, nn.LeakyReLU) or writer.node.target is F.leaky_relu
    if module is None:
        value = (
            call.args[1]
            if len(call.args) > 1
            else call.kwargs.get("negative_slope" if leaky else "alpha", 0.01 if leaky else 1)
        )
    else:
        value = module.negative_slope if leaky else module.alpha
    layer = (writer.layers.LeakyReLU if leaky else writer.layers.ELU)(float(value), name=writer.named(name))
    return writer.pair(layer, x.keras, out, order=x.order)


@counterpart(*_SOFTMAX)
def _softmax(writer: Writer, call: Call) -> Pair | None:
    module, x, name, out = call.module, call.x, call.name, call.out
    axis = module.dim if module is not None else call.kwargs.get("dim", call.args[1] if len(call.args) > 1 else None)
    if axis not in (1, 1 - out.ndim):
        return None
    if writer.node in writer.done:
        return Pair(x.keras, out, x.order)
    log = isinstance(module, nn.LogSoftmax) or writer.node.target is F.log_softmax
    layer = writer.layers.Activation("log_softmax" if log else "softmax", name=writer.named(name))
    return writer.pair(layer, x.keras, out, order=x.order)


@counterpart(*_MAX, *_MEAN)
def _pool(writer: Writer, call: Call) -> Pair | None:
    module, x, name, out = call.module, call.x, call.name, call.out
    rank = x.torch.ndim - 2
    size, stride, pad = (_tuple(v, rank) for v in (module.kernel_size, module.stride, module.padding))
    average = isinstance(module, _MEAN)
    if set(_tuple(getattr(module, "dilation", 1), rank)) != {1} or getattr(module, "divisor_override", None):
        return None
    lengths = tuple(x.torch.shape[2:])
    ends = [same_padding(*each) for each in zip(lengths, size, stride, strict=True)]
    same = tuple(out.shape[2:]) == tuple(-(-a // b) for a, b in zip(lengths, stride, strict=True))
    same = same and tuple(before for before, _ in ends) == pad
    # Keras's torch backend averages a lopsided edge by repeating it, which only for windows of two is no matter.
    even = all(before == behind or s == 2 for s, (before, behind) in zip(size, ends, strict=True))
    inside = not average or not module.count_include_pad or not any(pad)
    floor = tuple((a + 2 * p - s) // b + 1 for a, p, s, b in zip(lengths, pad, size, stride, strict=True))
    source, padding = x.keras, "valid"
    if tuple(out.shape[2:]) == floor and not any(pad):
        pass
    elif same and inside and (even or not average):
        padding = "same"
    elif tuple(out.shape[2:]) == floor and (module.count_include_pad if average else x.positive):
        source = _zeros(writer, source, list(zip(pad, pad, strict=True)), f"{name}_pad")
    else:
        return None
    layer = writer.ranked("AveragePooling" if average else "MaxPooling", rank + 2)
    pool = layer(size, strides=stride, padding=padding, name=writer.named(name))
    return writer.pair(pool, source, out, positive=x.positive)


@counterpart(*_WHOLE_MAX, *_WHOLE_MEAN)
def _whole(writer: Writer, call: Call) -> Pair | None:
    module, x, name, out = call.module, call.x, call.name, call.out
    rank = x.torch.ndim - 2
    if tuple(out.shape[2:]) == tuple(x.torch.shape[2:]):
        return Pair(x.keras, out, positive=x.positive)
    kind = "Max" if isinstance(module, _WHOLE_MAX) else "Average"
    if math.prod(out.shape[2:]) == 1:
        follower = writer.follower((nn.Flatten, torch.flatten, "flatten"))
        name = writer.block(name, follower) or name
        layer = writer.ranked(f"Global{kind}Pooling", rank + 2)(keepdims=follower is None, name=writer.named(name))
    elif all(a % b == 0 for a, b in zip(x.torch.shape[2:], out.shape[2:], strict=True)):
        size = tuple(a // b for a, b in zip(x.torch.shape[2:], out.shape[2:], strict=True))
        layer = writer.ranked(f"{kind}Pooling", rank + 2)(size, name=writer.named(name))
    else:
        return None
    return writer.pair(layer, x.keras, out, positive=x.positive)


@counterpart(torch.mean, "mean")
def _mean(writer: Writer, call: Call) -> Pair | None:
    x, name, out = call.x, call.name, call.out
    dims = call.kwargs.get("dim", call.args[1] if len(call.args) > 1 else None)
    dims = {d % x.torch.ndim for d in ((dims,) if isinstance(dims, int) else dims or ())}
    if dims != set(range(2, x.torch.ndim)):
        return None
    layer = writer.ranked("GlobalAveragePooling", x.torch.ndim)
    return writer.pair(layer(keepdims=out.ndim == x.torch.ndim, name=writer.named(name)), x.keras, out)


@counterpart(nn.Flatten, torch.flatten, "flatten", "view", "reshape")
def _flatten(writer: Writer, call: Call) -> Pair | None:
    x, name, out = call.x, call.name, call.out
    if out.shape == x.torch.shape or (out.ndim == 2 and len(x.keras.shape) == 2):
        return Pair(x.keras, out, x.order, x.positive)
    if out.ndim != 2 or out.shape[0] != x.torch.shape[0] or x.torch.ndim < 3:
        return None
    source, shape = x.keras, tuple(x.torch.shape[1:])
    order: NDArray[Any] | None = np.moveaxis(np.arange(math.prod(shape)).reshape(shape), 0, -1).ravel()
    if order is None or (np.diff(order) == 1).all():
        order = None
    elif not _absorbed(writer, writer.node):
        source = writer.layers.Permute((len(shape), *range(1, len(shape))), name=writer.named(f"{name}_order"))(source)
        order = None
    return writer.pair(writer.layers.Flatten(name=writer.named(name)), source, out, order=order, positive=x.positive)


def _absorbed(writer: Writer, node: fx.Node) -> bool:
    """Whether every reader of these features is a dense layer, behind operations that treat features alike."""
    for user in node.users:
        kind = type(writer.fetch_attr(str(user.target))) if user.op == "call_module" else user.target
        alike = kind in _ACTIVATIONS or kind in (*_SLOPED, *_IDLE, *_IDLE_METHODS, *_NORM)
        if not (kind is nn.Linear or (alike and _absorbed(writer, user))):
            return False
    return bool(node.users)


@counterpart(*_PAD)
def _pad(writer: Writer, call: Call) -> Pair | None:
    module, x, name, out = call.module, call.x, call.name, call.out
    widths = [tuple(pair) for pair in np.reshape(module.padding, (-1, 2))[::-1].tolist()]
    flat = [w for pair in widths for w in pair]
    if getattr(module, "value", 0.0) != 0 or (min(flat) < 0 < max(flat)):
        return None
    if min(flat) >= 0:
        return Pair(_zeros(writer, x.keras, widths, name), out, positive=x.positive)
    crop = [(-a, -b) for a, b in widths]
    return Pair(_cropped(writer, x.keras, crop, name), out, positive=x.positive)


@counterpart(*(kind for kinds in _ARITHMETIC.values() for kind in kinds))
def _two(writer: Writer, call: Call) -> Pair | None:
    """A sum, difference, product or quotient of two values, or of one and a constant."""
    x, name, out = call.x, call.name, call.out
    kind = next(k for k, kinds in _ARITHMETIC.items() if writer.node.target in kinds)
    operands = [a for a in call.args if isinstance(a, Pair)]
    if call.kwargs or len(call.args) != 2 or any(v.order is not None for v in operands):
        return None
    if len(operands) == 2:
        if operands[0].torch.ndim != operands[1].torch.ndim or kind == "Divide":
            return None
        positive = kind != "Subtract" and all(v.positive for v in operands)
        layer = getattr(writer.layers, kind)(name=writer.named(name))
        return writer.pair(layer, [v.keras for v in operands], out, positive=positive)
    constant = next(a for a in call.args if not isinstance(a, Pair))
    value = torch.as_tensor(constant, dtype=torch.float32).cpu()
    if value.numel() > 1 and tuple(value.shape[1 - out.ndim :]) != (value.numel(), *(1,) * (out.ndim - 2)):
        return None
    if x is constant and kind in ("Subtract", "Divide"):
        return None
    value = {"Subtract": value.neg, "Divide": value.reciprocal}.get(kind, value.clone)()
    numbers = value.flatten().tolist() if value.numel() > 1 else value.item()
    options = {"scale": 1.0, "offset": numbers} if kind in ("Add", "Subtract") else {"scale": numbers}
    return writer.pair(writer.layers.Rescaling(**options, name=writer.named(name)), operands[0].keras, out)


@counterpart(torch.cat, torch.concat)
def _concatenate(writer: Writer, call: Call) -> Pair | None:
    x, name, out = call.x, call.name, call.out
    parts, axis = x, call.kwargs.get("dim", call.args[1] if len(call.args) > 1 else 0)
    if axis not in (1, 1 - out.ndim) or any(v.order is not None for v in parts):
        return None
    layer = writer.layers.Concatenate(axis=-1, name=writer.named(name))
    return writer.pair(layer, [v.keras for v in parts], out, positive=all(v.positive for v in parts))


@counterpart(*_IDLE, *_IDLE_METHODS)
def _idle(_writer: Writer, call: Call) -> Pair | None:
    x: Pair = call.x
    return x


def _fused(writer: Writer, name: str) -> tuple[str, str | None]:
    """A layer's Keras name and the activation that is fused into it, where both are one block."""
    follower = writer.follower((*_ACTIVATIONS, nn.Softmax))
    block = writer.block(name, follower)
    if block is None or follower is None:
        return name, None
    module = writer.submodules[str(follower.target)]
    if isinstance(module, nn.Softmax):
        if module.dim != 1:
            return name, None
        writer.done.add(follower)
        return block, "softmax"
    if not _is_plain(module, {}):
        return name, None
    writer.done.add(follower)
    return block, _ACTIVATIONS[type(module)]


def _is_plain(module: nn.Module | None, options: dict[str, Any]) -> bool:
    """Whether an activation has its usual parameters, the only ones Keras's layer has."""
    values = {k: getattr(module, k, options.get(k)) for k in ("approximate", "beta", "threshold")}
    return values["approximate"] in (None, "none") and values["beta"] in (None, 1) and values["threshold"] in (None, 20)


def _tuple(value: Any, rank: int) -> tuple[int, ...]:
    return (int(value),) * rank if isinstance(value, int) else tuple(int(v) for v in value)
