"""The layers of a model, what they give out and how many parameters they hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from heatproof.errors import InputError


@dataclass(frozen=True)
class Row:
    """One layer.

    Attributes:
        layer, kind: its name in the model and the name of its class.
        shape: its first output, without the batch axis; None where it never ran or gave no tensor.
        parameters: all it holds, those of its inner layers included.
    """

    layer: str
    kind: str
    shape: tuple[int, ...] | None
    parameters: int


@dataclass(frozen=True)
class Summary:
    """The rows of a summary table; printed, it is the table."""

    rows: tuple[Row, ...]
    parameters: int
    trainable: int

    def __str__(self) -> str:
        body = [(f"{r.layer} ({r.kind})", _shape(r.shape), f"{r.parameters:,}") for r in self.rows]
        head = ("Layer", "Output shape", "Parameters")
        widths = [max(len(line[i]) for line in (head, *body)) for i in range(3)]
        lines = [f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c:>{widths[2]}}" for a, b, c in (head, *body)]
        rule = "-" * (sum(widths) + 4)
        fixed = self.parameters - self.trainable
        total = f"Total {self.parameters:,}, trainable {self.trainable:,}" + (f", frozen {fixed:,}" if fixed else "")
        return "\n".join((lines[0], rule, *lines[1:], rule, total))


def summary(model: nn.Module, input_shape: Sequence[int], *, depth: int = 1) -> Summary:
    """One row a layer, as Keras prints it, from one pass of zeros; the model is left as it was.

    ``input_shape`` is (C, *S), without the batch axis; ``depth`` says how far to open nested layers.

    Raises: InputError where the model does not accept such an input.

    >>> from heatproof.nets import build
    >>> [row.parameters for row in summary(build("mnist1d-cnn"), (1, 40)).rows]
    [150, 1900, 1900, 0, 10010]
    """
    from heatproof.probe.state import borrowed, device_and_dtype

    layers = _layers(model, depth)
    names = {module: name for name, module in layers}
    shapes: dict[nn.Module, tuple[int, ...] | None] = {}

    def record(module: nn.Module, _: tuple[Any, ...], out: Any) -> None:
        shapes.setdefault(module, tuple(out.shape[1:]) if isinstance(out, Tensor) else None)

    device, dtype = device_and_dtype(model)
    with borrowed(model, dict.fromkeys(names, record)):
        try:
            model(torch.zeros(1, *input_shape, device=device, dtype=dtype))
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
            raise InputError(
                f"the model does not accept inputs of shape {_shape(tuple(input_shape))}: {reason}"
            ) from error
    order = {module: place for place, module in enumerate(shapes)}
    ran = sorted(layers, key=lambda layer: order.get(layer[1], len(order)))
    rows = tuple(
        Row(name, type(module).__name__, shapes.get(module), sum(p.numel() for p in module.parameters()))
        for name, module in ran
    )
    parameters = list(model.parameters())
    return Summary(rows, sum(p.numel() for p in parameters), sum(p.numel() for p in parameters if p.requires_grad))


def _layers(model: nn.Module, depth: int, prefix: str = "") -> list[tuple[str, nn.Module]]:
    paths: dict[nn.Module, str] = {}
    for name, child in model.named_children():
        inner = _layers(child, depth - 1, f"{prefix}{name}.") if depth > 1 and any(child.children()) else []
        for path, module in inner or [(f"{prefix}{name}", child)]:
            paths.setdefault(module, path)
    if not paths and not prefix:
        return [(type(model).__name__.lower(), model)]
    return [(path, module) for module, path in paths.items()]


def _shape(shape: tuple[int, ...] | None) -> str:
    return "?" if shape is None else f"({', '.join(['N', *map(str, shape)])})"
