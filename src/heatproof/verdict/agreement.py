"""Which metrics that need no mask agree with the planted truth for this model."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from heatproof import stats
from heatproof.records import Estimate
from heatproof.results.ranking import mean_defined
from heatproof.results.record import Results

RESAMPLES = 1000
FEWEST = 3  # methods and controls below which orders cannot be compared


@dataclass(frozen=True)
class Agreement:
    """How far one metric agrees with the localisation metrics, each in [-1, 1].

    Attributes:
        methods: Kendall's tau-b of the mean ranks of the methods and controls; percentile interval over samples.
        samples: Spearman's correlation of the methods' ranks within each sample, averaged, with interval.
        agrees: whether both intervals lie above 0.
    """

    metric: str
    methods: Estimate
    samples: Estimate
    agrees: bool


@dataclass(frozen=True)
class Calibration:
    """The metrics that need no mask, those that agree most with the planted truth first.

    Attributes:
        truth: the localisation metrics they are compared with; empty where there is no mask.
        reason: why there are no rows: "no-truth", "too-few"; empty where there are.
    """

    rows: tuple[Agreement, ...]
    truth: tuple[str, ...]
    reason: Literal["", "no-truth", "too-few"] = ""

    @property
    def agreeing(self) -> tuple[str, ...]:
        """The metrics that agree with the planted truth."""
        return tuple(row.metric for row in self.rows if row.agrees)

    @property
    def opposed(self) -> tuple[str, ...]:
        """The metrics that order the methods the other way round."""
        return tuple(row.metric for row in self.rows if row.methods.high < 0)


def calibrate(results: Results, comparable: Sequence[str]) -> Calibration:
    """How well each metric of faithfulness or evidence agrees with the planted masks.

    The truth is each sample's mean rank of every method and control by the localisation metrics of the study.
    ``comparable`` are the metrics that were computed for every method.
    """
    truth = tuple(m for m in comparable if results.family(m) == "localisation" and not _explains(results, m))
    others = [m for family in ("evidence", "faithfulness") for m in comparable if results.family(m) == family]
    if not truth:
        return Calibration((), (), "no-truth")
    if len(results.everyone) < FEWEST or not others:
        return Calibration((), truth, "too-few")
    planted = _ranks(results, truth)
    rows = [_agreement(results, metric, planted) for metric in others]
    rows.sort(key=lambda row: -np.nan_to_num(row.methods.mean, nan=-2.0))
    return Calibration(tuple(rows), truth)


def _explains(results: Results, metric: str) -> bool:
    """Whether the metric is computed from maps of other inputs, for which the samples' masks do not hold."""
    return "explain" in (results.fact(metric, "needs") or ())


def _ranks(results: Results, metrics: tuple[str, ...]) -> Float[np.ndarray, "n m"]:
    """Each sample's mean rank of methods and controls over these metrics."""
    return mean_defined([stats.ranks(results.table(m), better=results.better(m)) for m in metrics])


def _agreement(results: Results, metric: str, planted: Float[np.ndarray, "n m"]) -> Agreement:
    ranks = _ranks(results, (metric,))
    rows = np.isfinite(ranks).all(axis=1) & np.isfinite(planted).all(axis=1)
    ranks, planted = ranks[rows], planted[rows]
    methods = _resampled(ranks, planted, results)
    samples = stats.estimate(_within(ranks, planted), level=results.level)
    return Agreement(metric, methods, samples, bool(methods.low > 0 and samples.low > 0))


def _resampled(ranks: np.ndarray, planted: np.ndarray, results: Results) -> Estimate:
    """Kendall's tau-b of the mean ranks, with its percentile interval over samples."""
    n = len(ranks)
    if not n:
        return Estimate(float("nan"), float("nan"), float("nan"), 0, len(results), results.level)
    resamples = np.asarray([
        tau(a, b)
        for counts in stats.resample_counts(n, RESAMPLES, results.seed)
        for a, b in zip(counts @ ranks, counts @ planted, strict=True)
    ])  # fmt: skip
    tail = 50 * (1 - results.level)
    defined = resamples[np.isfinite(resamples)]
    low, high = np.percentile(defined, [tail, 100 - tail]) if len(defined) else (np.nan, np.nan)
    agreed = tau(ranks.mean(axis=0), planted.mean(axis=0))
    return Estimate(agreed, float(low), float(high), n, len(results) - n, results.level)


def tau(a: Float[np.ndarray, " m"], b: Float[np.ndarray, " m"]) -> float:
    """Kendall's tau-b of two orders, NaN where one ties everything.

    >>> tau(np.array([1.0, 2.0, 3.0]), np.array([1.0, 3.0, 2.0])) == 1 / 3
    True
    """
    upper = np.triu_indices(len(a), 1)
    signs = [np.sign(np.round(v[upper[0]] - v[upper[1]], 9)) for v in (a, b)]
    size = float(np.sqrt(np.abs(signs[0]).sum() * np.abs(signs[1]).sum()))
    return float((signs[0] * signs[1]).sum() / size) if size else float("nan")


def _within(ranks: np.ndarray, planted: np.ndarray) -> Float[np.ndarray, " n"]:
    """Spearman's correlation over the methods within each sample; NaN where all are equal."""
    from scipy.stats import rankdata

    pair = [rankdata(table, axis=1) for table in (ranks, planted)]
    pair = [table - table.mean(axis=1, keepdims=True) for table in pair]
    with warnings.catch_warnings(), np.errstate(invalid="ignore", divide="ignore"):
        warnings.simplefilter("ignore", RuntimeWarning)
        size = np.sqrt((pair[0] ** 2).sum(axis=1) * (pair[1] ** 2).sum(axis=1))
        correlations: np.ndarray = np.where(size > 0, (pair[0] * pair[1]).sum(axis=1) / size, np.nan)
    return correlations
