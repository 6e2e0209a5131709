"""The card of a model: what belongs to it beside its weights, as a JSON file and an attribute of the model."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import nn

from heatproof import version
from heatproof.errors import FileError, UsageError
from heatproof.preprocessing import UNKNOWN, Preprocessing, SignalPreprocessing, from_record, read
from heatproof.registry import Spec

FORMAT = 1
WEIGHTS, CARD = "model.safetensors", "card.json"


def _versions() -> dict[str, str]:
    return {"heatproof": version.__version__, "torch": torch.__version__, "python": platform.python_version()}


@dataclass(frozen=True)
class Card:
    """What belongs to a model beside its weights.

    Attributes:
        architecture: a network of `heatproof.nets.nets` with its options, or ``package.module:factory`` as name.
        input_shape: of one sample (C, *S), None where any length will do; empty where it is unknown.
        classes: a name an output, `numbered` where nobody named them.
        outputs: what it returns, as `heatproof.Probe` takes ``outputs=``; empty where that is left to its operations
            and numbers.
        data, recipe, seed: what it was trained on and how.
        metrics: numbers measured when it was saved.
        preprocessing: what an input goes through before the model; None where it is unknown.
        versions, date: of the software and of the saving (ISO, UTC).
    """

    architecture: Spec
    input_shape: tuple[int | None, ...]
    classes: tuple[str, ...]
    data: str = ""
    recipe: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    seed: int | None = None
    preprocessing: Preprocessing | SignalPreprocessing | None = None
    outputs: str = ""
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
    """Names for outputs without any: class 0, class 1, ..."""
    return tuple(f"class {i}" for i in range(count))


def foreign(architecture: Spec, input_shape: Sequence[int | None], count: int) -> Card:
    """The card of a model from elsewhere: what its structure shows, and nothing on where it comes from."""
    names = numbered(count) if count > 1 else ()  # one column may be two classes
    return Card(architecture, tuple(input_shape), names, versions={}, date="not recorded")


def prepare(model: nn.Module, preprocessing: str | Mapping[str, Any] | Preprocessing) -> None:
    """Write on the model's card what its inputs go through, given by hand; "none" for nothing that is known.

    Raises: UsageError, UnknownName as `heatproof.preprocessing.read` has it.
    """
    value = None if preprocessing == UNKNOWN else read(preprocessing)
    if value is not None and not value.origin:
        value = replace(value, origin="the user")
    card = card_of(model) or Card(Spec(f"{type(model).__module__}:{type(model).__qualname__}"), (), ())
    attach(model, replace(card, preprocessing=value))


def rename(model: nn.Module, classes: Sequence[str]) -> None:
    """Give the model's outputs these names, in their order, on its card.

    Raises: UsageError where a name stands twice, or there are more or fewer than outputs.
    """
    names, card = tuple(classes), card_of(model)
    if len(set(names)) < len(names) or len(names) < 2:
        raise UsageError(f"classes: got {', '.join(names) or 'none'}; expected a different name for every output")
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


def read_card(path: Path) -> tuple[Card, str]:
    """The card in a file and the digest of the weights it belongs to.

    Raises: FileError where it is missing, truncated, foreign or of a newer format.
    """
    try:
        page = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileError(f"{str(path)!r} is missing; it says which network the weights belong to") from None
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
        preprocessing=from_record(page.get("preprocessing")),
        outputs=str(page.get("outputs", "")),
        versions=dict(page["versions"]),
        date=str(page["date"]),
    )
