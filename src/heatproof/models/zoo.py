"""Networks of torchvision and timm by name, with weights from a local file."""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import safetensors
import torch
from torch import nn

from heatproof.errors import UnknownName, UsageError, first_line
from heatproof.models.card import Card, foreign
from heatproof.models.factory import resolve_factory
from heatproof.registry import Spec

_LIBRARIES = ("timm", "torchvision")


def build(name: str, *, weights: str | os.PathLike[str] | None = None, classes: int | None = None) -> nn.Module:
    """A network written ``torchvision:resnet18`` or ``timm:resnet18``, in evaluation mode; nothing is downloaded.

    ``weights`` is a .safetensors file or a plain state dict (.pt, .pth) for exactly that network with that number of
    ``classes`` (the library's own, 1000 for most, where None). Without weights the network starts at random.

    Raises: UnknownName with the near names; UsageError where the library is missing; FileError for unfit weights.
    """
    library, colon, network = name.partition(":")
    if not colon or not network:
        raise UsageError(f"got network {name!r}, expected library:name such as 'torchvision:resnet18'")
    if classes is not None and classes < 1:
        raise UsageError(f"got classes={classes}, expected at least 1")
    if library not in _LIBRARIES:
        raise UnknownName("library of networks", library, _LIBRARIES)
    make = (_torchvision if library == "torchvision" else _timm)(network, classes)
    with torch.random.fork_rng(devices=[]):
        return resolve_factory(make, weights=None if weights is None else Path(weights))


def names(library: str) -> list[str]:
    """The classifiers a library offers.

    Raises: UnknownName, UsageError.
    """
    if library not in _LIBRARIES:
        raise UnknownName("library of networks", library, _LIBRARIES)
    if library == "timm":
        return sorted(_library("timm").list_models())
    models = _library("torchvision.models")
    return sorted(models.list_models(module=models))


def library_of(name: str) -> str | None:
    """The library that a name such as ``timm:resnet18`` or ``resnet18`` means; None for a name of anything else."""
    library, colon, network = name.rpartition(":")
    if colon:
        return library if library in _LIBRARIES else None
    if not re.fullmatch(r"[a-z]\w*(\.\w+)?", network):
        return None
    for offered in reversed(_LIBRARIES):
        with suppress(UsageError):
            if network.partition(".")[0] in names(offered):
                return offered
    return None


def classes_in(name: str, weights: str | os.PathLike[str]) -> int | None:
    """How many classes weights for a network were trained on; None for as many as the library has, or unfit weights."""
    shapes, usual = _shapes(Path(weights)), build(name).state_dict()
    sizes = [
        (shape[0], usual[key].shape[0])
        for key, shape in shapes.items()
        if key in usual and shape != tuple(usual[key].shape) and shape[1:] == tuple(usual[key].shape[1:])
    ]
    return sizes[0][0] if sizes and len(set(sizes)) == 1 else None


def card(name: str, network: nn.Module) -> Card:
    """The card of a network of a library; torchvision's take images of almost any size."""
    last = [m for m in network.modules() if isinstance(m, (nn.Linear, nn.Conv2d))][-1]
    width = last.out_features if isinstance(last, nn.Linear) else last.out_channels
    usual: Any = getattr(network, "default_cfg", {})
    shape = usual.get("input_size", (3, None, None))
    count = getattr(network, "num_classes", None)
    return foreign(Spec(name), shape, count if isinstance(count, int) and count > 1 else width)


def _shapes(weights: Path) -> dict[str, tuple[int, ...]]:
    try:
        if weights.suffix == ".safetensors":
            with safetensors.safe_open(weights, framework="pt") as file:
                return {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
        state = torch.load(weights, map_location="meta", weights_only=True)
        return {key: tuple(value.shape) for key, value in state.get("state_dict", state).items()}
    except Exception:  # filling the network with them reports what is wrong
        return {}


def _library(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise UsageError(f"these networks need {error.name}; pip install {error.name}") from None


def _torchvision(network: str, classes: int | None) -> Callable[[], nn.Module]:
    offered = names("torchvision")
    if network not in offered:
        raise UnknownName("network of torchvision", network, offered)
    return lambda: _instance("torchvision.models", "get_model", network, classes, {"weights": None})


def _timm(network: str, classes: int | None) -> Callable[[], nn.Module]:
    offered = names("timm")
    if network.partition(".")[0] not in offered:
        raise UnknownName("network of timm", network, offered)
    return lambda: _instance("timm", "create_model", network, classes, {"pretrained": False})


def _instance(module: str, function: str, network: str, classes: int | None, options: dict[str, Any]) -> nn.Module:
    settings = options if classes is None else {**options, "num_classes": classes}
    try:
        built: nn.Module = getattr(_library(module), function)(network, **settings)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UsageError(f"{network!r} cannot be built: {first_line(error)}") from error
    return built
