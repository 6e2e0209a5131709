"""Which method to trust on this model and data, computed from the evidence, or that the evidence names none.

    (0) The model must have learnt something: it agrees with the labels more than with shuffled ones, and more often
        than copies of it with random weights do.
    (a) A metric counts only if it can tell a real map from a random one and from the same map inverted here, and small
        input noise moves it less than a random map does. Robustness is exempt, as a map that ignores the input never
        moves.
    (b) A method counts only if it beats every control under every baseline, and its maps change with the model's
        parameters, the labels it learnt and the class explained (where those were tried).
    (c) Where metrics of region count, they rank the methods. Elsewhere each sample's ranks are averaged within a family
        of metrics, then over the families of faithfulness and localisation; cousins are one voice.
    (d) Friedman's test and Holm-corrected paired tests give the top group: those that no other is better than.
    (e) The confidence is the share of resamples, over samples and over baselines, in which the winner stays on top.

A winner is named only if it is in the top group, its confidence reaches the level of the study, and its margin over the
next has an interval above zero. Where a single method counts, the controls are its rivals: it needs such a margin over
the best of them, and a sanity check that it passed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from heatproof import stats
from heatproof.errors import InputError
from heatproof.records import Estimate
from heatproof.studying.checks import LEAST, MethodCheck, MetricCheck, check_methods, check_metric, ignorance
from heatproof.studying.results import Results
from heatproof.studying.standing import LEADING, TRUTH, mean_defined, standings


@dataclass(frozen=True)
class Verdict:
    """What the evidence says.

    Attributes:
        winner: the method to trust, or None.
        group: those at the top that cannot be told apart; empty where none counts.
        confidence: share of resamples in which the leader stays on top; NaN without one.
        margin: by how many mean ranks the leader is ahead of the next candidate that counts, or of the best control
            where no other candidate counts, with interval.
        agreement: Kendall's W between the metrics that count, on the candidates; NaN below two metrics or candidates.
        text: the verdict in a paragraph. findings: what a reader should know first, most serious first.
        metrics, methods: the checks. ranked: the metrics whose ranks name the winner.
    """

    winner: str | None
    group: tuple[str, ...]
    confidence: float
    margin: Estimate | None
    agreement: float
    text: str
    findings: tuple[str, ...]
    metrics: tuple[MetricCheck, ...]
    methods: tuple[MethodCheck, ...]
    ranked: tuple[str, ...] = ()


def verdict(results: Results, *others: Results) -> Verdict:
    """The verdict of a study; ``others`` are the same study with other fills, which are then resampled too.

    Raises: InputError where the others have other methods, metrics or samples.
    """
    studies = (results, *others)
    for other in others:
        if (other.methods, other.metrics, len(other)) != (results.methods, results.metrics, len(results)):
            raise InputError("verdict: the studies differ in methods, metrics or samples; vary the fill alone")
    checks = tuple(check_metric(results, metric) for metric in results.speaking)
    counting = tuple(check.metric for check in checks if check.counts)
    methods = _everywhere([check_methods(study, counting) for study in studies])
    eligible = [check.method for check in methods if check.counts]
    unknowing = ignorance(results)
    if unknowing or not eligible:
        return _refusal(results, checks, methods, counting, unknowing)
    rows = [results.methods.index(name) for name in eligible]
    ranked = _ranking(results, counting)
    tables = np.stack([study.voices(controls=False, metrics=ranked)[:, rows] for study in studies])
    if len(eligible) == 1:
        return _alone(studies, tables, eligible[0], checks, methods, counting)
    return _decide(results, tables, eligible, checks, methods, counting)


def _ranking(results: Results, counting: Sequence[str]) -> tuple[str, ...]:
    """The metrics that rank the methods: of the leading family, or else of all that speak on truth."""
    leading = tuple(metric for metric in counting if results.family(metric) == LEADING)
    return leading or tuple(metric for metric in counting if results.family(metric) in TRUTH)


def _everywhere(found: Sequence[tuple[MethodCheck, ...]]) -> tuple[MethodCheck, ...]:
    """Each method's checks under every baseline: it counts if it does under all of them."""
    merged = []
    for checks in zip(*found, strict=True):
        unbeaten = tuple(dict.fromkeys(name for check in checks for name in check.unbeaten))
        unmoved = tuple(dict.fromkeys(name for check in checks for name in check.unmoved))
        passed = tuple(name for name in checks[0].passed if name not in unmoved)
        merged.append(MethodCheck(checks[0].method, not unbeaten and not unmoved, unbeaten, unmoved, passed))
    return tuple(merged)


def _decide(
    results: Results,
    tables: Float[np.ndarray, "b n m"],
    eligible: list[str],
    checks: tuple[MetricCheck, ...],
    methods: tuple[MethodCheck, ...],
    counting: tuple[str, ...],
) -> Verdict:
    """Two methods or more count: the winner is the one that leads the others beyond doubt."""
    pooled = mean_defined(list(tables))
    placed = np.stack([stats.ranks(table, better="lower") for table in tables])
    alpha, seed = 1 - results.level, results.seed
    ranking = standings(pooled, pooled, eligible, (), metric=None, better="lower", alpha=alpha, seed=seed)
    order = sorted(ranking.rows, key=lambda row: (row.rank.mean, row.place))
    leader, second = (eligible.index(row.method) for row in order[:2])
    group, confidence = ranking.top, float(stats.winner_share(placed, seed=seed)[leader])
    ahead = mean_defined(list(placed[:, :, second] - placed[:, :, leader]))
    margin = stats.estimate(ahead, confidence=results.level, seed=seed)
    enough = ranking.samples >= LEAST
    sure = eligible[leader] in group and confidence >= results.level and margin.low > 0
    winner = eligible[leader] if enough and sure else None
    group = (winner,) if winner else group
    findings = _findings(results, tables, eligible, group, checks, methods, counting)
    names = [row.method for row in order]
    text = _text(results, winner, group, confidence, margin, names, ranking.samples)
    agreement = _agreement(results, counting)
    shown = group if enough else ()
    ranked = _ranking(results, counting)
    return Verdict(winner, shown, confidence, margin, agreement, text, findings, checks, methods, ranked)


def _alone(
    studies: Sequence[Results],
    tables: Float[np.ndarray, "b n m"],
    method: str,
    checks: tuple[MetricCheck, ...],
    methods: tuple[MethodCheck, ...],
    counting: tuple[str, ...],
) -> Verdict:
    """A single method counts: the controls are its rivals."""
    results = studies[0]
    findings = _findings(results, tables, [method], [method], checks, methods, counting)
    agreement = _agreement(results, counting)
    ranked = _ranking(results, counting)
    row, first = results.methods.index(method), len(results.methods)
    against = np.stack([study.voices(metrics=ranked)[:, [row, *range(first, first + len(study.controls))]]
                        for study in studies])  # fmt: skip
    pooled = mean_defined(list(against))
    known = int(np.isfinite(pooled).all(axis=1).sum())
    confidence, margin, rival = float("nan"), None, ""
    if results.controls and known:
        confidence = float(stats.winner_share(against, seed=results.seed)[0])
        place = 1 + int(np.argmin(mean_defined(list(pooled[np.isfinite(pooled).all(axis=1), 1:]))))
        rival = results.controls[place - 1]
        margin = stats.estimate(pooled[:, place] - pooled[:, 0], confidence=results.level, seed=results.seed)
    enough = known >= LEAST
    ahead = margin is not None and margin.low > 0 and confidence >= results.level
    passed = next(check.passed for check in methods if check.method == method)
    winner = method if enough and ahead and passed else None
    sure = f"{100 * confidence:.0f} % of the resamples"
    if not enough:
        text = _few(known)
    elif margin is None or not ahead:
        text = f"{method} alone could count, but it is ahead of every control in only {sure}: no verdict."
        text = text if results.controls else f"{method} alone could count, but no control was tried to compare it with."
    elif not passed:
        text = (
            f"{method} alone beats every control, but no sanity check was made, so it is not known to explain this "
            "model; add parameter-randomisation or random-logit to the metrics."
        )
    else:
        text = (
            f"Trust {method} for this model and data: it alone beats every control, {margin.mean:.2f} mean ranks "
            f"[{margin.low:.2f}, {margin.high:.2f}] ahead of {rival} and first in {sure}, and passes its sanity checks "
            f"({_list(passed)})."
        )
    group = (method,) if enough else ()
    return Verdict(winner, group, confidence, margin, agreement, text, findings, checks, methods, ranked)


def _agreement(results: Results, counting: tuple[str, ...]) -> float:
    """Kendall's W of the metrics' mean ranks of the candidates."""
    if len(counting) < 2 or len(results.methods) < 2:
        return float("nan")
    judges = []
    for metric in counting:
        placed = stats.ranks(results.table(metric, controls=False), better=results.better(metric))
        judges.append(mean_defined(list(placed)))
    return stats.kendall_w(np.stack(judges))


def _findings(
    results: Results,
    tables: Float[np.ndarray, "b n m"],
    eligible: Sequence[str],
    group: Sequence[str],
    checks: Sequence[MetricCheck],
    methods: Sequence[MethodCheck],
    counting: Sequence[str],
) -> tuple[str, ...]:
    """What fails, where metrics disagree, and what another baseline would change."""
    found = [f"{m.method} is no better than {_list(m.unbeaten)}." for m in methods if m.unbeaten]
    found += [
        f"{m.method} hardly changes when the {'class' if 'logit' in metric else 'model'} does ({metric})."
        for m in methods
        for metric in m.unmoved
    ]
    found += [f"{check.metric} is left out: {check.reason}." for check in checks if not check.counts]
    if len(eligible) > 1:
        for metric in (m for m in counting if results.family(m) in TRUTH):
            top = set(results.ranking(metric).top)
            if not top & set(group):
                found.append(f"{metric} disagrees: it puts {_list(sorted(top))} first.")
        leaders = [eligible[int(np.argmin(mean_defined(list(table))))] for table in tables]
        if len(set(leaders)) > 1:
            found.append(f"Another baseline changes who leads: {_list(sorted(set(leaders)))}.")
    return tuple(found)


def _text(
    results: Results,
    winner: str | None,
    group: Sequence[str],
    confidence: float,
    margin: Estimate,
    order: Sequence[str],
    known: int,
) -> str:
    sure = f"{100 * confidence:.0f} % of the resamples"
    if known < LEAST:
        return _few(known)
    if winner is not None:
        return (
            f"Trust {winner} for this model and data: it is first in {sure}, {margin.mean:.2f} mean ranks "
            f"[{margin.low:.2f}, {margin.high:.2f}] ahead of {order[1]}, and it beats every control."
        )
    if len(group) > 1:
        better = ", and are better than the others that beat every control" if len(group) < len(order) else ""
        return (
            f"{_list(group)} cannot be told apart on these {len(results)} samples{better}; {order[0]} leads in {sure}."
        )
    return f"{order[0]} leads in {sure}, which does not carry a verdict at {100 * results.level:.0f} % confidence."


def _refusal(
    results: Results,
    checks: tuple[MetricCheck, ...],
    methods: tuple[MethodCheck, ...],
    counting: tuple[str, ...],
    unknowing: str,
) -> Verdict:
    if unknowing:
        text = f"No verdict: the model cannot be said to have learnt anything, as {unknowing}."
    elif not counting:
        text = "No verdict: no metric can tell a method's maps from random or inverted ones on these samples."
    else:
        controls = sorted({name for method in methods for name in method.unbeaten})
        why = f"none is better than {_list(controls)}" if controls else "none passes its sanity checks"
        if controls and any(not m.unbeaten for m in methods):
            why = "none both beats every control and passes its sanity checks"
        text = f"No method can be trusted for this model and data: {why}."
    empty = np.empty((0, 0, 0))
    findings = _findings(results, empty, (), (), checks, methods, counting)
    agreement = _agreement(results, counting)
    return Verdict(None, (), float("nan"), None, agreement, text, findings, checks, methods)


def _few(known: int) -> str:
    return f"Too few samples to tell: {known} have all scores, and at least {LEAST} are needed."


def _list(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else list(names))
