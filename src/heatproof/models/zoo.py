"""Networks of torchvision and timm by name, with weights from a local file."""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from heatproof.errors import FileError, UnknownName, UsageError, first_line
from heatproof.models.card import Card, foreign
from heatproof.models.factory import fitting, resolve_factory, state_dict
from heatproof.models.presets import of_timm, of_torchvision
from heatproof.preprocessing import UNKNOWN, Preprocessing, read
from heatproof.probe.state import note
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


def settle_inputs(
    name: str, network: nn.Module, preprocessing: str | Mapping[str, Any] | Preprocessing | None, tag: str = ""
) -> None:
    """Have the network rescale its inputs, where torchvision's has that option (googlenet, inception_v3).

    torchvision sets it with its weights, whose preprocessing is ImageNet's; another scaling that is given by hand goes
    without. Where nothing settles it, a warning says how the network is read.
    """
    if not name.startswith("torchvision:") or getattr(network, "transform_input", None) is not False:
        return
    chosen = None if tag or preprocessing in (None, UNKNOWN) else read(preprocessing)
    usual = chosen is None or chosen.values == read("imagenet").values
    network.transform_input = usual  # type: ignore[assignment]
    last = [m for m in network.modules() if isinstance(m, nn.Linear)][-1]
    if not tag and not (usual and preprocessing != UNKNOWN and last.out_features == 1000):
        note(
            f"{name}: read with transform_input={usual}, as torchvision has it "
            f"{'with its ImageNet weights' if usual else 'without weights'}; where yours were trained with "
            f"{not usual}, build the network in a factory"
        )


def classes_in(name: str, weights: str | os.PathLike[str]) -> int | None:
    """How many classes weights for a network were trained on; None for as many as the library has, or unfit weights."""
    usual = build(name).state_dict()
    try:
        state = state_dict(Path(weights), "meta")
    except FileError:  # filling the network with them reports what is wrong
        return None
    prefix = next(iter(fitting(state, usual)), "")
    shapes = {key.removeprefix(prefix): tuple(value.shape) for key, value in state.items() if key.startswith(prefix)}
    sizes = [
        (shape[0], usual[key].shape[0])
        for key, shape in shapes.items()
        if key in usual and shape != tuple(usual[key].shape) and shape[1:] == tuple(usual[key].shape[1:])
    ]
    return sizes[0][0] if sizes and len(set(sizes)) == 1 else None


def card(name: str, network: nn.Module, tag: str = "", *, prepared: bool = False) -> Card:
    """The card of a network of a library, with the preprocessing that the library declares for its weights ``tag``.

    Without a tag those of the library's own choice are assumed, which a warning says where the network has weights that
    expect something else, or another number of classes. With ``prepared`` it is given by hand, and not looked for.

    Raises: UnknownName for a tag that the network does not have; UsageError for a preprocessing that is no image's.
    """
    last = [m for m in network.modules() if isinstance(m, (nn.Linear, nn.Conv2d))][-1]
    width = last.out_features if isinstance(last, nn.Linear) else last.out_channels
    usual: Any = getattr(network, "default_cfg", {})
    shape = usual.get("input_size", (3, None, None))
    held = getattr(network, "num_classes", None)
    count = held if isinstance(held, int) and held > 1 else width
    declared = None if prepared else _declared(name, tag)
    if declared is None:
        return foreign(Spec(name), shape, count)
    preprocessing, others = declared
    trained = usual.get("num_classes", 1000)
    if not tag and (others or count != trained):
        reason = f"weights such as {others[0]} expect another" if others else f"weights of {trained} classes expect it"
        note(
            f"{name}: images go through the preprocessing of {preprocessing.origin} ({preprocessing.geometry}; "
            f"{preprocessing.scaling}); {reason}. State another with preprocessing= or --preprocessing"
        )
    return replace(foreign(Spec(name), shape, count), preprocessing=preprocessing)


def tags(name: str) -> tuple[str, ...]:
    """The names of the weights that torchvision offers for a network; empty for networks of timm."""
    library, _, network = name.partition(":")
    if library == "timm":
        return ()
    return tuple(_library("torchvision.models").get_model_weights(network).__members__)


def _declared(name: str, tag: str) -> tuple[Preprocessing, tuple[str, ...]] | None:
    """The preprocessing of a network, and weights that expect another; None where the library declares none."""
    library, _, network = name.partition(":")
    if library == "torchvision":
        members = _library("torchvision.models").get_model_weights(network).__members__
        return of_torchvision({key: weights.transforms() for key, weights in members.items()}, tag) if members else None
    timm, data = _library("timm"), _library("timm.data")
    stem, dot, _ = network.partition(".")
    configs = {key: timm.get_pretrained_cfg(key) for key in timm.list_pretrained(f"{stem}.*")}
    records = {
        key: of_timm(data.resolve_data_config(pretrained_cfg=config.to_dict()), key)
        for key, config in configs.items()
        if config.crop_mode != "border"
    }
    config = timm.get_pretrained_cfg(network)
    if config is None:
        return None
    label = f"{stem}.{config.tag}" if config.tag else stem
    chosen = of_timm(data.resolve_data_config(pretrained_cfg=config.to_dict()), label)
    return chosen, () if dot else tuple(key for key, record in records.items() if record != chosen)


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
