"""run, train, evaluate, explain, study, report, compare."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from heatproof.cli import messages, progress
from heatproof.cli.options import Out, Quiet, with_plan
from heatproof.errors import UsageError
from heatproof.pipeline.plan import Plan

EXAMPLES = {
    "run": "heatproof run --seed 1 --out runs/first",
    "train": "heatproof train --recipe paper --out runs/paper",
    "evaluate": "heatproof evaluate --model runs/mnist1d",
    "explain": "heatproof explain --model runs/mnist1d --methods grad-cam,ablation-cam",
    "study": "heatproof study --model runs/mnist1d --metrics deletion,insertion --limit 200",
    "report": "heatproof report runs/mnist1d",
    "compare": "heatproof compare runs/mnist1d runs/mnist1d-paper",
}
TRAIN = ("data", "path", "net", "recipe", "strict", "seed")
EVALUATE = ("data", "path", "model", "weights", "classes", "outputs", "preprocessing", "strict", "seed")
EXPLAIN = (*EVALUATE, "limit", "methods", "layer", "layout", "target")
TRAINING = ("net", "recipe")  # fields that a study of a trained model has no use for


def add(app: typer.Typer, plan: type[Plan] = Plan) -> None:
    """Put the commands of this module into the app, with an option for each field of the plan."""
    judged = [name for name in plan.__dataclass_fields__ if name not in (*TRAINING, "case_class")]
    commands = (
        with_plan(run, plan, files=True),
        with_plan(train, plan, TRAIN),
        with_plan(evaluate, plan, EVALUATE),
        with_plan(explain, plan, EXPLAIN),
        with_plan(study, plan, judged, files=True),
        report,
        compare,
    )
    for command in commands:
        app.command(epilog=f"Example: {EXAMPLES[command.__name__]}")(command)


def run(plan: Plan, out: Out = None, quiet: Quiet = False) -> None:
    """Train, evaluate, explain, study and report in one go; on MNIST-1D unless another data set is named.

    The same command on the same folder goes on with what an interrupted run left.
    """
    from heatproof.cli import judgement
    from heatproof.pipeline import run as running

    with progress.bars(quiet=quiet) as watch:
        outcome = running.run(plan, out, watch=watch)
    judgement.outcome(outcome)


def train(plan: Plan, out: Out = None, quiet: Quiet = False) -> None:
    """Train a classifier and save it with its history, checkpoints and TensorBoard logs."""
    from heatproof.cli import tables
    from heatproof.pipeline import stages
    from heatproof.pipeline.defaults import recipe_for

    plan = replace(plan, recipe=plan.recipe or recipe_for(plan.data))
    folder = out or Path("runs", plan.name)
    tables.trained(stages.classifier(plan, out=folder, quiet=quiet))
    messages.place("Model", folder / stages.MODEL)


def evaluate(plan: Plan, out: Out = None) -> None:
    """How good a classifier is on the test samples: accuracy, AUC, calibration, confusions, each with an interval."""
    from heatproof.cli import tables
    from heatproof.pipeline import stages
    from heatproof.probe import SEVERAL

    _check_model(plan)
    network = stages.classifier(plan)
    samples = stages.splits(plan, network).test
    asked = stages.probe(plan, network, samples)
    messages.say(f"Outputs {asked.outputs_for(samples.x[:SEVERAL])}")
    tables.performance(stages.assess(asked, samples, out=out, seed=plan.seed))
    if out is not None:
        messages.place("Numbers", out / stages.PERFORMANCE)


def explain(plan: Plan, out: Out = None, quiet: Quiet = False) -> None:
    """Attribution maps of the test samples, as one tensor a method in a safetensors file."""
    from heatproof.cli import tables
    from heatproof.pipeline import stages
    from heatproof.probe import SEVERAL

    _check_model(plan)
    folder = out or Path("runs", plan.name)
    network = stages.classifier(plan)
    samples = stages.chosen(plan, stages.splits(plan, network).test)
    messages.say(str(stages.probe(plan, network, samples).describe(samples.x[:SEVERAL])))
    with progress.bars(quiet=quiet) as watch:
        maps = stages.maps(plan, network, samples, out=folder, watch=watch)
    tables.maps(maps)
    messages.place("Maps", folder / stages.MAPS)


def study(plan: Plan, out: Out = None, quiet: Quiet = False) -> None:
    """Judge the explanations of a trained model: methods by metrics over the test samples, with statistics."""
    from heatproof.cli import judgement
    from heatproof.pipeline import stages
    from heatproof.records import Splits

    _check_model(plan)
    folder = out or Path("runs", f"{plan.name}-study")
    network = stages.classifier(plan)
    parts = stages.splits(plan, network)
    stages.check(plan, network, parts)
    learn, samples = parts
    with progress.bars(quiet=quiet) as watch:
        studies = stages.judge(plan, network, Splits(learn, stages.chosen(plan, samples)), out=folder, watch=watch)
    judged = stages.save_verdict(folder, studies)
    page = stages.write_study_report(folder, studies)
    judgement.study(judged)
    messages.place("Scores", folder)
    messages.place("Report", page)


def report(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run or a study.")],
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Where to write it; by default in the run.")] = None,
) -> None:
    """Write the report of a finished run or study again, as one HTML file."""
    from heatproof.pipeline import archive

    messages.place("Report", archive.report(run, out))


def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of two or more runs or studies.")],
) -> None:
    """Several runs side by side: what differs between them, and paired tests where they judged the same samples."""
    from heatproof.cli import comparison
    from heatproof.pipeline.comparison import compare as compared

    comparison.show(compared(runs))


def _check_model(plan: Plan) -> None:
    if plan.model is None:
        raise UsageError("this command needs a model; name a run, a model folder or a file with --model")
