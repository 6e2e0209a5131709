"""What a study shows, with the decision and the findings in words: what reports and terminals are made from."""

from __future__ import annotations

from functools import cached_property

from heatproof.records import Finding
from heatproof.results.record import Results
from heatproof.verdict import wording
from heatproof.verdict.basis import Basis
from heatproof.verdict.findings import findings
from heatproof.verdict.record import Verdict


class Judgement(Basis):
    """The basis of a verdict, with the verdict and the findings."""

    @property
    def level_text(self) -> str:
        """The confidence level, as "95 %"."""
        return f"{100 * self.results.level:g} %"

    @cached_property
    def findings(self) -> tuple[Finding, ...]:
        """What a reader should know besides the decision, most serious first."""
        return findings(self)

    @cached_property
    def statements(self) -> tuple[wording.Statement, ...]:
        """The findings in sentences."""
        return wording.statements(self.findings)

    @cached_property
    def verdict(self) -> Verdict:
        """What the evidence says."""
        text = wording.decision(self.decision, self.method_checks)
        return Verdict(self.decision, self.method_checks, text, self.findings)


def verdict(results: Results, *others: Results) -> Verdict:
    """The verdict of a study; ``others`` are the same study with other fills.

    Raises: InputError where the others have other methods, metrics or samples.
    """
    return Judgement(results, others).verdict
