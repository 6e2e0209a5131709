"""The tensor in what a layer returns: the thing itself, or the first one in a tuple, a list or a dictionary.

And where the gradient graph has it.
"""

from __future__ import annotations

import copy
from typing import Any, TypeAlias

from torch import Tensor

Place: TypeAlias = tuple[Any, int]


def end(out: Any) -> Tensor | None:
    """The first tensor in what a layer returned, or None.

    >>> import torch
    >>> end((torch.zeros(2), (torch.ones(1),))).shape
    torch.Size([2])
    """
    if isinstance(out, Tensor):
        return out
    parts = out.values() if isinstance(out, dict) else out if isinstance(out, (tuple, list)) else ()
    return next((tensor for part in parts if (tensor := end(part)) is not None), None)


def renewed(out: Any, tensor: Tensor) -> Any:
    """What a layer returned, with another tensor in the place of the first one."""
    if isinstance(out, Tensor):
        return tensor
    if isinstance(out, dict):
        key = next(key for key, part in out.items() if end(part) is not None)
        same = copy.copy(out)
        same[key] = renewed(out[key], tensor)
        return same
    index = next(i for i, part in enumerate(out) if end(part) is not None)
    parts = [renewed(part, tensor) if i == index else part for i, part in enumerate(out)]
    return type(out)(*parts) if hasattr(out, "_fields") else type(out)(parts)


def place(tensor: Tensor | None) -> Place | None:
    """Where the gradient graph has a tensor, by the node and which of its outputs it is; None where it has not."""
    return None if tensor is None or tensor.grad_fn is None else (tensor.grad_fn, tensor.output_nr)
