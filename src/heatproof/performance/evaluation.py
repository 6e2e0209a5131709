"""The `Performance` of a model on samples; numbers by class and curves are scikit-learn's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import ArrayLike
from torch import Tensor, nn

from heatproof.errors import InputError
from heatproof.performance.findings import findings_of
from heatproof.performance.record import Performance, Reliability, Roc
from heatproof.performance.resamples import AVERAGES, CLASS_NUMBERS, NUMBERS, Resampled
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
    """The performance of the classifier on the samples: every number with its 95 % interval over samples.

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
    """The performance computed from class probabilities (N, K) and true labels (N,).

    Beyond 50,000 probabilities the number of resamples falls with their count, to no fewer than 200.

    Raises: InputError where shapes, labels or class names disagree, or a probability is not finite.
    """
    p, labels, names = _checked(probabilities, y, classes)
    n, k = p.shape
    draws = max(200, min(resamples, int(resamples * 50_000 / (n * k))))
    estimates = bootstrap(Resampled(p, labels, BINS), n, resamples=draws, seed=seed)
    single = dict(zip(NUMBERS, estimates, strict=False))
    rest = estimates[len(NUMBERS) :]
    classwise = {key: rest[i * k : (i + 1) * k] for i, key in enumerate(CLASS_NUMBERS)}
    predicted, correct = p.argmax(axis=1), p.argmax(axis=1) == labels
    single["accuracy"] = proportion(correct)
    classwise["accuracy"] = tuple(proportion(correct[labels == j]) for j in range(k))
    classwise["precision"] = tuple(proportion(correct[predicted == j]) for j in range(k))
    performance = _performance(p, labels, names, single, classwise, name)
    return replace(performance, findings=findings_of(performance))


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
            f"the model has {p.shape[1]} outputs, the samples have {len(classes)} classes; "
            "name the samples' classes as the model was trained on, in its order"
        )
    if p.shape[1] < 2:
        raise InputError(f"got {p.shape[1]} class, expected at least two")
    bad = np.flatnonzero(~np.isfinite(p).all(axis=1))
    if len(bad):
        raise InputError(
            f"the model returns NaN or infinite probabilities for {len(bad)} samples; the first is sample {bad[0]}"
        )
    off = np.flatnonzero(np.abs(p.sum(axis=1) - 1.0) > 1e-3)
    if len(off) or p.min() < 0:
        raise InputError("got numbers that are not probabilities: expected rows that sum to one; apply a softmax")
    if labels.min() < 0 or labels.max() >= p.shape[1]:
        raise InputError(f"got labels from {labels.min()} to {labels.max()}, expected 0 to {p.shape[1] - 1}")
    return p, labels.astype(np.int64), tuple(classes)


def _performance(
    p: Float[np.ndarray, "n k"],
    y: Int[np.ndarray, " n"],
    classes: tuple[str, ...],
    single: dict[str, Estimate],
    classwise: dict[str, tuple[Estimate, ...]],
    name: str,
) -> Performance:
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    labels, predicted = list(range(len(classes))), p.argmax(axis=1)
    precision, recall, f1, _ = precision_recall_fscore_support(y, predicted, labels=labels, zero_division=np.nan)
    curves = {key: _roc(y == k, p[:, k]) for k, key in enumerate(classes)}
    auc = np.array([curve.auc for curve in curves.values()])
    micro = _roc((y[:, None] == labels).ravel(), p.ravel())
    macro = _mean_roc([curve for curve in curves.values() if len(curve.false_positive)])
    return Performance(
        classes=classes,
        y=y,
        probabilities=p,
        accuracy=single["accuracy"],
        balanced_accuracy=single["balanced_accuracy"],
        class_accuracy=recall,
        auc=auc,
        auc_macro=single["auc_macro"],
        auc_micro=single["auc_micro"],
        roc={**curves, "macro": macro, "micro": micro},
        confusion=confusion_matrix(y, predicted, labels=labels),
        precision=precision,
        recall=recall,
        f1=f1,
        log_loss=single["log_loss"],
        ece=single["ece"],
        averages={key: estimate for key, estimate in single.items() if key in AVERAGES},
        reliability=_reliability(p.max(axis=1), predicted == y),
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


def _reliability(probability: Float[np.ndarray, " n"], correct: np.ndarray) -> Reliability:
    edges = np.linspace(0.0, 1.0, BINS + 1)
    place = np.clip(np.ceil(probability * BINS).astype(np.int64) - 1, 0, BINS - 1)
    count = np.bincount(place, minlength=BINS)
    sums = [np.bincount(place, weights=w, minlength=BINS) for w in (probability, correct.astype(np.float64))]
    mean = [np.divide(s, count, out=np.full(BINS, np.nan), where=count > 0) for s in sums]
    return Reliability(edges, mean[0], mean[1], count)
