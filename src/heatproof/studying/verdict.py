"""Which method to trust on this model and data, computed from the evidence, or that the evidence names none.

    (a) A metric counts only if it can tell a real map from a random one here: some candidate beats the random control
        beyond doubt. Robustness is exempt, as a map that ignores the input never moves.
    (b) A method counts only if it beats every control, and its maps change with the model's parameters and the class
        explained (where those were tried).
    (c) Each sample's ranks are averaged within a family of metrics, then over the families; cousins are one voice.
    (d) Friedman's test and Holm-corrected paired tests give the top group.
    (e) The confidence is the share of resamples, over samples and over baselines, in which the winner stays on top.

A winner is named only if it is alone in the top group and its confidence reaches the level of the study.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from heatproof import stats
from heatproof.errors import InputError
from heatproof.records import Estimate
from heatproof.studying.results import Results
from heatproof.studying.standing import TRUTH, mean_defined, standings

RANDOM = "random"
# A map counts as unchanged where the whole interval of the likeness lies above this.
STILL = {"parameter-randomisation": 0.5, "random-logit": 0.9}
LEAST = 5  # samples below which nothing is concluded


@dataclass(frozen=True)
class MetricCheck:
    """Whether a metric counts, why not, and which candidates it tells from a random map."""

    metric: str
    counts: bool
    reason: str
    beats_random: tuple[str, ...]


@dataclass(frozen=True)
class MethodCheck:
    """Whether a method counts, and what speaks against it."""

    method: str
    counts: bool
    unbeaten: tuple[str, ...]
    unmoved: tuple[str, ...]


@dataclass(frozen=True)
class Verdict:
    """What the evidence says.

    Attributes:
        winner: the method to trust, or None.
        group: those at the top that cannot be told apart; empty where none counts.
        confidence: share of resamples in which the leader stays on top; NaN without one.
        margin: by how many mean ranks the leader is ahead of the next candidate that counts, with interval.
        agreement: Kendall's W between the metrics that count, on the candidates; NaN below two metrics or candidates.
        text: the verdict in a paragraph. findings: what a reader should know first, most serious first.
        metrics, methods: the checks.
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


def verdict(results: Results, *others: Results) -> Verdict:
    """The verdict of a study; ``others`` are the same study with other fills, which are then resampled too.

    Raises: InputError where the others have other methods, metrics or samples.
    """
    studies = (results, *others)
    for other in others:
        if (other.methods, other.metrics, len(other)) != (results.methods, results.metrics, len(results)):
            raise InputError("verdict: the studies differ in methods, metrics or samples; vary the fill alone")
    checks = tuple(_check_metric(results, metric) for metric in results.speaking)
    counting = tuple(check.metric for check in checks if check.counts)
    methods = _check_methods(results, counting)
    eligible = [check.method for check in methods if check.counts]
    if not eligible:
        return _refusal(results, checks, methods, counting)
    rows = [results.methods.index(name) for name in eligible]
    tables = np.stack([study.voices(controls=False, metrics=counting)[:, rows] for study in studies])
    return _decide(results, tables, eligible, checks, methods, counting)


def _decide(
    results: Results,
    tables: Float[np.ndarray, "b n m"],
    eligible: list[str],
    checks: tuple[MetricCheck, ...],
    methods: tuple[MethodCheck, ...],
    counting: tuple[str, ...],
) -> Verdict:
    pooled = mean_defined(list(tables))
    alpha, seed = 1 - results.level, results.seed
    ranking = standings(pooled, pooled, eligible, (), metric=None, better="lower", alpha=alpha, seed=seed)
    share = dict(zip(eligible, stats.winner_share(tables, seed=seed), strict=True))
    leader = ranking.rows[0].method
    group, confidence = ranking.top, float(share[leader])
    margin = None
    if len(eligible) > 1:
        ahead = pooled[:, eligible.index(ranking.rows[1].method)] - pooled[:, eligible.index(leader)]
        margin = stats.estimate(ahead, confidence=results.level, seed=seed)
    known = ranking.samples if len(eligible) > 1 else int(np.isfinite(pooled[:, 0]).sum())
    enough = known >= LEAST
    alone = len(group) == 1 and len(eligible) > 1
    winner = leader if enough and (len(eligible) == 1 or (alone and confidence >= results.level)) else None
    findings = _findings(results, tables, eligible, group, checks, methods, counting)
    text = _text(results, winner, group, confidence, margin, [row.method for row in ranking.rows], known)
    return Verdict(
        winner,
        group if enough else (),
        confidence,
        margin,
        _agreement(results, counting),
        text,
        findings,
        checks,
        methods,
    )


def _check_metric(results: Results, metric: str) -> MetricCheck:
    names = [name for name in results.controls if name.split(":")[0] == RANDOM]
    if results.family(metric) not in TRUTH:
        return MetricCheck(metric, True, "a random map cannot test it", ())
    table = results.table(metric)
    if int(np.isfinite(table).all(axis=1).sum()) < LEAST:
        return MetricCheck(metric, False, f"it is defined for fewer than {LEAST} samples", ())
    if not names:
        return MetricCheck(metric, True, "there is no random control to test it", ())
    column = [len(results.methods) + results.controls.index(names[0])]
    rows = [*range(len(results.methods)), *column]
    ranking = standings(
        table[:, rows[:-1]], table[:, rows], results.methods, names[:1],
        metric=metric, better=results.better(metric), alpha=1 - results.level, seed=results.seed,
    )  # fmt: skip
    beats = tuple(row.method for row in ranking.rows if row.beats)
    reason = "" if beats else "it cannot tell any method's maps from random ones on these samples"
    return MetricCheck(metric, bool(beats), reason, tuple(m for m in results.methods if m in beats))


def _check_methods(results: Results, counting: tuple[str, ...]) -> tuple[MethodCheck, ...]:
    truth = tuple(m for m in counting if results.family(m) in TRUTH)
    if truth and results.controls:
        table = results.voices(metrics=truth)
        names = (results.methods, results.controls)
        own = table[:, : len(results.methods)]
        unbeaten = standings(
            own, table, *names, metric=None, better="lower", alpha=1 - results.level, seed=results.seed
        ).unbeaten
    else:
        unbeaten = dict.fromkeys(results.methods, () if truth else ("any control",))
    unmoved: dict[str, list[str]] = {name: [] for name in results.methods}
    for (method, metric), found in results.estimates().items():
        limit = STILL.get(metric.split(":")[0])
        if method in unmoved and limit is not None and found.low > limit:
            unmoved[method].append(metric)
    return tuple(
        MethodCheck(name, not unbeaten[name] and not unmoved[name], unbeaten[name], tuple(unmoved[name]))
        for name in results.methods
    )


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
        for metric in counting:
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
    margin: Estimate | None,
    order: Sequence[str],
    known: int,
) -> str:
    sure = f"{100 * confidence:.0f} % of the resamples"
    if known < LEAST:
        return f"Too few samples to tell: {known} have all scores, and at least {LEAST} are needed."
    if winner is not None and margin is not None:
        return (
            f"Trust {winner} for this model and data: it is first in {sure}, {margin.mean:.2f} mean ranks "
            f"[{margin.low:.2f}, {margin.high:.2f}] ahead of {order[1]}, and it beats every control."
        )
    if winner is not None:
        return f"Trust {winner} for this model and data: it alone beats every control and passes its sanity checks."
    if len(group) > 1:
        better = ", and better than the others that beat every control" if len(group) < len(order) else ""
        return (
            f"{_list(group)} cannot be told apart on these {len(results)} samples{better}; {order[0]} leads in {sure}."
        )
    return f"{order[0]} leads in {sure}, which does not carry a verdict at {100 * results.level:.0f} % confidence."


def _refusal(
    results: Results, checks: tuple[MetricCheck, ...], methods: tuple[MethodCheck, ...], counting: tuple[str, ...]
) -> Verdict:
    if not counting:
        text = "No verdict: no metric can tell a method's maps from random ones on these samples."
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


def _list(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else list(names))
