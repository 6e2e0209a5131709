"""Which metrics agree with the planted truth for this model: the ones to trust where there is no mask."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from heatproof import stats
from heatproof.records import Estimate
from heatproof.results.ranking import voices
from heatproof.results.record import Results

RESAMPLES = 1000
FEWEST = 3  # methods and controls below which no order can be compared


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
    """The faithfulness metrics, those that agree most with the planted truth first, and what that says.

    ``truth`` are the localisation metrics that it is measured by; empty where there is no mask.
    """

    rows: tuple[Agreement, ...]
    truth: tuple[str, ...]
    text: str


def calibrate(results: Results) -> Calibration:
    """How well each metric of faithfulness or region tells what the planted masks tell.

    The truth is each sample's mean rank of every method and control by the localisation metrics of the study.
    """
    truth = _complete(results, "localisation")
    judged = _complete(results, "region") + _complete(results, "faithfulness")
    if not truth:
        return Calibration((), (), "There is no planted truth to calibrate the metrics by.")
    if len(results.methods) + len(results.controls) < FEWEST or not judged:
        return Calibration((), truth, f"Calibration needs at least {FEWEST} methods and a faithfulness metric.")
    planted = _placed(results, truth)
    rows = [_agreement(results, metric, planted) for metric in judged]
    rows.sort(key=lambda row: -np.nan_to_num(row.methods.mean, nan=-2.0))
    return Calibration(tuple(rows), truth, _text(rows))


def _complete(results: Results, family: str) -> tuple[str, ...]:
    return tuple(metric for metric in results.speaking if results.family(metric) == family)


def _placed(results: Results, metrics: tuple[str, ...]) -> Float[np.ndarray, "n m"]:
    tables = {m: results.table(m) for m in metrics}
    return voices(tables, {m: results.better(m) for m in metrics}, dict.fromkeys(metrics, "truth"))


def _agreement(results: Results, metric: str, planted: Float[np.ndarray, "n m"]) -> Agreement:
    told = _placed(results, (metric,))
    rows = np.isfinite(told).all(axis=1) & np.isfinite(planted).all(axis=1)
    told, planted = told[rows], planted[rows]
    methods = _resampled(told, planted, results)
    samples = stats.estimate(_within(told, planted), confidence=results.level, seed=results.seed)
    return Agreement(metric, methods, samples, bool(methods.low > 0 and samples.low > 0))


def _resampled(told: np.ndarray, planted: np.ndarray, results: Results) -> Estimate:
    """Kendall's tau-b of the mean ranks, with its percentile interval over samples."""
    n = len(told)
    if not n:
        return Estimate(float("nan"), float("nan"), float("nan"), 0, len(results))
    found = tau(told.mean(axis=0), planted.mean(axis=0))
    drawn = [
        tau(a, b)
        for counts in stats.resample_counts(n, RESAMPLES, results.seed)
        for a, b in zip(counts @ told, counts @ planted, strict=True)
    ]
    tail = 50 * (1 - results.level)
    known = np.asarray(drawn)[np.isfinite(drawn)]
    low, high = np.percentile(known, [tail, 100 - tail]) if len(known) else (np.nan, np.nan)
    return Estimate(found, float(low), float(high), n, len(results) - n)


def tau(a: Float[np.ndarray, " m"], b: Float[np.ndarray, " m"]) -> float:
    """Kendall's tau-b of two orders, NaN where one ties everything.

    >>> tau(np.array([1.0, 2.0, 3.0]), np.array([1.0, 3.0, 2.0])) == 1 / 3
    True
    """
    upper = np.triu_indices(len(a), 1)
    signs = [np.sign(np.round(v[upper[0]] - v[upper[1]], 9)) for v in (a, b)]
    size = float(np.sqrt(np.abs(signs[0]).sum() * np.abs(signs[1]).sum()))
    return float((signs[0] * signs[1]).sum() / size) if size else float("nan")


def _within(told: np.ndarray, planted: np.ndarray) -> Float[np.ndarray, " n"]:
    """Spearman's correlation over the methods within each sample; NaN where all are alike."""
    from scipy.stats import rankdata

    pair = [rankdata(table, axis=1) for table in (told, planted)]
    pair = [table - table.mean(axis=1, keepdims=True) for table in pair]
    with warnings.catch_warnings(), np.errstate(invalid="ignore", divide="ignore"):
        warnings.simplefilter("ignore", RuntimeWarning)
        size = np.sqrt((pair[0] ** 2).sum(axis=1) * (pair[1] ** 2).sum(axis=1))
        found: np.ndarray = np.where(size > 0, (pair[0] * pair[1]).sum(axis=1) / size, np.nan)
    return found


def _text(rows: list[Agreement]) -> str:
    good = [row for row in rows if row.agrees]
    against = [row.metric for row in rows if row.methods.high < 0]
    if not good:
        text = "No metric that needs no mask is known to agree with the planted truth for this model."
    else:
        first = good[0]
        text = (
            f"For this model {len(good)} of {len(rows)} metrics that need no mask agree with the planted truth, most "
            f"of all {first.metric} (Kendall's tau {first.methods.mean:.2f} over methods "
            f"[{first.methods.low:.2f}, {first.methods.high:.2f}], Spearman {first.samples.mean:.2f} within samples)."
        )
    return text + (f" Against it speak {', '.join(against)}." if against else "")
