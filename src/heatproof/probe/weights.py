"""The values of a model's weights: whether any has changed, by a checksum of every bit of them."""

from __future__ import annotations

import copy
from itertools import chain
from typing import TypeAlias

import torch
from torch import Tensor, nn

from heatproof.probe.forms import tensors
from heatproof.probe.stamp import loose

Versions: TypeAlias = tuple[tuple[int, int], ...]
Digest: TypeAlias = tuple[int, ...]

_SMALL = 2**20  # bytes of a tensor that is summed together with others
_WIDE = 2**12  # numbers of a row
_FACTORS = (0x1B03738712FAD5C9, 0x5851F42D4C957F2D)  # odd


def versions(model: nn.Module) -> Versions:
    """Where each weight lies and how often it was written to."""
    weights = tensors(list(model.modules()))
    try:
        return tuple([(t.data_ptr(), t._version) for t in weights])
    except RuntimeError:  # tensors made under inference mode have no version
        return tuple((t.data_ptr(), -1 if t.is_inference() else t._version) for t in weights)


def digest(model: nn.Module) -> Digest:
    """A checksum of every value of all weights, buffers and tensors held as attributes.

    Writing through ``.data``, NumPy or an inference tensor raises no version, so that the values are read. The bits are
    summed by rows and by columns, and each sum counts by its place: neither a change of one value nor an exchange of
    two goes unseen.
    Cost: about 0.7 ms a million weights on one core.
    """
    with torch.inference_mode(False), torch.no_grad():
        parts = [_bytes(t) for t in chain(_weights(model), loose(model)) if t.numel()]
        sums: list[int] = []
        for device in dict.fromkeys(t.device for t in parts):
            here = [t for t in parts if t.device == device]
            small = [t for t in here if len(t) <= _SMALL]
            large = [t for t in here if len(t) > _SMALL]
            each = [one for t in ([torch.cat(small)] if small else []) + large for one in _sums(t)]
            sums += torch.stack(each).tolist()
        return tuple(sums)


def duplicate(model: nn.Module) -> nn.Module:
    """A copy of the model with weights of its own; tensors that were computed from others are copied as they are."""
    with torch.inference_mode(False), torch.no_grad():
        computed = {id(t): t.detach().clone() for t in loose(model) if not t.is_leaf}
        return copy.deepcopy(model, computed)


def _weights(model: nn.Module) -> chain[Tensor]:
    return chain(model.parameters(), model.buffers())


def _bytes(tensor: Tensor) -> Tensor:
    flat = tensor.detach()
    if flat.is_quantized:
        flat = flat.int_repr()
    if flat.layout is not torch.strided:
        flat = flat.to_dense()
    return flat.contiguous().reshape(-1).view(torch.uint8)


def _sums(data: Tensor) -> list[Tensor]:
    """The sums of the bits by rows and by columns, each one whole number of eight bytes."""
    rest = len(data) % 8
    if rest or data.storage_offset() % 8 or data.data_ptr() % 8:
        data = torch.cat([data, data.new_zeros((8 - rest) % 8)])
    numbers = data.view(torch.int64)
    wide = len(numbers) // _WIDE * _WIDE
    table, end = numbers[:wide].view(-1, _WIDE), numbers[wide:]
    return [_placed(end), _placed(table.sum(1)), _placed(table.sum(0))]


def _placed(numbers: Tensor) -> Tensor:
    """The sum of some numbers, each stirred together with its place; overflow wraps."""
    places = torch.arange(1, len(numbers) + 1, device=numbers.device, dtype=torch.int64)
    for factor in _FACTORS:
        numbers = (numbers + places) * factor
        numbers = numbers ^ (numbers >> 31)
    return numbers.sum()
