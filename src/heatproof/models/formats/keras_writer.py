"""A torch classifier rebuilt as a Keras model, operation by operation along its traced graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, TypeAlias

import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn
from torch.nn import functional as F

from heatproof.errors import UsageError

_AS_MODULES: dict[Any, Callable[..., nn.Module]] = {
    F.max_pool1d: nn.MaxPool1d, F.max_pool2d: nn.MaxPool2d, F.max_pool3d: nn.MaxPool3d, torch.max_pool1d: nn.MaxPool1d,
    torch.max_pool2d: nn.MaxPool2d, torch.max_pool3d: nn.MaxPool3d, F.avg_pool1d: nn.AvgPool1d,
    F.avg_pool2d: nn.AvgPool2d, F.avg_pool3d: nn.AvgPool3d, F.adaptive_avg_pool1d: nn.AdaptiveAvgPool1d,
    F.adaptive_avg_pool2d: nn.AdaptiveAvgPool2d, F.adaptive_avg_pool3d: nn.AdaptiveAvgPool3d,
}  # fmt: skip


@dataclass(eq=False)
class Pair:
    """A value on both sides: Keras's tensor, torch's example, and where torch's flattened features went.

    Attributes:
        order: for flattened features, which of torch's stands at each of Keras's places; None where they agree.
        positive: whether no entry can be below zero.
    """

    keras: Any
    torch: Tensor
    order: NDArray[Any] | None = None
    positive: bool = False


@dataclass(frozen=True, eq=False)
class Call:
    """One operation of the torch model: its module (None for a function or method), arguments, output and name."""

    module: Any
    args: Any
    kwargs: Any
    out: Tensor
    name: str

    @property
    def x(self) -> Any:
        """The first argument."""
        return self.args[0]


Counterpart: TypeAlias = "Callable[[Writer, Call], Pair | None]"


class Writer(fx.Interpreter):
    """Runs the torch model on one sample and builds the Keras model beside it."""

    def __init__(self, keras: Any, model: nn.Module, counterparts: Mapping[Any, Counterpart]) -> None:
        self.keras, self.layers, self.counterparts = keras, keras.layers, counterparts
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
        if not isinstance(out, Pair):
            raise UsageError(f"the model returns a {type(out).__name__}; expected one tensor")
        model = self.keras.Model(self.start, out.keras)
        for layer, values in self.weights:
            layer.set_weights(values)
        return model

    def run_node(self, n: fx.Node) -> Any:
        self.node = n
        return super().run_node(n)

    def placeholder(self, target: Any, args: Any, kwargs: Any) -> Any:
        return Pair(self.start, super().placeholder(target, args, kwargs))

    def call_module(self, target: Any, args: Any, kwargs: Any) -> Any:
        module = self.fetch_attr(target)
        out = module(*_torch(args), **_torch(kwargs))
        return self._apply(type(module), Call(module, args, {}, out, str(target)))

    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        out = target(*_torch(args), **_torch(kwargs))
        if not any(isinstance(a, Pair) for a in _flat(args)) or not isinstance(out, Tensor):
            return out
        if getattr(target, "__name__", "") == "stochastic_depth":
            return args[0]
        if target in _AS_MODULES:
            module = _AS_MODULES[target](*args[1:], **kwargs)
            return self._apply(type(module), Call(module, args, {}, out, self.node.name))
        return self._apply(target, Call(None, args, kwargs, out, self.node.name))

    def call_method(self, target: Any, args: Any, kwargs: Any) -> Any:
        values = _torch(args)
        out = getattr(values[0], target)(*values[1:], **_torch(kwargs))
        return (
            out if not isinstance(out, Tensor) else self._apply(target, Call(None, args, kwargs, out, self.node.name))
        )

    def _apply(self, kind: Any, call: Call) -> Pair:
        """The Keras counterpart of one operation."""
        write = self.counterparts.get(kind)
        if write is not None and isinstance(call.x, (Pair, tuple, list)):
            pair = write(self, call)
            if pair is not None:
                return pair
        return self._refuse(kind, call.name)

    def _refuse(self, kind: Any, name: str) -> NoReturn:
        text = getattr(kind, "__name__", str(kind))
        raise UsageError(f"{name!r} ({text}) has no Keras layer that computes exactly the same; export to ONNX instead")

    def named(self, name: str) -> str:
        """A layer's name in Keras, made unique."""
        name = name.replace(".", "_").strip("_")
        free, number = name, 1
        while free in self.taken:
            free, number = f"{name}_{number}", number + 1
        self.taken.add(free)
        return free

    def pair(
        self,
        layer: Any,
        inputs: Any,
        out: Tensor,
        weights: Sequence[Any] = (),
        *,
        order: NDArray[Any] | None = None,
        positive: bool = False,
    ) -> Pair:
        """The output of a Keras layer beside torch's; ``weights`` are set on the layer once the model is built."""
        if weights:
            self.weights.append((layer, [w.detach().cpu().numpy() if isinstance(w, Tensor) else w for w in weights]))
        return Pair(layer(inputs), out, order, positive)

    def follower(self, kinds: tuple[Any, ...]) -> fx.Node | None:
        """The operation of these kinds that alone reads the present one."""
        users = list(self.node.users)
        if len(users) != 1:
            return None
        user = users[0]
        kind = type(self.fetch_attr(str(user.target))) if user.op == "call_module" else user.target
        return user if kind in kinds else None

    def block(self, name: str, follower: fx.Node | None) -> str | None:
        """The name of the block that holds this module and its follower and nothing else but padding."""
        parent = name.rpartition(".")[0]
        if follower is None or follower.op != "call_module" or not parent:
            return None
        rest = {child for child, _ in self.submodules[parent].named_children()} - {"pad"}
        return parent if {f"{parent}.{child}" for child in rest} == {name, str(follower.target)} else None

    def ranked(self, name: str, ndim: int, ending: str = "") -> Any:
        """Keras's class of this name for tensors of ``ndim`` axes: Conv2D for "Conv" and 4."""
        return getattr(self.layers, f"{name}{ndim - 2}D{ending}")


def _torch(part: Any) -> Any:
    """The torch side of every value."""
    return fx.node.map_aggregate(part, lambda v: v.torch if isinstance(v, Pair) else v)


def _flat(part: Any) -> list[Any]:
    leaves: list[Any] = []
    fx.node.map_aggregate(part, leaves.append)
    return leaves
