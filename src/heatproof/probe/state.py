"""The user's model is borrowed, never kept: every change to it is undone, also after an exception."""

from __future__ import annotations

import threading
import warnings
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from typing import Any, TypeVar

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from heatproof.probe.forms import eagerly
from heatproof.probe.possession import Possession, Sites

Hook = Callable[[nn.Module, tuple[Any, ...], Any], Any]
Ground = tuple[list[nn.Module], Sites]
C = TypeVar("C", bound=type)


class HeatproofWarning(UserWarning):
    """Something worth knowing that did not stop the work."""


def note(message: str) -> None:
    """Issues a `HeatproofWarning`."""
    warnings.warn(message, HeatproofWarning, stacklevel=3)


_locks: weakref.WeakKeyDictionary[nn.Module, Any] = weakref.WeakKeyDictionary()
_opening = threading.Lock()


def _lock_of(model: nn.Module) -> Any:
    """Held for a pass through the model: two threads at once would see each other's hooks and flags."""
    lock = _locks.get(model)
    if lock is None:
        with _opening:
            lock = _locks.setdefault(model, threading.RLock())
    return lock


@contextmanager
def borrowed(
    model: nn.Module, hooks: Mapping[nn.Module, Hook] | None = None, ground: Ground | None = None
) -> Iterator[None]:
    """The model in evaluation mode, with the forward hooks, until the block ends; one thread at a time.

    What a pass leaves behind on the modules (caches, counters, flags), in small buffers, in the hooks and in the state
    of torch's random numbers is put back. ``ground`` saves a look over all modules.
    """
    with _lock_of(model):
        if ground is None:
            modules = list(model.modules())
            ground = modules, Sites.of(modules)
        modules, sites = ground
        possession = Possession(modules, sites)
        hooks = hooks or {}
        try:
            possession.evaluate()
            for module, hook in hooks.items():
                hook_onto(module, hook)
            with torch.inference_mode(False), torch.no_grad(), eagerly(sites.compiled):
                yield
        finally:
            for module, hook in hooks.items():
                unhook(module, hook)
            possession.give_back()


def hook_onto(module: nn.Module, hook: Hook) -> None:
    """Adds a forward hook; TorchScript's own method for that refuses, but the hooks do run."""
    module._forward_hooks[RemovableHandle(module._forward_hooks).id] = hook


def unhook(module: nn.Module, hook: Hook) -> None:
    """Takes a forward hook away, whether or not it was added."""
    for key in [key for key, other in module._forward_hooks.items() if other is hook]:
        del module._forward_hooks[key]


def device_and_dtype(model: nn.Module) -> tuple[torch.device, torch.dtype]:
    """Where the model's first floating parameter or buffer lives, and its type; CPU and float32 without any."""
    for tensor in chain(model.parameters(), model.buffers()):
        if tensor.is_floating_point():
            return tensor.device, tensor.dtype
    return torch.device("cpu"), torch.float32


class _Weak:
    """An attribute of a record that holds its object weakly."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, record: Any, owner: Any = None) -> Any:
        if record is None:
            raise AttributeError(self.name)
        thing = vars(record)[self.name]()
        if thing is None:
            raise ReferenceError(f"the {self.name} of a {type(record).__name__} is gone")
        return thing

    def __set__(self, record: Any, value: Any) -> None:
        vars(record)[self.name] = weakref.ref(value)


def holding_weakly(name: str) -> Callable[[C], C]:
    """A decorator: records of the class keep the attribute's object alive no longer than others do."""

    def decorate(cls: C) -> C:
        setattr(cls, name, _Weak(name))
        return cls

    return decorate
