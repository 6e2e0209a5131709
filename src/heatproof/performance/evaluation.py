"""The performance of a model on samples; numbers by class and curves are scikit-learn's."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import ArrayLike
from torch import Tensor, nn

from heatproof.annotations import curve_name, distinct
from heatproof.errors import InputError
from heatproof.models.inputs import check_inputs
from heatproof.performance.curves import BINS, mean_roc, reliability_of, roc_of
from heatproof.performance.findings import findings_of
from heatproof.performance.label_evaluation import measure_labels
from heatproof.performance.labels import LabelPerformance
from heatproof.performance.record import Performance
from heatproof.performance.regression import RegressionPerformance, measure_regression
from heatproof.performance.resamples import AVERAGES, CLASS_NUMBERS, NUMBERS, Resampled, resamples_of
from heatproof.probe import SEVERAL, Probe, probe_for
from heatproof.records import Estimate, Samples
from heatproof.stats import bootstrap, proportion

CHUNK = 2**24  # numbers of input read at a time


@runtime_checkable
class Predictor(Protocol):
    """Anything that gives class probabilities, or those of labels; a `heatproof.Probe`, say."""

    def probabilities(self, x: Tensor, /) -> Tensor:
        """Probabilities (N, K) of inputs (N, C, *S)."""


def evaluate(
    model: nn.Module | Predictor, samples: Samples, *, batch: int | None = None, seed: int = 0
) -> Performance | LabelPerformance | RegressionPerformance:
    """The performance of the model on the samples: every number with its 95 % interval over samples.

    A `Performance` for samples of classes, a `LabelPerformance` for labels (N, L), a `RegressionPerformance` for real
    numbers. Inputs on disk are read in chunks. Numbers of a class or label that samples do not define are NaN and left
    out of averages.

    Cost: one forward pass a sample.
    Raises: InputError for no samples, or where the model's outputs do not fit the samples or are not finite.
    """
    if not len(samples):
        raise InputError(f"{samples.name}: got no samples to evaluate on, expected at least one")
    asked = model if isinstance(model, nn.Module) else getattr(model, "model", None)
    if isinstance(asked, nn.Module):
        check_inputs(asked, samples)
    ask = _asked(model, samples, batch)
    width = max(1, math.prod(samples.x.shape[1:]))
    step = max(batch or 1, CHUNK // width)
    with torch.no_grad():
        outputs = torch.cat([ask(samples.x[a : a + step]).cpu() for a in range(0, len(samples), step)])
    y, name = samples.y.cpu(), samples.name
    if samples.task == "labels":
        return measure_labels(outputs, y, samples.classes, seed=seed, name=name)
    if samples.task == "regression":
        unit = str(samples.about.get("unit", ""))
        return measure_regression(outputs, y, quantity=samples.classes[0], unit=unit, seed=seed, name=name)
    return measure(outputs, y, samples.classes, seed=seed, name=name)


def _asked(model: nn.Module | Predictor, samples: Samples, batch: int | None) -> Callable[[Tensor], Tensor]:
    """What gives probabilities, or the outputs themselves for a regression.

    Raises: InputError where the model does another task than the samples ask for.
    """
    if not isinstance(model, nn.Module) and isinstance(model, Predictor) and not isinstance(model, Probe):
        if samples.task == "regression":
            raise InputError(f"{samples.name}: a regression is evaluated on a torch module or a Probe of it")
        return model.probabilities
    probe = model if isinstance(model, Probe) else Probe(model, batch=batch)
    probe = probe_for(probe, samples.x[:SEVERAL], samples.task, len(samples.classes))
    return probe.logits if samples.task == "regression" else probe.probabilities


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
    draws = resamples_of(resamples, n * k)
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
    return p, labels.astype(np.int64), distinct(classes)


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
    curves = {curve_name(key): roc_of(y == k, p[:, k]) for k, key in enumerate(classes)}
    auc = np.array([curve.auc for curve in curves.values()])
    micro = roc_of((y[:, None] == labels).ravel(), p.ravel())
    macro = mean_roc([curve for curve in curves.values() if len(curve.false_positive)])
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
        reliability=reliability_of(p.max(axis=1), predicted == y),
        class_intervals=classwise,
        name=name,
    )
