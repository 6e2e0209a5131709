"""Finished runs side by side: what differs between them, and paired tests where they judged the same samples."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from heatproof import stats
from heatproof.errors import UsageError
from heatproof.pipeline.completion import numbers
from heatproof.pipeline.manifest import RUN, read_plan
from heatproof.pipeline.plan import identity
from heatproof.pipeline.stages import PERFORMANCE, STUDY
from heatproof.records import Estimate

if TYPE_CHECKING:
    from heatproof.results.record import Results

LABELS = {"model": "model weights", "samples": "test samples", "data": "data name"}
PROSE = ("fill_summary",)


@dataclass(frozen=True)
class Member:
    """One of several runs: its name, its settings, its study, and the classifier's numbers where it has any."""

    name: str
    settings: Mapping[str, str]
    numbers: Mapping[str, Estimate]
    results: Results


@dataclass(frozen=True)
class Paired:
    """One method by one metric in two runs on the same samples.

    Attributes:
        difference: the mean of the second run's score less the first one's in each sample, with its interval.
        p: Wilcoxon's signed-rank test, adjusted by Holm's rule over all cells that are compared.
    """

    first: str
    second: str
    method: str
    metric: str
    difference: Estimate
    p: float


@dataclass(frozen=True)
class Comparison:
    """Runs side by side.

    Attributes:
        differing: the settings that all runs have and that are not the same in all, with the value of each run.
        paired: tests of runs on the same samples. unpaired: names of runs, two and two, whose samples differ.
    """

    runs: tuple[Member, ...]
    differing: Mapping[str, tuple[str, ...]]
    paired: tuple[Paired, ...]
    unpaired: tuple[tuple[str, str], ...]


def compare(folders: Sequence[Path]) -> Comparison:
    """The runs (or studies) in the folders side by side.

    Raises: UsageError for fewer than two, FileError where one is not finished.
    """
    if len(folders) < 2:
        raise UsageError(f"got {len(folders)} run, expected at least two to compare")
    names = [folder.name for folder in folders]
    runs = tuple(
        _member(folder, name if names.count(name) == 1 else str(folder))
        for folder, name in zip(folders, names, strict=True)
    )
    shared = [key for key in runs[0].settings if all(key in run.settings for run in runs)]
    values = {key: tuple(run.settings[key] for run in runs) for key in shared}
    pairs = [(a, b, same_samples(a.results, b.results)) for a, b in itertools.combinations(runs, 2)]
    return Comparison(
        runs,
        {key: row for key, row in values.items() if len(set(row)) > 1},
        _tested([(a, b) for a, b, same in pairs if same]),
        tuple((a.name, b.name) for a, b, same in pairs if not same),
    )


def same_samples(a: Results, b: Results) -> bool:
    """Whether two studies judged the same samples in the same order."""
    digests = (a.about.get("samples"), b.about.get("samples"))
    if None not in digests:
        return digests[0] == digests[1]
    return bool(a.ids) and a.ids == b.ids and np.array_equal(a.y, b.y)


def _member(folder: Path, name: str) -> Member:
    from heatproof.results import storage

    run = (folder / RUN).exists()
    results = storage.load(folder / STUDY if run else folder)
    settings = {LABELS.get(key, key): _said(value) for key, value in results.about.items() if _is_setting(key, value)}
    settings |= {key: _said(getattr(results, key)) for key in ("methods", "controls", "metrics")}
    if run:
        plan = identity(read_plan(folder))
        settings |= {key: _said(value) for key, value in plan.items() if key not in settings}
    return Member(name, settings, numbers(folder / PERFORMANCE), results)


def _is_setting(key: str, value: Any) -> bool:
    return isinstance(value, (str, int, float)) and key not in PROSE


def _said(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value)) or "the default"
    return "the default" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _tested(pairs: Sequence[tuple[Member, Member]]) -> tuple[Paired, ...]:
    """Every method and metric that two runs share, tested; p-values adjusted over all of them."""
    rows: list[tuple[str, str, str, str, Estimate]] = []
    raw: list[float] = []
    for a, b in pairs:
        for metric, method in itertools.product(a.results.metrics, a.results.methods):
            scores = [run.results.scores.get((method, metric)) for run in (a, b)]
            if scores[0] is None or scores[1] is None or method not in b.results.methods:
                continue
            difference = stats.estimate(scores[1] - scores[0], level=a.results.level)
            raw.append(float(stats.pairwise(np.stack([scores[0], scores[1]], axis=1), correction="none").p[0, 1]))
            rows.append((a.name, b.name, method, metric, difference))
    return tuple(Paired(*row, p=float(p)) for row, p in zip(rows, stats.holm(raw), strict=True))
