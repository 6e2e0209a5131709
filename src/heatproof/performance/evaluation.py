"""From a model and samples to its `Performance`; scikit-learn does the arithmetic."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import ArrayLike
from torch import Tensor, nn

from heatproof.errors import InputError
from heatproof.performance.record import Performance, Reliability, Roc
from heatproof.performance.resamples import CLASS_NUMBERS, NUMBERS, Resampled
from heatproof.records import Estimate, Samples
from heatproof.stats import bootstrap, proportion

BINS = 15
CHUNK = 2**24  # numbers of input read at a time


@runtime_checkable
class Predictor(Protocol):
    """Anything that gives class probabilities; a `heatproof.Probe`, say."""

    def probabilities(self, x: Tensor, /) -> Tensor:
        """Class probabilities (N, K) of inputs (N, C, *S)."""


def evaluate(model: nn.Module | Predictor, samples: Samples, *, batch: int | None = None, seed: int = 0) -> Performance:
    """How good the classifier is on the samples: every number with its 95 % BCa bootstrap interval over samples.

    Inputs on disk are read in chunks. The numbers of a class without samples are NaN and left out of averages.

    Cost: one forward pass a sample.
    Raises: InputError for no samples, or where the model's outputs do not fit the classes or are not finite.
    """
    if not len(samples):
        raise InputError(f"{samples.name}: got no samples to evaluate on, expected at least one")
    if isinstance(model, nn.Module) or not isinstance(model, Predictor):
        from heatproof.probe import Probe

        model = Probe(model, batch=batch)
    width = max(1, math.prod(samples.x.shape[1:]))
    step = max(batch or 1, CHUNK // width)
    with torch.no_grad():
        parts = [model.probabilities(samples.x[a : a + step]).cpu() for a in range(0, len(samples), step)]
    return measure(torch.cat(parts), samples.y.cpu(), samples.classes, seed=seed, name=samples.name)


def measure(
    probabilities: ArrayLike | Tensor,
    y: ArrayLike | Tensor,
    classes: Sequence[str],
    *,
    seed: int = 0,
    name: str = "samples",
    resamples: int = 2000,
) -> Performance:
    """The performance that probabilities (N, K) and true labels (N,) amount to.

    Beyond 50,000 probabilities the number of resamples falls with their count, to no fewer than 200.

    Raises: InputError where shapes, labels or class names disagree, or a probability is not finite.
    """
    p, labels, names = _checked(probabilities, y, classes)
    n, k = p.shape
    draws = max(200, min(resamples, int(resamples * 50_000 / (n * k))))
    found = bootstrap(Resampled(p, labels, BINS), n, resamples=draws, seed=seed)
    intervals = dict(zip(NUMBERS, found, strict=False))
    rest = found[len(NUMBERS) :]
    classwise = {key: rest[i * k : (i + 1) * k] for i, key in enumerate(CLASS_NUMBERS)}
    told, right = p.argmax(axis=1), p.argmax(axis=1) == labels
    intervals["accuracy"] = proportion(right)
    classwise["accuracy"] = tuple(proportion(right[labels == j]) for j in range(k))
    classwise["precision"] = tuple(proportion(right[told == j]) for j in range(k))
    return _performance(p, labels, names, intervals, classwise, name)


def _checked(
    probabilities: ArrayLike | Tensor, y: ArrayLike | Tensor, classes: Sequence[str]
) -> tuple[Float[np.ndarray, "n k"], Int[np.ndarray, " n"], tuple[str, ...]]:
    p, labels = np.asarray(probabilities, dtype=np.float64), np.asarray(y)
    if p.ndim != 2 or not len(p) or labels.shape != p.shape[:1]:
        raise InputError(
            f"got probabilities {p.shape} and labels {labels.shape}, expected (N, K) and (N,), N at least 1"
        )
    if p.shape[1] != len(classes):
        raise InputError(
            f"the model gives {p.shape[1]} outputs, the samples have {len(classes)} classes; "
            "give the samples the classes the model was trained on, in its order"
        )
    if p.shape[1] < 2:
        raise InputError(f"got {p.shape[1]} class, expected at least two to tell apart")
    bad = np.flatnonzero(~np.isfinite(p).all(axis=1))
    if len(bad):
        raise InputError(f"the model gives NaN or infinite probabilities for {len(bad)} samples, first {bad[0]}")
    off = np.flatnonzero(np.abs(p.sum(axis=1) - 1.0) > 1e-3)
    if len(off) or p.min() < 0:
        raise InputError("the numbers given as probabilities are not: expected rows that sum to one; apply a softmax")
    if labels.min() < 0 or labels.max() >= p.shape[1]:
        raise InputError(f"labels reach from {labels.min()} to {labels.max()}, expected 0 to {p.shape[1] - 1}")
    return p, labels.astype(np.int64), tuple(classes)


def _performance(
    p: Float[np.ndarray, "n k"],
    y: Int[np.ndarray, " n"],
    classes: tuple[str, ...],
    intervals: dict[str, Estimate],
    classwise: dict[str, tuple[Estimate, ...]],
    name: str,
) -> Performance:
    from sklearn.metrics import accuracy_score, confusion_matrix, log_loss, precision_recall_fscore_support

    labels, predicted = list(range(len(classes))), p.argmax(axis=1)
    parts = {
        average: precision_recall_fscore_support(y, predicted, labels=labels, average=average, zero_division=np.nan)[:3]
        for average in (None, "macro", "weighted")
    }
    precision, recall, f1 = parts[None]
    curves = {key: _roc(y == k, p[:, k]) for k, key in enumerate(classes)}
    auc = np.array([curve.auc for curve in curves.values()])
    micro = _roc((y[:, None] == labels).ravel(), p.ravel())
    macro = _mean_roc([curve for curve in curves.values() if len(curve.false_positive)])
    reliability = _reliability(p.max(axis=1), predicted == y)
    return Performance(
        classes=classes,
        y=y,
        probabilities=p,
        accuracy=float(accuracy_score(y, predicted)),
        balanced_accuracy=float(np.nanmean(recall)),
        class_accuracy=recall,
        auc=auc,
        auc_macro=macro.auc,
        auc_micro=micro.auc,
        roc={**curves, "macro": macro, "micro": micro},
        confusion=confusion_matrix(y, predicted, labels=labels),
        precision=precision,
        recall=recall,
        f1=f1,
        averages={
            f"{key}_{average}": float(value)
            for average in ("macro", "weighted")
            for key, value in zip(("precision", "recall", "f1"), parts[average], strict=True)
        },
        log_loss=float(log_loss(y, p / p.sum(axis=1, keepdims=True), labels=labels)),
        ece=_ece(reliability),
        reliability=reliability,
        intervals=intervals,
        class_intervals=classwise,
        name=name,
    )


def _roc(positive: np.ndarray, score: Float[np.ndarray, " n"]) -> Roc:
    from sklearn.metrics import auc, roc_curve

    if positive.all() or not positive.any():
        return Roc(np.empty(0), np.empty(0), math.nan)
    false_positive, true_positive, _ = roc_curve(positive, score)
    return Roc(false_positive, true_positive, float(auc(false_positive, true_positive)))


def _mean_roc(curves: list[Roc]) -> Roc:
    """The mean of the curves along the false positive rate; its AUC is the mean of theirs."""
    if not curves:
        return Roc(np.empty(0), np.empty(0), math.nan)
    grid = np.unique(np.concatenate([curve.false_positive for curve in curves]))
    both = np.mean([_sides(curve, grid) for curve in curves], axis=0)
    return Roc(np.repeat(grid, 2), both.ravel(), float(np.mean([curve.auc for curve in curves])))


def _sides(curve: Roc, grid: Float[np.ndarray, " g"]) -> Float[np.ndarray, "g 2"]:
    """The true positive rate just before and just after each false positive rate; they differ where the curve jumps."""
    x, y = curve.false_positive, curve.true_positive
    between = np.interp(grid, x, y)
    first = np.searchsorted(x, grid, "left").clip(max=len(x) - 1)
    last = np.searchsorted(x, grid, "right") - 1
    return np.stack([np.where(x[i] == grid, y[i], between) for i in (first, last)], axis=1)


def _reliability(confidence: Float[np.ndarray, " n"], right: np.ndarray) -> Reliability:
    edges = np.linspace(0.0, 1.0, BINS + 1)
    place = np.clip(np.ceil(confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)
    count = np.bincount(place, minlength=BINS)
    sums = [np.bincount(place, weights=w, minlength=BINS) for w in (confidence, right.astype(np.float64))]
    mean = [np.divide(s, count, out=np.full(BINS, np.nan), where=count > 0) for s in sums]
    return Reliability(edges, mean[0], mean[1], count)


def _ece(bins: Reliability) -> float:
    """Expected calibration error (Naeini et al. 2015): the mean gap of confidence and accuracy over the samples."""
    gap = np.nan_to_num(np.abs(bins.confidence - bins.accuracy))
    return float((gap * bins.count).sum() / bins.count.sum())
