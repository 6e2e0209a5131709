"""What operations that compute something do to the axes of a tensor, and to the positions in them."""

from __future__ import annotations

import math
from collections.abc import Iterable

from heatproof.probe.axes import UNKNOWN, Atom, Axis, Tag, joined, mystery, other, ranged, resized, unknown
from heatproof.probe.layout import ROWS
from heatproof.probe.moves import restrided
from heatproof.probe.operations import Operation, Rule

# Operations that keep every axis


def kept(op: Operation) -> Tag:
    """Every axis as it was, tensors broadcast."""
    return joined(op.parts, op.shape)


def same(op: Operation) -> Tag:
    """The axes of the first input."""
    tag = op.tags[0] if op.tags else None
    return mystery(op.shape) if tag is None or tag.shape != op.shape else tag


def copied(op: Operation) -> Tag:
    """The axes of what was copied."""
    fits = [tag for tag in op.tags[::-1] if tag is not None and tag.shape == op.shape]
    return fits[0] if fits else mystery(op.shape)


def laid_out(op: Operation) -> Tag:
    """A part of a tensor that was changed in place, as far as it has the strides of the whole."""
    tag = op.first
    if tag.shape == op.shape and not tag.positions:
        return tag
    strides, offset = op.saved("stride"), op.saved("storage_offset") or 0
    if math.prod(tag.shape) == math.prod(op.shape) and offset == 0:
        moved = restrided(tag, op.shape, strides)
        if moved is not None:
            return moved
    if len(tag.axes) != len(op.shape):
        return mystery(op.shape)
    axes = []
    for i, (axis, size, stride) in enumerate(zip(tag.axes, op.shape, strides, strict=True)):
        whole = math.prod(tag.shape[i + 1 :])
        start, offset = divmod(offset, whole)
        if size > 1 and stride != whole:
            return mystery(op.shape)
        axes.append(ranged(axis, start, start + size, 1, op.extent))
    return Tag(tuple(axes), tag.picked)


def written_into(op: Operation) -> Tag:
    """The axes of the tensor that was written into, if what was written lies along them as it does.

    What is only added to it leaves its positions where they are, unless it has others.
    """
    base = op.tags[0]
    if base is None or base.shape != op.shape:
        return mystery(op.shape)
    fits = all(tag is None or _alongside(tag, base, added=not op.replaced) for tag in op.tags[1:])
    return base if fits else mystery(op.shape, base.picked)


def _alongside(tag: Tag, base: Tag, *, added: bool) -> bool:
    """Whether the positions of a part are those of the whole, in the same order; other axes and tokens may differ.

    What is added may lack some of them, or all.
    """
    if not tag.positions and (added or not any(axis.unknown for axis in tag.axes)):
        return True
    if added and len(tag.axes) == len(base.axes):
        return all(not a.positions or _places((a,)) == _places((b,)) for a, b in zip(tag.axes, base.axes, strict=True))
    places = _places(tag.axes)
    return places == _places(base.axes) and not any(atom.of == UNKNOWN for atom in places)


def _places(axes: Iterable[Axis]) -> list[Atom]:
    return [atom for axis in axes for atom in axis.atoms if atom.of >= 0 or atom.of == UNKNOWN]


def shuffled_along(name: str) -> Rule:
    """Axes along which the entries change their places; the others stay."""

    def apply(op: Operation) -> Tag:
        dims = op.saved(name)
        tag = op.first
        if len(tag.axes) != len(op.shape):
            return mystery(op.shape)
        moved = {d % len(op.shape) for d in (dims if isinstance(dims, tuple) else (dims,))}
        return Tag(tuple(unknown(s) if i in moved and a.positions else a if a.size == s else unknown(s)
                         for i, (a, s) in enumerate(zip(tag.axes, op.shape, strict=True))), tag.picked)  # fmt: skip

    return apply


def rolled(op: Operation) -> Tag:
    """Entries moved around the ends of their axes; rolled back they are where they were."""
    tag, shifts, dims = op.first, op.saved("shifts"), op.saved("dims")
    if len(shifts) != len(dims) or tag.shape != op.shape:
        return mystery(op.shape)
    axes: dict[int, Axis] = {}
    for shift, dim in zip(shifts, dims, strict=True):
        axis = axes.get(dim % len(op.shape), tag.axes[dim % len(op.shape)])
        axes[dim % len(op.shape)] = _roll(axis, shift)
    return tag.replaced(axes)


def _roll(axis: Axis, shift: int) -> Axis:
    if not axis.positions or shift % axis.size == 0:
        return axis
    if len(axis.atoms) > 1 or axis.prefix or axis.suffix:
        return unknown(axis.size)
    (atom,) = axis.atoms
    steps = round(atom.rolled / atom.stride + shift, 6) % atom.size
    return Axis((atom._replace(rolled=round(steps * atom.stride, 6)),))


# Operations that change how many positions there are


def resampled(op: Operation) -> Tag:
    """Other numbers of positions, in their order."""
    tag = op.first
    if len(tag.axes) != len(op.shape):
        return mystery(op.shape)
    axes = [a if a.size == s else resized(a, s) for a, s in zip(tag.axes, op.shape, strict=True)]
    op.uses[0] = "spread" if any(axis.positions for axis in axes) else "read"
    return Tag(tuple(axes), tag.picked)


def padded(op: Operation) -> Tag:
    """Positions added or cut off at the ends."""
    tag = op.first
    if len(tag.axes) != len(op.shape):
        return mystery(op.shape)
    axes, pad = list(tag.axes), op.saved("pad") if hasattr(op.node, "_saved_pad") else ()
    for i in range(len(pad) // 2):
        old, before, behind = tag.axes[-1 - i], pad[2 * i], pad[2 * i + 1]
        if min(before, behind) < 0:
            axes[-1 - i] = ranged(old, max(0, -before), old.size - max(0, -behind), 1, op.extent)
        elif (before or behind) and old.clean and len(old.atoms) > 1:
            axes[-1 - i] = old.between(old.prefix + before, old.suffix + behind)  # tokens, not a border
    axes = [_pad(axis, size) for axis, size in zip(axes, op.shape, strict=True)]
    return Tag(tuple(axes), tag.picked)


def _pad(axis: Axis, size: int) -> Axis:
    if axis.size == size:
        return axis
    if axis.clean and len(axis.atoms) == 1 and not (axis.prefix or axis.suffix):
        return Axis((axis.atoms[0]._replace(size=size),))
    return unknown(size) if axis.positions or axis.unknown or axis.has(ROWS) else other(size)


def convolved(op: Operation) -> Tag:
    """Channels anew, positions by the stride."""
    tag = op.tags[0]
    if tag is None or len(tag.axes) != len(op.shape):
        return mystery(op.shape)
    stride, back = op.saved("stride"), op.saved("transposed")
    factors = [1 / s if back else float(s) for s in stride]
    factors = factors[-(len(op.shape) - 2) :]
    places = [resized(a, n, f) for a, n, f in zip(tag.axes[2:], op.shape[2:], factors, strict=True)]
    kernel = op.tags[1].shape[2:] if len(op.tags) > 1 and op.tags[1] is not None else (2,)
    if math.prod(kernel) > 1:
        op.uses[0] = "spread" if any(axis.positions for axis in places) else "read"
    if tag.axes[1].positions:
        op.uses[0] = "read"
    apart = op.saved("groups") > 1 and (tag.axes[1].positions or tag.axes[1].unknown)
    channels = unknown(op.shape[1]) if apart else other(op.shape[1])
    return Tag((tag.axes[0], channels, *places), tag.picked)


def reduced(op: Operation) -> Tag:
    """Axes averaged or summed away."""
    tag = op.first
    n = len(tag.axes)
    dims = op.saved("dim") if hasattr(op.node, "_saved_dim") else None
    if dims is None or (isinstance(dims, tuple) and not dims):
        dims = tuple(range(n))
    gone = {d % max(1, n) for d in (dims if isinstance(dims, tuple) else (dims,))}
    if any(tag.axes[d].positions for d in gone):
        op.uses[0] = "read"
    axes: list[Axis] = []
    for i, axis in enumerate(tag.axes):
        if i not in gone:
            axes.append(axis)
        elif len(op.shape) == n:
            axes.append(Axis((Atom(ROWS, 1),)) if axis.has(ROWS) and axis.size == 1 else Axis())
    return Tag(tuple(axes), tag.picked) if len(axes) == len(op.shape) else mystery(op.shape)


def halved(op: Operation) -> Tag:
    """Half of an axis, gated by the other half."""
    tag, axis = op.first, op.saved("dim") % len(op.shape)
    return tag.replaced({axis: _pad(tag.axes[axis], op.shape[axis]) if not tag.axes[axis].positions else
                         unknown(op.shape[axis])})  # fmt: skip


# Operations that multiply matrices


def multiplied(left: int, right: int) -> Rule:
    """The rule for a product of two matrices, the inputs of these numbers."""

    def apply(op: Operation) -> Tag:
        a, b = op.tags[left], op.tags[right]
        inner = [
            None if tag is None else tag.axes[at] for tag, at in ((a, -1), (b, -2 if b and len(b.axes) > 1 else -1))
        ]
        row = a.axes[-2] if a is not None else other(op.shape[-2])
        column = b.axes[-1] if b is not None else other(op.shape[-1])
        data = [tag is not None and _varies(tag) for tag in (a, b)]
        for i, axis in ((left, inner[0]), (right, inner[1])):
            if axis is not None and axis.positions:
                op.uses[i], op.mixes = "read", all(data)
        row = _free(row, inner[0], mixed=not data[0] and inner[1] is not None and inner[1].clean)
        column = _free(column, inner[1], mixed=not data[1] and inner[0] is not None and inner[0].clean)
        lead = [Tag(tag.axes[:-2], tag.picked) for tag in (a, b) if tag is not None]
        batch = joined(lead, op.shape[:-2])
        return Tag((*batch.axes, row, column), batch.picked)

    return apply


def _free(axis: Axis, inner: Axis | None, *, mixed: bool) -> Axis:
    """The axis that stays; the row of the sample never is summed over, so it lies beside it."""
    if inner is not None and inner.has(ROWS) and not axis.has(ROWS):
        axis = axis.of((*axis.atoms, Atom(ROWS, 1)))
    return unknown(axis.size) if mixed else axis


def _varies(tag: Tag) -> bool:
    return any(axis.has(ROWS) or axis.positions or axis.unknown for axis in tag.axes)


def by_vector(op: Operation) -> Tag:
    """The last axis summed away."""
    tag = op.tags[0]
    if tag is None or len(tag.axes) != len(op.shape) + 1:
        return mystery(op.shape)
    if tag.axes[-1].positions:
        op.uses[0] = "read"
    return Tag(tag.axes[:-1], tag.picked)


def attention(op: Operation) -> Tag:
    """The axes of the queries; keys and values are read."""
    query, value = op.tags[0], op.tags[2]
    if op.number != 0 or query is None or value is None or len(query.axes) != len(op.shape):
        return mystery(op.shape)
    op.uses.update({1: "read", 2: "read"})
    op.mixes = True
    lead = joined([Tag(query.axes[:-2], query.picked), Tag(value.axes[:-2], value.picked)], op.shape[:-2])
    return Tag((*lead.axes, query.axes[-2], value.axes[-1]), lead.picked)


def linear(op: Operation) -> Tag:
    """The last axis anew."""
    return _with_last(op, op.tags[0])


def _with_last(op: Operation, tag: Tag | None) -> Tag:
    if tag is None or len(tag.axes) != len(op.shape):
        return mystery(op.shape)
    if tag.axes[-1].positions:
        op.uses[0] = "read"
    last = unknown(op.shape[-1]) if tag.axes[-1].clean else other(op.shape[-1])
    return Tag((*tag.axes[:-1], last), tag.picked)
