"""What can be done with runs that are finished: write the report again, put them side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from heatproof.errors import UsageError
from heatproof.pipeline.completion import numbers
from heatproof.pipeline.plan import RUN, plan_of
from heatproof.pipeline.stages import PERFORMANCE, REPORT, STUDY, assess, classifier, splits, studied, write_report
from heatproof.records import Estimate

if TYPE_CHECKING:
    from heatproof.results.record import Results


def report(folder: Path, out: Path | None = None) -> Path:
    """The report of a finished run or study, written again.

    Raises: FileError where neither lies in the folder.
    """
    from heatproof.report import write

    if not (folder / RUN).exists():
        results, *others = studied(folder)
        return write(results, out or folder / REPORT, others=others, files=True)
    plan, studies = plan_of(folder), studied(folder / STUDY)
    model = classifier(plan, out=folder)
    samples = splits(plan, model).test
    performance = assess(model, samples, seed=plan.seed)
    return write_report(folder, studies, plan=plan, model=model, samples=samples, performance=performance, out=out)


@dataclass(frozen=True)
class Compared:
    """One of several runs: its name, the classifier's numbers where they are known, and what its study found."""

    name: str
    numbers: Mapping[str, Estimate]
    results: Results


def compare(folders: Sequence[Path]) -> tuple[Compared, ...]:
    """The runs (or studies) in the folders, ready to be shown side by side.

    Raises: UsageError for fewer than two, FileError where one is not finished.
    """
    from heatproof.results import storage as store

    if len(folders) < 2:
        raise UsageError(f"got {len(folders)} run, expected at least two to compare")
    names = [folder.name for folder in folders]
    found = []
    for folder, name in zip(folders, names, strict=True):
        inner = folder / STUDY if (folder / RUN).exists() else folder
        label = name if names.count(name) == 1 else str(folder)
        found.append(Compared(label, numbers(folder / PERFORMANCE), store.load(inner)))
    return tuple(found)
