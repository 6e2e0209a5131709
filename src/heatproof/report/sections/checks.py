"""Validity checks: what the model, the metrics and the methods were tested for before anything was concluded."""

from __future__ import annotations

from heatproof.phrases import listed
from heatproof.report import facts
from heatproof.report.content import Content
from heatproof.report.parts import Cell, Part, Picture, Section, Share, Table, compose, listing
from heatproof.report.sections.curves import LINES, curve
from heatproof.verdict.checks import LEAST, MetricCheck
from heatproof.verdict.judgement import Judgement
from heatproof.verdict.wording import reason

KINDS = (
    "model-has-learnt", "model-has-not-learnt", "no-comparable-metric", "valid-metrics", "no-sanity-check",
    "eligible-methods",
)  # fmt: skip


def section(content: Content) -> Section | None:
    """Which metrics and methods passed their checks, and whether the model has learnt anything."""
    judgement = content.judgement
    if judgement is None or not judgement.results.methods or not judgement.results.metrics:
        return None
    lead = (
        "Before anything is concluded, the model is compared with copies of it that have random weights, each metric "
        "is applied to maps that are wrong on purpose, and each method is compared with maps that ignore the model."
    )
    parts: list[Part | None] = [
        listing(item for kind in KINDS for item in judgement.statements if item.findings[0].kind == kind),
        _metrics(judgement),
        _methods(judgement),
        _similarities(judgement),
        *_curves(judgement),
    ]
    return compose("checks", "Validity checks", "Checks", lead, parts)


def _metrics(judgement: Judgement) -> Table | None:
    """A row a metric: whether it is valid, and why not."""
    checks = {check.metric: check for check in judgement.metric_checks}
    rows = [_row(judgement, metric, checks.get(metric)) for metric in judgement.results.metrics]
    caption = (
        "Which metrics are valid. The maps of at least one method have to score significantly better than random maps "
        f"and than the same maps inverted. {_ranking(judgement)}Effect of noise: how far a little noise on the input "
        "moves the score, as a share of the distance to a random map; above 100 % the metric is too unstable."
    )
    columns = ("Metric", "Valid", "Beats random maps", "Beats inverted maps", "Effect of noise", "Reason")
    faint = frozenset(i for i, row in enumerate(rows) if row[1] == "no")
    return Table("metric-checks", caption, columns, tuple(rows), faint)


def _ranking(judgement: Judgement) -> str:
    """Which of the valid metrics rank the methods."""
    if len(judgement.ranking_metrics) == len(judgement.considered):
        return ""
    families = listed([*dict.fromkeys(judgement.results.family(m) for m in judgement.ranking_metrics)])
    return f"The {families} metrics rank the methods; the other valid metrics only check them. "


def _row(judgement: Judgement, metric: str, check: MetricCheck | None) -> tuple[Cell, ...]:
    results, count = judgement.results, len(judgement.results.methods)
    if check is None:
        complete = all((name, metric) in results.scores for name in results.everyone)
        why = "does not measure which map is correct" if complete else "not computed for every method"
        return metric, "no", None, None, None, why
    valid = "yes" if check.valid else "no"
    why = reason(check.reason)
    if check.valid and metric not in judgement.ranking_metrics:
        why += "; not used for ranking"
    if check.reason == "not-testable":
        return metric, valid, None, None, None, why
    checks = results.self_checks
    tried = checks is not None and len(checks.rows) > LEAST and any(m == metric for _, m in checks.inverted)
    random = _counted(len(check.beats_random), count) if results.random_control is not None else None
    inverted = _counted(len(check.beats_inverted), count) if tried else None
    return metric, valid, random, inverted, Share(check.noise), why


def _counted(count: int, of: int) -> str:
    """How many of a few.

    >>> _counted(0, 3), _counted(2, 3), _counted(3, 3)
    ('none', '2 of 3', 'all 3')
    """
    return "none" if not count else f"all {of}" if count == of > 1 else f"{count} of {of}"


def _methods(judgement: Judgement) -> Table:
    """A row a method: which controls it beats, which sanity checks it passes."""
    rows: list[tuple[Cell, ...]] = []
    checks = sorted(judgement.method_checks, key=lambda check: judgement.everyone.index(check.method))
    tried = any(check.passed or check.failed for check in checks)
    for check in checks:
        worse = listed(check.not_better_than) or ("none" if judgement.results.controls else "no control run")
        sanity = (listed(check.passed) or "none", listed(check.failed) or "none") if tried else ()
        rows.append((check.method, "yes" if check.eligible else "no", worse, *sanity))
    caption = (
        "Which methods are eligible. A method has to be significantly better than every control by the valid metrics, "
        "with every fill that was tried, and its maps have to change when the model or the explained class does."
    )
    columns = ("Method", "Eligible", "Not better than", *(("Sanity checks passed", "Sanity checks failed") * tried))
    faint = frozenset(i for i, row in enumerate(rows) if row[1] == "no")
    return Table("method-checks", caption, columns, tuple(rows), faint)


def _similarities(judgement: Judgement) -> Table | None:
    """How similar maps remain where they should change."""
    limits = {metric: judgement.results.unchanged_above(metric) for metric in judgement.results.metrics}
    metrics = [metric for metric, limit in limits.items() if limit is not None]
    if not metrics:
        return None
    rows = tuple((name, *(judgement.estimates.get((name, m)) for m in metrics)) for name in judgement.everyone)
    above = listed([f"{limits[metric]} for {metric}" for metric in metrics])
    caption = (
        f"Similarity of maps that should change (1: unchanged), with {judgement.level_text} intervals. A method fails "
        f"where the whole interval lies above {above}. Controls ignore the model, so their maps stay the same."
    )
    faint = frozenset(range(len(judgement.results.methods), len(rows)))
    return Table("sanity", caption, ("Method", *metrics), rows, faint, digits=2)


def _curves(judgement: Judgement) -> list[Picture]:
    """The curves of the sanity checks, of the best methods."""
    results = judgement.results
    metrics = [m for m in facts.sanity_checks(results) if any(metric == m for _, metric in results.curves)]
    shown = [name for name in judgement.everyone if name not in results.controls][:LINES]
    return [curve(judgement, metric, shown, folded=i > 0) for i, metric in enumerate(metrics)]
