"""What a study will cost, counted before it runs."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import nn

from heatproof.probe import Probe, as_probe
from heatproof.records import Samples
from heatproof.registry import Spec
from heatproof.studying import run, trials
from heatproof.studying.clock import Clock

LOOK = 2  # samples that are explained and judged to count the passes
WEIGHT = {"forward": 1.0, "backward": 2.0, "tail": 1.0}  # in forward passes; a tail costs at most one


@dataclass(frozen=True)
class Cost:
    """Passes through the model, each of one sample.

    Attributes:
        judging: passes by kind (forward, backward, tail) for maps and metrics. trying: those of the trials of metrics
            and model. seconds: at most about this long on this machine, from one timed pass.
    """

    samples: int
    judging: Mapping[str, int]
    trying: Mapping[str, int]
    seconds: float

    @property
    def passes(self) -> int:
        """All passes together."""
        return sum(self.judging.values()) + sum(self.trying.values())

    def __str__(self) -> str:
        kinds = ", ".join(f"{n:,} {kind}" for kind, n in sorted(self.judging.items()) if n)
        return (
            f"{self.passes:,} passes for {self.samples:,} samples ({kinds}; {sum(self.trying.values()):,} to try the "
            f"metrics and the model), about {self.seconds:,.0f} s"
        )


def cost(
    model: nn.Module | Probe,
    samples: Samples,
    methods: Sequence[str | Spec] | None = None,
    metrics: Sequence[str | Spec] | None = None,
    *,
    fill: str | Spec = "mean",
    controls: bool = True,
) -> Cost:
    """How many passes the study of these samples will make: two of them are judged, counted, and scaled up.

    Raises: what `study` raises for such arguments.
    """
    probe = replace(as_probe(model))
    plan = run._plan(probe, samples, methods, metrics, None, fill, controls, 0, 0.95)
    rows = torch.arange(min(LOOK, len(samples)))
    logits = torch.zeros(len(samples), len(probe.logits(plan.x(rows))[0]))
    logits[rows] = probe.logits(plan.x(rows)).cpu()
    run._judged(plan, rows, logits, [], lambda _: None, Clock())  # what a model costs once only is paid here
    count, n = len(rows), len(samples)
    before = Counter(probe.passes)
    _, base, maps = run._judged(plan, rows, logits, [], lambda _: None, Clock())
    judged = Counter(probe.passes) - before
    before = Counter(probe.passes)
    run._tried(plan, rows, base, maps)
    tried = Counter(probe.passes) - before
    judging = {kind: round(rows_ * n / count) for kind, rows_ in judged.items()}
    judging["forward"] = judging.get("forward", 0) + n  # the predictions
    share = min(trials.TRIED, n) / count
    trying = {kind: round(rows_ * share) for kind, rows_ in tried.items()}
    trying["forward"] = trying.get("forward", 0) + (1 + trials.TWINS) * min(trials.SEEN, n)
    work = sum(WEIGHT[kind] * rows_ for found in (judging, trying) for kind, rows_ in found.items())
    return Cost(n, judging, trying, work * _pass(probe, samples))


def _pass(probe: Probe, samples: Samples) -> float:
    """Seconds of one forward pass of one sample, in a batch as large as they will be."""
    x = probe.check(samples.x[: min(len(samples), 64)])
    start = time.perf_counter()
    probe.logits(x)
    return (time.perf_counter() - start) / len(x)
