"""Decisions and findings in words: the only place that makes sentences of them.

A sentence is made from a record and never read again; findings that differ in their metric alone share one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from heatproof.phrases import listed, percent, plural, rounded, share_of, verb
from heatproof.records import Estimate, Finding, Severity
from heatproof.verdict.decision import FEWEST, Decision
from heatproof.verdict.eligibility import CHANCE, MethodCheck
from heatproof.verdict.questions import Question

NAMED = 4  # names that a sentence lists one by one
ASKED: Mapping[Question, str] = {
    "where": "where the model looks", "how much": "how much each part of the input matters to it",
}  # fmt: skip


SPREAD_OUT = "The evidence is spread over the input, so that no map can point to one place."


@dataclass(frozen=True)
class Statement:
    """A sentence and how serious it is; ``findings`` are those it is made of."""

    severity: Severity
    text: str
    findings: tuple[Finding, ...] = ()


def sentence(*findings: Finding) -> str:
    """One sentence of findings that differ in their metric alone."""
    first = findings[0]
    return _SENTENCES[first.kind](first, tuple(f.metric for f in findings if f.metric))


def statements(findings: Sequence[Finding]) -> tuple[Statement, ...]:
    """The findings in sentences, in their order; those that differ in their metric alone as one."""
    groups: dict[tuple[object, ...], list[Finding]] = {}
    for f in findings:
        key = (f.kind, f.severity, f.subjects, f.reason, f.objects, tuple(sorted(f.numbers.items())))
        groups.setdefault(key, []).append(f)
    return tuple(Statement(group[0].severity, sentence(*group), tuple(group)) for group in groups.values())


def concordance(w: float) -> str:
    """Kendall's W in words."""
    return "very similarly" if w >= 0.7 else "somewhat similarly" if w >= 0.4 else "differently"


def interval(estimate: Estimate, level: float = 0.95, digits: int = 2) -> str:
    """An estimate with its interval, as in running text."""
    if not (math.isfinite(estimate.low) and math.isfinite(estimate.high)):
        return f"{estimate.mean:.{digits}f}"
    ends = f"{estimate.low:.{digits}f} to {estimate.high:.{digits}f}"
    return f"{estimate.mean:.{digits}f} ({100 * level:g} % CI {ends})"


def control(name: str) -> str:
    """One of a method's own controls, as words in a sentence."""
    if name.startswith("moved"):
        return f"its own maps {name} by an eighth of the input" if " along " not in name else f"its own maps {name}"
    return {
        CHANCE: "maps without order",
        "another sample": "its own maps of other samples",
        "another class": "its own maps of another class",
        "random weights": "its own maps of the model with random weights",
    }.get(name, name)


def questions(names: Sequence[Question]) -> str:
    """For which questions a method is named, in a cell of a table."""
    return "both" if len(names) > 1 else names[0] if names else "–"


# Decisions


def decision(d: Decision, checks: Sequence[MethodCheck]) -> str:
    """The verdict as a paragraph."""
    by_name = {check.method: check for check in checks}
    spread = d.trusted and d.asked == ("how much",) and any(check.where.n for check in checks)
    return (f"{SPREAD_OUT} " if spread else "") + _DECISIONS[d.kind](d, by_name)


def _scores(check: MethodCheck, level: float) -> str:
    """The scores of a method for both questions."""
    parts = [(ASKED["where"], check.where), (ASKED["how much"], check.how_much)]
    return " and ".join(f"{interval(score, level)} for {asked}" for asked, score in parts if score.n)


def _use(d: Decision, checks: Mapping[str, MethodCheck]) -> str:
    (name,) = d.trusted
    alone = sum(check.eligible for check in checks.values()) == 1
    why = (
        "It is the only method shown to beat all its own controls."
        if alone
        else f"{_asked(d)} no other eligible method is better by {d.delta:g} or more.{_undecided(d)}"
    )
    return (
        f"Use {name} for this model and data. {why} It scores {_scores(checks[name], d.level)} (0 is chance, 1 a "
        f"perfect map; {plural(d.samples, 'sample')})."
    )


def _interchangeable(d: Decision, _: Mapping[str, MethodCheck]) -> str:
    return (
        f"{listed(d.trusted)} are interchangeable here: use {'either' if len(d.trusted) == 2 else 'any'} of them. "
        f"{_asked(d)} none of them is worse than the best by {d.delta:g} or more ({plural(d.samples, 'sample')})."
        f"{_undecided(d)}"
    )


def _asked(d: Decision) -> str:
    """The questions that were asked."""
    both = f"At both questions, {ASKED['where']} and {ASKED['how much']},"
    return both if len(d.asked) != 1 else f"To see {ASKED[d.asked[0]]},"


def _undecided(d: Decision) -> str:
    """The methods that may be as good."""
    if not d.undecided:
        return ""
    return f" Whether {listed(d.undecided)} {verb(len(d.undecided), 'is', 'are')} as good is open."


def _by_question(d: Decision, _: Mapping[str, MethodCheck]) -> str:
    parts = []
    for question, names in (("where", d.where), ("how much", d.how_much)):
        words = ASKED["where"] if question == "where" else ASKED["how much"]
        parts.append(f"To see {words}, use {listed(names, last='or')}." if names else _open(d, words))
    return f"{' '.join(parts)} No method is shown to be within {d.delta:g} of the best at both questions."


def _open(d: Decision, words: str) -> str:
    """A question that the samples do not settle."""
    return f"Which method is best for {words} is open{_more(d)}."


def _more(d: Decision) -> str:
    """How many more samples would do."""
    if not math.isfinite(d.needed):
        return ""
    more = max(1, rounded(max(1.0, d.needed - d.samples)))
    return f"; about {more:,} more samples would do, if they are like these {d.samples:,}"


def _none(d: Decision, checks: Mapping[str, MethodCheck]) -> str:
    if d.reason == "no-methods":
        return "No method is named: only reference maps were studied."
    if d.reason == "model-has-not-learnt":
        return "No method is named: the model cannot be shown to have learnt anything, so there is nothing to explain."
    controls = [control(name) for name in dict.fromkeys(name for check in checks.values() for name in check.barred_by)]
    who = "the method does not beat" if len(checks) == 1 else f"none of the {len(checks)} methods beats"
    what = controls[0] if len(controls) == 1 else f"all its own controls ({listed(controls, 3)})"
    return f"No method can be trusted for this model and data: {who} {what}."


def _cannot_tell(d: Decision, checks: Mapping[str, MethodCheck]) -> str:
    if d.reason == "no-evidence":
        return (
            "Cannot tell: the study holds no evidence that maps could be compared with. It takes the metrics "
            "window-localisation and window-correlation, and samples that are predicted otherwise."
        )
    if d.reason == "no-donors":
        return (
            f"Cannot tell: all {plural(d.samples, 'sample')} are predicted alike, so that none can be compared with "
            "one that is predicted otherwise. Add samples of which the model predicts another class."
        )
    if d.reason == "no-own-controls":
        return (
            "Cannot tell: the methods' own controls were not computed, so nothing shows that their maps are better "
            "than wrong ones; leave self_checks on."
        )
    if d.reason == "one-group":
        return (
            f"Cannot tell: all {plural(d.samples, 'sample')} come from one group (a patient or slide), so that nothing "
            "shows how far scores differ between groups. Add samples of others."
        )
    if d.reason == "too-few-samples":
        have = max(check.overall.n for check in checks.values())
        return f"Cannot tell yet: no method is named with fewer than {FEWEST} samples; {have:,} have all scores."
    if d.reason == "not-yet-shown":
        open_ = [name for name, check in checks.items() if check.standing == "not yet shown"]
        return (
            f"Cannot tell yet: no method is shown to beat its own controls on these {plural(d.samples, 'sample')}; "
            f"{listed(open_)} may{_more(d)}."
        )
    eligible = [name for name, check in checks.items() if check.eligible]
    return (
        f"Cannot tell yet: {listed(eligible)} beat their own controls, but which of them is best, to within "
        f"{d.delta:g}, is open{_more(d)}."
    )


_DECISIONS: dict[str, Callable[[Decision, Mapping[str, MethodCheck]], str]] = {
    "use": _use,
    "interchangeable": _interchangeable,
    "by question": _by_question,
    "none": _none,
    "cannot tell yet": _cannot_tell,
}


# Findings


def _model(f: Finding, _: Sequence[str]) -> str:
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


def _ranks_otherwise(f: Finding, metrics: Sequence[str]) -> str:
    return f"By {listed(metrics, 9)}, {listed(f.subjects)} {verb(len(f.subjects), 'ranks', 'rank')} first."


def _families(f: Finding, _: Sequence[str]) -> str:
    by: dict[str, list[str]] = {}
    for family, method in zip(f.subjects, f.objects, strict=True):
        by.setdefault(method, []).append(family)
    pairs = "; ".join(f"{method} by {listed(families)}" for method, families in by.items())
    return f"The families of metrics rank different methods first: {pairs}."


def _planted(f: Finding, _: Sequence[str]) -> str:
    agreeing, count = int(f.numbers["agreeing"]), int(f.numbers["metrics"])
    opposed = f"; {listed(f.objects)} {verb(len(f.objects), 'contradicts', 'contradict')} it" if f.objects else ""
    needs, agrees = verb(count, "needs", "need"), verb(max(agreeing, 1), "agrees", "agree")
    return f"{share_of(agreeing, count, 'metric')} that {needs} no mask {agrees} with the planted truth{opposed}."


def _few_incorrect(f: Finding, _: Sequence[str]) -> str:
    incorrect = int(f.numbers["incorrect"])
    return (
        f"Only {incorrect} of {plural(int(f.numbers['samples']), 'sample')} {verb(incorrect, 'is', 'are')} classified "
        "incorrectly: too few to compare how well methods explain errors."
    )


def _skipped(f: Finding, _: Sequence[str]) -> str:
    count = plural(int(f.numbers["combinations"]), "combination")
    return f"{count} of method and metric could not be computed; the reasons are under Settings."


def _barred(f: Finding, _: Sequence[str]) -> str:
    beat = f"{listed(f.subjects)} {verb(len(f.subjects), 'does', 'do')} not beat {_theirs(f)}"
    why = {
        "another class": "the map hardly depends on the class that is explained",
        "random weights": "the map hardly depends on what the model has learnt",
        "another sample": "the map hardly depends on the sample",
    }.get(f.reason, "the map is no better than a wrong one")
    return f"{beat}: {why}."


def _theirs(f: Finding) -> str:
    words = control(f.reason)
    return words if len(f.subjects) == 1 else words.replace("its own", "their own")


def _not_shown(f: Finding, _: Sequence[str]) -> str:
    is_ = verb(len(f.subjects), "is", "are")
    needed = f.numbers.get("needed", math.inf)
    more = f" About {rounded(needed):,} samples would decide." if math.isfinite(needed) else ""
    return f"{listed(f.subjects)} {is_} not yet shown to beat {_theirs(f)}.{more}"


def _unchanged(f: Finding, metrics: Sequence[str]) -> str:
    what = {
        "parameters": "the model's parameters are randomised",
        "labels": "the model is trained on shuffled labels",
        "class": "another class is explained",
    }.get(f.reason, "the model changes")
    return f"The maps of {listed(f.subjects)} barely change when {what} ({listed(metrics)})."


def _eligible(f: Finding, _: Sequence[str]) -> str:
    eligible, count = int(f.numbers["eligible"]), int(f.numbers["methods"])
    if not eligible:
        return (
            "No method beats all its own controls." if count > 1 else "The method does not beat all its own controls."
        )
    who = listed(f.subjects) if eligible <= NAMED else f"{eligible} of {count} methods"
    return f"{who} {verb(eligible, 'beats all its', 'beat all their')} own controls."


def _pairs(f: Finding, _: Sequence[str]) -> str:
    pairs, samples, left_out = (int(f.numbers[key]) for key in ("pairs", "samples", "left_out"))
    without = f" {plural(left_out, 'sample')} without one {verb(left_out, 'is', 'are')} left out." if left_out else ""
    return (
        f"The rows of this study are {pairs:,} positive labels of {plural(samples, 'sample')}.{without} Rows of one "
        "sample are taken as one group."
    )


def _groups(f: Finding, _: Sequence[str]) -> str:
    return (
        f"The {plural(int(f.numbers['samples']), 'sample')} come from {plural(int(f.numbers['groups']), 'group')} "
        "(patients or slides); intervals and tests take the groups, not the samples, as independent."
    )


def _everywhere(f: Finding, _: Sequence[str]) -> str:
    return (
        "The evidence is spread over the input: where it is densest, it is hardly denser than elsewhere "
        f"(concentration {f.numbers['concentration']:.2f}; 0 is even, and below {f.numbers['least']:g} is no more than "
        "chance makes). The verdict does not ask where."
    )


def _class_few(f: Finding, _: Sequence[str]) -> str:
    return (
        f"{listed(f.subjects, 6)} {verb(len(f.subjects), 'has', 'have')} fewer than {f.numbers['least']:.0f} samples "
        f"and {verb(len(f.subjects), 'is', 'are')} not judged by {verb(len(f.subjects), 'itself', 'themselves')}."
    )


def _class_unreliable(f: Finding, _: Sequence[str]) -> str:
    return (
        f"For {listed(f.subjects, 6)} the evidence is not reliable: what windows are worth depends on the sample that "
        "replaces the rest."
    )


def _other_leader(f: Finding, _: Sequence[str]) -> str:
    count = plural(int(f.numbers["incorrect"]), "incorrectly classified sample")
    return f"On the {count} {f.subjects[0]} has the best overall score, not {f.objects[0]}."


_SENTENCES: dict[str, Callable[[Finding, Sequence[str]], str]] = {
    "model-has-not-learnt": _model,
    "model-has-learnt": _model,
    "rows-are-pairs": _pairs,
    "samples-are-grouped": _groups,
    "barred": _barred,
    "not-yet-shown": _not_shown,
    "maps-do-not-change": _unchanged,
    "eligible-methods": _eligible,
    "no-question": lambda *_: (
        "No metric that answers a question of the verdict was computed; add window-localisation and window-correlation."
    ),
    "no-own-controls": lambda *_: "The methods' own controls were not computed, so none is shown to be eligible.",
    "evidence-everywhere": _everywhere,
    "class-has-few-samples": _class_few,
    "class-evidence-unreliable": _class_unreliable,
    "metric-ranks-otherwise": _ranks_otherwise,
    "families-disagree": _families,
    "agrees-with-planted-truth": _planted,
    "few-incorrect": _few_incorrect,
    "other-leader-on-incorrect": _other_leader,
    "undefined-scores": lambda f, metrics: (
        f"Up to {percent(f.numbers['share'])} of the samples have no value of {listed(metrics)}; means leave them out."
    ),
    "skipped": _skipped,
    "constant-maps": lambda f, _: (
        f"{f.subjects[0]} gives a constant map for {f.numbers['constant']:,.0f} of "
        f"{plural(int(f.numbers['maps']), 'sample')}."
    ),
}
