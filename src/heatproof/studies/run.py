"""Running a study: chunks of samples are judged one after another or by workers, and kept."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import cast, overload

import torch
from torch import Tensor, nn

from heatproof import workers as working
from heatproof.errors import Interrupted
from heatproof.probe import Probe
from heatproof.records import Samples, Splits
from heatproof.registry import Spec
from heatproof.results.record import Results
from heatproof.studies.assembly import begin, gathered, shown
from heatproof.studies.checkpoint import BEGUN, Arrays, Journal, folder_of
from heatproof.studies.chunk import EXPLAINING, JUDGING, Tick
from heatproof.studies.chunk import chunk as _chunk
from heatproof.studies.plan import Aim, Named, Plan, plan_of
from heatproof.studies.shuffled_labels import with_shuffled

Progress = Callable[[int, int], None]
Tell = Callable[[str, int, int], None]


@overload
def study(
    model: nn.Module | Probe, samples: Samples | Splits, methods: Sequence[Named] | None = ...,
    metrics: Sequence[Named] | None = ..., *, out: str | os.PathLike[str] | None = ..., target: Aim = ...,
    fill: Named = ..., controls: bool = ..., trials: bool = ..., seed: int = ..., resume: bool = ...,
    confidence: float = ..., workers: str = ..., progress: Progress | None = ...,
) -> Results: ...  # fmt: skip
@overload
def study(
    model: nn.Module | Probe, samples: Samples | Splits, methods: Sequence[Named] | None = ...,
    metrics: Sequence[Named] | None = ..., *, out: str | os.PathLike[str] | None = ..., target: Aim = ...,
    fill: list[str] | tuple[Named, ...], controls: bool = ..., trials: bool = ..., seed: int = ..., resume: bool = ...,
    confidence: float = ..., workers: str = ..., progress: Progress | None = ...,
) -> tuple[Results, ...]: ...  # fmt: skip
def study(
    model: nn.Module | Probe,
    samples: Samples | Splits,
    methods: Sequence[Named] | None = None,
    metrics: Sequence[Named] | None = None,
    *,
    out: str | os.PathLike[str] | None = None,
    target: Aim = None,
    fill: Named | list[str] | tuple[Named, ...] = "mean",
    controls: bool = True,
    trials: bool = True,
    seed: int = 0,
    resume: bool = True,
    confidence: float = 0.95,
    workers: str = "serial",
    progress: Progress | None = None,
) -> Results | tuple[Results, ...]:
    """Every method judged by every metric on every sample; for a list of fills a study each, explained only once.

    Args:
        samples: with their training samples (Splits) for label-randomisation, unless the model's card tells of them.
        methods, metrics: by default three CAMs and sixteen metrics, which keep 0.3 of a signal and 0.9 of an image.
        out: a folder; finished chunks are kept there, and a stopped study goes on from them.
        target: the class explained; None for the predicted one, "label" for the true one, or one a sample.
        fill: what removed positions become, see `heatproof.fills.fills`.
        controls: whether random, edge, absolute-input and centre maps are judged too.
        trials: whether metrics are tried on inverted maps and noise, and the model against random twins.
        workers: "serial", "processes:4" or "ray"; the numbers are the same.
        progress: called with the scores done and all to do.

    Raises: UnknownName, InputError, UsageError, FolderInUse; Interrupted on Ctrl-C, finished chunks kept.
    """
    plan = plan_of(
        model, samples, methods, metrics,
        target=target, fill=fill, controls=controls, trials=trials, seed=seed, level=confidence,
    )  # fmt: skip
    tell = None if progress is None else partial(_judged, progress)
    several = carried_out(plan, None if out is None else Path(out), resume=resume, workers=workers, tell=tell)
    return several[0] if isinstance(fill, (str, Spec)) else several


def carried_out(
    plan: Plan, out: Path | None = None, *, resume: bool = True, workers: str = working.SERIAL, tell: Tell | None = None
) -> tuple[Results, ...]:
    """The study of a plan with each of its fills; what is in the folder already is read from there.

    ``tell`` is called with "explaining" or "judging", and the samples or the scores done and all to do.

    Raises: FolderInUse, FileError, UsageError; Interrupted on Ctrl-C, finished chunks kept.
    """
    journals = {each: _journal(plan, each, out, resume) for each in plan.fills}
    found = {f: _loaded(journal) for f, journal in journals.items() if journal is not None and journal.finished}
    left = {each: journal for each, journal in journals.items() if each not in found}
    if left:
        plan = with_shuffled(replace(plan, fills=tuple(left)), out)
        found |= _Run(plan, left, workers, tell, len(found)).results(out)
    return tuple(found[each] for each in journals)


def _judged(progress: Progress, stage: str, done: int, total: int) -> None:
    if stage == JUDGING:
        progress(done, total)


def _journal(plan: Plan, fill: Spec, out: Path | None, resume: bool) -> Journal | None:
    if out is None:
        return None
    return Journal(folder_of(out, plan.fills, fill), plan.identity(fill), resume=resume)


def _loaded(journal: Journal) -> Results:
    return cast(Results, importlib.import_module("heatproof.results.storage").load(journal.folder))


@dataclass(frozen=True, eq=False)
class _Begun:
    """What the whole study needs before its chunks: the class scores (N, classes), and the places shown."""

    arrays: Arrays
    shown: tuple[int, ...]

    @property
    def logits(self) -> Tensor:
        return torch.from_numpy(self.arrays["logits"])


@dataclass(frozen=True, eq=False)
class _Job:
    """One chunk to be judged with some fills."""

    number: int
    rows: Tensor
    logits: Tensor
    fills: tuple[Spec, ...]


@dataclass(frozen=True, eq=False)
class _Task:
    """What every job shares; sent to workers once."""

    plan: Plan
    shown: tuple[int, ...]
    tick: Tick


def _silent(_: str, __: int) -> None:
    """Workers do not tell how far they are within a chunk."""


def _work(task: _Task, job: _Job) -> list[Arrays]:
    return _chunk(task.plan, job.rows, job.logits, task.shown, job.fills, task.tick)


class _Run:
    """A study on its way: the fills that are not finished, each with its journal or none."""

    def __init__(
        self, plan: Plan, journals: Mapping[Spec, Journal | None], how: str, tell: Tell | None, finished: int
    ) -> None:
        self.plan, self.journals, self.how, self.tell = plan, journals, how, tell
        n, each = len(plan.samples), len(plan.samples) * plan.cells
        self.total = {EXPLAINING: n, JUDGING: each * (len(journals) + finished)}
        self.done = {EXPLAINING: 0, JUDGING: each * finished}

    def results(self, out: Path | None) -> dict[Spec, Results]:
        """The results by fill, saved where there is a folder."""
        try:
            begun = self._begin()
            parts = self._chunks(begun)
        except KeyboardInterrupt as error:
            kept = f"finished chunks are kept in {str(out)!r}, run again to go on" if out else "nothing was kept"
            done, total = self.done[JUDGING], self.total[JUDGING]
            raise Interrupted(f"study stopped after {done} of {total} scores; {kept}") from error
        found = {fill: gathered(self.plan, fill, begun.arrays, parts[fill], begun.shown) for fill in self.journals}
        for fill, journal in self.journals.items():
            if journal is not None:
                found[fill].save(journal.folder)
                journal.close()
        return found

    def _begin(self) -> _Begun:
        journal = next(iter(self.journals.values()))
        known = None if journal is None else journal.read(BEGUN)
        arrays = begin(self.plan) if known is None else known
        if known is None and journal is not None:
            journal.write(BEGUN, arrays)
        return _Begun(arrays, tuple(shown(self.plan, torch.from_numpy(arrays["logits"]))))

    def _chunks(self, begun: _Begun) -> dict[Spec, list[Arrays]]:
        """By fill the arrays of every chunk; those in the journals are not worked out again."""
        parts: dict[Spec, dict[int, Arrays]] = {fill: {} for fill in self.journals}
        jobs = []
        self._tick(EXPLAINING, 0)
        for number, rows in enumerate(self.plan.chunks()):
            for fill, journal in self.journals.items():
                found = None if journal is None else journal.read(number)
                if found is not None:
                    parts[fill][number] = found
                    self._count(JUDGING, len(rows) * self.plan.cells)
            lacking = tuple(fill for fill in parts if number not in parts[fill])
            if not lacking:
                self._count(EXPLAINING, len(rows))
            else:
                jobs.append(_Job(number, rows, begun.logits[rows], lacking))
        task = _Task(self.plan, begun.shown, self._tick if self.how == working.SERIAL else _silent)
        for job, made in zip(jobs, working.mapped(_work, task, jobs, workers=self.how), strict=True):
            # The first fill, which tells what all share, is kept last: where it lacks a chunk it is first again.
            for fill, arrays in reversed([*zip(job.fills, made, strict=True)]):
                journal = self.journals[fill]
                if journal is not None:
                    journal.write(job.number, arrays)
                parts[fill][job.number] = arrays
            self._count(EXPLAINING, len(job.rows))
            self._count(JUDGING, len(job.rows) * self.plan.cells * len(job.fills))
        return {fill: [known[number] for number in sorted(known)] for fill, known in parts.items()}

    def _count(self, stage: str, done: int) -> None:
        self.done[stage] += done
        self._tick(stage, 0)

    def _tick(self, stage: str, done: int) -> None:
        """Samples or scores of the chunk at hand that are done."""
        if self.tell is not None:
            self.tell(stage, self.done[stage] + done, self.total[stage])
