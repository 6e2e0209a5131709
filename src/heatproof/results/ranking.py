"""Rankings of methods, by one metric or by several: ties kept, controls beside the methods and never among them."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int

from heatproof import stats
from heatproof.records import Direction, Estimate

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Standing:
    """The place of one method in a ranking.

    Attributes:
        method: its label. place: 1 + how many methods are significantly better; 0 for a control.
        score: mean score with interval (of several metrics: the mean rank). rank: mean rank among the methods, 1 best.
        letters: methods that share a letter do not differ significantly.
        support: the share of resamples in which it is first.
        beats: the controls that it is significantly better than (Holm-corrected).
        needed: how many samples in all would separate it from the first row (power 0.8); 0 for that row and controls.
    """

    method: str
    place: int
    score: Estimate
    rank: Estimate
    letters: str
    support: float
    beats: tuple[str, ...] = ()
    control: bool = False
    needed: float = 0.0


@dataclass(frozen=True, repr=False)
class Ranking:
    """The methods from the best to the worst, and the controls.

    Attributes:
        metric: what ranks them; None for several metrics together. better: which scores are good.
        rows: the methods. controls: the controls, best first.
        friedman: the p value of Friedman's test that all methods are equal. samples: on how many it rests.
    """

    metric: str | None
    better: Direction
    rows: tuple[Standing, ...]
    controls: tuple[Standing, ...]
    friedman: float
    samples: int

    def __repr__(self) -> str:
        order = ", ".join(f"{row.method} {row.rank.mean:.2f}" for row in self.rows[:4]) + (" …" * (len(self.rows) > 4))
        return f"Ranking(by {self.metric or 'several metrics'}, {self.samples} samples: {order or 'no methods'})"

    def _repr_html_(self) -> str:
        return f"<div><p>{escape(repr(self))}</p>{self.to_frame().to_html(border=0, index=False)}</div>"

    def to_frame(self) -> pd.DataFrame:
        """A row a method (then a control): place, mean score and rank with their intervals, group, support."""
        import pandas as pd

        rows = [
            {
                "method": row.method, "control": row.control, "place": row.place, "score": row.score.mean,
                "score low": row.score.low, "score high": row.score.high, "rank": row.rank.mean,
                "rank low": row.rank.low, "rank high": row.rank.high, "group": row.letters, "support": row.support,
            }
            for row in (*self.rows, *self.controls)
        ]  # fmt: skip
        return pd.DataFrame(rows)

    @property
    def top(self) -> tuple[str, ...]:
        """The methods in the first place: those that no other is significantly better than."""
        return tuple(row.method for row in self.rows if row.place == 1)


def family_ranks(
    tables: Mapping[str, Float[np.ndarray, "n m"]], better: Mapping[str, Direction], family: Mapping[str, str]
) -> Float[np.ndarray, "n m"]:
    """Each sample's mean rank of each method: over the metrics of a family first, then over the families.

    So ten variants of one metric count once. A metric that is undefined for a method of a sample is left out there.
    """
    families = []
    for name in dict.fromkeys(family.values()):
        members = [stats.ranks(tables[m], better=better[m]) for m in tables if family[m] == name]
        families.append(mean_defined(members))
    return mean_defined(families)


def mean_defined(tables: Sequence[np.ndarray]) -> np.ndarray:
    """The mean over tables, leaving out NaN."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # the mean of nothing is NaN, which is what is meant
        mean: np.ndarray = np.nanmean(np.stack(tables), axis=0)
    return mean


def ranking_of(
    own: Float[np.ndarray, "n k"],
    everyone: Float[np.ndarray, "n m"],
    methods: Sequence[str],
    controls: Sequence[str],
    *,
    metric: str | None,
    better: Direction,
    alpha: float = 0.05,
    seed: int = 0,
    groups: Int[np.ndarray, " n"] | None = None,
) -> Ranking:
    """The ranking by scores of the methods (N, K), and of the methods and the controls together (N, M).

    With ``groups`` these are taken as independent, not the samples.
    """
    count = len(methods)
    if not count:
        return Ranking(metric, better, (), _placed(everyone, controls, 0, better, alpha, groups), 1.0, len(everyone))
    beats = _beats(everyone, methods, controls, better, alpha, groups)
    order = stats.rank(own, methods, better=better, alpha=alpha, seed=seed, groups=groups)
    first = own[:, list(methods).index(order[0].name)] if order else own[:, 0]
    needed = {
        name: stats.samples_needed(own[:, j] - first, alpha=alpha) if name != order[0].name else 0.0
        for j, name in enumerate(methods)
    }
    rows = tuple(
        Standing(r.name, r.place, r.score, r.rank, r.letters, r.support, beats[r.name], needed=needed[r.name])
        for r in order
    )
    test = stats.friedman(own)
    return Ranking(metric, better, rows, _placed(everyone, controls, count, better, alpha, groups), test.p, test.n)


def scored(ranking: Ranking, estimates: Mapping[tuple[str, str], Estimate]) -> Ranking:
    """The ranking by one metric with these mean scores and intervals."""
    rows, controls = (
        tuple(replace(row, score=estimates.get((row.method, str(ranking.metric)), row.score)) for row in part)
        for part in (ranking.rows, ranking.controls)
    )
    return replace(ranking, rows=rows, controls=controls)


def _placed(
    everyone: np.ndarray,
    controls: Sequence[str],
    first: int,
    better: Direction,
    alpha: float,
    groups: Int[np.ndarray, " n"] | None,
) -> tuple[Standing, ...]:
    """The controls, whose columns begin with the ``first``, by their mean ranks among everyone."""
    if not controls:
        return ()
    ranks = stats.rank_intervals(everyone, better=better, level=1 - alpha, groups=groups)[first:]
    scores = stats.estimates(everyone[:, first:], level=1 - alpha, groups=groups)
    rows = [
        Standing(name, 0, score, rank, "", 0.0, control=True)
        for name, score, rank in zip(controls, scores, ranks, strict=True)
    ]
    return tuple(sorted(rows, key=lambda row: row.rank.mean))


def _beats(
    table: np.ndarray,
    methods: Sequence[str],
    controls: Sequence[str],
    better: Direction,
    alpha: float,
    groups: Int[np.ndarray, " n"] | None,
) -> dict[str, tuple[str, ...]]:
    """For each method the controls it is significantly better than; only these pairs are tested and corrected for."""
    if not controls:
        return dict.fromkeys(methods, ())
    tests = stats.pairwise(table, correction="none", groups=groups)
    count = len(methods)
    p = stats.holm(tests.p[:count, count:].ravel()).reshape(count, len(controls))
    ahead = tests.rank_biserial[:count, count:] * (1 if better == "higher" else -1) > 0
    return {
        name: tuple(c for j, c in enumerate(controls) if ahead[i, j] and p[i, j] < alpha)
        for i, name in enumerate(methods)
    }
