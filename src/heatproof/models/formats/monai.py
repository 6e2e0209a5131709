"""Classifiers in bundles of MONAI: a network named in configs/inference.json, its weights a state dict."""

from __future__ import annotations

import importlib
import json
import re
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from heatproof.errors import FileError, UsageError, first_line
from heatproof.models.card import attach, foreign
from heatproof.models.factory import fill
from heatproof.probe.state import note
from heatproof.registry import Spec

CONFIG, METADATA, DEFINITION = "configs/inference.json", "configs/metadata.json", "network_def"
WEIGHTS = ("models/model.safetensors", "models/model.pt")
HOME = "monai.networks.nets"
_NAME = re.compile(r"(?:monai\.networks\.nets\.(?:\w+\.)?)?([A-Za-z]\w*)")


def load_bundle(path: Path) -> nn.Module:
    """The classifier in a bundle of MONAI, in evaluation mode, with its card.

    The network is built from ``network_def`` in configs/inference.json: a class of ``monai.networks.nets`` with plain
    options. Expressions ("$...") and other classes are refused; the bundle's own transforms are not applied, which a
    warning says. Class names come from configs/metadata.json.

    Raises: FileError for what is missing, damaged or refused; UsageError where MONAI is missing.
    """
    page = _page(path / CONFIG)
    definition = page.get(DEFINITION)
    if not isinstance(definition, Mapping) or "_target_" not in definition:
        raise FileError(f"{str(path / CONFIG)!r} has no {DEFINITION} with _target_, a class of {HOME}")
    target = str(definition["_target_"])
    options = {
        key: _plain(value, page, f"{DEFINITION}.{key}")
        for key, value in definition.items()
        if not (key.startswith("_") and key.endswith("_"))
    }
    weights = next((path / name for name in WEIGHTS if (path / name).is_file()), None)
    if weights is None:
        scripted = (path / "models" / "model.ts").is_file()
        also = "models/model.ts alone, which is a program," if scripted else "no weights"
        raise FileError(f"{str(path)!r} holds {also}; expected {' or '.join(WEIGHTS)}")
    network = _network(target, options)
    fill(network, weights)
    attach(network.eval(), _card(path, target, options, network))
    transforms = page.get("preprocessing")
    if transforms:
        names = re.findall(r'"_target_": "([^"]*)"', json.dumps(transforms))
        listed = ", ".join(name for name in names if name.rpartition(".")[2] != "Compose") or "its own"
        note(
            f"{path.name}: the bundle's transforms ({listed}) are not applied; give inputs that have been through them"
        )
    return network


def _page(file: Path) -> dict[str, Any]:
    try:
        page = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileError(f"{str(file)!r} is missing; a bundle of MONAI says there which network it holds") from None
    except (OSError, ValueError) as error:
        raise FileError(f"{str(file)!r} is truncated or not JSON ({first_line(error)})") from None
    if not isinstance(page, dict):
        raise FileError(f"{str(file)!r} holds a {type(page).__name__}, expected settings by name")
    return page


def _plain(value: Any, page: Mapping[str, Any], where: str, depth: int = 0) -> Any:
    """A plain value; "@name" is the plain value of that name at the top of the file.

    Raises: FileError for an expression, an object, or a name that leads nowhere.
    """
    if depth > 8:
        raise FileError(f"{CONFIG}: {where} is nested or refers without end; write the value out")
    if isinstance(value, str) and (value.startswith(("$", "%")) or "$@" in value):
        raise FileError(f"{CONFIG}: {where} is an expression ({value[:40]!r}), never evaluated; write its value")
    if isinstance(value, str) and value.startswith("@"):
        name = value[1:]
        if name not in page:
            raise FileError(f"{CONFIG}: {where} refers to {name!r}, not at the top of the file; write its value")
        return _plain(page[name], page, where, depth + 1)
    if isinstance(value, list):
        return [_plain(item, page, where, depth + 1) for item in value]
    if isinstance(value, Mapping):
        if "_target_" in value:
            raise FileError(f"{CONFIG}: {where} names {value['_target_']!r}; only plain options are taken")
        return {key: _plain(item, page, where, depth + 1) for key, item in value.items()}
    return value


def _network(target: str, options: Mapping[str, Any]) -> nn.Module:
    """A network of MONAI with random weights.

    Raises: FileError for anything else than a network of MONAI; UsageError where MONAI is missing.
    """
    name = _NAME.fullmatch(target)
    if name is None:
        raise FileError(f"{CONFIG}: {DEFINITION} names {target!r}, expected a class of {HOME}; refused")
    try:
        with warnings.catch_warnings(action="ignore"):
            networks = importlib.import_module("monai.networks.nets")
    except ImportError as error:
        raise UsageError(f"bundles of MONAI need monai ({error}); pip install 'heatproof[monai]'") from None
    build = getattr(networks, name[1], None)
    if not isinstance(build, type) or not issubclass(build, nn.Module) or not build.__module__.startswith(HOME):
        raise FileError(f"{CONFIG}: {DEFINITION} names {target!r}, which is no network of {HOME}; refused")
    if options.get("pretrained"):
        options = {**options, "pretrained": False}  # the bundle has the weights; nothing is fetched
    try:
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings(action="ignore"):
            return build(**options)
    except Exception as error:  # whatever a constructor makes of its options
        raise FileError(f"{CONFIG}: {name[1]} cannot be built with {dict(options)}: {first_line(error)}") from None


def _card(path: Path, target: str, options: Mapping[str, Any], network: nn.Module) -> Any:
    """What the bundle says of its inputs and classes."""
    data: Any = {}
    if (path / METADATA).is_file():
        data = _page(path / METADATA).get("network_data_format")
    inputs, outputs = (_entry(data, part) for part in ("inputs", "outputs"))
    last = [m for m in network.modules() if isinstance(m, (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d))][-1]
    count = next((options[key] for key in ("out_channels", "num_classes") if isinstance(options.get(key), int)), None)
    count = count or (last.out_features if isinstance(last, nn.Linear) else last.out_channels)
    channels = inputs.get("num_channels", options.get("in_channels", options.get("n_input_channels")))
    sizes = inputs.get("spatial_shape")
    rank = len(sizes) if isinstance(sizes, list) else options.get("spatial_dims")
    shape: tuple[int | None, ...] = ()
    if isinstance(channels, int) and isinstance(rank, int):
        lengths = sizes if isinstance(sizes, list) else [None] * rank
        shape = (channels, *(size if isinstance(size, int) else None for size in lengths))
    card = foreign(Spec(f"monai:{target.rpartition('.')[2]}"), shape, int(count))
    named = outputs.get("channel_def")
    names = _channel_names(named) if isinstance(named, Mapping) else ()
    return replace(card, classes=names) if len(set(names)) == count else card


def _channel_names(named: Mapping[Any, Any]) -> tuple[str, ...]:
    """The names of the outputs in their order.

    Raises: FileError for a number of an output that is none.
    """
    wrong = next((key for key in named if not str(key).strip().isdecimal()), None)
    if wrong is not None:
        raise FileError(f"{METADATA}: channel_def has the key {wrong!r}, expected the number of an output, such as '0'")
    return tuple(str(named[key]) for key in sorted(named, key=int))


def _entry(data: Any, part: str) -> Mapping[str, Any]:
    """The first input or output that the metadata describes."""
    entries = data.get(part) if isinstance(data, Mapping) else None
    first = next(iter(entries.values()), None) if isinstance(entries, Mapping) else None
    return first if isinstance(first, Mapping) else {}
