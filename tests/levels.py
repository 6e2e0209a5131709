"""Studies built by hand, whose scores lie around a level for each method and metric."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from heatproof.facade import Results

N = 60
FAMILIES = {"deletion": "faithfulness", "aopc": "faithfulness", "pointing": "localisation"}
CONTROLS = {"*random": -2.0, "*edge": -1.0}


def built(levels: dict[str, float | dict[str, float]], *, noise: float = 0.3, seed: int = 0, **extra: Any) -> Results:
    """Scores around a level for each method (or method and metric); names with a star are controls."""
    rng = np.random.default_rng(seed)
    families = {**FAMILIES, **extra.pop("families", {})}
    base, n = rng.normal(size=extra.get("n", N)) * 0.5, extra.pop("n", N)
    scores = {}
    for name, level in levels.items():
        for metric in families:
            centre = level.get(metric, level.get("*", 0.0)) if isinstance(level, dict) else level
            scores[name.strip("*"), metric] = base + centre + rng.normal(size=n) * noise
    facts = {k: {"better": "higher", "family": f, "range": [None, None], "summary": ""} for k, f in families.items()}
    methods = {name.strip("*"): {} for name in levels}
    zero = np.zeros(n, dtype=np.int64)
    return Results(
        scores,
        tuple(name for name in levels if "*" not in name),
        tuple(name.strip("*") for name in levels if "*" in name),
        tuple(families),
        zero,
        zero,
        np.ones(n),
        ("a",),
        about={"metrics": facts, "method_facts": methods, **extra.pop("about", {})},
        **extra,
    )


def learnt(results: Results, *, correct: float, hits: dict[str, Any] | None = None, seed: int = 0) -> Results:
    """The study of a model that agrees with the labels of ten classes this often, and else by chance."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 10, size=len(results))
    predictions = np.where(rng.random(len(y)) < correct, y, rng.integers(0, 10, size=len(y)))
    return replace(results, y=y, predictions=predictions, about={**results.about, "skill": hits})
