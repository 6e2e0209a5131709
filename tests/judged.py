"""Studies built by hand, one for each kind of answer that a verdict gives."""

from __future__ import annotations

from typing import Any

import numpy as np

from heatproof.facade import Results
from heatproof.records import Estimate
from heatproof.results.evidence import Evidence
from heatproof.results.record import Gallery
from heatproof.verdict.decision import Kind

WHERE, HOW_MUCH = "window-localisation", "window-correlation"
OWN = ("another sample", "another class", "moved forward", "moved back")
SIZE = 20
Level = float | tuple[float, float]  # of both questions, or of where and how much


def facts(better: str = "higher", family: str = "evidence", **more: Any) -> dict[str, Any]:
    """What a metric declares."""
    return {"better": better, "family": family, "range": [None, None], "summary": "What it measures.", **more}


def evidence(n: int, seed: int = 0, size: int = SIZE) -> Evidence:
    """Worths of windows of three sizes, every sample having one stretch of its input that holds the decision."""
    rng, starts, widths, scale = np.random.default_rng(seed), list[int](), list[int](), list[int]()
    for number, width in enumerate((2, 4, 7)):
        places = range(0, size - width + 1, max(1, width // 2))
        starts += places
        widths += [width] * len(places)
        scale += [number] * len(places)
    first, wide = np.asarray(starts), np.asarray(widths)
    middle = rng.integers(4, size - 4, size=n)
    held = ((first <= middle[:, None]) & (middle[:, None] < first + wide)).astype(np.float64)
    values = np.stack([2 * held - 1 + 0.1 * rng.normal(size=held.shape) for _ in range(2)], axis=1)
    return Evidence(
        np.tile(first[None, :, None], (n, 1, 1)), wide[:, None], np.asarray(scale), values,
        np.stack([(np.arange(n) + 1) % n, (np.arange(n) + 2) % n], axis=1), np.ones((n, 2)),
    )  # fmt: skip


def judged(
    levels: dict[str, Level],
    *,
    n: int = 120,
    noise: float = 0.1,
    controls: dict[str, Level] | None = None,
    own: dict[str, dict[str, float]] | None = None,
    seed: int = 0,
    wrong: int = 20,
    **about: Any,
) -> Results:
    """Scores around a level for each method; its own controls are near 0 unless ``own`` says how far below it they are.

    Args:
        controls: the levels of reference maps. own: by method and own control, by how much the method is ahead.
    """
    rng = np.random.default_rng(seed)
    base = 0.2 * rng.normal(size=n)
    controls = {"random": 0.0, "edge": 0.1} if controls is None else controls
    scores, wrong_maps = {}, {}
    for name, level in {**levels, **controls}.items():
        pair = level if isinstance(level, tuple) else (level, level)
        for metric, centre in zip((WHERE, HOW_MUCH), pair, strict=True):
            values = centre + base + noise * rng.normal(size=n)
            scores[name, metric] = values
            for control in OWN if name in levels else ():
                ahead = (own or {}).get(name, {}).get(control, centre)
                wrong_maps[control, name, metric] = values - ahead + noise * rng.normal(size=n)
        scores[name, "deletion"] = -scores[name, HOW_MUCH] + noise * rng.normal(size=n)
    y = np.arange(n) % 2
    predictions = np.where(np.arange(n) < wrong, 1 - y, y)
    index = np.array([0, 1, n - 2, n - 1])
    gallery = Gallery(
        index, rng.normal(size=(4, 1, SIZE)), {name: rng.random((4, SIZE)) for name in (*levels, *controls)}
    )
    return Results(
        scores,
        tuple(levels),
        tuple(controls),
        (WHERE, HOW_MUCH, "deletion"),
        y,
        predictions,
        np.full(n, 0.9),
        ("cat", "dog"),
        gallery=gallery,
        about={
            "metrics": {
                WHERE: facts(question="where"),
                HOW_MUCH: facts(question="how much"),
                "deletion": facts("lower", "faithfulness"),
            },
            "method_facts": {name: {"summary": f"How {name} works."} for name in (*levels, *controls)},
            "size": [SIZE],
            "data": "toy",
            **about,
        },
        own_controls=wrong_maps,
        evidence=evidence(n, seed),
    )


def of_kind(kind: Kind) -> Results:
    """A study whose verdict is of this kind."""
    return {
        "use": lambda: judged({"good": 0.7, "fair": 0.5, "poor": 0.3}),
        "interchangeable": lambda: judged({"one": 0.7, "other": 0.7, "poor": 0.3}, noise=0.05),
        "by question": lambda: judged({"pointer": (0.8, 0.4), "ruler": (0.4, 0.8), "poor": 0.2}),
        "none": lambda: judged({"blind": 0.6, "still": 0.5}, own={"blind": {OWN[1]: 0.0}, "still": {OWN[1]: 0.0}}),
        "cannot tell yet": lambda: judged({"good": 0.7, "fair": 0.5}, n=30, wrong=4),
    }[kind]()


def covers(estimate: Estimate, value: float) -> bool:
    """Whether a value lies in the interval of an estimate."""
    return estimate.low <= value <= estimate.high
