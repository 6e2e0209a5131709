"""How metrics are registered and run: one case a map, in which passes through the model are shared.

A metric is a function ``(case, *, options) -> (n,)``, one number a sample, NaN where it is undefined. It reads what it
needs off the case: the score before anything is removed, the scores with the most or least relevant positions removed,
maps of changed inputs. What two metrics both ask for is computed once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol, TypeAlias, TypeVar, overload, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from heatproof import draws, spatial
from heatproof.errors import HeatproofError, InputError, NotApplicable, UsageError
from heatproof.fills import Canvas, even_counts, fills, removal_scores, removals
from heatproof.probe import Goal, Probe, Target, as_probe
from heatproof.records import Direction
from heatproof.registry import Registry, Spec

Family = Literal["faithfulness", "region", "localisation", "robustness", "complexity", "randomisation", "axioms"]
Need = Literal["mask", "explain", "relearnt", "probability"]
First = Literal["most", "least"]
Function = Callable[..., Any]
Names: TypeAlias = list[str] | list[Spec] | list[str | Spec] | tuple[str | Spec, ...]
Relearnt = Callable[[int], nn.Module]
T = TypeVar("T")
FAMILIES: tuple[Family, ...] = (
    "faithfulness", "region", "localisation", "robustness", "complexity", "randomisation", "axioms",
)  # fmt: skip
metrics = Registry("metric")


def metric(
    name: str,
    *,
    better: Direction,
    family: Family,
    needs: tuple[Need, ...] = (),
    range: tuple[float | int | None, float | int | None] = (None, None),
    paper: str = "",
    curve: bool = False,
    binary: bool = False,
) -> Callable[[Function], Function]:
    """Registers ``(case, *, options) -> (n,)``.

    Args:
        needs: ``mask`` (planted truth), ``explain`` (the method, to explain other inputs), ``relearnt`` (a model
            trained on shuffled labels), ``probability`` (as score).
        range: least and largest value, None where there is none. curve: it leaves a curve in ``case.curves``.
        binary: it is 0 or 1 for a sample, unless its highest relevance is tied.
    """
    return metrics.add(
        name, paper=paper, better=better, family=family, needs=needs, range=range, curve=curve, binary=binary
    )


@runtime_checkable
class Explain(Protocol):
    """The method itself, to explain other inputs with: ``functools.partial(hp.explain, method="grad-cam")``."""

    def __call__(self, model: Probe, x: Tensor, *, target: Any, index: Tensor, seed: int) -> Tensor:
        """Maps (n, *S) of the inputs for the given goal; ``index`` are the samples' own numbers."""


@dataclass(frozen=True, eq=False)
class Curve:
    """A score along an axis in [0, 1], mostly the removed fraction.

    Attributes:
        at: the axis (P,), rising. values: the scores (N, P).
        by: how a curve becomes a number: its area over the axis (trapezoids, not the count of steps), or its mean.
    """

    at: Float[Tensor, " p"]
    values: Float[Tensor, "n p"]
    by: Literal["area", "mean"] = "area"

    @property
    def value(self) -> Float[Tensor, " n"]:
        """One number a sample, float64."""
        values = self.values.double()
        if self.by == "mean" or len(self.at) == 1:
            return values.mean(1)
        return torch.trapezoid(values, self.at.double().to(values.device), dim=1)


@dataclass(frozen=True, eq=False)
class Case:
    """One set of maps to be judged, and everything a metric may ask about them.

    Attributes:
        probe: the model under question. x: inputs (N, C, *S). goal: what was explained.
        map: the maps (N, *S). index: the samples' own numbers; seed: that of the study; both set every draw.
        mask: planted truth (N, *S) or None. fill: what removed positions become, unless a metric says otherwise.
        pool: samples that the fill ``donor`` draws from. explain: the method itself, or None.
        relearnt: epochs -> a model like this one, trained on shuffled labels for so long, or None.
        curves: left by metrics that reduce a curve, by their spec.
    """

    probe: Probe
    x: Float[Tensor, "n c *s"]
    goal: Goal
    map: Float[Tensor, "n *s"]
    index: Int[Tensor, " n"]
    seed: int = 0
    mask: Bool[Tensor, "n *s"] | None = None
    fill: Spec = field(default_factory=lambda: Spec("mean"))
    pool: Tensor | None = None
    explain: Explain | None = None
    relearnt: Relearnt | None = None
    curves: dict[str, Curve] = field(default_factory=dict)
    _own: dict[Any, Any] = field(default_factory=dict, repr=False)
    _shared: dict[Any, Any] = field(default_factory=dict, repr=False)

    def of(self, map: Float[Tensor, "n *s"], explain: Explain | None = None) -> Case:
        """The case of another method's maps of the same inputs; passes that do not depend on the map stay shared."""
        return replace(self, map=map.to(self.x.device, torch.float32), explain=explain, curves={}, _own={})

    @property
    def positions(self) -> int:
        """How many positions, that is features, an input has."""
        return self.map[0].numel()

    @property
    def score(self) -> Float[Tensor, " n"]:
        """The score of the inputs as they are, float64."""
        return self.shared("score", lambda: self.probe.scored(self.x, self.goal).double())

    def blank(self, fill: str | None = None) -> Float[Tensor, " n"]:
        """The score with every position removed, float64."""
        canvas = self.canvas(fill)
        return self.shared(("blank", canvas.fill), lambda: self.probe.scored(canvas.blank, self.goal).double())

    @property
    def ranks(self) -> Int[Tensor, "n *s"]:
        """The rank of each position, 0 the most relevant; equal ones in an order drawn by the sample's seed."""
        return self.own("ranks", lambda: spatial.ranks(self.map, seeds=self.seeds("ties")))

    def seeds(self, label: str) -> Int[Tensor, " n"]:
        """One seed a sample for the given purpose; the same for every method, so that methods are compared alike."""
        return draws.seeds(self.seed, label, self.index.to(self.x.device))

    def canvas(self, fill: str | None = None) -> Canvas:
        """The inputs with the given fill, by default that of the case."""
        spec = self.fill if fill is None else fills.spec(fill)
        return self.shared(("canvas", spec), lambda: Canvas(self.x, spec, self.seeds("fill"), self.pool))

    def removed(self, counts: Iterable[int], *, first: First = "most", fill: str | None = None) -> Float[Tensor, "n k"]:
        """The score with exactly ``count`` of the most (or least) relevant positions removed, for each count."""
        canvas, counts = self.canvas(fill), list(counts)
        known: dict[int, Tensor] = self.own(("removed", first, canvas.fill), dict)
        lacking = sorted({c for c in counts if c not in known and 0 < c < self.positions})
        if lacking:
            found = self.without(removals(self.ranks, lacking, first=first), fill=fill)
            known.update(zip(lacking, found.unbind(1), strict=True))
        ends = {0: lambda: self.score, self.positions: lambda: self.blank(fill)}
        return torch.stack([ends[c]() if c in ends else known[c] for c in counts], dim=1)

    def without(self, removals: Iterable[Bool[Tensor, "n *s"]], *, fill: str | None = None) -> Float[Tensor, "n k"]:
        """The score after each removal, float64; nothing is kept."""
        return removal_scores(self.probe, self.canvas(fill), self.goal, removals).double()

    def removal_curve(self, *, first: First = "most", steps: int = 20, fill: str | None = None) -> Curve:
        """The score against the removed fraction, from 0 to 1."""
        counts = even_counts(self.positions, steps)
        at = torch.tensor(counts, dtype=torch.float64) / self.positions
        return Curve(at, self.removed(counts, first=first, fill=fill))

    def again(
        self,
        x: Float[Tensor, "n c *s"],
        *,
        probe: Probe | None = None,
        goal: Goal | None = None,
        seed: int | None = None,
    ) -> Float[Tensor, "n *s"]:
        """The maps of changed inputs, or by a changed model, for another goal or with another seed.

        Raises: NotApplicable where the method itself is not at hand.
        """
        if self.explain is None:
            raise NotApplicable(
                "this metric explains other inputs; pass explain=functools.partial(hp.explain, method=...)"
            )
        goal, seed = goal or self.goal, self.seed if seed is None else seed
        maps = self.explain(probe or self.probe, x, target=goal, index=self.index, seed=seed)
        return maps.to(self.x.device, torch.float32)

    def own(self, key: Any, make: Callable[[], T]) -> T:
        """What ``make`` gives, computed once for this map."""
        return _once(self._own, key, make)

    def shared(self, key: Any, make: Callable[[], T]) -> T:
        """What ``make`` gives, computed once for these inputs, whatever the map."""
        return _once(self._shared, key, make)


def _once(cache: dict[Any, Any], key: Any, make: Callable[[], T]) -> T:
    if key not in cache:
        cache[key] = make()
    found: T = cache[key]
    return found


def measure(case: Case, spec: Spec) -> Float[Tensor, " n"]:
    """The values of one metric, float64 on the CPU, NaN where undefined; its curve is left in ``case.curves``.

    Raises: NotApplicable where it has no meaning here.
    """
    entry = metrics[spec.name]
    refuse(case, spec)
    with torch.no_grad():
        found = entry.function(case, **spec.kwargs)
    if isinstance(found, Curve):
        case.curves[str(spec)] = Curve(found.at.cpu(), found.values.float().cpu(), found.by)
        found = found.value
    values: Tensor = found.detach().double().cpu()
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
    if "probability" in needs and case.probe.score != "probability":
        raise NotApplicable(f"{spec}: is defined for probabilities only, and the probe's score is a logit")


@overload
def score(
    model: nn.Module | Probe, x: Tensor, map: Tensor, metric: str | Spec, *, target: Target | Goal = ...,
    mask: Tensor | None = ..., fill: str | Spec | Tensor = ..., explain: Explain | None = ...,
    relearnt: Relearnt | None = ..., seed: int = ..., index: Tensor | None = ...,
) -> Tensor: ...  # fmt: skip
@overload
def score(
    model: nn.Module | Probe, x: Tensor, map: Tensor, metric: Names, *, target: Target | Goal = ...,
    mask: Tensor | None = ..., fill: str | Spec | Tensor = ..., explain: Explain | None = ...,
    relearnt: Relearnt | None = ..., seed: int = ..., index: Tensor | None = ...,
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
    seed: int = 0,
    index: Tensor | None = None,
) -> Tensor | dict[str, Tensor]:
    """Each sample's value of a metric (N,), float64, NaN where undefined; for a list of metrics a dict of them.

    Args:
        x: inputs (N, C, *S). map: maps (N, *S). mask: planted truth (N, *S), the positions that decide.
        target: what the maps explain, None for the predicted class.
        fill: what removed positions become (black, mean, blur, noise, noisy-linear), or samples to draw donors from.
        explain: the method itself, ``functools.partial(hp.explain, method="grad-cam")``, for metrics that explain
            other inputs. relearnt: epochs -> a model trained on shuffled labels (`heatproof.studies.shuffled_model`).
        index: the samples' own numbers, from which draws are made; 0 to N-1 by default.

    Raises: UnknownName, InputError, NotApplicable.
    """
    single = isinstance(metric, (str, Spec))
    specs = [metrics.spec(m) for m in ([metric] if isinstance(metric, (str, Spec)) else metric)]
    if not specs:
        raise UsageError("got an empty list of metrics; name at least one (heatproof list metrics shows them)")
    whole = case(
        as_probe(model), x, map, target=target, mask=mask, fill=fill, explain=explain, relearnt=relearnt, seed=seed,
        index=index,
    )  # fmt: skip
    parts: dict[Spec, list[Tensor]] = {spec: [] for spec in specs}
    for rows in torch.arange(len(x)).split(whole.probe.rows(whole.x)):
        part = take(whole, rows)
        for spec in specs:
            parts[spec].append(measure(part, spec))
    found = {spec: torch.cat(values) for spec, values in parts.items()}
    return found[specs[0]] if single else {str(spec): values for spec, values in found.items()}


def case(
    probe: Probe,
    x: Tensor,
    map: Tensor,
    *,
    target: Target | Goal = None,
    mask: Tensor | None = None,
    fill: str | Spec | Tensor = "mean",
    explain: Explain | None = None,
    relearnt: Relearnt | None = None,
    seed: int = 0,
    index: Tensor | None = None,
) -> Case:
    """The case of checked inputs and maps, on the model's device.

    Raises: UnknownName, InputError.
    """
    x = probe.check(x)
    size = (len(x), *x.shape[2:])
    map = check_map(map, size)
    if mask is not None:
        mask = torch.as_tensor(mask)
        if tuple(mask.shape) != size or mask.dtype != torch.bool:
            raise InputError(f"mask: got {mask.dtype} of shape {tuple(mask.shape)}, expected bool of shape {size}")
    index = torch.arange(len(x)) if index is None else torch.as_tensor(index)
    if tuple(index.shape) != (len(x),):
        raise InputError(f"index: got shape {tuple(index.shape)} for {len(x)} samples, expected ({len(x)},)")
    pool = fill if isinstance(fill, Tensor) else None
    spec = Spec("donor") if isinstance(fill, Tensor) else fills.spec(fill)
    goal = probe.goal(x, target)
    device = goal.classes.device
    return Case(
        probe, x.to(device), goal, map.to(device, torch.float32), index, seed,
        None if mask is None else mask.to(device), spec, pool, explain, relearnt,
    )  # fmt: skip


def with_pool(case: Case, pool: Tensor | None) -> Case:
    """The case with samples that the fill ``donor`` draws from."""
    return replace(case, pool=pool)


def moved(case: Case, x: Float[Tensor, "n c *s"]) -> Case:
    """The case of other inputs in place of its own, for the same goal, with nothing computed yet."""
    return replace(case, x=x, curves={}, _own={}, _shared={})


def check_map(map: Tensor, size: tuple[int, ...]) -> Tensor:
    """The maps as a tensor of the given size (N, *S), finite.

    Raises: InputError.
    """
    map = torch.as_tensor(map)
    if tuple(map.shape) != size:
        raise InputError(f"map: got shape {tuple(map.shape)}, expected {size}: a number a sample and position")
    if not bool(torch.isfinite(map).all()):
        bad = (~torch.isfinite(map.flatten(1)).all(1)).nonzero()[:, 0].tolist()
        raise InputError(f"map: NaN or infinite values in {len(bad)} of {len(map)} maps (the first is number {bad[0]})")
    return map


def take(whole: Case, rows: Int[Tensor, " k"]) -> Case:
    """The case of some of the samples, with nothing computed yet."""
    place = rows.to(whole.x.device)
    return replace(
        whole,
        x=whole.x[place],
        goal=whole.goal.take(place),
        map=whole.map[place],
        index=whole.index[rows.to(whole.index.device)],
        mask=None if whole.mask is None else whole.mask[place],
        curves={},
        _own={},
        _shared={},
    )


def names(*, family: str | None = None) -> list[str]:
    """The registered metric names, optionally of one family."""
    return [name for name in metrics if family is None or metrics[name].family == family]


def parse(texts: Iterable[str | Spec]) -> list[Spec]:
    """Checked specs, without repeats."""
    return list(dict.fromkeys(metrics.spec(text) for text in texts))
