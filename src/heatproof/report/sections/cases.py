"""Worked cases: three inputs of one class, classified with high, middling and low confidence, looked at closely."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from heatproof import plots
from heatproof.report.parts import Cell, Part, Picture, Section, Table, listed, percent, section

NAMES = ("high", "middling", "low")


@dataclass(frozen=True, eq=False)
class Cases:
    """Up to three inputs of one class, the surest first, with what each method makes of them.

    Attributes:
        label: the class. ids: of the samples. predictions, confidence: of each, by the classifier.
        x: inputs (K, C, *S). maps: by method (K, *S).
        kept: by method the inputs of which only the top ``keep`` positions stay (K, C, *S); ``fill`` replaces the rest.
        after: by method the probability of the predicted class that then remains (K,).
    """

    label: str
    ids: tuple[str, ...]
    predictions: tuple[str, ...]
    confidence: tuple[float, ...]
    x: Float[np.ndarray, "k c *s"]
    maps: Mapping[str, Float[np.ndarray, "k *s"]]
    kept: Mapping[str, Float[np.ndarray, "k c *s"]]
    after: Mapping[str, tuple[float, ...]]
    keep: float
    fill: str


def choose(confidence: Float[np.ndarray, " n"]) -> list[int]:
    """The places of the highest, the middle and the lowest confidence; fewer where there are fewer.

    >>> choose(np.array([0.2, 0.9, 0.5, 0.7]))
    [1, 2, 0]
    """
    if not len(confidence):
        return []
    high, low = int(confidence.argmax()), int(confidence.argmin())
    middle = int(np.abs(confidence - (confidence[high] + confidence[low]) / 2).argmin())
    return list(dict.fromkeys((high, middle, low)))


def cases(found: Cases | None) -> Section | None:
    """Predictions, maps side by side as colour and as contours, and what stays of each input at the kept share."""
    if found is None or not len(found.x):
        return None
    lead = (
        f"Of the test samples of class {found.label}: the one classified with the highest confidence, one half-way, "
        f"and the one with the lowest. Then each method's {percent(found.keep)} most relevant positions stay and the "
        f"rest becomes {found.fill}."
    )
    labels = [_label(found, i) for i in range(len(found.x))]
    said = listed([f"{name}: {label}" for name, label in zip(_names(found), labels, strict=True)])
    methods = [*found.maps]
    parts: list[Part | None] = [
        _table(found),
        Picture(
            "cases-maps",
            "Heatmaps of every method, each scaled by its own largest value: the deeper, the more relevant.",
            f"Worked cases with their heatmaps. {said}",
            plots.gallery(found.x, found.maps, labels=labels),
        ),
        Picture(
            "cases-contours",
            "The same maps as contours at 35 % and 70 % of the largest value, so that the input stays visible.",
            f"Worked cases with contours of {listed(methods, 9)}",
            plots.gallery(found.x, found.maps, labels=labels, drawing="contour"),
        ),
        _kept(found, methods),
    ]
    return section("cases", "Worked cases", "Cases", lead, parts)


def _names(found: Cases) -> tuple[str, ...]:
    return NAMES if len(found.x) == len(NAMES) else NAMES[:: len(NAMES) - 1][: len(found.x)]


def _label(found: Cases, i: int) -> str:
    said = found.predictions[i]
    return f"{said if said == found.label else f'{found.label} → {said}'} ({found.confidence[i]:.2f})"


def _table(found: Cases) -> Table:
    rows: list[tuple[Cell, ...]] = [
        (name, found.ids[i], found.predictions[i], found.confidence[i], *(after[i] for after in found.after.values()))
        for i, name in enumerate(_names(found))
    ]
    caption = (
        f"Probability of the predicted class: of the whole input, and with the top {percent(found.keep)} of each map."
    )
    heads = ("Confidence is", "Sample", "Prediction", "Whole input", *found.after)
    return Table("cases", caption, heads, tuple(rows))


def _kept(found: Cases, methods: Sequence[str]) -> Picture:
    inputs = np.concatenate([np.stack([found.kept[name][i] for name in methods]) for i in range(len(found.x))])
    captions = [f"{found.after[name][i]:.2f}" for i in range(len(found.x)) for name in methods]
    labels = [_label(found, i) for i in range(len(found.x))]
    return Picture(
        "cases-kept",
        f"What stays of each case at {percent(found.keep)}; above it what remains of the probability.",
        f"The inputs with only the top {percent(found.keep)} of each map",
        plots.panels(inputs, captions, columns=len(methods), rows=labels, heads=methods),
    )
