"""Recipes: everything that decides how a network is trained, apart from data, network and seed."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar, cast

from heatproof.errors import UsageError
from heatproof.registry import Entry, Registry, Spec

Optimiser = Literal["sgd", "adamw"]
Schedule = Literal["constant", "one-cycle", "step"]
Keep = Literal["last", "best"]
Precision = Literal["float32", "bfloat16"]

Function = TypeVar("Function", bound=Callable[..., Any])
recipes: Registry[Entry] = Registry("recipe")


def recipe(name: str, *, paper: str = "", label: str = "") -> Callable[[Function], Function]:
    """Registers a function that returns a Recipe."""

    def register(function: Function) -> Function:
        recipes.add(Entry(name, function, paper=paper, label=label))
        return function

    return register


@dataclass(frozen=True)
class Recipe:
    """How to train.

    Attributes:
        name: what reports call it.
        optimiser, learning_rate, schedule, epochs, batch: as usual; ``one-cycle`` rises to the rate and falls by
            cosines (arXiv 1708.07120), ``step`` multiplies it by ``step_factor`` every ``step_every`` epochs.
        l2: added to the loss, times the sum of squares of all weights (biases excepted), as Keras does.
        weight_decay: of AdamW, on the same weights.
        label_smoothing: share of the target spread over all classes.
        shift: largest random circular shift, in positions; noise: standard deviation of what is added to the input;
            scale: width of the range of random amplitudes round 1.
        augment: a named augmentation of `training.images`, applied before these; none by default.
        mixed: probability that a batch of images is blended with itself by mixup or CutMix, in all but the last fifth.
        clip: largest norm of the gradient, 0 for no limit.
        precision: of the products in training; ``bfloat16`` (autocast) halves the time where the processor has it.
        average: decay of the moving average of the weights, 0 for none; where used, it is the model that is kept.
        validation: share of the training data held out, class by class.
        patience, min_delta: stop when the validation loss has not fallen by min_delta for so many epochs; None never.
        keep: the weights of the last epoch, or of the one with the lowest validation loss.
    """

    name: str
    epochs: int
    batch: int
    learning_rate: float
    optimiser: Optimiser = "adamw"
    schedule: Schedule = "constant"
    step_every: int = 15
    step_factor: float = 0.5
    l2: float = 0.0
    weight_decay: float = 0.0
    label_smoothing: float = 0.0
    shift: int = 0
    noise: float = 0.0
    scale: float = 0.0
    augment: str = ""
    mixed: float = 0.0
    clip: float = 0.0
    precision: Precision = "float32"
    average: float = 0.0
    validation: float = 0.0
    patience: int | None = None
    min_delta: float = 0.0
    keep: Keep = "last"

    def __post_init__(self) -> None:
        rules = (
            ("epochs", self.epochs >= 1, "at least 1"),
            ("batch", self.batch >= 1, "at least 1"),
            ("learning_rate", 0 < self.learning_rate < math.inf, "a positive number"),
            ("step_every", self.step_every >= 1, "at least 1"),
            ("l2", self.l2 >= 0, "at least 0"),
            ("label_smoothing", 0 <= self.label_smoothing < 1, "0 up to but not 1"),
            ("shift", self.shift >= 0, "at least 0"),
            ("mixed", 0 <= self.mixed <= 1, "a probability"),
            ("clip", 0 <= self.clip < math.inf, "at least 0"),
            ("average", 0 <= self.average < 1, "0 up to but not 1"),
            ("validation", 0 <= self.validation < 1, "a share from 0 up to but not 1"),
            ("patience", self.patience is None or self.patience >= 1, "at least 1, or none"),
            ("patience", self.patience is None or self.validation > 0, "none, unless validation is above 0"),
            ("keep", self.keep == "last" or self.validation > 0, "'last', unless validation is above 0"),
        )
        for name, holds, expected in rules:
            if not holds:
                raise UsageError(f"recipe {self.name!r}: {name} got {getattr(self, name)!r}, expected {expected}")

    def mixing(self, epoch: int) -> float:
        """The probability that a batch of the given epoch (counted from 0) is blended."""
        return self.mixed if epoch < 0.8 * self.epochs else 0.0

    def rate(self, step: int, steps: int, epoch: int) -> float:
        """The learning rate of the given step (of ``steps`` in all) in the given epoch.

        >>> Recipe("r", 60, 32, 1e-3, schedule="step").rate(0, 1, epoch=15)
        0.0005
        """
        if self.schedule == "step":
            return float(self.learning_rate * self.step_factor ** (epoch // self.step_every))
        if self.schedule == "one-cycle":
            rise = 0.3 * steps
            low, done = (0.04, step / rise) if step < rise else (1e-5, 1 - (step - rise) / (steps - rise))
            return self.learning_rate * (low + (1 - low) * (1 - math.cos(math.pi * done)) / 2)
        return self.learning_rate


def resolve(chosen: str | Spec | Recipe, *, epochs: int | None = None) -> Recipe:
    """The recipe of that name, with its options, and with ``epochs`` in place of its own.

    Raises: UnknownName, UsageError where the recipe or an option does not exist or is out of range.

    >>> resolve("fast:batch=32", epochs=3).epochs
    3
    """
    if not isinstance(chosen, Recipe):
        spec = recipes.spec(chosen)
        chosen = cast(Recipe, recipes[spec.name].function(**spec.kwargs))
    return chosen if epochs is None else replace(chosen, epochs=epochs)


@recipe("fast")
def fast(
    *, epochs: int = 40, batch: int = 64, learning_rate: float = 0.01, shift: int = 5, noise: float = 0.0
) -> Recipe:
    """AdamW, one cycle, random circular shifts and averaged weights; a tenth held out to watch. The default."""
    return Recipe(
        "fast",
        epochs,
        batch,
        learning_rate,
        schedule="one-cycle",
        weight_decay=0.01,
        shift=shift,
        noise=noise,
        average=0.99,
        validation=0.1,
    )


@recipe("paper")
def paper(*, epochs: int = 200, batch: int = 32, learning_rate: float = 0.01, l2: float = 5e-4) -> Recipe:
    """Plain SGD with an L2 term on all the training data, as the course trained its network."""
    return Recipe("paper", epochs, batch, learning_rate, optimiser="sgd", l2=l2)


@recipe("step-decay")
def step_decay(
    *, epochs: int = 100, batch: int = 32, learning_rate: float = 1e-3, validation: float = 0.1, patience: int = 8
) -> Recipe:
    """AdamW whose rate halves every 15 epochs, stopped early; the epoch of lowest validation loss is kept."""
    return Recipe(
        "step-decay",
        epochs,
        batch,
        learning_rate,
        schedule="step",
        validation=validation,
        patience=patience,
        keep="best",
    )
