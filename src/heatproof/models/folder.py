"""Models on disk: weights as safetensors beside a JSON card that tells how to build the network; never a pickle."""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import safetensors
import safetensors.torch
import torch
from torch import nn

from heatproof.errors import FileError, UsageError
from heatproof.files import writing
from heatproof.fingerprint import file_digest as _digest
from heatproof.models.card import CARD, FORMAT, WEIGHTS, Card, attach, card_of, read_card, rename
from heatproof.nets import build, nets

if TYPE_CHECKING:
    from heatproof.results.record import Results

# Other files hp.load understands, and who reads them.
_READERS = {
    ".h5": "heatproof.models.formats.keras:load_keras",
    ".hdf5": "heatproof.models.formats.keras:load_keras",
    ".keras": "heatproof.models.formats.keras:load_keras",
    ".pt2": "heatproof.models.formats.pt2:load_exported",
}
_STATES = (".pt", ".pth", ".ckpt")


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
    page = {"heatproof": "model", "format": FORMAT, "weights": _digest(folder / WEIGHTS), **fields}
    with writing(folder / CARD) as part:
        part.write_text(json.dumps(page, indent=2, default=str) + "\n", encoding="utf-8")
    return folder


def load(
    path: str | os.PathLike[str],
    *,
    factory: str | Callable[[], nn.Module] | None = None,
    classes: Sequence[str] = (),
) -> nn.Module | Results:
    """The model (evaluation mode, its card as ``.card``) or the study's Results that lie at ``path``.

    A model is a folder that `save` wrote, either of its two files, the folder of a run, a Keras file (.h5, .keras) or
    an exported program (.pt2). Bare weights (.safetensors, .pt) need ``factory``, a callable or "package.module:name"
    that builds the network. ``classes`` names the model's outputs in their order. Results are a folder with
    ``results.json``.

    Raises: FileError where nothing is there, or it is truncated, foreign or of a newer format; UsageError where there
        are more or fewer names than outputs.
    """
    found = _load(Path(path), factory)
    if classes and isinstance(found, nn.Module):
        rename(found, classes)
    return found


def _load(path: Path, factory: str | Callable[[], nn.Module] | None) -> nn.Module | Results:
    if not path.exists():
        raise FileError(f"nothing at {str(path)!r}; expected a model folder, a model file or the folder of a study")
    if path.is_dir():
        return _load_folder(path, factory)
    if path.suffix in _READERS:
        return cast(nn.Module, _resolve(_READERS[path.suffix], path)(path))
    if path.name == CARD or (path.suffix == ".safetensors" and (path.parent / CARD).exists() and factory is None):
        return _load_model(path.parent, factory)
    if path.suffix in (".safetensors", *_STATES):
        if factory is None:
            raise FileError(
                f"{str(path)!r} holds weights without a network; pass factory='package.module:name' as well"
            )
        return resolve_factory(factory, weights=path)
    raise FileError(f"{str(path)!r} is not a model; expected a folder, .safetensors, {', '.join(sorted(_READERS))}")


def resolve_factory(
    factory: str | Callable[[], nn.Module], *, weights: str | os.PathLike[str] | None = None
) -> nn.Module:
    """The model a user's own function or class builds, in evaluation mode, with weights from a file if given.

    ``factory`` is a callable or "package.module:name"; ``weights`` a .safetensors file or a state dict (.pt, .pth,
    .ckpt), which is read without unpickling objects.

    Raises: UsageError where there is no such factory or it gives no module; FileError for unfit weights.
    """
    make = _imported(factory) if isinstance(factory, str) else factory
    model = make()
    if not isinstance(model, nn.Module):
        raise UsageError(f"factory {factory!r} gave a {type(model).__name__}, expected a torch.nn.Module")
    if weights is not None:
        _fill(model, Path(weights))
    return model.eval()


def _load_folder(folder: Path, factory: str | Callable[[], nn.Module] | None) -> nn.Module | Results:
    if (folder / "results.json").exists():
        return cast("Results", importlib.import_module("heatproof.results.storage").load(folder))
    for place in (folder, folder / "model"):
        if (place / CARD).exists() or (place / WEIGHTS).exists():
            return _load_model(place, factory)
    raise FileError(
        f"{str(folder)!r} holds neither a model ({CARD}, {WEIGHTS}) nor the results of a study (results.json)"
    )


def _load_model(folder: Path, factory: str | Callable[[], nn.Module] | None) -> nn.Module:
    card, digest = read_card(folder / CARD)
    weights = folder / WEIGHTS
    if not weights.exists():
        raise FileError(f"{str(weights)!r} is missing; the card beside it is no use alone")
    if digest != _digest(weights):
        raise FileError(f"{str(weights)!r} is truncated or was changed: it is not the file its card was written for")
    if factory is not None:
        model = resolve_factory(factory, weights=weights)
    elif card.architecture.name in nets:
        try:
            with torch.random.fork_rng(devices=[]):
                model = build(card.architecture)
        except UsageError as error:
            raise FileError(f"{str(folder / CARD)!r} does not describe a network of this version: {error}") from None
        _fill(model, weights)
    else:
        raise FileError(
            f"{str(folder)!r} holds a network heatproof cannot build ({card.architecture.name}); "
            "pass factory='package.module:name'"
        )
    attach(model, card)
    return model.eval()


def _fill(model: nn.Module, weights: Path) -> None:
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


def _resolve(reader: str, path: Path) -> Callable[[Path], Any]:
    module, _, function = reader.partition(":")
    try:
        return cast(Callable[[Path], Any], getattr(importlib.import_module(module), function))
    except ImportError as error:
        raise FileError(f"cannot read {path.suffix} files such as {str(path)!r} here: {error}") from error
