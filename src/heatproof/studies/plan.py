"""What a study does: its options, checked and completed before anything runs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from heatproof import methods as attribution
from heatproof import metrics as judging
from heatproof import version
from heatproof.errors import InputError
from heatproof.fills import fills
from heatproof.fingerprint import model_digest, samples_digest
from heatproof.methods import default_controls
from heatproof.probe import Contrast, Goal, Probe, as_probe
from heatproof.records import Samples, Splits
from heatproof.registry import Spec
from heatproof.studies.options import StudyOptions
from heatproof.studies.shuffled_labels import epochs_of, training_samples

METHODS = ("grad-cam", "grad-cam-plus-plus", "ablation-cam")
# With three fills, so that a sample for which one of them suffices to change the prediction is judged by the others.
REGIONS = tuple(
    f"region-{name}:fill={fill}"
    for name in ("pointing-game", "relevance-mass", "relevance-rank")
    for fill in ("mean", "noise", "donor")
)
METRICS = (
    "average-drop", "increase-in-confidence", "deletion", "insertion", "pointing-game", "relevance-mass",
    *REGIONS, "random-logit",
)  # fmt: skip
FILLS = ("mean",)
KEEP = {1: 0.3, 2: 0.9}  # the share of positions that metrics keep, by the number of axes of an input
CHUNK = 256  # samples at most in a chunk
POOL = 256  # samples at most that donors are drawn from


@dataclass(frozen=True, eq=False)
class Plan:
    """Everything that decides the numbers of a study.

    Attributes:
        methods, controls, metrics, fills: checked specs, without repeats.
        target: the class explained, as `heatproof.Probe` takes it. target_text: the same in words.
        layer: which layers CAMs use, in words; "none" without CAMs.
        pool: samples that fills draw donors from, where one does.
        learn: the training samples, where a metric needs them and they are available. obstacle: why they are not, or
            why no model can be trained on them. shuffled: models trained on shuffled labels, by the number of epochs.
    """

    probe: Probe
    samples: Samples
    methods: tuple[Spec, ...]
    controls: tuple[Spec, ...]
    metrics: tuple[Spec, ...]
    fills: tuple[Spec, ...]
    target: Any
    target_text: str
    layer: str
    self_checks: bool
    level: float
    seed: int
    pool: Tensor | None = None
    learn: Samples | None = None
    obstacle: str = ""
    shuffled: Mapping[int, nn.Module] = field(default_factory=dict)

    @property
    def all_methods(self) -> tuple[Spec, ...]:
        """The methods, then the controls."""
        return (*self.methods, *self.controls)

    @property
    def cells(self) -> list[tuple[Spec, Spec]]:
        """Every method and control with every metric."""
        return [(method, metric) for method in self.all_methods for metric in self.metrics]

    def chunks(self) -> list[Tensor]:
        """The places of the samples of each chunk; they depend on the size of the samples alone."""
        size = max(1, min(CHUNK, 2**22 // max(1, math.prod(self.samples.x.shape[1:]))))
        return list(torch.arange(len(self.samples)).split(size))

    def inputs(self, rows: Tensor) -> Tensor:
        """The inputs of a chunk."""
        return self.samples.x[int(rows[0]) : int(rows[-1]) + 1]

    def goal(self, rows: Tensor, logits: Tensor) -> Goal:
        """What is explained of a chunk, given its class scores."""
        target = self.target
        if _is_array(target):
            target = torch.as_tensor(target)[rows]
        return Goal.of(target, logits)

    def identity(self, fill: Spec) -> dict[str, Any]:
        """What two studies with one fill must share to be the same one."""
        identity = {
            "version": version.__version__,
            "model": model_digest(self.probe.model),
            "samples": samples_digest(self.samples),
            "score": self.probe.score,
            "layer": self.layer,
            "methods": [str(s) for s in self.methods],
            "controls": [str(s) for s in self.controls],
            "metrics": [str(s) for s in self.metrics],
            "target": self.target_text,
            "fill": str(fill),
            "self_checks": self.self_checks,
            "level": self.level,
            "seed": self.seed,
        }
        return identity | ({} if self.learn is None else {"learn": samples_digest(self.learn)})


def plan_of(model: nn.Module | Probe, samples: Samples | Splits, options: StudyOptions) -> Plan:
    """The plan, with every option checked and the empty ones filled in.

    Raises: UnknownName, InputError, UsageError.
    """
    probe, learn, obstacle = as_probe(model), None, ""
    if options.layer:
        probe = replace(probe, layer=options.layer)
    if isinstance(samples, Splits):
        learn, samples = samples
    if not len(samples):
        raise InputError("got no samples; a study needs at least one")
    keep = keep_of(samples) if options.keep is None else options.keep
    metrics = judging.parse(with_keep(metric, keep) for metric in options.metrics or METRICS)
    methods = attribution.parse(options.methods or METHODS)
    controls = [spec for spec in methods if attribution.methods[spec.name].control]
    if options.controls:
        controls += [
            spec
            for spec in attribution.parse(default_controls())
            if spec.name not in {control.name for control in controls}
        ]
    chosen_fills = tuple(dict.fromkeys(fills.spec(fill) for fill in options.fills or FILLS))
    if not epochs_of(metrics):
        learn = None
    elif learn is None:
        learn, obstacle = training_samples(probe.model)
    first = probe.check(samples.x[:2])
    donors = any(fills[fill.name].donors for fill in chosen_fills) or any(map(judging.needs_donors, metrics))
    return Plan(
        probe,
        samples,
        tuple(spec for spec in methods if spec not in controls),
        tuple(controls),
        tuple(metrics),
        chosen_fills,
        target=_target(options.target, samples),
        target_text=_target_text(options.target),
        layer=probe.choice(first)
        if any(attribution.methods[spec.name].family == "cam" for spec in methods)
        else "none",
        self_checks=options.self_checks,
        level=options.level,
        seed=options.seed,
        pool=_pool(probe, samples) if donors else None,
        learn=learn,
        obstacle=obstacle,
    )


def keep_of(samples: Samples) -> float | None:
    """The share of positions that metrics keep by default: 0.3 of a signal, 0.9 of an image; None for their own."""
    return KEEP.get(len(samples.x.shape) - 2)


def with_keep(metric: str | Spec, keep: float | None) -> Spec:
    """The metric with the given share of positions, where it has such an option and its spec does not set it."""
    spec = judging.metrics.spec(metric)
    if keep is None or "keep" in spec.kwargs or "keep" not in judging.metrics[spec.name].options:
        return spec
    return Spec(spec.name, tuple(sorted((*spec.options, ("keep", keep)))))


def _pool(probe: Probe, samples: Samples) -> Tensor:
    spread = torch.linspace(0, len(samples) - 1, min(POOL, len(samples))).round().long()
    return probe.check(samples.take(spread).x[:])


def _is_array(target: Any) -> bool:
    return isinstance(target, (list, tuple, Tensor, np.ndarray)) and np.ndim(target) > 0


def _target(target: Any, samples: Samples) -> Any:
    """The class explained, with "label" replaced by the labels.

    Raises: InputError.
    """
    if isinstance(target, str):
        if target != "label":
            raise InputError(f"target: got {target!r}, expected None, 'label', a class, or one class a sample")
        return samples.y
    if _is_array(target) and tuple(np.shape(target)) != (len(samples),):
        raise InputError(f"target: got shape {tuple(np.shape(target))}, expected one class for each of {len(samples)}")
    return target


def _target_text(target: Any) -> str:
    if isinstance(target, (str, int, type(None))):
        return str(target)
    if isinstance(target, Contrast):
        return repr(target)
    if callable(target) and not isinstance(target, Tensor):
        return str(getattr(target, "__qualname__", type(target).__name__))
    return " ".join(map(str, torch.as_tensor(target).flatten().tolist()))
