"""A model from a user's own function or class, with weights from a local file; nothing is unpickled."""

from __future__ import annotations

import importlib
import importlib.util
import os
import pickle
import re
import warnings
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from heatproof.errors import FileError, UsageError

_STATES = ("state_dict", "model_state_dict", "model", "net", "network")  # where checkpoints keep their tensors


def resolve_factory(
    factory: str | Callable[[], nn.Module], *, weights: str | os.PathLike[str] | None = None
) -> nn.Module:
    """The model that a user's own function or class builds, in evaluation mode.

    ``factory`` is a callable or "package.module:name"; ``weights`` a .safetensors file or a state dict (.pt, .pth,
    .ckpt), which is read without unpickling objects.

    Raises: UsageError where there is no such factory or it returns no module; FileError for unfit weights.
    """
    make = _imported(factory) if isinstance(factory, str) else factory
    model = make()
    if not isinstance(model, nn.Module):
        raise UsageError(f"factory {factory!r} returned a {type(model).__name__}, expected a torch.nn.Module")
    if weights is not None:
        fill(model, Path(weights))
    return model.eval()


def factory_file(factory: str) -> Path | None:
    """The file with the code of a factory "package.module:name"; None for any other name."""
    module = factory.partition(":")[0] if re.fullmatch(r"[\w.]+:\w+", factory) else ""
    with suppress(ImportError, ValueError, AttributeError):
        spec = importlib.util.find_spec(module) if module else None
        return None if spec is None or not spec.has_location else Path(str(spec.origin))
    return None


def fill(model: nn.Module, weights: Path) -> None:
    """Give the model the weights in a .safetensors file, a state dict, or a checkpoint of Lightning.

    A prefix that all names of the network have in the file ("model.", "module.") is left out; what stands in the file
    beside them is not read.

    Raises: FileError where they are missing, damaged, unsafe, of another network, or of several that fit.
    """
    names = model.state_dict()
    state = state_dict(weights)
    versions = getattr(state, "_metadata", None)
    prefixes = fitting(state, names)
    if len(prefixes) > 1:
        listed = ", ".join(repr(prefix) for prefix in prefixes)
        raise FileError(f"{str(weights)!r} holds several networks that fit, under {listed}; save one of them alone")
    prefix = prefixes[0] if prefixes else ""
    if prefix:
        state = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
        start = prefix.removesuffix(".")
        versions = {
            key.removeprefix(start).removeprefix("."): value
            for key, value in (versions or {}).items()
            if f"{key}.".startswith(prefix)
        }
    try:
        try:
            if weights.suffix == ".safetensors" and not prefix:
                safetensors.torch.load_model(model, weights)
            else:
                model.load_state_dict(_versioned(state, versions))
        except ValueError:  # a module of several versions, and a file that does not say which: as the network is
            model.load_state_dict(_versioned(state, getattr(names, "_metadata", None)))
    except (RuntimeError, AttributeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise FileError(f"the weights in {str(weights)!r} do not fit the network: {reason}") from None


def state_dict(weights: Path, device: str = "cpu") -> dict[str, Tensor]:
    """The tensors in a file of weights, by name; nothing is unpickled. On the device "meta" only their shapes are read.

    Raises: FileError where they are missing, damaged or unsafe.
    """
    shown = repr(str(weights))
    try:
        if weights.suffix == ".safetensors" and device == "meta":
            with safetensors.safe_open(weights, framework="pt") as file:
                names = list(file.keys())
                return {name: torch.empty(file.get_slice(name).get_shape(), device="meta") for name in names}
        if weights.suffix == ".safetensors":
            return safetensors.torch.load_file(weights, device)
        with warnings.catch_warnings(action="ignore"):
            page = torch.load(weights, map_location=device, weights_only=True)
    except FileNotFoundError:
        raise FileError(f"no weights at {shown}") from None
    except safetensors.SafetensorError as error:
        raise FileError(f"{shown} is truncated or not a safetensors file ({error})") from None
    except pickle.UnpicklingError as error:
        raise FileError(f"{shown} {_unsafe(str(error))}") from None
    except Exception as error:  # torch.load raises EOFError, BadZipFile, RuntimeError ... for foreign files
        raise FileError(f"{shown} is not a plain state dict of tensors ({type(error).__name__})") from None
    return _tensors(page, shown)


def _versioned(state: Mapping[str, Tensor], versions: Any) -> dict[str, Tensor]:
    """The tensors with the versions of the modules that saved them, by which torch reads older ones."""
    versioned = OrderedDict(state)
    if isinstance(versions, Mapping):
        versioned._metadata = versions  # type: ignore[attr-defined]
    return versioned


def _unsafe(message: str) -> str:
    """Why a file is not unpickled, from torch's message."""
    name = re.search(r"(?:GLOBAL|global) ([\w.]+)", message)
    if name is None:
        return "is not a plain state dict of tensors (UnpicklingError)"
    where = "in its hyper_parameters perhaps" if "pytorch-lightning" in message else "beside its tensors"
    return (
        f"is not a plain state dict: it holds a pickled object ({name[1]}, {where}), which may run code when read and "
        "is never loaded; save the weights alone: torch.save(model.state_dict(), 'weights.pt')"
    )


def _tensors(page: Any, shown: str) -> dict[str, Tensor]:
    """The state dict that a file holds, itself or under one of the usual names."""
    versions = getattr(page, "_metadata", None)
    for _ in range(2):
        if isinstance(page, Mapping) and page and all(isinstance(value, Tensor) for value in page.values()):
            return _versioned({str(key): value for key, value in page.items()}, versions)
        if not isinstance(page, Mapping):
            break
        inner = next((page[key] for key in _STATES if isinstance(page.get(key), Mapping)), None)
        if inner is None:
            break
        versions = getattr(inner, "_metadata", None)
        page = {key: value for key, value in inner.items() if isinstance(value, (Tensor, Mapping))}
    held = ", ".join(map(str, list(page)[:4])) if isinstance(page, Mapping) else type(page).__name__
    raise FileError(f"{shown} is not a plain state dict of tensors; it holds {held or 'nothing'}")


def fitting(state: Mapping[str, Any], names: Mapping[str, Any]) -> list[str]:
    """The prefixes under which a file has every name of the network; ("",) before all others."""
    if not names or set(names) <= set(state):
        return [""]
    first = max(names, key=len)
    prefixes = sorted({key.removesuffix(first) for key in state if key.endswith(f".{first}")})
    return [prefix for prefix in prefixes if all(prefix + name in state for name in names)]


def _imported(name: str) -> Callable[[], Any]:
    module, colon, attribute = name.partition(":")
    if not (module and colon and attribute):
        raise UsageError(f"factory {name!r}: expected 'package.module:name'")
    try:
        make = getattr(importlib.import_module(module), attribute)
    except ImportError as error:
        raise UsageError(
            f"factory {name!r}: cannot import {module!r} ({error}); is it installed or on PYTHONPATH?"
        ) from None
    except AttributeError:
        raise UsageError(f"factory {name!r}: module {module!r} has no {attribute!r}") from None
    if not callable(make):
        raise UsageError(
            f"factory {name!r} is a {type(make).__name__}, expected a function or class that builds the model"
        )
    return cast(Callable[[], Any], make)
