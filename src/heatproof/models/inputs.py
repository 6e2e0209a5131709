"""Samples against the preprocessing on a model's card: read so, scaled so, or refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from heatproof.errors import InputError, UsageError
from heatproof.models.card import card_of
from heatproof.preprocessing import Preprocessing, SignalPreprocessing, from_record
from heatproof.preprocessing import read as read_by_hand
from heatproof.probe.state import note
from heatproof.records import Samples

ROWS = 16  # samples looked at
KEY = "preprocessing"


def preprocessing_of(samples: Samples) -> Preprocessing | SignalPreprocessing | None:
    """What samples have been through, as their ``about`` says; None where it does not.

    Raises: InputError where that is no preprocessing.
    """
    value: Any = samples.about.get(KEY)
    if value is None or isinstance(value, (Preprocessing, SignalPreprocessing)):
        return value
    try:
        return from_record(value) if isinstance(value, Mapping) else read_by_hand(value)
    except UsageError as error:
        raise InputError(f"{samples.name}: about[{KEY!r}]: {error}") from None


def check_inputs(model: nn.Module, samples: Samples) -> None:
    """Refuse samples scaled otherwise than the model's card says, and warn where that cannot be seen.

    Nothing is said of a model whose card names no preprocessing. Images of another size than that of the card are
    accepted with a warning.

    Raises: InputError.
    """
    card = card_of(model)
    if card is None or card.preprocessing is None or not len(samples):
        return
    wanted, actual = card.preprocessing, preprocessing_of(samples)
    if isinstance(wanted, SignalPreprocessing) or isinstance(actual, SignalPreprocessing):
        if actual != wanted:
            note(
                f"{samples.name}: nothing says that the samples went through the model's preprocessing ({wanted}); "
                f"it is not applied here. State it with about={{'{KEY}': model.card.preprocessing}}"
            )
    elif actual is None:
        _check_range(samples, wanted)
    elif actual.values != wanted.values:
        raise InputError(
            f"{samples.name}: images are {actual.scaling}; the model takes {wanted.scaling}. "
            f"{_advice(samples)}, or load the model with the preprocessing it was trained with"
        )
    elif isinstance(samples.x, Tensor):
        height, width = samples.x.shape[-2:]
        if wanted.size not in (None, (height, width)):
            note(f"{samples.name}: images are {height} x {width} pixels; the model's are {wanted.geometry}")
    elif actual.geometry != wanted.geometry:
        note(f"{samples.name}: images are {actual.geometry}; the model's are {wanted.geometry}")


def _advice(samples: Samples) -> str:
    if isinstance(samples.x, Tensor):
        return "Convert them with heatproof.models.inputs.prepared(samples, model)"
    return "Read them with preprocessing=model.card.preprocessing"


def _check_range(samples: Samples, wanted: Preprocessing) -> None:
    """Of numbers that come without a word on them: refuse those that no image can have, warn of suspicious ones."""
    first = samples.x[:ROWS]
    low, high, (least, most) = float(first.min()), float(first.max()), wanted.bounds
    misfit = wanted.misfit(low, high)
    ranges = f"values from {low:.3g} to {high:.3g}; the model takes {least:.3g} to {most:.3g} ({wanted.scaling})"
    if misfit == "outside":
        raise InputError(
            f"{samples.name}: {ranges}. Scale them so, or say what they are with about={{'{KEY}': 'unit'}} and "
            "heatproof.models.inputs.prepared, or load the model with the preprocessing it was trained with ('none' "
            "where none is known)"
        )
    if misfit == "unscaled":
        note(
            f"{samples.name}: {ranges}, and nothing says that they were scaled so. If they were, state it with "
            f"about={{'{KEY}': model.card.preprocessing}}"
        )


def prepared(samples: Samples, model: nn.Module) -> Samples:
    """The samples as the model's card wants them: numbers in memory whose ``about`` says how they are scaled.

    Samples that the card asks nothing of, that say nothing, or that are read from disk are returned as they are.

    Raises: InputError where colours differ.
    """
    card = card_of(model)
    wanted = None if card is None else card.preprocessing
    actual = preprocessing_of(samples)
    if not isinstance(wanted, Preprocessing) or not isinstance(actual, Preprocessing):
        return samples
    if actual.values == wanted.values or not isinstance(samples.x, Tensor):
        return samples
    if (actual.channels, actual.order) != (wanted.channels, wanted.order) or samples.x.ndim != 4:
        raise InputError(f"{samples.name}: inputs {actual.scaling}; the model takes {wanted.scaling}; convert them")
    kept = replace(
        actual, scale=wanted.scale, mean=wanted.mean, std=wanted.std, origin=f"{wanted.origin}, applied to arrays"
    )
    about = {**samples.about, KEY: kept.record()}
    return replace(samples, x=wanted.rescaled(samples.x, actual), about=about)
