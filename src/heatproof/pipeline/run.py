"""All stages of a run in one go, into one folder; what is there already is not done again."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from heatproof.errors import Interrupted
from heatproof.pipeline import completion, stages
from heatproof.pipeline.archive import studies_in
from heatproof.pipeline.defaults import announce_shipped, shipped_for
from heatproof.pipeline.manifest import claimed
from heatproof.pipeline.mapfile import map_writer, read_maps
from heatproof.pipeline.plan import Plan, checked
from heatproof.pipeline.stages import MAPS, PERFORMANCE, REPORT, STUDY, Watch
from heatproof.records import Splits

if TYPE_CHECKING:
    from heatproof.performance import Assessment
    from heatproof.results.record import Results
    from heatproof.verdict import Judgement

SCORES = ("scores.csv", "scores.parquet")
VERDICT = "verdict.json"
KEPT = "maps"  # the folder in that of the study where its maps are kept until all are there


@dataclass(frozen=True)
class Outcome:
    """What a run leaves.

    Attributes:
        performance: the model's numbers; of a run that was finished before, those in its file.
        judgement: of the study in ``results``, and of the same study with other fills in ``others``.
    """

    folder: Path
    performance: Assessment | completion.Measured
    results: Results
    others: tuple[Results, ...]
    judgement: Judgement
    report: Path


def run(plan: Plan, out: Path | None = None, *, watch: Watch | None = None) -> Outcome:
    """Train (or load), evaluate, explain, study and report, into one folder; what is there already is not done again.

    A run that is finished and from which nothing has changed since is read from its files, see `pipeline.completion`.

    Raises: UsageError, FolderInUse, FileError; Interrupted after Ctrl-C, when the same call goes on.
    """
    plan = checked(plan)
    folder = out or Path("runs", plan.name)
    if completion.whole(folder, plan):
        return _finished(folder)
    shipped = shipped_for(plan)
    with claimed(folder, plan):
        loaded = stages.classifier(plan) if plan.model is not None or shipped is not None else None
        parts = stages.splits(plan, loaded)  # once: many files take a while to check
        stages.check(plan, loaded, parts)
    completion.clear(folder, plan, MAPS, STUDY)
    with _keeping(folder, "training"):
        model = loaded or stages.classifier(plan, parts, out=folder, quiet=watch is None)
    learn, samples = parts
    with _keeping(folder, "evaluating"):
        if shipped is not None:
            announce_shipped(shipped, samples)
        performance = stages.assess(stages.probe(plan, model, samples), samples, out=folder, seed=plan.seed)
    few, explained = stages.chosen(plan, samples), folder / STUDY / KEPT
    with _keeping(folder, "explaining and judging"):
        studies = stages.judge(plan, model, Splits(learn, few), out=folder / STUDY, explained=explained, watch=watch)
        for name in SCORES:
            if (folder / STUDY / name).exists():
                (folder / STUDY / name).replace(folder / name)
    with _keeping(folder, "writing the maps"):
        if not (folder / MAPS).exists() and not _collected(plan, explained, folder / MAPS, len(studies[0])):
            stages.maps(_judged(plan, studies[0]), model, few, out=folder, watch=watch)
        shutil.rmtree(explained, ignore_errors=True)
    with _keeping(folder, "writing the report"):
        judgement = stages.save_verdict(folder, studies)
        page = stages.write_report(folder, studies, plan=plan, model=model, samples=samples, performance=performance)
    completion.mark(
        folder, plan, [folder / name for name in (PERFORMANCE, MAPS, REPORT, VERDICT, *SCORES, f"{STUDY}/results.json")]
    )
    return Outcome(folder, performance, studies[0], studies[1:], judgement, page)


def _collected(plan: Plan, parts: Path, path: Path, count: int) -> bool:
    """Whether the maps of so many samples are kept in a folder of a study; they are then in one file at ``path``."""
    from heatproof.studies.maps import kept_maps

    chunks = [read_maps(part) for part in kept_maps(parts)]
    if sum(max(map(len, chunk.values()), default=0) for chunk in chunks) != count:
        return False
    names = [
        name
        for name in map(str, stages.methods_of(plan, controls=plan.controls))
        if all(name in chunk for chunk in chunks)
    ]
    with map_writer(path, count) as file:
        for chunk in chunks:
            file.write({name: chunk[name] for name in names})
    return True


def _judged(plan: Plan, results: Results) -> Plan:
    """The plan with those of its methods, in their order, that a study could judge."""
    judged = {*results.methods, *results.controls}
    methods = stages.methods_of(plan, controls=plan.controls)
    return replace(plan, methods=tuple(spec for spec in methods if str(spec) in judged))


def _finished(folder: Path) -> Outcome:
    """What the finished run in a folder left."""
    from heatproof.verdict import Judgement

    results, *others = studies_in(folder / STUDY)
    measured = completion.measured(folder / PERFORMANCE)
    return Outcome(folder, measured, results, tuple(others), Judgement(results, others), folder / REPORT)


@contextmanager
def _keeping(folder: Path, work: str) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt as error:
        raise Interrupted(f"stopped while {work}; what was finished is kept in {str(folder)!r}") from error
