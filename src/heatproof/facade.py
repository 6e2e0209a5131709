"""The calls that know the whole house: `hp.study`, `hp.load`, and results that give their own verdict and report.

Nothing in the package imports this module but the package itself.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from heatproof.preprocessing import Preprocessing
from heatproof.probe import Probe
from heatproof.records import Samples, Splits
from heatproof.registry import Spec
from heatproof.results import record
from heatproof.results.ranking import Ranking
from heatproof.results.record import Stratum

if TYPE_CHECKING:
    from heatproof.studies.options import StudyOptions
    from heatproof.verdict import Calibration, Judgement, Verdict

Progress = bool | Callable[[str, int, int], None]


@dataclass(frozen=True, eq=False, repr=False)
class Results(record.Results):
    """The results of a study, which also give a verdict and write a report.

    Attributes:
        others: the same study with its other fills, for the metrics that remove positions.
    """

    others: tuple[record.Results, ...] = ()

    @classmethod
    def of(cls, studies: Sequence[record.Results]) -> Results:
        """The results of a study with each of its fills, the first in front."""
        first, *others = studies
        values = {f.name: getattr(first, f.name) for f in fields(record.Results)}
        return cls(**values, others=tuple(others))

    @cached_property
    def judgement(self) -> Judgement:
        """Everything read off the study: checks, comparisons, findings, the verdict."""
        from heatproof.verdict import Judgement

        return Judgement(self, self.others)

    def ranking(self, metric: str | None = None, *, stratum: Stratum = "all") -> Ranking:
        """The methods from the best to the worst by one metric, or by their overall score in the verdict's questions.

        Raises: UnknownName for a metric that is not in the study.
        """
        return self.judgement.ranking(stratum) if metric is None else super().ranking(metric, stratum=stratum)

    def verdict(self) -> Verdict:
        """Which method shows where the model looks, and which how much each part matters, or why none is named."""
        return self.judgement.verdict

    def calibration(self) -> Calibration:
        """Which metrics that need no mask agree with the planted masks; empty where there are none."""
        return self.judgement.calibration

    def save(self, path: str | os.PathLike[str]) -> Path:
        """The folder, now holding every score (CSV, Parquet, npz) and, written last, results.json."""
        from heatproof.results import storage

        return storage.save(self, path)

    def report(self, path: str | os.PathLike[str]) -> Path:
        """The report, one self-contained HTML file at ``path``."""
        from heatproof.report import Content, write

        return write(Content(results=self, others=self.others), path)


def study(
    model: nn.Module | Probe,
    samples: Samples | Splits,
    methods: Sequence[str | Spec] = (),
    metrics: Sequence[str | Spec] = (),
    *,
    options: StudyOptions | None = None,
    out: str | os.PathLike[str] | None = None,
    resume: bool = True,
    workers: str = "serial",
    progress: Progress = True,
) -> Results:
    """Every method judged by every metric on every sample, once with each fill.

    Args:
        samples: with their training samples (Splits) for label-randomisation, unless the model's card names them.
        methods, metrics: by default three CAMs and nine metrics, which keep 0.3 of a signal and 0.9 of an image.
        options: everything else that decides the numbers: fills, target, controls, seed, ...
        out: a folder; finished chunks are kept there, and a stopped study continues from them.
        workers: "serial", "processes:4" or "ray"; the numbers are the same.
        progress: whether a bar is shown, or a function called with the stage, what is done and all there is to do.

    Raises: UnknownName, InputError, UsageError, FolderInUse; Interrupted on Ctrl-C, finished chunks kept.
    """
    from heatproof import methods as attribution
    from heatproof import metrics as evaluation
    from heatproof.studies.options import StudyOptions
    from heatproof.studies.run import run

    options = options or StudyOptions()
    if methods:
        options = replace(options, methods=tuple(attribution.parse(methods)))
    if metrics:
        options = replace(options, metrics=tuple(evaluation.parse(metrics)))
    folder = None if out is None else Path(out)
    return Results.of(run(model, samples, options, out=folder, resume=resume, workers=workers, progress=progress))


def load(
    path: str | os.PathLike[str],
    *,
    factory: str | Callable[[], nn.Module] | None = None,
    classes: Sequence[str] = (),
    preprocessing: str | Mapping[str, Any] | Preprocessing | None = None,
) -> nn.Module | Results:
    """The model (evaluation mode, its card as ``.card``) or the study's Results at ``path``.

    A model is a folder that `hp.save` wrote, either of its two files, the folder of a run, a folder of Hugging Face
    (config.json and model.safetensors; "hf:FOLDER"), a bundle of MONAI ("monai:FOLDER"), a Keras file (.h5, .keras) or
    an exported program (.pt2). Bare weights (.safetensors, .pt, .ckpt) need ``factory``, a callable or
    "package.module:name" that builds the network. ``classes`` names the model's outputs in their order;
    ``preprocessing`` replaces what the card says of its inputs. Results are a folder with ``results.json``.

    Raises: FileError where nothing is there, or it is truncated, foreign or of a newer format; UsageError where there
        are more or fewer names than outputs.
    """
    from heatproof.models import folder
    from heatproof.results import storage

    place = Path(path)
    if (place / storage.MANIFEST).exists():
        return Results.of(storage.load_all(place))
    return folder.load(path, factory=factory, classes=classes, preprocessing=preprocessing)
