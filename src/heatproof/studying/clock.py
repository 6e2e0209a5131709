"""How long each method and each metric took, and how many inputs went through the model.

What CAMs share (one pass through the model) is counted in equal parts. What metrics share (a curve, say) is counted
where it was first asked for. Maps equal to another method's are not judged again and take no time. Where a study has
several fills, each tells what they share: the methods, and the metrics that remove nothing.
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

    def share(self, other: Clock, metrics: Iterable[Spec]) -> None:
        """Take over what was done once for both: the methods, and the given metrics."""
        self.spent["methods"] = other.spent["methods"]
        self.spent["metrics"].update({str(m): other.spent["metrics"][str(m)] for m in metrics})

    def array(self) -> dict[str, np.ndarray]:
        """What was counted, to be kept with the arrays of a chunk."""
        return {NAME: np.asarray(json.dumps(self.spent))}


def together(parts: Sequence[Mapping[str, np.ndarray]]) -> tuple[dict[str, Any], dict[str, int]]:
    """The seconds of all chunks, by method, by metric, and of the trials; and the passes."""
    found: Costs = {kind: {} for kind in KINDS}
    for part in parts:
        for kind, spent in json.loads(str(part[NAME])).items():
            for name, value in spent.items():
                _add(found[kind], name, value)
    seconds = {kind: {name: round(s, 6) for name, s in found[kind].items()} for kind in ("methods", "metrics")}
    passes = {name: round(count) for name, count in found["passes"].items()}
    return {**seconds, "trials": round(sum(found["trials"].values()), 6)}, passes


def _add(spent: dict[str, float], name: str, value: float) -> None:
    spent[name] = spent.get(name, 0) + value
