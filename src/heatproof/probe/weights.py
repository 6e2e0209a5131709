"""Whether a model is still the one that was looked at: its parts, and the values of its weights."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from operator import is_
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from heatproof.probe.state import device_and_dtype

Versions: TypeAlias = tuple[tuple[int, int], ...]
Digest: TypeAlias = tuple[Versions, tuple[float, ...]]


@dataclass(frozen=True, eq=False)
class Parts:
    """The modules, parameters and buffers of a model, its device and its type.

    They are held, so that no new part can be mistaken for one that is gone.
    """

    items: tuple[Any, ...]
    device: torch.device
    dtype: torch.dtype

    @classmethod
    def of(cls, model: nn.Module) -> Parts:
        """The parts of a model as it is now."""
        items: list[Any] = []
        for module in model.modules():
            items += (module, *module._parameters.values(), *module._buffers.values())
        return cls(tuple(items), *device_and_dtype(model))

    def same(self, other: Parts) -> bool:
        """Whether these are the very same parts, in the same place; their values may differ."""
        place = (self.device, self.dtype) == (other.device, other.dtype)
        return place and len(self.items) == len(other.items) and all(map(is_, self.items, other.items))


def versions(model: nn.Module) -> Versions:
    """Where each weight lies and how often it was written to."""
    return tuple((t.data_ptr(), -1 if t.is_inference() else t._version) for t in _weights(model))


def digest(model: nn.Module) -> Digest:
    """What changes whenever a weight does; values are looked at, since writing through ``.data`` raises no version."""
    return versions(model), tuple(map(_sum, _weights(model)))


def _weights(model: nn.Module) -> chain[Tensor]:
    return chain(model.parameters(), model.buffers())


def _sum(tensor: Tensor) -> float:
    flat = tensor.detach().flatten()
    return float(flat[:: max(1, len(flat) // 64)].double().sum()) if len(flat) else 0.0
