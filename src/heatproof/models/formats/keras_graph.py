"""A Keras model's graph as a torch module: layers under their Keras names, run in order, channels-first throughout."""

from __future__ import annotations

import inspect
import keyword
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from heatproof.errors import FileError, InputError
from heatproof.models.formats import keras_modules as km
from heatproof.models.formats import keras_spatial
from heatproof.models.formats.keras_layers import KEEPS_ORDER, READS_ORDER, TABLE, Axes, Untranslatable, Value, merge

_ARITHMETIC = {"Add": "add", "Subtract": "subtract", "Multiply": "multiply", "Divide": "divide", "TrueDivide": "divide"}


@dataclass(frozen=True)
class Step:
    """One call of a layer: its module's name, the numbers of the values it takes and gives."""

    name: str
    inputs: tuple[int, ...]
    output: int


class KerasModel(nn.Module):
    """A translated Keras model: (N, C, *S) in, what the Keras model returns out.

    Layers are children under their Keras names; nested models are children of the same kind. The graph is a static list
    of steps, so torch.fx and torch.export can follow it.

    Attributes:
        input_shape: (C, *S), None where any length will do; empty for a nested model.
        steps: the calls in order.
    """

    def __init__(self, inputs: int, input_shape: tuple[int | None, ...] = ()) -> None:
        super().__init__()
        self.inputs, self.input_shape = inputs, input_shape
        self.steps: list[Step] = []
        self.result = 0
        self._spent: list[tuple[int, ...]] = []

    def forward(self, x: km.Traced | Sequence[km.Traced]) -> km.Traced:
        """The model's output.

        Raises: InputError where the input is not of the model's shape.
        """
        if self.input_shape and isinstance(x, Tensor):
            self._check(x)
        values: dict[int, Any] = {0: x} if self.inputs == 1 else dict(enumerate(x))
        for step, spent in zip(self.steps, self._spent, strict=True):
            values[step.output] = self.get_submodule(step.name)(*[values[i] for i in step.inputs])
            for i in spent:
                del values[i]
        out: km.Traced = values[self.result]
        return out

    def finish(self, result: int) -> None:
        """Fix which value is returned, and let go of every other as soon as it has been used."""
        self.result = result
        last = {i: n for n, step in enumerate(self.steps) for i in (*step.inputs, step.output)}
        ends = [tuple(i for i, n in last.items() if n == now and i != result) for now in range(len(self.steps))]
        self._spent = ends

    def _check(self, x: Tensor) -> None:
        want, shape = self.input_shape, tuple(x.shape)  # sizes are symbols while the model is exported
        whole = np.prod(shape[1:]) == want[-1] if len(want) == 2 and want[0] == 1 and len(shape) == 2 else False
        fits = len(shape) == len(want) + 1 and all(w in (None, s) for s, w in zip(shape[1:], want, strict=True))
        if not (fits or whole or (want[0] == 1 and shape[1:] == want[1:])):
            text = ", ".join("any" if w is None else str(w) for w in want)
            raise InputError(f"got inputs of shape (N, {', '.join(map(str, shape[1:]))}), expected (N, {text})")


class KerasLayer(nn.Module):
    """A Keras layer without a torch counterpart, called on Keras's torch backend; channels-last stays inside."""

    def __init__(self, layer: Any, call: tuple[Any, Any], *, last: bool, device: Callable[[str], Any]) -> None:
        super().__init__()
        self.layer, self.call, self.last, self.device = layer, call, last, device
        if isinstance(layer, nn.Module):
            layer.eval()

    def forward(self, *inputs: Tensor) -> Any:
        """The layer's output, channels-first."""
        rest = iter(inputs)
        args, kwargs = _map(self.call, lambda _: self._moved(next(rest), 1, -1))
        with self.device("cuda" if inputs[0].is_cuda else "cpu"):
            out = self.layer(*args, **kwargs)
        return tuple(self._moved(o, -1, 1) for o in out) if isinstance(out, (tuple, list)) else self._moved(out, -1, 1)

    def _moved(self, x: Tensor, source: int, target: int) -> Tensor:
        return x.movedim(source, target) if self.last and x.ndim > 2 else x


def _map(part: Any, function: Callable[[Value], Any]) -> Any:
    if isinstance(part, Value):
        return function(part)
    if isinstance(part, (list, tuple)):
        return type(part)(_map(p, function) for p in part)
    return {k: _map(v, function) for k, v in part.items()} if isinstance(part, dict) else part


def _values(part: Any) -> Iterator[Value]:
    values: list[Value] = []
    _map(part, values.append)
    yield from values


class Translator:
    """Builds a `KerasModel` from one Keras model, layer by layer."""

    def __init__(self, keras: Any, axes: Axes, name: str) -> None:
        self.keras, self.axes, self.name = keras, axes, name
        self.values = 0
        self.modules: dict[tuple[Any, ...], str] = {}
        self.places: dict[str, list[Value]] = {}

    def translate(self, model: Any) -> KerasModel:
        """The whole model.

        Raises: FileError where it takes or returns several tensors.
        """
        graph = functional(model)
        if graph is None:
            raise FileError(f"{self.name}: the model's graph is not known; expected a Sequential or functional model")
        for what, tensors in (("inputs", graph.inputs), ("outputs", graph.outputs)):
            if len(tensors) != 1:
                names = ", ".join(str(t.name) for t in tensors)
                raise FileError(f"{self.name}: the model has {len(tensors)} {what} ({names}); expected one")
        self.model = KerasModel(1, _input_shape(graph, self.axes))
        start = self._start(graph)
        out = self._restore(self._walk(graph, [start])[0], "output")
        self.model.finish(out.index)
        return self.model

    def nested(self, graph: Any, inputs: Sequence[Value]) -> tuple[KerasModel, Value]:
        """A model used as a layer of another, and its output in its own numbering."""
        self.model = KerasModel(len(inputs))
        self.values = len(inputs)
        out = self._walk(graph, [Value(i, v.shape) for i, v in enumerate(inputs)])[0]
        out = self._restore(out, "output")
        self.model.finish(out.index)
        return self.model, out

    def _start(self, graph: Any) -> Value:
        shape = tuple(graph.inputs[0].shape)
        self.values = 1
        value = Value(0, shape)
        if len(shape) == 2:
            return self._add(nn.Flatten(1), graph.inputs[0].name, [value], shape)
        if _is_image(graph):
            return self._add(km.Image(shape[1:]), graph.inputs[0].name, [value], shape)
        return value

    def _walk(self, graph: Any, inputs: Sequence[Value]) -> list[Value]:
        held = {id(tensor): value for tensor, value in zip(graph.inputs, inputs, strict=True)}
        for depth in sorted(graph._nodes_by_depth, reverse=True):
            for node in graph._nodes_by_depth[depth]:
                if node.is_input or any(id(t) not in held for t in node.input_tensors):
                    continue
                args, kwargs = node.arguments.fill_in(held)
                shapes = [tuple(t.shape) for t in node.outputs]
                outputs = self._call(node.operation, args, kwargs, shapes)
                held.update({id(tensor): value for tensor, value in zip(node.outputs, outputs, strict=True)})
                self.places.setdefault(node.operation.name, []).append(outputs[0])
        return [held[id(tensor)] for tensor in graph.outputs]

    def _call(self, op: Any, args: Any, kwargs: Any, shapes: list[tuple[int | None, ...]]) -> list[Value]:
        inputs = list(_values((args, kwargs)))
        plain = all(k in ("training", "mask") for k in kwargs) and not list(_values(kwargs))
        shape = shapes[0]
        if plain and len(shapes) == 1:
            try:
                return [self._translated(op, args, inputs, shape)]
            except Untranslatable:
                pass
        if self.keras.backend.backend() != "torch":
            raise FileError(
                f"{self.name}: layer {op.name!r} ({type(op).__name__}) has no torch counterpart and Keras runs on "
                f"{self.keras.backend.backend()}; set KERAS_BACKEND=torch before Keras is imported"
            )
        inputs = [self._restore(v, op.name) for v in inputs]
        slots = iter(inputs)
        call = _map((args, inference(op, kwargs)), lambda _: next(slots))
        adapter = KerasLayer(op, call, last=self.axes.last, device=getattr(self.keras, "device", nullcontext))
        whole = self._add(adapter, op.name, inputs, shape)
        if len(shapes) == 1:
            return [whole]
        picks = enumerate(shapes)
        return [self._add(km.Pick(i), f"{op.name}_output_{i}", [whole], part) for i, part in picks]

    def _translated(self, op: Any, args: Any, inputs: list[Value], shape: tuple[int | None, ...]) -> Value:
        kind, order = type(op).__name__, None
        inner = functional(op)
        own = type(op).__module__.startswith("keras.")
        if inner is not None and len(inner.outputs) == 1:
            return self._nested(op, inner, [self._restore(v, op.name) for v in inputs], shape)
        if not own or not inputs:
            raise Untranslatable(kind)
        if not isinstance(op, self.keras.layers.Layer):
            return self._arithmetic(op, args, inputs, shape)
        if kind not in TABLE:
            inputs, order = self._aligned(op, inputs)
            return self._add(merge(op, inputs, self.axes), op.name, inputs, shape, order)
        value = inputs[0]
        if len(inputs) > 1:
            raise Untranslatable(kind)
        if kind == "Flatten":
            order = keras_spatial.flattened_order(op, value, self.axes) if value.rank > 0 else value.order
        elif value.order is not None and kind in KEEPS_ORDER:
            order = value.order
        elif value.order is not None and kind not in READS_ORDER:
            value = self._restore(value, op.name)
        key = (id(op), value.shape, None if value.order is None else value.order.tobytes())
        if key in self.modules:
            return self._again(self.modules[key], [value], shape, order)
        output = self._add(TABLE[kind](op, value, self.axes), op.name, [value], shape, order)
        self.modules[key] = self.model.steps[-1].name
        return output

    def _arithmetic(self, op: Any, args: Any, inputs: list[Value], shape: tuple[int | None, ...]) -> Value:
        kind = _ARITHMETIC.get(type(op).__name__)
        flat = [a for a in args if isinstance(a, (Value, int, float))]
        if kind is None or len(flat) != len(args) or len({len(v.shape) for v in inputs}) != 1:
            raise Untranslatable(type(op).__name__)
        inputs = [self._restore(v, op.name) for v in inputs]
        constants = [None if isinstance(a, Value) else float(a) for a in args]
        return self._add(
            km.Merge(kind, constants if any(c is not None for c in constants) else ()), op.name, inputs, shape
        )

    def _nested(self, op: Any, inner: Any, inputs: list[Value], shape: tuple[int | None, ...]) -> Value:
        key = (id(op), tuple(v.shape for v in inputs))
        if key in self.modules:
            return self._again(self.modules[key], inputs, shape)
        child = Translator(self.keras, self.axes, self.name)
        module, _ = child.nested(inner, inputs)
        output = self._add(Spread(module) if len(inputs) > 1 else module, op.name, inputs, shape)
        self.modules[key] = self.model.steps[-1].name
        self.places.update({f"{op.name}.{name}": places for name, places in child.places.items()})
        return output

    def _aligned(self, op: Any, inputs: list[Value]) -> tuple[list[Value], NDArray[Any] | None]:
        """Flattened values side by side: kept in torch's order where that is the same for all of them."""
        orders = [v.order for v in inputs]
        if all(o is None for o in orders):
            return inputs, None
        first = orders[0]
        alike = first is not None and all(o is not None and np.array_equal(o, first) for o in orders)
        if type(op).__name__ != "Concatenate" and alike:
            return inputs, first
        return [self._restore(v, op.name) for v in inputs], None

    def _restore(self, value: Value, name: str) -> Value:
        """The value in Keras's own order of features."""
        if value.order is None:
            return value
        index = torch.from_numpy(np.argsort(value.order))
        return self._add(km.Take(index), f"{name}_order", [value], value.shape)

    def _add(
        self,
        module: nn.Module,
        name: str,
        inputs: Sequence[Value],
        shape: tuple[int | None, ...],
        order: NDArray[Any] | None = None,
    ) -> Value:
        taken = self._free(name)
        self.model.add_module(taken, module)
        return self._again(taken, inputs, shape, order)

    def _again(
        self,
        name: str,
        inputs: Sequence[Value],
        shape: tuple[int | None, ...],
        order: NDArray[Any] | None = None,
    ) -> Value:
        value = Value(self.values, shape, order)
        self.values += 1
        self.model.steps.append(Step(name, tuple(v.index for v in inputs), value.index))
        return value

    def _free(self, name: str) -> str:
        name = name.replace(".", "_").replace("/", "_")
        number, free = 1, name
        while hasattr(self.model, free) or keyword.iskeyword(free):
            free, number = f"{name}_{number}", number + 1
        return free


class Spread(nn.Module):
    """A nested model that takes several values."""

    def __init__(self, model: KerasModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, *inputs: km.Traced) -> km.Traced:
        """The model's output."""
        out: km.Traced = self.model(inputs)
        return out


def inference(op: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a call with training switched off; some layers of Keras augment unless told."""
    return {**kwargs, "training": False} if "training" in inspect.signature(op.call).parameters else kwargs


def functional(model: Any) -> Any:
    """The Keras graph of a functional or built Sequential model; None for anything else."""
    graph = getattr(model, "_functional", None) or model
    return graph if hasattr(graph, "_nodes_by_depth") and hasattr(graph, "inputs") else None


def _layers(graph: Any) -> Iterator[Any]:
    for part in graph.layers:
        inner = functional(part)
        yield from (part,) if inner is None else _layers(inner)


def axes_of(model: Any, *, exclude: bool) -> Axes:
    """The model's axis order, and how it averages at the edges."""
    graph = functional(model)
    orders = {getattr(part, "data_format", None) for part in _layers(graph)} if graph is not None else set()
    return Axes("channels_first" not in orders, "exclude" if exclude else "replicate")


def _is_image(graph: Any) -> bool:
    """Whether a 2-D input has no channel axis: it is square and flattened, or the first layer gives it one channel."""
    shape = tuple(graph.inputs[0].shape)
    if len(shape) != 3 or None in shape[1:]:
        return False
    users = [node.operation for depth in graph._nodes_by_depth.values() for node in depth if node.input_tensors]
    first = [op for op in users if any(t is graph.inputs[0] for n in op._inbound_nodes for t in n.input_tensors)]
    while len(first) == 1 and type(first[0]).__name__ in ("Rescaling", "Normalization", "Dropout", "GaussianNoise"):
        after = [t for n in first[0]._inbound_nodes for t in n.outputs]
        first = [op for op in users if any(t is a for n in op._inbound_nodes for t in n.input_tensors for a in after)]
    kinds = {type(op).__name__ for op in first}
    square = shape[1] == shape[2] and shape[1] > 4
    return (kinds == {"Flatten"} and square) or (
        kinds == {"Reshape"} and all(tuple(op.target_shape) == (*shape[1:], 1) for op in first)
    )


def _input_shape(graph: Any, axes: Axes) -> tuple[int | None, ...]:
    shape = tuple(graph.inputs[0].shape)[1:]
    if len(shape) == 1:
        return (1, *shape)
    if _is_image(graph):
        return (1, *shape)
    return (shape[-1], *shape[:-1]) if axes.last else shape
