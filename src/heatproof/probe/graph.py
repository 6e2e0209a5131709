"""A model cut in two at a layer, so that what lies behind the layer can be run on its own.

The cut follows the traced graph: whatever does not depend on the layer (skip connections, sizes) is computed once in
the head and handed to the tail. A cut is used only after it gave, on real input, what the whole model gives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from heatproof.errors import LayerError
from heatproof.probe.layers import Tap
from heatproof.probe.outputs import class_scores
from heatproof.probe.state import borrowed, note


class _Tracer(fx.Tracer):
    """Remembers which node holds the output of each call of each module."""

    def __init__(self) -> None:
        super().__init__()
        self.ends: dict[str, list[fx.Node]] = {}

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        out = super().call_module(m, forward, args, kwargs)
        if isinstance(out, fx.Proxy):
            self.ends.setdefault(self.path_of_module(m), []).append(out.node)
        return out


@dataclass(frozen=True)
class Cut:
    """The two halves: ``head(x) -> (out, live)`` and ``tail(out, *live) -> what the model returns``.

    Attributes:
        sized: for each live value, whether it is the batch size.
    """

    head: fx.GraphModule
    tail: fx.GraphModule
    sized: tuple[bool, ...]

    def live(self, values: tuple[Any, ...], n: int, rows: Tensor) -> list[Any]:
        """The live values of some rows of a batch of ``n``; rows may repeat."""
        return [len(rows) if sized else select(value, n, rows) for value, sized in zip(values, self.sized, strict=True)]


def select(value: Any, n: int, rows: Tensor) -> Any:
    """The given rows of every batch-first tensor inside ``value``; anything else as it is."""
    if isinstance(value, Tensor):
        return value[rows] if value.ndim and value.shape[0] == n else value
    if isinstance(value, (tuple, list)):
        return type(value)(select(v, n, rows) for v in value)
    return value


def cut(model: nn.Module, tap: Tap, x: Tensor) -> Cut | None:
    """The model cut behind the tap, checked on ``x``; None where it cannot be traced, which is said once.

    Raises: LayerError where the layer does not reach the output.
    """
    tracer = _Tracer()
    with borrowed(model):
        try:
            graph = tracer.trace(model)
            ends = tracer.ends[tap.name]
            halves = _split(model, graph, ends[tap.call - 1])
            trouble = _trouble(model, halves, x)
        except LayerError:
            raise
        except Exception as error:  # tracing runs the user's own code, which may raise anything
            trouble = (str(error).strip().splitlines() or [type(error).__name__])[0]
    if trouble:
        note(
            f"the model's graph could not be followed behind {tap.name!r} ({trouble}); each evaluation of what lies "
            "behind that layer now costs a full pass: the result is the same, only slower"
        )
        return None
    return halves


def _split(model: nn.Module, graph: fx.Graph, node: fx.Node) -> Cut:
    after = {node}
    for other in graph.nodes:
        if any(source in after for source in other.all_input_nodes):
            after.add(other)
    output = next(n for n in graph.nodes if n.op == "output")
    if output not in after:
        raise LayerError(f"layer {node.name!r} does not reach the model's output; choose another layer")
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
    seen: dict[fx.Node, fx.Node] = {}
    for other in graph.nodes:
        if other not in after:
            seen[other] = head.node_copy(other, lambda n: seen[n])
    head.output((seen[node], tuple(seen[n] for n in live)))

    tail = fx.Graph()
    known = {node: tail.placeholder("A")}
    known.update({n: tail.placeholder(f"live_{i}") for i, n in enumerate(live)})
    for other in graph.nodes:
        if other in after or (other.op == "get_attr" and any(user in after for user in other.users)):
            known[other] = tail.node_copy(other, lambda n: known[n])
    return Cut(fx.GraphModule(model, head), fx.GraphModule(model, tail), tuple(_is_batch_size(n) for n in live))


def _is_batch_size(node: fx.Node) -> bool:
    if node.target == "size":
        return node.args[1:] == (0,)
    source = node.args[0] if node.args else None
    if getattr(node.target, "__name__", "") != "getitem" or not isinstance(source, fx.Node):
        return False
    whole = (source.target == "size" and len(source.args) == 1) or source.args[1:] == ("shape",)
    return bool(whole) and isinstance(node.args[1], int) and node.args[1] == 0


def _trouble(model: nn.Module, halves: Cut, x: Tensor) -> str:
    """Why the cut must not be used: it must agree with the model, twice over, and for repeated rows."""
    want = class_scores(model(x)).float()
    out, live = halves.head(x)
    kept = out.clone()
    rows = torch.arange(len(x), device=x.device).repeat(2)
    for _ in range(2):
        got = class_scores(halves.tail(out.clone()[rows], *halves.live(live, len(x), rows))).float()
        close = torch.allclose(got, want.repeat(2, 1), rtol=1e-3, atol=1e-4 * (1 + float(want.abs().max())))
        if not close or not torch.equal(kept, out):
            return "the traced graph gives other values than the model"
    return ""


def tensors(value: Any) -> Iterator[Tensor]:
    """Every tensor inside nested tuples, lists and dicts."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from tensors(part)
    elif isinstance(value, dict):
        yield from tensors(list(value.values()))
