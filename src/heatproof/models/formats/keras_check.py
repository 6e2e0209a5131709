"""Proof that a translated Keras model computes what Keras computes, layer by layer."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from heatproof.models.formats.keras import read, traced
from heatproof.models.formats.keras_files import import_keras
from heatproof.models.formats.keras_graph import KerasModel, Spread, axes_of, functional, inference
from heatproof.models.formats.keras_layers import Axes, array


def verify(path: str | os.PathLike[str], x: Float[Tensor, "n c *s"] | None = None) -> dict[str, float]:
    """How far each layer's output is from Keras's own; layers of nested models are called ``model.layer``.

    The largest absolute difference, over the largest absolute output of the layer or one, whichever is more. Without
    ``x``, two random inputs are drawn; axes of unknown length are given 32.

    **Range** [0, inf), lower is better; below 1e-5 is rounding. Lopsided 'same' average pooling of a file written under
    TensorFlow differs on purpose: Keras's torch backend repeats the edge there, TensorFlow leaves it out.

    Raises: FileError, UsageError.
    """
    file, model = read(Path(path))
    return differences(model, x, name=repr(str(path)), exclude=file.excludes)


def differences(
    model: Any, x: Float[Tensor, "n c *s"] | None = None, *, name: str = "the Keras model", exclude: bool = False
) -> dict[str, float]:
    """`verify` for a Keras model in memory."""
    axes = axes_of(model, exclude=exclude)
    module, places = traced(model, name, axes)
    if x is None:
        size = tuple(length or 32 for length in module.input_shape)
        x = torch.rand(2, *size, generator=torch.Generator().manual_seed(0))
    mine: dict[tuple[str, int], list[Tensor]] = {}
    theirs: dict[str, list[Tensor]] = {}
    with torch.no_grad():
        _run_torch(module, x, "", mine)
        graph = functional(model)
        _run_keras(graph, [_keras_input(graph, x, axes)], "", theirs)
    largest: dict[str, float] = {}
    for layer, values in places.items():
        head = layer.rpartition(".")[0]
        got = [mine[(head, value.index)][-1] for value in values]
        want = theirs[layer][-len(values) :]
        errors = [_error(g, _aligned(w, v.order, axes)) for g, w, v in zip(got, want, values, strict=True)]
        largest[layer] = max(errors)
    return largest


def _error(got: Tensor, want: Tensor) -> float:
    if got.shape != want.shape:
        return float("inf")
    return float((got - want).abs().max()) / max(1.0, float(want.abs().max()))


def _aligned(want: Tensor, order: Any, axes: Axes) -> Tensor:
    if order is not None:
        return want[:, torch.from_numpy(order)]
    return want.movedim(-1, 1) if axes.last and want.ndim > 2 else want


def _run_torch(module: KerasModel, x: Any, head: str, outputs: dict[tuple[str, int], list[Tensor]]) -> Tensor:
    values: dict[int, Tensor] = {0: x} if module.inputs == 1 else dict(enumerate(x))
    for step in module.steps:
        child = module.get_submodule(step.name)
        inputs = [values[i] for i in step.inputs]
        inner = child.model if isinstance(child, Spread) else child
        if isinstance(inner, KerasModel):
            path = f"{head}.{step.name}" if head else step.name
            output = _run_torch(inner, inputs if inner.inputs > 1 else inputs[0], path, outputs)
        else:
            output = child(*inputs)
        values[step.output] = output
        outputs.setdefault((head, step.output), []).append(output)
    return values[module.result]


def _run_keras(graph: Any, inputs: list[Any], head: str, outputs: dict[str, list[Tensor]]) -> list[Any]:
    keras = import_keras()
    held = {id(tensor): value for tensor, value in zip(graph.inputs, inputs, strict=True)}
    for depth in sorted(graph._nodes_by_depth, reverse=True):
        for node in graph._nodes_by_depth[depth]:
            if node.is_input or any(id(t) not in held for t in node.input_tensors):
                continue
            args, kwargs = node.arguments.fill_in(held)
            path = f"{head}.{node.operation.name}" if head else node.operation.name
            inner = functional(node.operation)
            if inner is not None:
                out = _run_keras(inner, keras.tree.flatten(args), path, outputs)
            else:
                out = keras.tree.flatten(node.operation(*args, **inference(node.operation, kwargs)))
            held.update({id(tensor): value for tensor, value in zip(node.outputs, out, strict=True)})
            outputs.setdefault(path, []).append(torch.from_numpy(np.array(array(out[0]))))
    return [held[id(tensor)] for tensor in graph.outputs]


def _keras_input(graph: Any, x: Tensor, axes: Axes) -> Any:
    shape = tuple(graph.inputs[0].shape)[1:]
    if len(shape) == 1 or x.ndim == len(shape) + 2:
        x = x.reshape(len(x), *shape)
    elif axes.last:
        x = x.movedim(1, -1)
    return import_keras().ops.convert_to_tensor(x.numpy())
