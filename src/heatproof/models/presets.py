"""The preprocessing that torchvision and timm declare for their networks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from heatproof.errors import UnknownName, UsageError
from heatproof.preprocessing import Fit, Interpolation, Preprocessing

_TORCHVISION: Mapping[str, Interpolation] = {
    "nearest": "nearest",
    "nearest-exact": "nearest",
    "bilinear": "bilinear",
    "bicubic": "bicubic",
    "lanczos": "lanczos",
    "box": "box",
    "hamming": "hamming",
}


def of_torchvision(presets: Mapping[str, Any], tag: str = "") -> tuple[Preprocessing, tuple[str, ...]]:
    """What the weights called ``tag`` expect, and other weights of the network that expect something else.

    ``presets`` maps the names of a network's weights to their transforms, the library's own choice under "DEFAULT".

    Raises: UnknownName for weights that the network does not have; UsageError for a transform that is not of images.
    """
    if tag and tag not in presets:
        raise UnknownName("weights", tag, presets)
    records = {name: _torchvision(preset, name) for name, preset in presets.items()}
    chosen = records[tag or "DEFAULT"]
    others = tuple(name for name, record in records.items() if record != chosen and name != "DEFAULT")
    named = next(name for name, record in records.items() if record == chosen and (name == tag or name != "DEFAULT"))
    return replace(chosen, origin=f"torchvision's weights {named}"), others


def _torchvision(preset: Any, name: str) -> Preprocessing:
    if type(preset).__name__ != "ImageClassification":
        raise UsageError(f"the weights {name} take {type(preset).__name__}, expected images of a classifier")
    resize, crop = tuple(preset.resize_size), tuple(preset.crop_size)
    return Preprocessing(
        fit="shorter" if len(resize) == 1 else "squash",
        resize=resize,
        crop=(crop[0], crop[-1]),
        interpolation=_TORCHVISION[preset.interpolation.value],
        mean=tuple(preset.mean),
        std=tuple(preset.std),
    )


def of_timm(config: Mapping[str, Any], name: str = "") -> Preprocessing:
    """What timm's data configuration says (``timm.data.resolve_model_data_config``).

    Raises: UsageError for a crop that is none of timm's, or one that draws borders.
    """
    mode = config.get("crop_mode", "center")
    if mode not in ("center", "squash"):
        raise UsageError(
            f"timm's preprocessing of {name or 'this network'} has crop_mode {mode!r}, expected center or squash; "
            "state the preprocessing yourself, as in 'imagenet:resize=256,crop=224'"
        )
    channels, height, width = config["input_size"]
    sides = tuple(math.floor(side / config["crop_pct"]) for side in (height, width))
    fit: Fit = "squash" if mode == "squash" else "shorter" if sides[0] == sides[1] else "cover"
    return Preprocessing(
        channels=channels,
        fit=fit,
        resize=sides[:1] if fit == "shorter" else sides,
        crop=(height, width),
        interpolation=_TORCHVISION[config["interpolation"]],
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        origin=f"timm's configuration of {name}" if name else "timm's configuration",
    )
