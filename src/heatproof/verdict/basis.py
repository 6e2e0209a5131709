"""What a verdict rests on: a study (with each of its fills) and all that is read off it, computed once."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from heatproof import stats
from heatproof.errors import InputError
from heatproof.metrics.families import families
from heatproof.records import Estimate, Finding
from heatproof.results.ranking import Ranking, Standing
from heatproof.results.record import Cell, Results, Stratum
from heatproof.verdict import evidence
from heatproof.verdict.agreement import Calibration, calibrate
from heatproof.verdict.checks import bears_on_truth, check_model
from heatproof.verdict.decision import Decision, decide
from heatproof.verdict.eligibility import MethodCheck, check_methods
from heatproof.verdict.questions import QUESTIONS, Question, metrics_of, overall

DELTA = 0.05  # the smallest difference that matters, where the study does not say


class Basis:
    """A study, and the same study with other fills.

    Attributes:
        results: the study that everything is read from. others: the same with other fills.

    Raises: InputError where the others have other methods, metrics or samples.
    """

    def __init__(self, results: Results, others: Sequence[Results] = ()) -> None:
        for other in others:
            if (other.methods, other.metrics, len(other)) != (results.methods, results.metrics, len(results)):
                raise InputError(
                    "the studies differ in methods, metrics or samples; give studies that differ in their fill alone"
                )
        self.results, self.others = results, tuple(others)

    @property
    def studies(self) -> tuple[Results, ...]:
        """The study with each of its fills."""
        return (self.results, *self.others)

    @property
    def delta(self) -> float:
        """The smallest difference that matters."""
        return float(self.results.about.get("smallest_difference", DELTA))

    # Metrics

    @cached_property
    def questions(self) -> dict[Question, tuple[str, ...]]:
        """The metrics that answer each question; a question without one is left out."""
        metrics = {question: metrics_of(self.results, question) for question in QUESTIONS}
        return {question: names for question, names in metrics.items() if names}

    @cached_property
    def comparable(self) -> tuple[str, ...]:
        """The metrics that bear on which map is right and were computed for every method and control."""
        r = self.results
        return tuple(
            m
            for m in r.metrics
            if families[r.family(m)].bears_on_truth and all((name, m) in r.scores for name in r.everyone)
        )

    @cached_property
    def families(self) -> dict[str, tuple[str, ...]]:
        """The comparable metrics by family."""
        families: dict[str, tuple[str, ...]] = {}
        for metric in self.comparable:
            family = self.results.family(metric)
            families[family] = (*families.get(family, ()), metric)
        return families

    # Rankings

    def overall(self, *, controls: bool = False) -> Float[ndarray, "n m"]:
        """Each sample's overall score of each method (then control), the mean of both questions; NaN without."""
        names = self.results.everyone if controls else self.results.methods
        table = np.full((len(self.results), len(names)), np.nan)
        for column, name in enumerate(names):
            values = overall(self.results, name)
            if values is not None:
                table[:, column] = values
        return table

    def ranking(self, stratum: Stratum = "all") -> Ranking:
        """The methods by their overall score in the verdict's questions; empty without methods.

        Where the study answers no question, by their mean ranks over the families of comparable metrics.
        """
        return self._ranking if stratum == "all" else self._ranked(stratum)

    @cached_property
    def _ranking(self) -> Ranking:
        return self._ranked("all")

    def _ranked(self, stratum: Stratum) -> Ranking:
        rows = self.results.rows(stratum)
        if not self.questions:
            own, everyone = (
                self.results.family_ranks(metrics, stratum=stratum, controls=controls)
                for metrics, controls in ((self.comparable, False), (self.testable, True))
            )
            return self.results.ranking_of(own, everyone, None, "lower", stratum)
        return self.results.ranking_of(self.overall()[rows], self.overall(controls=True)[rows], None, "higher", stratum)

    @property
    def rows(self) -> tuple[Standing, ...]:
        """The methods from the best to the worst by their overall score, or mean rank."""
        if not self.questions:
            return self.ranking().rows
        return tuple(sorted(self.ranking().rows, key=lambda row: (not row.score.n, -np.nan_to_num(row.score.mean))))

    @property
    def everyone(self) -> tuple[str, ...]:
        """Methods, then controls, each from the best to the worst where that is known."""
        rows = (*self.rows, *self.ranking().controls)
        return tuple(row.method for row in rows) if rows else self.results.everyone

    @cached_property
    def estimates(self) -> dict[Cell, Estimate]:
        """The mean score of every (method, metric)."""
        return self.results.estimates()

    @cached_property
    def by_metric(self) -> dict[str, Ranking]:
        """The ranking by each metric that any method has a score of."""
        r = self.results
        return {m: r.ranking(m) for m in r.metrics if any((name, m) in r.scores for name in r.methods)}

    @cached_property
    def testable(self) -> tuple[str, ...]:
        """The comparable metrics by which a control can lose."""
        return tuple(m for m in self.comparable if bears_on_truth(self.results, m))

    # Conclusions

    @cached_property
    def model_check(self) -> Finding | None:
        """Whether the model has learnt anything; None where that cannot be tested."""
        return check_model(self.results)

    @cached_property
    def method_checks(self) -> tuple[MethodCheck, ...]:
        """Whether each method is eligible, in the order of the study."""
        return check_methods(self.results, self.delta)

    @property
    def eligible(self) -> tuple[str, ...]:
        """The eligible methods."""
        return tuple(check.method for check in self.method_checks if check.eligible)

    @cached_property
    def decision(self) -> Decision:
        """Which method to use, or why none is named."""
        asked = tuple(question for question in self.questions if question != "where" or not self.spread)
        return decide(self.results, self.method_checks, model=self.model_check, asked=asked, delta=self.delta)

    @cached_property
    def agreement(self) -> float:
        """Kendall's W between the comparable metrics, on the methods; NaN below two metrics or methods."""
        return self.results.concordance(self.comparable)

    @cached_property
    def class_evidence(self) -> tuple[evidence.ClassEvidence, ...]:
        """The evidence of each class; empty without evidence."""
        return evidence.by_class(self.results)

    @cached_property
    def concentration(self) -> Estimate | None:
        """How much denser the evidence is where it lies than on average, mean over samples; None without evidence."""
        r = self.results
        if r.evidence is None:
            return None
        values = evidence.concentration(r.evidence, r.size)
        return stats.estimates(values[:, None], groups=r.groups, level=r.level)[0]

    @property
    def spread(self) -> bool:
        """Whether the evidence is all over the input, so that no map can point to one place."""
        concentration = self.concentration
        return concentration is not None and concentration.n >= evidence.FEW and concentration.high < evidence.SPREAD

    @cached_property
    def calibration(self) -> Calibration:
        """Which metrics that need no mask agree with the planted masks."""
        return calibrate(self.results, self.comparable)
