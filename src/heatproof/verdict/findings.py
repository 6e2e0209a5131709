"""What a reader should know of a study besides the decision, as records, the most serious first."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from heatproof.records import Finding, Severity
from heatproof.verdict.basis import Basis
from heatproof.verdict.checks import bears_on_truth

FEW, MANY = 10, 1_000_000  # samples: too few to compare, and more than anyone has
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


def _controls(basis: Basis) -> list[Finding]:
    """The methods that do not beat every control, those with the same controls together."""
    controls, lost = basis.results.controls, basis.not_better_than
    if not controls:
        return [Finding("no-control", "note")]
    groups: dict[tuple[str, ...], list[str]] = {}
    for method, names in lost.items():
        groups.setdefault(names, []).append(method)
    rows = [
        Finding("not-better-than-controls", "bad", tuple(methods), objects=names)
        for names, methods in groups.items()
        if names
    ]
    if not rows and basis.ranks_with_controls:
        fills = {"fills": len(basis.studies)}
        rows = [Finding("better-than-controls", "good", tuple(lost), objects=controls, numbers=fills)]
    return rows


def _sanity(basis: Basis) -> list[Finding]:
    """Which methods fail a sanity check, by check; whether any check was made at all."""
    checks = basis.method_checks
    failed = dict.fromkeys(metric for check in checks for metric in check.failed)
    rows = [
        Finding(
            "maps-do-not-change", "bad", tuple(c.method for c in checks if metric in c.failed), metric,
            str(basis.results.fact(metric, "must_change_with") or "parameters"),
        )
        for metric in failed
    ]  # fmt: skip
    if not any(check.passed or check.failed for check in checks):
        return [Finding("no-sanity-check", "note")]
    eligible = basis.eligible
    numbers = {"eligible": len(eligible), "methods": len(checks)}
    severity: Severity = "good" if eligible else "bad"
    return [*rows, Finding("eligible-methods", severity, eligible, numbers=numbers)]


def _validity(basis: Basis) -> list[Finding]:
    """How many metrics are valid, and why others are not."""
    checks = basis.metric_checks
    if not checks:
        return [Finding("no-comparable-metric", "bad")]
    rows = [Finding("metric-not-valid", "note", metric=c.metric, reason=c.reason) for c in checks if not c.valid]
    severity: Severity = "bad" if not basis.valid else "good" if len(basis.valid) == len(checks) else "note"
    numbers = {"valid": len(basis.valid), "metrics": len(checks)}
    return [*rows, Finding("valid-metrics", severity, basis.valid, numbers=numbers)]


def _contradicting(basis: Basis) -> list[Finding]:
    """Valid metrics that put none of the methods at the top first."""
    decision = basis.decision
    if decision.lead is None or len(decision.lead.order) == 1:
        return []
    rows = []
    for metric in (m for m in basis.valid if bears_on_truth(basis.results, m)):
        top = basis.results.ranking(metric).top
        if not set(top) & set(decision.group):
            rows.append(Finding("metric-ranks-otherwise", "note", tuple(sorted(top)), metric))
    return rows


def _fills(basis: Basis) -> list[Finding]:
    """Whether the fill decides which method leads."""
    dependence = basis.fill_dependence
    if len(basis.studies) < 2 or dependence is None:
        return []
    fills, leaders = tuple(dependence.leaders), tuple(dependence.leaders.values())
    reason = "eligible-methods" if dependence.eligible else "all-methods"
    if not dependence.changes:
        severity: Severity = "good" if dependence.eligible else "note"
        return [Finding("leader-does-not-depend-on-fill", severity, fills, reason=reason, objects=leaders[:1])]
    rows = [
        Finding("leader-depends-on-fill", "note" if dependence.shared else "bad", fills, reason=reason, objects=leaders)
    ]
    if dependence.shared:
        rows.append(Finding("top-with-every-fill", "note", dependence.shared, numbers={"fills": len(fills)}))
    return rows


def _by_metric(basis: Basis) -> list[Finding]:
    """Valid metrics by which some method does not beat every control."""
    rows = []
    for metric, ranking in basis.by_metric.items():
        lost = {method: names for method, names in ranking.not_better_than.items() if names}
        if not lost or metric in _invalid(basis) or not bears_on_truth(basis.results, metric):
            continue
        controls = tuple(dict.fromkeys(name for names in lost.values() for name in names))
        none = len(lost) == len(ranking.rows) > 1
        rows.append(
            Finding(
                "metric-no-better-than-controls", "bad" if none else "note", tuple(lost), metric,
                reason="no-method" if none else "some-methods", objects=controls,
                numbers={"methods": len(ranking.rows)},
            )
        )  # fmt: skip
    return rows


def _invalid(basis: Basis) -> set[str]:
    return {check.metric for check in basis.metric_checks if not check.valid}


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
    means, first = _means(basis.ranks("incorrect")), basis.rows[0].method
    if not np.isfinite(means).any() or results.methods[int(np.nanargmin(means))] == first:
        return []
    leader = results.methods[int(np.nanargmin(means))]
    return [Finding("other-leader-on-incorrect", "note", (leader,), numbers=numbers, objects=(first,))]


def _power(basis: Basis) -> list[Finding]:
    """How many samples would separate the first two, where they do not differ significantly."""
    rows = basis.rows
    if len(rows) < 2 or not set(rows[0].letters) & set(rows[1].letters):
        return []
    pair = (rows[0].method, rows[1].method)
    needed, n = basis.samples_needed[pair], basis.ranking().samples
    if not np.isfinite(needed) or needed > MANY:
        return [Finding("more-samples-will-not-separate", "note", pair)]
    if needed <= n:
        return []
    return [Finding("more-samples-needed", "note", pair, numbers={"needed": needed, "samples": n})]


def _pairs(basis: Basis) -> list[Finding]:
    """Rows that are pairs of a sample and a label: those of one sample are not independent."""
    counts = basis.results.about.get("pairs")
    return [Finding("rows-are-pairs", "note", numbers=counts)] if counts and counts["pairs"] > counts["samples"] else []


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
    _model, _controls, _sanity, _validity, _contradicting, _fills, _by_metric, _families, _planted, _strata, _power,
    _pairs, _missing,
)  # fmt: skip
