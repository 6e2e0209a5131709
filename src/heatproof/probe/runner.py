"""The one loop that passes go through: batched, counted, the model borrowed, its outputs read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from heatproof.errors import HeatproofError
from heatproof.probe.goals import Goal, Score
from heatproof.probe.graph import Cut
from heatproof.probe.layers import Tap
from heatproof.probe.outputs import Outputs
from heatproof.probe.prepared import Prepared, Store
from heatproof.probe.state import Hook, SoftmaxWatch, borrowed
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
    softmax: SoftmaxWatch | None = None

    def read(self, raw: Any, goal: Goal | None = None) -> Float[Tensor, "n k"]:
        """The logits in what the model returned; zeros where the goal is a function and there are no class scores.

        Raises: InputError where there are no class scores.
        """
        last = None if self.softmax is None else self.softmax.last
        return self.outputs.read(raw, last, needed=goal is None or goal.function is None)


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

    # Passes

    def logits(self, x: Float[Tensor, "n c *s"]) -> Float[Tensor, "n k"]:
        """The class scores before the softmax."""
        return torch.cat(list(self.each(x, lambda part, _: self._run(part)[1])))

    def scored(self, x: Float[Tensor, "n c *s"], goal: Goal) -> Float[Tensor, " n"]:
        """The score of each input, by the quicker copy where there is one."""

        def work(rows: slice) -> Tensor:
            return self._score(self.prepared.bring(x[rows]), goal.take(rows))

        return torch.cat(list(self.batches(len(x), work)))

    def variants(
        self, x: Float[Tensor, "n c *s"], goal: Goal, count: int, make: Callable[[Tensor, Tensor], Tensor]
    ) -> Float[Tensor, "n count"]:
        """The score of ``count`` variants of every sample; see `Probe.variants`."""

        def work(rows: slice) -> Tensor:
            pairs = torch.arange(rows.start, rows.stop)
            samples = pairs // count
            part = self.prepared.bring(make(samples, pairs % count))
            return self._score(part, goal.take(samples.to(goal.classes.device)))

        return torch.cat(list(self.batches(len(x) * count, work))).reshape(len(x), count)

    def gradient(self, x: Float[Tensor, "n c *s"], goal: Goal | None) -> Float[Tensor, "n c *s"]:
        """The gradient of the goal's logit by the input; None is the predicted class.

        Raises: HeatproofError where the output does not depend on the input.
        """

        def work(part: Tensor, rows: slice) -> Tensor:
            leaf = part.detach().clone().requires_grad_()
            with self.borrowed() as run, torch.enable_grad():
                raw = self.model(leaf.clone())
                logits = run.read(raw, goal)
                here = Goal.of(None, logits.detach()) if goal is None else goal.take(rows)
                value = here.score(logits, "logit", raw)
                slope = torch.autograd.grad(value.sum(), leaf, allow_unused=True)[0] if value.requires_grad else None
            self.witness(part, logits)
            if slope is None:
                raise HeatproofError("the model's output depends on its input by no path that has a gradient")
            self.count("forward", len(part))
            self.count("backward", len(part))
            return slope.detach().float()

        return torch.cat(list(self.each(x, work)))

    def _score(self, part: Tensor, goal: Goal) -> Tensor:
        raw, logits = self._run(part, goal, many=True)
        return goal.score(logits, self.score, raw)

    def _run(self, part: Tensor, goal: Goal | None = None, *, many: bool = False) -> tuple[Any, Tensor]:
        fast = self.engine == "optimised" or (many and self.engine == "auto")
        with self.borrowed() as run:
            model = self.store.copies.of_model(self.model, self.weights, part) if fast else self.model
            with torch.inference_mode():
                raw = model(part)
            logits = run.read(raw, goal)
        if not fast:
            self.witness(part, logits)
        self.count("forward", len(part))
        return raw, logits

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
        if self.store.watch is not None:
            self.store.watch.compare(self.model, x, logits)

    # The model

    @property
    def model(self) -> nn.Module:
        """The model itself."""
        return self.prepared.model

    @contextmanager
    def borrowed(self, hooks: Mapping[nn.Module, Hook] | None = None) -> Iterator[Pass]:
        """The model in evaluation mode, without gradients, with hooks; yields what reads its output."""
        outputs, kind, on = self.prepared.outputs, self.prepared.device.type, self.autocast is not None
        with ExitStack() as stack:
            stack.enter_context(borrowed(self.model, hooks))
            watch = stack.enter_context(SoftmaxWatch()) if outputs.softmax else None
            if on or torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, dtype=self.autocast, enabled=on))
            yield Pass(outputs, watch)

    @cached_property
    def weights(self) -> Digest:
        """The digest of the weights, taken when it is first needed."""
        return digest(self.model)

    def cut(self, tap: Tap) -> Cut | None:
        """The model cut behind a layer, or None where its graph cannot be followed."""
        return self.prepared.cut(tap)

    def quick(self, cut: Cut, out: Tensor, live: tuple[Any, ...]) -> Cut:
        """The cut with a quicker tail, where the engine allows it."""
        return cut if self.engine == "plain" else self.store.copies.of_cut(cut, self.weights, out, live)
