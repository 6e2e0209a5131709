"""How metrics are run: one case a map, in which passes through the model are shared.

A metric is a function ``(case, *, options) -> (n,)``, one number a sample, NaN where it is undefined. It reads what it
needs off the case: the score before anything is removed, the scores with the most or least relevant positions removed,
maps of changed inputs. What two metrics both ask for is computed once.
"""

from __future__ import annotations

from typing import TypeAlias, overload

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from heatproof.errors import HeatproofError, NotApplicable, UsageError
from heatproof.metrics.cases import Case, Curve, Explain, Relearnt, Retrained, case, take, with_donors
from heatproof.metrics.catalogue import metrics
from heatproof.probe import Goal, Probe, Target, as_probe
from heatproof.probe.worth import donors_of, taken
from heatproof.registry import Spec

Names: TypeAlias = list[str] | list[Spec] | list[str | Spec] | tuple[str | Spec, ...]


def measure(case: Case, spec: Spec) -> Float[Tensor, " n"]:
    """The values of one metric, float64 on the CPU, NaN where undefined; its curve is left in ``case.curves``.

    Raises: NotApplicable where it has no meaning here.
    """
    entry = metrics[spec.name]
    refuse(case, spec)
    with torch.no_grad():
        answer = entry.function(case, **spec.kwargs)
    if isinstance(answer, Curve):
        case.curves[str(spec)] = Curve(answer.at.cpu(), answer.values.float().cpu(), answer.by)
        answer = answer.value
    values: Tensor = answer.detach().double().cpu()
    if tuple(values.shape) != (len(case.x),) or bool(values.isinf().any()):
        raise HeatproofError(f"{spec}: gave {tuple(values.shape)} values, or infinite ones, for {len(case.x)} samples")
    return values


def refuse(case: Case, spec: Spec) -> None:
    """Nothing, where the metric applies.

    Raises: NotApplicable, with the reason.
    """
    needs = metrics[spec.name].needs
    if "mask" in needs and case.mask is None:
        raise NotApplicable(f"{spec}: needs planted truth (a mask of the positions that decide), and there is none")
    if "explain" in needs and case.explain is None:
        raise NotApplicable(
            f"{spec}: explains other inputs; pass explain=functools.partial(hp.explain, method='grad-cam')"
        )
    if "donors" in needs and case.pool is None:
        raise NotApplicable(f"{spec}: draws from other samples; pass them as fill=tensor (K, C, *S)")
    if "evidence" in needs and case.donors is None:
        raise NotApplicable(
            f"{spec}: compares each sample with others that are predicted otherwise, and there are none; add samples "
            "of which the model predicts another class"
        )
    if case.goal.task == "regression" and ("class" in needs or "probability" in needs):
        raise NotApplicable(
            f"{spec}: is defined for the score of a class; the output of a regression may be 0 or negative"
        )
    if "probability" in needs and case.probe.score != "probability":
        raise NotApplicable(f"{spec}: is defined for probabilities only, and the probe's score is a {case.probe.score}")


@overload
def score(
    model: nn.Module | Probe, x: Tensor, map: Tensor, metric: str | Spec, *, target: Target | Goal = ...,
    mask: Tensor | None = ..., fill: str | Spec | Tensor = ..., explain: Explain | None = ...,
    relearnt: Relearnt | None = ..., retrained: Retrained | None = ..., seed: int = ..., index: Tensor | None = ...,
) -> Tensor: ...  # fmt: skip
@overload
def score(
    model: nn.Module | Probe, x: Tensor, map: Tensor, metric: Names, *, target: Target | Goal = ...,
    mask: Tensor | None = ..., fill: str | Spec | Tensor = ..., explain: Explain | None = ...,
    relearnt: Relearnt | None = ..., retrained: Retrained | None = ..., seed: int = ..., index: Tensor | None = ...,
) -> dict[str, Tensor]: ...  # fmt: skip
def score(
    model: nn.Module | Probe,
    x: Tensor,
    map: Tensor,
    metric: str | Spec | Names,
    *,
    target: Target | Goal = None,
    mask: Tensor | None = None,
    fill: str | Spec | Tensor = "mean",
    explain: Explain | None = None,
    relearnt: Relearnt | None = None,
    retrained: Retrained | None = None,
    seed: int = 0,
    index: Tensor | None = None,
) -> Tensor | dict[str, Tensor]:
    """Each sample's value of a metric (N,), float64, NaN where undefined; for a list of metrics a dict of them.

    Args:
        x: inputs (N, C, *S). map: maps (N, *S). mask: planted truth (N, *S), the positions that decide.
        target: what the maps explain, None for the predicted class.
        fill: what removed positions become (`heatproof list fills`), or samples (K, C, *S) to draw donors from.
        explain: the method itself, ``functools.partial(hp.explain, method="grad-cam")``, for metrics that explain
            other inputs. relearnt: epochs -> a model trained on shuffled labels (`heatproof.studies.twins`).
        retrained: 1, 2, ... -> a model trained from another seed.
        index: the samples' own numbers, from which draws are made; 0 to N-1 by default.

    Raises: UnknownName, InputError, NotApplicable.
    """
    with torch.inference_mode(False):
        return _score(model, x, map, metric, target, mask, fill, explain, relearnt, retrained, seed, index)


def _score(
    model: nn.Module | Probe, x: Tensor, map: Tensor, metric: str | Spec | Names, target: Target | Goal,
    mask: Tensor | None, fill: str | Spec | Tensor, explain: Explain | None, relearnt: Relearnt | None,
    retrained: Retrained | None, seed: int, index: Tensor | None,
) -> Tensor | dict[str, Tensor]:  # fmt: skip
    single = isinstance(metric, (str, Spec))
    specs = [metrics.spec(m) for m in ([metric] if isinstance(metric, (str, Spec)) else metric)]
    if not specs:
        raise UsageError("got an empty list of metrics; name at least one (heatproof list metrics shows them)")
    whole = case(
        as_probe(model), x, map, target=target, mask=mask, fill=fill, explain=explain, relearnt=relearnt,
        retrained=retrained, seed=seed, index=index,
    )  # fmt: skip
    if any("evidence" in metrics[spec.name].needs for spec in specs):
        whole = with_donors(whole, _donors(whole))
    parts: dict[Spec, list[Tensor]] = {spec: [] for spec in specs}
    for rows in torch.arange(len(x)).split(whole.probe.rows(whole.x)):
        part = take(whole, rows)
        for spec in specs:
            parts[spec].append(measure(part, spec))
    joined = {spec: torch.cat(values) for spec, values in parts.items()}
    return joined[specs[0]] if single else {str(spec): values for spec, values in joined.items()}


def _donors(whole: Case) -> Float[Tensor, "n d c *s"] | None:
    """Samples that are predicted otherwise: from the pool of the case, or without one from among its inputs."""
    logits = whole.probe.logits(whole.x)
    pool = whole.x if whole.pool is None else whole.probe.check(whole.pool, what="donors")
    others = logits if whole.pool is None else whole.probe.logits(pool)
    # Only a sample that is itself predicted otherwise could be its own donor.
    otherwise = (logits.argmax(1) != whole.goal.classes).nonzero()[:, 0]
    places = donors_of(whole.goal, logits, others, whole.seeds("donors"), itself=_places(whole, otherwise))
    return taken(pool, places) if bool((places >= 0).any()) else None


def _places(whole: Case, rows: Int[Tensor, " m"]) -> Int[Tensor, " n"]:
    """The places of these inputs in the pool, -1 for none and for others; of all inputs where they are the pool."""
    if whole.pool is None:
        return torch.arange(len(whole.x))
    pool, places = whole.pool.flatten(1), torch.full((len(whole.x),), -1)
    for row in rows.tolist():
        equal = (pool == whole.x[row].flatten().to(pool)).all(1).nonzero()[:, 0]
        places[row] = int(equal[0]) if len(equal) else -1
    return places
