"""The numbers of a study: predictions, and a chunk's maps, scores and self-checks.

A chunk is explained by all methods once and judged by all metrics with each fill. What does not depend on the fill is
computed with the first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from heatproof import methods as attribution
from heatproof import metrics as judging
from heatproof.errors import NotApplicable
from heatproof.memory import release
from heatproof.metrics import follows_fill
from heatproof.probe import Probe
from heatproof.probe.worth import Worths, taken, worths
from heatproof.registry import Spec
from heatproof.results.record import Band
from heatproof.studies.chunk import Chunk, Predictions
from heatproof.studies.failures import reason
from heatproof.studies.maps import Maps, maps_of
from heatproof.studies.own_controls import control_scores, other_maps, question_of
from heatproof.studies.plan import Plan
from heatproof.studies.skill import model_skill
from heatproof.studies.timing import CHANGED, EVIDENCE, OWN, Clock
from heatproof.studies.twins import WORDS, Twin

EXPLAINING, WEIGHING, JUDGING = "explaining", "weighing", "judging"
Advance = Callable[[str, int], None]  # the stage, and the samples explained or scores computed of the chunk so far


@dataclass(frozen=True, eq=False)
class Job:
    """A chunk to compute.

    Attributes:
        rows: the places of its samples. logits: their class scores. fills: those to judge with.
        donors: the places of their donors, -1 for none; None where no sample of the study has any.
        gallery: the places of the samples in the gallery. maps: a folder where maps are kept, or None.
    """

    rows: Int[Tensor, " n"]
    logits: Float[Tensor, "n k"]
    donors: Int[Tensor, "n d"] | None
    fills: tuple[Spec, ...]
    gallery: tuple[int, ...] = ()
    maps: Path | None = None


def predictions_of(plan: Plan) -> Predictions:
    """The class scores of all samples, in the chunks of everything else, and those of randomised copies counted."""
    clock = Clock(plan.probe.passes)
    logits = torch.cat([plan.probe.logits(plan.inputs(rows)).cpu() for rows in plan.chunks()])
    clock.lap("self_checks", [])
    skill = model_skill(plan.probe, plan.originals or plan.samples, plan.seed) if plan.self_checks else None
    clock.lap("self_checks", ["model"])
    return Predictions(logits.float(), skill, clock.costs)


def chunks_of(plan: Plan, job: Job, advance: Advance = lambda *_: None) -> dict[Spec, Chunk]:
    """What the plan asks of a chunk of samples, by fill."""
    clocks = {fill: Clock(plan.probe.passes) for fill in job.fills}
    first = clocks[job.fills[0]]
    chunks = {fill: Chunk(costs=clock.costs) for fill, clock in clocks.items()}
    x = plan.probe.check(plan.inputs(job.rows))
    goal = plan.goal(job.rows, job.logits.to(_device(plan.probe)))
    explained = maps_of(plan, x, goal, job.rows, job.maps)
    first.add(explained.costs)
    advance(EXPLAINING, len(job.rows))
    skips = {(method, metric): reason for method, reason in explained.skips.items() for metric in plan.metrics}
    for chunk in chunks.values():
        chunk.skips.update(skips)
    if explained.maps:
        case = _weighed(plan, job, _case(plan, job, x, goal, explained), first, partial(advance, WEIGHING))
        if case.worths is not None and job.donors is not None:
            arrays = evidence_arrays(case.worths, job.donors)
            for chunk in chunks.values():
                chunk.evidence.update(arrays)
        _judge(plan, case, explained.maps, chunks, clocks, partial(advance, JUDGING))
        if plan.self_checks:
            _control(plan, job, case, explained.maps, chunks, first)
    shown = [k for k, row in enumerate(job.rows.tolist()) if row in set(job.gallery)]
    for fill, chunk in chunks.items():
        chunk.maps.update({method: map[shown].float().numpy() for method, map in explained.maps.items()})
        if clocks[fill] is not first:
            clocks[fill].share(first, (metric for metric in plan.metrics if not follows_fill(metric)))
    return chunks


def explainer(method: Spec, pool: Tensor | None = None) -> Any:
    """The method, ready to explain other inputs, with other samples to draw from."""

    def explain(model: Probe, x: Tensor, *, target: Any, index: Tensor, seed: int) -> Tensor:
        maps = attribution.attribute(model, x, [method], target=target, seed=seed, index=index, pool=pool)
        return maps[method]

    return explain


def _case(plan: Plan, job: Job, x: Tensor, goal: Any, explained: Maps) -> judging.Case:
    """The case of the samples, with any of the maps."""
    mask = None if plan.samples.mask is None else plan.samples.mask[job.rows]
    map = next(iter(explained.maps.values()))
    case = judging.case(plan.probe, x, map, target=goal, mask=mask, fill=job.fills[0], seed=plan.seed, index=job.rows)
    relearnt, retrained = (partial(_twin, plan, need) for need in ("relearnt", "retrained"))
    return replace(judging.with_pool(case, plan.pool), relearnt=relearnt, retrained=retrained)


def _twin(plan: Plan, need: str, number: int) -> nn.Module:
    if need in plan.obstacles or Twin(need, number) not in plan.twins:
        raise NotApplicable(f"needs {WORDS[need]}: {plan.obstacles.get(need, 'none was trained')}")
    return plan.twins[Twin(need, number)]


def _with_fill(case: judging.Case, fill: Spec) -> judging.Case:
    """The case with another fill and nothing computed yet, so that a fill's numbers do not depend on the others'."""
    return replace(case, fill=fill, curves={}, _own={}, _shared={})


def _judge(
    plan: Plan,
    base: judging.Case,
    maps: Mapping[Spec, Tensor],
    chunks: Mapping[Spec, Chunk],
    clocks: Mapping[Spec, Clock],
    advance: Callable[[int], None],
) -> None:
    """Adds the scores and curves, and the reasons for none."""
    first = next(iter(chunks))
    cases = {fill: _with_fill(base, fill) for fill in chunks}
    count, judged = 0, list[Spec]()
    for method, map in maps.items():
        equal = next((other for other in judged if torch.equal(maps[other], map)), None)
        checked = judging.check_map(map, tuple(map.shape))
        for fill, chunk in chunks.items():
            case = cases[fill].of(checked, explainer(method, plan.pool))
            clocks[fill].start()
            for metric in plan.metrics:
                count += len(base.x)
                if fill != first and not follows_fill(metric):
                    chunk.copy(chunks[first], (method, metric), (method, metric))
                    continue
                _score(chunk, case, method, metric, equal)
                clocks[fill].lap("metrics", [metric])
                advance(count)
        judged.append(method)
        release(base.x.numel())


def _score(chunk: Chunk, case: judging.Case, method: Spec, metric: Spec, equal: Spec | None) -> None:
    """One method judged by one metric; copied where another method gave the very same maps."""
    cell = method, metric
    if equal is not None and (equal, metric) in chunk.scores and "explain" not in judging.metrics[metric.name].needs:
        chunk.copy(chunk, cell, (equal, metric))
        return
    try:
        chunk.scores[cell] = judging.measure(case, metric).numpy()
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # whatever a metric raises, the others go on
        chunk.skips[cell] = reason(metric, error)
        return
    curve = case.curves.get(str(metric))
    if curve is not None:
        chunk.curves[cell] = Band(curve.at.double().numpy(), curve.values.float().numpy())


def _weighed(plan: Plan, job: Job, case: judging.Case, clock: Clock, advance: Callable[[int], None]) -> judging.Case:
    """The case with its donors where a metric needs them, and where one answers a question with the windows' worths."""
    if job.donors is None or not any("evidence" in judging.metrics[metric.name].needs for metric in plan.metrics):
        return case
    donors = taken(plan.samples.x, job.donors)
    case = judging.with_donors(case, donors)
    if not plan.questions:
        return case
    clock.start()
    weights = worths(plan.probe, case.x, case.goal, donors, case.seeds("windows"), advance)
    clock.lap("metrics", [EVIDENCE])
    return replace(case, worths=weights)


def evidence_arrays(worths: Worths, donors: Int[Tensor, "n d"]) -> dict[str, np.ndarray]:
    """The fields of `heatproof.results.Evidence`, of the samples of a chunk."""
    windows = worths.windows
    return {
        "starts": windows.starts.int().numpy(), "widths": windows.widths.int().numpy(),
        "scale": windows.scale.int().numpy(), "values": worths.values.numpy(), "donors": donors.numpy(),
        "span": worths.span.numpy(),
    }  # fmt: skip


def _control(
    plan: Plan,
    job: Job,
    base: judging.Case,
    maps: Mapping[Spec, Tensor],
    chunks: Mapping[Spec, Chunk],
    clock: Clock,
) -> None:
    """Adds the scores of each method's own controls, which are the same with every fill."""
    methods = [method for method in plan.methods if method in maps]
    if not plan.questions or not methods or base.worths is None:
        return
    clock.start()
    others, control = dict[Spec, Tensor](), ""
    try:
        question = question_of(plan.probe, base.x, base.goal, job.logits, plan.seed)
        control = question.control
        others = other_maps(question, base.x, methods, base.index, plan.seed, plan.pool)
    except NotApplicable as error:
        reason(Spec("own-controls"), error)
    clock.lap("self_checks", [CHANGED])
    scores = control_scores(base, {method: maps[method] for method in methods}, others, control, plan.questions)
    for cell, values in scores:
        for chunk in chunks.values():
            chunk.own[cell] = values.numpy()
    clock.lap("self_checks", [OWN])
    release(base.x.numel())


def _device(probe: Probe) -> torch.device:
    return next((t.device for t in (*probe.model.parameters(), *probe.model.buffers())), torch.device("cpu"))
