"""The model under question: its scores, its gradients, and what its layers show."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, TypeVar, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from heatproof.errors import HeatproofError, InputError, LayerError
from heatproof.probe import attention, graph, layers
from heatproof.probe.inputs import checked
from heatproof.probe.layers import Survey, Tap
from heatproof.probe.optimise import optimised, quickened
from heatproof.probe.outputs import Goal, Score, Target, class_scores, pick
from heatproof.probe.shot import Shot, Wants, shoot
from heatproof.probe.state import Hook, SoftmaxWatch, borrowed, device_and_dtype, note

Engine = Literal["auto", "plain", "optimised"]
Layers = str | nn.Module | Sequence[str | nn.Module] | None
T = TypeVar("T")
MOST = 1024  # rows a pass
CACHED = 2**19  # numbers of one layer's output that stay near the processor


@dataclass(frozen=True, eq=False)
class Probe:
    """A borrowed classifier and how it is asked; the model is left as it was after every call.

    Attributes:
        model: any torch module that takes (N, C, *S) and returns class scores.
        layer: the layer for CAMs, by name or module; several are fused; None for the last convolution.
        score: what masking and ablating methods and all metrics compare: a probability in [0, 1], or a logit.
            Gradients are those of the logit in both cases, as the papers of the gradient methods have it.
        batch: rows a pass; None for as many as fit about 10 MiB of input, at most 1024, and on the CPU no more than
            keep a layer's output near the processor.
        engine: ``optimised`` runs passes without gradient on a copy with folded BatchNorm and, for signals and images
            on the CPU, channels-last memory, provided that it agrees to 1e-5; ``auto`` does so for perturbed inputs
            only.
        autocast: the type to compute in where torch.autocast allows it, bfloat16 say; None for the model's own type. A
            surrounding torch.autocast has no effect.
        passes: rows sent through the model so far: forward, backward, and tail (only what lies behind a layer).

    Raises: InputError for a batch below one or an unknown score or engine.
    """

    model: nn.Module
    layer: Layers = None
    score: Score = "probability"
    batch: int | None = None
    engine: Engine = "auto"
    autocast: torch.dtype | None = None
    passes: Counter[str] = field(default_factory=Counter, init=False, repr=False)
    _cache: dict[Any, Any] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        model: object = self.model
        if not isinstance(model, nn.Module):
            raise InputError(f"model: got a {type(model).__name__}, expected a torch.nn.Module (hp.load reads files)")
        if self.batch is not None and (not isinstance(self.batch, int) or self.batch < 1):
            raise InputError(f"batch: got {self.batch!r}, expected a whole number of at least 1")
        for name, value, known in (("score", self.score, Score), ("engine", self.engine, Engine)):
            if value not in get_args(known):
                raise InputError(f"{name}: got {value!r}, expected one of {', '.join(get_args(known))}")

    # What the model says

    def logits(self, x: Float[Tensor, "n c *s"]) -> Float[Tensor, "n k"]:
        """The class scores before the softmax; the logarithm of the probabilities where the model ends in one."""
        return torch.cat(list(self._each(self.check(x), lambda part, _: self._run(part)[1])))

    def probabilities(self, x: Float[Tensor, "n c *s"]) -> Float[Tensor, "n k"]:
        """The class probabilities, rows sum to one."""
        return self.logits(x).softmax(1)

    def goal(self, x: Float[Tensor, "n c *s"], target: Target | Goal = None) -> Goal:
        """The target of every sample, resolved and checked; None is the predicted class.

        Raises: InputError where the number or the range of the targets is wrong.
        """
        if isinstance(target, Goal):
            return target
        if callable(target) and not isinstance(target, Tensor):
            return Goal(torch.zeros(len(x), dtype=torch.int64, device=self.device), function=target)
        return Goal.of(target, self.logits(x))

    def scores(self, x: Float[Tensor, "n c *s"], target: Target | Goal = None) -> Float[Tensor, " n"]:
        """The score of the target of every sample.

        Raises: InputError where the number or the range of the targets is wrong.
        """
        x = self.check(x)
        if isinstance(target, Goal) or (callable(target) and not isinstance(target, Tensor)):
            return self.scored(x, self.goal(x, target))
        logits = self.logits(x)
        return Goal.of(target, logits).score(logits, self.score)

    def scored(self, x: Float[Tensor, "n c *s"], goal: Goal) -> Float[Tensor, " n"]:
        """The score for a resolved goal, without any look at the input: the inner loop of perturbation."""
        return next(self.stream([(x, goal)]))

    def stream(self, parts: Iterable[tuple[Float[Tensor, "m c *s"], Goal]]) -> Iterator[Float[Tensor, " m"]]:
        """The scores of inputs of one shape that are made when their turn comes; what `scored` gives for each part."""
        for number, (x, goal) in enumerate(parts):
            if not number:
                self._prepare(x)
            yield torch.cat(list(self.batches(len(x), x, partial(self._scored, x, goal))))

    def _scored(self, x: Tensor, goal: Goal, rows: slice) -> Tensor:
        some = goal.take(rows)
        raw, logits = self._run(self._to_model(x[rows]), some, many=True)
        return some.score(logits, self.score, raw)

    def variants(
        self, x: Float[Tensor, "n c *s"], goal: Goal, count: int, make: Callable[[Tensor, Tensor], Tensor]
    ) -> Float[Tensor, "n count"]:
        """The score of ``count`` variants of every sample, streamed in batches of one size through all of them.

        Args:
            make: (samples (m,), variants (m,)) -> inputs (m, C, *S), made when needed and then forgotten.

        Cost: n * count forward passes; memory for one batch.
        """
        self._prepare(x)

        def work(part: slice) -> Tensor:
            pairs = torch.arange(part.start, part.stop)
            samples = pairs // count
            some = goal.take(samples.to(goal.classes.device))
            raw, logits = self._run(self._to_model(make(samples, pairs % count)), some, many=True)
            return some.score(logits, self.score, raw)

        return torch.cat(list(self.batches(len(x) * count, x, work))).reshape(len(x), count)

    def gradient(self, x: Float[Tensor, "n c *s"], target: Target | Goal = None) -> Float[Tensor, "n c *s"]:
        """The gradient of the target's logit by the input.

        Cost: one forward and one backward pass.
        """
        x = self.check(x)
        goal = None if target is None else self.goal(x, target)

        def work(part: Tensor, rows: slice) -> Tensor:
            leaf = part.detach().clone().requires_grad_()
            with self.borrowed() as seen, torch.enable_grad():
                raw = self.model(leaf.clone())
                logits = self.read(raw, seen, goal)
                some = Goal.of(None, logits.detach()) if goal is None else goal.take(rows)
                value = some.score(logits, "logit", raw)
                slope = torch.autograd.grad(value.sum(), leaf, allow_unused=True)[0] if value.requires_grad else None
            self.compare(part, logits)
            if slope is None:
                raise HeatproofError("the model's output depends on its input by no path that has a gradient")
            self.count("forward", len(part))
            self.count("backward", len(part))
            return slope.detach().float()

        return torch.cat(list(self._each(x, work)))

    # What its layers show

    def taps(self, x: Float[Tensor, "n c *s"], target: Target | Goal = None) -> tuple[Tensor, Tensor]:
        """The layer's output A and the gradient G of the target's logit by it, each (N, K, *s).

        Cost: one forward pass, and a backward pass that stops at the layer.
        Raises: LayerError, InputError.
        """
        x = self.check(x)
        goal = None if target is None else self.goal(x, target)
        pairs = [(shot.A, shot.G) for (shot,) in self.shots(x, goal, self.tapped(x)[:1], Wants(gradient=True))]
        return torch.cat([A for A, _ in pairs]), torch.cat([G for _, G in pairs])

    def tail(
        self, A: Float[Tensor, "n k *t"], x: Float[Tensor, "n c *s"], target: Target | Goal = None
    ) -> Float[Tensor, " n"]:
        """The score of each sample with its layer's output replaced by ``A``.

        Cost: one forward pass, and one of what lies behind the layer.
        """
        x = self.check(x)
        goal, start, parts = self.goal(x, target), 0, []
        for (shot,) in self.shots(x, goal, self.tapped(x)[:1], Wants(tail=True)):
            parts.append(shot.tail(A[start : start + len(shot.x)], torch.arange(len(shot.x))))
            start += len(shot.x)
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
        x = self.check(x)
        if self.layer is None:
            return layers.choose(self.survey(x))[1]
        return f"{', '.join(tap.name for tap in self.tapped(x))}: as asked"

    def shots(
        self, x: Float[Tensor, "n c *s"], goal: Goal | None, taps: Sequence[Tap], wants: Wants
    ) -> Iterator[list[Shot]]:
        """One shot a layer for each batch of ``x``; all layers share the forward and the backward pass.

        Cost: one forward pass; for gradients a backward pass that stops at the earliest layer.
        """

        self._prepare(x)
        if self._cache["trouble"] is not None and (goal is None or goal.function is None):
            raise self._cache["trouble"]

        def work(part: Tensor, rows: slice) -> list[Shot]:
            return shoot(self, part, None if goal is None else goal.take(rows), taps, wants)

        yield from self._each(x, work)

    def biases(self, x: Float[Tensor, "n c *s"]) -> list[tuple[Tap, Float[Tensor, " k"]]]:
        """Every call of a convolution or BatchNorm that adds something, with what it adds to each channel."""
        return layers.biases(self.survey(x))

    def attentions(self, x: Float[Tensor, "n c *s"], goal: Goal | None) -> Iterator[list[attention.Heads]]:
        """The attention of every layer of a transformer, for each batch of ``x``; with gradients for a goal.

        Raises: NotApplicable where the model has no attention over one grid of tokens.
        """

        def work(part: Tensor, rows: slice) -> list[attention.Heads]:
            return attention.look(self, part, None if goal is None else goal.take(rows))

        yield from self._each(x, work)

    def cut(self, tap: Tap, x: Tensor) -> graph.Cut | None:
        """The model cut behind the layer, or None where its graph cannot be followed."""
        parts = (*self.model.modules(), *self.model.parameters(), *self.model.buffers())
        key = ("cut", tap.name, tap.call, tuple(x.shape[1:]), tuple(map(id, parts)))
        if key not in self._cache:
            self._cache[key] = graph.cut(self.model, tap, self._to_model(x[:1]))
        found: graph.Cut | None = self._cache[key]
        return found

    # Bookkeeping

    def survey(self, x: Float[Tensor, "n c *s"]) -> Survey:
        """What one small pass shows about the model, made once for each input shape.

        Raises: InputError where the model does not accept the input.
        """
        key = ("survey", tuple(x.shape[1:]))
        if key not in self._cache:
            one = self._to_model(x[:1])
            self._cache[key] = layers.survey(self.model, one)
            self._cache["surveyed", key[1]] = one.clone()
        found: Survey = self._cache[key]
        return found

    def check(self, x: Tensor, *, what: str = "input") -> Tensor:
        """The inputs as a tensor, after a look at their shape and content.

        Raises: InputError for an empty batch, NaN or infinite values, or other than one to three position axes.
        """
        return checked(x, what)

    def rows(self, x: Tensor) -> int:
        """How many rows one pass takes."""
        limit = self.batch or max(1, min(MOST, 2_500_000 // max(1, math.prod(x.shape[1:]))))
        return min(limit, int(self._cache.get("rows", limit)))

    def count(self, kind: str, rows: int) -> None:
        """Adds to the passes made so far."""
        self.passes[kind] += rows

    @property
    def device(self) -> torch.device:
        """Where the model lives."""
        return device_and_dtype(self.model)[0]

    def read(self, raw: Any, seen: Mapping[str, Any] | None = None, goal: Goal | None = None) -> Float[Tensor, "n k"]:
        """The logits in what the model returned, or in what stood before its final softmax.

        Zeros where a goal is a function of the output and there are no class scores.

        Raises: InputError where there are no class scores.
        """
        found = (seen or {}).get("softmax")
        if found is not None and found[0] is pick(raw):
            logits: Tensor = found[1]
            return logits.float()
        try:
            out = class_scores(raw).float()
        except InputError:
            first = next(graph.tensors(raw), None)
            if goal is None or goal.function is None or first is None:
                raise
            return first.new_zeros(len(first), 1).float()
        if self._cache.get("sigmoid"):
            return torch.cat([torch.zeros_like(out[:, :1]), torch.logit(out[:, 1:], eps=1e-7)], dim=1)
        return out.clamp_min(torch.finfo(out.dtype).tiny).log() if self._cache.get("probabilities") else out

    @contextmanager
    def borrowed(self, hooks: Mapping[nn.Module, Hook] | None = None) -> Iterator[dict[str, Any]]:
        """The model in evaluation mode, without gradients, with hooks; yields the last softmax: (result, input)."""
        seen: dict[str, Any] = {}
        with ExitStack() as stack:
            stack.enter_context(borrowed(self.model, hooks))
            if self._cache.get("probabilities"):
                stack.enter_context(SoftmaxWatch(seen))
            kind, on = self.device.type, self.autocast is not None
            if on or torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, dtype=self.autocast, enabled=on))
            yield seen

    def batches(self, count: int, x: Tensor, work: Callable[[slice], T]) -> Iterator[T]:
        """What ``work`` makes of each batch of ``count`` rows; out of memory, the batch is halved and tried again.

        Raises: HeatproofError where one row is too much.
        """
        start = 0
        while start < count:
            rows = slice(start, min(start + self._at_once(x), count))
            try:
                found = work(rows)
            except torch.OutOfMemoryError as error:
                tried = rows.stop - rows.start
                if tried <= 1:
                    raise HeatproofError("out of memory with a single sample; use a smaller input") from error
                self._cache["rows"] = tried // 2
                note(f"out of memory with {tried} samples a pass; going on with {tried // 2}")
                continue
            start = rows.stop
            yield found

    def _at_once(self, x: Tensor) -> int:
        """How many rows one pass takes so that, on the CPU, the next layer finds what one has written still near."""
        rows = self.rows(x)
        return rows if self.batch is not None else min(rows, int(self._cache.get("near", rows)))

    def _each(self, x: Tensor, work: Callable[[Tensor, slice], T]) -> Iterator[T]:
        self._prepare(x)
        yield from self.batches(len(x), x, lambda rows: work(self._to_model(x[rows]), rows))

    def _run(self, part: Tensor, goal: Goal | None = None, *, many: bool = False) -> tuple[Any, Tensor]:
        with self.borrowed() as seen:
            fast = self.engine == "optimised" or (many and self.engine == "auto")
            model = self._optimised(part) if fast else self.model
            with torch.inference_mode():
                raw = model(part)
            logits = self.read(raw, seen, goal)
        if not fast:
            self.compare(part, logits)
        self.count("forward", len(part))
        return raw, logits

    @contextmanager
    def overhearing(self, x: Float[Tensor, "n c *s"]) -> Iterator[list[Tensor]]:
        """Keeps the logits of plain passes over exactly these inputs, in order, that others make within the block.

        Yields the list they are put in, part by part; they are whole where the parts have as many rows as ``x``.
        """
        outer, heard = self._cache.get("overhearing"), list[Tensor]()
        self._cache["overhearing"] = (self._to_model(x), heard)
        try:
            yield heard
        finally:
            self._cache["overhearing"] = outer

    def compare(self, part: Tensor, logits: Tensor) -> None:
        """Takes note of a plain pass; says once if a sample's scores depend on the batch it is in."""
        if self._cache.get("overhearing") is not None:
            x, heard = self._cache["overhearing"]
            start = sum(map(len, heard))
            if torch.equal(x[start : start + len(part)], part):
                heard.append(logits.detach())
        first: tuple[Tensor, Tensor] | None = self._cache.get("first")
        if first is None or len(part) < 2 or not torch.equal(first[0], part[:1]):
            return
        del self._cache["first"]
        alone, among = first[1].detach(), logits[:1].detach()
        if not torch.allclose(alone, among, rtol=1e-2, atol=1e-3 + 1e-2 * float(alone.abs().max())):
            note("the model's output for a sample depends on the other samples in its batch; maps and scores will "
                 "change with the batch size")  # fmt: skip

    def _prepare(self, x: Tensor) -> None:
        wide = self._cache.get(key := ("near", tuple(x.shape[1:])))
        if wide is None:
            widest = max((math.prod(call.shape or ()) for call in self.survey(x).calls), default=1)
            self._cache[key] = wide = max(16, CACHED // widest)
        self._cache["near"] = wide if self.device.type == "cpu" else MOST
        if "classes" not in self._cache:
            seen = self.survey(x)
            self._cache.update(classes=seen.classes, probabilities=seen.probabilities, trouble=seen.trouble)
            self._cache["sigmoid"] = seen.sigmoid
            if seen.alone is not None and not seen.probabilities and not seen.sigmoid:
                self._cache["first"] = (self._cache["surveyed", tuple(x.shape[1:])], seen.alone)
        if self.engine != "plain":
            weights = (*self.model.parameters(), *self.model.buffers())
            self._cache["weights"] = tuple((t.data_ptr(), t._version, _print(t)) for t in weights)

    def _to_model(self, x: Tensor) -> Tensor:
        device, dtype = device_and_dtype(self.model)
        if device.type == "cuda" and x.device.type == "cpu":
            x = x.pin_memory()
        return x.to(device=device, dtype=dtype, non_blocking=True)

    def _optimised(self, part: Tensor) -> nn.Module:
        fast: nn.Module = self._renewed("fast", lambda: optimised(self.model, part.clone()))
        return fast

    def quick(self, cut: graph.Cut, out: Tensor, live: tuple[Any, ...]) -> graph.Cut:
        """The cut with an optimised tail, where the engine allows it."""
        if self.engine == "plain":
            return cut
        found: graph.Cut = self._renewed(("quick", id(cut)), lambda: quickened(cut, out, live))
        return found

    def _renewed(self, key: Any, make: Callable[[], Any]) -> Any:
        """A copy derived from the model's weights, made anew once they have changed."""
        state = self._cache.get("weights")
        kept, value = self._cache.get(key, ("never", None))
        if kept != state:
            with torch.inference_mode(False):
                value = make()
            self._cache[key] = (state, value)
        return value


def _print(tensor: Tensor) -> float:
    """A cheap print of the values: writing through ``.data`` does not raise a tensor's version."""
    flat = tensor.detach().flatten()
    return float(flat[:: max(1, len(flat) // 64)].double().sum()) if len(flat) else 0.0


def as_probe(model: nn.Module | Probe) -> Probe:
    """The probe itself, or a default one around a module."""
    return model if isinstance(model, Probe) else Probe(model)
