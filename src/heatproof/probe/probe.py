"""The model under question: its scores, its gradients, and what its layers show."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from heatproof.errors import InputError, LayerError
from heatproof.probe import attention, layers
from heatproof.probe.batches import Capacity
from heatproof.probe.goals import Goal, Score, Target
from heatproof.probe.inputs import checked
from heatproof.probe.layers import Tap
from heatproof.probe.prepared import Store
from heatproof.probe.runner import Engine, Recorder, Runner
from heatproof.probe.shot import Shot, Wants, shoot
from heatproof.probe.state import device_and_dtype
from heatproof.probe.survey import Survey

Layers = str | nn.Module | Sequence[str | nn.Module] | None


@dataclass(frozen=True, eq=False, repr=False)
class Probe:
    """How a borrowed classifier is asked; the model is left as it was after every call.

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
    passes: Counter[str] = field(default_factory=Counter, init=False)
    _store: Store = field(init=False)
    _recorder: Recorder | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        model: object = self.model
        if not isinstance(model, nn.Module):
            raise InputError(f"model: got a {type(model).__name__}, expected a torch.nn.Module (hp.load reads files)")
        if self.batch is not None and (not isinstance(self.batch, int) or self.batch < 1):
            raise InputError(f"batch: got {self.batch!r}, expected a whole number of at least 1")
        for name, value, choices in (("score", self.score, Score), ("engine", self.engine, Engine)):
            if value not in get_args(choices):
                raise InputError(f"{name}: got {value!r}, expected one of {', '.join(get_args(choices))}")
        object.__setattr__(self, "_store", Store(self.model, Capacity(self.batch)))

    def __repr__(self) -> str:
        return f"Probe({type(self.model).__name__}, layer={self._layer_text!r}, score={self.score!r})"

    def _repr_html_(self) -> str:
        facts = {"Model": type(self.model).__name__, "Layer": self._layer_text, "Score": self.score}
        rows = "".join(f"<tr><th>{name}</th><td>{escape(text)}</td></tr>" for name, text in facts.items())
        return f"<table>{rows}</table>"

    @property
    def _layer_text(self) -> str:
        if self.layer is None:
            return "last convolution"
        names = {module: name for name, module in self.model.named_modules()}
        several = [self.layer] if isinstance(self.layer, (str, nn.Module)) else self.layer
        return ", ".join(one if isinstance(one, str) else names.get(one, type(one).__name__) for one in several)

    # What the model says

    def logits(self, x: Float[Tensor, "n c *s"]) -> Float[Tensor, "n k"]:
        """The class scores before the softmax; the logarithm of the probabilities where the model ends in one."""
        x = self.check(x)
        return self.runner(x).logits(x)

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
        return self.runner(x).scored(x, goal)

    def stream(self, parts: Iterable[tuple[Float[Tensor, "m c *s"], Goal]]) -> Iterator[Float[Tensor, " m"]]:
        """The scores of inputs of one shape that are made when their turn comes; what `scored` gives for each part."""
        runner: Runner | None = None
        for x, goal in parts:
            runner = runner or self.runner(x)
            yield runner.scored(x, goal)

    def variants(
        self, x: Float[Tensor, "n c *s"], goal: Goal, count: int, make: Callable[[Tensor, Tensor], Tensor]
    ) -> Float[Tensor, "n count"]:
        """The score of ``count`` variants of every sample, streamed in batches of one size through all of them.

        Args:
            make: (samples (m,), variants (m,)) -> inputs (m, C, *S), made when needed and then forgotten.

        Cost: n * count forward passes; memory for one batch.
        """
        return self.runner(x).variants(x, goal, count, make)

    def gradient(self, x: Float[Tensor, "n c *s"], target: Target | Goal = None) -> Float[Tensor, "n c *s"]:
        """The gradient of the target's logit by the input.

        Cost: one forward and one backward pass.
        """
        x = self.check(x)
        goal = None if target is None else self.goal(x, target)
        return self.runner(x).gradient(x, goal)

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
        Raises: InputError where the model returns no class scores and the goal needs them.
        """
        runner = self.runner(x)
        trouble = runner.prepared.outputs.trouble
        if trouble is not None and (goal is None or goal.function is None):
            raise trouble.with_traceback(None)

        def work(part: Tensor, rows: slice) -> list[Shot]:
            return shoot(runner, part, None if goal is None else goal.take(rows), taps, wants)

        yield from runner.each(x, work)

    def biases(self, x: Float[Tensor, "n c *s"]) -> list[tuple[Tap, Float[Tensor, " k"]]]:
        """Every call of a convolution or BatchNorm that adds something, with what it adds to each channel."""
        return layers.biases(self.survey(x))

    def attentions(self, x: Float[Tensor, "n c *s"], goal: Goal | None) -> Iterator[list[attention.Heads]]:
        """The attention of every layer of a transformer, for each batch of ``x``; with gradients for a goal.

        Raises: NotApplicable where the model has no attention over one grid of tokens.
        """
        runner = self.runner(x)

        def work(part: Tensor, rows: slice) -> list[attention.Heads]:
            return attention.look(runner, part, None if goal is None else goal.take(rows))

        yield from runner.each(x, work)

    def survey(self, x: Float[Tensor, "n c *s"]) -> Survey:
        """What one small pass shows about the model, made once for each input shape.

        Raises: InputError where the model does not accept the input.
        """
        return self._store.prepared(x).survey

    # How it is asked

    def runner(self, x: Float[Tensor, "n c *s"]) -> Runner:
        """What runs the model, prepared for inputs of this shape.

        Raises: InputError where the model does not accept the input.
        """
        return Runner(
            self._store.prepared(x), self._store, self.passes, self.score, self.engine, self.autocast, self._recorder
        )

    def recorded(self, recorder: Recorder) -> Probe:
        """This probe, handing on the logits of its plain passes to a recorder; both count and learn as one."""
        probe = copy.copy(self)
        object.__setattr__(probe, "_recorder", recorder)
        return probe

    def check(self, x: Tensor, *, what: str = "input") -> Tensor:
        """The inputs as a tensor, after a look at their shape and content.

        Raises: InputError for an empty batch, NaN or infinite values, or other than one to three position axes.
        """
        return checked(x, what)

    def rows(self, x: Tensor) -> int:
        """How many rows one pass takes."""
        return self._store.capacity.rows(x.shape[1:])

    @property
    def device(self) -> torch.device:
        """Where the model lives."""
        return device_and_dtype(self.model)[0]


def as_probe(model: nn.Module | Probe) -> Probe:
    """The probe itself, or a default one around a module."""
    return model if isinstance(model, Probe) else Probe(model)
