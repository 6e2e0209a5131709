"""The forms in which a model comes: wrapped, compiled, scripted, quantised; what follows for reading and copying it.

A compiled or data-parallel model is asked through the module inside. Layers keep the names that they have there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as modules

from heatproof.errors import InputError, LayerError

HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_INSIDE = ("_orig_mod", "module")


def is_compiled(module: nn.Module) -> bool:
    """Whether a module is what torch.compile returns, or was compiled in place."""
    return type(module).__module__.startswith("torch._dynamo") or _of(module, "_compiled_call_impl") is not None


def is_scripted(module: nn.Module) -> bool:
    """Whether a module is TorchScript: its inner layers run where no hook sees them."""
    return isinstance(module, torch.jit.ScriptModule)


def is_quantised(module: nn.Module) -> bool:
    """Whether a module computes with quantised weights, which have no gradient."""
    return ".quantized" in type(module).__module__


def unwrapped(model: nn.Module) -> nn.Module:
    """The module inside torch.compile, DataParallel and DistributedDataParallel; the model itself otherwise.

    Raises: InputError where the wrapper has hooks.
    """
    while type(model).__module__.startswith("torch._dynamo") or isinstance(
        model, (nn.DataParallel, nn.parallel.DistributedDataParallel)
    ):
        inside = next((m for name, m in model.named_children() if name in _INSIDE), None)
        if inside is None:
            break
        if any(getattr(model, hooks) for hooks in HOOKS):
            raise InputError(
                f"model: got a {type(model).__name__} with hooks of its own; register them on the module inside it"
            )
        model = inside
    return model


def plain_name(name: str) -> str:
    """A layer's name without the parts that wrappers add."""
    return ".".join(part for part in name.split(".") if part not in _INSIDE)


def resolved(model: nn.Module, layer: str | nn.Module) -> str | nn.Module:
    """The layer by the name it has in the model, whether or not the parts that wrappers add are in the name given."""
    if not isinstance(layer, str):
        return layer
    name, at, call = layer.partition("@")
    names = [other for other, _ in model.named_modules(remove_duplicate=False)]
    if name in names:
        return layer
    alike = [other for other in names if other and plain_name(other) == plain_name(name)]
    return alike[-1] + at + call if alike else layer


def opaque(model: nn.Module) -> str:
    """Why the layers inside a model cannot be read, or nothing."""
    if is_scripted(model):
        return ("the model is TorchScript, whose layers cannot be read; pass the model that it was made of, or use a "
                "method that needs no layer (occlusion, rise, saliency)")  # fmt: skip
    return ""


def check_opaque(model: nn.Module) -> None:
    """Nothing where layers can be read.

    Raises: LayerError.
    """
    if reason := opaque(model):
        raise LayerError(reason)


def gradient_obstacle(model: nn.Module) -> str:
    """What in the model has no gradient, in words that end a sentence; or nothing."""
    quantised = next((type(m).__name__ for m in model.modules() if is_quantised(m)), None)
    if quantised is not None:
        return f": its quantised layers ({quantised}) have none; pass the model as it was before quantisation"
    return ""


def obstacle(model: nn.Module) -> str:
    """Why no copy or traced graph of the model is to be trusted, or nothing.

    A hook may change what a layer returns, or count; what is parametrised, compiled, scripted, quantised or patched is
    more than its class and weights.
    """
    if any(getattr(modules, name) for name in _GLOBAL):
        return "a hook on all modules is set"
    for name, module in model.named_modules():
        what = type(module).__name__
        if is_scripted(module):
            return f"{name or 'the model'} is TorchScript"
        if any(getattr(module, hooks) for hooks in HOOKS):
            return f"{name or 'the model'} ({what}) has a hook"
        if "parametrizations" in module._modules:
            return f"{name or 'the model'} is parametrised"
        if is_compiled(module):
            return f"{name or 'the model'} is compiled"
        if is_quantised(module):
            return f"{name or 'the model'} ({what}) is quantised"
        if "forward" in vars(module):
            return f"{name or 'the model'} ({what}) has a replaced forward"
        if any(isinstance(v, nn.Module) for value in vars(module).values() for v in _elements(value)):
            return f"{name or 'the model'} ({what}) holds modules that are not registered"
    return ""


_GLOBAL = ("_global_forward_hooks", "_global_forward_pre_hooks", "_global_backward_hooks", "_global_backward_pre_hooks")


def global_hooks() -> tuple[int, ...]:
    """The numbers of the hooks that run for every module."""
    return tuple(chain.from_iterable(getattr(modules, name) for name in _GLOBAL))


def _elements(value: Any) -> Iterable[Any]:
    if isinstance(value, (list, tuple)):
        return value
    return (value,) if isinstance(value, nn.Module) else ()


def eagerly(compiled: bool) -> AbstractContextManager[Any]:
    """Compiled modules run as they were written, so that hooks see every layer."""
    if compiled:
        stance: AbstractContextManager[Any] = torch.compiler.set_stance("force_eager")
        return stance
    return nullcontext()


def check_values(model: nn.Module) -> None:
    """Nothing, where all weights are there.

    Raises: InputError for lazy layers that never ran, and for weights on the meta device.
    """
    if not any(torch.nn.parameter.is_lazy(tensor) or tensor.is_meta for tensor in tensors(list(model.modules()))):
        return
    for name, tensor in chain(model.named_parameters(), model.named_buffers()):
        if torch.nn.parameter.is_lazy(tensor):
            raise InputError(f"model: {name!r} of a lazy layer has no values yet; run model(x) once first")
        if tensor.is_meta:
            raise InputError(f"model: {name!r} is on the meta device and has no values; load the weights first")


def tensors(modules: Sequence[nn.Module]) -> list[Tensor]:
    """The parameters and buffers of modules, shared ones as often as they are held, without those of TorchScript."""
    tables = [vars(module) for module in modules if not is_scripted(module)]
    return [t for table in tables for name in ("_parameters", "_buffers") for t in table[name].values()
            if t is not None]  # fmt: skip


def _of(module: nn.Module, name: str) -> Any:
    return vars(module).get(name)
