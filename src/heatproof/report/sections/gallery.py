"""Heatmaps: some correctly and some incorrectly classified samples with the maps of the methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from heatproof import plots
from heatproof.annotations import Task
from heatproof.phrases import listed
from heatproof.records import Finding
from heatproof.report.content import Content
from heatproof.report.parts import Listing, Part, Picture, Section, compose, listing
from heatproof.results.record import Results
from heatproof.verdict.judgement import Judgement
from heatproof.verdict.wording import statements

PROBABILITY: Mapping[Task, str] = {
    "classes": ", with the probability of the predicted class",
    "labels": ", with the label explained and its probability",
    "regression": "",
}
EVIDENCE: Mapping[Task, str] = {
    "classes": "evidence for the explained class; cold colours: evidence against it",
    "labels": "evidence for the explained label; cold colours: evidence against it",
    "regression": "what raises the output; cold colours: what lowers it",
}
COLUMNS = 8  # maps side by side
PANELS = 160  # panels in a gallery


def section(content: Content) -> Section | None:
    """The samples of the study's gallery, with the maps of the best methods and of some controls."""
    judgement = content.judgement
    shown = None if judgement is None else judgement.results.gallery
    if judgement is None or shown is None or not len(shown.index) or not shown.maps:
        return None
    names = _columns(judgement, tuple(shown.maps))
    most = max(2, PANELS // (2 * len(names)))
    results = judgement.results
    parts: list[Part | None] = [_constant(content, judgement)]
    for stratum, heading, order, every in strata(results, shown.index):
        rows = every[:most]
        if not len(rows):
            continue
        figure = plots.gallery(
            shown.x[rows],
            {name: shown.maps[name][rows] for name in names},
            labels=[label(results, int(shown.index[i])) for i in rows],
            mask=None if shown.mask is None else shown.mask[rows],
        )
        caption = f"{heading}{order}{PROBABILITY[results.task]}."
        parts.append(Picture(stratum, caption, f"{heading} with the maps of {listed(names, 9)}", figure))
    lead = (
        f"Warm colours: {EVIDENCE[results.task]}; the deeper, the stronger. "
        "Each map has its own scale, so shades compare positions within a map, not between maps."
    )
    if shown.mask is not None:
        lead += " Green marks the positions that determine the class by construction."
    if len(names) < len(shown.maps):
        lead += f" Of {len(shown.maps)} methods and reference maps the best are drawn."
    return compose("heatmaps", "Heatmaps", "Heatmaps", lead, parts)


def strata(results: Results, index: np.ndarray) -> list[tuple[str, str, str, np.ndarray]]:
    """The correct and the incorrect predictions in the gallery: name, heading, order of the words above, and places."""
    if not results.gradable:
        return [("gallery", "Samples from the smallest to the largest true value", " (true → predicted)",
                 np.argsort(results.y[index], kind="stable"))]  # fmt: skip
    correct = results.correct[index]
    arrow = " (true → predicted)" if results.task == "labels" else " (label → prediction)"
    return [
        ("gallery-correct", "Correctly classified samples", "", np.flatnonzero(correct)),
        ("gallery-incorrect", "Incorrectly classified samples", arrow, np.flatnonzero(~correct)),
    ]


def label(results: Results, i: int) -> str:
    """What is true of a sample, with the prediction where it differs, and the probability where there is one."""
    return f"{classes(results, i)} ({results.probability[i]:.2f})" if results.gradable else classes(results, i)


def classes(results: Results, i: int) -> str:
    """What is true of a sample, with the prediction where it differs: its class, the label explained, or a number."""
    if results.task == "regression":
        return f"{results.y[i]:.3g} → {results.predictions[i]:.3g}"
    if results.explained is not None:
        name, here = results.classes[results.explained[i]], ("absent", "present")
        true, predicted = here[int(results.y[i])], here[int(results.predictions[i])]
        return f"{name}: {true}" if true == predicted else f"{name}: {true} → {predicted}"
    name, prediction = results.classes[results.y[i]], results.classes[results.predictions[i]]
    return name if name == prediction else f"{name} → {prediction}"


def _constant(content: Content, judgement: Judgement) -> Listing | None:
    """Methods whose map is constant in some samples."""
    findings = []
    for name in judgement.results.methods:
        maps = content.pictures.maps.get(name)
        if maps is None or not len(maps):
            continue
        flat = np.asarray(maps).reshape(len(maps), -1)
        count = int((flat.max(axis=1) == flat.min(axis=1)).sum())
        if count:
            findings.append(Finding("constant-maps", "note", (name,), numbers={"constant": count, "maps": len(flat)}))
    return listing(statements(findings))


def _columns(judgement: Judgement, drawn: Sequence[str]) -> list[str]:
    """The best methods and, where not all find room, the best two controls."""
    own_controls = judgement.results.controls
    methods = [name for name in judgement.everyone if name in drawn and name not in own_controls]
    controls = [name for name in judgement.everyone if name in drawn and name in own_controls]
    room = max(2, COLUMNS - len(methods))
    kept = controls if len(controls) <= room else controls[:2]
    return [*methods[: COLUMNS - len(kept)], *kept]
