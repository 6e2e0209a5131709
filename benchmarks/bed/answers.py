"""The one place that reads a verdict: what is asked of a study, and its answer in plain types."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from heatproof import Results

JUDGES = ("window-correlation", "window-localisation")
KINDS = ("use", "interchangeable", "by question", "none", "cannot tell yet")


@dataclass(frozen=True)
class Answer:
    """A verdict in plain types.

    Attributes:
        kind: one of `KINDS`. trusted: what it says to use, for both questions if the kind is use or interchangeable.
        where, how_much: named for each question.
        eligible: all methods that may be named. everywhere: whether it says that the evidence is all over the input.
        numbers: by method what is known of it, of any kind; equal numbers mean that nothing changed. text: in words.
        compared: how many pairs of methods were compared, by question; different: how many intervals leave out 0.
    """

    kind: str
    trusted: tuple[str, ...]
    where: tuple[str, ...]
    how_much: tuple[str, ...]
    eligible: tuple[str, ...]
    everywhere: bool
    numbers: dict[str, Any]
    text: str
    compared: int = 0
    different: int = 0

    def named(self, question: str) -> tuple[str, ...]:
        """The methods named for "where" or "how_much": those of the sentence, if the question was asked."""
        named = self.where if question == "where" else self.how_much
        return tuple(name for name in self.trusted if name in named)


def answer(results: Results) -> Answer:
    """The answer of a study."""
    verdict: Any = results.verdict()
    return Answer(
        verdict.kind,
        tuple(verdict.trusted),
        tuple(verdict.where),
        tuple(verdict.how_much),
        tuple(one.method for one in verdict.methods if one.eligible is True),
        any("everywhere" in finding.kind for finding in verdict.findings),
        {one.method: repr(one) for one in verdict.methods},
        verdict.text,
        len(verdict.decision.comparisons),
        sum(pair.ahead.low > 0 or pair.ahead.high < 0 for pair in verdict.decision.comparisons),
    )
