"""A model cut in two at a layer, so that what lies behind the layer can be run on its own.

The cut follows the traced graph: whatever does not depend on the layer (skip connections, sizes) is computed once in
the head and handed to the tail. A cut is used only after it gave, on real input, what the whole model gives.
"""

from __future__ import annotations

import copy
import io
import logging
import operator
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from heatproof.probe.ends import end
from heatproof.probe.entries import tensors
from heatproof.probe.layers import Tap
from heatproof.probe.stamp import loose
from heatproof.probe.state import borrowed, note


class _Tracer(fx.Tracer):
    """Remembers which node holds the output of each call of each module."""

    def __init__(self) -> None:
        super().__init__()
        self.ends: dict[nn.Module, list[fx.Node]] = {}

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        out = super().call_module(m, forward, args, kwargs)
        if isinstance(out, fx.Proxy):
            self.ends.setdefault(m, []).append(out.node)
        return out


@dataclass(eq=False)
class Cut:
    """The two halves: ``head(x) -> (out, live)`` and ``tail(out, *live) -> what the model returns``.

    Attributes:
        kinds: what becomes of each live value in another batch: "rows" (one row a sample), "size" (the number of rows),
            "fixed", or a list of these for a tuple or list.
    """

    head: fx.GraphModule
    tail: fx.GraphModule
    kinds: list[Any]

    def live(self, values: Sequence[Any], rows: Tensor) -> list[Any]:
        """Copies of the live values for some rows of a batch; rows may repeat."""
        return [select(value, kind, rows) for value, kind in zip(values, self.kinds, strict=True)]


def select(value: Any, kind: Any, rows: Tensor) -> Any:
    """A copy of a value for the rows of a batch named in ``rows``; see `Cut.kinds`."""
    if isinstance(kind, list):
        return type(value)(select(v, k, rows) for v, k in zip(value, kind, strict=True))
    if kind == "size":
        return len(rows)
    if isinstance(value, Tensor):
        return value[rows] if kind == "rows" else value.clone()
    return value


def _kind(two: Any, three: Any) -> Any:
    """What a value is, from what it was for two and for three rows."""
    if isinstance(two, (tuple, list)) and not isinstance(two, torch.Size):
        return [_kind(a, b) for a, b in zip(two, three, strict=True)]
    if isinstance(two, Tensor):
        if two.shape == three.shape:
            return "fixed"
        if two.shape[1:] == three.shape[1:] and (len(two), len(three)) == (2, 3):
            return "rows"
    elif two == three:
        return "fixed"
    elif (two, three) == (2, 3):
        return "size"
    raise ValueError("a value of the graph changes with the batch in a way that cannot be followed")


def cut(model: nn.Module, tap: Tap, x: Tensor, passes: Counter[str], obstacle: str = "") -> Cut | None:
    """The model cut behind the tap, checked on ``x``; None where it cannot be followed, which is said once.

    The graph is that of torch.fx, or where that fails that of torch.export. ``obstacle`` says why none is to be
    trusted, if so; ``passes`` counts the rows that the check takes.
    """
    reasons = [obstacle] if obstacle else []
    for follow in () if obstacle else (_traced, _exported):
        try:
            with borrowed(model), _silence():
                halves = follow(_shell(model), tap, x)
                reason = _trouble(model, tap, halves, x, passes)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # tracing runs the user's own code, which may raise anything
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        if not reason:
            return halves
        reasons.append(reason)
    note(f"the model's graph could not be followed behind {tap.name!r} ({reasons[0]}); each evaluation of what lies "
         "behind that layer now costs a full pass: the result is the same, only slower")  # fmt: skip
    return None


@contextmanager
def _silence() -> Iterator[None]:
    """Keeps torch's messages about a graph it cannot follow off the terminal; `cut` says it in one line instead."""
    loggers = [logging.getLogger(f"torch.{name}") for name in ("fx.experimental.symbolic_shapes", "export", "_dynamo")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL + 1)
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _shell(model: nn.Module) -> nn.Module:
    """New modules around the same tensors: tracing leaves attributes on the modules it runs."""
    return copy.deepcopy(model, {id(t): t for t in (*model.parameters(), *model.buffers(), *loose(model))})


def _traced(model: nn.Module, tap: Tap, _: Tensor) -> Cut:
    tracer = _Tracer()
    graph = tracer.trace(model)
    node = tracer.ends[model.get_submodule(tap.name)][tap.call - 1]
    takes = [user for user in node.users if user.target is operator.getitem]
    first = [user for user in takes if user.args[1] == 0]
    return _split(model, graph, first[0] if len(first) == 1 and len(takes) == len(node.users) else node)


def _exported(model: nn.Module, tap: Tap, x: Tensor) -> Cut:
    batch = x[:1].expand(2, *x.shape[1:]).clone()
    program = torch.export.export(model, (batch,), dynamic_shapes=({0: torch.export.Dim("n")},), strict=False)
    if program.call_spec.out_spec is None or not program.call_spec.out_spec.is_leaf():
        raise ValueError("the model returns more than one tensor")
    module = program.module(check_guards=False)
    output = next(node for node in module.graph.nodes if node.op == "output")
    output.args = (output.args[0][0],)  # the one tensor, that an exported graph holds in a tuple
    label = tap.name if tap.call == 1 else f"{tap.name}@{tap.call - 1}"
    inside = [
        n for n in module.graph.nodes if label in (path for path, _ in n.meta.get("nn_module_stack", {}).values())
    ]
    return _split(module, module.graph, inside[-1])


def _split(model: nn.Module, graph: fx.Graph, node: fx.Node) -> Cut:
    after = {node}
    for other in graph.nodes:
        if any(source in after for source in other.all_input_nodes):
            after.add(other)
    output = next(n for n in graph.nodes if n.op == "output")
    if output not in after:
        raise ValueError("its effect on the output does not show in the graph")
    after.discard(node)
    live: list[fx.Node] = []
    for other in graph.nodes:
        if other in after:
            live += [
                s
                for s in other.all_input_nodes
                if s not in after and s is not node and s.op != "get_attr" and s not in live
            ]

    head = fx.Graph()
    before: dict[fx.Node, fx.Node] = {}
    for other in graph.nodes:
        if other not in after:
            before[other] = head.node_copy(other, lambda n: before[n])
    head.output((before[node], tuple(before[n] for n in live)))

    tail = fx.Graph()
    behind = {node: tail.placeholder("A")}
    behind.update({n: tail.placeholder(f"live_{i}") for i, n in enumerate(live)})
    for other in graph.nodes:
        if other in after or (other.op == "get_attr" and any(user in after for user in other.users)):
            behind[other] = tail.node_copy(other, lambda n: behind[n])
    return Cut(fx.GraphModule(model, head), fx.GraphModule(model, tail), [])


def _trouble(model: nn.Module, tap: Tap, halves: Cut, x: Tensor, passes: Counter[str]) -> str:
    """Why the cut must not be used: it must agree with the model, twice over, and for repeated rows."""
    shown: list[Tensor] = []

    def keep(_: nn.Module, __: Any, returned: Any) -> None:
        tensor = end(returned)
        if tensor is not None:
            shown.append(tensor.clone())

    handle = tap.module.register_forward_hook(keep)
    try:
        want = list(tensors(model(x.clone())))
    finally:
        handle.remove()
    out, live = halves.head.forward(x.clone())
    passes["forward"] += 2 * len(x)
    if not isinstance(out, Tensor):
        return "the layer returns more than one tensor"
    if live:
        passes["forward"] += 5
        two, three = (halves.head.forward(x[:1].expand(n, *x.shape[1:]).clone())[1] for n in (2, 3))
        halves.kinds = [_kind(a, b) for a, b in zip(two, three, strict=True)]
    kept = out.clone()
    if out.shape != shown[tap.call - 1].shape or not _near(shown[tap.call - 1], out):
        return "the traced graph gives another output for the layer than the model"
    rows = torch.arange(len(x), device=x.device).repeat(2)
    passes["tail"] -= len(x)  # those that go on where the first head ended are no passes of their own
    for _ in range(2 if live else 1):
        got = list(tensors(halves.tail.forward(tap.layout.take(out, rows), *halves.live(live, rows))))
        passes["tail"] += len(rows)
        close = len(got) == len(want) and all(_twice(a, b) for a, b in zip(want, got, strict=True))
        if not close or not torch.equal(kept, out):
            return "the traced graph gives other values than the model"
    return ""


def _twice(once: Tensor, got: Tensor) -> bool:
    want = once.repeat(2, *(1,) * (once.ndim - 1)) if once.ndim else once
    if want.shape != got.shape or not want.is_floating_point():
        return want.shape == got.shape and torch.equal(want, got)
    return _near(want, got)


def _near(want: Tensor, got: Tensor) -> bool:
    return not want.numel() or torch.allclose(got, want, rtol=1e-3, atol=1e-4 * float(want.abs().max()))
