"""The samples in which the best method has its lowest overall scores."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

from heatproof import plots
from heatproof.annotations import Task
from heatproof.phrases import plural
from heatproof.report.content import Content, Pictures
from heatproof.report.parts import Cell, Picture, Section, Table, compose
from heatproof.report.sections.gallery import classes, label
from heatproof.verdict.judgement import Judgement

WORST, METRICS = 8, 6  # samples, and columns of their scores
HEADS: Mapping[Task, tuple[tuple[str, ...], str]] = {
    "classes": (
        ("Class", "Probability"),
        "Class: label → prediction where they differ. Probability: of the predicted class.",
    ),
    "labels": (
        ("Label", "Probability"),
        "Label: the one explained, true → predicted where they differ. Probability: of this label.",
    ),
    "regression": (("Value",), "Value: true → predicted."),
}
ABOVE: Mapping[Task, str] = {
    "classes": "the class and the probability of the predicted class",
    "labels": "the label explained and its probability",
    "regression": "the true value and the output",
}


def section(content: Content) -> Section | None:
    """The samples that the best method explains worst, by its overall score."""
    judgement = content.judgement
    if judgement is None or len(judgement.results) < 2:
        return None
    method = best(judgement)
    if method is None:
        return None
    scores = judgement.overall()[:, judgement.results.methods.index(method)]
    rows = [int(i) for i in np.argsort(scores, kind="stable")[:WORST] if np.isfinite(scores[i])]
    who = "named" if method in judgement.verdict.trusted else "with the best overall score"
    lead = (
        f"In these samples the maps of {method}, the method {who}, agree least with what windows of the input are "
        "worth to the model. Inspect them before relying on the method."
    )
    parts = [_drawn(content.pictures, judgement, method, rows), _table(judgement, method, rows, scores)]
    return compose("worst", "Samples with the lowest scores", "Lowest scores", lead, parts)


def best(judgement: Judgement) -> str | None:
    """The method with the best overall score, of those named where any is; None where none has a score."""
    scored = [check for check in judgement.verdict.by_score if check.overall.n]
    named = [check for check in scored if check.method in judgement.verdict.trusted]
    return (named or scored)[0].method if scored else None


def _table(judgement: Judgement, method: str, rows: list[int], scores: Float[np.ndarray, " n"]) -> Table:
    results = judgement.results
    metrics = [m for m in (*judgement.testable, *results.metrics) if (method, m) in results.scores]
    metrics = [*dict.fromkeys((*(m for part in judgement.questions.values() for m in part), *metrics))][:METRICS]
    cells: list[tuple[Cell, ...]] = []
    for i in rows:
        name = results.ids[i] if results.ids else f"#{i}"
        values = [float(results.scores[method, m][i]) for m in metrics]
        probability = (float(results.probability[i]),) if results.gradable else ()
        cells.append((name, classes(results, i), *probability, float(scores[i]), *values))
    head, words = HEADS[results.task]
    columns = ("Sample", *head, "Overall", *metrics)
    caption = (
        f"The samples in which {method} has the lowest overall score, the mean of where and how much (0 is chance, 1 "
        f"is a perfect map), with its scores. {words}"
    )
    return Table("worst-explained", caption, columns, tuple(cells), digits=2)


def _drawn(pictures: Pictures, judgement: Judgement, method: str, rows: list[int]) -> Picture | None:
    """These samples with their maps: all where their maps are available, else those that the gallery holds."""
    results, shown = judgement.results, judgement.results.gallery
    judged, maps = pictures.judged, pictures.maps.get(method)
    if judged is not None and maps is not None and len(judged) == len(maps) == len(results):
        x = np.stack([np.asarray(judged.x[i]) for i in rows])
        heat = np.stack([np.asarray(maps[i]) for i in rows])
        mask = None if judged.mask is None else judged.mask[rows].numpy()
    elif shown is not None and method in shown.maps and set(rows) & set(shown.index.tolist()):
        rows = [i for i in rows if i in set(shown.index.tolist())]
        place = [shown.index.tolist().index(i) for i in rows]
        x, heat = shown.x[place], shown.maps[method][place]
        mask = None if shown.mask is None else shown.mask[place]
    else:
        return None
    errors = [results.gradable and not bool(results.correct[i]) for i in rows]
    figure = plots.panels(x, [label(results, i) for i in rows], maps=heat, mask=mask, incorrect=errors)
    caption = f"The samples in which {method} scores lowest, the lowest first; above each {ABOVE[results.task]}."
    if x.ndim > 3:
        caption += " Left the input, right its map."
    return Picture("worst-explained", caption, f"{plural(len(rows), 'sample')} with the maps of {method}", figure)
