"""The parts of whatever a model returns: a tensor, or tensors in tuples, lists, dicts, dataclasses and records."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from heatproof.errors import InputError

DEPTH = 4  # how deep a nested output is looked into


def tensors(value: Any) -> Iterator[Tensor]:
    """Every tensor inside nested tuples, lists, dicts and records."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from tensors(part)
    else:
        for _, part in _fields(value):
            yield from tensors(part)


def candidates(raw: Any, rows: int) -> dict[str, Tensor]:
    """The tensors that may hold one score a class of every sample, by their dotted names.

    A single number beside others is a loss; of one sample, (1, 1, K) beside (1, K) is a state with its layers first.
    """
    fits = {name: tensor for name, tensor in _named(raw) if columns(tensor, rows) is not None}
    fits = {name: tensor for name, tensor in fits.items() if tensor.ndim} or fits
    if rows == 1 and any(tensor.ndim == 2 for tensor in fits.values()):
        fits = {name: tensor for name, tensor in fits.items() if tensor.ndim != 3 or tensor.shape[1] != 1}
    return fits


def leaves(raw: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Every part of a nested output that is not nested itself, by its dotted name."""
    parts = list(enumerate(raw)) if isinstance(raw, (tuple, list)) and not hasattr(raw, "_fields") else _fields(raw)
    if not parts or name.count(".") == DEPTH:
        yield name, raw
    for key, part in parts:
        yield from leaves(part, f"{name}.{key}" if name else str(key))


def entry(raw: Any, name: str) -> Any:
    """The part of a nested output with this dotted name; "" is the whole.

    Raises: InputError where there is none; it names those that there are.
    """
    part = raw
    for key in name.split(".") if name else ():
        if isinstance(part, (tuple, list)) and key.isdigit() and int(key) < len(part):
            part = part[int(key)]
            continue
        fields = {str(k): v for k, v in _fields(part)}
        if key not in fields:
            offer = ", ".join(k for k, _ in leaves(raw) if k) or "no named parts"
            raise InputError(f"outputs: the model's output has no entry {name!r}; it has {offer}")
        part = fields[key]
    return part


def columns(tensor: Any, rows: int) -> Tensor | None:
    """A tensor as (rows, K), axes of length one left out; None where it is none of floating point in that shape.

    A model may squeeze its output and so lose the batch axis of a single sample.
    """
    if not isinstance(tensor, Tensor) or not tensor.is_floating_point():
        return None
    if tensor.ndim == 0 or (tensor.ndim == 1 and len(tensor) != rows):
        return tensor.reshape(1, -1) if rows == 1 else None
    if len(tensor) != rows or sum(size != 1 for size in tensor.shape[1:]) > 1:
        return None
    return tensor if tensor.ndim == 2 else tensor.reshape(rows, -1)


def description(raw: Any) -> str:
    """What an output is, in words, for an error."""
    if isinstance(raw, Tensor):
        return f"a {raw.dtype} tensor of shape {tuple(raw.shape)}"
    if isinstance(raw, Mapping):
        return f"a dict with {', '.join(map(str, raw))}"
    return f"a {type(raw).__name__}"


def _named(raw: Any, name: str = "") -> Iterator[tuple[str, Tensor]]:
    """The tensors of a nested output by name; lists of records, as detectors return them, are not looked into."""
    if isinstance(raw, Tensor):
        yield name, raw
    elif isinstance(raw, (tuple, list)) and not hasattr(raw, "_fields"):
        for i, part in enumerate(raw):
            if isinstance(part, Tensor):
                yield (f"{name}.{i}" if name else str(i)), part
    elif name.count(".") < DEPTH:
        for key, part in _fields(raw):
            yield from _named(part, f"{name}.{key}" if name else str(key))


def _fields(value: Any) -> list[tuple[Any, Any]]:
    """The named parts of a dict, a dataclass, a named tuple or an object with attributes."""
    if isinstance(value, Mapping):
        return list(value.items())
    names = getattr(value, "_fields", None)
    if isinstance(value, tuple) and names:
        return [(key, getattr(value, key)) for key in names]
    if isinstance(value, (Tensor, tuple, list, str, bytes, type)) or callable(value):
        return []
    if dataclasses.is_dataclass(value):
        return [(field.name, getattr(value, field.name)) for field in dataclasses.fields(value)]
    return list(getattr(value, "__dict__", {}).items())


def detached(raw: Any) -> Any:
    """The output without its graph."""
    if isinstance(raw, Tensor):
        return raw.detach()
    if isinstance(raw, dict):
        return {key: detached(value) for key, value in raw.items()}
    return type(raw)(map(detached, raw)) if type(raw) in (tuple, list) else raw
