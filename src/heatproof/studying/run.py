"""Running a study: chunks of samples are explained by all methods together, judged by all metrics, and kept."""

from __future__ import annotations

import importlib
import json
import math
import os
import platform
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from torch import Tensor, nn

import heatproof
from heatproof import methods as attribution
from heatproof import metrics as judging
from heatproof import perturb
from heatproof.errors import InputError, Interrupted, NotApplicable, UsageError
from heatproof.probe import Contrast, Goal, Probe, Target, as_probe
from heatproof.records import Samples, Skip
from heatproof.registry import Spec
from heatproof.studying import trials
from heatproof.studying.clock import Clock, together
from heatproof.studying.journal import Arrays, Journal, model_digest, samples_digest
from heatproof.studying.results import Band, Cell, Gallery, Results
from heatproof.studying.trials import Trials

Progress = Callable[[int, int], None]
METHODS = ("grad-cam", "grad-cam-plus-plus", "ablation-cam")
CONTROLS = ("random", "edge", "absolute-input", "centre")
METRICS = ("average-drop", "increase-in-confidence", "deletion", "insertion", "pointing-game", "relevance-mass")
CHUNK = 256  # samples at most in a chunk
POOL = 256  # samples at most that donors are drawn from


def study(
    model: nn.Module | Probe,
    samples: Samples,
    methods: Sequence[str | Spec] | None = None,
    metrics: Sequence[str | Spec] | None = None,
    *,
    out: str | os.PathLike[str] | None = None,
    target: Target | Literal["label"] = None,
    fill: str | Spec = "mean",
    controls: bool = True,
    seed: int = 0,
    resume: bool = True,
    confidence: float = 0.95,
    progress: Progress | None = None,
) -> Results:
    """Every method judged by every metric on every sample.

    Args:
        methods, metrics: specs; by default three CAMs and six metrics, which keep 0.3 of a signal and 0.5 of an image.
        out: a folder for the results; finished chunks are kept there, and a stopped study goes on from them.
        target: the class explained; None for the predicted one, "label" for the true one, or one a sample.
        fill: what removed positions become, see `heatproof.perturb.fills`.
        controls: whether random, edge, absolute-input and centre maps are judged beside the methods.
        progress: called with the scores done and all to do.

    Raises: UnknownName, InputError, UsageError, FolderInUse; Interrupted on Ctrl-C, finished chunks kept.
    """
    plan = _plan(as_probe(model), samples, methods, metrics, target, fill, controls, seed, confidence)
    journal = None if out is None else Journal(Path(out), plan.identity(), resume=resume)
    if journal is not None and journal.finished:
        return cast(Results, importlib.import_module("heatproof.store").load(journal.folder))
    done = 0
    try:
        logits = _logits(plan)
        shown = _shown(plan, logits)
        parts = []
        for number, rows in enumerate(plan.chunks()):
            found = journal.read(number) if journal else None
            if found is None:
                found = _chunk(plan, rows, logits, shown, _ticker(progress, done, plan.total))
                if journal is not None:
                    journal.write(number, found)
            parts.append(found)
            done += len(rows) * plan.cells
            if progress is not None:
                progress(done, plan.total)
    except KeyboardInterrupt as error:
        kept = f"finished chunks are kept in {str(out)!r}, run again to go on" if out else "nothing was kept (no out)"
        raise Interrupted(f"study stopped after {done} of {plan.total} scores; {kept}") from error
    results = _results(plan, parts, logits, shown)
    if journal is not None:
        results.save(journal.folder)
        journal.close()
    return results


def _ticker(progress: Progress | None, done: int, total: int) -> Callable[[int], None]:
    """Reports the scores of a chunk as they are done."""
    return (lambda n: progress(done + n, total)) if progress is not None else (lambda _: None)


@dataclass(frozen=True, eq=False)
class Plan:
    """Everything that decides the numbers of a study."""

    probe: Probe
    samples: Samples
    methods: tuple[Spec, ...]
    controls: tuple[Spec, ...]
    metrics: tuple[Spec, ...]
    target: Any
    fill: Spec
    seed: int
    level: float
    pool: Tensor | None = None
    made: dict[str, str] = field(default_factory=dict)

    @property
    def everyone(self) -> tuple[Spec, ...]:
        return (*self.methods, *self.controls)

    @property
    def cells(self) -> int:
        return len(self.everyone) * len(self.metrics)

    @property
    def total(self) -> int:
        return len(self.samples) * self.cells

    def chunks(self) -> Iterator[Tensor]:
        """The samples, cut by their size alone, so that every run of the study cuts them alike."""
        size = max(1, min(CHUNK, 2**22 // max(1, math.prod(self.samples.x.shape[1:]))))
        yield from torch.arange(len(self.samples)).split(size)

    def x(self, rows: Tensor) -> Tensor:
        return self.samples.x[int(rows[0]) : int(rows[-1]) + 1]

    def goal(self, rows: Tensor, logits: Tensor) -> Goal:
        target = self.target
        if isinstance(target, (list, tuple, Tensor, np.ndarray)) and np.ndim(target):
            target = torch.as_tensor(target)[rows]
        return Goal.of(target, logits)

    def identity(self) -> dict[str, Any]:
        """What two runs must share to be the same study."""
        probe = self.probe
        return {
            "version": heatproof.__version__,
            "model": model_digest(probe.model),
            "samples": samples_digest(self.samples),
            "score": probe.score,
            "layer": self.made["layer"],
            "methods": [str(s) for s in self.methods],
            "controls": [str(s) for s in self.controls],
            "metrics": [str(s) for s in self.metrics],
            "target": self.made["target"],
            "fill": str(self.fill),
            "seed": self.seed,
            "level": self.level,
        }


def _plan(
    probe: Probe,
    samples: Samples,
    methods: Sequence[str | Spec] | None,
    metrics: Sequence[str | Spec] | None,
    target: Any,
    fill: str | Spec,
    controls: bool,
    seed: int,
    level: float,
) -> Plan:
    if not len(samples):
        raise InputError("got no samples; a study needs at least one")
    if not 0 < level < 1:
        raise InputError(f"confidence: got {level}, expected a number between 0 and 1, such as 0.95")
    asked = attribution.parse(METHODS if methods is None else methods)
    judges = judging.parse(_default_metrics(samples) if metrics is None else metrics)
    if not asked or not judges:
        raise UsageError(f"got an empty list of {'metrics' if asked else 'methods'}; name at least one")
    named = [spec for spec in asked if attribution.methods[spec.name].control]
    extra = attribution.parse(CONTROLS) if controls else []
    extra = [spec for spec in extra if spec.name not in {s.name for s in named}]
    told = target if isinstance(target, (str, int, type(None))) else _digest(target)
    if isinstance(target, str):
        if target != "label":
            raise InputError(f"target: got {target!r}, expected None, 'label', a class, or one class a sample")
        target = samples.y
    first = probe.check(samples.x[:2])
    cams = any(attribution.methods[spec.name].family == "cam" for spec in asked)
    made = {"layer": probe.choice(first) if cams else "none", "target": str(told)}
    spec = perturb.fills.spec(fill)
    spread = torch.linspace(0, len(samples) - 1, min(POOL, len(samples))).round().long()
    pool = probe.check(samples.take(spread).x[:]) if "donor" in f"{spec} {judges}" else None
    chosen = tuple(spec for spec in asked if spec not in named)
    return Plan(probe, samples, chosen, (*named, *extra), tuple(judges), target, spec, seed, level, pool, made)


def _default_metrics(samples: Samples) -> list[str]:
    kept = ":keep=0.3" if len(samples.x.shape) == 3 else ""
    return [name + kept * ("keep" in judging.metrics[name].options) for name in METRICS]


def _digest(target: Any) -> str:
    if isinstance(target, Contrast):
        return repr(target)
    if callable(target) and not isinstance(target, Tensor):
        return str(getattr(target, "__qualname__", type(target).__name__))
    return " ".join(map(str, torch.as_tensor(target).flatten().tolist()))


def _logits(plan: Plan) -> Tensor:
    """The class scores of all samples, by the same chunks as all else."""
    return torch.cat([plan.probe.logits(plan.x(rows)).cpu() for rows in plan.chunks()])


def _shown(plan: Plan, logits: Tensor) -> list[int]:
    """Of each class the first sample told right and the first told wrong, as many as can be shown."""
    right = (logits.argmax(1) == plan.samples.y).tolist()
    first: dict[tuple[int, bool], int] = {}
    for place, key in enumerate(zip(plan.samples.y.tolist(), right, strict=True)):
        first.setdefault(key, place)
    size = math.prod(plan.samples.x.shape[1:])
    most = max(4, min(2 * len(plan.samples.classes), 24, 2**24 // max(size, 1)))
    return sorted(sorted(first.values(), key=lambda i: (not right[i], i))[:most])


def _chunk(plan: Plan, rows: Tensor, logits: Tensor, shown: list[int], tick: Callable[[int], None]) -> Arrays:
    """The scores, curves, shown maps, skips and trials of some samples, as plain arrays."""
    clock = Clock()
    found, base, maps = _judged(plan, rows, logits, shown, tick, clock)
    found |= _tried(plan, rows, base, maps)
    clock.lap("trials", ["all"])
    return found | clock.array()


def _judged(
    plan: Plan, rows: Tensor, logits: Tensor, shown: list[int], tick: Callable[[int], None], clock: Clock
) -> tuple[Arrays, judging.Case | None, dict[Spec, Tensor]]:
    """The arrays of some samples without their trials, the case they were judged in, and the maps."""
    x = plan.probe.check(plan.x(rows))
    goal = plan.goal(rows, logits[rows].to(_device(plan.probe)))
    clock.start()
    maps, absent = _maps(plan, x, goal, rows, clock)
    mask = None if plan.samples.mask is None else plan.samples.mask[rows]
    found: Arrays = {}
    skips = [[str(m), str(k), reason] for m, reason in absent.items() for k in plan.metrics]
    base: judging.Case | None = None
    judged: list[Spec] = []
    for i, method in enumerate(plan.everyone):
        if method in absent:
            continue
        if base is None:
            base = judging.case(
                plan.probe, x, maps[method], target=goal, mask=mask, fill=plan.fill, seed=plan.seed, index=rows
            )
            base = judging.with_pool(base, plan.pool)
        case = base.of(judging.check_map(maps[method], tuple(maps[method].shape)), _explainer(method))
        twin = next((m for m in judged if torch.equal(maps[m], maps[method])), None)
        clock.start()
        for j, metric in enumerate(plan.metrics):
            try:
                _cell(found, case, metric, (i, j), None if twin is None else (plan.everyone.index(twin), j))
            except NotApplicable as reason:
                skips.append([str(method), str(metric), str(reason)])
            clock.lap("metrics", [metric])
            tick((i * len(plan.metrics) + j + 1) * len(rows))
        judged.append(method)
        here = [k for k, row in enumerate(rows.tolist()) if row in set(shown)]
        found[f"map.{i}"] = maps[method][here].float().numpy()
    found["skips"] = np.asarray(json.dumps(skips))
    return found, base, maps


def _tried(plan: Plan, rows: Tensor, base: judging.Case | None, maps: dict[Spec, Tensor]) -> Arrays:
    """The metrics tried on those of the samples that are chosen for it."""
    chosen = torch.isin(rows, trials.tried(len(plan.samples))).nonzero()[:, 0]
    if base is None or not len(chosen):
        return {}
    part = judging.take(base, chosen)

    def explain(method: Spec, x: Tensor) -> Tensor:
        found: Tensor = _explainer(method)(plan.probe, x, target=part.goal, index=part.index, seed=plan.seed)
        return found

    own = {m: maps[m][chosen.to(maps[m].device)] for m in plan.methods if m in maps}
    found = trials.run(part, own, explain, plan.metrics)
    return {f"{kind}.{plan.methods.index(m)}.{plan.metrics.index(k)}": v for (kind, m, k), v in found.items()}


def _cell(found: Arrays, case: judging.Case, metric: Spec, here: tuple[int, int], twin: tuple[int, int] | None) -> None:
    """One method judged by one metric; copied where another method gave the very same maps."""
    name, other = f"{here[0]}.{here[1]}", "" if twin is None else f"{twin[0]}.{twin[1]}"
    if f"score.{other}" in found and "explain" not in judging.metrics[metric.name].needs:
        for kind in ("score", "at", "curve"):
            if f"{kind}.{other}" in found:
                found[f"{kind}.{name}"] = found[f"{kind}.{other}"]
        return
    found[f"score.{name}"] = judging.measure(case, metric).numpy()
    curve = case.curves.get(str(metric))
    if curve is not None:
        found[f"at.{name}"], found[f"curve.{name}"] = curve.at.double().numpy(), curve.values.float().numpy()


def _maps(plan: Plan, x: Tensor, goal: Goal, rows: Tensor, clock: Clock) -> tuple[dict[Spec, Tensor], dict[Spec, str]]:
    """The maps of all methods, and why some have none."""

    def run(specs: Sequence[Spec]) -> dict[Spec, Tensor]:
        return attribution.attribute(
            plan.probe, x, specs, target=goal, seed=plan.seed, index=rows, lap=partial(clock.lap, "methods")
        )

    try:
        return run(plan.everyone), {}
    except NotApplicable:
        maps, absent = dict[Spec, Tensor](), dict[Spec, str]()
        for spec in plan.everyone:
            try:
                maps |= run([spec])
            except NotApplicable as reason:
                absent[spec] = str(reason)
        return maps, absent


def _explainer(spec: Spec) -> Any:
    """The method, ready to explain other inputs."""

    def explain(model: Probe, x: Tensor, *, target: Any, index: Tensor, seed: int) -> Tensor:
        return attribution.attribute(model, x, [spec], target=target, seed=seed, index=index)[spec]

    return explain


def _device(probe: Probe) -> torch.device:
    return next((t.device for t in (*probe.model.parameters(), *probe.model.buffers())), torch.device("cpu"))


def _results(plan: Plan, parts: list[Arrays], logits: Tensor, shown: list[int]) -> Results:
    skips = {Skip(*item) for part in parts for item in json.loads(str(part["skips"]))}
    skipped = {(skip.method, skip.metric) for skip in skips}
    scores: dict[Cell, np.ndarray] = {}
    curves: dict[Cell, Band] = {}
    for i, method in enumerate(plan.everyone):
        for j, metric in enumerate(plan.metrics):
            cell, name = (str(method), str(metric)), f"{i}.{j}"
            if cell in skipped:
                continue
            scores[cell] = np.concatenate([part[f"score.{name}"] for part in parts])
            if f"curve.{name}" in parts[0]:
                values = np.concatenate([part[f"curve.{name}"] for part in parts])
                curves[cell] = Band(parts[0][f"at.{name}"], values)
    everyone = [str(m) for m in plan.everyone]
    maps = {m: [part[f"map.{i}"] for part in parts if f"map.{i}" in part] for i, m in enumerate(everyone)}
    index, mask = torch.tensor(shown), plan.samples.mask
    gallery = Gallery(
        index.numpy(),
        torch.cat([plan.samples.x[i : i + 1] for i in shown]).float().cpu().numpy(),
        {name: np.concatenate(found) for name, found in maps.items() if found},
        None if mask is None else mask[index].numpy(),
    )
    judged = {method for method, _ in scores}  # one that does not apply at all is a skip, not a candidate
    sure, predictions = logits.softmax(1).max(1)
    order = {name: i for i, name in enumerate((*everyone, *map(str, plan.metrics)))}
    return Results(
        scores,
        tuple(name for name in map(str, plan.methods) if name in judged or not judged),
        tuple(name for name in map(str, plan.controls) if name in judged or not judged),
        tuple(map(str, plan.metrics)),
        plan.samples.y.numpy(),
        predictions.numpy(),
        sure.double().numpy(),
        plan.samples.classes,
        plan.samples.ids,
        curves,
        tuple(sorted(skips, key=lambda s: (order[s.method], order[s.metric]))),
        gallery,
        {**_about(plan), "seconds": together(parts)},
        _trials(plan, parts, skipped),
    )


def _trials(plan: Plan, parts: list[Arrays], skipped: set[Cell]) -> Trials:
    """What the chunks' trials found, put together; a cell that was skipped anywhere has none."""
    gathered: dict[str, dict[Cell, np.ndarray]] = {kind: {} for kind in trials.KINDS}
    for i, method in enumerate(plan.methods):
        for j, metric in enumerate(plan.metrics):
            cell = (str(method), str(metric))
            for kind in trials.KINDS:
                values = [part[f"{kind}.{i}.{j}"] for part in parts if f"{kind}.{i}.{j}" in part]
                if values and cell not in skipped:
                    gathered[kind][cell] = np.concatenate(values)
    return Trials(trials.tried(len(plan.samples)).numpy(), gathered["inverted"], gathered["noisy"])


def _about(plan: Plan) -> dict[str, Any]:
    """The settings in plain types, for the manifest and the report."""

    def facts(spec: Spec, registry: Any) -> dict[str, Any]:
        entry = registry[spec.name]
        return {"summary": entry.summary, "paper": entry.paper, **{k: v for k, v in entry.facts.items() if k != "asks"}}

    page = {
        **plan.identity(),
        "data": plan.samples.name,
        "data_about": dict(plan.samples.about),
        "method_facts": {str(s): facts(s, attribution.methods) for s in plan.everyone},
        "metrics": {str(s): facts(s, judging.metrics) for s in plan.metrics},
        "fill_summary": perturb.fills[plan.fill.name].summary,
        "hits": trials.hits(plan.probe, plan.samples, plan.seed),
        "passes": dict(plan.probe.passes),
        "versions": {
            "heatproof": heatproof.__version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
    }
    return cast(dict[str, Any], json.loads(json.dumps(page, default=str)))
