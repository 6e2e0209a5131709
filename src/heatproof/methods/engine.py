"""How methods are run: whatever shares a pass through the model is run together.

A CAM is a function from what one pass shows at a layer to weights: its parameters are named after attributes of
`probe.Shot` (``A``, ``G``, ``score``, ``ablated`` ...) and only what it names is computed. All CAMs asked for together
share one forward pass and, if any names ``G``, one backward pass that stops at the layer.

Any other method is a function ``(probe, x, goal, *, options) -> maps (n, *S)``; one that needs random numbers takes
``seeds``, one seed a sample. One that takes ``pool`` is handed other samples to draw from, if there are any. Methods
that share passes take ``once``, which computes what they have in common once for each batch of samples.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, overload

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from heatproof import draws, spatial
from heatproof.errors import InputError, UsageError
from heatproof.methods.catalogue import COMPARED, Common, Fuse, MethodEntry, Once, companions, methods
from heatproof.preprocessing import Preprocessing
from heatproof.probe import Goal, Probe, Score, Shot, Target, Wants, as_probe
from heatproof.probe.state import note
from heatproof.registry import Spec

Named = str | Spec
Lap = Callable[[Sequence[Spec]], None]


@overload
def explain(
    model: nn.Module | Probe,
    x: Tensor,
    method: str | Spec,
    *,
    target: Target | Goal = ...,
    seed: int = ...,
    index: Tensor | None = ...,
    pool: Tensor | None = ...,
) -> Tensor: ...
@overload
def explain(
    model: nn.Module | Probe,
    x: Tensor,
    method: list[str] | list[Spec] | tuple[str, ...] | tuple[Spec, ...],
    *,
    target: Target | Goal = ...,
    seed: int = ...,
    index: Tensor | None = ...,
    pool: Tensor | None = ...,
) -> dict[str, Tensor]: ...
def explain(
    model: nn.Module | Probe,
    x: Float[Tensor, "n c *s"],
    method: Named | Sequence[Named],
    *,
    target: Target | Goal = None,
    seed: int = 0,
    index: Int[Tensor, " n"] | None = None,
    pool: Tensor | None = None,
) -> Tensor | dict[str, Tensor]:
    """Raw, signed maps (N, *S) on the CPU, float32; for a list of methods a dict of them.

    Args:
        target: None for the predicted class, a class, one class a sample, a Contrast, a function of the model's
            output, or an integer tensor (N, k) for k maps a sample, (N, k, *S).
        index: the samples' own numbers, from which random methods draw; 0 to N-1 by default.
        pool: other samples (K, C, *S) of the same data, for methods whose baselines are samples.

    Cost: all CAMs together one forward and at most one backward pass that stops at the layer.
    Raises: UnknownName, InputError, LayerError.
    """
    single = isinstance(method, (str, Spec))
    specs = [methods.spec(name) for name in ([method] if isinstance(method, (str, Spec)) else method)]
    if not specs:
        raise UsageError("got an empty list of methods; name at least one (heatproof list methods shows them)")
    probe = as_probe(model)
    x = probe.check(x)
    pool = None if pool is None else probe.check(pool, what="pool")
    _check_scale(probe.model, x)
    if isinstance(target, Tensor) and target.ndim == 2 and target.shape[1]:
        columns = [attribute(probe, x, specs, target=t, seed=seed, index=index, pool=pool) for t in target.unbind(1)]
        maps = {spec: torch.stack([c[spec] for c in columns], dim=1) for spec in specs}
    else:
        maps = attribute(probe, x, specs, target=target, seed=seed, index=index, pool=pool)
    return maps[specs[0]] if single else {str(spec): maps[spec] for spec in specs}


def _check_scale(model: nn.Module, x: Float[Tensor, "n c *s"]) -> None:
    """A warning where the model's card names a preprocessing that the first samples seem not to have been through."""
    wanted = getattr(getattr(model, "card", None), "preprocessing", None)
    if not isinstance(wanted, Preprocessing):
        return
    low, high, (least, most) = float(x[:16].min()), float(x[:16].max()), wanted.bounds
    if misfit := wanted.misfit(low, high):
        what = "are no pixel values of its range" if misfit == "outside" else "look unscaled"
        note(
            f"the model takes {least:.3g} to {most:.3g} ({wanted.scaling}); the inputs, from {low:.3g} to {high:.3g}, "
            f"{what}"
        )


def attribute(
    probe: Probe,
    x: Float[Tensor, "n c *s"],
    specs: Sequence[Spec],
    *,
    target: Target | Goal = None,
    seed: int = 0,
    index: Int[Tensor, " n"] | None = None,
    pool: Tensor | None = None,
    lap: Lap = lambda _: None,
) -> dict[Spec, Float[Tensor, "n *s"]]:
    """The maps of several methods for one set of checked inputs, sharing what they can.

    ``lap`` is called with the methods that the work since the last call was done for.
    """
    if pool is not None and pool.shape[1:] != x.shape[1:]:
        raise InputError(f"pool: got samples of shape {tuple(pool.shape[1:])}, expected {tuple(x.shape[1:])}")
    index = torch.arange(len(x)) if index is None else index
    if len(index) != len(x):
        raise InputError(f"index: got {len(index)} numbers for {len(x)} samples")
    with torch.inference_mode(False), torch.no_grad():
        x = x.clone() if x.is_inference() else x
        pool = None if pool is None else pool.to(x)
        return _attribute(probe, x, specs, target, Draws(seed, index, pool), lap)


@dataclass(frozen=True, eq=False)
class Draws:
    """What random methods draw from.

    Attributes:
        seed: of all draws. index: the samples' own numbers. pool: other samples, or None.
    """

    seed: int
    index: Int[Tensor, " n"]
    pool: Float[Tensor, "p c *s"] | None = None

    def seeds(self, spec: Spec) -> Int[Tensor, " n"]:
        """One seed a sample; methods that share passes draw alike."""
        shares = methods[spec.name].shares
        return draws.seeds(self.seed, str(Spec(shares, spec.options) if shares else spec), self.index)


def _attribute(
    probe: Probe, x: Tensor, specs: Sequence[Spec], target: Target | Goal, drawn: Draws, lap: Lap
) -> dict[Spec, Tensor]:
    cams = {spec: methods[spec.name] for spec in specs if methods[spec.name].family == "cam"}
    rest = {spec: methods[spec.name] for spec in specs if methods[spec.name].family != "cam"}
    goal: Goal | None = None
    if target is not None or any("goal" in inspect.signature(e.function).parameters for e in rest.values()):
        goal = probe.goal(x, target)
    smooth = {spec: spec.kwargs.get("smooth", "none") for spec in specs}
    plain = {spec: entry for spec, entry in cams.items() if smooth[spec] == "none"}
    maps = _cams(probe, x, plain, goal, {spec: drawn.seeds(spec) for spec in plain}, lap) if plain else {}
    for group in companions(spec for spec in rest if smooth[spec] == "none"):
        maps |= _others(probe, x, group, goal, drawn)
        lap(group)
    for spec in specs:
        if spec not in maps:
            maps[spec] = smoothed(probe, x, spec, goal or probe.goal(x, target), drawn)
            lap([spec])
    size = (len(x), *x.shape[2:])
    for spec, map in maps.items():
        if tuple(map.shape) != size:
            raise InputError(f"{spec}: made maps of shape {tuple(map.shape)}, expected {size}")
    return {spec: maps[spec] for spec in specs}


def _cams(
    probe: Probe, x: Tensor, cams: Mapping[Spec, MethodEntry], goal: Goal | None, seeds: Mapping[Spec, Tensor], lap: Lap
) -> dict[Spec, Tensor]:
    asked = {name for entry in cams.values() for name in entry.asks}
    tail = "ablated" in asked or any(entry.tail for entry in cams.values())
    wants = Wants("G" in asked, "curved" in asked, tail, any(entry.again for entry in cams.values()))
    parts: dict[Spec, list[Tensor]] = {spec: [] for spec in cams}
    kinds = {spec: _kind(spec) if entry.compares else probe.score for spec, entry in cams.items()}
    start = 0
    for shots in probe.shots(x, goal, None, wants):
        rows = slice(start, start := start + len(shots[0].x))
        views = {kind: [shot.comparing(kind) for shot in shots] for kind in dict.fromkeys(kinds.values())}
        lap([*cams])
        for spec, entry in cams.items():
            for shot in views[kinds[spec]]:
                shot.seeds = seeds[spec][rows]
            layers = [_one(shot, spec, entry, x.shape[2:]) for shot in views[kinds[spec]]]
            parts[spec].append(fuse(layers, spec.kwargs.get("fuse", "mean")).cpu())
            lap([spec])
    return {spec: torch.cat(maps) for spec, maps in parts.items()}


def _one(shot: Shot, spec: Spec, entry: MethodEntry, size: Sequence[int]) -> Tensor:
    seen = (shot if name == "shot" else getattr(shot, name) for name in entry.asks)
    map = entry.function(*seen, **_own(spec))
    if entry.gives == "weights":
        map = combine(map, shot.A, relu=entry.relu)
    return spatial.resize(map.float(), size)


def _kind(spec: Spec) -> Score:
    """The kind of the scores that a method compares."""
    kind: Score = spec.kwargs.get("score", COMPARED)
    return kind


def _own(spec: Spec) -> dict[str, Any]:
    return {name: value for name, value in spec.options if name not in methods.shared}


def combine(
    weights: Float[Tensor, "n k ..."], A: Float[Tensor, "n k *s"], *, relu: bool = True
) -> Float[Tensor, "n *s"]:
    """The weighted sum of the channels, cut at zero with ``relu``."""
    with torch.autocast(A.device.type, enabled=False):
        if weights.ndim == 2:
            total = torch.bmm(weights[:, None].float(), A.flatten(2))[:, 0].reshape(len(A), *A.shape[2:])
        else:
            total = (weights * A).sum(1)
        return total.relu() if relu else total


def smoothed(probe: Probe, x: Tensor, spec: Spec, goal: Goal, drawn: Draws) -> Float[Tensor, "n *s"]:
    """The method's maps of altered copies of the input, turned back and joined.

    The copies are the input and its mirror image along the last axis, each times 0.9, 1 and 1.1. ``augment`` joins by
    the mean, ``eigen`` by the projection on the first right singular vector over the copies.
    Cost: that of the method, six times.
    """
    options = spec.kwargs
    join = options.pop("smooth")
    inner = Spec(spec.name, tuple(sorted(options.items())))
    copies = []
    for flip in (False, True):
        for factor in (0.9, 1.0, 1.1):
            altered = (x.flip(-1) if flip else x) * factor
            map = _attribute(probe, altered, [inner], goal, drawn, lambda _: None)[inner]
            copies.append(map.flip(-1) if flip else map)
    stack = torch.stack(copies, dim=1)
    return stack.mean(1) if join == "augment" else spatial.project(stack) / len(copies) ** 0.5


def fuse(maps: Sequence[Float[Tensor, "n *s"]], how: Fuse = "mean") -> Float[Tensor, "n *s"]:
    """One map from several layers, each map divided by its own largest absolute value first.

    ``mean`` and ``max`` join the maps; ``product`` multiplies what is positive in all of them, as Refine-CAM does
    (2605.14641), so that coarse layers say where and fine layers draw it. A single map is left as it is.
    """
    if len(maps) == 1:
        return maps[0]
    peaks = [m.flatten(1).abs().amax(1).clamp_min(torch.finfo(m.dtype).tiny) for m in maps]
    stack = torch.stack([m / spatial.like(p, m) for m, p in zip(maps, peaks, strict=True)])
    if how == "product":
        return stack.relu().prod(0)
    return stack.mean(0) if how == "mean" else stack.amax(0)


def _others(
    probe: Probe, x: Tensor, group: Sequence[Spec], goal: Goal | None, drawn: Draws
) -> dict[Spec, Float[Tensor, "n *s"]]:
    """The maps of methods that share passes, or of one that shares none."""
    parts: dict[Spec, list[Tensor]] = {spec: [] for spec in group}
    seeds = drawn.seeds(group[0])
    for rows in torch.arange(len(x)).split(probe.rows(x)):
        here, offered = (
            None if goal is None else goal.take(rows),
            {"seeds": seeds[rows], "pool": drawn.pool, "once": _once()},
        )
        for spec in group:
            entry = methods[spec.name]
            asker = probe.comparing(_kind(spec)) if entry.compares else probe
            asked = {name: offered[name] for name in inspect.signature(entry.function).parameters if name in offered}
            parts[spec].append(entry.function(asker, x[rows], here, **asked, **_own(spec)).float().cpu())
    return {spec: torch.cat(maps) for spec, maps in parts.items()}


def _once() -> Once:
    """Keeps what is made for the first that asks, for the others."""
    kept: list[Any] = []

    def once(make: Callable[[], Common]) -> Common:
        if not kept:
            kept.append(make())
        shared: Common = kept[0]
        return shared

    return once
