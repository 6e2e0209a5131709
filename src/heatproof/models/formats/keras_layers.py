"""Which torch module stands for which Keras layer: one small function a kind of layer, in the table `TABLE`.

A function gets the Keras layer, its input and the model's axis order, and returns a module; it raises `Untranslatable`
where none is exact. Modules work on channels-first tensors; a fused activation is the last part of a layer's block.
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from heatproof.models.formats import keras_modules as km

Ranked: TypeAlias = tuple[Callable[..., nn.Module], ...]
CONV: Ranked = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_NORM: Ranked = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_DROP: Ranked = (nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)
_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU, "relu6": nn.ReLU6, "elu": nn.ELU, "selu": nn.SELU, "celu": nn.CELU, "gelu": nn.GELU,
    "silu": nn.SiLU, "mish": nn.Mish, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid, "softplus": nn.Softplus,
    "softsign": nn.Softsign, "hard_sigmoid": nn.Hardsigmoid, "hard_silu": nn.Hardswish, "hard_tanh": nn.Hardtanh,
    "log_sigmoid": nn.LogSigmoid,
    "leaky_relu": lambda: nn.LeakyReLU(0.2), "exponential": lambda: km.Function(torch.exp),
    "steep_sigmoid": lambda: km.Function(km.steep_sigmoid),
}  # fmt: skip


class Untranslatable(Exception):
    """No torch module gives exactly what this layer gives."""


@dataclass(frozen=True)
class Axes:
    """The model's conventions.

    Attributes:
        last: whether Keras's tensors are channels-last, so that torch's have their channels moved.
        edges: what 'same' average pooling takes outside the input: "exclude" as TensorFlow and JAX, "replicate" as
            Keras's torch backend where the padding is lopsided.
    """

    last: bool
    edges: Literal["exclude", "replicate"] = "replicate"

    def torch_axis(self, axis: int, ndim: int) -> int:
        """Where Keras's axis lies in torch's tensor."""
        axis %= ndim
        if not self.last or ndim < 3 or axis == 0:
            return axis
        return 1 if axis == ndim - 1 else axis + 1

    def to_torch(self, array: NDArray[Any]) -> Tensor:
        """A constant in Keras's axis order as a tensor in torch's."""
        moved = np.moveaxis(array, -1, 1) if self.last and array.ndim > 2 else array
        return torch.tensor(np.ascontiguousarray(moved), dtype=torch.float32)


@dataclass(frozen=True, eq=False)
class Value:
    """One tensor of the graph.

    Attributes:
        index: its number; shape: in Keras's order, batch included.
        order: for flattened features, which of Keras's features stands at each place; None where they agree.
    """

    index: int
    shape: tuple[int | None, ...]
    order: NDArray[Any] | None = None

    @property
    def rank(self) -> int:
        """How many position axes it has."""
        return len(self.shape) - 2

    def channels(self, axes: Axes) -> int:
        """The length of its channel axis."""
        return int(self.shape[-1 if axes.last else 1] or 0)

    def size(self, axes: Axes) -> tuple[int | None, ...]:
        """The lengths of its position axes."""
        return self.shape[1:-1] if axes.last else self.shape[2:]


Translation = Callable[[Any, Value, Axes], nn.Module]
TABLE: dict[str, Translation] = {}
KEEPS_ORDER: set[str] = set()
READS_ORDER = ("Dense", "BatchNormalization")


def layer(*names: str, keeps_order: bool = False) -> Callable[[Translation], Translation]:
    """A decorator that puts a function into the table under Keras class names."""

    def put(function: Translation) -> Translation:
        TABLE.update(dict.fromkeys(names, function))
        KEEPS_ORDER.update(names if keeps_order else ())
        return function

    return put


def array(variable: Any) -> NDArray[Any]:
    """The numbers of a Keras variable or tensor, whatever backend holds it."""
    value = getattr(variable, "value", variable)
    return value.detach().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)


def activation(function: Any, x: Value, axes: Axes) -> nn.Module | None:
    """The module of an activation; None for the identity."""
    keras = sys.modules["keras"]
    if isinstance(function, keras.layers.Layer):
        kind = type(function).__name__
        if kind not in TABLE:
            raise Untranslatable(kind)
        return TABLE[kind](function, x, axes)
    name = getattr(function, "__name__", "")
    native = function is getattr(keras.activations, name, None) or name == "steep_sigmoid"
    if function is None or (native and name == "linear"):
        return None
    if native and name in ("softmax", "log_softmax"):
        return {"softmax": nn.Softmax, "log_softmax": nn.LogSoftmax}[name](axes.torch_axis(-1, len(x.shape)))
    if not native or name not in _ACTIVATIONS:
        raise Untranslatable(f"activation {name}")
    return _ACTIVATIONS[name]()


def block(**parts: nn.Module | None) -> nn.Module:
    """The parts in sequence, under their names; a single part stands alone."""
    present = OrderedDict((name, part) for name, part in parts.items() if part is not None)
    return next(iter(present.values())) if len(present) == 1 else nn.Sequential(present)


def filled(module: nn.Module, weight: NDArray[Any], shift: NDArray[Any] | None) -> nn.Module:
    """The module with this weight and, where it has one, this bias."""
    state = {"weight": torch.tensor(np.ascontiguousarray(weight), dtype=torch.float32)}
    if shift is not None:
        state["bias"] = torch.tensor(shift, dtype=torch.float32)
    module.load_state_dict(state, strict=False)
    return module


def bias(op: Any) -> NDArray[Any] | None:
    """A layer's bias; None where it has none."""
    return array(op.bias) if op.use_bias else None


@layer("Dense")
def _dense(op: Any, x: Value, axes: Axes) -> nn.Module:
    if getattr(op, "quantization_mode", None):
        raise Untranslatable("quantised")
    kernel, shift = array(op.kernel), bias(op)
    last = activation(op.activation, x, axes)
    if x.rank == 0 or not axes.last:
        weight = kernel if x.order is None else kernel[x.order]
        linear = nn.Linear(kernel.shape[0], kernel.shape[1], bias=shift is not None)
        return block(linear=filled(linear, weight.T, shift), activation=last)
    if x.rank > 3:
        raise Untranslatable("too many axes")
    point = CONV[x.rank - 1](*kernel.shape, 1, bias=shift is not None)
    return block(linear=filled(point, kernel.T.reshape(*kernel.T.shape, *(1,) * x.rank), shift), activation=last)


@layer("BatchNormalization", keeps_order=True)
def _batch_norm(op: Any, x: Value, axes: Axes) -> nn.Module:
    if axes.torch_axis(op.axis, len(x.shape)) != 1 or x.rank > 3 or getattr(op, "renorm", False):
        raise Untranslatable("BatchNormalization over another axis")
    count = x.channels(axes)
    order = np.arange(count) if x.order is None else x.order
    norm = _NORM[max(x.rank, 1) - 1](count, eps=op.epsilon, momentum=1 - op.momentum)
    parts = {"weight": op.gamma, "bias": op.beta}
    parts |= {"running_mean": op.moving_mean, "running_var": op.moving_variance}
    state = {k: torch.tensor(array(v)[order], dtype=torch.float32) for k, v in parts.items() if v is not None}
    norm.load_state_dict(state, strict=False)
    return norm


@layer("LayerNormalization")
def _layer_norm(op: Any, x: Value, axes: Axes) -> nn.Module:
    over = [a % len(x.shape) for a in (op.axis if isinstance(op.axis, (list, tuple)) else [op.axis])]
    if over != [len(x.shape) - 1] or getattr(op, "rms_scaling", False):
        raise Untranslatable("LayerNormalization over several axes")
    norm = nn.LayerNorm(int(x.shape[-1] or 0), eps=op.epsilon)
    parts = {"weight": op.gamma, "bias": op.beta}
    state = {k: torch.tensor(array(v), dtype=torch.float32) for k, v in parts.items() if v is not None}
    norm.load_state_dict(state, strict=False)
    return km.ChannelNorm(norm) if x.rank > 0 and axes.last else norm


@layer("GroupNormalization")
def _group_norm(op: Any, x: Value, axes: Axes) -> nn.Module:
    count = x.channels(axes)
    if axes.torch_axis(op.axis, len(x.shape)) != 1:
        raise Untranslatable("GroupNormalization over another axis")
    norm = nn.GroupNorm(count if op.groups == -1 else op.groups, count, eps=op.epsilon)
    parts = {"weight": op.gamma, "bias": op.beta}
    state = {k: torch.tensor(array(v).reshape(-1), dtype=torch.float32) for k, v in parts.items() if v is not None}
    norm.load_state_dict(state, strict=False)
    return norm


@layer("Activation", keeps_order=True)
def _activation(op: Any, x: Value, axes: Axes) -> nn.Module:
    return activation(op.activation, x, axes) or nn.Identity()


@layer("ReLU", keeps_order=True)
def _relu(op: Any, _x: Value, _axes: Axes) -> nn.Module:
    slope, ceiling, threshold = float(op.negative_slope), op.max_value, float(op.threshold)
    if threshold == 0 and ceiling is None:
        return nn.LeakyReLU(slope) if slope else nn.ReLU()
    if threshold == 0 and slope == 0 and ceiling == 6:
        return nn.ReLU6()
    return km.Clamp(slope, None if ceiling is None else float(ceiling), threshold)


@layer("LeakyReLU", keeps_order=True)
def _leaky(op: Any, _x: Value, _axes: Axes) -> nn.Module:
    return nn.LeakyReLU(float(op.negative_slope))


@layer("ELU", keeps_order=True)
def _elu(op: Any, _x: Value, _axes: Axes) -> nn.Module:
    return nn.ELU(float(op.alpha))


@layer("Softmax", keeps_order=True)
def _softmax(op: Any, x: Value, axes: Axes) -> nn.Module:
    if not isinstance(op.axis, int):
        raise Untranslatable("softmax over several axes")
    return nn.Softmax(axes.torch_axis(op.axis, len(x.shape)))


@layer("PReLU")
def _prelu(op: Any, _x: Value, axes: Axes) -> nn.Module:
    alpha = axes.to_torch(array(op.alpha)[None])[0]
    if alpha.numel() == alpha.shape[0]:
        module = nn.PReLU(alpha.numel())
        module.load_state_dict({"weight": alpha.flatten()})
        return module
    return km.Slope(alpha)


@layer("Permute")
def _permute(op: Any, x: Value, axes: Axes) -> nn.Module:
    ndim = len(x.shape)
    wanted = (0, *op.dims)
    where = {axes.torch_axis(keras_axis, ndim): keras_axis for keras_axis in range(ndim)}
    return km.Permute([axes.torch_axis(wanted[where[place]], ndim) for place in range(ndim)])


@layer("Rescaling", keeps_order=False)
def _rescale(op: Any, x: Value, axes: Axes) -> nn.Module:
    parts = [np.asarray(v, dtype=np.float32) for v in (op.scale, op.offset)]
    full = [p.reshape((1,) * (len(x.shape) - p.ndim) + p.shape) if p.ndim else p for p in parts]
    return km.Affine(axes.to_torch(full[0]), axes.to_torch(full[1]))


@layer("Normalization")
def _normalise(op: Any, _x: Value, axes: Axes) -> nn.Module:
    mean, deviation = array(op.mean), np.maximum(np.sqrt(array(op.variance)), 1e-7)
    if op.invert:
        return km.Affine(axes.to_torch(deviation), axes.to_torch(mean))
    return km.Affine(axes.to_torch(1 / deviation), axes.to_torch(-mean / deviation))


@layer("LayerScale")
def _layer_scale(op: Any, x: Value, axes: Axes) -> nn.Module:
    gamma = array(op.gamma)
    scale = axes.to_torch(gamma.reshape((1,) * (len(x.shape) - 1) + gamma.shape))
    return km.Affine(scale, torch.zeros_like(scale))


@layer("SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D")
def _channel_dropout(op: Any, x: Value, _axes: Axes) -> nn.Module:
    return _DROP[x.rank - 1](op.rate)


@layer("Dropout", keeps_order=True)
def _dropout(op: Any, _x: Value, _axes: Axes) -> nn.Module:
    return nn.Dropout(op.rate)


_IDLE = (
    "Identity", "ActivityRegularization", "AlphaDropout", "GaussianDropout", "GaussianNoise", "RandomBrightness",
    "RandomContrast", "RandomFlip", "RandomRotation", "RandomShear", "RandomTranslation", "RandomZoom",
    "StochasticDepth",
)  # fmt: skip


@layer(*_IDLE, keeps_order=True)
def _idle(_op: Any, _x: Value, _axes: Axes) -> nn.Module:
    return nn.Identity()


def merge(op: Any, values: Sequence[Value], axes: Axes) -> nn.Module:
    """The module of a layer that takes several values.

    Raises: Untranslatable.
    """
    kind, ndim = type(op).__name__.lower(), len(values[0].shape)
    if any(len(v.shape) != ndim for v in values):
        raise Untranslatable("merge of different ranks")
    if kind == "concatenate":
        return km.Concatenate(axes.torch_axis(op.axis, ndim))
    if kind == "customscalelayer":
        return km.ScaledSum(float(op.scale))
    if kind not in ("add", "subtract", "multiply", "average", "maximum", "minimum"):
        raise Untranslatable(kind)
    return km.Merge(kind)
