"""Models on disk: weights as safetensors beside a JSON card that says how to build the network; never a pickle."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import nn

from heatproof.errors import FileError, UsageError
from heatproof.files import writing
from heatproof.fingerprint import file_digest
from heatproof.models.card import CARD, FORMAT, WEIGHTS, Card, attach, card_of, prepare, read_card, rename
from heatproof.models.factory import fill, resolve_factory
from heatproof.nets import build, nets
from heatproof.preprocessing import UNKNOWN, Preprocessing, read


def _keras(path: Path) -> nn.Module:
    from heatproof.models.formats.keras import load_keras

    return load_keras(path)


def _exported(path: Path) -> nn.Module:
    from heatproof.models.formats.pt2 import load_exported

    return load_exported(path)


# A format is loaded with its first file: most programs read none.
READERS: Mapping[str, Callable[[Path], nn.Module]] = {
    ".h5": _keras,
    ".hdf5": _keras,
    ".keras": _keras,
    ".pt2": _exported,
}
# What a folder of another library is called in a name, and the file that tells it.
FOLDERS: Mapping[str, str] = {"hf": "config.json", "monai": "configs/inference.json"}
_WEIGHTS = (".safetensors", ".pt", ".pth", ".ckpt")
_RESULTS = "results.json"


def save(model: nn.Module, folder: str | os.PathLike[str], card: Card | None = None) -> Path:
    """The folder, now holding the model's weights and its card; each file appears whole or not at all.

    Raises: UsageError without a card (models that heatproof trained or loaded carry their own), FileError where the
        folder cannot be written.
    """
    card = card or card_of(model)
    if card is None:
        raise UsageError("this model has no card; pass card=Card(architecture, input_shape, classes)")
    folder = Path(folder)
    with writing(folder / WEIGHTS) as part:
        safetensors.torch.save_model(model, str(part))
    fields = asdict(card)
    fields["architecture"] = {"name": card.architecture.name, "options": card.architecture.kwargs}
    page = {"heatproof": "model", "format": FORMAT, "weights": file_digest(folder / WEIGHTS), **fields}
    with writing(folder / CARD) as part:
        part.write_text(json.dumps(page, indent=2, default=str) + "\n", encoding="utf-8")
    return folder


def load(
    path: str | os.PathLike[str],
    *,
    factory: str | Callable[[], nn.Module] | None = None,
    classes: Sequence[str] = (),
    preprocessing: str | Mapping[str, Any] | Preprocessing | None = None,
) -> nn.Module:
    """The model at ``path``, in evaluation mode, with its card as ``.card``.

    A model is a folder that `save` wrote, either of its two files, the folder of a run, a folder of Hugging Face
    (config.json and model.safetensors; "hf:FOLDER"), a bundle of MONAI ("monai:FOLDER"), a Keras file (.h5, .keras) or
    an exported program (.pt2). Bare weights (.safetensors, .pt, .ckpt) need ``factory``, a callable or
    "package.module:name" that builds the network. ``classes`` names the model's outputs in their order;
    ``preprocessing`` replaces what the card says of its inputs ("none": nothing).

    Raises: FileError where nothing is there, or it is truncated, foreign or of a newer format; UsageError for the
        results of a study, or where there are more or fewer names than outputs.
    """
    if preprocessing is not None and preprocessing != UNKNOWN:
        preprocessing = read(preprocessing)
    model = _load(path, factory, prepared=preprocessing is not None)
    if preprocessing is not None:
        prepare(model, preprocessing)
    if classes:
        rename(model, classes)
    return model


def place(name: str | os.PathLike[str]) -> tuple[str, Path]:
    """The form that a name such as ``hf:FOLDER`` states, or "", and the path."""
    form, colon, path = str(name).partition(":")
    return (form, Path(path)) if colon and form in FOLDERS and not Path(name).exists() else ("", Path(name))


def _load(name: str | os.PathLike[str], factory: str | Callable[[], nn.Module] | None, *, prepared: bool) -> nn.Module:
    form, path = place(name)
    if not path.exists():
        raise FileError(f"nothing at {str(path)!r}; expected a model folder or a model file")
    if path.is_dir():
        return _load_folder(path, factory, form, prepared=prepared)
    if form:
        raise FileError(f"{str(path)!r} is a file; {form}: takes a folder")
    if path.suffix in READERS:
        return READERS[path.suffix](path)
    if path.name == CARD or (path.suffix == ".safetensors" and (path.parent / CARD).exists() and factory is None):
        return _load_model(path.parent, factory)
    if path.suffix in _WEIGHTS:
        if factory is None:
            raise FileError(
                f"{str(path)!r} holds weights without a network; pass factory='package.module:name' as well"
            )
        return resolve_factory(factory, weights=path)
    endings = ", ".join(sorted([".safetensors", *READERS]))
    raise FileError(f"{str(path)!r} is not a model; expected a folder or a file that ends in {endings}")


def _load_folder(
    folder: Path, factory: str | Callable[[], nn.Module] | None, form: str = "", *, prepared: bool = False
) -> nn.Module:
    if (folder / _RESULTS).exists():
        raise UsageError(
            f"{str(folder)!r} holds the results of a study, expected a model; "
            "give the run's folder, or read the results with heatproof.load"
        )
    for inner in (folder, folder / "model"):
        if not form and (inner / CARD).exists():
            return _load_model(inner, factory)
    if factory is None:
        form = form or next((name for name, file in FOLDERS.items() if (folder / file).is_file()), "")
        if form:
            return _elsewhere(folder, form, prepared=prepared)
    for inner in (folder, folder / "model"):
        if (inner / WEIGHTS).exists():
            return _load_model(inner, factory)
    raise FileError(
        f"{str(folder)!r} holds no model; expected {CARD} and {WEIGHTS} in it or in its folder 'model', "
        f"or {' or '.join(FOLDERS.values())}"
    )


def _elsewhere(folder: Path, form: str, *, prepared: bool) -> nn.Module:
    """The model in a folder of Hugging Face or MONAI."""
    if form == "hf":
        from heatproof.models.formats.hf import load_folder

        return load_folder(folder, prepared=prepared)
    from heatproof.models.formats.monai import load_bundle

    return load_bundle(folder)


def _load_model(folder: Path, factory: str | Callable[[], nn.Module] | None) -> nn.Module:
    card, digest = read_card(folder / CARD)
    weights = folder / WEIGHTS
    if not weights.exists():
        raise FileError(f"{str(weights)!r} is missing; the card beside it needs it")
    if digest != file_digest(weights):
        raise FileError(f"{str(weights)!r} is truncated or was changed: it is not the file its card was written for")
    if factory is not None:
        model = resolve_factory(factory, weights=weights)
    elif card.architecture.name in nets:
        try:
            with torch.random.fork_rng(devices=[]):
                model = build(card.architecture)
        except UsageError as error:
            raise FileError(f"{str(folder / CARD)!r} does not describe a network of this version: {error}") from None
        fill(model, weights)
    else:
        raise FileError(
            f"{str(folder)!r} holds a network heatproof cannot build ({card.architecture.name}); "
            "pass factory='package.module:name'"
        )
    attach(model, card)
    return model.eval()
