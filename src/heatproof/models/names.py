"""A model by whatever names it (a path, a function of one's own, a network of a library), and the way out by ending."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from torch import nn

from heatproof.errors import UsageError
from heatproof.models import zoo
from heatproof.models.card import attach, card_of, rename
from heatproof.models.folder import load, resolve_factory
from heatproof.models.formats import export
from heatproof.models.formats import pt2 as exported


def model(name: str, *, weights: str | os.PathLike[str] | None = None, classes: Sequence[str] = ()) -> nn.Module:
    """The model that ``name`` means, in evaluation mode, its outputs called ``classes`` in their order.

    A name is a path that `heatproof.load` reads; "package.module:factory", with ``weights`` or without; or
    "torchvision:resnet18", "timm:resnet18" or just "resnet18", with ``weights``, which also tell how many classes
    there are.

    Raises: UsageError, UnknownName, FileError.
    """
    found = _found(name, weights)
    if classes:
        rename(found, classes)
    return found


def _found(name: str, weights: str | os.PathLike[str] | None) -> nn.Module:
    if not Path(name).exists():
        library = zoo.library_of(name)
        if library is not None:
            return _network(f"{library}:{name.rpartition(':')[2]}", weights)
        if re.fullmatch(r"[\w.]+:\w+", name):
            return resolve_factory(name, weights=weights)
    if weights is not None:
        raise UsageError(
            f"got --weights, but --model {name!r} is not package.module:factory nor a network of torchvision or timm"
        )
    found = load(name)
    if not isinstance(found, nn.Module):
        raise UsageError(f"{name!r} holds the results of a study, expected a model; give the run's folder")
    return found


def _network(name: str, weights: str | os.PathLike[str] | None) -> nn.Module:
    if weights is None:
        raise UsageError(f"{name} is untrained without weights; give a local file of them with --weights")
    found = zoo.build(name, weights=weights, classes=zoo.classes_in(name, weights))
    attach(found, zoo.card(name, found))
    return found


WRITERS = {
    ".keras": export.to_keras,
    ".h5": export.to_keras,
    ".onnx": export.to_onnx,
    ".pt2": exported.save_exported,
}


def write(given: nn.Module, path: str | os.PathLike[str], input_shape: Sequence[int] = ()) -> Path:
    """The path of a file that predicts what the model predicts: .keras, .h5, .onnx or .pt2, by its ending.

    ``input_shape`` is that of one sample, (C, *S); where empty, what the model's card says.

    Raises: UsageError for another ending, a model that cannot be exported, or one of unknown input; FileError where the
        place cannot be written.
    """
    path, card = Path(path), card_of(given)
    if path.suffix not in WRITERS:
        raise UsageError(f"got {path.name!r}, expected a name that ends in {', '.join(WRITERS)}")
    known = [size or 0 for size in card.input_shape] if card is not None else []
    shape = tuple(input_shape) or tuple(known)
    if not shape or min(shape) < 1:
        raise UsageError(
            "the model does not tell the shape of its input; give it, channels first, as 3,224,224 (--shape)"
        )
    return WRITERS[path.suffix](given, path, shape)
