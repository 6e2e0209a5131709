"""How long each method and each metric took.

What CAMs share (one pass through the model) is counted in equal parts. What metrics share (a curve, say) is counted
where it was first asked for. Maps equal to another method's are not judged again and take no time.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from heatproof.registry import Spec

NAME = "seconds"


class Clock:
    """Seconds by kind ("methods", "metrics", "trials") and name, counted from one lap to the next."""

    def __init__(self) -> None:
        self.spent: dict[str, dict[str, float]] = {"methods": {}, "metrics": {}, "trials": {}}
        self.start()

    def start(self) -> None:
        """Forget the time since the last lap."""
        self._last = time.perf_counter()

    def lap(self, kind: str, names: Sequence[Spec | str]) -> None:
        """Count the time since the last lap, in equal parts, for the given names."""
        now = time.perf_counter()
        for name in map(str, names):
            self.spent[kind][name] = self.spent[kind].get(name, 0.0) + (now - self._last) / len(names)
        self._last = now

    def array(self) -> dict[str, np.ndarray]:
        """What was counted, to be kept with the arrays of a chunk."""
        return {NAME: np.asarray(json.dumps(self.spent))}


def together(parts: Sequence[Mapping[str, np.ndarray]]) -> dict[str, Any]:
    """The seconds of all chunks: by method, by metric, and of the trials."""
    found: dict[str, dict[str, float]] = {}
    for part in parts:
        for kind, spent in json.loads(str(part[NAME])).items():
            for name, seconds in spent.items():
                known = found.setdefault(kind, {})
                known[name] = known.get(name, 0.0) + seconds
    rounded = {kind: {name: round(s, 6) for name, s in spent.items()} for kind, spent in found.items()}
    return {**rounded, "trials": sum(rounded.get("trials", {}).values())}
