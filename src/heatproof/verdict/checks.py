"""What has to be passed before anything is concluded: by the model, and by each metric."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from heatproof import stats
from heatproof.metrics.families import families
from heatproof.records import Finding
from heatproof.results.ranking import mean_defined
from heatproof.results.record import Results

LEAST = 5  # samples below which nothing is concluded
SHUFFLES = 2000

Reason = Literal["", "not-testable", "too-few-samples", "no-random-control", "random", "inverted", "noise"]


@dataclass(frozen=True)
class MetricCheck:
    """Whether a metric is valid: able to tell a real map from a wrong one on these samples.

    Attributes:
        reason: why it is not, or what could not be tried: "not-testable", "too-few-samples", "no-random-control",
            "random" and "inverted" (it does not separate any method's maps from such ones), "noise" (small input noise
            moves it further than a random map does); empty where it passed everything.
        beats_random, beats_inverted: the methods whose maps score significantly better than random and inverted ones.
        noise: how far small input noise moves it, as a share of the distance from a real to a random map.
    """

    metric: str
    valid: bool
    reason: Reason
    beats_random: tuple[str, ...] = ()
    beats_inverted: tuple[str, ...] = ()
    noise: float = float("nan")


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


def check_metric(results: Results, metric: str) -> MetricCheck:
    """Whether the metric separates real maps from random and inverted ones here, and is stable under small noise."""
    if not bears_on_truth(results, metric):
        return MetricCheck(metric, True, "not-testable")
    table = results.table(metric)
    if int(np.isfinite(table).all(axis=1).sum()) < LEAST:
        return MetricCheck(metric, False, "too-few-samples")
    upright = _beats_inverted(results, metric)
    random = results.random_control
    if random is None:
        inverted = upright == ()
        return MetricCheck(metric, not inverted, "inverted" if inverted else "no-random-control", (), upright or ())
    chance = table[:, len(results.methods) + results.controls.index(random)]
    own = table[:, : len(results.methods)]
    beats = _better(results, metric, own, chance[:, None].repeat(own.shape[1], 1))
    noise, loud = _noise(results, metric, own, chance)
    reason: Reason = "random" if not beats else "inverted" if upright == () else "noise" if loud else ""
    return MetricCheck(metric, not reason, reason, beats, upright or (), noise)


def _better(results: Results, metric: str, own: np.ndarray, other: np.ndarray) -> tuple[str, ...]:
    """The methods whose scores (N, M) are significantly better than the others in the same column (Holm-corrected)."""
    tests = [stats.pairwise(np.stack(pair, axis=1), correction="none") for pair in zip(own.T, other.T, strict=True)]
    p = stats.holm([test.p[0, 1] for test in tests])
    sign = 1 if results.better(metric) == "higher" else -1
    ahead = [test.rank_biserial[0, 1] * sign > 0 for test in tests]
    return tuple(m for m, a, q in zip(results.methods, ahead, p, strict=True) if a and q < 1 - results.level)


def _beats_inverted(results: Results, metric: str) -> tuple[str, ...] | None:
    """The methods whose maps score better than inverted ones; None where that was not tried often enough."""
    checks = results.self_checks
    if checks is None or any((m, metric) not in checks.inverted for m in results.methods):
        return None
    inverted = np.stack([checks.inverted[m, metric] for m in results.methods], axis=1)
    own = results.table(metric, controls=False)[checks.rows]
    pairs = np.isfinite(own) & np.isfinite(inverted)
    if pairs.sum(axis=0).max() <= LEAST:  # five differences never reach p < 0.05
        return None
    return _better(results, metric, np.where(pairs, own, np.nan), np.where(pairs, inverted, np.nan))


def _noise(
    results: Results, metric: str, own: Float[np.ndarray, "n m"], chance: Float[np.ndarray, " n"]
) -> tuple[float, bool]:
    """The change under noise as a share of the distance to a random map, and whether it is significantly larger."""
    checks = results.self_checks
    if checks is None or any((m, metric) not in checks.noisy for m in results.methods):
        return float("nan"), False
    noisy = np.stack([checks.noisy[m, metric] for m in results.methods], axis=1)
    here = own[checks.rows]
    change = mean_defined(list(np.abs(noisy - here).T))
    distance = mean_defined(list(np.abs(here - chance[checks.rows, None]).T))
    defined = np.isfinite(change) & np.isfinite(distance)
    if defined.sum() < LEAST or not distance[defined].any():
        return float("nan"), False
    excess = stats.estimate(change[defined] - distance[defined], level=results.level)
    return float(change[defined].mean() / distance[defined].mean()), bool(excess.low > 0)
