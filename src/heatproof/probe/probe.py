"""The model under question: its scores, its gradients, and what its layers show."""

from __future__ import annotations

import copy
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from heatproof.errors import HeatproofError, InputError, LayerError
from heatproof.probe import graph, layers
from heatproof.probe.layers import Survey, Tap
from heatproof.probe.outputs import Goal, Score, Target, class_scores
from heatproof.probe.shot import Shot
from heatproof.probe.state import borrowed, device_and_dtype, note

Engine = Literal["plain", "optimised"]
Layers = str | nn.Module | Sequence[str | nn.Module] | None


@dataclass(frozen=True, eq=False)
class Probe:
    """A borrowed classifier and how it is asked; the model is left as it was after every call.

    Attributes:
        model: any torch module that takes (N, C, *S) and returns class scores.
        layer: the layer for CAMs, by name or module; several are fused; None for the last convolution.
        score: what masking and ablating methods and all metrics compare: a probability in [0, 1], or a logit. Gradients
            are those of the logit in both cases, as the papers of the gradient methods have it.
        batch: rows a pass; None for as many as fit about 16 MiB of input, at most 1024.
        engine: ``optimised`` runs passes without gradient on a copy with folded BatchNorm and channels-last memory.

    Raises: InputError for a batch below one or an unknown score.
    """

    model: nn.Module
    layer: Layers = None
    score: Score = "probability"
    batch: int | None = None
    engine: Engine = "plain"
    autocast: torch.dtype | None = None
    passes: Counter[str] = field(default_factory=Counter, init=False, repr=False)
    _cache: dict[Any, Any] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.model, nn.Module):
            raise InputError(
                f"got a {type(self.model).__name__} as model; expected a torch.nn.Module (hp.load reads files)"
            )
        if self.batch is not None and (not isinstance(self.batch, int) or self.batch < 1):
            raise InputError(f"batch: got {self.batch!r}, expected a whole number of at least 1")
        if self.score not in ("probability", "logit"):
            raise InputError(f"score: got {self.score!r}, expected 'probability' or 'logit'")
        if self.engine not in ("plain", "optimised"):
            raise InputError(f"engine: got {self.engine!r}, expected 'plain' or 'optimised'")

    # What the model says

    def logits(self, x: Float[Tensor, "n c *s"]) -> Float[Tensor, "n k"]:
        """The class scores before the softmax; the logarithm of the probabilities where the model ends in one."""
        return self._map(self.check(x), lambda part: self.read(self._raw(part)))

    def probabilities(self, x: Float[Tensor, "n c *s"]) -> Float[Tensor, "n k"]:
        """The class probabilities, rows sum to one."""
        return self.logits(x).softmax(1)

    def goal(self, x: Float[Tensor, "n c *s"], target: Target = None) -> Goal:
        """The target of every sample, resolved and checked; None is the predicted class.

        Raises: InputError where the number or the range of the targets is wrong.
        """
        if isinstance(target, Goal):
            return target
        return Goal.of(target, self.logits(x))

    def scores(self, x: Float[Tensor, "n c *s"], target: Target = None) -> Float[Tensor, " n"]:
        """The score of the target of every sample."""
        x = self.check(x)
        if target is None or not isinstance(target, Goal):
            logits = self.logits(x) if not callable(target) or isinstance(target, Tensor) else None
            if logits is not None:
                return Goal.of(target, logits).score(logits, self.score)
            target = self.goal(x, target)
        return self.scored(x, target)

    def scored(self, x: Float[Tensor, "n c *s"], goal: Goal) -> Float[Tensor, " n"]:
        """The score for a resolved goal, without any check of the input: the inner loop of perturbation."""
        parts, start = [], 0
        for part in self._chunks(x):
            raw = self._raw(part)
            rows = goal.take(slice(start, start + len(part)))
            parts.append(rows.score(self.read(raw), self.score, raw))
            start += len(part)
        return torch.cat(parts)

    def gradient(self, x: Float[Tensor, "n c *s"], target: Target = None) -> Float[Tensor, "n c *s"]:
        """The gradient of the target's logit by the input."""
        x = self.check(x)
        goal = self.goal(x, target)
        parts, start = [], 0
        for part in self._chunks(x):
            rows, start = goal.take(slice(start, start + len(part))), start + len(part)
            leaf = part.detach().clone().requires_grad_()
            with self.borrowed() as seen, torch.enable_grad():
                raw = self._call(leaf.clone())
                value = rows.score(self._logits(raw, seen), "logit", raw)
                (slope,) = torch.autograd.grad(value.sum(), leaf, allow_unused=True)
            if slope is None:
                raise HeatproofError("the model's output does not depend on its input by any path with a gradient")
            self.count("forward", len(part))
            self.count("backward", len(part))
            parts.append(slope.detach().float())
        return torch.cat(parts)

    # What its layers show

    def taps(self, x: Float[Tensor, "n c *s"], target: Target = None) -> tuple[Tensor, Tensor]:
        """The layer's output A and the gradient G of the target's logit by it, each (N, K, *s).

        Cost: one forward pass, and a backward pass that stops at the layer.
        Raises: LayerError, InputError.
        """
        x = self.check(x)
        goal = self.goal(x, target) if target is not None else None
        pairs = [(s.A, s.G) for (s,) in self.shots(x, goal, self.tapped(x)[:1], gradient=True)]
        return torch.cat([a for a, _ in pairs]), torch.cat([g for _, g in pairs])

    def tail(
        self, A: Float[Tensor, "n k *s"], x: Float[Tensor, "n c *s"], target: Target = None
    ) -> Float[Tensor, " n"]:
        """The score of each sample with its layer's output replaced by ``A``; only what lies behind the layer is run."""
        x = self.check(x)
        goal, start, parts = self.goal(x, target), 0, []
        for (shot,) in self.shots(x, goal, self.tapped(x)[:1], tail=True):
            n = len(shot.x)
            parts.append(shot.tail(A[start : start + n], torch.arange(n)))
            start += n
        return torch.cat(parts)

    def tapped(self, x: Float[Tensor, "n c *s"]) -> list[Tap]:
        """The layers to look at for such inputs.

        Raises: LayerError, UnknownName.
        """
        seen = self.survey(x)
        if self.layer is None:
            return [layers.find(self.model, layers.choose(seen)[0], seen)]
        named = [self.layer] if isinstance(self.layer, (str, nn.Module)) else list(self.layer)
        if not named:
            raise LayerError("got an empty list of layers; name at least one, or None for the last convolution")
        return [layers.find(self.model, layer, seen) for layer in named]

    def choice(self, x: Float[Tensor, "n c *s"]) -> str:
        """Which layer is looked at, and why."""
        if self.layer is None:
            return layers.choose(self.survey(self.check(x)))[1]
        return f"{', '.join(tap.name for tap in self.tapped(self.check(x)))}: as asked"

    def shots(
        self,
        x: Float[Tensor, "n c *s"],
        goal: Goal | None,
        taps: Sequence[Tap],
        *,
        gradient: bool = False,
        tail: bool = False,
    ) -> Iterator[list[Shot]]:
        """One shot a layer for each batch of ``x``; all layers share the forward and the backward pass.

        Cost: one forward pass; with ``gradient`` a backward pass that stops at the earliest layer.
        """
        start = 0
        for part in self._chunks(x):
            rows = None if goal is None else goal.take(slice(start, start + len(part)))
            start += len(part)
            cut = self.cut(taps[0], part) if tail and len(taps) == 1 else None
            if cut is not None:
                yield [self._shot_by_cut(part, rows, taps[0], cut, gradient)]
            else:
                yield self._shots_by_hooks(part, rows, taps, gradient)

    def _shots_by_hooks(self, x: Tensor, goal: Goal | None, taps: Sequence[Tap], gradient: bool) -> list[Shot]:
        kept: dict[Tap, Tensor] = {}
        calls: Counter[nn.Module] = Counter()

        def keep(module: nn.Module, _: Any, out: Any) -> Any:
            calls[module] += 1
            for tap in taps:
                if tap.module is module and tap.call == calls[module]:
                    if not gradient:
                        kept[tap] = out.clone()
                        return None
                    torch.set_grad_enabled(True)
                    kept[tap] = out if out.requires_grad else out.detach().requires_grad_()
                    return kept[tap].clone()
            return None

        with self.borrowed({tap.module: keep for tap in taps}) as seen:
            raw = self._call(x)
            missing = [tap.name for tap in taps if tap not in kept]
            if missing:
                raise LayerError(f"layer {missing[0]!r} did not run for this input")
            logits = self._logits(raw, seen)
            resolved = Goal.of(None, logits.detach()) if goal is None else goal
            slopes = self._slopes(resolved, logits, raw, [kept[tap] for tap in taps], taps) if gradient else None
        self.count("forward", len(x))
        shots = []
        for i, tap in enumerate(taps):
            shot = Shot(self, x, tap, kept[tap].detach(), logits.detach(), _detached(raw), resolved)
            if slopes is not None:
                shot._gradient = lambda i=i: slopes[i]
            shots.append(shot)
        return shots

    def _shot_by_cut(self, x: Tensor, goal: Goal | None, tap: Tap, cut: graph.Cut, gradient: bool) -> Shot:
        with self.borrowed() as seen:
            out, live = self._guard(cut.head, x)
            leaf = out.detach().clone()
            with torch.set_grad_enabled(gradient):
                leaf.requires_grad_(gradient)
                raw = self._guard(cut.tail, leaf.clone(), *live)
                logits = self._logits(raw, seen)
            resolved = Goal.of(None, logits.detach()) if goal is None else goal
            slopes = self._slopes(resolved, logits, raw, [leaf], [tap]) if gradient else None
        self.count("forward", len(x))
        shot = Shot(self, x, tap, leaf.detach(), logits.detach(), _detached(raw), resolved)
        shot.live = live
        if slopes is not None:
            shot._gradient = lambda: slopes[0]
        return shot

    def _slopes(
        self, goal: Goal, logits: Tensor, raw: Any, at: Sequence[Tensor], taps: Sequence[Tap]
    ) -> tuple[Tensor, ...]:
        with torch.enable_grad():
            value = goal.score(logits, "logit", raw)
            if not value.requires_grad:
                raise LayerError(
                    f"no gradient reaches layer {taps[0].name!r}: what follows it runs without gradients "
                    "(torch.no_grad or detach), or does not depend on it; choose a later layer"
                )
            slopes = torch.autograd.grad(value.sum(), list(at), allow_unused=True)
        for slope, tap in zip(slopes, taps, strict=True):
            if slope is None:
                raise LayerError(f"no gradient reaches layer {tap.name!r}: the output does not depend on it")
        self.count("backward", len(logits))
        return slopes

    def cut(self, tap: Tap, x: Tensor) -> graph.Cut | None:
        """The model cut behind the layer, or None where its graph cannot be followed."""
        key = ("cut", tap.name, tap.call, tuple(x.shape[1:]), id(self.model))
        if key not in self._cache:
            part = self._to_model(x[:2])
            self._cache[key] = graph.cut(self.model, tap, part)
        found: graph.Cut | None = self._cache[key]
        return found

    def behind(self, shot: Shot, out: Tensor, rows: Int[Tensor, " m"]) -> Float[Tensor, " m"]:
        """The score with the layer's raw output replaced, by the cut or else by a full pass."""
        cut = self.cut(shot.tap, shot.x) if shot.live is not None else None
        rows = rows.to(out.device)
        if cut is not None and shot.live is not None:
            with self.borrowed():
                raw = self._guard(cut.tail, out.clone(), *cut.live(shot.live, len(shot.x), rows))
            self.count("tail", len(rows))
        else:
            calls = Counter[nn.Module]()

            def swap(module: nn.Module, _: Any, old: Any) -> Any:
                calls[module] += 1
                return out.clone() if calls[module] == shot.tap.call else old

            with self.borrowed({shot.tap.module: swap}):
                raw = self._call(shot.x[rows])
            self.count("forward", len(rows))
        return shot.goal.take(rows).score(self.read(raw), self.score, raw)

    # Bookkeeping

    def survey(self, x: Float[Tensor, "n c *s"]) -> Survey:
        """What one small pass shows about the model, made once for each input shape.

        Raises: InputError where the model does not accept the input.
        """
        key = ("survey", tuple(x.shape[1:]))
        if key not in self._cache:
            seen = layers.survey(self.model, self._to_model(x[:2]))
            if seen.mixes:
                note(
                    "the model's output for a sample depends on the other samples in its batch; maps and scores will "
                    "change with the batch size"
                )
            if len(x) < 2:
                return seen
            self._cache[key] = seen
        found: Survey = self._cache[key]
        return found

    def check(self, x: Any, *, lead: str = "input") -> Tensor:
        """The inputs as a tensor, after a look at their shape and content.

        Raises: InputError for an empty batch, NaN or infinite values, or other than one to three position axes.
        """
        if not isinstance(x, Tensor):
            try:
                x = torch.as_tensor(x)
            except (TypeError, ValueError, RuntimeError) as error:
                raise InputError(f"{lead}: got a {type(x).__name__}, expected a tensor (N, C, *S)") from error
        if not 3 <= x.ndim <= 5:
            raise InputError(
                f"{lead}: got shape {tuple(x.shape)}, expected (N, C, *S) with one to three position axes; "
                "add the missing batch or channel axis"
            )
        if len(x) == 0:
            raise InputError(f"{lead}: got an empty batch of shape {tuple(x.shape)}, expected at least one sample")
        if x.is_complex() or not x.is_floating_point():
            raise InputError(f"{lead}: got {x.dtype}, expected floating point values; call .float() and scale them")
        if not bool(torch.isfinite(x).all()):
            bad = (~torch.isfinite(x.flatten(1)).all(1)).nonzero()[:, 0].tolist()
            raise InputError(
                f"{lead}: NaN or infinite values in {len(bad)} of {len(x)} samples (the first is number "
                f"{bad[0]}); remove or replace them"
            )
        return x

    def rows(self, x: Tensor) -> int:
        """How many rows one pass takes."""
        if "rows" in self._cache:
            return int(self._cache["rows"])
        return self.batch or max(1, min(1024, 2**22 // max(1, math.prod(x.shape[1:]))))

    def count(self, kind: str, rows: int) -> None:
        """Adds to the passes made so far, in rows."""
        self.passes[kind] += rows

    def read(self, raw: Any) -> Float[Tensor, "n k"]:
        """The logits in what the model returned."""
        try:
            out = class_scores(raw).float()
        except InputError:
            return next(t for t in _tensors(raw)).detach().flatten(1).float()
        return out.clamp_min(1e-37).log() if self._cache.get("probabilities") else out

    @contextmanager
    def borrowed(self, hooks: Any = None) -> Iterator[dict[str, Tensor]]:
        """The model in evaluation mode, without gradients, with hooks; yields what stood before a final softmax."""
        seen: dict[str, Tensor] = {}
        hooks = dict(hooks or {})
        softmax = self._cache.get("softmax")
        if softmax is not None and softmax not in hooks:
            hooks[softmax] = lambda _, given, __: seen.__setitem__("logits", given[0])
        with borrowed(self.model, hooks), self._precision():
            yield seen

    def _precision(self) -> AbstractContextManager[Any]:
        device = device_and_dtype(self.model)[0].type
        return torch.autocast(device, dtype=self.autocast, enabled=self.autocast is not None)

    def _logits(self, raw: Any, seen: dict[str, Tensor]) -> Tensor:
        return seen["logits"].float() if "logits" in seen else self.read(raw)

    def _raw(self, part: Tensor) -> Any:
        with self.borrowed(), torch.inference_mode():
            raw = self._guard(self._fast_model(part), part)
        self.count("forward", len(part))
        return raw

    def _call(self, part: Tensor) -> Any:
        return self._guard(self.model, part)

    def _guard(self, function: Callable[..., Any], *args: Any) -> Any:
        return function(*args)

    def _map(self, x: Tensor, work: Callable[[Tensor], Tensor]) -> Tensor:
        return torch.cat([work(part) for part in self._chunks(x)])

    def _chunks(self, x: Tensor) -> Iterator[Tensor]:
        self._prepare(x)
        for part in x.split(self.rows(x)):
            yield self._to_model(part)

    def _prepare(self, x: Tensor) -> None:
        if "probabilities" not in self._cache:
            seen = self.survey(x)
            self._cache["probabilities"] = seen.probabilities
            self._cache["softmax"] = (
                self.model.get_submodule(seen.softmax) if seen.softmax and seen.probabilities else None
            )

    def _to_model(self, x: Tensor) -> Tensor:
        device, dtype = device_and_dtype(self.model)
        if device.type == "cuda" and x.device.type == "cpu":
            x = x.pin_memory()
        return x.to(device=device, dtype=dtype, non_blocking=True)

    def _fast_model(self, part: Tensor) -> nn.Module:
        if self.engine == "plain":
            return self.model
        if "fast" not in self._cache:
            self._cache["fast"] = optimised(self.model, part)
        fast: nn.Module = self._cache["fast"]
        return fast


def optimised(model: nn.Module, x: Tensor) -> nn.Module:
    """A copy with BatchNorm folded into its convolutions and channels-last weights; the model itself where that fails
    or differs by more than 1e-5 of the largest output.
    """
    from torch.fx.experimental.optimization import fuse

    with borrowed(model):
        want = class_scores(model(x[:2]))
        try:
            fast = fuse(copy.deepcopy(model).eval())
            fast = fast.to(memory_format=torch.channels_last) if x.ndim == 4 else fast
            got = class_scores(fast(x[:2]))
        except Exception:  # tracing runs the user's own code, which may raise anything
            return model
    return fast if torch.allclose(got, want, rtol=1e-4, atol=1e-5 * float(want.abs().max() + 1)) else model


def _detached(raw: Any) -> Any:
    if isinstance(raw, Tensor):
        return raw.detach()
    if isinstance(raw, dict):
        return {key: _detached(value) for key, value in raw.items()}
    return raw


def _tensors(raw: Any) -> Iterator[Tensor]:
    values = raw.values() if isinstance(raw, dict) else raw if isinstance(raw, (tuple, list)) else (raw,)
    yield from (v for v in values if isinstance(v, Tensor))


def as_probe(model: nn.Module | Probe) -> Probe:
    """The probe itself, or a default one around a module."""
    return model if isinstance(model, Probe) else Probe(model)
