"""The verdict, and the few sentences that a reader has to know before any table."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float

from heatproof import stats
from heatproof.records import Estimate
from heatproof.report.parts import Finding, Kind, listed, percent, plural, rounded, subject
from heatproof.results.ranking import TRUTH, Ranking, Standing
from heatproof.results.record import Results, Stratum
from heatproof.verdict.agreement import Calibration
from heatproof.verdict.decision import Verdict
from heatproof.verdict.fill_dependence import Dependence, dependence

PLAIN = {
    "random": "random noise",
    "edge": "an edge filter",
    "absolute-input": "the plain size of the input values",
    "centre": "a blob in the middle",
}
SEVERAL = 3  # methods that are named one by one
FEW, MANY = 10, 1_000_000  # samples; too few to compare, and more than anyone has


class Told:
    """A study with what several sections read off it, computed once."""

    def __init__(self, results: Results, others: Sequence[Results] = ()) -> None:
        self.results, self.others = results, tuple(others)

    @property
    def everyone(self) -> tuple[str, ...]:
        """Methods, then controls, each from the best to the worst where that is known."""
        rows = (*self.rows, *self.ranking.controls)
        return tuple(row.method for row in rows) if rows else (*self.results.methods, *self.results.controls)

    @cached_property
    def unbeaten(self) -> dict[str, tuple[str, ...]]:
        """For each method the controls it is not better than, with one baseline or another."""
        return {check.method: check.unbeaten for check in self.verdict.methods} if self.results.methods else {}

    @property
    def level(self) -> str:
        """The confidence of the intervals, as "95 %"."""
        return f"{100 * self.results.level:g} %"

    @cached_property
    def reasons(self) -> dict[str, str]:
        """Why a metric that was tried for every method does not count all the same."""
        return {check.metric: check.reason for check in self.results.checks if not check.counts}

    def ranks(self, stratum: Stratum = "all") -> Float[np.ndarray, "n m"]:
        """The rank of each method in each sample, by the metrics that rank."""
        voices = self.results.voices(stratum=stratum, controls=False, metrics=self.results.ranked)
        return stats.ranks(voices, better="lower")

    @property
    def ranking(self) -> Ranking:
        """That of the study, by the metrics that rank."""
        return self.results.ranking()

    @property
    def rows(self) -> tuple[Standing, ...]:
        """The methods from the best to the worst, by their mean rank within a place."""
        return self.ranking.rows

    @cached_property
    def estimates(self) -> dict[tuple[str, str], Estimate]:
        """The mean score of every cell."""
        return self.results.estimates()

    @cached_property
    def by_metric(self) -> dict[str, Ranking]:
        """The ranking by each metric that any method has a score of."""
        r = self.results
        return {m: r.ranking(m) for m in r.metrics if any((name, m) in r.scores for name in r.methods)}

    @cached_property
    def among_all(self) -> dict[str, Estimate]:
        """The mean rank of every method and control among all of them, by the metrics a control can lose."""
        r = self.results
        truth = tuple(m for m in r.ranked if r.family(m) in TRUTH)
        if not truth:
            return {}
        found = stats.rank_intervals(r.voices(metrics=truth), better="lower", confidence=r.level, seed=r.seed)
        return dict(zip((*r.methods, *r.controls), found, strict=True))

    @cached_property
    def verdict(self) -> Verdict:
        """What the evidence says."""
        return self.results.verdict(*self.others)

    @cached_property
    def dependence(self) -> Dependence:
        """Whether the fill decides who leads the methods that count."""
        return dependence((self.results, *self.others), self.verdict.counting)

    @cached_property
    def calibration(self) -> Calibration:
        """Which faithfulness metrics agree with the planted masks."""
        return self.results.calibration()

    @property
    def calibrated(self) -> Finding:
        """What the calibration says; only where it has rows."""
        rows = self.calibration.rows
        kind: Kind = "good" if all(r.agrees for r in rows) else "note" if any(r.agrees for r in rows) else "bad"
        return Finding(kind, self.calibration.text)

    @cached_property
    def needed(self) -> dict[tuple[str, str], float]:
        """How many samples would separate each two methods, the better first, by the metrics that rank."""
        found = self.results.needed()
        return {
            (a.method, b.method): found.get((a.method, b.method), found.get((b.method, a.method), math.nan))
            for a, b in itertools.combinations(self.rows, 2)
        }

    @cached_property
    def families(self) -> dict[str, tuple[str, ...]]:
        """The metrics that count, by family."""
        found: dict[str, tuple[str, ...]] = {}
        for metric in self.results.counting:
            found[self.results.family(metric)] = (*found.get(self.results.family(metric), ()), metric)
        return found


@dataclass(frozen=True)
class Banner:
    """What stands on top of the page: the verdict, how sure it is, and what fails."""

    headline: str
    kind: Kind
    sure: str = ""
    fails: tuple[Finding, ...] = ()


def banner(told: Told) -> Banner:
    """The verdict of a study, with the controls in plain words."""
    if not told.results.methods:
        return Banner("No method was judged, only controls.", "note")
    found = told.verdict
    groups: dict[tuple[str, ...], list[str]] = {}
    for m in found.methods:
        groups.setdefault(m.unbeaten, []).append(m.method)
    fails = [
        Finding("bad", f"{listed(methods)} {'is' if len(methods) == 1 else 'are'} no better than {controls(names)}.")
        for names, methods in groups.items()
        if names
    ]
    known = tuple(f"{m.method} is no better than" for m in found.methods if m.unbeaten)
    fails += _together([said for said in found.findings if not (known and said.startswith(known))])
    kind: Kind = "good" if found.winner else "note" if found.group else "bad"
    return Banner(found.text, kind, _basis(told), tuple(fails))


def _basis(told: Told) -> str:
    """On how much the verdict rests, and how far the metrics agree."""
    results, agreement = told.results, told.verdict.agreement
    passed, ranked = len(results.passed), len(told.verdict.ranked)
    rests = f"It rests on {plural(len(results), 'sample')} and"
    order = f"order the methods {alike(agreement)} (Kendall's W {agreement:.2f})." if np.isfinite(agreement) else ""
    if 0 < ranked < passed:
        kinds = listed([*dict.fromkeys(results.family(m) for m in results.ranked)])
        more = f" The {passed} metrics that passed their checks {order}" if order else ""
        return f"{rests} the {plural(ranked, 'metric')} of {kinds}.{more}"
    return f"{rests} {plural(passed, 'metric')}" + (f", which {order}" if order else ".")


def _together(sentences: Sequence[str]) -> list[Finding]:
    """The sentences, those that say the same of several methods or metrics as one."""
    groups: dict[str, list[str]] = {}
    for said in sentences:
        name, _, rest = said.partition(" ")
        shared = re.match(r"is left out|hardly changes|disagrees", rest)
        groups.setdefault(rest if shared else said, []).append(name if shared else "")
    found = []
    for rest, names in groups.items():
        kind: Kind = "bad" if "hardly change" in rest else "note"
        said = rest if names == [""] else f"{listed(names, 9)} {rest if len(names) == 1 else _many(rest)}"
        found.append(Finding(kind, said))
    return found


def _many(rest: str) -> str:
    """What is said of one metric or method, said of several."""
    pairs = (("is left", "are left"), ("hardly changes", "hardly change"), ("disagrees: it puts", "disagree: they put"),
             (": it cannot", ": they cannot"), (": it is", ": they are"), ("moves it", "moves them"))  # fmt: skip
    for one, several in pairs:
        rest = rest.replace(one, several)
    return rest


def alike(w: float) -> str:
    """Kendall's W in words."""
    return "much alike" if w >= 0.7 else "somewhat alike" if w >= 0.4 else "differently"


def controls(names: Sequence[str]) -> str:
    """Controls in plain words."""
    return listed([f"{PLAIN[name]} ({name})" if name in PLAIN else name for name in names])


def findings(told: Told) -> tuple[Finding, ...]:
    """What the study found, bad news first."""
    if not told.results.methods or not told.results.metrics:
        return ()
    parts = (_controls, _by_metric, _families, _planted, _strata, _ties, _holes)
    found = [finding for part in parts for finding in part(told)]
    order = ("bad", "note", "good")
    return tuple(sorted(found, key=lambda item: order.index(item.kind)))


def _controls(told: Told) -> list[Finding]:
    """Whether all methods beat all controls; those that do not are part of the verdict."""
    known, lost = told.results.controls, told.unbeaten
    if not known:
        return [_note("No control was run, so nothing shows that these maps beat a map that ignores the model.")]
    if not told.among_all or any(lost.values()):
        return []
    who = "The method is" if len(lost) == 1 else f"All {len(lost)} methods are"
    always = ", whatever removed positions become" if told.others else ""
    return [Finding("good", f"{who} better than {controls(known)} over all metrics together{always}.")]


def _by_metric(told: Told, most: int = 4) -> list[Finding]:
    """Metrics by which some method does not beat every control; those that say the same together."""
    groups: dict[tuple[str, Kind], list[str]] = {}
    for metric, ranking in told.by_metric.items():
        losers = [method for method, names in ranking.unbeaten.items() if names]
        if not losers or metric in told.reasons or told.results.family(metric) not in TRUTH:
            continue
        names = list(dict.fromkeys(c for method in losers for c in ranking.unbeaten[method]))
        none = len(losers) == len(ranking.rows) > 1
        if len(losers) > SEVERAL and not none:
            said = f"{len(losers)} of {len(ranking.rows)} methods do not beat every control."
        else:
            who = "no method beats" if none else f"{listed(losers)} {'does' if len(losers) == 1 else 'do'} not beat"
            every = "both " if len(names) == 2 else "all of "
            alone = "" if len(names) == 1 else every if none else "one or more of "
            said = f"{who} {alone}{controls(names)}."
        groups.setdefault((said, "bad" if none else "note"), []).append(metric)
    found = [Finding(kind, f"By {listed(metrics)}, {said}") for (said, kind), metrics in groups.items()]
    found.sort(key=lambda item: item.kind)
    rest = len(found) - most
    return found if rest <= 0 else [*found[:most], _note("So it is by other metrics; see Scores.")]


def _planted(told: Told) -> list[Finding]:
    """Whether the metrics agree with the planted truth, where there is one."""
    rows = told.calibration.rows
    if not rows:
        return []
    good, against = sum(row.agrees for row in rows), [row.metric for row in rows if row.methods.high < 0]
    verb = "need no mask agree" if good else "needs no mask agrees"
    said = f"{subject(good, len(rows), 'metric')} that {verb} with the planted truth"
    said += f"; {listed(against)} {'contradicts' if len(against) == 1 else 'contradict'} it" if against else ""
    return [Finding(told.calibrated.kind, f"{said}.")]


def _families(told: Told) -> list[Finding]:
    """Whether the families of metrics put different methods first."""
    methods, first = told.results.methods, dict[str, str]()
    if len(methods) < 2:
        return []
    for family, metrics in told.families.items():
        means = _means(told.results.voices(controls=False, metrics=metrics))
        if np.isfinite(means).any():
            first[family] = methods[int(np.nanargmin(means))]
    if len(set(first.values())) < 2:
        return []
    parts = listed([f"{family} puts {method} first" for family, method in first.items()])
    return [_note(f"The kinds of metric disagree: {parts}.")]


def _strata(told: Told) -> list[Finding]:
    """Whether another method leads where the classifier errs."""
    results = told.results
    wrong = int((~results.right).sum())
    if not wrong or len(results.methods) < 2 or not told.rows:
        return []
    if wrong < FEW:
        few = f"Only {plural(wrong, 'sample')} of {len(results):,} {'is' if wrong == 1 else 'are'} misclassified"
        return [_note(f"{few}: too few to say whether the methods explain errors as well as successes.")]
    means, first = _means(told.ranks("wrong")), told.rows[0].method
    if not np.isfinite(means).any() or results.methods[int(np.nanargmin(means))] == first:
        return []
    leader = results.methods[int(np.nanargmin(means))]
    return [_note(f"On the {wrong:,} misclassified samples {leader} has the best mean rank, not {first}.")]


def _ties(told: Told) -> list[Finding]:
    """How many samples would separate the first two, where they cannot be told apart."""
    rows = told.rows
    if len(rows) < 2 or not set(rows[0].letters) & set(rows[1].letters):
        return []
    first, second = rows[0].method, rows[1].method
    needed, n = told.needed[first, second], told.ranking.samples
    if not np.isfinite(needed) or needed > MANY:
        return [_note(f"Nothing suggests that more samples would tell {first} and {second} apart.")]
    said = f"To tell {first} and {second} apart, about {rounded(needed):,} samples are needed in all; these are {n:,}."
    return [_note(said)] * (needed > n)


def _holes(told: Told) -> list[Finding]:
    """Scores that are missing."""
    results, missing = told.results, dict[str, list[str]]()
    for metric in results.metrics:
        cells = [told.estimates[name, metric] for name in results.methods if (name, metric) in told.estimates]
        share = max((e.undefined / max(1, e.n + e.undefined) for e in cells), default=0.0)
        if share > 0.05:
            missing.setdefault(percent(share), []).append(metric)
    found = [
        _note(f"No value for up to {share} of the samples: {listed(metrics)}; means leave these samples out.")
        for share, metrics in missing.items()
    ]
    if results.skips:
        count = plural(len(results.skips), "combination")
        found.append(_note(f"{count} of method and metric could not be computed; the reasons are under Settings."))
    return found


def _note(said: str) -> Finding:
    return Finding("note", said)


def _means(voices: np.ndarray) -> np.ndarray:
    """The mean of each column over the rows that are defined."""
    rows = voices[np.isfinite(voices).all(axis=1)]
    return np.asarray(rows.mean(axis=0)) if len(rows) else np.full(voices.shape[1], np.nan)
