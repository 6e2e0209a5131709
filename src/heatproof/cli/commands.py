"""run, train, evaluate, explain, study, report, compare."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from heatproof.cli import options, screen

if TYPE_CHECKING:
    from heatproof.pipeline import Plan

EXAMPLES = {
    "run": "heatproof run --seed 1 --out runs/first",
    "train": "heatproof train --recipe paper --out runs/paper",
    "evaluate": "heatproof evaluate --model runs/mnist1d",
    "explain": "heatproof explain --model runs/mnist1d --methods grad-cam,ablation-cam",
    "study": "heatproof study --model runs/mnist1d --metrics deletion,insertion --limit 200",
    "report": "heatproof report runs/mnist1d",
    "compare": "heatproof compare runs/mnist1d runs/mnist1d-paper",
}


def add(app: typer.Typer) -> None:
    """Put the commands of this module into the app."""
    for command in (run, train, evaluate, explain, study, report, compare):
        app.command(epilog=f"Example: {EXAMPLES[command.__name__]}")(command)


def run(
    data: options.Data = None,
    path: options.Where = None,
    model: options.Model = None,
    weights: options.Weights = None,
    classes: options.Classes = None,
    net: options.Net = None,
    recipe: options.Recipe = None,
    limit: options.Limit = None,
    strict: options.Strict = False,
    case_class: options.CaseClass = None,
    methods: options.Methods = None,
    metrics: options.Metrics = None,
    layer: options.Layer = None,
    keep: options.Keep = None,
    fill: options.Fill = None,
    no_trials: options.NoTrials = False,
    workers: options.Workers = "serial",
    seed: options.Seed = 0,
    out: options.Out = None,
    quiet: options.Quiet = False,
) -> None:
    """Train, evaluate, explain, study and report in one go; MNIST-1D unless told otherwise.

    The same command on the same folder takes up what an interrupted run left.
    """
    from heatproof import pipeline

    plan = _plan(
        data=data, path=path, model=model, weights=weights, classes=classes, net=net, recipe=recipe, limit=limit,
        methods=methods, metrics=metrics, layer=layer, keep=keep, fill=fill, trials=not no_trials,
        case_class=case_class, strict=strict, seed=seed,
    )  # fmt: skip
    with screen.progress(quiet=quiet) as watch:
        outcome = pipeline.run(plan, out, watch=watch, workers=workers)
    screen.outcome(outcome)


def train(
    data: options.Data = None,
    path: options.Where = None,
    net: options.Net = None,
    recipe: options.Recipe = None,
    seed: options.Seed = 0,
    out: options.Out = None,
    quiet: options.Quiet = False,
) -> None:
    """Train a classifier and save it with its history, checkpoints and TensorBoard logs."""
    from heatproof import pipeline

    plan = _plan(data=data, path=path, net=net, recipe=recipe or pipeline.recipe_for(data), seed=seed)
    folder = out or Path("runs", plan.name)
    screen.trained(pipeline.classifier(plan, out=folder, quiet=quiet))
    screen.place("Model", folder / pipeline.MODEL)


def evaluate(
    model: options.Model = None,
    weights: options.Weights = None,
    classes: options.Classes = None,
    data: options.Data = None,
    path: options.Where = None,
    seed: options.Seed = 0,
    out: options.Out = None,
) -> None:
    """How good a classifier is on the test samples: accuracy, AUC, calibration, confusions, each with an interval."""
    from heatproof import pipeline

    plan = _plan(data=data, path=path, model=_needed(model), weights=weights, classes=classes, seed=seed)
    network = pipeline.classifier(plan)
    found = pipeline.assess(network, pipeline.splits(plan, network).test, out=out, seed=seed)
    screen.performance(found)
    if out is not None:
        screen.place("Numbers", out / pipeline.PERFORMANCE)


def explain(
    model: options.Model = None,
    weights: options.Weights = None,
    classes: options.Classes = None,
    data: options.Data = None,
    path: options.Where = None,
    limit: options.Limit = None,
    methods: options.Methods = None,
    layer: options.Layer = None,
    seed: options.Seed = 0,
    out: options.Out = None,
    quiet: options.Quiet = False,
) -> None:
    """Attribution maps of the test samples, as one tensor a method in a safetensors file."""
    from heatproof import pipeline

    plan = _plan(
        data=data, path=path, model=_needed(model), weights=weights, classes=classes, limit=limit,
        methods=methods, layer=layer, seed=seed,
    )  # fmt: skip
    folder = out or Path("runs", plan.name)
    network = pipeline.classifier(plan)
    samples = pipeline.chosen(plan, pipeline.splits(plan, network).test)
    screen.say(f"Layer {pipeline.probe(plan, network).choice(samples.x[:2])}")
    with screen.progress(quiet=quiet) as watch:
        maps = pipeline.maps(plan, network, samples, out=folder, watch=watch)
    screen.maps(maps)
    screen.place("Maps", folder / pipeline.MAPS)


def study(
    model: options.Model = None,
    weights: options.Weights = None,
    classes: options.Classes = None,
    data: options.Data = None,
    path: options.Where = None,
    limit: options.Limit = None,
    methods: options.Methods = None,
    metrics: options.Metrics = None,
    layer: options.Layer = None,
    keep: options.Keep = None,
    fill: options.Fill = None,
    no_trials: options.NoTrials = False,
    workers: options.Workers = "serial",
    seed: options.Seed = 0,
    config: options.Config = None,
    out: options.Out = None,
    quiet: options.Quiet = False,
) -> None:
    """Judge the explanations of a trained model: methods by metrics over the test samples, with statistics."""
    from heatproof import pipeline
    from heatproof.records import Splits

    plan = _plan(
        data=data, path=path, model=model, weights=weights, classes=classes, limit=limit, methods=methods,
        metrics=metrics, layer=layer, keep=keep, fill=fill, trials=not no_trials, seed=seed,
    )  # fmt: skip
    plan = pipeline.checked(plan if config is None else pipeline.read_plan(config, plan))
    _needed(plan.model)
    folder = out or Path("runs", f"{plan.name}-study")
    network = pipeline.classifier(plan)
    learn, samples = pipeline.splits(plan, network)
    parts = Splits(learn, pipeline.chosen(plan, samples))
    with screen.progress(quiet=quiet) as watch:
        found = pipeline.judge(plan, network, parts, out=folder, watch=watch, workers=workers)
    screen.results(*found)
    screen.place("Scores", folder)


def report(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run or a study.")],
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Where to write it; by default in the run.")] = None,
) -> None:
    """Write the report of a finished run or study again, as one HTML file."""
    from heatproof import pipeline

    screen.place("Report", pipeline.report(run, out))


def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of two or more runs or studies.")],
) -> None:
    """Several runs side by side: the classifiers' numbers, and each method's scores."""
    from heatproof import pipeline

    screen.comparison(pipeline.compare(runs))


def _plan(*, path: Path | None = None, weights: Path | None = None, **given: Any) -> Plan:
    from heatproof.pipeline import Plan

    for name in ("methods", "metrics", "layer", "fill"):
        given[name] = options.split(given.get(name))
    given["classes"] = options.quoted(given.get("classes"))
    return Plan(path=None if path is None else str(path), weights=None if weights is None else str(weights), **given)


def _needed(model: str | None) -> str:
    if model is None:
        from heatproof.errors import UsageError

        raise UsageError("no model given; name a run, a model folder or a file with --model")
    return model
