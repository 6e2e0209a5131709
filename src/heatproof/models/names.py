"""A model by whatever names it (a path, a factory, a network of a library), and a model as a file by its ending."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from heatproof.errors import UsageError
from heatproof.models import zoo
from heatproof.models.card import attach, card_of, prepare, rename
from heatproof.models.factory import resolve_factory
from heatproof.models.folder import load, place
from heatproof.models.formats.keras import save_keras
from heatproof.models.formats.onnx import save_onnx
from heatproof.models.formats.pt2 import save_exported
from heatproof.preprocessing import Preprocessing


def model(
    name: str,
    *,
    weights: str | os.PathLike[str] | None = None,
    classes: Sequence[str] = (),
    preprocessing: str | Mapping[str, Any] | Preprocessing | None = None,
) -> nn.Module:
    """The model that ``name`` means, in evaluation mode, its outputs called ``classes`` in their order.

    A name is a path that `heatproof.load` reads, or "hf:FOLDER", "monai:FOLDER"; "package.module:factory", with
    ``weights`` or without; or "torchvision:resnet18", "timm:resnet18" or just "resnet18", with ``weights``, whose
    shapes decide how many classes there are. ``preprocessing`` is what images go through, where the model does not say
    it: "imagenet:resize=256,crop=224", say, "none", or the name of torchvision's weights, such as IMAGENET1K_V1.

    Raises: UsageError, UnknownName, FileError.
    """
    if not Path(name).exists() and not place(name)[0]:
        network, chosen = _network(name, weights, preprocessing)
    elif weights is not None:
        raise UsageError(
            f"got --weights, but --model {name!r} is neither package.module:factory "
            "nor a network of torchvision or timm"
        )
    else:
        return load(name, classes=classes, preprocessing=preprocessing)
    if chosen is not None:
        prepare(network, chosen)
    if classes:
        rename(network, classes)
    return network


def _network(
    name: str,
    weights: str | os.PathLike[str] | None,
    preprocessing: str | Mapping[str, Any] | Preprocessing | None,
) -> tuple[nn.Module, str | Mapping[str, Any] | Preprocessing | None]:
    """The network of a library or a factory, and the preprocessing that is still to be put on its card."""
    library = zoo.library_of(name)
    if library is None:
        if re.fullmatch(r"[\w.]+:\w+", name):
            return resolve_factory(name, weights=weights), preprocessing
        if weights is not None:
            raise UsageError(
                f"got --weights, but --model {name!r} is neither package.module:factory "
                "nor a network of torchvision or timm"
            )
        return load(name, preprocessing=preprocessing), None
    name = f"{library}:{name.rpartition(':')[2]}"
    if weights is None:
        raise UsageError(f"{name} is untrained without weights; pass a local file of them with --weights")
    network = zoo.build(name, weights=weights, classes=zoo.classes_in(name, weights))
    tag = preprocessing if isinstance(preprocessing, str) and preprocessing in zoo.tags(name) else ""
    zoo.settle_inputs(name, network, preprocessing, tag)
    attach(network, zoo.card(name, network, tag, prepared=preprocessing is not None and not tag))
    return network, None if tag else preprocessing


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
