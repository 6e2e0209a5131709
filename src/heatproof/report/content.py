"""What a report shows: a study, a classifier, or both, with inputs and maps to draw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float

from heatproof.annotations import Task
from heatproof.models.card import Card
from heatproof.performance import Assessment
from heatproof.records import Samples
from heatproof.results.record import Results
from heatproof.training.history import Epoch
from heatproof.verdict.judgement import Judgement


@dataclass(frozen=True, eq=False)
class Cases:
    """Up to three inputs of one class, the most probable prediction first, with the maps of each method.

    Of a multi-label model they have one label, and the probability is that of the label.

    Attributes:
        label: the class or label. ids: of the samples. predictions, probability: of each, by the classifier.
        x: inputs (K, C, *S). maps: by method (K, *S).
        kept: by method the inputs with only the top ``keep`` positions (K, C, *S); ``fill`` replaces the others.
        after: by method the probability of the predicted class for these inputs (K,).
    """

    label: str
    ids: tuple[str, ...]
    predictions: tuple[str, ...]
    probability: tuple[float, ...]
    x: Float[np.ndarray, "k c *s"]
    maps: Mapping[str, Float[np.ndarray, "k *s"]]
    kept: Mapping[str, Float[np.ndarray, "k c *s"]]
    after: Mapping[str, tuple[float, ...]]
    keep: float
    fill: str
    task: Task = "classes"


def choose(probability: Float[np.ndarray, " n"]) -> list[int]:
    """The places of the highest, the middle and the lowest probability; fewer where there are fewer.

    >>> choose(np.array([0.2, 0.9, 0.5, 0.7]))
    [1, 2, 0]
    """
    if not len(probability):
        return []
    high, low = int(probability.argmax()), int(probability.argmin())
    middle = int(np.abs(probability - (probability[high] + probability[low]) / 2).argmin())
    return list(dict.fromkeys((high, middle, low)))


@dataclass(frozen=True, eq=False)
class Pictures:
    """Inputs and maps to draw; every one of them may be missing.

    Attributes:
        evaluated: the samples that the performance was measured on. judged: those of the study, in its order.
        maps: of the study's samples (N, *S) by method. cases: worked out in detail.
    """

    evaluated: Samples | None = None
    judged: Samples | None = None
    maps: Mapping[str, Any] = field(default_factory=dict)
    cases: Cases | None = None


@dataclass(frozen=True, eq=False)
class Content:
    """What a report shows; whatever is missing has no section.

    Attributes:
        results: of a study. others: the same study with other fills.
        performance, history, card: of the model. pictures: inputs and maps to draw.
        command: what was typed to start the run.
    """

    results: Results | None = None
    others: Sequence[Results] = ()
    performance: Assessment | None = None
    history: Sequence[Epoch] = ()
    card: Card | None = None
    pictures: Pictures = field(default_factory=Pictures)
    command: str = ""

    @property
    def empty(self) -> bool:
        """Whether there is nothing to report on."""
        return self.results is None and self.performance is None and not self.history

    @cached_property
    def judgement(self) -> Judgement | None:
        """What follows from the study; None without one."""
        return None if self.results is None else Judgement(self.results, self.others)
