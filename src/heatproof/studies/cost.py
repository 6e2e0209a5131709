"""What a study will cost, counted before it runs."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import nn

from heatproof.errors import NotApplicable
from heatproof.probe import Probe, as_probe
from heatproof.probe.worth import DONORS
from heatproof.records import Samples, Splits
from heatproof.studies.options import StudyOptions
from heatproof.studies.plan import Plan, plan_of
from heatproof.studies.scores import Job, chunks_of
from heatproof.studies.skill import COPIES, SEEN
from heatproof.studies.twins import Twin, epochs_of, twins_of

LOOK = 2  # samples that are explained and judged to count the passes
WEIGHT = {"forward": 1.0, "backward": 2.0, "tail": 1.0}  # in forward passes; a tail costs at most one


@dataclass(frozen=True)
class Cost:
    """Passes through the model, each of one sample, by kind: forward, backward, tail.

    Attributes:
        scores: passes for maps and metrics. self_checks: for those of metrics and of the model.
        training: for networks that are trained because a metric needs them.
        seconds: at most about this long on this machine, from one timed pass.
    """

    samples: int
    scores: Mapping[str, int]
    self_checks: Mapping[str, int]
    training: Mapping[str, int]
    seconds: float

    @property
    def passes(self) -> int:
        """All passes together."""
        return sum(sum(part.values()) for part in (self.scores, self.self_checks, self.training))

    def __str__(self) -> str:
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in sorted(self.scores.items()) if count)
        others = f"{sum(self.self_checks.values()):,} for self-checks"
        if self.training:
            others += f", {sum(self.training.values()):,} to train other networks"
        return f"{self.passes:,} passes for {self.samples:,} samples ({kinds}; {others}), about {self.seconds:,.0f} s"


@torch.inference_mode(False)
def cost(model: nn.Module | Probe, samples: Samples | Splits, options: StudyOptions) -> Cost:
    """How many passes the study of these samples will take: two of them are judged, counted, and scaled up.

    Raises: what `run` raises for such arguments.
    """
    plan, training = _untrained(plan_of(replace(as_probe(model)), samples, options))
    probe, count, n = plan.probe, min(LOOK, len(plan.samples)), len(plan.samples)
    few = replace(plan, samples=plan.samples.take(range(count)))
    rows = torch.arange(count)
    others = (rows + 1)[:, None].expand(count, DONORS) % count
    job = Job(rows, probe.logits(few.inputs(rows)).cpu(), others, few.fills)
    _passes(few, job)  # what a model costs once only is paid here
    judged, checked = _passes(few, job)
    scores = {kind: round(passes * n / count) for kind, passes in judged.items()}
    scores["forward"] = scores.get("forward", 0) + n  # the predictions
    self_checks = {kind: round(passes * n / count) for kind, passes in checked.items()}
    if options.self_checks:
        self_checks["forward"] = self_checks.get("forward", 0) + (1 + COPIES) * min(SEEN, n)
    work = sum(WEIGHT[kind] * passes for part in (scores, self_checks, training) for kind, passes in part.items())
    return Cost(n, scores, self_checks, training, work * _seconds(probe, plan.samples))


def _untrained(plan: Plan) -> tuple[Plan, dict[str, int]]:
    """The plan with the model itself for those that are to be trained, and what training takes."""
    if plan.learn is None:
        return plan, {}
    epochs, obstacles = dict[Twin, int](), dict(plan.obstacles)
    for twin in twins_of(plan.metrics):
        try:
            epochs[twin] = epochs_of(plan.probe, twin)
        except NotApplicable as error:
            obstacles[twin.need] = str(error)
    passes = sum(epochs.values()) * len(plan.learn)
    models = dict.fromkeys(epochs, plan.probe.model)
    return replace(plan, twins=models, obstacles=obstacles), {"forward": passes, "backward": passes}


def _passes(plan: Plan, job: Job) -> tuple[Counter[str], Counter[str]]:
    """The passes that judging these samples takes, and those of the self-checks of metrics on them."""
    counts = []
    for self_checks in (False, plan.self_checks):
        before = Counter(plan.probe.passes)
        chunks_of(replace(plan, self_checks=self_checks), job)
        counts.append(Counter(plan.probe.passes) - before)
    return counts[0], counts[1] - counts[0]


def _seconds(probe: Probe, samples: Samples) -> float:
    """Seconds of one forward pass of one sample, in a batch as large as they will be."""
    x = probe.check(samples.x[: min(len(samples), 64)])
    start = time.perf_counter()
    probe.logits(x)
    return (time.perf_counter() - start) / len(x)
