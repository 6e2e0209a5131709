"""Conclusions from a classifier's numbers: how good it is, which classes are hard, and whether it is calibrated."""

from __future__ import annotations

import numpy as np

from heatproof.performance.record import Performance
from heatproof.records import Estimate, Finding
from heatproof.stats import proportion

SHOWN = 3  # hard classes with a finding of their own
STRONG = 0.15  # expected calibration error from which a deviation is strong


def findings_of(performance: Performance) -> tuple[Finding, ...]:
    """The findings, in the order in which they are read."""
    absent = tuple(c for c, n in zip(performance.classes, performance.support, strict=True) if n == 0)
    findings = [_overall(performance), *_hard(performance), _pair(performance), _calibration(performance)]
    if absent:
        findings.append(Finding("classifier-absent-classes", "bad", absent))
    return tuple(findings)


def _overall(performance: Performance) -> Finding:
    numbers = {"correct": int(performance.correct.sum()), "samples": len(performance)}
    return Finding("classifier-accuracy", "note", numbers={**numbers, **_interval(performance.accuracy)})


def _hard(performance: Performance) -> list[Finding]:
    """The classes whose accuracy is significantly below the overall one; where there is none, the lowest one."""
    present = [k for k, n in enumerate(performance.support) if n]
    if len(present) < 2 or performance.correct.all():
        return []
    strict = 1 - 0.05 / len(present)  # Bonferroni: each class is compared
    highs = {k: proportion(performance.correct[performance.y == k], level=strict).high for k in present}
    ranking = sorted(present, key=lambda k: performance.class_accuracy[k])
    hard = [k for k in ranking if highs[k] < performance.accuracy.mean]
    if not hard:
        return [_of_class(performance, ranking[0], "classifier-lowest-class")]
    findings = [_of_class(performance, k, "classifier-hard-class") for k in hard[:SHOWN]]
    if len(hard) > SHOWN:
        names = tuple(performance.classes[k] for k in hard[SHOWN:])
        findings.append(Finding("classifier-more-hard-classes", "note", names))
    return findings


def _of_class(performance: Performance, k: int, kind: str) -> Finding:
    """A finding on class k, and on the class that its samples are most often mistaken for, where one leads."""
    numbers = {"samples": int(performance.support[k]), **_interval(performance.class_intervals["accuracy"][k])}
    errors = performance.confusion[k].copy()
    errors[k] = 0
    most = int(errors.argmax())
    if (errors == errors[most]).sum() > 1:
        return Finding(kind, "note", (performance.classes[k],), numbers=numbers)
    numbers |= {"count": int(errors[most]), "errors": int(errors.sum())}
    return Finding(kind, "note", (performance.classes[k], performance.classes[most]), numbers=numbers)


def _pair(performance: Performance) -> Finding:
    """The two classes most often confused with each other, both directions together."""
    errors = performance.confusion - np.diag(np.diag(performance.confusion))
    if not errors.any():
        return Finding("classifier-no-errors", "good")
    both = np.triu(errors + errors.T)
    i, j = divmod(int(both.argmax()), len(performance.classes))
    total, count = int(errors.sum()), int(both[i, j])
    if count == 1 and total > 1:
        return Finding("classifier-no-confused-pair", "note", numbers={"errors": total})
    pair = (performance.classes[i], performance.classes[j])
    return Finding("classifier-confused-pair", "note", pair, numbers={"count": count, "errors": total})


def _calibration(performance: Performance) -> Finding:
    """Whether the mean probability of the predicted class lies within the interval of the accuracy."""
    probability, accuracy = float(performance.probability.mean()), performance.accuracy
    numbers = {"probability": probability, "accuracy": accuracy.mean, "ece": performance.ece.mean}
    gap = probability - accuracy.mean
    if accuracy.low <= accuracy.mean + gap <= accuracy.high or not np.isfinite(accuracy.low):
        return Finding("classifier-calibration", "good", reason="calibrated", numbers=numbers)
    reason = "over-confident" if gap > 0 else "under-confident"
    strong = performance.ece.mean >= STRONG
    return Finding("classifier-calibration", "bad" if strong else "note", reason=reason, numbers=numbers)


def _interval(estimate: Estimate) -> dict[str, float]:
    return {"accuracy": estimate.mean, "low": estimate.low, "high": estimate.high}
