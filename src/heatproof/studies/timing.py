"""How long each method, metric and self-check took, and how many inputs went through the model.

What CAMs share (one pass through the model) is counted in equal parts. What metrics share (a curve, say) is counted
where it was first asked for. Maps equal to another method's are not judged again and take no time. Where a study has
several fills, each one's results hold the seconds of what they share: the methods, the metrics that remove nothing, and
their self-checks.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from heatproof.registry import Spec

Stage = Literal["methods", "metrics", "self_checks"]
STAGES: tuple[Stage, ...] = ("methods", "metrics", "self_checks")
PASSES = "passes"
CHANGED = "another class"  # explained once by every method, as its control
EVIDENCE, OWN = "evidence", "own controls"
Costs = dict[str, dict[str, float]]


class Clock:
    """Seconds by stage ("methods", "metrics", "self_checks") and name, and passes, from one lap to the next.

    Attributes:
        passes: those of the probe under watch, a counter that goes on. costs: what was counted.
    """

    def __init__(self, passes: Counter[str]) -> None:
        self.passes = passes
        self.costs: Costs = {name: {} for name in (*STAGES, PASSES)}
        self.start()

    def start(self) -> None:
        """Leave out what was since the last lap."""
        self._last, self._before = time.perf_counter(), Counter(self.passes)

    def lap(self, stage: Stage, names: Sequence[Spec | str]) -> None:
        """Count the time since the last lap, in equal parts, for the given names, and the passes since then."""
        now = time.perf_counter()
        for name in names:
            _add(self.costs[stage], str(name), (now - self._last) / len(names))
        for name, count in (self.passes - self._before).items():
            _add(self.costs[PASSES], name, count)
        self.start()

    def add(self, costs: Costs) -> None:
        """Count what another clock has counted."""
        for part, values in costs.items():
            for name, value in values.items():
                _add(self.costs[part], name, value)

    def share(self, other: Clock, metrics: Iterable[Spec]) -> None:
        """Take over what was done once for both: the methods, the given metrics, and what their self-checks share."""
        names = {*map(str, metrics), CHANGED, EVIDENCE, OWN}
        self.costs["methods"] = other.costs["methods"]
        for stage in ("metrics", "self_checks"):
            self.costs[stage].update({name: s for name, s in other.costs[stage].items() if name in names})


def total_costs(parts: Iterable[Costs]) -> tuple[dict[str, Any], dict[str, int]]:
    """The seconds of all chunks, by method, by metric, and of all self-checks; and the passes."""
    clock = Clock(Counter())
    for costs in parts:
        clock.add(costs)
    seconds: dict[str, Any] = {stage: _rounded(clock.costs[stage]) for stage in ("methods", "metrics")}
    seconds["self_checks"] = round(sum(clock.costs["self_checks"].values()), 6)
    return seconds, {name: round(count) for name, count in clock.costs[PASSES].items()}


def _rounded(seconds: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, 6) for name, value in seconds.items()}


def _add(costs: dict[str, float], name: str, value: float) -> None:
    costs[name] = costs.get(name, 0) + value
