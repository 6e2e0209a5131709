"""The one loop that passes go through: batched, counted, the model borrowed, its outputs read."""

from __future__ import annotations

import copy
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from heatproof.errors import HeatproofError, InputError, first_line
from heatproof.probe.endings import EndingWatch
from heatproof.probe.forms import gradient_obstacle
from heatproof.probe.goals import Goal, Score
from heatproof.probe.gradients import gradients
from heatproof.probe.graph import Cut
from heatproof.probe.layers import Tap
from heatproof.probe.optimisation import FEW, agree
from heatproof.probe.outputs import Outputs, checked
from heatproof.probe.prepared import Prepared, Store
from heatproof.probe.state import Ground, Hook, borrowed
from heatproof.probe.weights import Digest, digest

Engine = Literal["auto", "plain", "optimised"]
T = TypeVar("T")


@dataclass(eq=False)
class Recorder:
    """Keeps the logits of plain passes over exactly these inputs, in their order, that a probe makes for others.

    Attributes:
        x: the inputs. parts: the logits so far, a pass each.
    """

    x: Float[Tensor, "n c *s"]
    parts: list[Float[Tensor, "m k"]] = field(default_factory=list)

    @property
    def logits(self) -> Float[Tensor, "n k"] | None:
        """The logits of all inputs, or None where not all of them went through the model."""
        return torch.cat(self.parts) if sum(map(len, self.parts)) == len(self.x) else None

    def hear(self, part: Float[Tensor, "m c *s"], logits: Float[Tensor, "m k"]) -> None:
        """Keeps the logits of one pass, if its inputs are the next ones."""
        start = sum(map(len, self.parts))
        if torch.equal(self.x[start : start + len(part)].to(part), part):
            self.parts.append(logits.detach())


@dataclass(frozen=True, eq=False)
class Pass:
    """A model that is borrowed at the moment, and how its output is read."""

    outputs: Outputs
    watch: EndingWatch | None = None

    def read(self, raw: Any, rows: int, goal: Goal | None = None) -> Float[Tensor, "n k"]:
        """The logits in what the model returned; zeros where the goal is a function and there are no class scores.

        Raises: InputError where there are no class scores.
        """
        return self.outputs.read(raw, rows, self.watch, needed=goal is None or goal.function is None)


@dataclass(frozen=True, eq=False)
class Runner:
    """Passes of inputs of one shape through a prepared model.

    Attributes:
        prepared: what is known of the model for that shape. store: what outlives this runner.
        passes: rows sent through the model so far, by kind.
        score, engine, autocast: as of the probe.
        recorder: what logits of plain passes are handed on to, or None.
    """

    prepared: Prepared
    store: Store
    passes: Counter[str]
    score: Score = "probability"
    engine: Engine = "auto"
    autocast: torch.dtype | None = None
    recorder: Recorder | None = None

    def comparing(self, score: Score) -> Runner:
        """This runner with another score."""
        runner = copy.copy(self)
        object.__setattr__(runner, "score", score)
        return runner

    # Passes

    def logits(self, x: Float[Tensor, "n c *s"]) -> Float[Tensor, "n k"]:
        """What the model says of each input, as `Outputs.read` has it.

        Raises: InputError where that is NaN or infinite.
        """
        model = self.model
        if self.engine == "optimised":
            model = self.quickest(x[: self._at_once], math.ceil(len(x) / self._at_once))
        return checked(torch.cat(list(self.each(x, lambda part, _: self._run(part, model=model)[1]))))

    def scored(self, x: Float[Tensor, "n c *s"], goal: Goal, model: nn.Module | None = None) -> Float[Tensor, " n"]:
        """The score of each input, by the model or by a copy of it.

        Raises: InputError where one is NaN or infinite.
        """
        goal = goal.for_task(self.prepared.outputs.task)

        def work(rows: slice) -> Tensor:
            return self._score(self.prepared.bring(x[rows]), goal.take(rows), model or self.model)

        scores = torch.cat(list(self.batches(len(x), work)))
        return scores if goal.function is not None else checked(scores)

    def variants(
        self,
        x: Float[Tensor, "n c *s"],
        goal: Goal,
        count: int,
        make: Callable[[Tensor, Tensor], Tensor],
        model: nn.Module | None = None,
    ) -> Float[Tensor, "n count"]:
        """The score of ``count`` variants of every sample, by the given or the quickest model; see `Probe.variants`."""
        model = model or self.quickest(x, count)

        goal = goal.for_task(self.prepared.outputs.task)

        def work(rows: slice) -> Tensor:
            pairs = torch.arange(rows.start, rows.stop)
            samples = pairs // count
            part = self.prepared.bring(make(samples, pairs % count))
            return self._score(part, goal.take(samples.to(goal.classes.device)), model)

        scores = torch.cat(list(self.batches(len(x) * count, work))).reshape(len(x), count)
        return scores if goal.function is not None else checked(scores)

    def gradient(self, x: Float[Tensor, "n c *s"], goal: Goal | None) -> Float[Tensor, "n c *s"]:
        """The gradient of the goal's logit by the input; None is the predicted class.

        Raises: HeatproofError where the output does not depend on the input.
        """

        goal = None if goal is None else goal.for_task(self.prepared.outputs.task)

        def work(part: Tensor, rows: slice) -> Tensor:
            return self._slope(part, None if goal is None else goal.take(rows), rows.start)

        return torch.cat(list(self.each(x, work)))

    def slopes(
        self, x: Float[Tensor, "n c *s"], goal: Goal, count: int, make: Callable[[Tensor, Tensor], Tensor]
    ) -> Iterator[tuple[Int[Tensor, " m"], Int[Tensor, " m"], Float[Tensor, "m c *s"]]]:
        """The gradients at ``count`` variants of every sample, streamed in batches of one size through all of them.

        Args:
            make: (samples (m,), variants (m,)) -> inputs (m, C, *S), made when needed and then forgotten.

        Yields the samples, in rising order, the variants and the gradients.
        Cost: n * count forward and backward passes; memory for one batch.
        """
        goal = goal.for_task(self.prepared.outputs.task)

        def work(rows: slice) -> tuple[Tensor, Tensor, Tensor]:
            pairs = torch.arange(rows.start, rows.stop)
            samples, variants = pairs // count, pairs % count
            part = self.prepared.bring(make(samples, variants))
            return samples, variants, self._slope(part, goal.take(samples.to(goal.classes.device)), None)

        return self.batches(len(x) * count, work)

    def _slope(self, part: Tensor, goal: Goal | None, first: int | None) -> Float[Tensor, "m c *s"]:
        """The gradients of one batch, whose first sample has the given number."""
        with self.borrowed() as run, torch.enable_grad():
            leaf = part.detach().clone().requires_grad_()
            raw = self.ask(leaf.clone())
            logits = run.read(raw, len(part), goal)
            here = Goal.of(None, logits.detach(), run.outputs.task) if goal is None else goal
            value = here.score(logits, "logit", raw)
            if here.function is None:
                checked(logits.detach(), first)
            slope = gradients(value.sum(), [leaf])[0] if value.requires_grad else None
        self.witness(part, logits)
        if slope is None:
            reason = gradient_obstacle(self.model)
            raise HeatproofError(f"the model's output depends on its input by no path that has a gradient{reason}")
        self.count("forward", len(part))
        self.count("backward", len(part))
        return slope.detach().float()

    def _score(self, part: Tensor, goal: Goal, model: nn.Module) -> Tensor:
        raw, logits = self._run(part, goal, model=model)
        return goal.score(logits, self.score, raw)

    def _run(self, part: Tensor, goal: Goal | None = None, *, model: nn.Module) -> tuple[Any, Tensor]:
        with self.borrowed() as run:
            raw = self.ask(part, model)
            logits = run.read(raw, len(part), goal)
        if model is self.model:
            self.witness(part, logits)
        self.count("forward", len(part))
        return raw, logits

    def quickest(self, x: Float[Tensor, "n c *s"], passes: int) -> nn.Module:
        """What to run for so many passes of each sample: a quicker copy where it pays and agrees, else the model.

        The copy is as old as the weights, by their digest, and gives what the model gives for every sample of ``x``.
        Cost: for a copy, two passes of each sample.
        """
        if self.engine == "plain" or passes < FEW or self.prepared.obstacle(self.model):
            return self.model
        with self.store.memory.lock, self.borrowed():
            fast = self.store.memory.copies.of_model(self.model, self.weights, self.prepared.bring(x[:1]))
        if fast is None:
            return self.model

        def work(part: Tensor, _: slice) -> bool:
            with self.borrowed():
                want = self.ask(part)
                self.count("forward", 2 * len(part))
                try:
                    return agree(want, fast(self.fed(part)))
                except torch.OutOfMemoryError:
                    raise
                except Exception:  # what a traced graph may do wrong is open
                    return False

        return fast if all(self.each(x, work)) else self.model

    # The loop

    def each(self, x: Float[Tensor, "n c *s"], work: Callable[[Tensor, slice], T]) -> Iterator[T]:
        """What ``work`` makes of each batch of ``x``, brought to the model, and its rows."""
        return self.batches(len(x), lambda rows: work(self.prepared.bring(x[rows]), rows))

    def batches(self, count: int, work: Callable[[slice], T]) -> Iterator[T]:
        """What ``work`` makes of each batch of ``count`` rows; out of memory, the batch is halved and tried again.

        Raises: HeatproofError where one row is too much.
        """
        start = 0
        while start < count:
            rows = slice(start, min(start + self._at_once, count))
            try:
                with torch.inference_mode(False), torch.no_grad():
                    part = work(rows)
            except torch.OutOfMemoryError as error:
                self.store.capacity.halve(rows.stop - rows.start, error)
                continue
            start = rows.stop
            yield part

    @property
    def rows(self) -> int:
        """The most rows one pass takes."""
        return self.store.capacity.rows(self.prepared.sample.shape[1:])

    @property
    def _at_once(self) -> int:
        return self.rows if self.store.capacity.batch is not None else min(self.rows, self.prepared.near)

    def count(self, kind: str, rows: int) -> None:
        """Adds to the passes made so far."""
        self.passes[kind] += rows

    def witness(self, x: Float[Tensor, "n c *s"], logits: Float[Tensor, "n k"]) -> None:
        """Hands on the logits of a plain pass to the recorder, and to the watch for scores that depend on the batch."""
        if self.recorder is not None:
            self.recorder.hear(x, logits)
        if self.prepared.watch is not None:
            self.prepared.watch.compare(self.model, x, logits)

    # The model

    @property
    def model(self) -> nn.Module:
        """The model itself."""
        return self.store.model

    def fed(self, x: Float[Tensor, "n c *s"]) -> Float[Tensor, "n c *s"]:
        """What to hand to the model: a copy where it writes into its input."""
        return x.clone() if self.prepared.survey.writes else x

    def ask(self, x: Float[Tensor, "n c *s"], model: nn.Module | None = None) -> Any:
        """What the model, or a copy of it, returns for a batch.

        Raises: InputError where its own code fails.
        """
        try:
            return (self.model if model is None else model)(self.fed(x))
        except (HeatproofError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # the model's own code may raise anything
            rows = f"{len(x)} samples" if len(x) > 1 else "one sample"
            hint = "; one sample alone went through, so batch=1 may help" if len(x) > 1 else ""
            raise InputError(f"the model failed for a batch of {rows}: {first_line(error)}{hint}") from error

    @contextmanager
    def borrowed(self, hooks: Mapping[nn.Module, Hook] | None = None) -> Iterator[Pass]:
        """The model in evaluation mode, without gradients, with hooks; yields what reads its output."""
        outputs, kind, on = self.prepared.outputs, self.prepared.device.type, self.autocast is not None
        with ExitStack() as stack:
            stack.enter_context(borrowed(self.model, hooks, self._ground))
            watch = stack.enter_context(EndingWatch(outputs.watch)) if outputs.watch else None
            if on or torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, dtype=self.autocast, enabled=on))
            yield Pass(outputs, watch)

    @cached_property
    def _ground(self) -> Ground | None:
        return self.store.memory.ground()

    @cached_property
    def weights(self) -> Digest:
        """The digest of the weights, taken when it is first needed."""
        return digest(self.model)

    def cut(self, tap: Tap, *, anew: bool = False) -> Cut | None:
        """The model cut behind a layer, or None where its graph cannot be followed."""
        with self.store.memory.lock:
            return self.prepared.cut(self.model, tap, self.passes, anew=anew)

    def quicker(self, cut: Cut) -> Cut | None:
        """The cut with a quicker tail, where the engine allows it and there is any; not yet compared."""
        if self.engine == "plain":
            return None
        with self.store.memory.lock:
            return self.store.memory.copies.of_cut(cut, self.weights, self.prepared.device)
