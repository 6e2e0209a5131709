"""The verdict as a record: what the evidence says, and what it rests on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from heatproof.records import Finding
from heatproof.verdict.decision import Decision, Kind
from heatproof.verdict.eligibility import MethodCheck
from heatproof.verdict.questions import Question

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, repr=False)
class Verdict:
    """What the evidence says.

    Attributes:
        decision: what was decided, as data. methods: of each method whether it is eligible, by which controls, with
            numbers. text: the verdict in a paragraph. findings: what a reader should know besides, most serious first.
    """

    decision: Decision
    methods: tuple[MethodCheck, ...]
    text: str
    findings: tuple[Finding, ...]

    @property
    def kind(self) -> Kind:
        """The answer: use, interchangeable, by question, none, or cannot tell yet."""
        return self.decision.kind

    @property
    def trusted(self) -> tuple[str, ...]:
        """The methods named, at least one of the questions being theirs; empty where none is."""
        return self.decision.trusted

    @property
    def where(self) -> tuple[str, ...]:
        """The methods named for where the model looks."""
        return self.decision.where

    @property
    def how_much(self) -> tuple[str, ...]:
        """The methods named for how much each part matters."""
        return self.decision.how_much

    @property
    def eligible(self) -> tuple[str, ...]:
        """The methods that beat all their own controls."""
        return tuple(check.method for check in self.methods if check.eligible)

    def named_for(self, method: str) -> tuple[Question, ...]:
        """The questions for which a method is named."""
        names: dict[Question, tuple[str, ...]] = {"where": self.where, "how much": self.how_much}
        return tuple(question for question, part in names.items() if method in part)

    @property
    def by_score(self) -> tuple[MethodCheck, ...]:
        """The methods by their overall scores from high to low, those without one last."""
        return tuple(sorted(self.methods, key=lambda check: -check.overall.mean if check.overall.n else math.inf))

    @property
    def samples_needed(self) -> int | None:
        """About how many samples in all would settle what is open; None where nothing is, or no number would."""
        needed = self.decision.needed
        return int(needed) if math.isfinite(needed) else None

    def __repr__(self) -> str:
        names = ", ".join(self.trusted) or "no method"
        return f"Verdict({self.kind}: {names}; {self.decision.samples} samples)"

    def __str__(self) -> str:
        return self.text

    def to_frame(self) -> pd.DataFrame:
        """A row a method: its standing, its scores with intervals, whether it is named, and by what it is barred."""
        import pandas as pd

        rows = []
        for check in self.methods:
            row: dict[str, object] = {"method": check.method, "standing": check.standing}
            for name, score in (("where", check.where), ("how much", check.how_much), ("overall", check.overall)):
                row |= {name: score.mean, f"{name} low": score.low, f"{name} high": score.high}
            row |= {
                "named where": check.method in self.where,
                "named how much": check.method in self.how_much,
                "trusted": check.method in self.trusted,
                "barred by": ", ".join(check.barred_by),
                "open": ", ".join(check.open),
            }
            rows.append(row)
        return pd.DataFrame(rows)

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{escape(check.method)}</td><td>{check.standing}</td><td>{check.where.mean:.2f}</td>"
            f"<td>{check.how_much.mean:.2f}</td><td>{escape(', '.join((*check.barred_by, *check.open)))}</td></tr>"
            for check in self.methods
        )
        head = "<tr><th>Method</th><th>Standing</th><th>Where</th><th>How much</th><th>Controls not beaten</th></tr>"
        return f"<div><p><b>{escape(self.text)}</b></p><table>{head}{rows}</table></div>"
