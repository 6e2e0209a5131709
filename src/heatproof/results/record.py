"""What a study found: every score of every sample, and the tables and estimates that can be read off them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
from jaxtyping import Bool, Float, Int

from heatproof import stats
from heatproof.annotations import Task
from heatproof.errors import InputError, UnknownName
from heatproof.records import Direction, Estimate, Skip
from heatproof.results.evidence import Evidence
from heatproof.results.ranking import Ranking, family_ranks, mean_defined, ranking_of, scored

if TYPE_CHECKING:
    import pandas as pd

Stratum = Literal["all", "correct", "incorrect"]
Cell = tuple[str, str]


@dataclass(frozen=True, eq=False)
class Band:
    """A curve of every sample: along ``at`` (P,) the ``values`` (N, P)."""

    at: Float[np.ndarray, " p"]
    values: Float[np.ndarray, "n p"]

    def estimates(self, *, level: float = 0.95) -> tuple[Estimate, ...]:
        """The mean with its interval at each point."""
        return stats.estimates(self.values, level=level)


@dataclass(frozen=True, eq=False)
class Gallery:
    """Some samples with their maps, for show: of each class the first correct and the first incorrect prediction.

    Attributes:
        index: their places in the study (K,). x: inputs (K, C, *S). maps: by method (K, *S). mask: (K, *S) or None.
    """

    index: Int[np.ndarray, " k"]
    x: Float[np.ndarray, "k c *s"]
    maps: Mapping[str, Float[np.ndarray, "k *s"]]
    mask: Bool[np.ndarray, "k *s"] | None = None


@dataclass(frozen=True, eq=False, repr=False)
class Results:
    """The scores of a study and what can be read off them. Methods and metrics are labelled by the text of their specs.

    Attributes:
        scores: for (method, metric) each sample's score (N,), float64, NaN where undefined; no entry where skipped.
        methods, controls, metrics: labels in the order asked for; controls are never ranked.
        y, predictions, probability: true class, predicted class and its probability of each sample (N,). Of labels: 1
            or 0 where the label explained is true, and predicted, and its probability. Of a regression: the true value,
            the output, and NaN.
        classes, ids: names of the classes or labels, and of the samples or empty.
        curves: those of the metrics that reduce one. skips: cells that were not computed, and why.
        gallery: some samples with their maps.
        about: settings, in plain types; ``about["metrics"][label]`` holds what the metric's registration declares,
            ``about["seconds"]`` how long methods, metrics and self-checks took.
        own_controls: by (control, method, metric) the scores (N,) of each method's own maps made wrong on purpose, by
            the metrics that answer a question of the verdict. evidence: what windows of the inputs are worth.
        task: what the samples ask of the model. explained: the label explained of each row (N,); None without labels.
        groups: the patient or slide of each sample, as numbers (N,); None where samples are independent.
    """

    scores: Mapping[Cell, Float[np.ndarray, " n"]]
    methods: tuple[str, ...]
    controls: tuple[str, ...]
    metrics: tuple[str, ...]
    y: Int[np.ndarray, " n"] | Float[np.ndarray, " n"]
    predictions: Int[np.ndarray, " n"] | Float[np.ndarray, " n"]
    probability: Float[np.ndarray, " n"]
    classes: tuple[str, ...]
    ids: tuple[str, ...] = ()
    curves: Mapping[Cell, Band] = field(default_factory=dict)
    skips: tuple[Skip, ...] = ()
    gallery: Gallery | None = None
    about: Mapping[str, Any] = field(default_factory=dict)
    own_controls: Mapping[tuple[str, str, str], Float[np.ndarray, " n"]] = field(default_factory=dict)
    evidence: Evidence | None = None
    task: Task = "classes"
    explained: Int[np.ndarray, " n"] | None = None
    groups: Int[np.ndarray, " n"] | None = None

    def __len__(self) -> int:
        return len(self.y)

    def __repr__(self) -> str:
        return (
            f"Results({len(self)} samples, {len(self.methods)} methods, {len(self.controls)} controls, "
            f"{len(self.metrics)} metrics, {len(self.skips)} skips)"
        )

    def _repr_html_(self) -> str:
        frame = self.to_summary()
        return f"<div><p>{self!r}</p>{frame.to_html(border=0, na_rep='–')}</div>"

    @property
    def everyone(self) -> tuple[str, ...]:
        """The methods, then the controls."""
        return (*self.methods, *self.controls)

    @property
    def gradable(self) -> bool:
        """Whether predictions are correct or incorrect; those of a regression are neither."""
        return self.task != "regression"

    @property
    def correct(self) -> Bool[np.ndarray, " n"]:
        """Where the predicted class is the true one, or the label explained is predicted as it is.

        Raises: InputError for a regression.
        """
        if not self.gradable:
            raise InputError("a regression has no correct and incorrect predictions; stratum='all' is the only one")
        return np.asarray(self.predictions == self.y)

    @property
    def strata(self) -> Int[np.ndarray, " n"] | None:
        """The true class of each sample, or the label explained; None for a regression."""
        return self.explained if self.task == "labels" else self.y if self.task == "classes" else None

    @property
    def size(self) -> tuple[int, ...]:
        """The number of positions of an input along each axis; empty where not recorded."""
        return tuple(int(length) for length in self.about.get("size", ()))

    @property
    def level(self) -> float:
        """The confidence level of all intervals and tests."""
        return float(self.about.get("level", 0.95))

    @property
    def seed(self) -> int:
        """That of the study; resamples are drawn from it too."""
        return int(self.about.get("seed", 0))

    @property
    def fill(self) -> str:
        """What replaced removed positions."""
        return str(self.about.get("fill", "not recorded"))

    def better(self, metric: str) -> Direction:
        """Whether higher or lower scores of the metric are good."""
        return cast(Direction, self.fact(metric, "better"))

    def family(self, metric: str) -> str:
        """The family of the metric."""
        return str(self.fact(metric, "family"))

    def fact(self, metric: str, name: str) -> Any:
        """What the metric's registration declares under a name; None where it declares nothing.

        Raises: UnknownName for a metric that is not in the study.
        """
        facts = self.about.get("metrics", {})
        if metric not in facts:
            raise UnknownName("metric of this study", metric, facts)
        return facts[metric].get(name)

    def unchanged_above(self, metric: str) -> float | None:
        """For a sanity check the similarity above which maps count as unchanged; None for any other metric."""
        limit = self.fact(metric, "unchanged_above")
        return None if limit is None else float(limit)

    def rows(self, stratum: Stratum = "all") -> Bool[np.ndarray, " n"]:
        """Which samples are in the stratum: all, or those classified correctly or incorrectly.

        Raises: InputError for another stratum.
        """
        if stratum not in ("all", "correct", "incorrect"):
            raise InputError(f"stratum: got {stratum!r}, expected 'all', 'correct' or 'incorrect'")
        if stratum == "all":
            return np.ones(len(self), dtype=bool)
        return self.correct if stratum == "correct" else ~self.correct

    def table(self, metric: str, *, stratum: Stratum = "all", controls: bool = True) -> Float[np.ndarray, "n m"]:
        """The scores of one metric: a row a sample, a column a method (then the controls), NaN where there is none."""
        self.fact(metric, "better")
        names = self.everyone if controls else self.methods
        table = np.full((len(self), len(names)), np.nan)
        for column, name in enumerate(names):
            if (name, metric) in self.scores:
                table[:, column] = self.scores[name, metric]
        return np.asarray(table[self.rows(stratum)])

    def estimates(self, stratum: Stratum = "all") -> dict[Cell, Estimate]:
        """The mean score of every (method, metric) with its interval over samples; that of 0 and 1 is exact."""
        estimates: dict[Cell, Estimate] = self._once(("estimates", stratum), lambda: self._estimates(stratum))
        return dict(estimates)

    def _estimates(self, stratum: Stratum) -> dict[Cell, Estimate]:
        cells, rows = list(self.scores), self.rows(stratum)
        if not cells:
            return {}
        table = np.stack([self.scores[cell][rows] for cell in cells], axis=1)
        means = stats.estimates(
            table,
            level=self.level,
            bounds=[self._bounds(*cell) for cell in cells],
            groups=None if self.groups is None else self.groups[rows],
        )
        exact = [
            self.groups is None and self._is_share(cell[1], column) for cell, column in zip(cells, table.T, strict=True)
        ]
        return {
            cell: stats.proportion(column, level=self.level) if share else mean
            for cell, column, mean, share in zip(cells, table.T, means, exact, strict=True)
        }

    def _is_share(self, metric: str, scores: np.ndarray) -> bool:
        """Whether the scores are 0 and 1, as the metric declares."""
        return bool(self.fact(metric, "binary")) and bool(np.isin(scores[np.isfinite(scores)], (0.0, 1.0)).all())

    def _bounds(self, method: str, metric: str) -> tuple[float, float]:
        """The range that the metric declares, NaN where it is open or where scores do not keep to it."""
        low, high = (math.nan if end is None else float(end) for end in self.fact(metric, "range") or (None, None))
        scores = self.scores[method, metric]
        kept = not ((scores < low) | (scores > high)).any()
        return (low, high) if kept else (math.nan, math.nan)

    def ranking(self, metric: str, *, stratum: Stratum = "all") -> Ranking:
        """The methods from the best to the worst by one metric; empty without methods.

        Raises: UnknownName for a metric that is not in the study.
        """
        ranking: Ranking = self._once(("ranking", metric, stratum), lambda: self._ranking(metric, stratum))
        return ranking

    def _ranking(self, metric: str, stratum: Stratum) -> Ranking:
        own, everyone = (self.table(metric, stratum=stratum, controls=c) for c in (False, True))
        return scored(self.ranking_of(own, everyone, metric, self.better(metric), stratum), self.estimates(stratum))

    def ranking_of(
        self,
        own: Float[np.ndarray, "n k"],
        everyone: Float[np.ndarray, "n m"],
        metric: str | None,
        better: Direction,
        stratum: Stratum = "all",
    ) -> Ranking:
        """The ranking of the methods by a table of their scores in a stratum, and of theirs and the controls'."""
        names, alpha = (self.methods, self.controls), 1 - self.level
        groups = None if self.groups is None else self.groups[self.rows(stratum)]
        return ranking_of(
            own, everyone, *names, metric=metric, better=better, alpha=alpha, seed=self.seed, groups=groups
        )

    def family_ranks(
        self, metrics: Sequence[str], *, stratum: Stratum = "all", controls: bool = True
    ) -> Float[np.ndarray, "n m"]:
        """Each sample's mean rank of each method (then control), over metrics of a family, then over families; 1 best.

        All NaN without metrics.
        """
        tables = {m: self.table(m, stratum=stratum, controls=controls) for m in metrics}
        if not tables:
            count = len(self.methods) + len(self.controls) * controls
            return np.full((int(self.rows(stratum).sum()), count), np.nan)
        return family_ranks(tables, {m: self.better(m) for m in metrics}, {m: self.family(m) for m in metrics})

    def concordance(self, metrics: Sequence[str]) -> float:
        """Kendall's W of the metrics' mean ranks of the methods; NaN below two metrics or methods."""
        if len(metrics) < 2 or len(self.methods) < 2:
            return float("nan")
        ranks = [stats.ranks(self.table(m, controls=False), better=self.better(m)) for m in metrics]
        return stats.kendall_w(np.stack([mean_defined(list(table)) for table in ranks]))

    def samples_needed(self, table: Float[np.ndarray, "n m"], *, power: float = 0.8) -> dict[tuple[str, str], float]:
        """How many samples in all would separate each pair of methods at the given power, by a table of scores.

        Takes the effect seen here for the true one; infinite where none is seen.
        """
        pairs = itertools.combinations(range(len(self.methods)), 2)
        return {
            (self.methods[a], self.methods[b]): stats.samples_needed(
                table[:, a] - table[:, b], alpha=1 - self.level, power=power
            )
            for a, b in pairs
        }

    def to_frame(self) -> pd.DataFrame:
        """One row a score: sample, id, label, prediction, probability, method, control, metric, value.

        Of labels ``label`` is the one explained, and ``true`` says whether the sample has it; of a regression label and
        prediction are numbers.
        """
        import pandas as pd

        n, cells = len(self), list(self.scores)
        sample = np.tile(np.arange(n), len(cells))
        names = np.asarray(self.classes, dtype=object)
        labels, predictions = self.y, self.predictions
        if self.strata is not None:
            labels = names[self.strata]
            predictions = names[self.predictions] if self.task == "classes" else self.predictions
        frame = {
            "sample": sample,
            "id": np.asarray(self.ids or [str(i) for i in range(n)], dtype=object)[sample],
            "label": labels[sample],
            **({"true": self.y[sample]} if self.task == "labels" else {}),
            "prediction": predictions[sample],
            "probability": self.probability[sample],
            "method": np.repeat([m for m, _ in cells], n),
            "control": np.repeat([m in self.controls for m, _ in cells], n),
            "metric": np.repeat([k for _, k in cells], n),
            "value": np.concatenate([self.scores[c] for c in cells]) if cells else np.empty(0),
        }
        return pd.DataFrame(frame)

    def to_summary(self) -> pd.DataFrame:
        """A row a method (then the controls), a column a metric: the mean score with its interval, as text."""
        import pandas as pd

        estimates = self.estimates()
        columns = {m: [str(estimates[c]) if (c := (name, m)) in estimates else None for name in self.everyone]
                   for m in self.metrics}  # fmt: skip
        return pd.DataFrame(columns, index=list(self.everyone))

    @cached_property
    def _cache(self) -> dict[Any, Any]:
        return {}

    def _once(self, key: Any, make: Callable[[], Any]) -> Any:
        """What ``make`` gives, computed once."""
        if key not in self._cache:
            self._cache[key] = make()
        return self._cache[key]
