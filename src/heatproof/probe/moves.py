"""What operations that move axes, take parts of them, or put parts together do to the axes of a tensor."""

from __future__ import annotations

import math
from collections.abc import Sequence

from heatproof.probe.axes import Atom, Axis, Tag, joined, merged, mystery, other, ranged, reshaped, resized, unknown
from heatproof.probe.layout import ROWS
from heatproof.probe.operations import Operation

# Operations that move axes


def permuted(op: Operation) -> Tag:
    """The axes in another order."""
    return _reordered(op, op.saved("dims"))


def transposed(op: Operation) -> Tag:
    """Two axes in each other's place."""
    order, n = list(range(len(op.shape))), max(1, len(op.shape))
    a, b = op.saved("dim0") % n, op.saved("dim1") % n
    order[a], order[b] = order[b], order[a]
    return _reordered(op, order)


def turned(op: Operation) -> Tag:
    """All axes in reverse order."""
    return _reordered(op, range(len(op.shape))[::-1])


def _reordered(op: Operation, order: Sequence[int]) -> Tag:
    tag = op.first
    return Tag(tuple(tag.axes[d] for d in order), tag.picked)


def viewed(op: Operation) -> Tag:
    """Axes merged and split."""
    tag = op.first
    return reshaped(tag, op.shape) if math.prod(tag.shape) == math.prod(op.shape) else mystery(op.shape)


def unsqueezed(op: Operation) -> Tag:
    """A new axis of length one."""
    tag, axis = op.first, op.saved("dim") % max(1, len(op.shape))
    return Tag((*tag.axes[:axis], Axis(), *tag.axes[axis:]), tag.picked)


def squeezed(op: Operation) -> Tag:
    """Axes of length one left out."""
    tag = op.first
    dims = op.saved("dim") if hasattr(op.node, "_saved_dim") else tuple(range(len(tag.axes)))
    n = max(1, len(tag.axes))
    gone = {d % n for d in (dims if isinstance(dims, tuple) else (dims,)) if tag.axes[d % n].size == 1}
    return Tag(tuple(axis for i, axis in enumerate(tag.axes) if i not in gone), tag.picked)


def expanded(op: Operation) -> Tag:
    """Axes of length one drawn out."""
    tag = op.first
    lead = [other(size) for size in op.shape[: len(op.shape) - len(tag.axes)]]
    axes = [
        axis if axis.size == size else unknown(size) if axis.has(ROWS) else other(size)
        for axis, size in zip(tag.axes, op.shape[len(lead) :], strict=True)
    ]
    return Tag((*lead, *axes), tag.picked)


def repeated(op: Operation) -> Tag:
    """Axes repeated."""
    tag = op.first
    lead = [other(size) for size in op.shape[: len(op.shape) - len(tag.axes)]]
    axes = [
        axis if axis.size == size else unknown(size) if axis.positions or axis.has(ROWS) else other(size)
        for axis, size in zip(tag.axes, op.shape[len(lead) :], strict=True)
    ]
    return Tag((*lead, *axes), tag.picked)


def restrided(base: Tag, shape: Sequence[int], strides: Sequence[int]) -> Tag | None:
    """The tag of a view of all of a contiguous tensor; None where its axes are no runs of that tensor's axes.

    Its one axis of length one is taken for that of the sample.
    """
    if list(strides) == [math.prod(shape[i + 1 :]) for i in range(len(shape))]:
        return reshaped(base, shape) if math.prod(shape) == math.prod(base.shape) else None
    wholes = [math.prod(base.shape[i + 1 :]) for i in range(len(base.shape))]
    wide = [i for i, size in enumerate(base.shape) if size > 1]
    if list(shape).count(1) != 1 or any(axis.prefix or axis.suffix for axis in base.axes):
        return None
    axes: list[Axis] = []
    used: list[int] = []
    for size, stride in zip(shape, strides, strict=True):
        if size == 1:
            axes.append(Axis((Atom(ROWS, 1),)))
            continue
        run: list[int] = []
        for i in reversed(wide):
            if run or wholes[i] == stride:
                run.insert(0, i)
            if run and math.prod(base.shape[j] for j in run) >= size:
                break
        if math.prod(base.shape[j] for j in run) != size or not run:
            return None
        used += run
        axes.append(Axis(merged([atom for j in run for atom in base.axes[j].atoms if atom.of != ROWS])))
    return Tag(tuple(axes), base.picked) if sorted(used) == wide else None


# Operations that take parts, or put parts together


def _picked(op: Operation, tag: Tag, axis: int, start: int, stop: int, *, keep: bool, step: int = 1) -> Tag:
    old = tag.axes[axis]
    new = ranged(old, start, stop, step, op.extent)
    lost = old.positions and not new.positions
    if lost:
        inner = old.size - old.prefix - old.suffix
        inside = start < old.prefix + inner and stop > old.prefix
        op.uses[0] = "one" if inside and inner > 1 else "none"
    picked = tag.picked or (lost and op.uses[0] == "one")
    axes = (*tag.axes[:axis], *((new,) if keep else ()), *tag.axes[axis + 1 :])
    return Tag(axes, picked)


def selected(op: Operation) -> Tag:
    """One entry of an axis."""
    tag = op.first
    axis = op.saved("dim") % len(tag.axes)
    index = op.saved("index") % tag.axes[axis].size
    return _picked(op, tag, axis, index, index + 1, keep=False)


def sliced(op: Operation) -> Tag:
    """A range of an axis."""
    tag = op.first
    axis, step = op.saved("dim") % len(tag.axes), op.saved("step")
    size = tag.axes[axis].size
    start, stop, _ = slice(op.saved("start"), op.saved("end"), step).indices(size)
    return _picked(op, tag, axis, start, stop, keep=True, step=step)


def split(op: Operation) -> Tag:
    """One of several ranges of an axis."""
    tag = op.first
    axis = op.saved("dim") % len(tag.axes)
    if hasattr(op.node, "_saved_split_sizes"):
        sizes = op.saved("split_sizes")
        start = sum(sizes[: op.number])
    else:
        start = op.saved("split_size") * op.number
    return _picked(op, tag, axis, start, start + op.shape[axis], keep=True)


def unbound(op: Operation) -> Tag:
    """One of all entries of an axis."""
    tag = op.first
    return _picked(op, tag, op.saved("dim") % len(tag.axes), op.number, op.number + 1, keep=False)


def concatenated(op: Operation) -> Tag:
    """Tensors joined along an axis; beside positions the rest are tokens that are none."""
    axis = op.saved("dim") % max(1, len(op.shape))
    parts = [tag for tag in op.parts if len(tag.axes) == len(op.shape)]
    if not parts:
        return mystery(op.shape)
    rest = joined(
        [tag.replaced({axis: Axis()}) for tag in parts], [1 if i == axis else s for i, s in enumerate(op.shape)]
    )
    size, silent = op.shape[axis], sum(tag is None for tag in op.tags)
    along = [None if tag is None else tag.axes[axis] for tag in op.tags if tag is None or tag in parts]
    missing = size - sum(part.size for part in along if part is not None)
    places = [i for i, part in enumerate(along) if part is not None and part.positions]
    if not places:
        clear = not rest.picked and not any(part.unknown or part.has(ROWS) for part in along if part is not None)
        return rest.replaced({axis: other(size) if clear else unknown(size)})
    whole = along[places[0]]
    if len(places) > 1 or silent > 1 or whole is None or any(p is not None and p.unknown for p in along):
        return rest.replaced({axis: unknown(size)})
    before = sum(missing if part is None else part.size for part in along[: places[0]])
    behind = size - before - whole.size
    return rest.replaced({axis: whole.between(before + whole.prefix, behind + whole.suffix)})


def stacked(op: Operation) -> Tag:
    """Tensors joined along a new axis."""
    axis = op.saved("dim") % len(op.shape)
    rest = joined(op.parts, [s for i, s in enumerate(op.shape) if i != axis])
    size = op.shape[axis]
    new = unknown(size) if rest.picked else other(size)
    return Tag((*rest.axes[:axis], new, *rest.axes[axis:]), rest.picked)


def indexed(op: Operation) -> Tag:
    """Entries by index, along one axis that holds no positions; else nothing is known of them."""
    tag, indices = op.first, op.node._saved_indices if hasattr(op.node, "_saved_indices") else ()
    at = [i for i, index in enumerate(indices) if index is not None]
    if len(at) != 1 or indices[at[0]].ndim != 1 or tag.axes[at[0]].positions or tag.axes[at[0]].has(ROWS):
        return mystery(op.shape, any(part.picked or part.positions for part in op.parts))
    return tag.replaced({at[0]: other(op.shape[at[0]])})


def windowed(op: Operation) -> Tag:
    """Windows of an axis, each along a new last one."""
    tag = op.first
    axis, size, step = op.saved("dimension") % len(tag.axes), op.saved("size"), op.saved("step")
    old = tag.axes[axis]
    outer = resized(old, op.shape[axis], float(step))
    single = old.clean and len(old.atoms) == 1 and not (old.prefix or old.suffix)
    inner = Axis((old.atoms[0]._replace(size=size, whole=False),)) if single and size > 1 else other(size)
    return Tag((*tag.axes[:axis], outer, *tag.axes[axis + 1 :], inner), tag.picked)


def patched(op: Operation) -> Tag:
    """(N, C, H, W) -> (N, C * window, places)."""
    tag, options = op.first, [op.saved(n) for n in ("kernel_size", "dilation", "padding", "stride")]
    if len(tag.axes) != 4 or len(op.shape) != 3:
        return mystery(op.shape)
    counts = [
        (axis.size + 2 * p - d * (k - 1) - 1) // s + 1 for axis, k, d, p, s in zip(tag.axes[2:], *options, strict=True)
    ]
    places = [resized(axis, n, float(s)) for axis, n, s in zip(tag.axes[2:], counts, options[3], strict=True)]
    good = all(axis.positions or axis.size == 1 for axis in places) and math.prod(counts) == op.shape[2]
    tokens = Axis(tuple(atom for axis in places for atom in axis.atoms)) if good else unknown(op.shape[2])
    return Tag((tag.axes[0], other(op.shape[1]), tokens), tag.picked)


def folded(op: Operation) -> Tag:
    """(N, C * window, places) -> (N, C, H, W)."""
    tag = op.first
    if len(tag.axes) != 3 or len(op.shape) != 4 or not tag.axes[2].clean or len(tag.axes[2].atoms) != 2:
        return mystery(op.shape, tag.picked)
    places = [resized(Axis((atom,)), size) for atom, size in zip(tag.axes[2].atoms, op.shape[2:], strict=True)]
    return Tag((tag.axes[0], other(op.shape[1]), *places), tag.picked)
