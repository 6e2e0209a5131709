"""Do the maps depend on the labels that the model learnt? Compared with a model trained on shuffled ones."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from heatproof import draws
from heatproof import methods as attribution
from heatproof.errors import InputError
from heatproof.metrics.randomisation import of_model, randomised
from heatproof.metrics.similarity import Similarity, similarity
from heatproof.probe import Goal, Probe, as_probe
from heatproof.records import Samples
from heatproof.studying.results import Results
from heatproof.training import Recipe, train

NAME, FOLDER = "label-randomisation", "shuffled-labels"
MEMORISE = Recipe("memorise", epochs=60, batch=64, learning_rate=0.003)


def shuffled_model(
    model: nn.Module | Probe,
    learn: Samples,
    *,
    recipe: Recipe = MEMORISE,
    out: str | os.PathLike[str] | None = None,
    seed: int = 0,
) -> nn.Module:
    """A network like the model, its weights drawn at random, trained on the same inputs with shuffled labels.

    With ``out``, the folder of a study, it is kept there and trained only once.
    """
    order = draws.uniform(draws.seeds(seed, "labels", torch.arange(len(learn))), ()).argsort()
    fresh = next(randomised(as_probe(model), seed=seed, order="cascading", stages=1)).model
    folder = None if out is None else Path(out) / FOLDER
    mixed = replace(learn, y=learn.y[order])
    return train(mixed, recipe=recipe, out=folder, net=fresh, seed=seed, resume=True, quiet=True)


def label_randomisation(
    results: Results,
    model: nn.Module | Probe,
    samples: Samples,
    other: nn.Module,
    *,
    kind: Similarity = "spearman",
) -> Results:
    """The results with how alike each method's maps of the model and of one trained on shuffled labels are, in [-1, 1].

    Adebayo et al. 2018 (arXiv 1810.03292), section 3.2. Low is good; a method whose maps stay alike is barred by the
    verdict. Cost: two explanations a method.

    Args:
        samples: those of the study. other: from `shuffled_model`.
    Raises: InputError where the samples are not those of the study, or single targets were explained.
    """
    probe = as_probe(model)
    if len(samples) != len(results):
        raise InputError(f"samples: got {len(samples)}, expected the {len(results)} of the study")
    told = str(results.about.get("target", "None"))
    if told not in ("None", "label"):
        raise InputError(f"target: got {told!r}, expected a study of the predicted class or of the label")
    goal = Goal(torch.as_tensor(results.y if told == "label" else results.predictions).to(probe.device))
    specs = attribution.parse((*results.methods, *results.controls))
    maps, again = (
        attribution.attribute(p, probe.check(samples.x[:]), specs, target=goal, seed=results.seed)
        for p in (probe, of_model(probe, other))
    )
    scores = dict(results.scores)
    for spec in specs:
        flat = maps[spec].flatten(1)
        alike = similarity(maps[spec], again[spec], kind)
        alike = torch.where(flat.amax(1) > flat.amin(1), alike.nan_to_num(0.0), torch.nan)
        scores[str(spec), NAME] = np.asarray(alike.double().cpu())
    facts = {
        "better": "lower", "family": "randomisation", "range": [-1, 1], "paper": "1810.03292",
        "summary": "How alike the maps of the model and of one trained on shuffled labels are.",
    }  # fmt: skip
    about = {**results.about, "metrics": {**results.about.get("metrics", {}), NAME: facts}}
    metrics = tuple(dict.fromkeys((*results.metrics, NAME)))
    return replace(results, scores=scores, metrics=metrics, about=about)
