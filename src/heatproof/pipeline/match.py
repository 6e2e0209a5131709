"""Samples and a model that come from different places: the size of inputs, the names and the order of classes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import nn

from heatproof.errors import InputError
from heatproof.models.card import Card, card_of, listed, numbered, rename
from heatproof.models.inputs import check_inputs, prepared
from heatproof.nets import nets
from heatproof.pipeline.registries import registry
from heatproof.preprocessing import Preprocessing
from heatproof.records import Samples, Splits
from heatproof.registry import Spec


def preprocessing_for(model: nn.Module | None) -> Preprocessing | None:
    """What images go through before the model, as its card says; None where it does not."""
    card = None if model is None else card_of(model)
    wanted = None if card is None else card.preprocessing
    return wanted if isinstance(wanted, Preprocessing) else None


def sized(data: Spec, model: nn.Module | None) -> Spec:
    """The data set at the size of image and with the channels that the model takes, where the spec leaves them open.

    A preprocessing on the model's card decides them instead.
    """
    card = None if model is None else card_of(model)
    if card is None or len(card.input_shape) != 3 or card.preprocessing is not None:
        return data
    options = registry("data")[data.name].options
    if "preprocessing" not in options:  # no images read from disk
        return data
    channels, *size = card.input_shape
    wanted: dict[str, Any] = {"channels": 1} if channels == 1 else {}
    wanted |= {"size": tuple(size)} if None not in size else {}
    added = {k: v for k, v in wanted.items() if k in options and k not in data.kwargs}
    return Spec(data.name, tuple(sorted({**added, **data.kwargs}.items())))


def matched(splits: Splits, model: nn.Module) -> Splits:
    """The splits with their labels in the order of the model's outputs, arrays scaled as its card says.

    Classes go by their names; a model whose outputs have none takes those of the samples.

    Raises: InputError where the inputs are not of the model's shape, or the classes are not among its outputs.
    """
    card = card_of(model)
    if card is None:
        return splits
    train, test = prepared(splits.train, model), prepared(splits.test, model)
    splits = splits if train is splits.train and test is splits.test else Splits(train, test)
    check_inputs(model, splits.test)
    _check_shape(splits.test, card)
    if splits.task == "regression":
        return splits
    if card.classes and card.classes == numbered(len(card.classes)):
        if len(splits.classes) != len(card.classes):
            raise InputError(
                f"{_labels(splits)}, the model has {len(card.classes)} outputs; "
                "say what these are, in order, with --classes a,b,c"
            )
        rename(model, splits.classes)
        return splits
    if not card.classes or card.classes == splits.classes:
        return splits
    return Splits(_ordered(splits.train, card.classes, splits), _ordered(splits.test, card.classes, splits))


def _ordered(samples: Samples, classes: tuple[str, ...], splits: Splits) -> Samples:
    unknown = [name for name in samples.classes if name not in classes]
    if unknown:
        raise InputError(
            f"{_labels(splits)}, and the model has no output {listed(unknown)} but {listed(classes)}; "
            "say what its outputs are, in order, with --classes a,b,c"
        )
    absent = [name for name in classes if name not in samples.classes]
    if samples.task == "labels" and absent:
        raise InputError(
            f"{_labels(splits)}, and says nothing of the model's {listed(absent)}; expected every label of the model"
        )
    place = torch.tensor([classes.index(name) for name in samples.classes], dtype=torch.int64)
    y = samples.y[:, place.argsort()] if samples.task == "labels" else place[samples.y]
    return replace(samples, y=y, classes=classes)


def _labels(splits: Splits) -> str:
    return f"{splits.test.name}: has {len(splits.classes)} {splits.task} ({listed(splits.classes)})"


def _check_shape(samples: Samples, card: Card) -> None:
    want, got = card.input_shape, tuple(samples.x.shape[1:])
    if card.architecture.name in nets or not want:  # the networks here take inputs of any size
        return
    if len(got) != len(want) or any(w not in (None, g) for g, w in zip(got, want, strict=True)):
        resized = len(want) == len(got) == 3 and want[0] == got[0] and None not in want
        advice = f"resize them with --data name:size={want[1]}+{want[2]}" if resized else "choose other data"
        raise InputError(f"{samples.name}: inputs are {_times(got)}, the model takes {_times(want)}; {advice}")


def _times(shape: tuple[int | None, ...]) -> str:
    return " x ".join("any" if size is None else str(size) for size in shape)
