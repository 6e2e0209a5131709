"""What a reader should know of a study besides the decision, as records, the most serious first."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from heatproof.records import Finding, Severity
from heatproof.verdict.basis import Basis
from heatproof.verdict.evidence import SPREAD

FEW = 10  # samples: too few to compare
RELIABLE = 0.2  # correlation of worths between donors below which the evidence of a class is called unreliable
MISSING = 0.05  # share of samples without a value from which it is said
ORDER: tuple[Severity, ...] = ("bad", "note", "good")


def findings(basis: Basis) -> tuple[Finding, ...]:
    """All findings of a study, the most serious first; none without methods and metrics."""
    if not basis.results.methods or not basis.results.metrics:
        return ()
    rows = [finding for part in _PARTS for finding in part(basis)]
    return tuple(sorted(rows, key=lambda finding: ORDER.index(finding.severity)))


def _model(basis: Basis) -> list[Finding]:
    """Whether the model has learnt anything."""
    return [] if basis.model_check is None else [basis.model_check]


def _own_controls(basis: Basis) -> list[Finding]:
    """The methods that do not beat, or are not yet shown to beat, each of their own controls."""
    checks = basis.method_checks
    if not basis.questions:
        return [Finding("no-question", "bad")]
    if not any(check.controls for check in checks):
        return [Finding("no-own-controls", "bad")]
    eligible = basis.eligible
    rows = []
    for control in dict.fromkeys(name for check in checks for name in check.barred_by):
        methods = tuple(check.method for check in checks if control in check.barred_by)
        rows.append(Finding("barred", "note" if eligible else "bad", methods, reason=control))
    waiting = [check for check in checks if check.standing == "not yet shown"]
    for control in dict.fromkeys(name for check in waiting for name in check.open):
        few = [check for check in waiting if control in check.open]
        needed = max(test.needed for check in few for test in check.controls if test.control == control)
        methods = tuple(check.method for check in few)
        rows.append(Finding("not-yet-shown", "note", methods, reason=control, numbers={"needed": needed}))
    numbers = {"eligible": len(eligible), "methods": len(checks)}
    return [*rows, Finding("eligible-methods", "good" if eligible else "bad", eligible, numbers=numbers)]


def _sanity(basis: Basis) -> list[Finding]:
    """The methods whose maps barely change when the model, the labels or the class do, by sanity check."""
    results, rows = basis.results, list[Finding]()
    for metric in results.metrics:
        limit = results.unchanged_above(metric)
        cells = [(name, basis.estimates.get((name, metric))) for name in results.methods] if limit is not None else []
        alike = tuple(name for name, e in cells if e is not None and limit is not None and e.low > limit)
        if alike:
            reason = str(results.fact(metric, "must_change_with") or "parameters")
            rows.append(Finding("maps-do-not-change", "note", alike, metric, reason))
    return rows


def _contradicting(basis: Basis) -> list[Finding]:
    """Other metrics by which none of the methods named is among the best."""
    trusted = set(basis.decision.trusted)
    asked = {metric for metrics in basis.questions.values() for metric in metrics}
    if not trusted or len(basis.results.methods) < 2:
        return []
    rows = []
    for metric in (m for m in basis.testable if m not in asked):
        top = basis.results.ranking(metric).top
        if top and not set(top) & trusted:
            rows.append(Finding("metric-ranks-otherwise", "note", tuple(sorted(top)), metric))
    return rows


def _evidence(basis: Basis) -> list[Finding]:
    """Whether the evidence lies in one place, and which classes it does not serve."""
    rows, concentration = [], basis.concentration
    if basis.spread and concentration is not None:
        numbers = {"concentration": round(concentration.mean, 3), "least": SPREAD}
        rows.append(Finding("evidence-everywhere", "note", numbers=numbers))
    classes = basis.class_evidence
    few = tuple(one.name for one in classes if one.samples < FEW)
    if few and len(classes) > 1:
        rows.append(Finding("class-has-few-samples", "note", few, numbers={"least": FEW}))
    unreliable = tuple(one.name for one in classes if one.samples >= FEW and one.reliability.high < RELIABLE)
    return rows + ([Finding("class-evidence-unreliable", "note", unreliable)] if unreliable else [])


def _families(basis: Basis) -> list[Finding]:
    """Whether the families of metrics put different methods first."""
    methods, first = basis.results.methods, dict[str, str]()
    if len(methods) < 2:
        return []
    for family, metrics in basis.families.items():
        means = _means(basis.results.family_ranks(metrics, controls=False))
        if np.isfinite(means).any():
            first[family] = methods[int(np.nanargmin(means))]
    if len(set(first.values())) < 2:
        return []
    return [Finding("families-disagree", "note", tuple(first), objects=tuple(first.values()))]


def _planted(basis: Basis) -> list[Finding]:
    """Whether the metrics that need no mask agree with the planted truth, where there is one."""
    calibration = basis.calibration
    if not calibration.rows:
        return []
    agreeing, count = len(calibration.agreeing), len(calibration.rows)
    severity: Severity = "good" if agreeing == count else "note" if agreeing else "bad"
    numbers = {"agreeing": agreeing, "metrics": count}
    return [Finding("agrees-with-planted-truth", severity, calibration.agreeing, numbers=numbers,
                    objects=calibration.opposed)]  # fmt: skip


def _strata(basis: Basis) -> list[Finding]:
    """Whether another method leads where the classifier errs."""
    results = basis.results
    incorrect = int((~results.correct).sum()) if results.gradable else 0
    if not incorrect or len(results.methods) < 2 or not basis.rows:
        return []
    numbers = {"incorrect": incorrect, "samples": len(results)}
    if incorrect < FEW:
        return [Finding("few-incorrect", "note", numbers=numbers)]
    means, first = _means(basis.overall()[results.rows("incorrect")]), basis.rows[0].method
    if not np.isfinite(means).any() or results.methods[int(np.nanargmax(means))] == first:
        return []
    leader = results.methods[int(np.nanargmax(means))]
    return [Finding("other-leader-on-incorrect", "note", (leader,), numbers=numbers, objects=(first,))]


def _groups(basis: Basis) -> list[Finding]:
    """Rows that are not independent: pairs of a sample and a label, or samples of one patient or slide."""
    counts, groups = basis.results.about.get("pairs"), basis.results.groups
    if counts and counts["pairs"] > counts["samples"]:
        return [Finding("rows-are-pairs", "note", numbers=counts)]
    if groups is None:
        return []
    return [Finding("samples-are-grouped", "note", numbers={"samples": len(groups), "groups": len(np.unique(groups))})]


def _missing(basis: Basis) -> list[Finding]:
    """Scores that are undefined or were not computed."""
    rows, results = [], basis.results
    for metric in results.metrics:
        cells = [basis.estimates[name, metric] for name in results.methods if (name, metric) in basis.estimates]
        share = max((e.undefined / max(1, e.n + e.undefined) for e in cells), default=0.0)
        if share > MISSING:
            rows.append(Finding("undefined-scores", "note", metric=metric, numbers={"share": round(share, 2)}))
    if results.skips:
        rows.append(Finding("skipped", "note", numbers={"combinations": len(results.skips)}))
    return rows


def _means(ranks: np.ndarray) -> np.ndarray:
    """The mean of each column over the rows that are defined."""
    rows = ranks[np.isfinite(ranks).all(axis=1)]
    return np.asarray(rows.mean(axis=0)) if len(rows) else np.full(ranks.shape[1], np.nan)


_PARTS: tuple[Callable[[Basis], list[Finding]], ...] = (
    _model, _own_controls, _sanity, _contradicting, _evidence, _families, _planted, _strata, _groups, _missing,
)  # fmt: skip
