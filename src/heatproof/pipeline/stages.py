"""The stages of a run, each a thin call."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from jaxtyping import Int
from torch import Tensor, nn

from heatproof.errors import UsageError
from heatproof.files import writing
from heatproof.models.card import card_of
from heatproof.models.names import model as model_named
from heatproof.pipeline.cases import cases, check_class
from heatproof.pipeline.defaults import (
    MNIST1D,
    data_of,
    fills_of,
    net_of,
    recipe_for,
    shipped_for,
    with_all_bad_files,
)
from heatproof.pipeline.mapfile import map_writer, read_maps
from heatproof.pipeline.match import matched, preprocessing_for, sized
from heatproof.pipeline.plan import Plan
from heatproof.probe import SEVERAL, Probe, parsed, probe_for
from heatproof.records import Samples, Splits
from heatproof.registry import Spec
from heatproof.settings import options
from heatproof.studies.options import StudyOptions

if TYPE_CHECKING:
    from heatproof.performance import Assessment
    from heatproof.results.record import Results
    from heatproof.verdict import Judgement

MODEL, STUDY = "model", "study"
PERFORMANCE, MAPS, REPORT = "performance.json", "maps.safetensors", "report.html"
CHUNK, ELEMENTS = 256, 2**22  # samples, and numbers in their inputs, that are explained at a time


@dataclass(frozen=True)
class Step:
    """How far a stage has come."""

    stage: str
    done: int
    total: int
    unit: str = "samples"
    note: str = ""


Watch = Callable[[Step], None]


def splits(plan: Plan, model: nn.Module | None = None) -> Splits:
    """The plan's training and test samples, in the form the model takes; without a name, those that its card names.

    Raises: UnknownName, UsageError, FileError as the data set has it.
    """
    from heatproof import data

    name = data_of(plan)
    name = sized(name, model) if name is not None else _trained_on(model)
    parts = with_all_bad_files(
        data.load(name, plan.path, preprocessing=preprocessing_for(model), group=plan.group or "")
    )
    return parts if model is None else matched(parts, model)


def _trained_on(model: nn.Module | None) -> Spec:
    """The data set that a model's card names; MNIST-1D without a model."""
    from heatproof import data

    if model is None:
        return MNIST1D
    card = card_of(model)
    if card is None or not card.data or Spec.parse(card.data).name not in data.datasets:
        raise UsageError("the model does not say what data it was trained on; name it with --data")
    return Spec.parse(card.data)


def classifier(plan: Plan, samples: Splits | None = None, *, out: Path | None = None, quiet: bool = True) -> nn.Module:
    """The plan's model: loaded if it names one, else trained, with its files in ``out``.

    A model is whatever `heatproof.models.names.model` takes.

    Raises: UsageError, UnknownName, FileError, Interrupted.
    """
    if plan.model is not None:
        return model_named(plan.model, weights=plan.weights, classes=plan.classes, preprocessing=plan.preprocessing)
    shipped = shipped_for(plan)
    if shipped is not None:
        from heatproof.nets import weights

        return model_named(str(weights(shipped)))
    from heatproof.training import train

    samples = samples or splits(plan)
    learn = str(plan.data or MNIST1D) if plan.path is None else samples
    recipe = plan.recipe or recipe_for(plan.data)
    net = net_of(plan, samples.train)
    return train(learn, recipe=recipe, net=net, seed=plan.seed, out=out, resume=True, quiet=quiet)


def check(plan: Plan, model: nn.Module | None, samples: Splits) -> None:
    """Refuse classes that the samples and layers that the model do not have; None for a model that is yet to train.

    Raises: UnknownName, InputError, LayerError, UsageError.
    """
    from heatproof.studies.targets import explained

    check_class(plan, samples.test)
    explained(plan.target, chosen(plan, samples.test))
    if plan.layer or plan.layout is not None:
        if model is None:
            from heatproof.training import untrained

            model = untrained(samples.train, net_of(plan, samples.train))
        probe(plan, model, samples.test).choice(samples.test.x[:2])
    if plan.outputs is not None:
        parsed(plan.outputs)


def chosen(plan: Plan, samples: Samples) -> Samples:
    """The samples to explain and judge: all, or ``limit`` of them evenly spread over the set."""
    rows = places(plan, samples)
    return samples if len(rows) == len(samples) else samples.take(rows)


def places(plan: Plan, samples: Samples) -> Int[Tensor, " k"]:
    """The places of the chosen samples in the set."""
    return torch.linspace(0, len(samples) - 1, min(plan.limit or len(samples), len(samples))).round().long()


def probe(plan: StudyOptions, model: nn.Module, samples: Samples) -> Probe:
    """The model with the plan's layers, its outputs read as the samples need them.

    Raises: InputError where outputs and samples contradict each other.
    """
    asked = Probe(model, layer=plan.layer or None, layout=plan.layout, outputs=plan.outputs)
    return probe_for(asked, samples.x[:SEVERAL], samples.task, len(samples.classes))


def rows_of(plan: StudyOptions, samples: Samples) -> Samples:
    """The rows of a study of the samples: these, or one for every positive label where those are explained."""
    from heatproof.studies.targets import explained

    return explained(plan.target, samples).samples


def assess(model: nn.Module | Probe, samples: Samples, *, out: Path | None = None, seed: int = 0) -> Assessment:
    """How good the model is; with ``out`` also as performance.json there."""
    from heatproof.performance import evaluate

    performance = evaluate(model, samples, seed=seed)
    if out is not None:
        with writing(out / PERFORMANCE) as part:
            part.write_text(json.dumps(performance.to_dict(), indent=1) + "\n", encoding="utf-8")
    return performance


def maps(
    plan: StudyOptions,
    model: nn.Module,
    samples: Samples,
    *,
    controls: bool = False,
    out: Path | None = None,
    watch: Watch | None = None,
) -> dict[str, Tensor]:
    """The maps (N, *S) of the plan's methods, and the controls if asked for; with ``out`` read from a file there.

    Where all positive labels are explained, N is the number of pairs of a sample and such a label.
    """
    from heatproof.methods import explain
    from heatproof.studies.targets import explained, is_array

    specs, chosen = methods_of(plan, controls=controls), explained(plan.target, samples)
    asked, samples, parts = probe(plan, model, samples), chosen.samples, list[dict[str, Tensor]]()
    with nullcontext(None) if out is None else map_writer(out / MAPS, len(samples)) as file:
        for rows in torch.arange(len(samples)).split(max(1, min(CHUNK, ELEMENTS // samples.x.shape[1:].numel()))):
            x = samples.x[int(rows[0]) : int(rows[-1]) + 1]
            goal = chosen.target[rows] if is_array(chosen.target) else chosen.target
            heat = explain(asked, x, specs, target=goal, seed=plan.seed, index=rows)
            if file is None:
                parts.append(heat)
            else:
                file.write(heat)
            if watch is not None:
                watch(Step("explaining", int(rows[-1]) + 1, len(samples)))
    return read_maps(out / MAPS) if out else {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def methods_of(plan: StudyOptions, *, controls: bool = True) -> list[Spec]:
    """The plan's methods or the study's own choice, then the controls where they are asked for."""
    from heatproof.methods import default_controls, parse
    from heatproof.studies.plan import METHODS

    methods = parse(plan.methods or METHODS)
    names = {spec.name for spec in methods}
    return methods + [spec for spec in parse(default_controls()) if controls and spec.name not in names]


def study_options(plan: StudyOptions, samples: Samples) -> StudyOptions:
    """The options of the plan's study, with what suits the samples where the plan leaves it open."""
    shared = {name: getattr(plan, name) for name in options(StudyOptions)}
    return StudyOptions(**{**shared, "fills": fills_of(plan, samples)})


def judge(
    plan: Plan,
    model: nn.Module,
    samples: Samples | Splits,
    *,
    out: Path | None = None,
    explained: Path | None = None,
    watch: Watch | None = None,
) -> tuple[Results, ...]:
    """The plan's methods judged by its metrics, once a fill; with ``out`` kept there, and taken up again from there.

    Args:
        samples: those to judge; with the training samples where a metric needs them.
        explained: a folder where the maps are kept too, chunk by chunk; those that are there are not computed again.
    Raises: UnknownName, UsageError, FolderInUse, FileError, Interrupted.
    """
    from heatproof.studies.plan import plan_of
    from heatproof.studies.run import run_plan

    def progress(stage: str, done: int, total: int) -> None:
        if watch is not None:
            watch(Step(stage, done, total, "scores" if stage == "judging" else "samples"))

    chosen_options = study_options(plan, samples.test if isinstance(samples, Splits) else samples)
    study = plan_of(Probe(model, layer=plan.layer or None, outputs=plan.outputs), samples, chosen_options)
    return run_plan(study, out, maps=explained, workers=plan.workers, progress=progress)


def save_verdict(folder: Path, studies: Sequence[Results]) -> Judgement:
    """The judgement of a study with each of its fills, which is now also in the folder as verdict.json."""
    from heatproof.verdict import Judgement
    from heatproof.verdict.files import save

    judgement = Judgement(studies[0], studies[1:])
    save(judgement, folder)
    return judgement


def write_report(
    folder: Path,
    studies: Sequence[Results],
    *,
    plan: Plan,
    model: nn.Module,
    samples: Samples,
    performance: Assessment,
    out: Path | None = None,
) -> Path:
    """The report of the run in a folder as one HTML file there, or at ``out``; its figures and tables beside it.

    Args:
        studies: the same with each fill. samples: those that the classifier is tested on.
    """
    from heatproof.report import Content, Pictures, write
    from heatproof.training import history_of

    heat = read_maps(folder / MAPS) if (folder / MAPS).exists() else {}
    pictures = Pictures(
        evaluated=samples,
        judged=rows_of(plan, chosen(plan, samples)),
        maps=heat,
        cases=cases(plan, model, samples, performance, maps=heat, rows=places(plan, samples)),
    )
    content = Content(
        results=studies[0],
        others=studies[1:],
        performance=performance,
        history=history_of(model),
        card=card_of(model),
        pictures=pictures,
        command=plan.command(folder),
    )
    return write(content, out or folder / REPORT, files=True)


def write_study_report(folder: Path, studies: Sequence[Results], *, out: Path | None = None) -> Path:
    """The report of a study alone as one HTML file in its folder, or at ``out``; figures and tables beside it."""
    from heatproof.report import Content, write

    return write(Content(results=studies[0], others=studies[1:]), out or folder / REPORT, files=True)
