"""Worked cases: three inputs of one class, predicted with high, middle and low probability, in detail."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from heatproof import plots
from heatproof.annotations import Task
from heatproof.phrases import listed, percent
from heatproof.report.content import Cases, Content
from heatproof.report.parts import Cell, Part, Picture, Section, Table, compose

PREDICTED: Mapping[Task, str] = {"classes": "predicted class", "labels": "label"}
NAMES = ("high", "middle", "low")


def section(content: Content) -> Section | None:
    """Predictions, maps side by side as colour and as contours, and what stays of each input at the kept share."""
    cases = content.pictures.cases
    if cases is None or not len(cases.x):
        return None
    which = f"of class {cases.label}" if cases.task == "classes" else f"with the label {cases.label}"
    lead = (
        f"Three test samples {which}: those predicted with the highest, a middle and the lowest "
        f"probability. Each method's {percent(cases.keep)} most relevant positions are then kept, and the others are "
        f"replaced by {cases.fill}."
    )
    labels = [_label(cases, i) for i in range(len(cases.x))]
    read = listed([f"{name}: {label}" for name, label in zip(_names(cases), labels, strict=True)])
    methods = [*cases.maps]
    parts: list[Part | None] = [
        _table(cases),
        Picture(
            "cases-maps",
            "Heatmaps of every method, each on its own scale: the deeper the colour, the more relevant.",
            f"Worked cases with their heatmaps. {read}",
            plots.gallery(cases.x, cases.maps, labels=labels),
        ),
        Picture(
            "cases-contours",
            "The same maps as contours at 35 % and 70 % of the scale, so that the input stays visible.",
            f"Worked cases with contours of {listed(methods, 9)}",
            plots.gallery(cases.x, cases.maps, labels=labels, drawing="contour"),
        ),
        _kept(cases, methods),
    ]
    return compose("cases", "Worked cases", "Cases", lead, parts)


def _names(cases: Cases) -> tuple[str, ...]:
    return NAMES if len(cases.x) == len(NAMES) else NAMES[:: len(NAMES) - 1][: len(cases.x)]


def _label(cases: Cases, i: int) -> str:
    prediction = cases.predictions[i]
    words = prediction if prediction == cases.label else f"{cases.label} → {prediction}"
    return f"{words} ({cases.probability[i]:.2f})"


def _table(cases: Cases) -> Table:
    rows: list[tuple[Cell, ...]] = [
        (name, cases.ids[i], cases.predictions[i], cases.probability[i], *(after[i] for after in cases.after.values()))
        for i, name in enumerate(_names(cases))
    ]
    caption = (
        f"Probability of the {PREDICTED[cases.task]}: for the whole input, and with only the top "
        f"{percent(cases.keep)} of each map."
    )
    columns = ("Probability", "Sample", "Prediction", "Whole input", *cases.after)
    return Table("cases", caption, columns, tuple(rows))


def _kept(cases: Cases, methods: Sequence[str]) -> Picture:
    inputs = np.concatenate([np.stack([cases.kept[name][i] for name in methods]) for i in range(len(cases.x))])
    captions = [f"{cases.after[name][i]:.2f}" for i in range(len(cases.x)) for name in methods]
    labels = [_label(cases, i) for i in range(len(cases.x))]
    return Picture(
        "cases-kept",
        f"The inputs with only the top {percent(cases.keep)} of each map; above each the probability of the "
        f"{PREDICTED[cases.task]}.",
        f"The inputs with only the top {percent(cases.keep)} of each map",
        plots.panels(inputs, captions, columns=len(methods), rows=labels, heads=methods),
    )
