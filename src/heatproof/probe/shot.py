"""One pass of one batch through the model, opened at a layer: everything a CAM may ask for, computed once."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from heatproof.errors import HeatproofError, LayerError, NotApplicable
from heatproof.probe.ablation import Ablation
from heatproof.probe.ends import end, renewed
from heatproof.probe.entries import detached
from heatproof.probe.forms import gradient_obstacle
from heatproof.probe.goals import Goal, Score
from heatproof.probe.gradients import gradients
from heatproof.probe.graph import Cut
from heatproof.probe.layers import Tap
from heatproof.probe.optimisation import FEW, agree
from heatproof.probe.outputs import checked
from heatproof.probe.recent import Gone
from heatproof.probe.runner import Runner
from heatproof.probe.survey import First


@dataclass(frozen=True)
class Wants:
    """What will be asked of a shot: first derivatives, second ones, parts behind the layer run again, or the first
    derivatives of other goals again.
    """

    gradient: bool = False
    curved: bool = False
    tail: bool = False
    again: bool = False


@dataclass(eq=False)
class Shot:
    """What one batch shows at one layer; what is derived is computed when first asked for, and kept.

    Attributes:
        runner: runs the model. x: the inputs (n, C, *S). tap: the layer. goal: what is explained.
        out: the layer's output in its own layout. logits: the model's class scores (n, classes). raw: its output.
        slope: the gradient by ``out``. bend: gradient and Hessian-vector product by it.
        cut: the model cut behind the layer, or None. live: what else the part behind the layer needs.
        graph: layer and logits with their graph, for the gradients of other goals.
        seeds: one seed a sample, for methods that draw random numbers.
    """

    runner: Runner
    x: Float[Tensor, "n c *s"]
    tap: Tap
    goal: Goal
    out: Tensor
    logits: Float[Tensor, "n classes"]
    raw: Any
    slope: Tensor | None = None
    bend: tuple[Tensor, Tensor] | None = None
    cut: Cut | None = None
    live: tuple[Any, ...] = ()
    graph: tuple[Tensor, Tensor] | None = None
    seeds: Int[Tensor, " n"] | None = None
    _quick: list[Cut | None] = field(default_factory=list)

    def comparing(self, score: Score) -> Shot:
        """What this shot shows where scores are of another kind; itself if they are of this one."""
        if score == self.runner.score:
            return self
        _ = self.A  # computed once for both
        shot = copy.copy(self)
        shot.runner = self.runner.comparing(score)
        for name in ("score", "ablated"):
            vars(shot).pop(name, None)
        return shot

    @cached_property
    def A(self) -> Float[Tensor, "n k *s"]:
        """The layer's output."""
        return self.tap.layout.read(self.out).float()

    @cached_property
    def G(self) -> Float[Tensor, "n k *s"]:
        """The gradient of the target's logit by A."""
        if self.slope is None:
            raise LayerError("this pass was made without gradients")
        return self.tap.layout.read(self.slope).float()

    @cached_property
    def curved(self) -> tuple[Float[Tensor, "n k *s"], Float[Tensor, "n k *s"]]:
        """Gradient and Hessian-vector product with A of the utility z + log p of the target class."""
        if self.bend is None:
            raise LayerError("this pass was made without second derivatives")
        slope, product = self.bend
        return self.tap.layout.read(slope).float(), self.tap.layout.read(product).float()

    @cached_property
    def score(self) -> Float[Tensor, " n"]:
        """The score explained: a probability, a logit or a margin, as the runner says."""
        return self.goal.score(self.logits, self.runner.score, self.raw)

    def gradient_of(self, goal: Goal) -> Float[Tensor, "n k *s"]:
        """The gradient of another goal's logit by A, from the same forward pass."""
        if self.graph is None:
            raise LayerError("this pass did not keep what other gradients need")
        out, logits = self.graph
        with torch.inference_mode(False), torch.enable_grad():
            (slope,) = _slopes(self.runner.model, goal.score(logits, "logit", self.raw), [out], [self.tap], keep=True)
        self.runner.count("backward", len(self.x))
        return self.tap.layout.read(slope).float()

    def of(self, x: Float[Tensor, "n c *s"], wants: Wants) -> Shot:
        """The shot of other inputs in place of these, at the same layer and for the same goal.

        Cost: one forward pass; for gradients a backward pass that stops at the layer.
        """
        passes = self.runner.each(
            x, lambda part, rows: shoot(self.runner, part, self.goal.take(rows), [self.tap], wants)
        )
        (shot,) = next(passes)
        return shot

    def tail(self, A: Float[Tensor, "m k *s"], rows: Int[Tensor, " m"]) -> Float[Tensor, " m"]:
        """The score with the layer's output replaced by ``A``, whose i-th map belongs to sample ``rows[i]``."""
        work = self._replaced(lambda part: (A[part], rows[part]), self.cut)
        return torch.cat(list(self.runner.batches(len(A), work)))

    def variants(self, count: int, make: Callable[[Tensor, Tensor], Tensor]) -> Float[Tensor, "n count"]:
        """The score with the layer's output replaced in ``count`` ways a sample, streamed.

        Args:
            make: (samples (m,), variants (m,)) -> A (m, K, *s).
        """

        def chosen(part: slice) -> tuple[Tensor, Tensor]:
            pairs = torch.arange(part.start, part.stop, device=self.out.device)
            return make(pairs // count, pairs % count), pairs // count

        total, cut = len(self.x) * count, self._quickest(count)
        scores = torch.cat(list(self.runner.batches(total, self._replaced(chosen, cut)))).reshape(-1, count)
        return scores if self.goal.function is not None else checked(scores, None)

    def _replaced(self, chosen: Callable[[slice], tuple[Tensor, Tensor]], cut: Cut | None) -> Callable[[slice], Tensor]:
        def work(part: slice) -> Tensor:
            A, rows = chosen(part)
            rows = rows.to(self.out.device)
            return self._behind(self.tap.layout.write(A.to(self.out), self.tap.layout.take(self.out, rows)), rows, cut)

        return work

    def _quickest(self, count: int) -> Cut | None:
        """The cut to use for so many passes of each sample: with a quicker tail where that pays and agrees."""
        if self.cut is None or count < FEW:
            return self.cut
        if not self._quick:
            fast = self.runner.quicker(self.cut)
            alike = fast is not None and all(self.runner.batches(len(self.x), self._alike(self.cut, fast)))
            self._quick.append(fast if alike else self.cut)
        return self._quick[0]

    def _alike(self, cut: Cut, fast: Cut) -> Callable[[slice], bool]:
        def work(part: slice) -> bool:
            rows = torch.arange(part.start, part.stop, device=self.out.device)
            out = self.tap.layout.take(self.out, rows)
            with self.runner.borrowed():
                want = cut.tail(out, *cut.live(self.live, rows))
                self.runner.count("tail", 2 * len(rows))
                try:
                    return agree(want, fast.tail(out, *cut.live(self.live, rows)))
                except torch.OutOfMemoryError:
                    raise
                except Exception:  # what a traced graph may do wrong is open
                    return False

        return work

    def _behind(self, out: Tensor, rows: Tensor, cut: Cut | None) -> Tensor:
        runner, goal = self.runner, self.goal.take(rows)
        if cut is not None:
            with runner.borrowed() as run:
                raw = cut.tail(out.clone(), *cut.live(self.live, rows))
            runner.count("tail", len(rows))
        else:
            calls = Counter[nn.Module]()

            def swap(module: nn.Module, _: Any, old: Any) -> Any:
                calls[module] += 1
                return renewed(old, out.clone()) if calls[module] == self.tap.call else old

            with runner.borrowed({self.tap.module: swap}) as run:
                raw = runner.ask(self.x[rows])
            runner.count("forward", len(rows))
        return goal.score(run.read(raw, len(rows), goal), runner.score, raw)

    @cached_property
    def ablated(self) -> Float[Tensor, "n k"]:
        """The score with one channel at a time set to zero."""
        count, kind = self.A.shape[1], self.runner.score
        cut = self._quickest(count)

        def without(samples: Tensor, channels: Tensor) -> Tensor:
            changed = self.A[samples]
            changed[torch.arange(len(samples), device=changed.device), channels] = 0
            return changed

        if cut is None or self.tap.layout.kind != "first":
            return self.variants(count, without)
        scores = self._ablated_by_graph(cut)
        pairs = torch.arange(min(max(3, len(scores)), scores.numel()), device=self.A.device)
        samples, channels = pairs % len(scores), pairs * (count - 1) // max(1, len(pairs) - 1)
        want = self.tail(without(samples, channels), samples)
        loose = max(1e-4, 4 * torch.finfo(self.out.dtype).eps)
        scale = float(self.score.abs().max()) + (1 if kind == "probability" else float(self.logits.abs().max()))
        alike = torch.allclose(scores[samples, channels], want, rtol=10 * loose, atol=loose * scale)
        return scores if alike else self.variants(count, without)

    def _ablated_by_graph(self, cut: Cut) -> Float[Tensor, "n k"]:
        scores = self.A.new_empty(self.A.shape[:2])
        runner = self.runner
        with runner.borrowed() as run:
            ablation = Ablation(cut, self.out, self.live)
            for samples, channels, raw in ablation.outputs(runner.rows):
                goal = self.goal.take(samples)
                runner.count("tail", len(samples))
                scores[samples, channels] = goal.score(run.read(raw, len(samples), goal), runner.score, raw)
            runner.count("tail", ablation.unablated)
        return scores


def shoot(
    runner: Runner, x: Tensor, goal: Goal | None, taps: Sequence[Tap], wants: Wants, *, first: int = 0
) -> list[Shot]:
    """One shot a layer from one forward pass, and one backward pass that stops at the earliest layer.

    Raises: InputError where the model returns NaN or infinite values; samples are numbered from ``first``.
    """
    if wants.tail and len(taps) > 1:
        return [shot for tap in taps for shot in shoot(runner, x, goal, [tap], wants, first=first)]
    if wants.curved and goal is not None and (goal.function is not None or goal.against is not None):
        raise NotApplicable(
            "shapley-cam explains the residual softmax of a class; name a class, not a function or contrast"
        )
    if wants.curved and runner.prepared.outputs.task == "regression":
        raise NotApplicable("shapley-cam explains the residual softmax of a class; a regression has none")
    kept: dict[Tap, Tensor] = {}
    graded = wants.gradient or wants.curved or wants.again
    # The fused attention kernels have no second derivative.
    kernel = sdpa_kernel(SDPBackend.MATH) if wants.curved else nullcontext()
    with kernel, runner.borrowed(_keepers(taps, kept, graded)) as run:
        raw = runner.ask(x)
        if missing := [tap.name for tap in taps if tap not in kept]:
            raise LayerError(f"layer {missing[0]!r} did not run for this input")
        with torch.set_grad_enabled(graded):
            logits = run.read(raw, len(x), goal)
            goal = Goal.of(None, logits.detach(), run.outputs.task) if goal is None else goal
            if goal.function is None:
                checked(logits.detach(), first)
            at = [kept[tap] for tap in taps]
            bends = _bends(runner.model, goal, logits, at, taps) if wants.curved else []
            value = goal.score(logits, "logit", raw)
            slopes = _slopes(runner.model, value, at, taps, keep=wants.again) if wants.gradient else []
    runner.witness(x, logits)
    runner.count("forward", len(x))
    cut, live = _followed(runner, x, taps[0], kept[taps[0]], raw) if wants.tail else (None, ())
    runner.count("backward", len(x) * (len(slopes[:1]) + 2 * len(bends[:1])))
    return [
        Shot(
            runner, x, tap, goal, kept[tap].detach(), logits.detach(), detached(raw),
            slope=slopes[i] if slopes else None,
            bend=bends[i] if bends else None,
            cut=cut,
            live=live,
            graph=(kept[tap], logits) if wants.again else None,
        )
        for i, tap in enumerate(taps)
    ]  # fmt: skip


def reshoot(runner: Runner, x: Tensor, first: First, taps: Sequence[Tap]) -> list[Shot] | None:
    """The shots of the sample that the model was surveyed with, from that very pass.

    None where a layer's output was written over by what follows it, or has no gradient, or much lies behind it.
    """
    indices = {(call.name, call.number): call.index for call in runner.prepared.survey.calls}
    at = [first.end(indices[tap.name, tap.call]) if (tap.name, tap.call) in indices else None for tap in taps]
    layers = [tensor for tensor in at if tensor is not None]
    if len(layers) < len(taps):
        return None
    outputs = runner.prepared.outputs
    with torch.enable_grad():
        logits = outputs.read(first.raw, len(x), first.seen)
        goal = Goal.of(None, logits.detach(), outputs.task)
        try:
            slopes = _slopes(runner.model, goal.score(logits, "logit", first.raw), layers, taps)
        except HeatproofError as error:
            if isinstance(error.__cause__, Gone):
                return None
            raise
    runner.witness(x, logits)
    runner.count("backward", len(x))
    raw = detached(first.raw)
    return [
        Shot(runner, x, tap, goal, out.detach(), logits.detach(), raw, slope=slope)
        for tap, out, slope in zip(taps, layers, slopes, strict=True)
    ]


def _followed(runner: Runner, x: Tensor, tap: Tap, out: Tensor, raw: Any) -> tuple[Cut | None, tuple[Any, ...]]:
    """The cut behind the layer and what its tail needs, if it gives for every sample what the model gave."""
    for anew in (False, True):
        cut = runner.cut(tap, anew=anew)
        if cut is None:
            break
        with runner.borrowed():
            runner.count("forward", len(x))
            try:
                again, live = cut.head(runner.fed(x))
                rows = torch.arange(len(x), device=again.device)
                if agree(out, again, within=1e-4) and agree(raw, cut.tail(out.detach().clone(), *cut.live(live, rows))):
                    return cut, live
            except torch.OutOfMemoryError:
                raise
            except Exception:  # what a traced graph may do wrong is open
                continue
    return None, ()


def _keepers(taps: Sequence[Tap], kept: dict[Tap, Tensor], graded: bool) -> dict[nn.Module, Any]:
    """Hooks that keep the layers' outputs and, for gradients, let the graph begin at the earliest of them.

    A copy is handed on, since what follows may work in place.
    """
    calls = Counter[nn.Module]()

    def keep(module: nn.Module, _: Any, out: Any) -> Any:
        calls[module] += 1
        handed = None
        for tap in taps:
            if tap.module is module and tap.call == calls[module]:
                if graded:
                    torch.set_grad_enabled(True)
                tensor = end(out)
                if tensor is None:
                    raise LayerError(f"layer {tap.name!r} returned no tensor for this input")
                kept[tap] = tensor if tensor.requires_grad else tensor.detach().requires_grad_(graded)
                handed = renewed(out, kept[tap].clone())
        return handed

    return {tap.module: keep for tap in taps}


_DEAF = ": the output does not depend on it"


def _slopes(
    model: nn.Module,
    value: Tensor,
    at: Sequence[Tensor],
    taps: Sequence[Tap],
    *,
    again: bool = False,
    keep: bool = False,
) -> list[Tensor]:
    if not value.requires_grad:
        if reason := gradient_obstacle(model):
            raise LayerError(f"no gradient reaches layer {taps[0].name!r}{reason}")
        raise LayerError(
            f"no gradient reaches layer {taps[0].name!r}: what follows it runs without gradients (torch.no_grad or "
            "detach), or does not depend on it; choose a later layer"
        )
    slopes = gradients(value.sum(), at, create_graph=again, retain_graph=again or keep)
    for slope, tap in zip(slopes, taps, strict=True):
        if slope is None:
            raise LayerError(f"no gradient reaches layer {tap.name!r}{gradient_obstacle(model) or _DEAF}")
    return [slope for slope in slopes if slope is not None]


def _bends(
    model: nn.Module, goal: Goal, logits: Tensor, at: Sequence[Tensor], taps: Sequence[Tap]
) -> list[tuple[Tensor, Tensor]]:
    """Gradient and Hessian-vector product with A of the residual softmax utility z + log p, at every layer."""
    chosen = goal.classes[:, None]
    labels = goal.task == "labels"
    log = nn.functional.logsigmoid(logits) if labels else torch.log_softmax(logits, 1)
    value = (logits + log).gather(1, chosen)[:, 0]
    bends = []
    for slope, A in zip(_slopes(model, value, at, taps, again=True), at, strict=True):
        product, second = (slope * A.detach()).sum(), None
        if product.requires_grad:
            (second,) = gradients(product, [A], retain_graph=True)
        bends.append((slope.detach(), torch.zeros_like(A) if second is None else second.detach()))
    return bends
