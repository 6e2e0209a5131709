"""Gradients by other rules: a pass of which operations are replaced, and which of them a gradient goes through."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.overrides import TorchFunctionMode

from heatproof.errors import HeatproofError, NotApplicable
from heatproof.probe.forms import gradient_obstacle, is_scripted
from heatproof.probe.goals import Goal
from heatproof.probe.gradients import gradients
from heatproof.probe.outputs import checked
from heatproof.probe.products import transparent
from heatproof.probe.runner import Runner

Nodes = dict[Any, list[bool]]
_OPAQUE = ("CompiledFunction", "DifferentiableGraph", "Rnn", "CheckpointFunction")


class Substitution(TorchFunctionMode):
    """Replaces operations of a pass, each as it is called, by ones that give the same values and other gradients.

    Modules are not touched: what counts is the operation, however it is written, in place or not.
    """

    name = ""  # the method, as errors call it

    def __init__(self) -> None:
        super().__init__()
        self.on = False

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Hands a call to `replaced` while a pass of the model runs."""
        kwargs = kwargs or {}
        return self.replaced(func, args, kwargs) if self.on else func(*args, **kwargs)

    def replaced(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What to give for a call."""
        raise NotImplementedError

    def check(self, nodes: Nodes) -> None:
        """Nothing where every operation on the way was replaced that had to be.

        Raises: NotApplicable.
        """
        raise NotImplementedError

    @contextmanager
    def active(self) -> Iterator[None]:
        """Operations are replaced until the block ends."""
        self.on = True
        try:
            yield
        finally:
            self.on = False


def changed(
    runner: Runner, x: Float[Tensor, "n c *s"], goal: Goal, mode: Substitution, *, first: int = 0
) -> tuple[Float[Tensor, "n c *s"], Float[Tensor, " n"]]:
    """What the backward pass makes at the input, with the operations that a mode replaces, and the logit explained.

    The mode stays active during the backward pass: checkpointed parts of the model are run again there.
    Cost: one forward and one backward pass.
    Raises: NotApplicable where operations of the model cannot be seen, or have no rule.
    """
    if any(map(is_scripted, runner.model.modules())):
        raise NotApplicable(f"{mode.name} changes the gradients of single operations, and those of TorchScript cannot "
                            "be seen; pass the model that it was made of")  # fmt: skip
    with mode, runner.borrowed() as run, torch.enable_grad():
        leaf = x.detach().clone().requires_grad_()
        source = leaf.clone()
        with mode.active():
            raw = runner.ask(source)
        logits = run.read(raw, len(x), goal)
        value = goal.score(logits, "logit", raw)
        if goal.function is None:
            checked(logits.detach(), first)
        if not value.requires_grad:
            reason = gradient_obstacle(runner.model)
            raise HeatproofError(f"the model's output depends on its input by no path that has a gradient{reason}")
        mode.check(_checked(nodes_between(value, leaf), mode.name))
        with mode.active():
            (slope,) = gradients(value.sum(), [leaf], grad=transparent(torch.autograd.grad))
    if slope is None:
        raise HeatproofError("the model's output depends on its input by no path that has a gradient")
    runner.count("forward", len(x))
    runner.count("backward", len(x))
    return slope.detach(), value.detach()


def nodes_between(value: Tensor, leaf: Tensor) -> Nodes:
    """The operations by which a value depends on a leaf, each with which of its operands do."""
    order: list[Any] = []
    seen: set[Any] = set()
    waiting: list[tuple[Any, bool]] = [(value.grad_fn, False)]
    while waiting:
        node, finished = waiting.pop()
        if finished:
            order.append(node)
        elif node not in seen:
            seen.add(node)
            waiting.append((node, True))
            waiting += [(below, False) for below, _ in node.next_functions if below is not None and below not in seen]
    nodes: Nodes = {}
    for node in order:
        if getattr(node, "variable", None) is leaf:
            nodes[node] = []
        elif any(operands := [below in nodes for below, _ in node.next_functions]):
            nodes[node] = operands
    return nodes


def _checked(nodes: Nodes, name: str) -> Nodes:
    for node in nodes:
        if (opaque := next((word for word in _OPAQUE if word in node.name()), None)) or is_foreign(node):
            what = opaque or node.name().removesuffix("Backward")
            raise NotApplicable(f"{name} changes the gradients of single operations, and those inside {what} cannot be "
                                "seen; use a method that needs none of them (saliency, occlusion, rise)")  # fmt: skip
    return nodes


def is_foreign(node: Any) -> bool:
    """Whether a node of the graph belongs to an autograd.Function of others, whose operations are hidden."""
    if not isinstance(node, torch.autograd.function.BackwardCFunction):
        return False
    return not type(node)._forward_cls.__module__.startswith("heatproof.")  # type: ignore[attr-defined]


def settled(target: Tensor, out: Tensor, within: bool) -> Tensor:
    """The result of an operation; written into its operand where it works in place."""
    return target.copy_(out) if within else out
