"""What a study does with a chunk of samples: explained by all methods together once, judged by all metrics a fill."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from heatproof import methods as attribution
from heatproof import metrics as judging
from heatproof.errors import NotApplicable
from heatproof.memory import release
from heatproof.probe import Probe
from heatproof.registry import Spec
from heatproof.studies import self_checks as trials
from heatproof.studies.checkpoint import Arrays
from heatproof.studies.maps import maps_of
from heatproof.studies.plan import Plan
from heatproof.studies.timing import CHANGED, Clock

EXPLAINING, JUDGING = "explaining", "judging"
Tick = Callable[[str, int], None]
Cell = tuple[int, int]
Judged = dict[Spec, Arrays]


def chunk(
    plan: Plan,
    rows: Tensor,
    logits: Tensor,
    shown: Sequence[int],
    fills: Sequence[Spec],
    tick: Tick = lambda *_: None,
) -> list[Arrays]:
    """For each fill the scores, curves, shown maps, skips, trials and costs of some samples, as plain arrays.

    Args:
        logits: the class scores of these samples. shown: places whose maps are kept.
        tick: told what is done of the chunk: samples explained, scores judged.
    """
    clocks = {fill: Clock(plan.probe.passes) for fill in fills}
    case, maps, absent = explained(plan, rows, logits, clocks[fills[0]])
    tick(EXPLAINING, len(rows))
    found = judged(plan, case, maps, absent, clocks, partial(tick, JUDGING))
    if plan.trials:
        tried(plan, case, maps, clocks, found)
    place = [k for k, row in enumerate(rows.tolist()) if row in set(shown)]
    kept = {f"map.{i}": maps[m][place].float().numpy() for i, m in enumerate(plan.everyone) if m in maps}
    for fill in fills[1:]:
        clocks[fill].share(clocks[fills[0]], (m for m in plan.metrics if not removes(m)))
    return [{**found[fill], **kept, **clocks[fill].array()} for fill in fills]


def removes(metric: Spec) -> bool:
    """Whether the metric's values depend on the study's fill: it has a fill, and is not given another."""
    return {**judging.metrics[metric.name].options, **metric.kwargs}.get("fill", "none") is None


def explained(
    plan: Plan, rows: Tensor, logits: Tensor, clock: Clock
) -> tuple[judging.Case | None, dict[Spec, Tensor], dict[Spec, str]]:
    """The case of the samples with any map (None without one), the maps of all methods, and why some have none."""
    x = plan.probe.check(plan.x(rows))
    goal = plan.goal(rows, logits.to(_device(plan.probe)))
    maps, absent = maps_of(plan, x, goal, rows, clock)
    if not maps:
        return None, maps, absent
    mask = None if plan.samples.mask is None else plan.samples.mask[rows]
    some = next(iter(maps.values()))
    case = judging.case(plan.probe, x, some, target=goal, mask=mask, fill=plan.fills[0], seed=plan.seed, index=rows)
    return replace(judging.with_pool(case, plan.pool), relearnt=partial(_relearnt, plan)), maps, absent


def _relearnt(plan: Plan, epochs: int) -> nn.Module:
    if epochs not in plan.shuffled:
        raise NotApplicable(f"label-randomisation: {plan.absent or 'no model was trained on shuffled labels'}")
    return plan.shuffled[epochs]


def judged(
    plan: Plan,
    base: judging.Case | None,
    maps: dict[Spec, Tensor],
    absent: dict[Spec, str],
    clocks: dict[Spec, Clock],
    tick: Callable[[int], None] = lambda _: None,
) -> Judged:
    """For each fill the scores, curves and skips; what does not depend on the fill is worked out with the first."""
    first = next(iter(clocks))
    missing = [[str(m), str(k), reason] for m, reason in absent.items() for k in plan.metrics]
    found: Judged = {fill: {} for fill in clocks}
    skips = {fill: dict[Cell, str]() for fill in clocks}
    bases = {} if base is None else {fill: _with_fill(base, fill) for fill in clocks}
    done, seen = 0, list[Spec]()
    for i, method in enumerate(plan.everyone):
        if base is None or method in absent:
            continue
        twin = next((m for m in seen if torch.equal(maps[m], maps[method])), None)
        checked = judging.check_map(maps[method], tuple(maps[method].shape))
        for fill, clock in clocks.items():
            case = bases[fill].of(checked, explainer(method))
            clock.start()
            for j, metric in enumerate(plan.metrics):
                done += len(base.x)
                if fill is not first and not removes(metric):
                    _copy(found[first], found[fill], (i, j), (i, j))
                    if (i, j) in skips[first]:
                        skips[fill][i, j] = skips[first][i, j]
                    continue
                try:
                    _cell(found[fill], case, metric, (i, j), None if twin is None else plan.everyone.index(twin))
                except NotApplicable as reason:
                    skips[fill][i, j] = str(reason)
                clock.lap("metrics", [metric])
                tick(done)
        seen.append(method)
        release(base.x.numel())
    for fill, reasons in skips.items():
        own = [[str(plan.everyone[i]), str(plan.metrics[j]), why] for (i, j), why in reasons.items()]
        found[fill]["skips"] = np.asarray(json.dumps(missing + own))
    return found


def _with_fill(case: judging.Case, fill: Spec) -> judging.Case:
    """The case with another fill and nothing computed yet, so that a fill's numbers do not depend on the others'."""
    return replace(case, fill=fill, curves={}, _own={}, _shared={})


def _cell(found: Arrays, case: judging.Case, metric: Spec, here: Cell, twin: int | None) -> None:
    """One method judged by one metric; copied where another method gave the very same maps."""
    if twin is not None and f"score.{twin}.{here[1]}" in found and "explain" not in judging.metrics[metric.name].needs:
        _copy(found, found, (twin, here[1]), here)
        return
    name = f"{here[0]}.{here[1]}"
    found[f"score.{name}"] = judging.measure(case, metric).numpy()
    curve = case.curves.get(str(metric))
    if curve is not None:
        found[f"at.{name}"], found[f"curve.{name}"] = curve.at.double().numpy(), curve.values.float().numpy()


def _copy(source: Arrays, found: Arrays, there: Cell, here: Cell) -> None:
    for kind in ("score", "at", "curve"):
        name = f"{kind}.{there[0]}.{there[1]}"
        if name in source:
            found[f"{kind}.{here[0]}.{here[1]}"] = source[name]


def tried(
    plan: Plan, base: judging.Case | None, maps: dict[Spec, Tensor], clocks: dict[Spec, Clock], found: Judged
) -> None:
    """Adds the metrics' trials on those of the samples that are chosen for it.

    Changed inputs are explained once; what does not depend on the fill is worked out with the first.
    """
    metrics = [m for m in plan.metrics if trials.applies(m)]
    if base is None or not metrics:
        return
    chosen = torch.isin(base.index, trials.tried(len(plan.samples))).nonzero()[:, 0]
    own = {m: maps[m][chosen.to(maps[m].device)] for m in plan.methods if m in maps}
    if not len(chosen) or not own:
        return
    first = next(iter(clocks))
    clocks[first].start()
    part = judging.take(base, chosen)
    again: dict[Spec, Tensor] = {}

    def explain(method: Spec, x: Tensor) -> Tensor:
        if method not in again:
            again[method] = explainer(method)(plan.probe, x, target=part.goal, index=part.index, seed=plan.seed)
            clocks[first].lap("trials", [CHANGED])
        return again[method]

    near = trials.nearby(part)
    clocks[first].lap("trials", [CHANGED])
    common: dict[str, np.ndarray] = {}
    for fill, clock in clocks.items():
        clock.start()
        asked = [m for m in metrics if fill is first or removes(m)]
        made = trials.run(_with_fill(part, fill), near, own, explain, asked, partial(clock.lap, "trials"))
        for (kind, method, metric), values in made.items():
            name = f"{kind}.{plan.methods.index(method)}.{plan.metrics.index(metric)}"
            found[fill][name] = values
            if not removes(metric):
                common[name] = values
        found[fill] |= common
        release(base.x.numel())


def explainer(spec: Spec) -> Any:
    """The method, ready to explain other inputs."""

    def explain(model: Probe, x: Tensor, *, target: Any, index: Tensor, seed: int) -> Tensor:
        return attribution.attribute(model, x, [spec], target=target, seed=seed, index=index)[spec]

    return explain


def _device(probe: Probe) -> torch.device:
    return next((t.device for t in (*probe.model.parameters(), *probe.model.buffers())), torch.device("cpu"))
