"""What a study is to do, checked before anything is done, and what it does where it is not told."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

import heatproof
from heatproof import methods as attribution
from heatproof import metrics as judging
from heatproof.errors import InputError, UsageError
from heatproof.fills import fills
from heatproof.fingerprint import model_digest, samples_digest
from heatproof.probe import Contrast, Goal, Probe, Target, as_probe
from heatproof.records import Samples, Splits
from heatproof.registry import Spec
from heatproof.studies.shuffled_labels import epochs_of, learnt_on

METHODS = ("grad-cam", "grad-cam-plus-plus", "ablation-cam")
CONTROLS = ("random", "edge", "absolute-input", "centre")
# By three fills, so that a sample for which one of them is enough by itself is told by the others.
REGIONS = tuple(
    f"region-{name}:fill={fill}"
    for name in ("pointing-game", "relevance-mass", "relevance-rank")
    for fill in ("mean", "noise", "donor")
)
METRICS = (
    "average-drop", "increase-in-confidence", "deletion", "insertion", "pointing-game", "relevance-mass",
    *REGIONS, "random-logit",
)  # fmt: skip
KEEP = {1: 0.3, 2: 0.9}  # by the number of axes: the share that average-drop and its kind keep of signals, of images
CHUNK = 256  # samples at most in a chunk
POOL = 256  # samples at most that donors are drawn from
Named = str | Spec
Aim = Target | Literal["label"]


@dataclass(frozen=True, eq=False)
class Plan:
    """Everything that decides the numbers of a study.

    Attributes:
        learn: what the model was trained on, where that is needed and known. shuffled: models like the one under
            question, trained on shuffled labels, by the epochs they had; absent: why there are none.
        maps: a folder where the maps of each chunk are kept and looked for, or None; see `studying.explaining`.
    """

    probe: Probe
    samples: Samples
    methods: tuple[Spec, ...]
    controls: tuple[Spec, ...]
    metrics: tuple[Spec, ...]
    target: Any
    fills: tuple[Spec, ...]
    seed: int
    level: float
    trials: bool = True
    pool: Tensor | None = None
    learn: Samples | None = None
    shuffled: Mapping[int, nn.Module] = field(default_factory=dict)
    absent: str = ""
    made: Mapping[str, str] = field(default_factory=dict)
    maps: Path | None = None

    @property
    def everyone(self) -> tuple[Spec, ...]:
        """The methods, then the controls."""
        return (*self.methods, *self.controls)

    @property
    def cells(self) -> int:
        """How many scores a sample has with one fill."""
        return len(self.everyone) * len(self.metrics)

    def chunks(self) -> list[Tensor]:
        """The samples, cut by their size alone, so that every run of the study cuts them alike."""
        size = max(1, min(CHUNK, 2**22 // max(1, math.prod(self.samples.x.shape[1:]))))
        return list(torch.arange(len(self.samples)).split(size))

    def x(self, rows: Tensor) -> Tensor:
        """The inputs of a chunk."""
        return self.samples.x[int(rows[0]) : int(rows[-1]) + 1]

    def goal(self, rows: Tensor, logits: Tensor) -> Goal:
        """What is explained of a chunk, given its class scores."""
        target = self.target
        if isinstance(target, (list, tuple, Tensor, np.ndarray)) and np.ndim(target):
            target = torch.as_tensor(target)[rows]
        return Goal.of(target, logits)

    def identity(self, fill: Spec) -> dict[str, Any]:
        """What two runs with one fill must share to be the same study."""
        found = {
            "version": heatproof.__version__,
            "model": model_digest(self.probe.model),
            "samples": samples_digest(self.samples),
            "score": self.probe.score,
            "layer": self.made["layer"],
            "methods": [str(s) for s in self.methods],
            "controls": [str(s) for s in self.controls],
            "metrics": [str(s) for s in self.metrics],
            "target": self.made["target"],
            "fill": str(fill),
            "seed": self.seed,
            "level": self.level,
        }
        found |= {} if self.trials else {"trials": False}
        return found | ({} if self.learn is None else {"learn": samples_digest(self.learn)})


def plan_of(
    model: nn.Module | Probe,
    samples: Samples | Splits,
    methods: Sequence[Named] | None,
    metrics: Sequence[Named] | None,
    *,
    target: Any = None,
    fill: Named | Sequence[Named] = "mean",
    controls: bool = True,
    trials: bool = True,
    seed: int = 0,
    level: float = 0.95,
) -> Plan:
    """The plan, after a look at everything it names.

    Raises: UnknownName, InputError, UsageError.
    """
    probe, learn, absent = as_probe(model), None, ""
    if isinstance(samples, Splits):
        learn, samples = samples
    if not len(samples):
        raise InputError("got no samples; a study needs at least one")
    if not 0 < level < 1:
        raise InputError(f"confidence: got {level}, expected a number between 0 and 1, such as 0.95")
    asked = attribution.parse(METHODS if methods is None else methods)
    judges = judging.parse(default_metrics(samples) if metrics is None else metrics)
    chosen_fills = tuple(dict.fromkeys(fills.spec(f) for f in ([fill] if isinstance(fill, (str, Spec)) else fill)))
    for name, found in (("methods", asked), ("metrics", judges), ("fills", chosen_fills)):
        if not found:
            raise UsageError(f"got an empty list of {name}; name at least one")
    if not epochs_of(judges):
        learn = None
    elif learn is None:
        learn, absent = learnt_on(probe.model)
    named = [spec for spec in asked if attribution.methods[spec.name].control]
    extra = [spec for spec in attribution.parse(CONTROLS) if controls and spec.name not in {s.name for s in named}]
    told = target if isinstance(target, (str, int, type(None))) else _digest(target)
    if isinstance(target, str):
        if target != "label":
            raise InputError(f"target: got {target!r}, expected None, 'label', a class, or one class a sample")
        target = samples.y
    first = probe.check(samples.x[:2])
    cams = any(attribution.methods[spec.name].family == "cam" for spec in asked)
    spread = torch.linspace(0, len(samples) - 1, min(POOL, len(samples))).round().long()
    donors = any("donor" in str(spec) for spec in (*chosen_fills, *judges))
    return Plan(
        probe,
        samples,
        tuple(spec for spec in asked if spec not in named),
        (*named, *extra),
        tuple(judges),
        target,
        chosen_fills,
        seed,
        level,
        trials,
        pool=probe.check(samples.take(spread).x[:]) if donors else None,
        learn=learn,
        absent=absent,
        made={"layer": probe.choice(first) if cams else "none", "target": str(told)},
    )


def keep_of(samples: Samples) -> float | None:
    """The share of positions that metrics keep by default: 0.3 of a signal, 0.9 of an image; None for their own."""
    return KEEP.get(len(samples.x.shape) - 2)


def kept(metric: Named, keep: float | None) -> Spec:
    """The metric, keeping the given share where it has such an option and does not say."""
    spec = judging.metrics.spec(metric)
    if keep is None or "keep" in spec.kwargs or "keep" not in judging.metrics[spec.name].options:
        return spec
    return Spec(spec.name, tuple(sorted((*spec.options, ("keep", keep)))))


def default_metrics(samples: Samples) -> list[Spec]:
    """The metrics of a study that is not told any."""
    return [kept(name, keep_of(samples)) for name in METRICS]


def _digest(target: Any) -> str:
    if isinstance(target, Contrast):
        return repr(target)
    if callable(target) and not isinstance(target, Tensor):
        return str(getattr(target, "__qualname__", type(target).__name__))
    return " ".join(map(str, torch.as_tensor(target).flatten().tolist()))
