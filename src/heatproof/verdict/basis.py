"""What a verdict rests on: a study (with each of its fills) and all that is read off it, computed once."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from functools import cached_property

from jaxtyping import Float
from numpy import ndarray

from heatproof import stats
from heatproof.errors import InputError
from heatproof.metrics.families import families
from heatproof.records import Estimate, Finding
from heatproof.results.ranking import Ranking, Standing
from heatproof.results.record import Cell, Results, Stratum
from heatproof.verdict.agreement import Calibration, calibrate
from heatproof.verdict.checks import MetricCheck, bears_on_truth, check_metric, check_model
from heatproof.verdict.decision import Decision, decide
from heatproof.verdict.eligibility import MethodCheck, check_methods, under_every_fill
from heatproof.verdict.fill_dependence import FillDependence, fill_dependence


class Basis:
    """A study, and the same study with other fills.

    Attributes:
        results: the study that rankings and checks of metrics are read from. others: the same with other fills.

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

    # Metrics

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
    def metric_checks(self) -> tuple[MetricCheck, ...]:
        """Whether each comparable metric separates real maps from random and inverted ones on these samples."""
        return tuple(check_metric(self.results, metric) for metric in self.comparable) if self.results.methods else ()

    @cached_property
    def valid(self) -> tuple[str, ...]:
        """The metrics that pass their checks."""
        return tuple(check.metric for check in self.metric_checks if check.valid)

    @property
    def considered(self) -> tuple[str, ...]:
        """The valid metrics; all comparable ones where none is valid."""
        return self.valid or self.comparable

    @cached_property
    def ranking_metrics(self) -> tuple[str, ...]:
        """The considered metrics that rank: of a family that ranks alone, or else all that a control can lose by."""
        leading = tuple(m for m in self.considered if families[self.results.family(m)].ranks_alone)
        return leading or self._beatable(self.considered) or self.considered

    @cached_property
    def families(self) -> dict[str, tuple[str, ...]]:
        """The considered metrics by family."""
        families: dict[str, tuple[str, ...]] = {}
        for metric in self.considered:
            family = self.results.family(metric)
            families[family] = (*families.get(family, ()), metric)
        return families

    # Rankings

    def ranking(self, stratum: Stratum = "all") -> Ranking:
        """The methods from the best to the worst by the metrics that rank; empty without methods."""
        return self._ranking if stratum == "all" else self.ranking_with(self.results, stratum)

    @cached_property
    def _ranking(self) -> Ranking:
        return self.ranking_with(self.results)

    def ranking_with(self, study: Results, stratum: Stratum = "all") -> Ranking:
        """The ranking by the metrics that rank, of the study with one fill; controls where a control can lose."""
        metrics = self.ranking_metrics
        own = study.family_ranks(metrics, stratum=stratum, controls=False)
        everyone = study.family_ranks(self._truth, stratum=stratum)
        return study.ranking_of(own, everyone, None, "lower")

    @property
    def _truth(self) -> tuple[str, ...]:
        return self._beatable(self.ranking_metrics)

    def _beatable(self, metrics: Sequence[str]) -> tuple[str, ...]:
        return tuple(m for m in metrics if bears_on_truth(self.results, m))

    @property
    def rows(self) -> tuple[Standing, ...]:
        """The methods from the best to the worst, by their mean rank within a place."""
        return self.ranking().rows

    @property
    def everyone(self) -> tuple[str, ...]:
        """Methods, then controls, each from the best to the worst where that is known."""
        rows = (*self.rows, *self.ranking().controls)
        return tuple(row.method for row in rows) if rows else self.results.everyone

    def ranks(self, stratum: Stratum = "all") -> Float[ndarray, "n m"]:
        """The rank of each method in each sample, by the metrics that rank."""
        table = self.results.family_ranks(self.ranking_metrics, stratum=stratum, controls=False)
        return stats.ranks(table, better="lower")

    @cached_property
    def ranks_with_controls(self) -> dict[str, Estimate]:
        """The mean rank of every method and control among all of them, by the metrics that a control can lose by."""
        r = self.results
        if not self._truth:
            return {}
        table = r.family_ranks(self._truth)
        estimates = stats.rank_intervals(table, better="lower", level=r.level)
        return dict(zip(r.everyone, estimates, strict=True))

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
    def samples_needed(self) -> dict[tuple[str, str], float]:
        """How many samples would separate each two methods, the better first, by the metrics that rank."""
        table = self.results.family_ranks(self.ranking_metrics, controls=False)
        counts = self.results.samples_needed(table)
        return {
            (a.method, b.method): counts.get((a.method, b.method), counts.get((b.method, a.method), math.nan))
            for a, b in itertools.combinations(self.rows, 2)
        }

    # Conclusions

    @cached_property
    def model_check(self) -> Finding | None:
        """Whether the model has learnt anything; None where that cannot be tested."""
        return check_model(self.results)

    @cached_property
    def method_checks(self) -> tuple[MethodCheck, ...]:
        """Whether each method is eligible with every fill."""
        return under_every_fill([check_methods(study, self.valid) for study in self.studies])

    @property
    def eligible(self) -> tuple[str, ...]:
        """The eligible methods."""
        return tuple(check.method for check in self.method_checks if check.eligible)

    @cached_property
    def not_better_than(self) -> dict[str, tuple[str, ...]]:
        """For each method the controls that it does not beat, with one fill or another."""
        return {check.method: check.not_better_than for check in self.method_checks}

    @cached_property
    def decision(self) -> Decision:
        """Which method to use, or why none is named."""
        return decide(
            self.studies,
            model=self.model_check,
            valid=self.valid,
            ranking_metrics=self.ranking_metrics,
            methods=self.method_checks,
        )

    @cached_property
    def agreement(self) -> float:
        """Kendall's W between the valid metrics, on the methods; NaN below two metrics or methods."""
        return self.results.concordance(self.valid)

    @cached_property
    def fill_dependence(self) -> FillDependence | None:
        """Whether the fill decides which method leads; None without methods."""
        return fill_dependence(self.studies, self.eligible, self.ranking_metrics)

    @cached_property
    def calibration(self) -> Calibration:
        """Which metrics that need no mask agree with the planted masks."""
        return calibrate(self.results, self.comparable)
