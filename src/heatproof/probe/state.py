"""The user's model is borrowed, never kept: every change to it is undone, also after an exception."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

Hook = Callable[[nn.Module, tuple[Any, ...], Any], Any]


class HeatproofWarning(UserWarning):
    """Something worth knowing that did not stop the work."""


def note(message: str) -> None:
    """Issues a `HeatproofWarning`."""
    warnings.warn(message, HeatproofWarning, stacklevel=3)


@contextmanager
def borrowed(model: nn.Module, hooks: Mapping[nn.Module, Hook] | None = None) -> Iterator[None]:
    """The model in evaluation mode, with the forward hooks, until the block ends.

    Flags are set one by one: a model's own ``train()`` may be overridden to do more than that.
    """
    training = [module for module in model.modules() if module.training]
    handles = []
    try:
        for module in training:
            module.training = False
        for module, hook in (hooks or {}).items():
            handles.append(module.register_forward_hook(hook))
        with torch.inference_mode(False), torch.no_grad():
            yield
    finally:
        for handle in handles:
            handle.remove()
        for module in training:
            module.training = True


def device_and_dtype(model: nn.Module) -> tuple[torch.device, torch.dtype]:
    """Where the model's first floating parameter or buffer lives, and its type; CPU and float32 without any."""
    for tensor in chain(model.parameters(), model.buffers()):
        if tensor.is_floating_point():
            return tensor.device, tensor.dtype
    return torch.device("cpu"), torch.float32


class SoftmaxWatch(TorchFunctionMode):
    """Remembers the last softmax and what went into it, whether a module or a function computed it.

    Attributes:
        last: the softmax and its input, or None where there was none.
    """

    def __init__(self) -> None:
        super().__init__()
        self.last: tuple[Tensor, Tensor] | None = None

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        if func in (F.softmax, torch.softmax, Tensor.softmax):
            self.last = (out, args[0] if args else (kwargs or {})["input"])
        return out
