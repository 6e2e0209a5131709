"""Gradients whose signs count: the rules of guided backpropagation and of the deconvolution network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from heatproof.errors import NotApplicable
from heatproof.probe.backward import Nodes, Substitution, changed, settled
from heatproof.probe.functions import named
from heatproof.probe.goals import Goal
from heatproof.probe.runner import Runner

Rule = Literal["guided-backprop", "deconvnet"]
_BOUNDS = {
    "relu": (), "relu6": (), "hardtanh": ("min_val", "max_val"), "clamp": ("min", "max"), "clip": ("min", "max"),
    "clamp_min": ("min",), "threshold": ("threshold", "value"), "_threshold": ("threshold", "value"),
    "maximum": ("other",), "fmax": ("other",), "max": ("other",),
}  # fmt: skip
_HIDDEN = ("ReluBackward", "ThresholdBackward", "HardtanhBackward", "ClampBackward", "ClampMinBackward")


def rectified(runner: Runner, x: Float[Tensor, "n c *s"], goal: Goal, rule: Rule) -> Float[Tensor, "n c *s"]:
    """What reaches the input in a backward pass in which rectifiers pass positive gradients only.

    Rectifiers are relu, relu6, hardtanh and clamp from 0, threshold at 0, and the maximum with 0, as modules, functions
    or methods, in place or not. ``guided-backprop`` passes a positive gradient where the operation has one,
    ``deconvnet`` everywhere. All other operations, smooth activations among them, have their own gradient.

    Cost: one forward and one backward pass.
    Raises: NotApplicable for a model without rectifiers, and where they cannot be seen.
    """

    def work(part: Tensor, rows: slice) -> Tensor:
        return changed(runner, part, goal.take(rows), _Rectified(rule), first=rows.start)[0].float()

    goal = goal.for_task(runner.prepared.outputs.task)
    return torch.cat(list(runner.each(x, work)))


class _Rectified(Substitution):
    def __init__(self, rule: Rule) -> None:
        super().__init__()
        self.name = rule
        self.guided = rule == "guided-backprop"

    def replaced(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        name, within = named(func)
        if name not in _BOUNDS or not torch.is_grad_enabled() or "out" in kwargs:
            return func(*args, **kwargs)
        source = args[0] if args else kwargs.get("input")
        ends = _ends(name, args[1:], kwargs)
        if not isinstance(source, Tensor) or not source.requires_grad or ends is None:
            return func(*args, **kwargs)
        out = _Rectifier.apply(source, *ends, self.guided)
        return settled(source, out, within or bool(kwargs.get("inplace")))

    def check(self, nodes: Nodes) -> None:
        if hidden := [node for node in nodes if node.name().startswith(_HIDDEN) and _is_rectifier(node)]:
            what = hidden[0].name().partition("Backward")[0]
            raise NotApplicable(f"{self.name} cannot see a rectifier of the model ({what}) that runs inside another "
                                "operation; use saliency or input-x-gradient")  # fmt: skip
        if not any(node.name() == "_RectifierBackward" for node in nodes):
            raise NotApplicable(f"{self.name} changes the gradient at rectifiers (ReLU, ReLU6, clamp from 0), and the "
                                "model has none; use saliency or input-x-gradient")  # fmt: skip


class _Rectifier(torch.autograd.Function):
    """relu(x), cut off at ``top`` where there is one, with its gradient by one of the rules."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, top: float | None, guided: bool) -> Tensor:
        out = x.relu() if top is None else x.clamp(0, top)
        # Not saved for backward: a checkpointed part of the model would count it.
        ctx.open = None if not guided else out > 0 if top is None else (out > 0) & (out < top)
        return out

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, None, None]:
        with torch._C.DisableTorchFunction():
            positive = slopes[0].relu()
            return positive if ctx.open is None else positive * ctx.open, None, None


def _ends(name: str, rest: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[float | None] | None:
    """Where a rectifier is cut off above, None in it for nowhere; None for what is no rectifier."""
    names = _BOUNDS[name]
    values = dict(zip(names, rest, strict=False)) | {key: kwargs[key] for key in names if key in kwargs}
    if name in ("relu", "relu6"):
        return (6.0 if name == "relu6" else None,)
    if name in ("maximum", "fmax", "max"):
        other = values.get("other")
        zero = isinstance(other, Tensor) and not other.requires_grad and not bool(other.any())
        return (None,) if zero and other is not None and other.ndim == 0 else None
    if any(isinstance(value, Tensor) and (value.ndim or value.requires_grad) for value in values.values()):
        return None
    numbers = {key: None if value is None else float(value) for key, value in values.items()}
    if name in ("threshold", "_threshold"):
        return (None,) if numbers.get("threshold") == 0 and numbers.get("value") == 0 else None
    low, top = (
        numbers.get(names[0], -1.0 if name == "hardtanh" else None),
        numbers.get(names[-1]) if names[1:] else None,
    )
    if low != 0:
        return None
    top = 1.0 if name == "hardtanh" and top is None else top
    return (None if top == float("inf") else top,)


def _is_rectifier(node: Any) -> bool:
    """Whether a node of the graph cuts its operand at 0; a clamp to other bounds is none."""
    if node.name().startswith("Relu"):
        return True
    low = next((getattr(node, name) for name in ("_saved_min_val", "_saved_min", "_saved_threshold")
                if hasattr(node, name)), 0)  # fmt: skip
    return low is not None and float(low) == 0
