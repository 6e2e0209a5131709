"""Samples and a model that come from different places: the size of inputs, the names and the order of classes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import nn

from heatproof.errors import InputError
from heatproof.models.card import Card, card_of, listed, numbered, rename
from heatproof.nets import nets
from heatproof.pipeline.registries import registry
from heatproof.records import Samples, Splits
from heatproof.registry import Spec


def sized(data: Spec, model: nn.Module | None) -> Spec:
    """The data set at the size of image and with the channels that the model takes, where the spec leaves them open."""
    card = None if model is None else card_of(model)
    if card is None or len(card.input_shape) != 3:
        return data
    channels, *size = card.input_shape
    wanted: dict[str, Any] = {"channels": channels} if channels in (1, 3) else {}
    wanted |= {"size": tuple(size)} if None not in size else {}
    options = registry("data")[data.name].options
    added = {k: v for k, v in wanted.items() if k in options and k not in data.kwargs and v != options[k]}
    return Spec(data.name, tuple(sorted({**added, **data.kwargs}.items())))


def matched(splits: Splits, model: nn.Module) -> Splits:
    """The splits with their labels in the order of the model's outputs.

    Classes go by their names; a model whose outputs have none takes those of the samples.

    Raises: InputError where the inputs are not of the model's shape, or the classes are not among its outputs.
    """
    card = card_of(model)
    if card is None:
        return splits
    _check_shape(splits.test, card)
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
    place = torch.tensor([classes.index(name) for name in samples.classes], dtype=torch.int64)
    return replace(samples, y=place[samples.y], classes=classes)


def _labels(splits: Splits) -> str:
    return f"{splits.test.name}: has {len(splits.classes)} classes ({listed(splits.classes)})"


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
