"""What a study does: its options, checked and completed before anything runs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from heatproof import draws, version
from heatproof import methods as attribution
from heatproof import metrics as judging
from heatproof.annotations import Task
from heatproof.errors import InputError, LayerError
from heatproof.fills import fills
from heatproof.fingerprint import model_digest, samples_digest
from heatproof.methods import default_controls
from heatproof.models.inputs import check_inputs
from heatproof.probe import SEVERAL, Goal, Outputs, Probe, as_probe, probe_for
from heatproof.probe.worth import donors_of
from heatproof.records import Samples, Splits
from heatproof.registry import Spec
from heatproof.studies.options import StudyOptions
from heatproof.studies.targets import explained, is_array
from heatproof.studies.twins import Twin, training_samples, twins_of
from heatproof.studies.witness import Witness

METHODS = ("grad-cam", "grad-cam-plus-plus", "ablation-cam")
METRICS = (
    "average-drop", "increase-in-confidence", "deletion", "insertion", "pointing-game", "relevance-mass",
    "window-localisation", "window-correlation", "random-logit",
)  # fmt: skip
# The outputs of a regression are no shares of anything, and there is no other class.
REGRESSION_METRICS = (
    "deletion", "insertion", "faithfulness-correlation", "pointing-game", "relevance-mass", "window-localisation",
    "window-correlation", "parameter-randomisation",
)  # fmt: skip
FILLS = ("mean",)
KEEP = {1: 0.3, 2: 0.9}  # the share of positions that metrics keep, by the number of axes of an input
CHUNK = 256  # samples at most in a chunk
FORMAT = 2  # of what is computed of a chunk; another one is not continued
POOL = 256  # samples at most that donors are drawn from


@dataclass(frozen=True, eq=False)
class Plan:
    """Everything that decides the numbers of a study.

    Attributes:
        methods, controls, metrics, fills: checked specs, without repeats.
        target: the class or label explained, as `heatproof.Probe` takes it. target_text: the same in words.
        pairs: how many samples, and pairs of a sample and a positive label, are studied; None where rows are samples.
        originals: the samples before each of their positive labels had a row; None where rows are samples.
        layer: which layers CAMs use, in words; "none" without CAMs.
        outputs: how the model's output is read.
        pool: samples that fills and methods draw donors from, where one does.
        learn: the training samples, where a metric needs them and they are available. twins: networks trained on them
            for metrics. obstacles: by what metrics need, why there is no such network.
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
    outputs: Outputs
    self_checks: bool
    level: float
    smallest_difference: float
    seed: int
    pairs: Mapping[str, int] | None = None
    originals: Samples | None = None
    pool: Tensor | None = None
    learn: Samples | None = None
    obstacles: Mapping[str, str] = field(default_factory=dict)
    twins: Mapping[Twin, nn.Module] = field(default_factory=dict)

    @property
    def task(self) -> Task:
        """What the samples ask of the model."""
        return self.samples.task

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
        size = max(2, min(CHUNK, 2**22 // max(1, math.prod(self.samples.x.shape[1:]))))
        parts = list(torch.arange(len(self.samples)).split(size))
        if len(parts) > 1 and len(parts[-1]) == 1:  # its maps must find another sample's to be compared with
            parts[-2:] = [torch.cat(parts[-2:])]
        return parts

    def inputs(self, rows: Tensor) -> Tensor:
        """The inputs of a chunk."""
        return self.samples.x[int(rows[0]) : int(rows[-1]) + 1]

    def goal(self, rows: Tensor, logits: Tensor) -> Goal:
        """What is explained of a chunk, given its class scores."""
        target = self.target
        if is_array(target):
            target = torch.as_tensor(target)[rows]
        return Goal.of(target, logits, self.task)

    @property
    def questions(self) -> list[Spec]:
        """The metrics that answer a question of the verdict."""
        return [metric for metric in self.metrics if judging.metrics[metric.name].question is not None]

    def donors(self, logits: Tensor) -> Tensor:
        """The places of the donors of every sample (N, D), given the class scores of all of them."""
        rows = torch.arange(len(logits))
        seeds = draws.seeds(self.seed, "donors", rows)
        return donors_of(self.goal(rows, logits), logits, logits, seeds, itself=rows)

    def witness(self) -> Witness:
        """What else must be as it was for a study in a folder to be this one."""
        return Witness(self.probe, self.samples if self.originals is None else self.originals, self.learn)

    def identity(self, fill: Spec) -> dict[str, Any]:
        """What two studies with one fill must share to be the same one."""
        identity = {
            "version": version.__version__,
            "format": FORMAT,
            "model": model_digest(self.probe.model),
            "samples": samples_digest(self.samples),
            "score": self.probe.score,
            "layer": self.layer,
            "outputs": self.outputs.statement,
            "methods": [str(s) for s in self.methods],
            "controls": [str(s) for s in self.controls],
            "metrics": [str(s) for s in self.metrics],
            "target": self.target_text,
            "fill": str(fill),
            "self_checks": self.self_checks,
            "level": self.level,
            "smallest_difference": self.smallest_difference,
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
    if options.outputs is not None:
        probe = replace(probe, outputs=options.outputs)
    if options.layout is not None:
        probe = replace(probe, layout=options.layout)
    if isinstance(samples, Splits):
        learn, samples = samples
    if not len(samples):
        raise InputError("got no samples; a study needs at least one")
    keep = keep_of(samples) if options.keep is None else options.keep
    by_default = REGRESSION_METRICS if samples.task == "regression" else METRICS
    metrics = judging.parse(with_keep(metric, keep) for metric in options.metrics or by_default)
    methods = attribution.parse(options.methods or METHODS)
    controls = [spec for spec in methods if attribution.methods[spec.name].control]
    if options.controls:
        controls += [
            spec
            for spec in attribution.parse(default_controls())
            if spec.name not in {control.name for control in controls}
        ]
    chosen_fills = tuple(dict.fromkeys(fills.spec(fill) for fill in options.fills or FILLS))
    twins = twins_of(metrics)
    if not twins:
        learn = None
    elif learn is None:
        learn, obstacle = training_samples(probe.model)
    check_inputs(probe.model, samples)
    asked = explained(options.target, samples)
    originals, samples = samples, asked.samples
    first = probe.check(samples.x[:SEVERAL])
    probe = probe_for(probe, first, samples.task, len(samples.classes))
    _check_width(probe, first, samples)
    donors = any(fills[fill.name].donors for fill in chosen_fills) or any(map(judging.needs_donors, metrics))
    donors = donors or any(map(attribution.needs_donors, methods))
    return Plan(
        probe,
        samples,
        tuple(spec for spec in methods if spec not in controls),
        tuple(controls),
        tuple(metrics),
        chosen_fills,
        target=asked.target,
        target_text=asked.text,
        pairs=asked.pairs,
        originals=None if asked.pairs is None else originals,
        layer=_layers(probe, first, methods),
        outputs=probe.outputs_for(first),
        self_checks=options.self_checks,
        level=options.level,
        smallest_difference=options.smallest_difference,
        seed=options.seed,
        pool=_pool(probe, samples) if donors else None,
        learn=learn,
        obstacles={twin.need: obstacle for twin in twins if obstacle},
    )


def _layers(probe: Probe, x: Tensor, methods: Sequence[Spec]) -> str:
    """Which layers CAMs use, in words; "none" without CAMs, or where the model has none and other methods go on."""
    cams = [spec for spec in methods if attribution.methods[spec.name].family == "cam"]
    try:
        return probe.choice(x) if cams else "none"
    except LayerError:
        if probe.layer is not None or len(cams) == len(methods):
            raise
        return "none"


def _check_width(probe: Probe, x: Tensor, samples: Samples) -> None:
    """Refuse a model whose outputs are not one a class or label, or one for a regression."""
    outputs = probe.outputs_for(x)
    width = outputs.classes
    if samples.task == "classes":
        if outputs.trouble is None and width != len(samples.classes):
            raise InputError(
                f"the model has {width} outputs, the samples have {len(samples.classes)} classes; "
                "name the samples' classes as the model was trained on, in its order"
            )
    elif width != len(samples.classes):
        wanted = f"{len(samples.classes)} labels" if samples.task == "labels" else "one value each"
        raise InputError(f"the model has {width} outputs, the samples have {wanted}; expected the same number")


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
