"""The model under question: its scores, its gradients, and what its layers show."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from html import escape
from typing import Any, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from heatproof.errors import InputError, LayerError
from heatproof.probe import attention, choice, layers
from heatproof.probe.batches import Capacity
from heatproof.probe.forms import check_opaque, resolved, unwrapped
from heatproof.probe.goals import Goal, Score, Target
from heatproof.probe.inputs import checked
from heatproof.probe.kinds import Task, parsed
from heatproof.probe.layers import Tap
from heatproof.probe.layout import checked_notation
from heatproof.probe.outputs import Outputs
from heatproof.probe.prepared import Prepared, Store
from heatproof.probe.runner import Engine, Recorder, Runner
from heatproof.probe.shot import Shot, Wants, reshoot, shoot
from heatproof.probe.state import device_and_dtype
from heatproof.probe.summary import Description
from heatproof.probe.survey import Survey

Layers = str | nn.Module | Sequence[str | nn.Module] | None


@dataclass(frozen=True, eq=False, repr=False)
class Probe:
    """How a borrowed classifier is asked; the model is left as it was after every call.

    Attributes:
        model: any torch module that takes (N, C, *S) and returns class scores.
        layer: the layer for CAMs, by name or module; several are fused; None for the last with positions.
        layout: how the layer's output is read, ``nchw``, ``nhwc``, ``ntc`` or ``tokens:1+14x14`` say; None to go by the
            operations of the model.
        score: what `scores` and all metrics compare: a probability in [0, 1], a logit, or a margin, the logit of a
            class less the largest other one (a label's logit, a regression's output). Masking and ablating methods
            compare margins, unless their option ``score`` says otherwise; gradients are those of the logit.
        batch: rows a pass; None for as many as fit about 10 MiB of input, at most 1024, and on the CPU no more than
            keep a layer's output near the processor.
        engine: ``auto`` runs 20 or more changes of each sample on a copy with folded BatchNorm and, for signals and
            images on the CPU, channels-last memory, as old as the weights and equal to 1e-5 for all samples;
            ``optimised`` does so for 20 or more batches of unchanged samples too; ``plain`` never.
        autocast: the type to compute in where torch.autocast allows it, bfloat16 say; None for the model's own type. A
            surrounding torch.autocast has no effect.
        outputs: what the model returns, where that is not to be decided from its operations and numbers: a kind
            (binary-logit, say), an entry of a nested output ("logits_key", dotted where nested), or "entry:kind".
        passes: rows sent through the model or a copy of it: forward, backward, and tail (only what lies behind a
            layer).

    Raises: InputError for a batch below one or an unknown score, engine or kind of outputs.
    """

    model: nn.Module
    layer: Layers = None
    score: Score = "probability"
    batch: int | None = None
    engine: Engine = "auto"
    autocast: torch.dtype | None = None
    outputs: str | None = None
    layout: str | None = None
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
        if self.outputs is not None:
            parsed(self.outputs)
        if self.layout is not None:
            checked_notation(self.layout)
        object.__setattr__(self, "model", unwrapped(model))
        object.__setattr__(self, "_store", Store(self.model, Capacity(self.batch), self.outputs))

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
        """A logit a class, before the softmax, or a label, before the sigmoid; of a regression the outputs themselves.

        One logit z of two classes is read as [-z/2, z/2].

        Raises: InputError where the output cannot be read, or is NaN or infinite.
        """
        x = self.check(x)
        return self.runner(x).logits(x)

    def probabilities(self, x: Float[Tensor, "n c *s"]) -> Float[Tensor, "n k"]:
        """The class probabilities, rows summing to one, or the probability of each label.

        Raises: InputError for a regression.
        """
        logits = self.logits(x)
        return self.outputs_for(x).probabilities(logits)

    def outputs_for(self, x: Float[Tensor, "n c *s"]) -> Outputs:
        """How the model's output is read, and why; made once for each input shape."""
        return self._store.prepared(self.check(x), self.passes).outputs

    def task(self, x: Float[Tensor, "n c *s"]) -> Task:
        """What the model does: exclusive classes, labels that each hold or not, or a regression.

        Raises: InputError where its output cannot be read.
        """
        outputs = self.outputs_for(x)
        if outputs.trouble is not None:
            raise outputs.trouble.with_traceback(None)
        return outputs.task

    def goal(self, x: Float[Tensor, "n c *s"], target: Target | Goal = None) -> Goal:
        """The target of every sample, resolved and checked; None is the predicted class.

        Raises: InputError where the number or the range of the targets is wrong.
        """
        if isinstance(target, Goal):
            return target.for_task(self.outputs_for(x).task)
        if callable(target) and not isinstance(target, Tensor):
            none = torch.zeros(len(x), dtype=torch.int64, device=self.device)
            return Goal(none, function=target, task=self.outputs_for(x).task)
        logits = self.logits(x)
        return Goal.of(target, logits, self.outputs_for(x).task)

    def scores(self, x: Float[Tensor, "n c *s"], target: Target | Goal = None) -> Float[Tensor, " n"]:
        """The score of the target of every sample.

        Raises: InputError where the number or the range of the targets is wrong.
        """
        x = self.check(x)
        if isinstance(target, Goal) or (callable(target) and not isinstance(target, Tensor)):
            return self.scored(x, self.goal(x, target))
        logits = self.logits(x)
        return Goal.of(target, logits, self.outputs_for(x).task).score(logits, self.score)

    def scored(self, x: Float[Tensor, "n c *s"], goal: Goal) -> Float[Tensor, " n"]:
        """The score for a resolved goal, without any look at the input: the inner loop of perturbation."""
        return self.runner(x).scored(x, goal)

    def stream(
        self, x: Float[Tensor, "n c *s"], passes: int, parts: Iterable[tuple[Float[Tensor, "m c *s"], Goal]]
    ) -> Iterator[Float[Tensor, " m"]]:
        """The scores of inputs that are made when their turn comes: changes of the samples ``x``.

        Args:
            passes: how many changes of each sample there are at least; many are worth a quicker copy of the model.
        """
        runner = self.runner(x)
        model = runner.quickest(x, passes)
        for part, goal in parts:
            yield runner.scored(part, goal, model)

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
        return self._taps(self._store.prepared(x, self.passes))

    def _taps(self, prepared: Prepared) -> list[Tap]:
        check_opaque(self.model)
        seen = self._surveyed(prepared)
        if self.layer is not None and not isinstance(self.layer, str):
            return self._named(seen)
        key = self.layer, self.layout
        if key not in prepared.taps:
            prepared.taps[key] = self._named(seen)
        return prepared.taps[key]

    def _surveyed(self, prepared: Prepared) -> Survey:
        if prepared.survey.trial is not None:
            prepared.survey.trial.passes = self.passes
        return prepared.survey

    def _named(self, seen: Survey) -> list[Tap]:
        if self.layer is None:
            return [layers.find(self.model, choice.choose(seen).layer, seen, self.layout)]
        named = [self.layer] if isinstance(self.layer, (str, nn.Module)) else list(self.layer)
        if not named:
            raise LayerError("got an empty list of layers; name at least one, or None for the last convolution")
        taps = [layers.find(self.model, resolved(self.model, layer), seen, self.layout) for layer in named]
        for tap in taps:
            layers.warn(seen, tap)
        return taps

    def choice(self, x: Float[Tensor, "n c *s"]) -> str:
        """Which layer is looked at, and why."""
        x = self.check(x)
        if self.layer is None:
            chosen = str(choice.choose(self.survey(x)))
            return chosen if self.layout is None else f"{chosen}; read as {self.tapped(x)[0].layout}, as layout= says"
        return layers.described(self.survey(x), self.tapped(x), self.layout)

    def describe(self, x: Float[Tensor, "n c *s"]) -> Description:
        """What is decided for such inputs: what the model returns, which layers CAMs use, and how these are laid out.

        Raises: InputError where the model does not accept the input.
        """
        x = self.check(x)
        outputs, notes = self.outputs_for(x), list[str]()
        try:
            layer, taps = self.choice(x), self.tapped(x)
        except LayerError as error:
            layer, taps = "", []
            notes.append(f"No layer for CAMs: {error}")
        layout = "; ".join(f"{tap.layout.kind}, {' x '.join(map(str, tap.layout.grid))} positions" for tap in taps)
        return Description(outputs, tuple(x.shape[1:]), layer, layout, tuple(notes))

    def shots(
        self, x: Float[Tensor, "n c *s"], goal: Goal | None, taps: Sequence[Tap] | None, wants: Wants
    ) -> Iterator[list[Shot]]:
        """One shot a layer for each batch of ``x``; all layers share the forward and the backward pass.

        ``taps`` are the layers, None for those of this probe.

        Cost: one forward pass; for gradients a backward pass that stops at the earliest layer.
        Raises: InputError where the model returns no class scores and the goal needs them.
        """
        # The pass that shows how to read a model can explain its sample too, if nothing but gradients is asked for.
        keep = goal is None and len(x) == 1 and wants == Wants(gradient=True) and self.autocast is None
        runner = self._runner(x, keep=keep)
        taken = runner.prepared.survey.first
        first = taken.pop() if taken else None
        taps = self._taps(runner.prepared) if taps is None else taps
        outputs = runner.prepared.outputs
        goal = None if goal is None else goal.for_task(outputs.task)
        if outputs.trouble is not None and (goal is None or goal.function is None):
            raise outputs.trouble.with_traceback(None)

        def work(part: Tensor, rows: slice) -> list[Shot]:
            shots = None if first is None else reshoot(runner, part, first, taps)
            if shots is not None:
                return shots
            return shoot(runner, part, None if goal is None else goal.take(rows), taps, wants, first=rows.start)

        yield from runner.each(x, work)

    def biases(self, x: Float[Tensor, "n c *s"]) -> list[tuple[Tap, Float[Tensor, " k"]]]:
        """Every call of a convolution or BatchNorm that adds something, with what it adds to each channel."""
        return layers.biases(self.survey(x))

    def attentions(self, x: Float[Tensor, "n c *s"], goal: Goal | None) -> Iterator[attention.Attention]:
        """The attention of every layer of a transformer, for each batch of ``x``; with gradients for a goal.

        Cost: one forward and one backward pass; without a goal that is only of what follows the last attention.
        Raises: NotApplicable where the model has no attention over one grid of tokens.
        """
        runner = self.runner(x)
        goal = None if goal is None else goal.for_task(runner.prepared.outputs.task)

        def work(part: Tensor, rows: slice) -> attention.Attention:
            return attention.look(runner, part, None if goal is None else goal.take(rows), first=rows.start)

        yield from runner.each(x, work)

    def survey(self, x: Float[Tensor, "n c *s"]) -> Survey:
        """What one small pass shows about the model, made once for each input shape.

        Raises: InputError where the model does not accept the input.
        """
        return self._surveyed(self._store.prepared(x, self.passes))

    # How it is asked

    def runner(self, x: Float[Tensor, "n c *s"]) -> Runner:
        """What runs the model, prepared for inputs of this shape.

        Raises: InputError where the model does not accept the input.
        """
        return self._runner(x, keep=False)

    def _runner(self, x: Float[Tensor, "n c *s"], *, keep: bool) -> Runner:
        prepared = self._store.prepared(x, self.passes, keep=keep)
        return Runner(prepared, self._store, self.passes, self.score, self.engine, self.autocast, self._recorder)

    def recorded(self, recorder: Recorder) -> Probe:
        """This probe, handing on the logits of its plain passes to a recorder; both count and learn as one."""
        probe = copy.copy(self)
        object.__setattr__(probe, "_recorder", recorder)
        return probe

    def comparing(self, score: Score) -> Probe:
        """This probe with another score; both count and learn as one."""
        probe = copy.copy(self)
        object.__setattr__(probe, "score", score)
        return probe

    def asking(self, model: nn.Module, layer: Layers) -> Probe:
        """A probe that asks another model in the same way, and counts with this one."""
        return self.alike(model=model, layer=layer)

    def alike(self, **changes: Any) -> Probe:
        probe = replace(self, **changes)
        object.__setattr__(probe, "passes", self.passes)
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
