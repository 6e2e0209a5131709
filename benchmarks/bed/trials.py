"""Trials: a network is trained on a planted task, a verdict is computed, and both truths are computed beside it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.bed import truths
from benchmarks.bed.answers import JUDGES, Answer, answer
from benchmarks.bed.candidates import FAKES, declared, real, twin_spec
from benchmarks.bed.networks import accuracy, trained
from benchmarks.bed.tasks import Task
from torch import Tensor, nn

import heatproof as hp
from heatproof import Results, StudyOptions
from heatproof.methods import explain
from heatproof.probe import Probe
from heatproof.records import Samples, Skip

LEARNT = 0.8  # of the way from chance to 1: networks below are dropped, and listed
SAMPLES = {1: 96, 2: 72, 3: 48}
POOL = 192  # further test samples: for the accuracy, and for the donors of the truth
QUESTIONS = ("where", "how_much")
TWINS = ("grad-cam", "saliency")

Record = dict[str, Any]


@dataclass(frozen=True)
class Ground:
    """A trained network with what it is judged on.

    Attributes:
        task, seed: of the trial. model: trained. test: the samples studied, with masks. pool: others.
        accuracy: on both.
    """

    task: Task
    seed: int
    model: nn.Module
    test: Samples
    pool: Samples
    accuracy: float

    def probe(self, model: nn.Module | None = None) -> Probe:
        """How the network is asked, or another one with the same outputs: one logit has to be called so."""
        outputs = "binary-logit" if self.task.net(self.seed) == "single" else None
        return Probe(self.model if model is None else model, outputs=outputs)

    @property
    def learnt(self) -> bool:
        """Whether the network is clearly better than chance."""
        chance = 1 / len(self.task.classes)
        return self.accuracy >= chance + LEARNT * (1 - chance)


def ground(task: Task, seed: int, samples: int | None = None) -> Ground:
    """The network of a trial, trained now."""
    count = SAMPLES[len(task.size)] if samples is None else samples
    splits = task.splits(seed, count + POOL)
    model = trained(task.net(seed), splits.train, epochs=task.epochs, seed=seed)
    rows = torch.arange(len(splits.test))
    test, pool = splits.test.take(rows[:count]), splits.test.take(rows[count:])
    return Ground(task, seed, model, test, pool, accuracy(model, splits.test))


def judged(probe: Probe, samples: Samples, methods: Sequence[str], seed: int) -> Results:
    """A study of the methods, without the masks."""
    shown = replace(samples, mask=None)
    return hp.study(probe, shown, list(methods), list(JUDGES), options=StudyOptions(seed=seed), progress=False)


def maps(ground: Ground, methods: Sequence[str], seed: int = 0) -> dict[str, Tensor]:
    """The maps of the methods for the predicted classes, those left out that cannot explain the network."""
    explained: dict[str, Tensor] = {}
    for name in methods:
        try:
            explained[name] = explain(ground.probe(), ground.test.x, name, seed=seed)  # type: ignore[arg-type]
        except hp.errors.HeatproofError:
            continue
    return explained


def margins(model: nn.Module, classes: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """The logit of the class of each sample minus the largest other one; of one logit its sign gives the class."""

    def margin(x: Tensor, number: Tensor) -> Tensor:
        with torch.no_grad():
            logits = model(x)
        if logits.shape[1] == 1:
            return logits[:, 0] * (2 * classes[number] - 1)
        at = classes[number][:, None]
        rest = logits.scatter(1, at, -torch.inf).amax(1)
        return logits.gather(1, at)[:, 0] - rest

    return margin


def predictions(probe: Probe, x: Tensor) -> Tensor:
    """The predicted classes."""
    return probe.logits(x).argmax(1)


def truth(ground: Ground, methods: Sequence[str], *, rounds: int = 2) -> dict[str, Any]:
    """Both truths of every method, means over samples, with the standard error of each and what bears on it."""
    x, pool = ground.test.x, ground.pool.x
    if not isinstance(x, Tensor) or not isinstance(pool, Tensor):
        raise TypeError("samples have to be in memory")
    predicted = predictions(ground.probe(), x)
    games = truths.games(
        margins(ground.model, predicted), x, predicted, pool, predictions(ground.probe(), pool),
        seed=ground.seed, rounds=rounds,
    )  # fmt: skip
    every = maps(ground, methods)
    table: dict[str, dict[str, list[float]]] = {}
    for name, map in every.items():
        row: dict[str, Tensor] = {}
        if ground.test.mask is not None:
            parts = truths.where(map, ground.test.mask)
            row |= parts | {"where": torch.stack(list(parts.values())).mean(0)}
        row |= {"how_much": truths.how_much(map, games), "spearman": truths.how_much(map, games, ranked=True)}
        table[name] = {key: _estimate(value) for key, value in row.items()}
    return {"truths": table, "shapley": _reliability(games)}


def _estimate(value: Tensor) -> list[float]:
    """Mean and standard error."""
    return [round(float(value.mean()), 4), round(float(value.std() / len(value) ** 0.5), 4)]


def _reliability(games: Sequence[truths.Game]) -> dict[str, float]:
    """How far the values of one round can be had from the other, whose cells and donors are different."""
    if len(games) < 2:
        return {}
    first, second = games[:2]
    return {"between rounds": round(float(truths.how_much(mapped(second), [first]).mean()), 3)}


def mapped(game: truths.Game) -> Tensor:
    """The Shapley values as a map, those of a cell divided among its positions."""
    return game.density.gather(1, game.labels.flatten(1)).reshape(game.labels.shape)


def candidates(rank: int) -> list[str]:
    """All that stand in a trial of inputs of so many axes: real methods, fakes, twins."""
    return [*real(rank), *FAKES, *(twin_spec(name) for name in TWINS)]


def trial(task: Task, seed: int) -> Record:
    """One trial in plain types."""
    clock = [time.perf_counter()]
    stand = ground(task, seed)
    clock.append(time.perf_counter())
    record: Record = {
        "task": task.name, "seed": seed, "net": task.net(seed), "rank": len(task.size),
        "everywhere": task.everywhere, "design": task.design, "accuracy": round(stand.accuracy, 4),
        "samples": len(stand.test), "dropped": not stand.learnt,
    }  # fmt: skip
    if not stand.learnt:
        return record
    with declared():
        everyone = candidates(len(task.size))
        measured = truth(stand, everyone)
        clock.append(time.perf_counter())
        results = judged(stand.probe(), stand.test, everyone, seed)
        reply = answer(results)
    clock.append(time.perf_counter())
    record |= {"skips": [_skip(skip) for skip in results.skips], **measured, "answer": asdict(reply)}
    record["passes"] = spent(results)
    record["seconds"] = [round(b - a, 1) for a, b in pairwise(clock)]
    return record | outcome(record["truths"], reply, everywhere=task.everywhere)


def _skip(skip: Skip) -> list[str]:
    return [skip.method, skip.metric, skip.reason]


def spent(results: Results) -> dict[str, float]:
    """Passes a sample of the whole study, by kind."""
    passes: Mapping[str, float] = results.about.get("passes", {})
    return {kind: round(count / len(results), 1) for kind, count in passes.items()}


def outcome(table: Mapping[str, Mapping[str, Sequence[float]]], reply: Answer, *, everywhere: bool) -> Record:
    """What is right and what was named for each question; a question is right where every named method is."""
    outcome: Record = {"right": {}, "named": {}, "verdict": {}, "value": {}}
    honest = [name for name in table if not name.startswith(("fake-", "twin"))]
    for question in QUESTIONS:
        if question == "where" and everywhere:
            continue
        scores = {name: row[question][0] for name, row in table.items()}
        fit = truths.right(scores, honest)
        best = max(scores[name] for name in honest)
        twins = [name for name in scores if name.startswith("twin") and scores[name] >= best - truths.NEAR]
        named = list(reply.named(question))
        outcome["right"][question], outcome["named"][question] = fit, named
        outcome["verdict"][question] = _word(named, [*fit, *twins])
        if named:
            outcome["value"][question] = round(float(np.mean([scores.get(name, 0.0) for name in named])) - best, 3)
    outcome["fakes"] = [name for name in reply.eligible if name.startswith("fake-")]
    words = set(outcome["verdict"].values())
    outcome["overall"] = "silent" if words == {"silent"} else "wrong" if "wrong" in words else "right"
    return outcome


def _word(named: Sequence[str], fit: Sequence[str]) -> str:
    return "silent" if not named else "right" if set(named) <= set(fit) else "wrong"


def kept(path: Path, make: Callable[[], Record]) -> Record:
    """What ``make`` gives, kept at ``path``; read from there where it was made before."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        record = make()
        part = path.with_suffix(f".{os.getpid()}")
        part.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        part.replace(path)
    return dict(json.loads(path.read_text(encoding="utf-8")))
