"""Conclusions from a multi-label model's numbers: how good it is, and which labels are hard, biased or not measured."""

from __future__ import annotations

import math

import numpy as np

from heatproof.performance.findings import STRONG
from heatproof.performance.labels import LabelPerformance
from heatproof.records import Estimate, Finding, Severity
from heatproof.stats import estimates

CHANCE = 0.5  # the AUC of a model that knows nothing


def findings_of(performance: LabelPerformance) -> tuple[Finding, ...]:
    """The findings, in the order in which they are read."""
    findings = [_overall(performance), *_chance(performance), *_lowest(performance), *_silent(performance)]
    return (*findings, *_calibration(performance), *_absent(performance), *_exclusive(performance))


def _overall(performance: LabelPerformance) -> Finding:
    exact = performance.numbers["exact_match"]
    numbers = {"labels": len(performance.classes), "samples": len(performance), "exact": exact.mean}
    return Finding("labels-accuracy", "note", numbers=numbers | _ends(performance.numbers["auc_macro"]))


def _chance(performance: LabelPerformance) -> list[Finding]:
    """The labels whose AUC is not significantly above chance."""
    aucs = performance.class_intervals["auc"]
    low = tuple(
        name
        for name, auc in zip(performance.classes, aucs, strict=True)
        if math.isfinite(auc.mean) and not auc.low > CHANCE
    )
    return [Finding("labels-at-chance", "bad", low)] if low else []


def _lowest(performance: LabelPerformance) -> list[Finding]:
    """The label with the lowest AUC, where labels differ."""
    aucs = performance.class_intervals["auc"]
    defined = [k for k, auc in enumerate(aucs) if math.isfinite(auc.mean)]
    if len(defined) < 2 or len({aucs[k].mean for k in defined}) < 2:
        return []
    k = min(defined, key=lambda k: aucs[k].mean)
    numbers = {"positive": int(performance.support[k]), **_ends(aucs[k])}
    return [Finding("labels-lowest", "note", (performance.classes[k],), numbers=numbers)]


def _silent(performance: LabelPerformance) -> list[Finding]:
    """The labels that samples have and that are never predicted."""
    silent = (performance.support > 0) & ~performance.predictions.any(axis=0)
    names = tuple(performance.classes[k] for k in np.flatnonzero(silent))
    return [Finding("labels-never-predicted", "bad", names)] if names else []


def _calibration(performance: LabelPerformance) -> list[Finding]:
    """Whether the mean probability of each label is consistent with its share of positives."""
    if len(performance) < 2:
        return []
    strict = 1 - 0.05 / len(performance.classes)  # Bonferroni: each label is tested
    gaps = estimates(performance.probabilities - performance.y, level=strict)
    off = [k for k, gap in enumerate(gaps) if gap.low > 0 or gap.high < 0]
    ece = performance.numbers["ece"].mean
    numbers = {"ece": ece, "labels": len(performance.classes)}
    if not off:
        consistent: Severity = "note" if ece >= STRONG else "good"
        return [Finding("labels-calibration", consistent, reason="calibrated", numbers=numbers)]
    worst = max(off, key=lambda k: abs(gaps[k].mean))
    numbers |= {
        "off": len(off),
        "probability": float(performance.probabilities[:, worst].mean()),
        "share": float(performance.y[:, worst].mean()),
    }
    reason = "over-confident" if gaps[worst].mean > 0 else "under-confident"
    severity: Severity = "bad" if ece >= STRONG else "note"
    return [Finding("labels-calibration", severity, (performance.classes[worst],), reason=reason, numbers=numbers)]


def _absent(performance: LabelPerformance) -> list[Finding]:
    """The labels that no sample has, or that all have: no AUC is defined for them."""
    findings = []
    for kind, count in (("labels-absent", 0), ("labels-in-all", len(performance))):
        names = tuple(performance.classes[k] for k in np.flatnonzero(performance.support == count))
        if names:
            findings.append(Finding(kind, "bad", names))
    return findings


def _exclusive(performance: LabelPerformance) -> list[Finding]:
    """Whether every sample has exactly one label, as those of a classifier of single classes."""
    if len(performance) > 1 and (performance.y.sum(axis=1) == 1).all():
        return [Finding("labels-exclusive", "note", numbers={"samples": len(performance)})]
    return []


def _ends(number: Estimate) -> dict[str, float]:
    return {"auc": number.mean, "low": number.low, "high": number.high}
