"""Where each method stands, by one metric or by all: ties kept, controls beside the candidates and never among them."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from heatproof import stats
from heatproof.records import Direction, Estimate

# Families that speak on which map is true. A tidy map is not a true one, and the sanity checks are passed or failed.
VOICES = ("region", "faithfulness", "localisation", "robustness")
# Those in which a map that knows nothing of the model can be beaten: one that ignores the input never moves.
TRUTH = ("region", "faithfulness", "localisation")
# The one that ranks by itself where it was asked: on planted tasks it tells what the masks tell, see docs/verdict.md.
LEADING = "region"


@dataclass(frozen=True)
class Standing:
    """Where one method stands.

    Attributes:
        method: its spec. place: 1 + how many candidates are better beyond doubt; 0 for a control.
        score: mean score with interval (overall: the mean rank). rank: mean rank among the candidates, 1 the best.
        letters: two methods that share a letter cannot be told apart. share: of the resamples in which it is first.
        beats: the controls it is better than beyond doubt (Holm-corrected, alpha 0.05).
        needed: how many samples in all would separate it from the first row (power 0.8); 0 for that row and controls.
    """

    method: str
    place: int
    score: Estimate
    rank: Estimate
    letters: str
    share: float
    beats: tuple[str, ...] = ()
    control: bool = False
    needed: float = 0.0


@dataclass(frozen=True)
class Ranking:
    """The candidates from the best to the worst, and the controls.

    Attributes:
        metric: what ranks them; None for all metrics together. better: which scores are good.
        rows: the candidates. controls: the controls, best first.
        friedman: the p-value that the candidates are all alike. samples: on how many it rests.
    """

    metric: str | None
    better: Direction
    rows: tuple[Standing, ...]
    controls: tuple[Standing, ...]
    friedman: float
    samples: int

    @property
    def top(self) -> tuple[str, ...]:
        """The candidates in the first place: those that no other is better than beyond doubt."""
        return tuple(row.method for row in self.rows if row.place == 1)

    @property
    def by_rank(self) -> tuple[Standing, ...]:
        """The candidates by their mean rank alone, the leader first."""
        return tuple(sorted(self.rows, key=lambda row: (not row.rank.n, row.rank.mean, row.place)))

    @property
    def unbeaten(self) -> dict[str, tuple[str, ...]]:
        """For each candidate the controls it is not better than."""
        names = [row.method for row in self.controls]
        return {row.method: tuple(c for c in names if c not in row.beats) for row in self.rows}


def voices(
    tables: Mapping[str, Float[np.ndarray, "n m"]], better: Mapping[str, Direction], family: Mapping[str, str]
) -> Float[np.ndarray, "n m"]:
    """Each sample's mean rank of each method: over the metrics of a family first, then over the families.

    So ten cousins of one metric are one voice. A metric that is undefined for a method of a sample is silent there.
    """
    found = []
    for name in dict.fromkeys(family.values()):
        cousins = [stats.ranks(tables[m], better=better[m]) for m in tables if family[m] == name]
        found.append(mean_defined(cousins))
    return mean_defined(found)


def mean_defined(tables: Sequence[np.ndarray]) -> np.ndarray:
    """The mean over tables, leaving out NaN."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # the mean of nothing is NaN, which is what is meant
        found: np.ndarray = np.nanmean(np.stack(tables), axis=0)
    return found


def standings(
    own: Float[np.ndarray, "n k"],
    everyone: Float[np.ndarray, "n m"],
    candidates: Sequence[str],
    controls: Sequence[str],
    *,
    metric: str | None,
    better: Direction,
    alpha: float = 0.05,
    seed: int = 0,
) -> Ranking:
    """The ranking told by scores of the candidates (N, K), and of the candidates and the controls together (N, M)."""
    count = len(candidates)
    if not count:
        return Ranking(metric, better, (), _placed(everyone, controls, 0, better, alpha, seed), 1.0, len(everyone))
    beats = _beats(everyone, candidates, controls, better, alpha)
    order = stats.rank(own, candidates, better=better, alpha=alpha, seed=seed)
    first = own[:, list(candidates).index(order[0].name)] if order else own[:, 0]
    apart = {
        name: stats.samples_needed(own[:, j] - first, alpha=alpha) if name != order[0].name else 0.0
        for j, name in enumerate(candidates)
    }
    rows = tuple(
        Standing(r.name, r.place, r.score, r.rank, r.letters, r.share, beats[r.name], needed=apart[r.name])
        for r in order
    )
    test = stats.friedman(own)
    return Ranking(metric, better, rows, _placed(everyone, controls, count, better, alpha, seed), test.p, test.n)


def scored(ranking: Ranking, estimates: Mapping[tuple[str, str], Estimate]) -> Ranking:
    """The ranking by one metric with these mean scores and intervals."""
    rows, controls = (
        tuple(replace(row, score=estimates.get((row.method, str(ranking.metric)), row.score)) for row in part)
        for part in (ranking.rows, ranking.controls)
    )
    return replace(ranking, rows=rows, controls=controls)


def _placed(
    everyone: np.ndarray, controls: Sequence[str], first: int, better: Direction, alpha: float, seed: int
) -> tuple[Standing, ...]:
    """The controls, whose columns begin with the ``first``, by their mean ranks among everyone."""
    if not controls:
        return ()
    placed = stats.rank_intervals(everyone, better=better, confidence=1 - alpha, seed=seed)[first:]
    scored = stats.estimates(everyone[:, first:], confidence=1 - alpha, seed=seed)
    others = [
        Standing(name, 0, score, rank, "", 0.0, control=True)
        for name, score, rank in zip(controls, scored, placed, strict=True)
    ]
    return tuple(sorted(others, key=lambda row: row.rank.mean))


def _beats(
    table: np.ndarray, candidates: Sequence[str], controls: Sequence[str], better: Direction, alpha: float
) -> dict[str, tuple[str, ...]]:
    """For each candidate the controls it is better than; only these pairs are tested and corrected for."""
    if not controls:
        return dict.fromkeys(candidates, ())
    tests = stats.pairwise(table, correction="none")
    count = len(candidates)
    p = stats.holm(tests.p[:count, count:].ravel()).reshape(count, len(controls))
    ahead = tests.rank_biserial[:count, count:] * (1 if better == "higher" else -1) > 0
    return {
        name: tuple(c for j, c in enumerate(controls) if ahead[i, j] and p[i, j] < alpha)
        for i, name in enumerate(candidates)
    }
