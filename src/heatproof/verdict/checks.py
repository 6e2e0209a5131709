"""What has to hold before anything is concluded: whether the model has learnt something."""

from __future__ import annotations

import numpy as np

from heatproof.metrics.families import families
from heatproof.records import Finding
from heatproof.results.record import Results

LEAST = 5  # samples below which nothing is concluded of the model
SHUFFLES = 2000


def check_model(results: Results) -> Finding | None:
    """Whether the model has learnt anything; None where that cannot be tested.

    It must agree with the labels more than with shuffled ones, and do better than all its copies with random weights.
    Where all labels are equal, or fewer than five samples were studied, there is nothing to test. A study explains one
    of several labels at a time, so that shuffling these says nothing; there the copies alone decide.
    """
    y = np.asarray(results.y)
    skill = results.about.get("skill")
    measure = skill["measure"] if skill else {"classes": "correct", "labels": "auc"}.get(results.task, "correlation")
    if results.task != "labels":
        if len(np.unique(y)) < 2 or len(y) < LEAST:
            return None
        agreed, by_chance = _agreement(results)
        if by_chance >= 1 - results.level:
            numbers = {measure: agreed, "samples": len(y)}
            return Finding("model-has-not-learnt", "bad", reason="shuffled-labels", numbers=numbers)
    if not skill:
        return None
    copies = skill["copies"]
    numbers = {measure: skill["model"], "samples": skill["samples"], "best": max(copies), "copies": len(copies)}
    if max(copies) >= skill["model"]:
        return Finding("model-has-not-learnt", "bad", reason="random-weights", numbers=numbers)
    return Finding("model-has-learnt", "good", reason="random-weights", numbers=numbers)


def _agreement(results: Results) -> tuple[float, float]:
    """How far predictions and labels agree, and how probable that is with shuffled labels (a permutation test)."""
    y, predictions = np.asarray(results.y), np.asarray(results.predictions)
    generator = np.random.default_rng(results.seed)
    shuffled = (generator.permutation(y) for _ in range(SHUFFLES))
    if results.task == "regression":
        if not predictions.std():
            return 0.0, 1.0
        agreed = float(np.corrcoef(y, predictions)[0, 1])
        reached = sum(float(np.corrcoef(mixed, predictions)[0, 1]) >= agreed for mixed in shuffled)
    else:
        agreed = int((y == predictions).sum())
        reached = sum(int((mixed == predictions).sum()) >= agreed for mixed in shuffled)
    return agreed, (1 + reached) / (1 + SHUFFLES)


def bears_on_truth(results: Results, metric: str) -> bool:
    """Whether the metric says something about which map is right, and a control can be beaten by it."""
    family = families[results.family(metric)]
    return family.bears_on_truth and family.beatable
