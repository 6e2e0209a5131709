"""The options of a study: one record for Python, YAML and the command line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from heatproof.registry import Spec
from heatproof.settings import Range, Setting, setting, settle

PANEL = "How to judge"
SHARE = Range(0, 1, open=True)
METHODS = Setting("Attribution methods; see heatproof list methods.", "A,B", PANEL, names="methods")
METRICS = Setting("Metrics; see heatproof list metrics.", "A,B", PANEL, names="metrics")
FILLS = Setting(
    "What removed positions are replaced by, a study each; by default black, blur and mean with images, else mean.",
    "A,B", PANEL, names="fills", flag="--fill",
)  # fmt: skip
KEEP = Setting(
    "Share of positions that average-drop and similar metrics keep; by default 0.3 of a signal, 0.9 of an image.",
    "SHARE", PANEL, range=SHARE,
)  # fmt: skip
LAYER = Setting("Layer for CAMs, several with commas between them; by default the last with positions.", "NAME", PANEL)
LAYOUT = Setting(
    "How the layer's output is read: nchw, nhwc, ntc or tokens:1+14x14, say; by default as observed.", "AXES", PANEL
)
OUTPUTS = Setting(
    "What the model returns: logits, probabilities, log-probabilities, binary-logit, binary-probability, label-logits, "
    "label-probabilities or regression; an entry of a nested output; or ENTRY:KIND. By default decided from the model.",
    "KIND", PANEL,
)  # fmt: skip
TARGET = Setting(
    "Class or label that is explained: its name or number, label for the true class, positive for every positive "
    "label; by default the predicted one.",
    "CLASS", PANEL,
)  # fmt: skip
CONTROLS = Setting("Judge random, edge, absolute-input and centre maps too.", "", PANEL)
SELF_CHECKS = Setting(
    "Compare each method with its own controls, and the model with randomised copies; without, no method is named.",
    "", PANEL,
)  # fmt: skip
LEVEL = Setting("Confidence level of all intervals and tests.", "LEVEL", PANEL, range=SHARE)
DIFFERENCE = Setting(
    "Smallest difference between methods that matters to the verdict; scores are 0 at chance and 1 for a perfect map.",
    "D", PANEL, range=SHARE,
)  # fmt: skip
SEED = Setting("All random draws follow from it.", "N", PANEL, range=Range(0, 2**63 - 1))


@dataclass(frozen=True)
class StudyOptions:
    """What decides the numbers of a study beside the model and the samples.

    Each value is checked for its type and range. `heatproof.settings.create` also takes text for specs.

    Attributes:
        methods, metrics, fills: specs; empty for the study's own choice. With several fills all methods are explained
            once and judged with each fill.
        keep: the share of positions that metrics with such an option keep, where their spec does not say; None for 0.3
            of a signal, 0.9 of an image and else the metric's own.
        layer: the layers for CAMs; empty for the probe's own choice.
        layout: how the output of these layers is read; None for the probe's own choice.
        outputs: what the model returns, as `heatproof.Probe` takes it; None for the probe's own choice.
        target: the class or label explained; None for the predicted one (of labels the most probable one), a name or
            number, one number a sample, "label" for the true class, "positive" for every positive label of every
            sample, each a row of its own, or what else `heatproof.Probe` takes. None for a regression.
        controls: whether random, edge, absolute-input and centre maps are judged too.
        self_checks: whether the methods' own controls are computed, and the model is compared with randomised copies;
            without them the verdict names no method.
        smallest_difference: between methods, that matters to the verdict.
        level: the confidence level of all intervals and tests. seed: all random draws follow from it.

    Raises: UsageError.
    """

    methods: tuple[Spec, ...] = setting((), METHODS)
    metrics: tuple[Spec, ...] = setting((), METRICS)
    fills: tuple[Spec, ...] = setting((), FILLS)
    keep: float | None = setting(None, KEEP)
    layer: tuple[str, ...] = setting((), LAYER)
    layout: str | None = setting(None, LAYOUT)
    outputs: str | None = setting(None, OUTPUTS)
    target: Any = setting(None, TARGET)
    controls: bool = setting(True, CONTROLS)
    self_checks: bool = setting(True, SELF_CHECKS)
    level: float = setting(0.95, LEVEL)
    smallest_difference: float = setting(0.05, DIFFERENCE)
    seed: int = setting(0, SEED)

    def __post_init__(self) -> None:
        settle(self)
