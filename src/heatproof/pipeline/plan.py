"""What a run is to do: its data, its model and the options of its study; and a check of all names in it."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from heatproof.errors import UsageError
from heatproof.pipeline.registries import registry
from heatproof.registry import Spec
from heatproof.settings import Option, Range, Setting, create, options, plain, read, setting, words
from heatproof.studies.options import StudyOptions

S = TypeVar("S", bound=StudyOptions)
WORK, DISPLAY = "What to work on", "Report and execution"
DATA = Setting(
    "Data set, with options as name:option=value; by default what the model was trained on, else mnist1d.",
    "NAME", WORK, names="data",
)  # fmt: skip
PATH = Setting("Folder of the data, for data sets that are read from disk.", "FOLDER", WORK)
MODEL = Setting(
    "A run, a model folder, a folder of Hugging Face (hf:FOLDER), a bundle of MONAI (monai:FOLDER), a Keras file "
    "(.h5, .keras), an exported program (.pt2), package.module:factory, or a network of torchvision or timm such as "
    "resnet18.",
    "MODEL", WORK,
)  # fmt: skip
WEIGHTS = Setting(
    "Weights (.safetensors, a plain state dict, or a checkpoint of Lightning) for a --model named as "
    "package.module:factory or like resnet18.",
    "FILE", WORK,
)  # fmt: skip
CLASSES = Setting(
    "Classes of the outputs of --model, in order; by default those of the model, else of the data. A name with a comma "
    "stands in double quotes: 'a,\"b, c\"'.",
    "A,B", WORK,
)  # fmt: skip
PREPROCESSING = Setting(
    "What images go through before --model, where it does not say so itself or was trained otherwise: unit, signed or "
    "imagenet, with options as in imagenet:resize=256,crop=224; the name of torchvision's weights (IMAGENET1K_V1); "
    "none for nothing that is known.",
    "TEXT", WORK,
)  # fmt: skip
NET = Setting("Network to train; by default one that suits the data.", "NAME", WORK, names="nets")
RECIPE = Setting(
    "How to train; by default hmt for tissue tiles, else fast. Without it, a run uses the trained network that ships "
    "with heatproof for the data, where there is one.",
    "NAME", WORK, names="recipes",
)  # fmt: skip
LIMIT = Setting("Explain and judge only N test samples, evenly spread.", "N", WORK, range=Range(1))
GROUP = Setting(
    "Patient or slide of each sample: the name of its array or column, or for files a regular expression that finds it "
    "in class/file. Intervals and tests then take these as independent, not the samples.",
    "NAME", WORK,
)  # fmt: skip
STRICT = Setting("Stop at a file that cannot be read instead of skipping it.", "", WORK)
CASE_CLASS = Setting(
    "Class of the worked cases in the report; by default the first.", "NAME", DISPLAY, decides="report"
)
WORKERS = Setting(
    "Execution: serial, processes:4 or ray; the numbers are the same.", "KIND", DISPLAY, decides="execution"
)


@dataclass(frozen=True)
class Source:
    """The data and the model of a run.

    Attributes:
        data, path: the data set and, if it lies on disk, where; None for what the model was trained on, else MNIST-1D.
        model, weights: a trained model, see `heatproof.models.names.model`; None for the one that ships for the data,
            or to train ``net`` by ``recipe`` where either is named or none ships.
        classes: those of the model's outputs, in order; empty for those of its card, else of the data.
        preprocessing: what images go through before the model; None for what its card says.
        limit: how many test samples are explained and judged; None for all.
        group: what says which samples are of one patient or slide, see `heatproof.data.load`.
        strict: whether a file that cannot be read is an error.
    """

    data: Spec | None = setting(None, DATA)
    path: str | None = setting(None, PATH)
    model: str | None = setting(None, MODEL)
    weights: str | None = setting(None, WEIGHTS)
    classes: tuple[str, ...] = setting((), CLASSES)
    preprocessing: str | None = setting(None, PREPROCESSING)
    net: Spec | None = setting(None, NET)
    recipe: Spec | None = setting(None, RECIPE)
    limit: int | None = setting(None, LIMIT)
    group: str | None = setting(None, GROUP)
    strict: bool = setting(False, STRICT)


@dataclass(frozen=True)
class Plan(StudyOptions, Source):
    """What a run is to do: the options of its study, its data and model, and what only its report or execution need.

    Attributes:
        case_class: the class of the worked cases in the report; None for the first.
        workers: how the study is executed, see `heatproof.workers`.
    """

    case_class: str | None = setting(None, CASE_CLASS)
    workers: str = setting("serial", WORKERS)

    @property
    def name(self) -> str:
        """The name of the run's folder where none is chosen."""
        model, recipe = self.model or "", "" if self.recipe is None else str(self.recipe)
        parts = [str(self.data or ("" if model else "mnist1d")), model if ":" in model else Path(model).stem]
        parts += [recipe if self.model is None and recipe != "fast" else ""]
        parts += [f"seed{self.seed}" if self.seed else ""]
        return "-".join(re.sub(r"[^\w.=]+", "-", part).strip("-") for part in parts if part)

    def command(self, out: Path | None = None) -> str:
        """The command of a run of this plan.

        >>> Plan(seed=1, methods=(Spec("grad-cam"), Spec("edge"))).command()
        'heatproof run --methods grad-cam,edge --seed 1'
        >>> print(Plan(model="net.h5", classes=("benign", "in situ, low grade")).command())
        heatproof run --model net.h5 --classes 'benign,"in situ, low grade"'
        """
        return shlex.join(["heatproof", "run", *words(self), *(() if out is None else ("--out", str(out)))])


def configured(settings: type[S], config: Path | None, values: dict[str, Any]) -> S:
    """The settings of a YAML file with these values in place of its own; both are checked.

    Raises: FileError where the file cannot be read, UnknownName and UsageError for what is in it or in the values.
    """
    return checked(create(settings, {**({} if config is None else read(config, settings)), **values}))


def identity(plan: StudyOptions) -> dict[str, Any]:
    """The settings that decide the numbers, in plain types: what two runs must share to be the same."""
    declared = options(type(plan))
    return {key: value for key, value in plain(plan).items() if declared[key].setting.decides == "numbers"}


def display(plan: StudyOptions) -> dict[str, Any]:
    """The settings that decide the report alone, in plain types."""
    declared = options(type(plan))
    return {key: value for key, value in plain(plan).items() if declared[key].setting.decides == "report"}


def checked(plan: S) -> S:
    """The plan with every name in it looked up: no model is trained for a misspelt metric.

    Raises: UnknownName, UsageError.
    """
    named = {option.name: _looked_up(option, plan) for option in options(type(plan)).values() if option.setting.names}
    if isinstance(plan, Plan):
        _check_source(plan)
    return replace(plan, **named)


def _looked_up(option: Option, plan: StudyOptions) -> Any:
    value = getattr(plan, option.name)
    if not value:
        return value
    entries = registry(option.setting.names)
    return tuple(entries.spec(item) for item in value) if option.several else entries.spec(value)


def _check_source(plan: Plan) -> None:
    from heatproof.workers import processes

    processes(plan.workers)
    if plan.classes and plan.model is None:
        raise UsageError("got --classes without --model; they name the outputs of a model")
    if plan.preprocessing is not None and plan.model is None:
        raise UsageError("got --preprocessing without --model; it says what images go through before a model")
    if plan.weights is not None and plan.model is None:
        raise UsageError(
            "got --weights without --model; name the network with --model, as package.module:factory or resnet18"
        )
