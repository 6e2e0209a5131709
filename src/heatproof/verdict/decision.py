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

checks      (0), (a) and (b): what the model, the metrics and the methods must pass
results     (c): which metrics rank, and the ranks
leading     (d) and (e): who leads, and how surely
wording     the paragraph and the findings
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from heatproof.errors import InputError
from heatproof.records import Estimate
from heatproof.results.record import Results
from heatproof.verdict import wording
from heatproof.verdict.checks import LEAST, MethodCheck, MetricCheck, check_methods, ignorance
from heatproof.verdict.lead import Lead, lead


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

    @property
    def counting(self) -> tuple[str, ...]:
        """The methods that count."""
        return tuple(check.method for check in self.methods if check.counts)


def verdict(results: Results, *others: Results) -> Verdict:
    """The verdict of a study; ``others`` are the same study with other fills, which are then resampled too.

    Raises: InputError where the others have other methods, metrics or samples.
    """
    studies = (results, *others)
    for other in others:
        if (other.methods, other.metrics, len(other)) != (results.methods, results.metrics, len(results)):
            raise InputError("verdict: the studies differ in methods, metrics or samples; vary the fill alone")
    methods = _everywhere([check_methods(study, results.passed) for study in studies])
    counting = [check.method for check in methods if check.counts]
    unknowing = ignorance(results)
    agreement = results.concordance(results.passed)
    if unknowing or not counting:
        text = wording.refusal(results, methods, unknowing)
        found = wording.findings(studies, methods, None, ())
        return Verdict(None, (), float("nan"), None, agreement, text, found, results.checks, methods)
    ahead = lead(studies, counting)
    winner = ahead.leader if _named(results, ahead, methods) else None
    group = (winner,) if winner else ahead.group
    text = wording.verdict(results, ahead, winner, methods)
    found = wording.findings(studies, methods, ahead, group)
    return Verdict(
        winner, group if ahead.samples >= LEAST else (), ahead.confidence, ahead.margin, agreement,
        text, found, results.checks, methods, results.ranked,
    )  # fmt: skip


def _named(results: Results, ahead: Lead, methods: Sequence[MethodCheck]) -> bool:
    """Whether the leader is named: beyond doubt and, where it counts alone, with a sanity check that it passed."""
    if ahead.samples < LEAST or not ahead.sure(results.level):
        return False
    return len(ahead.order) > 1 or any(check.passed for check in methods if check.method == ahead.leader)


def _everywhere(found: Sequence[tuple[MethodCheck, ...]]) -> tuple[MethodCheck, ...]:
    """Each method's checks under every baseline: it counts if it does under all of them."""
    merged = []
    for checks in zip(*found, strict=True):
        unbeaten = tuple(dict.fromkeys(name for check in checks for name in check.unbeaten))
        unmoved = tuple(dict.fromkeys(name for check in checks for name in check.unmoved))
        passed = tuple(name for name in checks[0].passed if name not in unmoved)
        merged.append(MethodCheck(checks[0].method, not unbeaten and not unmoved, unbeaten, unmoved, passed))
    return tuple(merged)
