"""Decisions and findings in words: the only place that makes sentences of them.

A sentence is made from a record and never read again; findings that differ in their metric alone share one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from heatproof.phrases import listed, percent, plural, rounded, share_of, verb
from heatproof.records import Estimate, Finding, Severity
from heatproof.verdict.decision import Decision, Doubt
from heatproof.verdict.leader import Lead

NAMED = 4  # names that a sentence lists one by one


@dataclass(frozen=True)
class Statement:
    """A sentence and how serious it is; ``findings`` are those it is made of."""

    severity: Severity
    text: str
    findings: tuple[Finding, ...] = ()


def sentence(*findings: Finding, plain: Mapping[str, str] | None = None) -> str:
    """One sentence of findings that differ in their metric alone.

    ``plain`` are descriptions of controls in plain words, by their labels.
    """
    first = findings[0]
    metrics = tuple(f.metric for f in findings if f.metric)
    return _SENTENCES[first.kind](first, metrics, plain or {})


def statements(findings: Sequence[Finding], *, plain: Mapping[str, str] | None = None) -> tuple[Statement, ...]:
    """The findings in sentences, in their order; those that differ in their metric alone as one."""
    groups: dict[tuple[object, ...], list[Finding]] = {}
    for f in findings:
        key = (f.kind, f.severity, f.subjects, f.reason, f.objects, tuple(sorted(f.numbers.items())))
        groups.setdefault(key, []).append(f)
    return tuple(Statement(group[0].severity, sentence(*group, plain=plain), tuple(group)) for group in groups.values())


def decision(decision: Decision, *, plain: Mapping[str, str] | None = None) -> str:
    """The verdict as a paragraph."""
    return _DECISIONS[decision.kind](decision, plain or {})


def reason(code: str, count: int = 1) -> str:
    """Why a metric is not valid, or what of it could not be tested; ``count`` metrics are meant."""
    it, does, is_ = verb(count, "it", "they"), verb(count, "does", "do"), verb(count, "is", "are")
    return {
        "": "passed",
        "not-testable": "no control can lose by this family, so it is not tested",
        "too-few-samples": f"{it} {is_} defined for fewer than 5 samples",
        "no-random-control": "no random control was run to test it against",
        "random": f"{it} {does} not separate any method's maps from random maps on these samples",
        "inverted": f"{it} {does} not separate any method's maps from the same maps inverted on these samples",
        "noise": f"small noise on the input changes {verb(count, 'it', 'them')} more than a random map does",
    }[code]


def concordance(w: float) -> str:
    """Kendall's W in words."""
    return "very similarly" if w >= 0.7 else "somewhat similarly" if w >= 0.4 else "differently"


def interval(estimate: Estimate, level: float = 0.95, digits: int = 2) -> str:
    """An estimate with its interval, as in running text."""
    if not (math.isfinite(estimate.low) and math.isfinite(estimate.high)):
        return f"{estimate.mean:.{digits}f}"
    ends = f"{estimate.low:.{digits}f} to {estimate.high:.{digits}f}"
    return f"{estimate.mean:.{digits}f} ({100 * level:g} % CI {ends})"


# Decisions


def _ranks(lead: Lead, level: float) -> str:
    """The margin in mean ranks with its interval."""
    if lead.margin is None:
        return ""
    return interval(lead.margin, level).replace(" (", " mean ranks (", 1)


def _support(lead: Lead, level: float) -> str:
    """The support as a share of the resamples, never rounded up to the level."""
    digits = 1 if round(lead.support, 2) >= level > lead.support else 0
    return f"{percent(lead.support, digits)} of the resamples"


def _doubts(d: Decision) -> str:
    """Why the leader is not named."""
    assert d.lead is not None
    lead = d.lead
    words: dict[Doubt, str] = {
        "better-method": f"{listed(lead.group)} {verb(len(lead.group), 'is', 'are')} better in paired tests",
        "support": f"{percent(d.level)} are required",
        "margin": f"its margin over {lead.rival}, {_ranks(lead, d.level)}, may be zero",
    }
    return listed([words[doubt] for doubt in d.doubts])


def _use(d: Decision, _: Mapping[str, str]) -> str:
    assert d.lead is not None
    return (
        f"Use {d.winner} for this model and data. It ranks first in {_support(d.lead, d.level)}, "
        f"{_ranks(d.lead, d.level)} ahead of {d.lead.rival}, and it beats every control."
    )


def _use_only(d: Decision, _: Mapping[str, str]) -> str:
    assert d.lead is not None
    return (
        f"Use {d.winner} for this model and data. It is the only eligible method: it beats every control, "
        f"{_ranks(d.lead, d.level)} ahead of {d.lead.rival} and first in {_support(d.lead, d.level)}, and it passes "
        f"its sanity checks ({listed(d.passed)})."
    )


def _group(d: Decision, _: Mapping[str, str]) -> str:
    assert d.lead is not None
    above = " They rank above the other eligible methods." if len(d.group) < len(d.lead.order) else ""
    return (
        f"{listed(d.group)} do not differ significantly on these {plural(d.samples, 'sample')}; {d.lead.leader} ranks "
        f"first in {_support(d.lead, d.level)}.{above}"
    )


def _uncertain(d: Decision, _: Mapping[str, str]) -> str:
    assert d.lead is not None
    return f"No method is named: {d.lead.leader} ranks first in {_support(d.lead, d.level)}, but {_doubts(d)}."


def _only_uncertain(d: Decision, _: Mapping[str, str]) -> str:
    assert d.lead is not None
    return (
        f"No method is named: {d.lead.leader} is the only eligible method; it ranks ahead of every control in "
        f"{_support(d.lead, d.level)}, but {_doubts(d)}."
    )


def _only_without_controls(d: Decision, _: Mapping[str, str]) -> str:
    assert d.lead is not None
    return (
        f"No method is named: {d.lead.leader} is the only eligible method, and no control was run to compare it with."
    )


def _only_without_sanity(d: Decision, _: Mapping[str, str]) -> str:
    assert d.lead is not None
    return (
        f"No method is named: only {d.lead.leader} beats every control, but no sanity check was made, so it is not "
        "known whether its maps depend on the model; add parameter-randomisation or random-logit to the metrics."
    )


def _too_few(d: Decision, _: Mapping[str, str]) -> str:
    samples = d.lead.samples if d.lead is not None else 0
    return f"No method is named: {plural(samples, 'sample')} with all scores are too few; at least 5 are needed."


def _no_eligible(d: Decision, plain: Mapping[str, str]) -> str:
    why = {
        "controls": f"none is better than {_controls(d.controls, plain)}",
        "sanity-checks": "none passes its sanity checks",
        "both": "none both beats every control and passes its sanity checks",
    }[d.barred or "both"]
    return f"No method can be trusted for this model and data: {why}."


_DECISIONS: dict[str, Callable[[Decision, Mapping[str, str]], str]] = {
    "use": _use,
    "use-only-eligible": _use_only,
    "not-significantly-different": _group,
    "leader-uncertain": _uncertain,
    "only-eligible-uncertain": _only_uncertain,
    "only-eligible-without-controls": _only_without_controls,
    "only-eligible-without-sanity-check": _only_without_sanity,
    "too-few-samples": _too_few,
    "no-methods": lambda *_: "No method is named: only controls were judged.",
    "model-has-not-learnt": lambda *_: (
        "No method is named: the model cannot be shown to have learnt anything, so there is nothing to explain."
    ),
    "no-valid-metric": lambda *_: (
        "No method is named: no metric separates a method's maps from random or inverted ones on these samples."
    ),
    "no-eligible-method": _no_eligible,
}


# Findings


def _controls(names: Sequence[str], plain: Mapping[str, str]) -> str:
    """Controls in plain words."""
    return listed([f"{plain[name]} ({name})" if plain.get(name) else name for name in names])


def _model(f: Finding, _: Sequence[str], __: Mapping[str, str]) -> str:
    n = f.numbers
    if "correct" not in n:
        return _skill(f)
    if f.reason == "shuffled-labels":
        return (
            "The predictions of the model agree with the labels no more than with shuffled labels "
            f"({n['correct']:,.0f} of {n['samples']:,.0f})."
        )
    correct = f"{n['correct']:,.0f} of {plural(int(n['samples']), 'sample')}"
    best = f"the best of {n['copies']:.0f} copies of it with random weights classifies {n['best']:,.0f}"
    if f.severity == "bad":
        return f"The model is no better than chance: it classifies {correct} correctly, and {best}."
    return f"The model classifies {correct} correctly; {best}."


def _skill(f: Finding) -> str:
    """What is found of a multi-label model or a regression."""
    key, what = (
        ("auc", "mean AUC of the labels") if "auc" in f.numbers else ("correlation", "correlation with the truth")
    )
    n, samples = f.numbers, plural(int(f.numbers["samples"]), "sample")
    value = f"{what} {n[key]:.3f} on {samples}"
    if f.reason == "shuffled-labels":
        return f"The outputs of the model agree with the true values no more than with shuffled ones ({value})."
    best = f"the best of {n['copies']:.0f} copies of it with random weights reaches {n['best']:.3f}"
    if f.severity == "bad":
        return f"The model is no better than chance ({value}); {best}."
    return f"The model has learnt from its data ({value}); {best}."


def _pairs(f: Finding, _: Sequence[str], __: Mapping[str, str]) -> str:
    pairs, samples, left_out = (int(f.numbers[key]) for key in ("pairs", "samples", "left_out"))
    without = f" {plural(left_out, 'sample')} without one {verb(left_out, 'is', 'are')} left out." if left_out else ""
    return (
        f"The rows of this study are {pairs:,} positive labels of {plural(samples, 'sample')}.{without} Intervals and "
        "tests take rows for independent; as several are of one sample, the intervals are somewhat too narrow."
    )


def _not_better(f: Finding, _: Sequence[str], plain: Mapping[str, str]) -> str:
    is_ = verb(len(f.subjects), "is", "are")
    return f"{listed(f.subjects)} {is_} not significantly better than {_controls(f.objects, plain)}."


def _better(f: Finding, _: Sequence[str], plain: Mapping[str, str]) -> str:
    count = len(f.subjects)
    who = "The method is" if count == 1 else f"{share_of(count, count, 'method')} are"
    fills = f" with each of {f.numbers['fills']:.0f} fills" if f.numbers["fills"] > 1 else ""
    return f"{who} significantly better than {_controls(f.objects, plain)}{fills}."


def _unchanged(f: Finding, metrics: Sequence[str], _: Mapping[str, str]) -> str:
    what = {
        "parameters": "the model's parameters are randomised",
        "labels": "the model is trained on shuffled labels",
        "class": "another class is explained",
    }.get(f.reason, "the model changes")
    whose = f"The maps of {listed(f.subjects)}"
    return f"{whose} barely change when {what} ({listed(metrics)})."


def _eligible(f: Finding, _: Sequence[str], __: Mapping[str, str]) -> str:
    eligible, count = int(f.numbers["eligible"]), int(f.numbers["methods"])
    if not eligible:
        return "No method passes every check of methods." if count > 1 else "The method does not pass every check."
    who = listed(f.subjects) if eligible <= NAMED else f"{eligible} of {count} methods"
    return f"{who} {verb(eligible, 'passes', 'pass')} every check of methods."


def _not_valid(f: Finding, metrics: Sequence[str], _: Mapping[str, str]) -> str:
    return f"{listed(metrics, 9)} {verb(len(metrics), 'is', 'are')} left out: {reason(f.reason, len(metrics))}."


def _valid(f: Finding, _: Sequence[str], __: Mapping[str, str]) -> str:
    valid, count = int(f.numbers["valid"]), int(f.numbers["metrics"])
    who = f"The only metric ({listed(f.subjects)})" if valid == count == 1 else share_of(valid, count, "metric")
    bears, passes = verb(count, "bears", "bear"), verb(max(valid, 1), "passes", "pass")
    return f"{who} that {bears} on which map is right {passes} the validity checks."


def _ranks_otherwise(f: Finding, metrics: Sequence[str], _: Mapping[str, str]) -> str:
    return f"By {listed(metrics, 9)}, {listed(f.subjects)} {verb(len(f.subjects), 'ranks', 'rank')} first."


def _fill_decides(f: Finding, _: Sequence[str], __: Mapping[str, str]) -> str:
    pairs = "; ".join(f"{fill}: {leader}" for fill, leader in zip(f.subjects, f.objects, strict=True))
    whom = "" if f.reason == "eligible-methods" else ", though none is eligible"
    return f"Which method ranks first depends on the fill ({pairs}){whom}."


def _fill_does_not(f: Finding, _: Sequence[str], __: Mapping[str, str]) -> str:
    whom = "of the eligible methods" if f.reason == "eligible-methods" else "of all methods (none is eligible)"
    return f"{f.objects[0]} ranks first {whom} with each fill ({listed(f.subjects)})."


def _metric_controls(f: Finding, metrics: Sequence[str], plain: Mapping[str, str]) -> str:
    controls = _controls(f.objects, plain)
    if f.reason == "no-method":
        return f"By {listed(metrics)}, no method is significantly better than {controls}."
    many = len(f.subjects) > NAMED - 1
    who = f"{len(f.subjects)} of {f.numbers['methods']:.0f} methods" if many else listed(f.subjects)
    several = many or len(f.subjects) > 1
    one = "every control" if many or len(f.objects) > 1 else controls
    return f"By {listed(metrics)}, {who} {'do' if several else 'does'} not beat {one}."


def _families(f: Finding, _: Sequence[str], __: Mapping[str, str]) -> str:
    by: dict[str, list[str]] = {}
    for family, method in zip(f.subjects, f.objects, strict=True):
        by.setdefault(method, []).append(family)
    pairs = "; ".join(f"{method} by {listed(families)}" for method, families in by.items())
    return f"The families of metrics rank different methods first: {pairs}."


def _planted(f: Finding, _: Sequence[str], __: Mapping[str, str]) -> str:
    agreeing, count = int(f.numbers["agreeing"]), int(f.numbers["metrics"])
    opposed = f"; {listed(f.objects)} {verb(len(f.objects), 'contradicts', 'contradict')} it" if f.objects else ""
    needs, agrees = verb(count, "needs", "need"), verb(max(agreeing, 1), "agrees", "agree")
    return f"{share_of(agreeing, count, 'metric')} that {needs} no mask {agrees} with the planted truth{opposed}."


def _few_incorrect(f: Finding, _: Sequence[str], __: Mapping[str, str]) -> str:
    incorrect = int(f.numbers["incorrect"])
    return (
        f"Only {incorrect} of {plural(int(f.numbers['samples']), 'sample')} {verb(incorrect, 'is', 'are')} classified "
        "incorrectly: too few to compare how well methods explain errors."
    )


def _other_leader(f: Finding, _: Sequence[str], __: Mapping[str, str]) -> str:
    count = plural(int(f.numbers["incorrect"]), "incorrectly classified sample")
    return f"On the {count} {f.subjects[0]} has the best mean rank, not {f.objects[0]}."


def _more_samples(f: Finding, _: Sequence[str], __: Mapping[str, str]) -> str:
    needed, n = rounded(f.numbers["needed"]), int(f.numbers["samples"])
    return (
        f"About {needed:,} samples would separate {listed(f.subjects)} (at 80 % power, assuming the observed effect); "
        f"there are {n:,}."
    )


def _skipped(f: Finding, _: Sequence[str], __: Mapping[str, str]) -> str:
    count = plural(int(f.numbers["combinations"]), "combination")
    return f"{count} of method and metric could not be computed; the reasons are under Settings."


def _constant(f: Finding, _: Sequence[str], __: Mapping[str, str]) -> str:
    count, of = int(f.numbers["constant"]), int(f.numbers["maps"])
    return f"{f.subjects[0]} gives a constant map for {count:,} of {plural(of, 'sample')}."


_SENTENCES: dict[str, Callable[[Finding, Sequence[str], Mapping[str, str]], str]] = {
    "model-has-not-learnt": _model,
    "model-has-learnt": _model,
    "rows-are-pairs": _pairs,
    "no-control": lambda *_: "No control was run, so nothing shows that these maps beat a map that ignores the model.",
    "not-better-than-controls": _not_better,
    "better-than-controls": _better,
    "no-sanity-check": lambda *_: (
        "No sanity check was among the metrics, so nothing shows that the maps depend on what the model has learnt; "
        "add parameter-randomisation or random-logit."
    ),
    "maps-do-not-change": _unchanged,
    "eligible-methods": _eligible,
    "no-comparable-metric": lambda *_: (
        "No metric that bears on which map is right was computed for every method and control."
    ),
    "metric-not-valid": _not_valid,
    "valid-metrics": _valid,
    "metric-ranks-otherwise": _ranks_otherwise,
    "leader-depends-on-fill": _fill_decides,
    "leader-does-not-depend-on-fill": _fill_does_not,
    "top-with-every-fill": lambda f, *_: (
        f"{listed(f.subjects)} {verb(len(f.subjects), 'is', 'are')} in the top group with every fill."
    ),
    "metric-no-better-than-controls": _metric_controls,
    "families-disagree": _families,
    "agrees-with-planted-truth": _planted,
    "few-incorrect": _few_incorrect,
    "other-leader-on-incorrect": _other_leader,
    "more-samples-needed": _more_samples,
    "more-samples-will-not-separate": lambda f, *_: (
        f"No number of samples is expected to separate {listed(f.subjects)}: no effect is seen."
    ),
    "undefined-scores": lambda f, metrics, _: (
        f"Up to {percent(f.numbers['share'])} of the samples have no value of {listed(metrics)}; means leave them out."
    ),
    "skipped": _skipped,
    "constant-maps": _constant,
}
