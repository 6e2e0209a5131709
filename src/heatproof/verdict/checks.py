"""What has to be passed before anything speaks: by the model, by each metric, by each method."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from heatproof import stats
from heatproof.results.ranking import TRUTH, mean_defined, standings
from heatproof.results.record import Results

RANDOM = "random"
# A map counts as unchanged where the whole interval of the likeness lies above this.
STILL = {"parameter-randomisation": 0.5, "label-randomisation": 0.5, "random-logit": 0.9}
LEAST = 5  # samples below which nothing is concluded
SHUFFLES = 2000


@dataclass(frozen=True)
class MetricCheck:
    """Whether a metric counts, and why not.

    Attributes:
        beats_random, beats_inverted: the candidates whose maps it tells from random and from inverted ones.
        noise: how far small input noise moves it, as a share of the distance from a real to a random map.
    """

    metric: str
    counts: bool
    reason: str
    beats_random: tuple[str, ...] = ()
    beats_inverted: tuple[str, ...] = ()
    noise: float = float("nan")


@dataclass(frozen=True)
class MethodCheck:
    """Whether a method counts, and what speaks against it.

    Attributes:
        unbeaten: controls it is not better than. unmoved: sanity checks it fails. passed: those it passes.
    """

    method: str
    counts: bool
    unbeaten: tuple[str, ...]
    unmoved: tuple[str, ...]
    passed: tuple[str, ...] = ()


def ignorance(results: Results) -> str:
    """Why the model cannot be said to have learnt anything, or nothing.

    It must agree with the labels more than with shuffled ones, and more often than all its copies with random weights.
    Where all labels are alike this cannot be told, and nothing is said.
    """
    y, told = np.asarray(results.y), np.asarray(results.predictions)
    if len(np.unique(y)) < 2 or len(y) < LEAST:
        return ""
    agreed, generator = int((y == told).sum()), np.random.default_rng(results.seed)
    reached = sum(int((generator.permutation(y) == told).sum()) >= agreed for _ in range(SHUFFLES))
    if (1 + reached) / (1 + SHUFFLES) >= 1 - results.level:
        return f"its predictions agree with the labels no more than with shuffled ones ({agreed} of {len(y)})"
    hits = results.about.get("hits")
    if hits and max(hits["twins"]) >= hits["model"]:
        best = max(hits["twins"])
        return f"a copy with random weights is as good ({best} and {hits['model']} of {hits['samples']} samples right)"
    return ""


def check_metric(results: Results, metric: str) -> MetricCheck:
    """Whether the metric tells real maps from random and inverted ones here, and holds still under small noise."""
    if results.family(metric) not in TRUTH:
        return MetricCheck(metric, True, "a random map cannot test it")
    table = results.table(metric)
    if int(np.isfinite(table).all(axis=1).sum()) < LEAST:
        return MetricCheck(metric, False, f"it is defined for fewer than {LEAST} samples")
    upright = _beats_inverted(results, metric)
    names = [name for name in results.controls if name.split(":")[0] == RANDOM]
    if not names:
        reason = "there is no random control to test it"
        return MetricCheck(metric, upright != (), _INVERTED if upright == () else reason, (), upright or ())
    chance = table[:, len(results.methods) + results.controls.index(names[0])]
    own = table[:, : len(results.methods)]
    beats = _better(results, metric, own, chance[:, None].repeat(own.shape[1], 1))
    noise, loud = _noise(results, metric, own, chance)
    reason = ""
    if not beats:
        reason = "it cannot tell any method's maps from random ones on these samples"
    elif upright == ():
        reason = _INVERTED
    elif loud:
        reason = "a little noise on the input moves it further than a random map does"
    return MetricCheck(metric, not reason, reason, beats, upright or (), noise)


_INVERTED = "it cannot tell any method's maps from the same maps inverted on these samples"


def _better(results: Results, metric: str, own: np.ndarray, other: np.ndarray) -> tuple[str, ...]:
    """The methods whose scores (N, M) are better than the others in the same column beyond doubt (Holm-corrected)."""
    tests = [stats.pairwise(np.stack(pair, axis=1), correction="none") for pair in zip(own.T, other.T, strict=True)]
    p = stats.holm([test.p[0, 1] for test in tests])
    sign = 1 if results.better(metric) == "higher" else -1
    ahead = [test.rank_biserial[0, 1] * sign > 0 for test in tests]
    return tuple(m for m, a, q in zip(results.methods, ahead, p, strict=True) if a and q < 1 - results.level)


def _beats_inverted(results: Results, metric: str) -> tuple[str, ...] | None:
    """The methods whose maps the metric tells from inverted ones; None where that was not tried often enough."""
    trials = results.trials
    if trials is None or any((m, metric) not in trials.inverted for m in results.methods):
        return None
    turned = np.stack([trials.inverted[m, metric] for m in results.methods], axis=1)
    own = results.table(metric, controls=False)[trials.rows]
    pairs = np.isfinite(own) & np.isfinite(turned)
    if pairs.sum(axis=0).max() <= LEAST:  # five differences never reach p < 0.05
        return None
    return _better(results, metric, np.where(pairs, own, np.nan), np.where(pairs, turned, np.nan))


def _noise(
    results: Results, metric: str, own: Float[np.ndarray, "n m"], chance: Float[np.ndarray, " n"]
) -> tuple[float, bool]:
    """The change under noise as a share of the distance to a random map, and whether it is larger beyond doubt."""
    trials = results.trials
    if trials is None or any((m, metric) not in trials.noisy for m in results.methods):
        return float("nan"), False
    noisy = np.stack([trials.noisy[m, metric] for m in results.methods], axis=1)
    here = own[trials.rows]
    change = mean_defined(list(np.abs(noisy - here).T))
    away = mean_defined(list(np.abs(here - chance[trials.rows, None]).T))
    known = np.isfinite(change) & np.isfinite(away)
    if known.sum() < LEAST or not away[known].any():
        return float("nan"), False
    more = stats.estimate(change[known] - away[known], confidence=results.level, seed=results.seed)
    return float(change[known].mean() / away[known].mean()), bool(more.low > 0)


def check_methods(results: Results, counting: Sequence[str]) -> tuple[MethodCheck, ...]:
    """Whether each method beats every control by the metrics that count, and its maps move with model and class."""
    truth = tuple(m for m in counting if results.family(m) in TRUTH)
    if truth and results.controls:
        table = results.voices(metrics=truth)
        own = table[:, : len(results.methods)]
        unbeaten = standings(
            own, table, results.methods, results.controls,
            metric=None, better="lower", alpha=1 - results.level, seed=results.seed,
        ).unbeaten  # fmt: skip
    else:
        unbeaten = dict.fromkeys(results.methods, () if truth else ("any control",))
    unmoved: dict[str, list[str]] = {name: [] for name in results.methods}
    passed: dict[str, list[str]] = {name: [] for name in results.methods}
    for (method, metric), found in results.estimates().items():
        limit = STILL.get(metric.split(":")[0])
        if method in unmoved and limit is not None and found.n:
            (unmoved if found.low > limit else passed)[method].append(metric)
    return tuple(
        MethodCheck(name, not unbeaten[name] and not unmoved[name], unbeaten[name], tuple(unmoved[name]),
                    tuple(passed[name]))
        for name in results.methods
    )  # fmt: skip
