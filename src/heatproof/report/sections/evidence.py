"""The evidence itself: what windows of some inputs are worth to the model, beside the maps of the methods."""

from __future__ import annotations

import math

import numpy as np

from heatproof import plots
from heatproof.phrases import listed
from heatproof.report.content import Content
from heatproof.report.parts import Part, Picture, Section, compose
from heatproof.report.sections.gallery import label, strata
from heatproof.results.record import Gallery
from heatproof.verdict.judgement import Judgement
from heatproof.verdict.questions import QUESTIONS, scores

WORTH = "worth of windows"
SAMPLES, METHODS = 5, 4  # of each group of samples, and beside the worth


def section(content: Content) -> Section | None:
    """Some samples of the gallery: what their windows are worth, and the maps of the named or the best methods."""
    judgement = content.judgement
    if judgement is None or judgement.results.evidence is None or judgement.results.gallery is None:
        return None
    results, shown = judgement.results, judgement.results.gallery
    methods = _methods(judgement, shown)
    parts: list[Part | None] = []
    for name, heading, order, places in strata(results, shown.index):
        rows = [int(i) for i in places if _has_worth(judgement, int(shown.index[i]))][:SAMPLES]
        if rows and results.size == shown.x.shape[2:]:
            parts.append(_drawn(judgement, shown, methods, rows, f"evidence-{name}", heading + order))
    lead = (
        "Windows of three sizes are moved over the input. Each is kept while everything else is replaced by another "
        "sample that is predicted otherwise, and the other way round; the change of the decision shows how much of it "
        "the window holds. No attribution method takes part in this. A map that answers both questions is warm where "
        "the windows are warm, and deepest where they are deepest."
    )
    if methods:
        kind = "named" if set(methods) <= set(judgement.verdict.trusted) else "with the best overall scores"
        lead += f" Beside the worth are the maps of the methods {kind}: {listed(methods)}."
    return compose("evidence", "The evidence in single samples", "Evidence", lead, parts)


def _methods(judgement: Judgement, shown: Gallery) -> list[str]:
    """The methods named that have maps in the gallery; where none is, the best by their overall score."""
    best = [row.method for row in judgement.rows if row.score.n and row.method in shown.maps]
    named = [name for name in best if name in judgement.verdict.trusted]
    return (named or best)[:METHODS]


def _has_worth(judgement: Judgement, place: int) -> bool:
    evidence = judgement.results.evidence
    return evidence is not None and bool(np.isfinite(evidence.worth[place]).all())


def _drawn(
    judgement: Judgement, shown: Gallery, methods: list[str], rows: list[int], name: str, heading: str
) -> Picture:
    """The samples in these places of the gallery."""
    results, evidence = judgement.results, judgement.results.evidence
    assert evidence is not None
    places = [int(shown.index[i]) for i in rows]
    worth = np.stack([evidence.over(results.size, place) for place in places])
    maps = {WORTH: worth, **{method: shown.maps[method][rows] for method in methods}}
    figure = plots.gallery(
        shown.x[rows],
        maps,
        labels=[label(results, place) for place in places],
        mask=None if shown.mask is None else shown.mask[rows],
        captions={method: [_scores(judgement, method, place) for place in places] for method in methods},
    )
    caption = (
        f"{heading}. Worth of windows: what the windows that cover a position hold of the decision, on average, each "
        "size of windows on its own scale; warm: they support it, cold: they oppose it, clear: they hold nothing. "
        "Above each map its scores in this sample, for where / for how much (0 is chance, 1 is perfect)."
    )
    words = f"{heading}: the worth of windows beside the maps of {listed(methods) or 'no method'}"
    return Picture(name, caption, words, figure)


def _scores(judgement: Judgement, method: str, place: int) -> str:
    """The scores of one map for each question, as "0.62 / 0.71"."""
    values = [scores(judgement.results, method, question) for question in QUESTIONS]
    numbers = [math.nan if column is None else float(column[place]) for column in values]
    return " / ".join(f"{value:.2f}".replace("-", "−") if math.isfinite(value) else "–" for value in numbers)
