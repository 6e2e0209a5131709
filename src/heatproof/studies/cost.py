"""What a study will cost, counted before it runs."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from heatproof.probe import Probe, as_probe
from heatproof.records import Samples, Splits
from heatproof.registry import Spec
from heatproof.studies import self_checks as making
from heatproof.studies.chunk import chunk
from heatproof.studies.plan import Plan, plan_of
from heatproof.studies.shuffled_labels import epochs_of

LOOK = 2  # samples that are explained and judged to count the passes
WEIGHT = {"forward": 1.0, "backward": 2.0, "tail": 1.0}  # in forward passes; a tail costs at most one


@dataclass(frozen=True)
class Cost:
    """Passes through the model, each of one sample.

    Attributes:
        judging: passes by kind (forward, backward, tail) for maps and metrics. trying: those of the trials of metrics
            and model, and of training on shuffled labels where that is asked for. seconds: at most about this long on
            this machine, from one timed pass.
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
    samples: Samples | Splits,
    methods: Sequence[str | Spec] | None = None,
    metrics: Sequence[str | Spec] | None = None,
    *,
    fill: str | Spec | list[str] | tuple[str | Spec, ...] = "mean",
    controls: bool = True,
    trials: bool = True,
) -> Cost:
    """How many passes the study of these samples will make: two of them are judged, counted, and scaled up.

    Raises: what `study` raises for such arguments.
    """
    probe = replace(as_probe(model))
    plan = plan_of(probe, samples, methods, metrics, fill=fill, controls=controls, trials=trials)
    plan, learning = _untaught(plan)
    count, n = min(LOOK, len(plan.samples)), len(plan.samples)
    few = replace(plan, samples=plan.samples.take(range(count)))
    rows = torch.arange(count)
    logits = probe.logits(few.x(rows)).cpu()
    _passes(few, rows, logits)  # what a model costs once only is paid here
    judged, tried = _passes(few, rows, logits)
    judging = {kind: round(found * n / count) for kind, found in judged.items()}
    judging["forward"] = judging.get("forward", 0) + n  # the predictions
    share = min(making.TRIED, n) / count
    trying = {kind: round(found * share) for kind, found in tried.items()}
    for kind in learning:
        trying[kind] = trying.get(kind, 0) + learning[kind]
    if trials:
        trying["forward"] = trying.get("forward", 0) + (1 + making.TWINS) * min(making.SEEN, n)
    work = sum(WEIGHT[kind] * passes for found in (judging, trying) for kind, passes in found.items())
    return Cost(n, judging, trying, work * _pass(probe, plan.samples))


def _untaught(plan: Plan) -> tuple[Plan, Counter[str]]:
    """The plan with the model itself for those that are to be trained on shuffled labels, and what training takes."""
    epochs = epochs_of(plan.metrics)
    if plan.learn is None or not epochs:
        return plan, Counter()
    passes = sum(epochs) * len(plan.learn)
    return replace(plan, shuffled=dict.fromkeys(epochs, plan.probe.model)), Counter(forward=passes, backward=passes)


def _passes(plan: Plan, rows: Tensor, logits: Tensor) -> tuple[Counter[str], Counter[str]]:
    """The passes that judging these samples takes, and trying the metrics on them."""
    found = []
    for trials in (False, True) if plan.trials else (False, False):
        before = Counter(plan.probe.passes)
        chunk(replace(plan, trials=trials), rows, logits, (), plan.fills)
        found.append(Counter(plan.probe.passes) - before)
    return found[0], found[1] - found[0]


def _pass(probe: Probe, samples: Samples) -> float:
    """Seconds of one forward pass of one sample, in a batch as large as they will be."""
    x = probe.check(samples.x[: min(len(samples), 64)])
    start = time.perf_counter()
    probe.logits(x)
    return (time.perf_counter() - start) / len(x)
