"""Finished runs and studies: read, and reported again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from heatproof.pipeline import stages
from heatproof.pipeline.manifest import RUN, read_plan

if TYPE_CHECKING:
    from heatproof.results.record import Results


def studies_in(folder: Path) -> tuple[Results, ...]:
    """The finished study in a folder, then the same with other fills, as `stages.judge` leaves them.

    Raises: FileError where it is missing or damaged.
    """
    from heatproof.results.storage import load_all

    return tuple(load_all(folder))


def report(folder: Path, out: Path | None = None) -> Path:
    """The report of a finished run or study, written again.

    Raises: FileError where neither lies in the folder.
    """
    if not (folder / RUN).exists():
        return stages.write_study_report(folder, studies_in(folder), out=out)
    plan, studies = read_plan(folder), studies_in(folder / stages.STUDY)
    model = stages.classifier(plan, out=folder)
    samples = stages.splits(plan, model).test
    performance = stages.assess(stages.probe(plan, model, samples), samples, seed=plan.seed)
    return stages.write_report(
        folder, studies, plan=plan, model=model, samples=samples, performance=performance, out=out
    )
