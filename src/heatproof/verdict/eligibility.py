"""Which methods may be named: those that beat their own controls.

Each method is judged by itself: by how far its overall score exceeds that of its own maps made wrong on purpose. No
other method takes part, so that adding or removing one changes nothing here.
"""

from __future__ import annotations

import math
from collections.abc import Set
from dataclasses import dataclass
from typing import Literal

import numpy as np

from heatproof import stats
from heatproof.records import Estimate
from heatproof.results.record import Results
from heatproof.verdict.questions import controls_of, overall, scores

Standing = Literal["eligible", "not yet shown", "barred"]
Outcome = Literal["beaten", "open", "not beaten"]
CHANCE = "chance"  # a map without order
OTHER_CLASS = "another class"
POWER = 0.8


@dataclass(frozen=True)
class ControlTest:
    """A method against one of its own controls.

    Attributes:
        ahead: by how much its overall score exceeds the control's, with interval. least: how much it must be ahead.
        outcome: beaten (the interval lies above that), not beaten (below or at it), or open.
        needed: how many samples would decide it, at 80 % power, assuming the observed effect.
    """

    control: str
    ahead: Estimate
    least: float
    outcome: Outcome
    needed: float


@dataclass(frozen=True)
class MethodCheck:
    """Whether a method is eligible.

    Attributes:
        standing: eligible (beats all its own controls), barred (does not beat one of them), or not yet shown.
        where, how_much, overall: its mean scores, 0 chance and 1 perfect.
        controls: the tests; empty where its own controls were not computed.
    """

    method: str
    standing: Standing
    where: Estimate
    how_much: Estimate
    overall: Estimate
    controls: tuple[ControlTest, ...] = ()

    @property
    def eligible(self) -> bool:
        """Whether it may be named."""
        return self.standing == "eligible"

    @property
    def barred_by(self) -> tuple[str, ...]:
        """The controls that it does not beat."""
        return tuple(test.control for test in self.controls if test.outcome == "not beaten")

    @property
    def open(self) -> tuple[str, ...]:
        """The controls that it may or may not beat."""
        return tuple(test.control for test in self.controls if test.outcome == "open")

    @property
    def needed(self) -> float:
        """How many samples would decide its standing; NaN where it has no controls."""
        return max((test.needed for test in self.controls if test.outcome == "open"), default=math.nan)


def check_methods(results: Results, delta: float) -> tuple[MethodCheck, ...]:
    """Every method against its own controls; ``delta`` is the smallest difference that matters."""
    asked = {name for method in results.methods for name in controls_of(results, method)}
    return tuple(_check(results, method, delta, asked) for method in results.methods)


def _check(results: Results, method: str, delta: float, asked: Set[str]) -> MethodCheck:
    own = overall(results, method)
    where = estimate(results, scores(results, method, "where"))
    how_much = estimate(results, scores(results, method, "how much"))
    both, names = estimate(results, own), controls_of(results, method)
    if own is None or not names:
        return MethodCheck(method, "not yet shown", where, how_much, both)
    tests = [control_test(results, CHANCE, own, 0.0)]
    for name in names:
        wrong = overall(results, method, name)
        if wrong is not None:
            tests.append(control_test(results, name, own - wrong, delta if name == OTHER_CLASS else 0.0))
    outcomes = {test.outcome for test in tests}
    complete = asked <= {test.control for test in tests}
    standing: Standing = (
        "barred" if "not beaten" in outcomes else "eligible" if outcomes == {"beaten"} and complete else "not yet shown"
    )
    return MethodCheck(method, standing, where, how_much, both, tuple(tests))


def control_test(results: Results, control: str, ahead: np.ndarray, least: float) -> ControlTest:
    """Whether these differences (N,) exceed what they must on average."""
    (mean,) = stats.estimates(ahead[:, None], groups=results.groups, level=results.level)
    if not math.isfinite(mean.low):
        return ControlTest(control, mean, least, "open", math.inf)
    outcome: Outcome = "beaten" if mean.low > least else "not beaten" if mean.high <= least else "open"
    return ControlTest(control, mean, least, outcome, samples_needed(mean, least))


def samples_needed(mean: Estimate, least: float) -> float:
    """How many samples would show on which side of ``least`` the mean is, at 80 % power; infinite where it is there."""
    from scipy.special import ndtri

    z = float(ndtri((1 + mean.level) / 2))
    error, gap = (mean.high - mean.low) / 2 / z, abs(mean.mean - least)
    return math.inf if gap == 0 else float(math.ceil(mean.n * ((z + float(ndtri(POWER))) * error / gap) ** 2))


def estimate(results: Results, column: np.ndarray | None) -> Estimate:
    """The mean of a score with its interval; undefined where there is none."""
    values = np.full((len(results), 1), np.nan) if column is None else column[:, None]
    return stats.estimates(values, groups=results.groups, level=results.level)[0]
