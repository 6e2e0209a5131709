"""The performance of a regression: how far its outputs are from the true values."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike
from torch import Tensor

from heatproof.annotations import QUANTITY, Task
from heatproof.errors import InputError
from heatproof.performance.assessment import as_table, brackets, plain
from heatproof.performance.resamples import ratio, resamples_of
from heatproof.records import Estimate, Finding
from heatproof.stats import bootstrap

if TYPE_CHECKING:
    import pandas as pd

NUMBERS = ("r2", "mae", "rmse", "bias")


@dataclass(frozen=True, eq=False, repr=False)
class RegressionPerformance:
    """The performance of a regression on N samples.

    Attributes:
        y, predictions: the true values and the model's outputs (N,).
        r2: the share of the variance that is explained; 0 for a model that always returns the mean, NaN where all true
            values are equal. mae, rmse: the mean absolute error and the root of the mean squared one.
        bias: the mean of output less true value.
        quantity, unit: what is predicted, and in which unit; the unit may be empty.
        findings: conclusions; `heatproof.performance.wording.sentence` puts one in words.

    Intervals are BCa over samples.
    """

    y: Float[np.ndarray, " n"]
    predictions: Float[np.ndarray, " n"]
    r2: Estimate
    mae: Estimate
    rmse: Estimate
    bias: Estimate
    quantity: str = QUANTITY
    unit: str = ""
    name: str = "samples"
    findings: tuple[Finding, ...] = ()

    def __repr__(self) -> str:
        fit = f"R2 {self.r2:.3f}{brackets(self.r2)}, MAE {self.mae:.4g}"
        return f"RegressionPerformance({self.name}: {len(self):,} samples, {self.quantity}: {fit})"

    def _repr_html_(self) -> str:
        return as_table(f"{self.name}: {len(self):,} samples, {self.quantity}", self.intervals)

    def __len__(self) -> int:
        return len(self.y)

    @property
    def task(self) -> Task:
        """That of a model of real numbers."""
        return "regression"

    @property
    def errors(self) -> Float[np.ndarray, " n"]:
        """Output less true value of each sample."""
        return np.asarray(self.predictions - self.y)

    @property
    def intervals(self) -> dict[str, Estimate]:
        """Every single number by name."""
        return {key: getattr(self, key) for key in NUMBERS}

    def to_frame(self) -> pd.DataFrame:
        """A table with a row a sample: true value, output and error."""
        import pandas as pd

        return pd.DataFrame({"true": self.y, "predicted": self.predictions, "error": self.errors})

    def to_dict(self) -> dict[str, Any]:
        """Everything but the samples themselves, ready for JSON; undefined numbers are None."""
        parts = {
            "name": self.name,
            "task": self.task,
            "samples": len(self),
            "quantity": self.quantity,
            "unit": self.unit,
            "numbers": {key: asdict(estimate) for key, estimate in self.intervals.items()},
            "findings": [asdict(finding) for finding in self.findings],
        }
        return {key: plain(value) for key, value in parts.items()}


def measure_regression(
    predictions: ArrayLike | Tensor,
    y: ArrayLike | Tensor,
    *,
    quantity: str = QUANTITY,
    unit: str = "",
    seed: int = 0,
    name: str = "samples",
    resamples: int = 2000,
) -> RegressionPerformance:
    """The performance computed from the outputs (N,) or (N, 1) and the true values (N,).

    Raises: InputError where shapes disagree, or a number is not finite.
    """
    predicted, true = np.asarray(predictions, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if predicted.ndim == 2 and predicted.shape[1] != 1:
        raise InputError(
            f"the model has {predicted.shape[1]} outputs, the samples have one value each; expected one output a sample"
        )
    predicted = predicted.reshape(-1) if predicted.ndim == 2 else predicted
    if true.ndim != 1 or predicted.shape != true.shape or not len(true):
        raise InputError(f"got outputs {predicted.shape} and values {true.shape}, expected (N,) for both, N at least 1")
    for what, values in (("the model returns", predicted), ("y holds", true)):
        bad = np.flatnonzero(~np.isfinite(values))
        if len(bad):
            raise InputError(f"{what} NaN or infinite values for {len(bad)} samples; the first is sample {bad[0]}")
    draws = resamples_of(resamples, len(true))
    estimates = bootstrap(_Resampled(true, predicted), len(true), resamples=draws, seed=seed)
    r2, mae, rmse, bias = estimates
    performance = RegressionPerformance(true, predicted, r2, mae, rmse, bias, quantity, unit, name)
    return replace(performance, findings=_findings(performance))


class _Resampled:
    """A callable from weights (R, N) to `NUMBERS` (R, 4)."""

    def __init__(self, y: Float[np.ndarray, " n"], predictions: Float[np.ndarray, " n"]) -> None:
        self.y, self.error, self.equal = y - y.mean(), predictions - y, bool((y == y[0]).all())

    def __call__(self, weights: Float[np.ndarray, "r n"]) -> Float[np.ndarray, "r 4"]:
        total = weights.sum(axis=1)
        squared, mean = weights @ self.error**2 / total, weights @ self.y / total
        variance = np.zeros_like(mean) if self.equal else weights @ self.y**2 / total - mean**2
        small = 1e-12 * float(np.square(self.y).max())  # a resample of one value alone
        return np.stack(
            [
                1.0 - ratio(squared, np.where(variance > small, variance, 0.0)),
                weights @ np.abs(self.error) / total,
                np.sqrt(squared),
                weights @ self.error / total,
            ],
            axis=1,
        )


def _findings(performance: RegressionPerformance) -> tuple[Finding, ...]:
    """How much of the variance is explained, and whether the outputs are too high or too low on the whole."""
    r2, bias, samples = performance.r2, performance.bias, {"samples": len(performance)}
    words = (performance.quantity,), (performance.unit,)
    fit = samples | {"r2": r2.mean, "low": r2.low, "high": r2.high, "mae": performance.mae.mean}
    findings = [Finding("regression-fit", "note", *words[:1], objects=words[1], numbers=fit)]
    if np.isfinite(r2.mean) and not r2.low > 0:
        findings.append(Finding("regression-no-better-than-mean", "bad", *words[:1], numbers=samples))
    numbers = samples | {"bias": bias.mean, "low": bias.low, "high": bias.high}
    if bias.low > 0 or bias.high < 0:
        reason = "too-high" if bias.mean > 0 else "too-low"
        findings.append(
            Finding("regression-bias", "note", *words[:1], objects=words[1], reason=reason, numbers=numbers)
        )
    elif np.isfinite(bias.low):
        findings.append(Finding("regression-unbiased", "good", *words[:1], objects=words[1], numbers=numbers))
    return tuple(findings)
