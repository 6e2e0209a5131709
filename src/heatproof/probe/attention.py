"""The attention of transformers, however it is computed: softmaxes over tokens, and the values that they weigh."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from torch import Tensor, nn

from heatproof.errors import NotApplicable, first_line
from heatproof.probe.ends import place
from heatproof.probe.goals import Goal
from heatproof.probe.layout import Layout
from heatproof.probe.orders import NONE, order
from heatproof.probe.outputs import checked
from heatproof.probe.prepared import Prepared
from heatproof.probe.products import Product, ProductWatch, stochastic, transparent
from heatproof.probe.provenance import Provenance
from heatproof.probe.runner import Pass, Runner
from heatproof.probe.survey import Record

_gradient = transparent(torch.autograd.grad)


@dataclass(frozen=True)
class Heads:
    """One layer's attention (n, heads, q, T), rows summing to one, and its gradient, None without a goal."""

    weights: Float[Tensor, "n h q t"]
    gradient: Float[Tensor, "n h q t"] | None


@dataclass(frozen=True)
class Attention:
    """The attention of a model for one batch.

    Attributes:
        layers: from first to last, each of T tokens to T tokens.
        pool: of the one query that gathers the tokens behind the last layer (SigLIP); None without.
        reads: how much each token behind the last layer counts for the output, rows sum to one: all tokens that the
            output depends on count the same. Where tokens that are no positions (a class token) matter by far more than
            positions do, the two groups count one half each. With a pool, not used.
        layout: which positions the tokens are.
    """

    layers: tuple[Heads, ...]
    pool: Heads | None
    reads: Float[Tensor, "n t"]
    layout: Layout


class _Apart(Exception):
    """The samples of a batch cannot be told apart in a product."""


def look(runner: Runner, x: Float[Tensor, "n c *s"], goal: Goal | None, *, first: int = 0) -> Attention:
    """The attention of every layer for one batch, with the gradient of the goal's logit by it.

    Cost: one forward pass, and a backward pass: to the first layer for a goal, else to the last layer. Once a model and
        input shape, a forward pass of one sample.
    Raises: NotApplicable where there is none over one grid of tokens; InputError where the model returns NaN or
        infinite values, the samples being numbered from ``first``.
    """
    try:
        return _look(runner, x, goal, first)
    except _Apart:
        rows = [slice(i, i + 1) for i in range(len(x))]
        return _joined([_look(runner, x[r], None if goal is None else goal.take(r), first + r.start) for r in rows])


def _joined(parts: Sequence[Attention]) -> Attention:
    def cat(heads: Sequence[Heads]) -> Heads:
        slopes = [h.gradient for h in heads if h.gradient is not None]
        return Heads(torch.cat([h.weights for h in heads]), torch.cat(slopes) if slopes else None)

    if len({(len(p.layers), p.pool is None, p.layout) for p in parts}) > 1:
        raise NotApplicable(f"{NONE}: the samples of a batch take different ways through the model")
    pools = [p.pool for p in parts if p.pool is not None]
    layers = tuple(cat([p.layers[i] for p in parts]) for i in range(len(parts[0].layers)))
    return Attention(layers, cat(pools) if pools else None, torch.cat([p.reads for p in parts]), parts[0].layout)


@dataclass(frozen=True, eq=False)
class _Layer:
    """A product that is attention, and the order that brings its leading axis to (n, heads)."""

    product: Product
    order: Tensor

    def heads(self, tensor: Tensor) -> Tensor:
        return self.product.weights(tensor)[self.order]

    @property
    def queries(self) -> int:
        return int(self.product.weights(self.product.used).shape[-2])

    @property
    def keys(self) -> int:
        return int(self.product.weights(self.product.used).shape[-1])


def _look(runner: Runner, x: Tensor, goal: Goal | None, first: int) -> Attention:
    with _opened(runner, x) as (raw, layers, run):
        logits = run.read(raw, len(x), goal)
        value = logits if goal is None or goal.function is None else goal.score(logits, "logit", raw)
        squares, pool = _sorted(_live(layers, value))
        layers = [*squares, *pool]
        if goal is not None and goal.function is None:
            checked(logits.detach(), first)
        with ProductWatch(lambda _: None):
            sizes = _sizes(squares[-1], logits, keep=goal is not None)
            slopes: list[Tensor | None] = [None] * len(layers)
            if goal is not None:
                slopes = _slopes(goal.score(logits, "logit", raw), [layer.product.used for layer in layers])
    runner.count("forward", len(x))
    runner.count("backward", len(x))
    layout = _layout(runner, len(layers))
    heads = [
        Heads(
            layer.heads(layer.product.used.detach()).float(),
            None if slope is None else layer.heads(slope).float(),
        )
        for layer, slope in zip(layers, slopes, strict=True)
    ]
    return Attention(tuple(heads[: len(squares)]), heads[-1] if pool else None, _reads(sizes, layout), layout)


@contextmanager
def _opened(runner: Runner, x: Tensor, record: Record | None = None) -> Iterator[tuple[Any, list[_Layer], Pass]]:
    """A pass with its graph: what the model returned, its products that are attention, and what reads its output.

    Raises: NotApplicable where one of its softmaxes is no attention over one grid of tokens.
    """
    layers: list[_Layer] = []

    def keep(product: Product) -> None:
        order = _order(product, len(x))
        if isinstance(order, Tensor):
            layers.append(_Layer(product, order))
        elif product.softmax:
            raise NotApplicable(f"{NONE}: {order}")

    watch = ProductWatch(keep)
    hooks = {} if record is None else dict.fromkeys(record.names, record)
    with runner.borrowed(hooks) as run, observable(runner.model), torch.enable_grad():
        raw = _observed(runner.model, runner.fed(x), watch)
        if watch.idle is not None:
            raise NotApplicable(f"{NONE}: a softmax among {watch.idle} tokens does not weigh values by a product")
        yield raw, layers, run


def _live(layers: Sequence[_Layer], value: Tensor) -> list[_Layer]:
    """The layers that a value depends on; all where that was not seen."""
    if value.grad_fn is None:
        return list(layers)
    live = _behind([value.grad_fn])
    return [layer for layer in layers if layer.product.out.grad_fn is None or layer.product.out.grad_fn in live]


def _observed(model: nn.Module, x: Tensor, watch: ProductWatch) -> Any:
    """What the model returns for a batch, all of whose operations are watched, with gradients.

    Raises: NotApplicable where an operation has no gradient.
    """
    try:
        with watch:
            return model(x)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise NotApplicable(f"the model's attention cannot be observed: {first_line(error)}") from error
    finally:
        watch.keep = lambda _: None  # gradients may compute parts of the model again, by the same steps


@contextmanager
def observable(model: nn.Module) -> Iterator[None]:
    """Compiled parts of the model run as they were written, until the block ends.

    Raises: NotApplicable where a scripted part may hold attention.
    """
    compiled = "torch.nn.attention.flex_attention" in sys.modules  # which compiles itself
    for name, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule) and _hides(module):
            raise NotApplicable(
                f"{NONE} that can be observed: {f'its part {name!r}' if name else 'it'} is scripted and holds a softmax"
            )
        compiled = compiled or hasattr(module, "_orig_mod") or module._compiled_call_impl is not None
    with ExitStack() as stack:
        if compiled:
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        yield


def _hides(module: nn.Module) -> bool:
    try:
        text = str(module.inlined_graph)
    except (RuntimeError, AttributeError):  # a scripted container without a forward of its own
        return False
    return "softmax" in text or "attention" in text


# Which products are attention


def _order(product: Product, n: int) -> Tensor | str:
    """The order of the leading axis that makes it (n, heads), or why the product is no attention among tokens."""
    weights = product.weights(product.used)
    queries, keys = weights.shape[-2:]
    if keys < 2:
        return "each token attends to itself alone"
    if queries not in (1, keys):
        return f"in one of its layers {queries} tokens attend to {keys}"
    if not stochastic(weights):
        return "the weights of its values do not sum to one for each token, as they would behind a softmax over them"
    rows, source = product.rows(), product.source
    if source is not None and queries > 1 and len(source.shape) > 1:
        origin = source.rows(weights.device)
        if origin.ndim == len(product.axes.weights) and _flat(product.weights(origin)):
            return "one of its softmaxes runs over channels"
    if rows is None:
        return _plain(product, n)
    if rows.shape[-1] > 1 and not torch.equal(rows.amin(-1), rows.amax(-1)):
        return "one of its softmaxes runs over channels"
    lead = product.trace.lead if product.trace is not None else ()
    total = math.prod(lead)
    if total != n * keys:
        parts = total / (n * keys)
        return (
            f"its attention runs within {total // (n * keys)} groups of {keys} tokens a sample"
            if parts >= 2 and parts.is_integer()
            else f"{keys} tokens attend to each other, where a sample has {total / n:g}"
        )
    rows = rows[..., 0]
    if n == 1:
        samples, tokens = torch.zeros_like(rows), rows
    elif (lead[0] == n) == (lead[-1] == n):
        raise _Apart
    elif lead[0] == n:
        samples, tokens = rows // keys, rows % keys
    else:
        samples, tokens = rows % n, rows // n
    if not torch.equal(tokens, torch.arange(keys, device=rows.device).expand_as(tokens)):
        return "its attention takes the tokens in another order than its other layers"
    counts = samples[:, 0].bincount(minlength=n)
    if not bool((samples == samples[:, :1]).all()) or bool((counts != counts[0]).any()):
        return "its attention mixes the samples of a batch"
    return samples[:, 0].argsort(stable=True).reshape(n, -1)


def _flat(rows: Tensor) -> bool:
    """Whether the rows are the same along one of the last two axes, which are channels then."""
    return torch.equal(rows.amin(-1), rows.amax(-1)) or torch.equal(rows.amin(-2), rows.amax(-2))


def _plain(product: Product, n: int) -> Tensor | str:
    """The order, where it was not seen where the values came from: samples first."""
    lead = product.used.permute(product.axes.weights).shape[:-2]
    count = math.prod(lead)
    if n > 1 and not (len(lead) > 1 and lead[0] == n and n not in lead[1:]):
        raise _Apart
    if n == 1 and len(lead) > 1 and 1 not in lead:
        return f"its attention runs within {lead[0]} groups of {product.used.shape[-1]} tokens"
    return torch.arange(count, device=product.used.device).reshape(n, -1)


def _sorted(layers: Sequence[_Layer]) -> tuple[list[_Layer], list[_Layer]]:
    """The layers among tokens, and the pool that follows, if any.

    Raises: NotApplicable where they do not follow each other over the same tokens.
    """
    squares = [layer for layer in layers if layer.queries > 1]
    if not squares:
        raise NotApplicable(
            f"{NONE}: no softmax over tokens weighs their values; attention methods need a transformer with global "
            "attention (ViT, DeiT)"
        )
    counts = list(dict.fromkeys(layer.keys for layer in squares))
    if len(counts) > 1:
        raise NotApplicable(f"{NONE}: its layers have {', '.join(map(str, counts[:-1]))} and {counts[-1]} tokens")
    single = [i for i, layer in enumerate(layers) if layer.queries == 1]
    if single and (single != [len(layers) - 1] or layers[-1].keys != counts[0]):
        raise NotApplicable(
            f"{NONE}: a single query attends to {layers[single[0]].keys} tokens, as in class attention, whose roll-out "
            "is not defined"
        )
    for before, after in pairwise(layers):
        if after.product.weighed is None and after.product.valued is None:
            raise NotApplicable(f"{NONE} with gradients: a part of the model runs under torch.no_grad or detached")
        if not _follows(after.product, before.product):
            raise NotApplicable(f"{NONE}: two of its attentions run side by side, not one after the other")
    return squares, [layers[i] for i in single]


def _follows(after: Product, before: Product) -> bool:
    """Whether a product was computed from an earlier one."""
    return before.out.grad_fn in _behind([at[0] for at in (after.weighed, after.valued) if at is not None])


def _behind(nodes: Sequence[Any]) -> set[Any]:
    """The nodes of the gradient graph that some were computed from, and themselves."""
    todo, seen = list(nodes), set(nodes)
    while todo:
        for parent, _ in todo.pop().next_functions:
            if parent is not None and parent not in seen:
                seen.add(parent)
                todo.append(parent)
    return seen


# Which positions the tokens are, and which are read


def _sizes(last: _Layer, logits: Tensor, *, keep: bool) -> Float[Tensor, "n t"]:
    """How strongly the output depends on what each token is behind the last layer; 0 for tokens that are not read."""
    product = last.product
    # Any direction in which no two logits cancel.
    value = logits @ torch.cos(torch.arange(1.0, logits.shape[1] + 1)).to(logits)
    (slope,) = _slopes(value, [product.out], keep=keep)
    return product.outputs(slope)[last.order].float().abs().amax((1, 3))


_layouts: WeakKeyDictionary[Prepared, tuple[int, Layout | str]] = WeakKeyDictionary()


def _layout(runner: Runner, count: int) -> Layout:
    """Which of the tokens are positions, as the operations of a pass of one sample have it.

    Cost: that pass, once a model and input shape.
    Raises: NotApplicable where they do not show it, or not all layers take the tokens in one order.
    """
    if runner.prepared not in _layouts:
        _layouts[runner.prepared] = _ordered(runner)
    layers, layout = _layouts[runner.prepared]
    if isinstance(layout, str):
        raise NotApplicable(layout)
    if layers != count:
        raise NotApplicable(f"{NONE}: the samples of a batch take different ways through the model")
    return layout


def _ordered(runner: Runner) -> tuple[int, Layout | str]:
    """The number of layers, and the layout of their tokens or why there is none."""
    x = runner.prepared.sample
    record = Record({module: name for name, module in runner.model.named_modules()})
    with torch.enable_grad():
        source = x.clone().requires_grad_().clone()
    try:
        with _opened(runner, source, record) as (raw, layers, run):
            runner.count("forward", 1)
            logits = run.read(raw, 1)
            squares, pool = _sorted(_live(layers, logits))
            root = place(logits)
            if root is None:
                raise NotApplicable(f"{NONE}: the operations behind its attention cannot be followed")
            products = [layer.product for layer in (*squares, *pool)]
            return len(products), order(Provenance(source, logits, [], record.aliases), root, products)
    except NotApplicable as reason:
        return 0, str(reason)


def _reads(sizes: Float[Tensor, "n t"], layout: Layout) -> Float[Tensor, "n t"]:
    """How much each token behind the last layer counts for the output; see `Attention`."""
    special = torch.ones(sizes.shape[1], dtype=torch.bool, device=sizes.device)
    special[layout.prefix : layout.prefix + math.prod(layout.grid)] = False
    live = (sizes > 0).float()
    blind = live.sum(1, keepdim=True) == 0  # a head whose weights are zero
    live = torch.where(blind, special.float() if bool(special.any()) else torch.ones_like(live), live)
    outside, inside = live * special, live * ~special
    n_out, n_in = outside.sum(1, keepdim=True), inside.sum(1, keepdim=True)
    ratio = (sizes * outside).sum(1, keepdim=True) / n_out * n_in / (sizes * inside).sum(1, keepdim=True)
    halves = (outside / n_out + inside / n_in) / 2
    return torch.where((n_out > 0) & (n_in > 0) & (ratio > n_in.sqrt()), halves, live / (n_out + n_in))


def _slopes(value: Tensor, at: Sequence[Tensor], *, keep: bool = False) -> list[Any]:
    """The gradients of a value, summed over the samples.

    Raises: NotApplicable where none is to be had.
    """
    try:
        slopes = _gradient(value.sum(), list(at), retain_graph=keep, allow_unused=True)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise NotApplicable(f"no gradient by the model's attention can be taken: {first_line(error)}") from error
    if all(slope is None for slope in slopes):
        raise NotApplicable("the output does not depend on the model's attention by a path that has a gradient")
    return [torch.zeros_like(a) if slope is None else slope for a, slope in zip(at, slopes, strict=True)]
