"""Which positions of the input the tokens of attention are, and whether all its layers take them in one order."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from heatproof.errors import NotApplicable
from heatproof.probe.axes import Atom, Axis, Tag, other, reading
from heatproof.probe.ends import Place
from heatproof.probe.layout import ROWS, Layout
from heatproof.probe.products import Product
from heatproof.probe.provenance import MULTIPLIED, Provenance, Step

NONE = "the model has no attention over one grid of tokens"


def order(seen: Provenance, root: Place, products: Sequence[Product]) -> Layout:
    """Which positions the tokens are that each product weighs, the same ones in the same order for all.

    Args:
        seen: the operations of a pass of one sample. root: its class scores. products: from first to last.

    Raises: NotApplicable where the operations do not show it, or show another order along the way.
    """
    count = products[0].weights(products[0].used).shape[-1]
    unclear = NotApplicable(f"{NONE}: the operations do not show which positions its {count} tokens are")
    ends = [_Ends.of(seen, product) for product in products]
    for key in _shuffles(seen, root, products):
        raise NotApplicable(f"{NONE}: {_plain(seen.steps[key])} may bring its {count} tokens into another order")
    first = None if ends[0] is None else ends[0].values
    if first is None or not first.positions:
        raise unclear
    for end in ends:
        if end is None or end.grouped:
            raise unclear
        if not _same(first, end.values) or (end.out is not None and not _same(first, end.out)):
            raise NotApplicable(f"{NONE}: one of its layers takes the {count} tokens in another order than the others")
    layout = reading(Tag((Axis((Atom(ROWS, 1),)), first, other(2))), seen.extent).layout
    if layout is None:
        raise unclear
    return layout


@dataclass(frozen=True)
class _Ends:
    """The axes of the tokens in one product: of what is weighed, and of what comes out, None for a single query.

    Attributes:
        grouped: whether it lies within groups of positions.
    """

    values: Axis
    out: Axis | None
    grouped: bool

    @classmethod
    def of(cls, seen: Provenance, product: Product) -> _Ends | None:
        """The axes; None where they cannot be followed."""
        values = None if product.valued is None else seen.steps.get(product.valued)
        out = seen.steps.get((product.out.grad_fn, product.out.output_nr))
        lead = len(product.axes.weights) - 2
        at, to = product.axes.values[lead], product.axes.out[lead]
        if values is None or out is None or at is None:
            return None
        if len(values.tag.axes) <= at or len(out.tag.axes) <= to:
            return None
        single = product.weights(product.used).shape[-2] == 1
        groups = [values.tag.axes[a] for a in product.axes.values[:lead] if a is not None]
        return cls(
            _tokens(values.tag.axes[at]),
            None if single else _tokens(out.tag.axes[to]),
            any(axis.positions for axis in groups),
        )


def _tokens(axis: Axis) -> Axis:
    """The axis without the row of the sample, which may lie in it."""
    return axis.of(tuple(atom for atom in axis.atoms if atom.of != ROWS))


def _same(a: Axis, b: Axis) -> bool:
    """Whether two axes hold the same positions in the same order."""
    ends = (a.prefix, a.suffix) == (b.prefix, b.suffix)
    return ends and [(m.of, m.size, m.rolled) for m in a.atoms] == [(m.of, m.size, m.rolled) for m in b.atoms]


def _shuffles(seen: Provenance, root: Place, products: Sequence[Product]) -> Iterator[Place]:
    """The operations that the tokens run through behind which the order of positions is open."""
    outs = {(product.out.grad_fn, product.out.output_nr): product for product in products}

    def behind(start: Place | None) -> dict[Place, None]:
        """All that a tensor's tokens run through: of a product the values, not the weights."""
        todo: list[Place | None] = [start]
        run: dict[Place, None] = {}
        while todo:
            key = todo.pop()
            if key is not None and key not in run and key in seen.steps and seen.steps[key].order >= 0:
                run[key] = None
                todo += [outs[key].valued] if key in outs else seen.steps[key].inputs
        return run

    ahead, until = behind(products[0].valued), behind(products[-1].valued)
    for key in behind(root):
        step = seen.steps[key]
        before = [seen.steps[source].tag for source in step.inputs if source is not None]
        if key in outs or not _opens(step, before):
            continue
        if key in until or any(tag.shape == step.tag.shape for tag in before):
            if key in ahead and step.name.startswith(MULTIPLIED):
                continue  # channels made of positions, of which no token axis is left
            yield key


def _opens(step: Step, before: Sequence[Tag]) -> bool:
    """Whether positions go into an operation whose output has an axis of which nothing is known any more."""
    return (
        any(axis.unknown for axis in step.tag.axes)
        and any(tag.positions for tag in before)
        and not any(axis.unknown for tag in before for axis in tag.axes)
    )


def _plain(step: Step) -> str:
    return f"an operation ({re.sub(r'Backward[0-9]*$', '', step.name)})"
