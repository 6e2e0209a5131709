"""Networks trained like the model, whose maps are compared with its own: on shuffled labels, or from another seed."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from heatproof import data, draws
from heatproof import metrics as judging
from heatproof.errors import HeatproofError, NotApplicable, UsageError
from heatproof.metrics.randomisation import randomised
from heatproof.models.card import Card, card_of
from heatproof.nets import nets
from heatproof.probe import Probe, as_probe
from heatproof.records import Samples
from heatproof.registry import Spec
from heatproof.training import Recipe, train

MEMORISE = Recipe("memorise", epochs=60, batch=64, learning_rate=0.003)
# By what metrics need: the option that says which, and what is trained.
OPTIONS = {"relearnt": "epochs", "retrained": "twins"}
WORDS = {"relearnt": "a model trained on shuffled labels", "retrained": "a model trained from another seed"}


@dataclass(frozen=True)
class Twin:
    """A network that a metric needs.

    Attributes:
        need: ``relearnt`` (on shuffled labels) or ``retrained`` (from another seed). number: for so many epochs, or
            which of several seeds.
    """

    need: str
    number: int


def shuffled_model(
    model: nn.Module | Probe,
    learn: Samples,
    *,
    recipe: Recipe = MEMORISE,
    out: str | os.PathLike[str] | None = None,
    seed: int = 0,
) -> nn.Module:
    """A network like the model, its weights drawn at random, trained on the same inputs with shuffled labels.

    With ``out``, the folder of a study, it is kept there and trained only once.
    """
    order = draws.uniform(draws.seeds(seed, "labels", torch.arange(len(learn))), ()).argsort()
    fresh = next(randomised(as_probe(model), seed=seed, order="cascading", stages=1)).model
    folder = None if out is None else Path(out) / "shuffled-labels" / f"{recipe.epochs}-epochs"
    return _trained(replace(learn, y=learn.y[order]), recipe, fresh, seed, folder)


def retrained_model(
    model: nn.Module | Probe, learn: Samples, *, number: int = 1, out: str | os.PathLike[str] | None = None
) -> nn.Module:
    """The network of the model's card, trained by the card's recipe from another seed: its own plus ``number``.

    With ``out``, the folder of a study, it is kept there and trained only once.

    Raises: NotApplicable where the card names no network and recipe of heatproof.
    """
    card = card_of(as_probe(model).model)
    recipe = recipe_of(card)
    if card is None or card.architecture.name not in nets:
        network = None if card is None else str(card.architecture)
        raise NotApplicable(f"the network is {network}, none that heatproof trains by name (heatproof list nets)")
    seed = (card.seed or 0) + number
    folder = None if out is None else Path(out) / "retrained" / f"seed-{seed}"
    return _trained(learn, recipe, card.architecture, seed, folder)


def recipe_of(card: Card | None) -> Recipe:
    """The recipe that the card records.

    Raises: NotApplicable where it records none, or one of another program.
    """
    if card is None or not card.recipe:
        raise NotApplicable("it is not recorded how the model was trained; heatproof records it for networks it trains")
    try:
        return Recipe(**card.recipe)
    except (TypeError, UsageError) as error:
        raise NotApplicable(f"the recipe on the model's card is none of heatproof's ({error})") from error


def _trained(samples: Samples, recipe: Recipe, net: nn.Module | Spec, seed: int, folder: Path | None) -> nn.Module:
    state = random.getstate()
    try:
        return train(samples, recipe=recipe, out=folder, net=net, seed=seed, resume=True, quiet=True)
    finally:
        random.setstate(state)  # Lightning draws from it


def twins_of(metrics: Sequence[Spec]) -> list[Twin]:
    """The networks that are to be trained for the metrics.

    Raises: UsageError for a number below 1.
    """
    wanted = set()
    for metric in metrics:
        entry = judging.metrics[metric.name]
        for need in (need for need in OPTIONS if need in entry.needs):
            value = int({**entry.options, **metric.kwargs}[OPTIONS[need]])
            if value < 1:
                raise UsageError(f"{metric.name}: option {OPTIONS[need]} got {value}, expected at least 1")
            wanted |= {Twin(need, number) for number in ([value] if need == "relearnt" else range(1, value + 1))}
    return sorted(wanted, key=lambda twin: (twin.need, twin.number))


def twin_model(model: Probe, learn: Samples, twin: Twin, *, out: Path | None, seed: int) -> nn.Module:
    """The network, trained, or read from the folder of the study.

    Raises: NotApplicable, and what training raises.
    """
    if twin.need == "retrained":
        return retrained_model(model, learn, number=twin.number, out=out)
    return shuffled_model(model, learn, recipe=replace(MEMORISE, epochs=twin.number), out=out, seed=seed)


def epochs_of(model: Probe, twin: Twin) -> int:
    """For how many epochs the network is trained.

    Raises: NotApplicable where it cannot be.
    """
    return recipe_of(card_of(model.model)).epochs if twin.need == "retrained" else twin.number


def training_samples(model: nn.Module) -> tuple[Samples | None, str]:
    """The samples that the model was trained on according to its card, or why they are not available."""
    card = card_of(model)
    if card is None or not card.data:
        return None, "it is not known what the model was trained on; give hp.study the training samples too (Splits)"
    try:
        return data.load(card.data).train, ""
    except HeatproofError as error:
        return None, f"the training samples {card.data!r} cannot be loaded ({error}); give them to hp.study (Splits)"
