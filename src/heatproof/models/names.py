"""A model by whatever names it (a path, a factory, a network of a library), and a model as a file by its ending."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from torch import nn

from heatproof.errors import UsageError
from heatproof.models import zoo
from heatproof.models.card import attach, card_of, rename
from heatproof.models.factory import resolve_factory
from heatproof.models.folder import load
from heatproof.models.formats.keras import save_keras
from heatproof.models.formats.onnx import save_onnx
from heatproof.models.formats.pt2 import save_exported


def model(name: str, *, weights: str | os.PathLike[str] | None = None, classes: Sequence[str] = ()) -> nn.Module:
    """The model that ``name`` means, in evaluation mode, its outputs called ``classes`` in their order.

    A name is a path that `heatproof.load` reads; "package.module:factory", with ``weights`` or without; or
    "torchvision:resnet18", "timm:resnet18" or just "resnet18", with ``weights``, whose shapes
    decide how many classes there are.

    Raises: UsageError, UnknownName, FileError.
    """
    network = _resolved(name, weights)
    if classes:
        rename(network, classes)
    return network


def _resolved(name: str, weights: str | os.PathLike[str] | None) -> nn.Module:
    if not Path(name).exists():
        library = zoo.library_of(name)
        if library is not None:
            return _network(f"{library}:{name.rpartition(':')[2]}", weights)
        if re.fullmatch(r"[\w.]+:\w+", name):
            return resolve_factory(name, weights=weights)
    if weights is not None:
        raise UsageError(
            f"got --weights, but --model {name!r} is neither package.module:factory "
            "nor a network of torchvision or timm"
        )
    return load(name)


def _network(name: str, weights: str | os.PathLike[str] | None) -> nn.Module:
    if weights is None:
        raise UsageError(f"{name} is untrained without weights; pass a local file of them with --weights")
    network = zoo.build(name, weights=weights, classes=zoo.classes_in(name, weights))
    attach(network, zoo.card(name, network))
    return network


WRITERS = {
    ".keras": save_keras,
    ".h5": save_keras,
    ".onnx": save_onnx,
    ".pt2": save_exported,
}


def write(network: nn.Module, path: str | os.PathLike[str], input_shape: Sequence[int] = ()) -> Path:
    """The path of a file that predicts what the model predicts: .keras, .h5, .onnx or .pt2, by its ending.

    ``input_shape`` is that of one sample, (C, *S); where empty, what the model's card says.

    Raises: UsageError for another ending, a model that cannot be exported, or one whose input shape is unknown;
        FileError where the place cannot be written.
    """
    path, card = Path(path), card_of(network)
    if path.suffix not in WRITERS:
        raise UsageError(f"got {path.name!r}, expected a name that ends in {', '.join(WRITERS)}")
    recorded = [size or 0 for size in card.input_shape] if card is not None else []
    shape = tuple(input_shape) or tuple(recorded)
    if not shape or min(shape) < 1:
        raise UsageError(
            "the model does not record the shape of its input; pass it, channels first, as in --shape 3,224,224"
        )
    return WRITERS[path.suffix](network, path, shape)
