"""How long each method and each metric took, and how many inputs went through the model.

What CAMs share (one pass through the model) is counted in equal parts. What metrics share (a curve, say) is counted
where it was first asked for. Maps equal to another method's are not judged again and take no time. Where a study has
several fills, each tells the seconds of what they share: the methods, the metrics that remove nothing and their trials.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from heatproof.registry import Spec

NAME = "cost"
KINDS = ("methods", "metrics", "trials", "passes")
CHANGED = "changed inputs"  # made, and explained, once for the trials of all metrics
Costs = dict[str, dict[str, float]]


class Clock:
    """Seconds by kind ("methods", "metrics", "trials") and name, and passes, from one lap to the next.

    Attributes:
        passes: those of the probe under watch, a counter that goes on.
    """

    def __init__(self, passes: Counter[str]) -> None:
        self.passes = passes
        self.spent: Costs = {kind: {} for kind in KINDS}
        self.start()

    def start(self) -> None:
        """Forget what was since the last lap."""
        self._last, self._before = time.perf_counter(), Counter(self.passes)

    def lap(self, kind: str, names: Sequence[Spec | str]) -> None:
        """Count the time since the last lap, in equal parts, for the given names, and the passes since then."""
        now = time.perf_counter()
        for name in names:
            _add(self.spent[kind], str(name), (now - self._last) / len(names))
        for name, count in (self.passes - self._before).items():
            _add(self.spent["passes"], name, count)
        self.start()

    def add(self, spent: Costs) -> None:
        """Count what another clock has counted."""
        for kind, costs in spent.items():
            for name, value in costs.items():
                _add(self.spent[kind], name, value)

    def share(self, other: Clock, metrics: Iterable[Spec]) -> None:
        """Take over what was done once for both: the methods, the given metrics, and what their trials share."""
        names = {*map(str, metrics), CHANGED}
        self.spent["methods"] = other.spent["methods"]
        for kind in ("metrics", "trials"):
            self.spent[kind].update({name: s for name, s in other.spent[kind].items() if name in names})

    def array(self) -> dict[str, np.ndarray]:
        """What was counted, to be kept with the arrays of a chunk."""
        return {NAME: np.asarray(json.dumps(self.spent))}


def together(parts: Sequence[Mapping[str, np.ndarray]]) -> tuple[dict[str, Any], dict[str, int]]:
    """The seconds of all chunks, by method, by metric, and of the trials; and the passes."""
    found = Clock(Counter())
    for part in parts:
        found.add(json.loads(str(part[NAME])))
    spent = found.spent
    seconds = {kind: {name: round(s, 6) for name, s in spent[kind].items()} for kind in ("methods", "metrics")}
    passes = {name: round(count) for name, count in spent["passes"].items()}
    return {**seconds, "trials": round(sum(spent["trials"].values()), 6)}, passes


def _add(spent: dict[str, float], name: str, value: float) -> None:
    spent[name] = spent.get(name, 0) + value
