"""Running a study: chunk after chunk, in this process or by workers, with finished chunks kept on disk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from heatproof.errors import FolderInUse, Interrupted, NotApplicable, UsageError
from heatproof.probe import Probe
from heatproof.records import Samples, Splits
from heatproof.registry import Spec
from heatproof.results.record import Results
from heatproof.results.storage import load, save
from heatproof.studies.assembly import gallery_rows, results_of
from heatproof.studies.checkpoint import PREDICTIONS, Journal, folder_of
from heatproof.studies.chunk import Chunk, Predictions
from heatproof.studies.failures import logged, reason
from heatproof.studies.options import StudyOptions
from heatproof.studies.plan import Plan, plan_of
from heatproof.studies.progress import Progress, reported
from heatproof.studies.scores import EXPLAINING, JUDGING, WEIGHING, Advance, Job, chunks_of, predictions_of
from heatproof.studies.twins import Twin, twin_model, twins_of
from heatproof.studies.witness import Witness
from heatproof.workers import SERIAL, mapped, processes


@torch.inference_mode(False)
def run(
    model: nn.Module | Probe,
    samples: Samples | Splits,
    options: StudyOptions,
    *,
    out: Path | None = None,
    resume: bool = True,
    workers: str = SERIAL,
    progress: Progress | bool | None = None,
) -> tuple[Results, ...]:
    """Every method judged by every metric on every sample: the results with each of the fills.

    Args:
        samples: with their training samples (Splits) for metrics that need them, unless the model's card names them.
        out: a folder; finished chunks are kept there, and a stopped study continues from them.
        workers: "serial", "processes:4" or "ray"; the numbers are the same.
        progress: called with "explaining" or "judging", and the samples or scores done and all to do; True for a bar.

    Raises: UnknownName, InputError, UsageError, FolderInUse, FileError; Interrupted on Ctrl-C, finished chunks kept.
    """
    processes(workers)
    plan = plan_of(model, samples, options)
    return run_plan(plan, out, resume=resume, workers=workers, progress=progress)


@torch.inference_mode(False)
def run_plan(
    plan: Plan,
    out: Path | None = None,
    *,
    maps: Path | None = None,
    resume: bool = True,
    workers: str = SERIAL,
    progress: Progress | bool | None = None,
) -> tuple[Results, ...]:
    """The study of a plan, as `run`; what is in the folder already is read from there.

    With ``maps``, a folder, the maps of each chunk are kept there too, and those that are there are not computed again.

    Raises: FolderInUse, FileError, UsageError; Interrupted on Ctrl-C, finished chunks kept.
    """
    processes(workers)
    witness = plan.witness()
    journals = {fill: _journal(plan, witness, fill, out, resume) for fill in plan.fills}
    finished = {fill: load(j.folder) for fill, j in journals.items() if j is not None and j.finished}
    unfinished = {fill: journal for fill, journal in journals.items() if fill not in finished}
    if unfinished:
        plan = with_twins(replace(plan, fills=tuple(unfinished)), out)
        with reported(progress) as watch, logged(out):
            finished |= _Run(plan, unfinished, maps, workers, watch, len(finished), out).results()
    return tuple(finished[fill] for fill in journals)


def with_twins(plan: Plan, out: Path | None) -> Plan:
    """The plan with the networks that its metrics need, or with the reason why there are none."""
    if plan.learn is None:
        return plan
    models, obstacles = dict[Twin, nn.Module](), dict(plan.obstacles)
    for twin in twins_of(plan.metrics):
        if twin.need in obstacles:
            continue
        try:
            models[twin] = twin_model(plan.probe, plan.learn, twin, out=out, seed=plan.seed)
        except FolderInUse:
            raise
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # whatever its training raises, the other metrics go on
            failed = error if isinstance(error, (NotApplicable, UsageError)) else reason(Spec("training"), error)
            obstacles[twin.need] = f"a model like this one cannot be trained ({failed})"
    return replace(plan, twins=models, obstacles=obstacles)


def _journal(plan: Plan, witness: Witness, fill: Spec, out: Path | None, resume: bool) -> Journal | None:
    if out is None:
        return None
    return Journal(folder_of(out, plan.fills, fill), plan.identity(fill), witness, resume=resume)


@dataclass(frozen=True, eq=False)
class _Task:
    """What all jobs need; sent to each worker once. Another process logs by itself, into the same folder."""

    plan: Plan
    advance: Advance
    log: Path | None = None


def _compute(task: _Task, job: Job) -> dict[Spec, Chunk]:
    with logged(task.log):
        return chunks_of(task.plan, job, task.advance)


def _silent(stage: str, done: int) -> None:
    """Other processes do not report how far they are within a chunk."""


class _Run:
    """A study in progress: the fills that are not finished, each with its journal or none."""

    def __init__(
        self,
        plan: Plan,
        journals: Mapping[Spec, Journal | None],
        maps: Path | None,
        workers: str,
        progress: Progress | None,
        finished: int,
        out: Path | None,
    ) -> None:
        self.plan, self.journals, self.maps, self.workers, self.progress = plan, journals, maps, workers, progress
        self.out = out
        per_fill = len(plan.samples) * len(plan.cells)
        self.total = {EXPLAINING: len(plan.samples), JUDGING: per_fill * (len(journals) + finished)}
        self.total[WEIGHING] = len(plan.samples)
        self.done = {EXPLAINING: 0, WEIGHING: 0, JUDGING: per_fill * finished}

    def results(self) -> dict[Spec, Results]:
        """The results by fill, saved where there is a folder."""
        try:
            predictions = self._predictions()
            chunks = self._chunks(predictions)
        except KeyboardInterrupt as error:
            hint = (
                f"finished chunks are kept in {str(self.out)!r}, run again to continue"
                if self.out
                else "nothing was kept"
            )
            done, total = self.done[JUDGING], self.total[JUDGING]
            raise Interrupted(f"study stopped after {done} of {total} scores; {hint}") from error
        results = {fill: results_of(self.plan, fill, predictions, chunks[fill]) for fill in self.journals}
        for fill, journal in self.journals.items():
            if journal is not None:
                save(results[fill], journal.folder)
                journal.close()
        return results

    def advance(self, stage: str, done: int) -> None:
        """Report samples or scores of the chunk at hand that are done."""
        if self.progress is not None:
            self.progress(stage, self.done[stage] + done, self.total[stage])

    def _predictions(self) -> Predictions:
        journal = next(iter(self.journals.values()))
        arrays = None if journal is None else journal.read(PREDICTIONS)
        if arrays is not None:
            return Predictions.of(arrays)
        predictions = predictions_of(self.plan)
        if journal is not None:
            journal.write(PREDICTIONS, predictions.arrays())
        return predictions

    def _chunks(self, predictions: Predictions) -> dict[Spec, list[Chunk]]:
        """By fill every chunk in order; those in the journals are not computed again."""
        chunks: dict[Spec, dict[int, Chunk]] = {fill: {} for fill in self.journals}
        gallery, jobs = gallery_rows(self.plan, predictions), dict[int, Job]()
        places = self.plan.donors(predictions.logits)
        donors = places if bool((places >= 0).any()) else None
        self.advance(EXPLAINING, 0)
        for number, rows in enumerate(self.plan.chunks()):
            for fill in self.journals:
                chunk = self._read(fill, number)
                if chunk is not None:
                    chunks[fill][number] = chunk
                    self._count(JUDGING, len(rows) * len(self.plan.cells))
            fills = tuple(fill for fill in chunks if number not in chunks[fill])
            if fills:
                jobs[number] = Job(
                    rows, predictions.logits[rows], None if donors is None else donors[rows], fills, gallery, self.maps
                )
            else:
                self._count(EXPLAINING, len(rows))
                self.done[WEIGHING] += len(rows)
        task = _Task(self.plan, self.advance) if self.workers == SERIAL else _Task(self.plan, _silent, self.out)
        computed = mapped(_compute, task, list(jobs.values()), workers=self.workers)
        for (number, job), parts in zip(jobs.items(), computed, strict=True):
            # The first fill is kept last: what fills share is computed with it, so it is first again where it lacks.
            for fill in reversed(job.fills):
                self._write(fill, number, parts[fill])
                chunks[fill][number] = parts[fill]
            self._count(EXPLAINING, len(job.rows))
            self.done[WEIGHING] += len(job.rows)
            self._count(JUDGING, len(job.rows) * len(self.plan.cells) * len(job.fills))
        return {fill: [parts[number] for number in sorted(parts)] for fill, parts in chunks.items()}

    def _read(self, fill: Spec, number: int) -> Chunk | None:
        journal = self.journals[fill]
        arrays = None if journal is None else journal.read(number)
        return None if arrays is None else Chunk.of(arrays, self.plan.all_methods, self.plan.metrics)

    def _write(self, fill: Spec, number: int, chunk: Chunk) -> None:
        journal = self.journals[fill]
        if journal is not None:
            journal.write(number, chunk.arrays(self.plan.all_methods, self.plan.metrics))

    def _count(self, stage: str, done: int) -> None:
        self.done[stage] += done
        self.advance(stage, 0)
