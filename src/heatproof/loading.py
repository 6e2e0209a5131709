"""Models on disk: weights as safetensors beside a JSON card that tells how to build the network; never a pickle."""

from __future__ import annotations

import errno
import hashlib
import importlib
import json
import os
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, cast

import safetensors
import safetensors.torch
import torch
from torch import nn

import heatproof
from heatproof.errors import FileError, UsageError
from heatproof.nets import build, nets
from heatproof.registry import Spec

if TYPE_CHECKING:
    from heatproof.studying import Results

FORMAT = 1
WEIGHTS, CARD = "model.safetensors", "card.json"
# Other files hp.load understands, and who reads them.
_READERS = {
    ".h5": "heatproof.interop.keras:load_keras",
    ".hdf5": "heatproof.interop.keras:load_keras",
    ".keras": "heatproof.interop.keras:load_keras",
    ".pt2": "heatproof.interop.exported:load_exported",
}
_STATES = (".pt", ".pth", ".ckpt")


def _versions() -> dict[str, str]:
    return {"heatproof": heatproof.__version__, "torch": torch.__version__, "python": platform.python_version()}


@dataclass(frozen=True)
class Card:
    """What is known of a model beside its weights.

    Attributes:
        architecture: a network of `heatproof.nets.nets` with its options, or ``package.module:factory`` as name.
        input_shape: of one sample (C, *S), None where any length will do; empty where it is not known.
        classes: a name an output, `numbered` where nobody gave any.
        data, recipe, seed: what it was trained on and how.
        metrics: numbers measured when it was saved.
        versions, date: of the software and of the saving (ISO, UTC).
    """

    architecture: Spec
    input_shape: tuple[int | None, ...]
    classes: tuple[str, ...]
    data: str = ""
    recipe: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    seed: int | None = None
    versions: Mapping[str, str] = field(default_factory=_versions)
    date: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))


def card_of(model: nn.Module) -> Card | None:
    """The card of a model that `heatproof.train` or `load` returned; None for any other."""
    card = getattr(model, "card", None)
    return card if isinstance(card, Card) else None


def attach(model: nn.Module, card: Card) -> None:
    """Leave the card on the model as its attribute ``card``."""
    object.__setattr__(model, "card", card)


def numbered(count: int) -> tuple[str, ...]:
    """What outputs are called that nobody has named: class 0, class 1, ..."""
    return tuple(f"class {i}" for i in range(count))


def foreign(architecture: Spec, input_shape: Sequence[int | None], outputs: int) -> Card:
    """The card of a model from elsewhere: what can be seen of it, and nothing on where it comes from."""
    return Card(architecture, tuple(input_shape), numbered(outputs), versions={}, date="not recorded")


def rename(model: nn.Module, classes: Sequence[str]) -> None:
    """Give the model's outputs these names, in their order, on its card.

    Raises: UsageError where a name stands twice, or there are more or fewer than outputs.
    """
    names, card = tuple(classes), card_of(model)
    if len(set(names)) < len(names) or len(names) < 2:
        raise UsageError(f"classes: got {', '.join(names) or 'none'}; expected a name of its own for every output")
    if card is None:
        card = Card(Spec(f"{type(model).__module__}:{type(model).__qualname__}"), (), names)
    if card.classes and len(card.classes) != len(names):
        raise UsageError(
            f"classes: got {len(names)} names ({listed(names)}) for a model with {len(card.classes)} outputs; "
            "name every output, in order"
        )
    attach(model, replace(card, classes=names))


def listed(names: Sequence[str], most: int = 6) -> str:
    """The names with commas between them, the first few where there are many."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


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


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """A path beside ``path``, with its ending, that takes its place when the block ends well and else vanishes.

    Raises: FileError, in one line, where the disk is full or the place cannot be written.
    """
    part = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.touch()
        mode = part.stat().st_mode
        yield part
        part.chmod(mode)  # safetensors writes files that nobody else may read
        os.replace(part, path)
    except (OSError, safetensors.SafetensorError) as error:
        _refuse_writing(path, error)
    finally:
        with suppress(OSError):
            part.unlink()


def _refuse_writing(path: Path, error: Exception) -> NoReturn:
    full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "os error 28" in str(error)
    if full:
        raise FileError(f"no space left to write {str(path)!r}; free some or choose another folder") from error
    reason = (getattr(error, "strerror", None) or str(error)).splitlines()[0]
    raise FileError(f"cannot write {str(path)!r}: {reason}; choose another folder") from error


def _load_folder(folder: Path, factory: str | Callable[[], nn.Module] | None) -> nn.Module | Results:
    if (folder / "results.json").exists():
        return cast("Results", importlib.import_module("heatproof.store").load(folder))
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


def read_card(path: Path) -> tuple[Card, str]:
    """The card in a file and the digest of the weights it belongs to.

    Raises: FileError where it is missing, truncated, foreign or of a newer format.
    """
    try:
        page = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileError(f"{str(path)!r} is missing; without it the weights cannot be given a network") from None
    except OSError as error:
        raise FileError(f"cannot read {str(path)!r}: {error.strerror}") from error
    except ValueError:
        raise FileError(f"{str(path)!r} is truncated or not JSON") from None
    if not isinstance(page, dict) or page.get("heatproof") != "model":
        raise FileError(f"{str(path)!r} is not a heatproof model card")
    if page.get("format") != FORMAT:
        raise FileError(
            f"{str(path)!r} has format {page.get('format')!r}, this version reads {FORMAT}; update heatproof"
        )
    try:
        return _card(page), str(page["weights"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise FileError(f"{str(path)!r} is damaged: {type(error).__name__} at {error}") from None


def _card(page: Mapping[str, Any]) -> Card:
    options = {k: tuple(v) if isinstance(v, list) else v for k, v in page["architecture"]["options"].items()}
    return Card(
        architecture=Spec(str(page["architecture"]["name"]), tuple(sorted(options.items()))),
        input_shape=tuple(None if size is None else int(size) for size in page["input_shape"]),
        classes=tuple(str(name) for name in page["classes"]),
        data=str(page["data"]),
        recipe=dict(page["recipe"]),
        metrics=dict(page["metrics"]),
        seed=page["seed"],
        versions=dict(page["versions"]),
        date=str(page["date"]),
    )


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


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
