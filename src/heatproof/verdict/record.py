"""The verdict as a record: what the evidence says, and what it rests on."""

from __future__ import annotations

from dataclasses import dataclass

from heatproof.records import Estimate, Finding
from heatproof.verdict.checks import MetricCheck
from heatproof.verdict.decision import Decision
from heatproof.verdict.eligibility import MethodCheck


@dataclass(frozen=True, repr=False)
class Verdict:
    """What the evidence says.

    Attributes:
        winner: the method to use, or None.
        group: the methods at the top that do not differ significantly; empty where none is eligible.
        support: share of resamples in which the leader stays first; NaN without one.
        margin: by how many mean ranks the leader is ahead of the next eligible method, or of the best control where it
            is the only one, with interval.
        agreement: Kendall's W between the valid metrics, on the methods; NaN below two metrics or methods.
        text: the verdict in a paragraph. findings: what a reader should know besides, most serious first.
        decision: what was decided, as data. metrics, methods: the checks. ranked: the metrics that rank the methods.
    """

    winner: str | None
    group: tuple[str, ...]
    support: float
    margin: Estimate | None
    agreement: float
    text: str
    findings: tuple[Finding, ...]
    decision: Decision
    metrics: tuple[MetricCheck, ...]
    methods: tuple[MethodCheck, ...]
    ranked: tuple[str, ...] = ()

    @property
    def eligible(self) -> tuple[str, ...]:
        """The eligible methods."""
        return tuple(check.method for check in self.methods if check.eligible)

    def __repr__(self) -> str:
        at_the_top = f"winner={self.winner!r}" if self.winner else f"group={self.group}"
        return f"Verdict({self.decision.kind}, {at_the_top}, support={self.support:.3f})"

    def _repr_html_(self) -> str:
        from html import escape

        rows = "".join(
            f"<tr><td>{escape(check.method)}</td><td>{'yes' if check.eligible else 'no'}</td>"
            f"<td>{escape(', '.join((*check.not_better_than, *check.failed)))}</td></tr>"
            for check in self.methods
        )
        head = "<tr><th>Method</th><th>Eligible</th><th>Not better than, or failed</th></tr>"
        return f"<div><p><b>{escape(self.text)}</b></p><table>{head}{rows}</table></div>"
