"""A torch classifier rebuilt as a Keras model, operation by operation along its traced graph."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn
from torch.nn import functional as F

from heatproof.errors import UsageError
from heatproof.models.formats.keras_modules import same_padding, transposed_cuts

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
_AS_MODULES: dict[Any, Callable[..., nn.Module]] = {
    F.max_pool1d: nn.MaxPool1d, F.max_pool2d: nn.MaxPool2d, F.max_pool3d: nn.MaxPool3d, torch.max_pool1d: nn.MaxPool1d,
    torch.max_pool2d: nn.MaxPool2d, torch.max_pool3d: nn.MaxPool3d, F.avg_pool1d: nn.AvgPool1d,
    F.avg_pool2d: nn.AvgPool2d, F.avg_pool3d: nn.AvgPool3d, F.adaptive_avg_pool1d: nn.AdaptiveAvgPool1d,
    F.adaptive_avg_pool2d: nn.AdaptiveAvgPool2d, F.adaptive_avg_pool3d: nn.AdaptiveAvgPool3d,
}  # fmt: skip
_POSITIVE = ("relu", "relu6", "sigmoid", "hard_sigmoid", "softplus")


@dataclass(eq=False)
class _Made:
    """A value on both sides: Keras's tensor, torch's example, and where torch's flattened features went."""

    keras: Any
    torch: Tensor
    order: NDArray[Any] | None = None
    positive: bool = False


class Writer(fx.Interpreter):
    """Runs the torch model on one sample and builds the Keras model beside it."""

    def __init__(self, keras: Any, model: nn.Module) -> None:
        self.keras, self.layers = keras, keras.layers
        graph = fx.Tracer().trace(model)
        super().__init__(fx.GraphModule(model, graph))
        self.extra_traceback = False
        self.taken = set[str]()
        self.done = set[fx.Node]()
        self.weights: list[tuple[Any, list[NDArray[Any]]]] = []

    def build(self, input_shape: Sequence[int]) -> Any:
        """The Keras model, channels-last, with the torch model's weights.

        Raises: UsageError where an operation has no Keras layer that is exactly the same.
        """
        channels, *size = input_shape
        self.start = self.keras.Input((*size, channels), name="input")
        out = self.run(torch.zeros(1, *input_shape))
        if not isinstance(out, _Made):
            raise UsageError(f"the model returns a {type(out).__name__}; expected one tensor")
        made = self.keras.Model(self.start, out.keras)
        for layer, values in self.weights:
            layer.set_weights(values)
        return made

    def run_node(self, n: fx.Node) -> Any:
        self.node = n
        return super().run_node(n)

    def placeholder(self, target: Any, args: Any, kwargs: Any) -> Any:
        return _Made(self.start, super().placeholder(target, args, kwargs))

    def call_module(self, target: Any, args: Any, kwargs: Any) -> Any:
        module = self.fetch_attr(target)
        return self._apply(module, type(module), args, {}, module(*_torch(args), **_torch(kwargs)), str(target))

    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        out = target(*_torch(args), **_torch(kwargs))
        if not any(isinstance(a, _Made) for a in _flat(args)) or not isinstance(out, Tensor):
            return out
        if getattr(target, "__name__", "") == "stochastic_depth":
            return args[0]
        if target in _AS_MODULES:
            module = _AS_MODULES[target](*args[1:], **kwargs)
            return self._apply(module, type(module), args, {}, out, self.node.name)
        return self._apply(None, target, args, kwargs, out, self.node.name)

    def call_method(self, target: Any, args: Any, kwargs: Any) -> Any:
        values = _torch(args)
        out = getattr(values[0], target)(*values[1:], **_torch(kwargs))
        return out if not isinstance(out, Tensor) else self._apply(None, target, args, kwargs, out, self.node.name)

    def _apply(self, module: Any, kind: Any, args: Any, kwargs: Any, out: Tensor, name: str) -> _Made:
        """The Keras counterpart of one operation."""
        x = args[0]
        for kinds, write in self._table():
            if kind in kinds:
                made = write(module, args, kwargs, out, name) if isinstance(x, (_Made, tuple, list)) else None
                if made is not None:
                    return made
        return self._refuse(kind, name)

    def _table(self) -> tuple[tuple[tuple[Any, ...], Callable[..., _Made | None]], ...]:
        return (
            (_CONV, self._conv), (_TRANSPOSED, self._transposed), ((nn.Linear,), self._dense), (_NORM, self._norm),
            (tuple(_ACTIVATIONS), self._activate), (_SLOPED, self._sloped), (_SOFTMAX, self._softmax),
            ((*_IDLE, *_IDLE_METHODS), self._idle), (_MAX, self._pool), (_MEAN, self._pool),
            (_WHOLE_MAX, self._whole), (_WHOLE_MEAN, self._whole), ((torch.mean, "mean"), self._mean),
            ((nn.Flatten, torch.flatten, "flatten", "view", "reshape"), self._flatten), (_PAD, self._pad),
            (tuple(k for kinds in _ARITHMETIC.values() for k in kinds), self._two),
            ((torch.cat, torch.concat), self._concatenate),
        )  # fmt: skip

    def _idle(self, _m: Any, args: Any, _k: Any, _out: Tensor, _name: str) -> _Made:
        made: _Made = args[0]
        return made

    def _refuse(self, kind: Any, name: str) -> NoReturn:
        text = getattr(kind, "__name__", str(kind))
        raise UsageError(f"{name!r} ({text}) has no Keras layer that computes exactly the same; export to ONNX instead")

    def _named(self, name: str) -> str:
        name = name.replace(".", "_").strip("_")
        free, number = name, 1
        while free in self.taken:
            free, number = f"{name}_{number}", number + 1
        self.taken.add(free)
        return free

    def _made(self, layer: Any, given: Any, out: Tensor, weights: Sequence[Any] = (), **facts: Any) -> _Made:
        made = _Made(layer(given), out, **facts)
        if weights:
            self.weights.append((layer, [w.detach().cpu().numpy() if isinstance(w, Tensor) else w for w in weights]))
        return made

    def _follower(self, kinds: tuple[Any, ...]) -> fx.Node | None:
        """The operation of these kinds that alone reads the present one."""
        users = list(self.node.users)
        if len(users) != 1:
            return None
        user = users[0]
        kind = type(self.fetch_attr(str(user.target))) if user.op == "call_module" else user.target
        return user if kind in kinds else None

    def _block(self, name: str, follower: fx.Node | None) -> str | None:
        """The name of the block that holds this module and its follower and nothing else but padding."""
        parent = name.rpartition(".")[0]
        if follower is None or follower.op != "call_module" or not parent:
            return None
        rest = {child for child, _ in self.submodules[parent].named_children()} - {"pad"}
        return parent if {f"{parent}.{child}" for child in rest} == {name, str(follower.target)} else None

    def _fused(self, name: str) -> tuple[str, str | None]:
        """A layer's Keras name and the activation that is fused into it, where both are one block."""
        follower = self._follower((*_ACTIVATIONS, nn.Softmax))
        block = self._block(name, follower)
        if block is None or follower is None:
            return name, None
        module = self.submodules[str(follower.target)]
        if isinstance(module, nn.Softmax):
            if module.dim != 1:
                return name, None
            self.done.add(follower)
            return block, "softmax"
        if not _is_plain(module, {}):
            return name, None
        self.done.add(follower)
        return block, _ACTIVATIONS[type(module)]

    def _ranked(self, name: str, ndim: int, ending: str = "") -> Any:
        return getattr(self.layers, f"{name}{ndim - 2}D{ending}")

    def _conv(self, module: Any, args: Any, _k: Any, out: Tensor, name: str) -> _Made | None:
        x, rank = args[0], args[0].torch.ndim - 2
        if module.padding_mode != "zeros":
            return None
        padding, given = "valid", x.keras
        if module.padding == "same":
            padding = "same"
        elif module.padding != "valid" and any(module.padding):
            widths = list(zip(module.padding, module.padding, strict=True))
            reach = zip(x.torch.shape[2:], module.kernel_size, module.stride, module.dilation, strict=True)
            if [same_padding(*each) for each in reach] == widths:
                padding = "same"
            else:
                given = self._zeros(given, widths, f"{name}_pad")
        name, activation = self._fused(name)
        layer = self._ranked("Conv", rank + 2)(
            module.out_channels,
            module.kernel_size,
            strides=module.stride,
            padding=padding,
            dilation_rate=module.dilation,
            groups=module.groups,
            use_bias=module.bias is not None,
            activation=activation,
            name=self._named(name),
        )
        kernel = module.weight.detach().cpu().movedim((0, 1), (-1, -2)).contiguous()
        return self._made(layer, given, out, [kernel, *([] if module.bias is None else [module.bias])])

    def _transposed(self, module: Any, args: Any, _k: Any, out: Tensor, name: str) -> _Made | None:
        x, rank = args[0], args[0].torch.ndim - 2
        if module.groups != 1 or (max(module.stride) > 1 and max(module.dilation) > 1):
            return None
        cuts = [(p, p - more) for p, more in zip(module.padding, module.output_padding, strict=True)]
        window = zip(module.kernel_size, module.stride, module.dilation, strict=True)
        same = [transposed_cuts(*each, None, same=True) for each in window] == cuts
        more = tuple(max(0, -behind) for _, behind in cuts)
        crop = [(0, 0)] * rank if same else [(before, max(0, behind)) for before, behind in cuts]
        if not same and any(m >= s for m, s in zip(more, module.stride, strict=True)):
            return None
        name, activation = self._fused(name)
        layer = self._ranked("Conv", rank + 2, "Transpose")(
            module.out_channels,
            module.kernel_size,
            strides=module.stride,
            padding="same" if same else "valid",
            output_padding=None if same else more,
            dilation_rate=module.dilation,
            use_bias=module.bias is not None,
            activation=activation,
            name=self._named(name),
        )
        kernel = module.weight.detach().cpu().movedim((0, 1), (-1, -2)).contiguous()
        made = self._made(layer, x.keras, out, [kernel, *([] if module.bias is None else [module.bias])])
        return made if not any(map(any, crop)) else _Made(self._cropped(made.keras, crop, f"{name}_crop"), out)

    def _cropped(self, given: Any, crop: Sequence[tuple[int, int]], name: str) -> Any:
        layer = self._ranked("Cropping", len(crop) + 2)
        return layer(crop[0] if len(crop) == 1 else tuple(crop), name=self._named(name))(given)

    def _zeros(self, given: Any, widths: Sequence[tuple[int, int]], name: str) -> Any:
        layer = self._ranked("ZeroPadding", len(widths) + 2)
        return layer(widths[0] if len(widths) == 1 else tuple(widths), name=self._named(name))(given)

    def _dense(self, module: Any, args: Any, _k: Any, out: Tensor, name: str) -> _Made | None:
        x = args[0]
        if x.torch.ndim != 2:
            return None
        kernel = module.weight.detach().cpu().numpy().T
        kernel = kernel if x.order is None else kernel[x.order]
        name, activation = self._fused(name)
        options = {"use_bias": module.bias is not None, "activation": activation}
        layer = self.layers.Dense(module.out_features, **options, name=self._named(name))
        return self._made(layer, x.keras, out, [kernel, *([] if module.bias is None else [module.bias])])

    def _norm(self, module: Any, args: Any, _k: Any, out: Tensor, name: str) -> _Made | None:
        x = args[0]
        if module.running_mean is None:
            return None
        momentum = 0.99 if module.momentum is None else 1 - module.momentum
        options = {"epsilon": module.eps, "momentum": momentum, "center": module.affine, "scale": module.affine}
        layer = self.layers.BatchNormalization(**options, name=self._named(name))
        given = [module.weight, module.bias] if module.affine else []
        values = [v.detach().cpu().numpy() for v in (*given, module.running_mean, module.running_var)]
        values = values if x.order is None else [v[x.order] for v in values]
        return self._made(layer, x.keras, out, values, order=x.order)

    def _activate(self, module: Any, args: Any, kwargs: Any, out: Tensor, name: str) -> _Made | None:
        x, kind = args[0], self.node.target if module is None else type(module)
        if not _is_plain(module, kwargs):
            return None
        text = _ACTIVATIONS[kind]
        if self.node in self.done:
            return _Made(x.keras, out, x.order, text in _POSITIVE)
        layer = self.layers.Activation(text, name=self._named(name))
        return self._made(layer, x.keras, out, order=x.order, positive=text in _POSITIVE)

    def _sloped(self, module: Any, args: Any, kwargs: Any, out: Tensor, name: str) -> _Made | None:
        leaky = isinstance(module, nn.LeakyReLU) or self.node.target is F.leaky_relu
        if module is None:
            value = (
                args[1] if len(args) > 1 else kwargs.get("negative_slope" if leaky else "alpha", 0.01 if leaky else 1)
            )
        else:
            value = module.negative_slope if leaky else module.alpha
        layer = (self.layers.LeakyReLU if leaky else self.layers.ELU)(float(value), name=self._named(name))
        return self._made(layer, args[0].keras, out, order=args[0].order)

    def _softmax(self, module: Any, args: Any, kwargs: Any, out: Tensor, name: str) -> _Made | None:
        axis = module.dim if module is not None else kwargs.get("dim", args[1] if len(args) > 1 else None)
        if axis not in (1, 1 - out.ndim):
            return None
        if self.node in self.done:
            return _Made(args[0].keras, out, args[0].order)
        log = isinstance(module, nn.LogSoftmax) or self.node.target is F.log_softmax
        layer = self.layers.Activation("log_softmax" if log else "softmax", name=self._named(name))
        return self._made(layer, args[0].keras, out, order=args[0].order)

    def _pool(self, module: Any, args: Any, _k: Any, out: Tensor, name: str) -> _Made | None:
        x, rank = args[0], args[0].torch.ndim - 2
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
        given, padding = x.keras, "valid"
        if tuple(out.shape[2:]) == floor and not any(pad):
            pass
        elif same and inside and (even or not average):
            padding = "same"
        elif tuple(out.shape[2:]) == floor and (module.count_include_pad if average else x.positive):
            given = self._zeros(given, list(zip(pad, pad, strict=True)), f"{name}_pad")
        else:
            return None
        layer = self._ranked("AveragePooling" if average else "MaxPooling", rank + 2)
        made = layer(size, strides=stride, padding=padding, name=self._named(name))
        return self._made(made, given, out, positive=x.positive)

    def _whole(self, module: Any, args: Any, _k: Any, out: Tensor, name: str) -> _Made | None:
        x, rank = args[0], args[0].torch.ndim - 2
        if tuple(out.shape[2:]) == tuple(x.torch.shape[2:]):
            return _Made(x.keras, out, positive=x.positive)
        kind = "Max" if isinstance(module, _WHOLE_MAX) else "Average"
        if math.prod(out.shape[2:]) == 1:
            follower = self._follower((nn.Flatten, torch.flatten, "flatten"))
            name = self._block(name, follower) or name
            layer = self._ranked(f"Global{kind}Pooling", rank + 2)(keepdims=follower is None, name=self._named(name))
        elif all(a % b == 0 for a, b in zip(x.torch.shape[2:], out.shape[2:], strict=True)):
            size = tuple(a // b for a, b in zip(x.torch.shape[2:], out.shape[2:], strict=True))
            layer = self._ranked(f"{kind}Pooling", rank + 2)(size, name=self._named(name))
        else:
            return None
        return self._made(layer, x.keras, out, positive=x.positive)

    def _mean(self, _m: Any, args: Any, kwargs: Any, out: Tensor, name: str) -> _Made | None:
        x = args[0]
        dims = kwargs.get("dim", args[1] if len(args) > 1 else None)
        dims = {d % x.torch.ndim for d in ((dims,) if isinstance(dims, int) else dims or ())}
        if dims != set(range(2, x.torch.ndim)):
            return None
        layer = self._ranked("GlobalAveragePooling", x.torch.ndim)
        return self._made(layer(keepdims=out.ndim == x.torch.ndim, name=self._named(name)), x.keras, out)

    def _flatten(self, _m: Any, args: Any, _k: Any, out: Tensor, name: str) -> _Made | None:
        x = args[0]
        if out.shape == x.torch.shape or (out.ndim == 2 and len(x.keras.shape) == 2):
            return _Made(x.keras, out, x.order, x.positive)
        if out.ndim != 2 or out.shape[0] != x.torch.shape[0] or x.torch.ndim < 3:
            return None
        given, shape = x.keras, tuple(x.torch.shape[1:])
        order: NDArray[Any] | None = np.moveaxis(np.arange(math.prod(shape)).reshape(shape), 0, -1).ravel()
        if order is None or (np.diff(order) == 1).all():
            order = None
        elif not self._absorbed(self.node):
            given = self.layers.Permute((len(shape), *range(1, len(shape))), name=self._named(f"{name}_order"))(given)
            order = None
        return self._made(self.layers.Flatten(name=self._named(name)), given, out, order=order, positive=x.positive)

    def _absorbed(self, node: fx.Node) -> bool:
        """Whether every reader of these features is a dense layer, behind operations that treat features alike."""
        for user in node.users:
            kind = type(self.fetch_attr(str(user.target))) if user.op == "call_module" else user.target
            alike = kind in _ACTIVATIONS or kind in (*_SLOPED, *_IDLE, *_IDLE_METHODS, *_NORM)
            if not (kind is nn.Linear or (alike and self._absorbed(user))):
                return False
        return bool(node.users)

    def _pad(self, module: Any, args: Any, _k: Any, out: Tensor, name: str) -> _Made | None:
        widths = [tuple(pair) for pair in np.reshape(module.padding, (-1, 2))[::-1].tolist()]
        flat = [w for pair in widths for w in pair]
        if getattr(module, "value", 0.0) != 0 or (min(flat) < 0 < max(flat)):
            return None
        if min(flat) >= 0:
            return _Made(self._zeros(args[0].keras, widths, name), out, positive=args[0].positive)
        crop = [(-a, -b) for a, b in widths]
        return _Made(self._cropped(args[0].keras, crop, name), out, positive=args[0].positive)

    def _two(self, _m: Any, args: Any, kwargs: Any, out: Tensor, name: str) -> _Made | None:
        """A sum, difference, product or quotient of two values, or of one and a constant."""
        kind = next(k for k, kinds in _ARITHMETIC.items() if self.node.target in kinds)
        given = [a for a in args if isinstance(a, _Made)]
        if kwargs or len(args) != 2 or any(v.order is not None for v in given):
            return None
        if len(given) == 2:
            if given[0].torch.ndim != given[1].torch.ndim or kind == "Divide":
                return None
            positive = kind != "Subtract" and all(v.positive for v in given)
            layer = getattr(self.layers, kind)(name=self._named(name))
            return self._made(layer, [v.keras for v in given], out, positive=positive)
        constant = next(a for a in args if not isinstance(a, _Made))
        value = torch.as_tensor(constant, dtype=torch.float32).cpu()
        if value.numel() > 1 and tuple(value.shape[1 - out.ndim :]) != (value.numel(), *(1,) * (out.ndim - 2)):
            return None
        if args[0] is constant and kind in ("Subtract", "Divide"):
            return None
        value = {"Subtract": value.neg, "Divide": value.reciprocal}.get(kind, value.clone)()
        numbers = value.flatten().tolist() if value.numel() > 1 else value.item()
        options = {"scale": 1.0, "offset": numbers} if kind in ("Add", "Subtract") else {"scale": numbers}
        return self._made(self.layers.Rescaling(**options, name=self._named(name)), given[0].keras, out)

    def _concatenate(self, _m: Any, args: Any, kwargs: Any, out: Tensor, name: str) -> _Made | None:
        parts, axis = args[0], kwargs.get("dim", args[1] if len(args) > 1 else 0)
        if axis not in (1, 1 - out.ndim) or any(v.order is not None for v in parts):
            return None
        layer = self.layers.Concatenate(axis=-1, name=self._named(name))
        return self._made(layer, [v.keras for v in parts], out, positive=all(v.positive for v in parts))


def _is_plain(module: nn.Module | None, options: dict[str, Any]) -> bool:
    """Whether an activation has its usual parameters, the only ones Keras's twin has."""
    given = {k: getattr(module, k, options.get(k)) for k in ("approximate", "beta", "threshold")}
    return given["approximate"] in (None, "none") and given["beta"] in (None, 1) and given["threshold"] in (None, 20)


def _torch(part: Any) -> Any:
    """The torch side of every value."""
    return fx.node.map_aggregate(part, lambda v: v.torch if isinstance(v, _Made) else v)


def _flat(part: Any) -> list[Any]:
    found: list[Any] = []
    fx.node.map_aggregate(part, found.append)
    return found


def _tuple(value: Any, rank: int) -> tuple[int, ...]:
    return (int(value),) * rank if isinstance(value, int) else tuple(int(v) for v in value)
