"""Similarity of the methods' maps: by the order of their positions, and by their structure."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Float

from heatproof import plots, stats
from heatproof.metrics.similarity import Similarity, similarity
from heatproof.phrases import plural
from heatproof.report.content import Content, Pictures
from heatproof.report.parts import Picture, Section, compose
from heatproof.report.sections.agreement import correlations, extremes
from heatproof.verdict.judgement import Judgement

BUDGET: dict[Similarity, int] = {"spearman": 2**21, "ssim": 2**24}  # positions ranked a method; compared in all
LEAST = 4  # samples that are compared whatever their size
NAMES: dict[Similarity, str] = {"spearman": "Spearman's correlation", "ssim": "structural similarity (SSIM)"}


def section(content: Content) -> Section | None:
    """The similarity of every two methods' maps; None where fewer than two have any."""
    judgement = content.judgement
    maps = {} if judgement is None else _maps(judgement, content.pictures)
    if judgement is None or len(maps) < 2:
        return None
    lead = "Methods with similar maps give similar explanations; that does not make them correct."
    if judgement.results.controls:
        lead += " A method whose maps resemble a reference map may show properties of the input rather than the model."
    parts = [_drawn(maps, "spearman"), _drawn(maps, "ssim")]
    return compose("similarity", "Similarity of the maps", "Maps", lead, parts)


def _maps(judgement: Judgement, pictures: Pictures) -> dict[str, np.ndarray]:
    """Maps by method (then control): those of all samples where every one is there, else those of the gallery."""
    shown, everyone = judgement.results.gallery, judgement.everyone
    full = {name: np.asarray(pictures.maps[name]) for name in everyone if name in pictures.maps}
    if len(full) == len(everyone) and all(len(maps) == len(judgement.results) for maps in full.values()):
        return full
    return {} if shown is None else {name: shown.maps[name] for name in everyone if name in shown.maps}


def _drawn(maps: Mapping[str, np.ndarray], measure: Similarity) -> Picture:
    matrix, count = map_similarities(maps, measure)
    caption = f"Similarity of the maps by {NAMES[measure]}, mean over {plural(count, 'sample')}; 1 means identical"
    caption += (
        " maps. SSIM compares structure in small windows, each map scaled to [0, 1] first."
        if measure == "ssim"
        else " orders of the positions."
    )
    label = f"Similarity of the maps by {NAMES[measure]}: " + extremes(matrix, list(maps))
    name = "method-agreement" if measure == "spearman" else "method-agreement-ssim"
    axis = "Spearman correlation" if measure == "spearman" else "SSIM"
    return Picture(name, caption, label, plots.agreement(matrix, list(maps), label=axis))


def map_similarities(
    maps: Mapping[str, Float[np.ndarray, "n *s"]], measure: Similarity = "spearman"
) -> tuple[Float[np.ndarray, "k k"], int]:
    """How similar the maps of each two methods are, a mean over samples; and over how many samples.

    A pair with a constant map is left out of the mean; NaN where no pair is left.
    """
    tables = list(maps.values())
    work = max(1, int(np.prod(tables[0].shape[1:]))) * (1 if measure == "spearman" else len(tables) ** 2)
    most = min(len(tables[0]), max(LEAST, BUDGET[measure] // work))
    rows = np.unique(np.linspace(0, len(tables[0]) - 1, most).round().astype(int))
    chosen = [np.asarray(table)[rows] for table in tables]
    if measure == "spearman":
        return correlations([stats.ranks(table.reshape(len(rows), -1)) for table in chosen]), len(rows)
    tensors = [torch.as_tensor(np.ascontiguousarray(table)) for table in chosen]
    matrix = np.full((len(tensors), len(tensors)), np.nan)
    for i, j in itertools.combinations_with_replacement(range(len(tensors)), 2):
        matrix[i, j] = matrix[j, i] = float(similarity(tensors[i], tensors[j], measure).nanmean())
    return matrix, len(rows)
