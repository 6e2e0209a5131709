"""The options of a study: one record for Python, YAML and the command line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from heatproof.registry import Spec


@dataclass(frozen=True)
class StudyOptions:
    """What decides the numbers of a study beside the model and the samples.

    Attributes:
        methods, metrics, fills: specs; empty for the study's own choice. With several fills all methods are explained
            once and judged with each fill.
        keep: the share of positions that metrics with such an option keep, where their spec does not say; None for 0.3
            of a signal, 0.9 of an image and else the metric's own.
        layer: the layers for CAMs; empty for the probe's own choice.
        target: the class explained; None for the predicted one, "label" for the true one, a class, one class a sample,
            or what else `heatproof.Probe` takes as target.
        controls: whether random, edge, absolute-input and centre maps are judged too.
        self_checks: whether metrics are tried on inverted maps and noise, and the model against randomised copies.
        level: the confidence level of all intervals and tests. seed: all random draws follow from it.
    """

    methods: tuple[Spec, ...] = ()
    metrics: tuple[Spec, ...] = ()
    fills: tuple[Spec, ...] = ()
    keep: float | None = None
    layer: tuple[str, ...] = ()
    target: Any = None
    controls: bool = True
    self_checks: bool = True
    level: float = 0.95
    seed: int = 0
