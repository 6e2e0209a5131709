"""Models trained on shuffled labels: do the maps depend on the labels that the model learnt?"""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from heatproof import data, draws
from heatproof import metrics as judging
from heatproof.errors import HeatproofError, UsageError
from heatproof.metrics.randomisation import randomised
from heatproof.models.card import card_of
from heatproof.probe import Probe, as_probe
from heatproof.records import Samples
from heatproof.registry import Spec
from heatproof.training import Recipe, train

FOLDER = "shuffled-labels"
MEMORISE = Recipe("memorise", epochs=60, batch=64, learning_rate=0.003)


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
    folder = None if out is None else Path(out) / FOLDER / f"{recipe.epochs}-epochs"
    mixed, state = replace(learn, y=learn.y[order]), random.getstate()
    try:
        return train(mixed, recipe=recipe, out=folder, net=fresh, seed=seed, resume=True, quiet=True)
    finally:
        random.setstate(state)  # Lightning draws from it


def epochs_of(metrics: Sequence[Spec]) -> list[int]:
    """For how many epochs models are to be trained on shuffled labels; empty where no metric needs one.

    Raises: UsageError for a number below 1.
    """
    numbers = set()
    for metric in metrics:
        entry = judging.metrics[metric.name]
        if "relearnt" in entry.needs:
            epochs = int({**entry.options, **metric.kwargs}["epochs"])
            if epochs < 1:
                raise UsageError(f"{metric.name}: option epochs got {epochs}, expected at least 1")
            numbers.add(epochs)
    return sorted(numbers)


def training_samples(model: nn.Module) -> tuple[Samples | None, str]:
    """The samples that the model was trained on according to its card, or why they are not available."""
    card = card_of(model)
    if card is None or not card.data:
        return None, "it is not known what the model was trained on; give hp.study the training samples too (Splits)"
    try:
        return data.load(card.data).train, ""
    except HeatproofError as error:
        return None, f"the training samples {card.data!r} cannot be loaded ({error}); give them to hp.study (Splits)"
