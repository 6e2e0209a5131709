"""The stages of a run, each a thin call, and all of them in one go."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from jaxtyping import Int
from torch import Tensor, nn

from heatproof.errors import Interrupted, UsageError
from heatproof.files import writing
from heatproof.models.card import card_of
from heatproof.models.names import model as model_named
from heatproof.pipeline import completion as past
from heatproof.pipeline.cases import cases, check_class
from heatproof.pipeline.defaults import (
    fills_of,
    keep_of,
    net_of,
    recipe_for,
    shipped_for,
    strictly,
    tell_shipped,
    told_of_both,
)
from heatproof.pipeline.mapfile import map_writer, read_maps
from heatproof.pipeline.match import matched, sized
from heatproof.pipeline.plan import Plan, checked, claimed
from heatproof.probe import Probe
from heatproof.records import Samples, Splits
from heatproof.registry import Spec

if TYPE_CHECKING:
    from heatproof.performance import Performance
    from heatproof.results.record import Results

MODEL, STUDY, SCORES = "model", "study", ("scores.csv", "scores.parquet")
PERFORMANCE, MAPS, REPORT = "performance.json", "maps.safetensors", "report.html"
KEPT = "maps"  # the folder in that of the study where its maps are kept until all are there
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


@dataclass(frozen=True)
class Outcome:
    """What a run leaves: its folder, and what was found; ``others`` are the study with other fills.

    Of a run that was finished before, ``performance`` is what its file tells.
    """

    folder: Path
    performance: Performance | past.Measured
    results: Results
    report: Path
    others: tuple[Results, ...] = ()


def splits(plan: Plan, model: nn.Module | None = None) -> Splits:
    """The plan's training and test samples, as the model takes them; without a name, those that its card tells of.

    Raises: UnknownName, UsageError, FileError as the data set has it.
    """
    from heatproof import data

    name = plan.data
    if name is None:
        card = card_of(model) if model is not None else None
        name = card.data if card else None if model is not None else "mnist1d"
        if not name or Spec.parse(name).name not in data.datasets:
            raise UsageError("the model does not tell what data it was trained on; name it with --data")
    found = told_of_both(data.load(name if plan.data is None else sized(strictly(plan), model), plan.path))
    return found if model is None else matched(found, model)


def classifier(plan: Plan, samples: Splits | None = None, *, out: Path | None = None, quiet: bool = True) -> nn.Module:
    """The plan's model: loaded if it names one, else trained, with its files in ``out``.

    A model is whatever `heatproof.models.names.model` knows.

    Raises: UsageError, UnknownName, FileError, Interrupted.
    """
    if plan.model is not None:
        return model_named(plan.model, weights=plan.weights, classes=plan.classes)
    if plan.weights is not None:
        raise UsageError(
            "got --weights without --model; name the network with --model, as package.module:factory or resnet18"
        )
    shipped = shipped_for(plan)
    if shipped is not None:
        from heatproof.nets import weights

        return model_named(str(weights(shipped)))
    from heatproof.training import train

    samples = samples or splits(plan)
    name = plan.data or "mnist1d"
    given = name if plan.path is None else samples
    net = net_of(plan, samples.train)
    recipe = plan.recipe or recipe_for(plan.data)
    return train(given, recipe=recipe, net=net, seed=plan.seed, out=out, resume=True, quiet=quiet)


def chosen(plan: Plan, samples: Samples) -> Samples:
    """The samples to explain and judge: all, or ``limit`` of them evenly spread over the set."""
    rows = _places(plan, samples)
    return samples if len(rows) == len(samples) else samples.take(rows)


def _places(plan: Plan, samples: Samples) -> Int[Tensor, " k"]:
    """The places of the chosen samples in the set."""
    return torch.linspace(0, len(samples) - 1, min(plan.limit or len(samples), len(samples))).round().long()


def probe(plan: Plan, model: nn.Module) -> Probe:
    """The model with the plan's layers."""
    return Probe(model, layer=plan.layer or None)


def assess(model: nn.Module, samples: Samples, *, out: Path | None = None, seed: int = 0) -> Performance:
    """How good the classifier is; with ``out`` also as performance.json there."""
    from heatproof.performance import evaluate

    found = evaluate(model, samples, seed=seed)
    if out is not None:
        with writing(out / PERFORMANCE) as part:
            part.write_text(json.dumps(found.to_dict(), indent=1) + "\n", encoding="utf-8")
    return found


def maps(
    plan: Plan,
    model: nn.Module,
    samples: Samples,
    *,
    controls: bool = False,
    out: Path | None = None,
    watch: Watch | None = None,
) -> dict[str, Tensor]:
    """The maps (N, *S) of the plan's methods, and the controls if asked for; with ``out`` read from a file there."""
    from heatproof.methods import explain

    methods = _methods(plan, controls=controls)
    borrowed, kept = probe(plan, model), list[dict[str, Tensor]]()
    with nullcontext(None) if out is None else map_writer(out / MAPS, len(samples)) as file:
        for rows in torch.arange(len(samples)).split(max(1, min(CHUNK, ELEMENTS // samples.x.shape[1:].numel()))):
            x = samples.x[int(rows[0]) : int(rows[-1]) + 1]
            found = explain(borrowed, x, methods, seed=plan.seed, index=rows)
            if file is None:
                kept.append(found)
            else:
                file.write(found)
            if watch is not None:
                watch(Step("explaining", int(rows[-1]) + 1, len(samples)))
    return read_maps(out / MAPS) if out else {name: torch.cat([part[name] for part in kept]) for name in kept[0]}


def _methods(plan: Plan, *, controls: bool = True) -> list[Spec]:
    from heatproof.methods import parse
    from heatproof.studies.plan import CONTROLS, METHODS

    methods = parse(plan.methods or METHODS)
    return methods + [spec for spec in parse(CONTROLS) if controls and spec.name not in {m.name for m in methods}]


def judge(
    plan: Plan,
    model: nn.Module,
    samples: Samples | Splits,
    *,
    out: Path | None = None,
    explained: Path | None = None,
    watch: Watch | None = None,
    workers: str = "serial",
) -> tuple[Results, ...]:
    """The plan's methods judged by its metrics, once a fill; with ``out`` kept there, and taken up again from there.

    Args:
        samples: those to judge; with the training samples where a metric needs them.
        explained: a folder where the maps are kept too, chunk by chunk; those that are there are not made again.
    Raises: UnknownName, UsageError, FolderInUse, FileError, Interrupted.
    """
    from heatproof.studies.plan import METRICS, kept, plan_of
    from heatproof.studies.run import carried_out

    judged = samples.test if isinstance(samples, Splits) else samples
    keep = keep_of(plan, judged)

    def tell(stage: str, done: int, total: int) -> None:
        if watch is not None:
            watch(Step(stage, done, total, "samples" if stage == "explaining" else "scores"))

    study = plan_of(
        probe(plan, model),
        samples,
        plan.methods or None,
        [kept(name, keep) for name in plan.metrics or METRICS],
        fill=fills_of(plan, judged),
        seed=plan.seed,
        trials=plan.trials,
    )
    return carried_out(replace(study, maps=explained), out, workers=workers, tell=tell)


def studied(folder: Path) -> tuple[Results, ...]:
    """The finished study in a folder, then the same with other fills, as `judge` leaves them.

    Raises: FileError where it is missing or damaged.
    """
    from heatproof.results import storage as store
    from heatproof.studies.checkpoint import folders

    return tuple(store.load(path) for path in folders(folder))


def run(plan: Plan, out: Path | None = None, *, watch: Watch | None = None, workers: str = "serial") -> Outcome:
    """Train (or load), evaluate, explain, study and report, into one folder; what is there already is not done again.

    A run that is finished and from which nothing has changed since is read from its files, see `pipeline.past`.

    Raises: UsageError, FolderInUse, FileError; Interrupted after Ctrl-C, when the same call goes on.
    """
    plan, folder = checked(plan), out or Path("runs", plan.name)
    if past.whole(folder, plan):
        return _taken_up(folder)
    with claimed(folder, plan):
        shipped = shipped_for(plan)
        given = classifier(plan) if plan.model is not None or shipped is not None else None
        known = splits(plan, given) if plan.data is not None else None  # once: many files take a while to check
        if known is not None:
            check_class(plan, known.test)
    past.clear(folder, plan, MAPS, STUDY)
    with _kept_in(folder, "training"):
        model = classifier(plan, known, out=folder, quiet=watch is None) if given is None else given
    with _kept_in(folder, "evaluating"):
        learn, samples = known or splits(plan, model)
        if shipped is not None:
            tell_shipped(shipped, samples)
        performance = assess(model, samples, out=folder, seed=plan.seed)
    few = chosen(plan, samples)
    with _kept_in(folder, "explaining and judging"):
        explained = folder / STUDY / KEPT
        parts = Splits(learn, few)
        studies = judge(plan, model, parts, out=folder / STUDY, explained=explained, watch=watch, workers=workers)
        for name in SCORES:
            if (folder / STUDY / name).exists():
                (folder / STUDY / name).replace(folder / name)
    with _kept_in(folder, "writing the maps"):
        if not (folder / MAPS).exists() and not _gathered(plan, explained, folder / MAPS, len(few)):
            maps(_judged(plan, studies[0]), model, few, controls=True, out=folder, watch=watch)
        shutil.rmtree(explained, ignore_errors=True)
    with _kept_in(folder, "writing the report"):
        page = write_report(folder, studies, plan=plan, model=model, samples=samples, performance=performance)
    past.mark(folder, plan, [folder / name for name in (PERFORMANCE, MAPS, REPORT, *SCORES, f"{STUDY}/results.json")])
    return Outcome(folder, performance, studies[0], page, studies[1:])


def _gathered(plan: Plan, parts: Path, path: Path, count: int) -> bool:
    """Whether the maps of so many samples are kept in a folder of a study; they are then in one file at ``path``."""
    from heatproof.studies.maps import kept_maps

    chunks = [read_maps(part) for part in kept_maps(parts)]
    if sum(max(map(len, chunk.values()), default=0) for chunk in chunks) != count:
        return False
    names = [name for name in map(str, _methods(plan)) if all(name in chunk for chunk in chunks)]
    with map_writer(path, count) as file:
        for chunk in chunks:
            file.write({name: chunk[name] for name in names})
    return True


def _judged(plan: Plan, results: Results) -> Plan:
    """The plan with those of its methods, in their order, that a study could judge."""
    known = {*results.methods, *results.controls}
    return replace(plan, methods=tuple(name for name in map(str, _methods(plan)) if name in known))


def _taken_up(folder: Path) -> Outcome:
    """What the finished run in a folder left."""
    results, *others = studied(folder / STUDY)
    return Outcome(folder, past.measured(folder / PERFORMANCE), results, folder / REPORT, tuple(others))


@contextmanager
def _kept_in(folder: Path, doing: str) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt as error:
        raise Interrupted(f"stopped while {doing}; what was finished is kept in {str(folder)!r}") from error


def write_report(
    folder: Path,
    studies: Sequence[Results],
    *,
    plan: Plan,
    model: nn.Module,
    samples: Samples,
    performance: Performance,
    out: Path | None = None,
) -> Path:
    """The report of the run in a folder as one HTML file there, or at ``out``; its figures and tables beside it.

    Args:
        studies: the same with each fill. samples: those that the classifier is tested on.
    """
    from heatproof.report import Pictures, write
    from heatproof.training import history_of

    results, *others = studies
    found = read_maps(folder / MAPS) if (folder / MAPS).exists() else {}
    pictures = Pictures(
        evaluated=samples,
        judged=chosen(plan, samples),
        maps=found,
        cases=cases(plan, model, samples, performance, maps=found, rows=_places(plan, samples)),
    )
    return write(
        results,
        out or folder / REPORT,
        others=others,
        performance=performance,
        history=history_of(model),
        card=card_of(model),
        pictures=pictures,
        command=plan.command(folder),
        files=True,
    )
