"""Sections that draw maps: the gallery, agreement between maps, and the samples explained worst."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float

from heatproof import plots
from heatproof.records import Samples
from heatproof.report.facts import Told
from heatproof.report.parts import Finding, Listing, Part, Picture, Section, Share, Table, listed, plural, section
from heatproof.report.sections.cases import Cases

COLUMNS = 8  # maps side by side
PANELS = 160  # panels in a gallery
WORST, METRICS = 8, 6  # samples, and columns of their scores


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


def at_hand(told: Told, pictures: Pictures) -> dict[str, np.ndarray]:
    """Maps by method (then control): those of all samples where every one is there, else those of the gallery."""
    shown = told.results.gallery
    full = {name: np.asarray(pictures.maps[name]) for name in told.everyone if name in pictures.maps}
    if len(full) == len(told.everyone) and all(len(found) == len(told.results) for found in full.values()):
        return full
    return {} if shown is None else {name: shown.maps[name] for name in told.everyone if name in shown.maps}


def gallery(told: Told, pictures: Pictures) -> Section | None:
    """Some right and some wrong predictions with the maps of the methods."""
    shown = told.results.gallery
    if shown is None or not len(shown.index) or not shown.maps:
        return None
    names = _columns(told, tuple(shown.maps))
    most = max(2, PANELS // (2 * len(names)))
    right = told.results.right[shown.index]
    parts: list[Part | None] = [_empty(told, pictures)]
    for kind, rows in (("right", np.flatnonzero(right)), ("wrong", np.flatnonzero(~right))):
        rows = rows[:most]
        if not len(rows):
            continue
        figure = plots.gallery(
            shown.x[rows],
            {name: shown.maps[name][rows] for name in names},
            labels=[_label(told, int(shown.index[i])) for i in rows],
            mask=None if shown.mask is None else shown.mask[rows],
        )
        said = "Rightly classified samples" if kind == "right" else "Misclassified samples (label → prediction)"
        caption = f"{said}, with the confidence of the prediction."
        parts.append(Picture(f"gallery-{kind}", caption, f"{said} with the maps of {listed(names, 9)}", figure))
    lead = (
        "Warm colours: evidence for the explained class; cold ones: against it; the deeper, the more. Each map is "
        "scaled by its own largest value, so shades compare positions within a map, not maps with each other."
    )
    if shown.mask is not None:
        lead += " Green marks the positions that decide the class by construction."
    if len(names) < len(shown.maps):
        lead += f" Of {len(shown.maps)} maps the best-ranked methods and some controls are drawn."
    return section("heatmaps", "Heatmaps", "Heatmaps", lead, parts)


def _empty(told: Told, pictures: Pictures) -> Listing | None:
    """Methods that leave some samples unexplained: their map is the same everywhere."""
    found = []
    for name in told.results.methods:
        maps = pictures.maps.get(name)
        if maps is None or not len(maps):
            continue
        flat = np.asarray(maps).reshape(len(maps), -1)
        count = int((flat.max(axis=1) == flat.min(axis=1)).sum())
        if count:
            of = f"{plural(count, 'sample')} of {len(flat):,}"
            found.append(Finding("note", f"{name} says nothing about {of}: its map is the same everywhere."))
    return Listing(tuple(found)) if found else None


def _columns(told: Told, known: Sequence[str]) -> list[str]:
    methods = [name for name in told.everyone if name in known and name not in told.results.controls]
    controls = [name for name in told.everyone if name in known and name in told.results.controls]
    room = max(2, COLUMNS - len(methods))
    kept = controls if len(controls) <= room else [c for c in controls if c in ("edge", "random")] or controls[:2]
    return [*methods[: COLUMNS - min(len(kept), room)], *kept]


def _label(told: Told, i: int) -> str:
    r = told.results
    label, said = r.classes[r.y[i]], r.classes[r.predictions[i]]
    return f"{label if label == said else f'{label} → {said}'} ({r.confidence[i]:.2f})"


def worst(told: Told, pictures: Pictures) -> Section | None:
    """The samples that the best method explains worst, by all metrics that count."""
    results = told.results
    if not told.rows or not results.speaking or len(results) < 2:
        return None
    method = told.rows[0].method
    standing = standings(told, method)
    rows = [int(i) for i in np.argsort(standing, kind="stable")[:WORST] if np.isfinite(standing[i])]
    lead = (
        f"Here the maps of {method} score lowest, compared with its own maps of the other samples. "
        "Look at these before trusting it."
    )
    parts = [_drawn(told, pictures, method, rows), _worst_table(told, method, rows, standing)]
    return section("worst", "Worst explained samples", "Worst", lead, parts)


def _worst_table(told: Told, method: str, rows: list[int], standing: np.ndarray) -> Table:
    results = told.results
    metrics = results.ranked[:METRICS]
    cells = []
    for i in rows:
        name = results.ids[i] if results.ids else f"#{i}"
        label, said = (results.classes[k[i]] for k in (results.y, results.predictions))
        values = [float(results.scores[method, m][i]) for m in metrics]
        shown = label if label == said else f"{label} → {said}"
        cells.append((name, shown, float(results.confidence[i]), Share(float(standing[i])), *values))
    heads = ("Sample", "Class", "Confidence", "Standing", *metrics)
    caption = (
        f"Standing: which share of the {len(results):,} samples this method explains worse, averaged over the metrics. "
        "Class: label → prediction where they differ. Behind it the scores."
    )
    return Table("worst-explained", caption, heads, tuple(cells), digits=2)


def standings(told: Told, method: str) -> Float[np.ndarray, " n"]:
    """For each sample the share of samples that a method explains worse: the mean within families, then over them."""
    from scipy.stats import rankdata

    results, families = told.results, []
    for metrics in ([m for m in results.ranked if results.family(m) == family] for family in told.families):
        if not metrics:
            continue
        cousins = []
        for metric in metrics:
            scores = results.scores[method, metric]
            up = scores if results.better(metric) == "higher" else -scores
            known = np.isfinite(up)
            share = np.full(len(up), np.nan)
            share[known] = (rankdata(up[known]) - 1) / max(1, int(known.sum()) - 1)
            cousins.append(share)
        families.append(_mean(cousins))
    return _mean(families)


def _mean(tables: list[np.ndarray]) -> np.ndarray:
    """The mean over the defined ones."""
    stack = np.stack(tables)
    known = np.isfinite(stack)
    total = np.where(known, stack, 0.0).sum(axis=0)
    return np.asarray(np.divide(total, known.sum(axis=0), out=np.full(total.shape, np.nan), where=known.any(axis=0)))


def _drawn(told: Told, pictures: Pictures, method: str, rows: list[int]) -> Picture | None:
    """The worst samples with their maps: all where maps are at hand, else those that the gallery holds."""
    results, shown = told.results, told.results.gallery
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
    wrong = [bool(results.y[i] != results.predictions[i]) for i in rows]
    figure = plots.panels(x, [_label(told, i) for i in rows], maps=heat, mask=mask, wrong=wrong)
    caption = f"The samples that {method} explains worst, the worst first; above each the class and its confidence."
    if x.ndim > 3:
        caption += " Left the input, right its map."
    label = f"{plural(len(rows), 'sample')} that {method} explains worst, with its maps"
    return Picture("worst-explained", caption, label, figure)
