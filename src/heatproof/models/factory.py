"""A model from a user's own function or class, with weights from a local file; nothing is unpickled."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import safetensors
import safetensors.torch
import torch
from torch import nn

from heatproof.errors import FileError, UsageError


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


def fill(model: nn.Module, weights: Path) -> None:
    """Give the model the weights in a .safetensors file or a state dict.

    Raises: FileError where they are missing, damaged, unsafe or of another network.
    """
    try:
        if weights.suffix == ".safetensors":
            safetensors.torch.load_model(model, weights)
        else:
            state = torch.load(weights, map_location="cpu", weights_only=True)
            model.load_state_dict(state.get("state_dict", state))
    except FileNotFoundError:
        raise FileError(f"no weights at {str(weights)!r}") from None
    except safetensors.SafetensorError as error:
        raise FileError(f"{str(weights)!r} is truncated or not a safetensors file ({error})") from None
    except (RuntimeError, AttributeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise FileError(f"the weights in {str(weights)!r} do not fit the network: {reason}") from None
    except Exception as error:  # torch.load raises UnpicklingError, EOFError, BadZipFile ... for foreign files
        raise FileError(f"{str(weights)!r} is not a plain state dict of tensors ({type(error).__name__})") from None


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
