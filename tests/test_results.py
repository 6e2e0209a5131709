"""What can be read off results: rankings of families of metrics, controls apart, undefined scores counted."""

from __future__ import annotations

from typing import Any

import numpy as np

from heatproof.results.record import Results
from heatproof.verdict import Judgement


def synthetic(scores: dict[tuple[str, str], np.ndarray], families: dict[str, str], **extra: Any) -> Results:
    methods = tuple(dict.fromkeys(m for m, _ in scores if not m.startswith("c:")))
    controls = tuple(dict.fromkeys(m for m, _ in scores if m.startswith("c:")))
    n = len(next(iter(scores.values())))
    facts = {k: {"better": "higher", "family": f, "range": [None, None], "summary": ""} for k, f in families.items()}
    zero = np.zeros(n, dtype=np.int64)
    return Results(
        scores, methods, controls, tuple(families), zero, zero, np.ones(n), ("a",), about={"metrics": facts}, **extra
    )


def test_metrics_of_one_family_count_once() -> None:
    good, bad = np.linspace(1, 2, 40), np.linspace(0, 1, 40)
    scores = {("a", f"d{i}"): good for i in range(5)} | {("b", f"d{i}"): bad for i in range(5)}
    scores |= {("a", "p"): bad, ("b", "p"): good}
    families = {f"d{i}": "faithfulness" for i in range(5)} | {"p": "localisation"}
    results = synthetic(scores, families)
    np.testing.assert_allclose(results.family_ranks(results.metrics), 1.5)
    assert Judgement(results).ranking().top == ("a", "b")
    assert results.ranking("p").top == ("b",)


def test_complexity_and_sanity_checks_do_not_rank() -> None:
    good, bad = np.linspace(1, 2, 40), np.linspace(0, 1, 40)
    scores = {("a", "d"): good, ("b", "d"): bad, ("a", "g"): bad, ("b", "g"): good, ("a", "r"): bad, ("b", "r"): good}
    judgement = Judgement(synthetic(scores, {"d": "faithfulness", "g": "complexity", "r": "randomisation"}))
    assert judgement.comparable == ("d",)
    assert judgement.ranking().top == ("a",)
    assert judgement.ranking().rows[0].support == 1


def test_beating_a_control_needs_evidence() -> None:
    rng = np.random.default_rng(0)
    base = rng.normal(size=60)
    scores = {
        ("a", "d"): base + 1,
        ("b", "d"): base + rng.normal(size=60) * 0.01,
        ("c:edge", "d"): base,
        ("c:random", "d"): base - 1,
    }
    ranking = synthetic(scores, {"d": "faithfulness"}).ranking("d")
    assert {row.method: row.beats for row in ranking.rows} == {"a": ("c:edge", "c:random"), "b": ("c:random",)}
    assert ranking.controls[0].method == "c:edge"


def test_nan_is_counted_and_never_averaged() -> None:
    values = np.array([1.0, np.nan, 3.0, 2.0])
    estimate = synthetic({("a", "d"): values}, {"d": "faithfulness"}).estimates()["a", "d"]
    assert (estimate.mean, estimate.n, estimate.undefined) == (2.0, 3, 1)
