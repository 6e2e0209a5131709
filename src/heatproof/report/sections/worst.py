"""The samples in which the best method scores lowest, compared with its own scores in the other samples."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

from heatproof import plots
from heatproof.annotations import Task
from heatproof.phrases import plural
from heatproof.report.content import Content, Pictures
from heatproof.report.parts import Cell, Picture, Section, Share, Table, compose
from heatproof.report.sections.gallery import classes, label
from heatproof.results.ranking import mean_defined
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
    """The samples that the best method explains worst, by the metrics that rank."""
    judgement = content.judgement
    if judgement is None or not judgement.rows or not judgement.comparable or len(judgement.results) < 2:
        return None
    method = judgement.rows[0].method
    shares = shares_worse(judgement, method)
    rows = [int(i) for i in np.argsort(shares, kind="stable")[:WORST] if np.isfinite(shares[i])]
    lead = (
        f"In these samples the maps of {method} score lowest, compared with its maps of the other samples. Inspect "
        "them before relying on the method."
    )
    parts = [_drawn(content.pictures, judgement, method, rows), _table(judgement, method, rows, shares)]
    return compose("worst", "Samples with the lowest scores", "Lowest scores", lead, parts)


def shares_worse(judgement: Judgement, method: str) -> Float[np.ndarray, " n"]:
    """For each sample the share of samples with lower scores: the mean within families of metrics, then over them."""
    from scipy.stats import rankdata

    results, families = judgement.results, []
    for metrics in ([m for m in judgement.ranking_metrics if results.family(m) == f] for f in judgement.families):
        if not metrics:
            continue
        columns = []
        for metric in metrics:
            scores = results.scores[method, metric]
            rising = scores if results.better(metric) == "higher" else -scores
            defined = np.isfinite(rising)
            share = np.full(len(rising), np.nan)
            share[defined] = (rankdata(rising[defined]) - 1) / max(1, int(defined.sum()) - 1)
            columns.append(share)
        families.append(mean_defined(columns))
    return mean_defined(families)


def _table(judgement: Judgement, method: str, rows: list[int], shares: np.ndarray) -> Table:
    results, metrics = judgement.results, judgement.ranking_metrics[:METRICS]
    cells: list[tuple[Cell, ...]] = []
    for i in rows:
        name = results.ids[i] if results.ids else f"#{i}"
        values = [float(results.scores[method, m][i]) for m in metrics]
        probability = (float(results.probability[i]),) if results.gradable else ()
        cells.append((name, classes(results, i), *probability, Share(float(shares[i])), *values))
    head, words = HEADS[results.task]
    columns = ("Sample", *head, "Samples below", *metrics)
    caption = (
        f"The samples in which {method} scores lowest, with the scores. {words} Samples below: share of the "
        f"{len(results):,} samples with a lower score, averaged over the metrics."
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
