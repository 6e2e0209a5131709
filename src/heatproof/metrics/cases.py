"""A case: one set of maps to be judged, and everything that a metric may ask about them, each answer computed once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from heatproof import draws, spatial
from heatproof.errors import InputError, NotApplicable
from heatproof.fills import Canvas, even_counts, fills, removal_scores, removals
from heatproof.probe import Goal, Probe, Target
from heatproof.probe.worth import Worths, worths
from heatproof.registry import Spec

First = Literal["most", "least"]
Relearnt = Callable[[int], nn.Module]
Retrained = Callable[[int], nn.Module]
T = TypeVar("T")


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
        donors: samples predicted otherwise than each of these (N, D, C, *S), rows of NaN where there is none; or None.
        worths: what windows of the inputs are worth, where that was computed before.
        relearnt: epochs -> a model like this one, trained on shuffled labels for so long, or None.
        retrained: 1, 2, ... -> a model trained like this one from another seed, or None.
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
    retrained: Retrained | None = None
    donors: Float[Tensor, "n d c *s"] | None = None
    worths: Worths | None = None
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
        scores: dict[int, Tensor] = self.own(("removed", first, canvas.fill), dict)
        lacking = sorted({c for c in counts if c not in scores and 0 < c < self.positions})
        if lacking:
            columns = self.without(removals(self.ranks, lacking, first=first), fill=fill).unbind(1)
            scores.update(zip(lacking, columns, strict=True))
        ends = {0: lambda: self.score, self.positions: lambda: self.blank(fill)}
        return torch.stack([ends[c]() if c in ends else scores[c] for c in counts], dim=1)

    def without(self, removals: Iterable[Bool[Tensor, "n *s"]], *, fill: str | None = None) -> Float[Tensor, "n k"]:
        """The score after each removal, float64; nothing is kept."""
        return removal_scores(self.probe, self.canvas(fill), self.goal, removals).double()

    def removal_curve(self, *, first: First = "most", steps: int = 20, fill: str | None = None) -> Curve:
        """The score against the removed fraction, from 0 to 1."""
        counts = even_counts(self.positions, steps)
        at = torch.tensor(counts, dtype=torch.float64) / self.positions
        return Curve(at, self.removed(counts, first=first, fill=fill))

    @property
    def evidence(self) -> Worths:
        """What windows of the inputs are worth to the model.

        Raises: RuntimeError without donors.
        """
        if self.worths is not None:
            return self.worths
        if self.donors is None:
            raise RuntimeError("evidence was asked for without donors")
        donors = self.donors
        return self.shared("evidence", lambda: worths(self.probe, self.x, self.goal, donors, self.seeds("windows")))

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

    def same_prediction(self, one: Float[Tensor, "n k"], other: Float[Tensor, "n k"]) -> Bool[Tensor, " n"]:
        """Whether two sets of logits predict the same: the same class, or the label explained in both or neither.

        Always so for a regression, whose outputs have no such limits.
        """
        if self.goal.task == "regression":
            return torch.ones(len(one), dtype=torch.bool, device=one.device)
        if self.goal.task == "classes":
            return one.argmax(1) == other.argmax(1)
        label = self.goal.classes[:, None].to(one.device)
        return ((one.gather(1, label) >= 0) == (other.gather(1, label) >= 0))[:, 0]

    def own(self, key: Any, make: Callable[[], T]) -> T:
        """What ``make`` gives, computed once for this map."""
        return _once(self._own, key, make)

    def shared(self, key: Any, make: Callable[[], T]) -> T:
        """What ``make`` gives, computed once for these inputs, whatever the map."""
        return _once(self._shared, key, make)


def _once(cache: dict[Any, Any], key: Any, make: Callable[[], T]) -> T:
    if key not in cache:
        cache[key] = make()
    value: T = cache[key]
    return value


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
    retrained: Retrained | None = None,
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
        None if mask is None else mask.to(device), spec, pool, explain, relearnt, retrained,
    )  # fmt: skip


def with_donors(case: Case, donors: Float[Tensor, "n d c *s"] | None) -> Case:
    """The case with samples that are predicted otherwise, or without any."""
    return replace(case, donors=donors)


def with_pool(case: Case, pool: Tensor | None) -> Case:
    """The case with samples that the fill ``donor`` draws from."""
    return replace(case, pool=pool)


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
        donors=None if whole.donors is None else whole.donors[rows.to(whole.donors.device)],
        worths=None if whole.worths is None else whole.worths.take(rows),
        curves={},
        _own={},
        _shared={},
    )
