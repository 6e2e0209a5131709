"""What a study found: every score of every sample, and what can be read off them."""

from __future__ import annotations

import importlib
import itertools
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
from jaxtyping import Bool, Float, Int

from heatproof import stats
from heatproof.errors import InputError, UnknownName
from heatproof.records import Direction, Estimate, Skip
from heatproof.results.ranking import LEADING, TRUTH, VOICES, Ranking, mean_defined, scored, standings, voices
from heatproof.results.self_checks import Trials

if TYPE_CHECKING:
    import pandas as pd

    from heatproof.verdict.agreement import Calibration
    from heatproof.verdict.checks import MetricCheck
    from heatproof.verdict.decision import Verdict

Stratum = Literal["all", "right", "wrong"]
Cell = tuple[str, str]


@dataclass(frozen=True, eq=False)
class Band:
    """A curve of every sample: along ``at`` (P,) the ``values`` (N, P)."""

    at: Float[np.ndarray, " p"]
    values: Float[np.ndarray, "n p"]

    def estimates(self, *, confidence: float = 0.95) -> tuple[Estimate, ...]:
        """The mean with its interval at each point."""
        return stats.estimates(self.values, confidence=confidence)


@dataclass(frozen=True, eq=False)
class Gallery:
    """Some samples with their maps, for show: of each class the first one told right and the first one told wrong.

    Attributes:
        index: their places in the study (K,). x: inputs (K, C, *S). maps: by method (K, *S). mask: (K, *S) or None.
    """

    index: Int[np.ndarray, " k"]
    x: Float[np.ndarray, "k c *s"]
    maps: Mapping[str, Float[np.ndarray, "k *s"]]
    mask: Bool[np.ndarray, "k *s"] | None = None


@dataclass(frozen=True, eq=False)
class Results:
    """The scores of a study and what can be read off them.

    Attributes:
        scores: for (method, metric) each sample's score (N,), float64, NaN where undefined; no entry where skipped.
        methods, controls, metrics: specs in the order asked for; controls are never ranked.
        y, predictions, confidence: label, predicted class and its probability of each sample (N,).
        classes, ids: names of the classes, and of the samples or empty.
        curves: those of the metrics that reduce one. skips: cells that were not computed, and why.
        gallery: some samples with their maps.
        about: settings, in plain types; ``about["metrics"][spec]`` has better, family, range, summary and paper,
            ``about["seconds"]`` how long methods, metrics and trials took (see `studying.clock`).
        trials: scores of inverted maps and of slightly changed inputs, by which the metrics are checked.
    """

    scores: Mapping[Cell, Float[np.ndarray, " n"]]
    methods: tuple[str, ...]
    controls: tuple[str, ...]
    metrics: tuple[str, ...]
    y: Int[np.ndarray, " n"]
    predictions: Int[np.ndarray, " n"]
    confidence: Float[np.ndarray, " n"]
    classes: tuple[str, ...]
    ids: tuple[str, ...] = ()
    curves: Mapping[Cell, Band] = field(default_factory=dict)
    skips: tuple[Skip, ...] = ()
    gallery: Gallery | None = None
    about: Mapping[str, Any] = field(default_factory=dict)
    trials: Trials | None = None

    def __len__(self) -> int:
        return len(self.y)

    def __repr__(self) -> str:
        return (
            f"Results({len(self)} samples, {len(self.methods)} methods, {len(self.controls)} controls, "
            f"{len(self.metrics)} metrics, {len(self.skips)} skips)"
        )

    @property
    def right(self) -> Bool[np.ndarray, " n"]:
        """Where the prediction is the label."""
        return np.asarray(self.predictions == self.y)

    @property
    def level(self) -> float:
        """The confidence of all intervals."""
        return float(self.about.get("level", 0.95))

    @property
    def seed(self) -> int:
        """That of the study; resamples are drawn from it too."""
        return int(self.about.get("seed", 0))

    def better(self, metric: str) -> Direction:
        """Whether higher or lower scores of the metric are good."""
        return cast(Direction, self._fact(metric, "better"))

    def family(self, metric: str) -> str:
        """The family of the metric."""
        return str(self._fact(metric, "family"))

    def rows(self, stratum: Stratum = "all") -> Bool[np.ndarray, " n"]:
        """Which samples are in the stratum: all, or those told right or wrong.

        Raises: InputError for another stratum.
        """
        if stratum not in ("all", "right", "wrong"):
            raise InputError(f"stratum: got {stratum!r}, expected 'all', 'right' or 'wrong'")
        return np.ones(len(self), dtype=bool) if stratum == "all" else self.right if stratum == "right" else ~self.right

    def table(self, metric: str, *, stratum: Stratum = "all", controls: bool = True) -> Float[np.ndarray, "n m"]:
        """The scores of one metric: a row a sample, a column a method (then the controls), NaN where there is none."""
        self._fact(metric, "better")
        names = (*self.methods, *(self.controls if controls else ()))
        table = np.full((len(self), len(names)), np.nan)
        for column, name in enumerate(names):
            if (name, metric) in self.scores:
                table[:, column] = self.scores[name, metric]
        return np.asarray(table[self.rows(stratum)])

    def estimates(self, stratum: Stratum = "all") -> dict[Cell, Estimate]:
        """The mean score of every (method, metric) with its interval over samples: BCa, or Wilson's of 0 and 1."""
        found: dict[Cell, Estimate] = self._once(("estimates", stratum), lambda: self._estimates(stratum))
        return dict(found)

    def _estimates(self, stratum: Stratum) -> dict[Cell, Estimate]:
        cells, rows = list(self.scores), self.rows(stratum)
        if not cells:
            return {}
        table = np.stack([self.scores[cell][rows] for cell in cells], axis=1)
        found = stats.estimates(table, confidence=self.level, seed=self.seed)
        return {
            cell: stats.proportion(column, confidence=self.level)
            if self._fact(cell[1], "binary") and np.isin(column[np.isfinite(column)], (0.0, 1.0)).all()
            else estimate
            for cell, column, estimate in zip(cells, table.T, found, strict=True)
        }

    def ranking(self, metric: str | None = None, *, stratum: Stratum = "all") -> Ranking:
        """The candidates from the best to the worst by one metric, or by all that count; empty without candidates.

        By all: each sample's ranks are averaged within a family of metrics, then over the families of those that are
        ``ranked``; lower is better. It is the ranking of the report and, with this fill alone, of the verdict.

        Raises: UnknownName for a metric that is not in the study.
        """
        found: Ranking = self._once(("ranking", metric, stratum), lambda: self._ranking(metric, stratum))
        return found

    def _ranking(self, metric: str | None, stratum: Stratum) -> Ranking:
        if metric is None:
            return self.ranking_by(self.ranked, stratum=stratum)
        own, everyone = (self.table(metric, stratum=stratum, controls=c) for c in (False, True))
        return scored(self._standings(own, everyone, metric, self.better(metric)), self.estimates(stratum))

    def ranking_by(self, metrics: tuple[str, ...], *, stratum: Stratum = "all") -> Ranking:
        """The ranking by these metrics together; against controls only those that a control can lose."""
        own = self.voices(stratum=stratum, controls=False, metrics=metrics)
        truth = tuple(m for m in metrics if self.family(m) in TRUTH)
        return self._standings(own, self.voices(stratum=stratum, metrics=truth), None, "lower")

    def _standings(self, own: np.ndarray, everyone: np.ndarray, metric: str | None, better: Direction) -> Ranking:
        names, alpha = (self.methods, self.controls), 1 - self.level
        return standings(own, everyone, *names, metric=metric, better=better, alpha=alpha, seed=self.seed)

    def voices(
        self, *, stratum: Stratum = "all", controls: bool = True, metrics: tuple[str, ...] | None = None
    ) -> Float[np.ndarray, "n m"]:
        """Each sample's mean rank of each method (then control) over the families of metrics, 1 the best."""
        chosen = self.speaking if metrics is None else metrics
        tables = {m: self.table(m, stratum=stratum, controls=controls) for m in chosen}
        if not tables:
            count = len(self.methods) + len(self.controls) * controls
            return np.full((int(self.rows(stratum).sum()), count), np.nan)
        return voices(tables, {m: self.better(m) for m in chosen}, {m: self.family(m) for m in chosen})

    @cached_property
    def speaking(self) -> tuple[str, ...]:
        """The metrics that could count overall: of a family that speaks on truth, and computed for every method."""
        everyone = (*self.methods, *self.controls)
        return tuple(
            m for m in self.metrics if self.family(m) in VOICES and all((name, m) in self.scores for name in everyone)
        )

    @cached_property
    def checks(self) -> tuple[MetricCheck, ...]:
        """Whether each of the speaking metrics tells real maps from random and inverted ones on these samples."""
        from heatproof.verdict.checks import check_metric

        return tuple(check_metric(self, metric) for metric in self.speaking) if self.methods else ()

    @cached_property
    def passed(self) -> tuple[str, ...]:
        """The metrics that pass their checks."""
        return tuple(check.metric for check in self.checks if check.counts)

    @cached_property
    def counting(self) -> tuple[str, ...]:
        """The metrics that pass their checks; all that speak where none does."""
        return self.passed or self.speaking

    @cached_property
    def ranked(self) -> tuple[str, ...]:
        """The metrics that the ranking rests on, of those that count: of region, or else of all that speak on truth."""
        leading = tuple(m for m in self.counting if self.family(m) == LEADING)
        return leading or tuple(m for m in self.counting if self.family(m) in TRUTH) or self.counting

    def concordance(self, metrics: Sequence[str]) -> float:
        """Kendall's W of the metrics' mean ranks of the methods; NaN below two metrics or methods."""
        if len(metrics) < 2 or len(self.methods) < 2:
            return float("nan")
        placed = [stats.ranks(self.table(m, controls=False), better=self.better(m)) for m in metrics]
        return stats.kendall_w(np.stack([mean_defined(list(ranks)) for ranks in placed]))

    def to_frame(self) -> pd.DataFrame:
        """One row a score: sample, id, label, prediction, confidence, method, control, metric, value."""
        import pandas as pd

        n, cells = len(self), list(self.scores)
        sample = np.tile(np.arange(n), len(cells))
        names = np.asarray(self.classes, dtype=object)
        frame = {
            "sample": sample,
            "id": np.asarray(self.ids or [str(i) for i in range(n)], dtype=object)[sample],
            "label": names[self.y][sample],
            "prediction": names[self.predictions][sample],
            "confidence": self.confidence[sample],
            "method": np.repeat([m for m, _ in cells], n),
            "control": np.repeat([m in self.controls for m, _ in cells], n),
            "metric": np.repeat([k for _, k in cells], n),
            "value": np.concatenate([self.scores[c] for c in cells]) if cells else np.empty(0),
        }
        return pd.DataFrame(frame)

    def verdict(self, *others: Results) -> Verdict:
        """Which method to trust, or that the evidence names none; ``others`` are the same study with other fills."""
        from heatproof.verdict.decision import verdict

        return verdict(self, *others)

    def calibration(self) -> Calibration:
        """Which faithfulness metrics agree with the planted masks, for this model; empty where there are no masks."""
        from heatproof.verdict.agreement import calibrate

        return calibrate(self)

    def needed(
        self, metric: str | None = None, *, stratum: Stratum = "all", chance: float = 0.8
    ) -> dict[tuple[str, str], float]:
        """How many samples in all would separate each pair of methods with the given chance, by one metric or all.

        Takes the effect seen here for the true one; infinite where none is seen.
        """
        if metric is None:
            table = self.voices(stratum=stratum, controls=False, metrics=self.ranked)
        else:
            table = self.table(metric, stratum=stratum, controls=False)
        pairs = itertools.combinations(range(len(self.methods)), 2)
        return {
            (self.methods[a], self.methods[b]): stats.samples_needed(
                table[:, a] - table[:, b], alpha=1 - self.level, chance=chance
            )
            for a, b in pairs
        }

    def save(self, path: str | os.PathLike[str]) -> Path:
        """The folder, now holding every score (CSV, Parquet, npz) and, written last, results.json."""
        return cast(Path, importlib.import_module("heatproof.results.storage").save(self, path))

    def report(self, path: str | os.PathLike[str]) -> Path:
        """The report, one self-contained HTML file at ``path``."""
        return cast(Path, importlib.import_module("heatproof.report").write(self, path))

    @cached_property
    def _known(self) -> dict[Any, Any]:
        return {}

    def _once(self, key: Any, make: Callable[[], Any]) -> Any:
        """What ``make`` gives, computed once."""
        if key not in self._known:
            self._known[key] = make()
        return self._known[key]

    def _fact(self, metric: str, name: str) -> Any:
        facts = self.about.get("metrics", {})
        if metric not in facts:
            raise UnknownName("metric of this study", metric, facts)
        return facts[metric].get(name)
