"""Where the axes of a tensor come from: rows of the batch, positions of the input, or something else.

An axis is a product of atoms, the first the slowest, with tokens that are no positions before and behind it. Whatever
cannot be followed is unknown, never guessed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from heatproof.probe.layout import ROWS, Layout

OTHER, UNKNOWN = -2, -3
MOST_LOST = 0.75  # the least share of an axis that still stands for the whole input
ASIDE = 0.05  # of it, by which a part may lie aside of its middle
BEYOND = 1.15  # the longest axis, in those of the input, that still stands for it


class Atom(NamedTuple):
    """A factor of an axis: of which input axis (or ROWS, OTHER, UNKNOWN), its size, how many input positions a step
    covers, whether it covers the whole input axis, and by how many input positions it was rolled.
    """

    of: int
    size: int
    stride: float = 1.0
    whole: bool = True
    rolled: float = 0.0


class Axis:
    """An axis of a tensor, never changed.

    Attributes:
        atoms: its factors. prefix, suffix: how many entries before and behind them are no positions.
        size: its length. positions: whether positions of the input are among its atoms.
    """

    __slots__ = ("atoms", "positions", "prefix", "size", "suffix")

    def __init__(self, atoms: tuple[Atom, ...] = (), prefix: int = 0, suffix: int = 0) -> None:
        self.atoms, self.prefix, self.suffix = atoms, prefix, suffix
        size, positions = 1, False
        for atom in atoms:
            size *= atom[1]
            positions = positions or atom[0] >= 0
        self.size, self.positions = size + prefix + suffix, positions

    def __eq__(self, axis: object) -> bool:
        return self is axis or (
            isinstance(axis, Axis) and (self.atoms, self.prefix, self.suffix) == (axis.atoms, axis.prefix, axis.suffix)
        )

    def __hash__(self) -> int:
        return hash((self.atoms, self.prefix, self.suffix))

    @property
    def clean(self) -> bool:
        """Whether it holds whole input axes and nothing else, apart from prefix and suffix."""
        return bool(self.atoms) and all(atom.of >= 0 and atom.whole for atom in self.atoms)

    @property
    def unknown(self) -> bool:
        """Whether it is not known what it holds."""
        return any(atom.of == UNKNOWN for atom in self.atoms)

    def has(self, of: int) -> bool:
        """Whether it holds such an atom."""
        return any(atom.of == of for atom in self.atoms)

    def of(self, atoms: tuple[Atom, ...]) -> Axis:
        """The axis with other atoms."""
        return Axis(atoms, self.prefix, self.suffix)

    def between(self, prefix: int, suffix: int) -> Axis:
        """The axis with other entries before and behind."""
        return Axis(self.atoms, prefix, suffix)


class Tag:
    """The axes of a tensor, never changed.

    Attributes:
        axes: one after another. picked: whether single positions were picked on the way to it.
        shape: of the tensor. positions: whether positions of the input are among its axes.
    """

    __slots__ = ("axes", "picked", "positions", "shape")

    def __init__(self, axes: tuple[Axis, ...], picked: bool = False) -> None:
        self.axes, self.picked = axes, picked
        self.shape = tuple([axis.size for axis in axes])
        self.positions = True in [axis.positions for axis in axes]

    def replaced(self, changes: dict[int, Axis]) -> Tag:
        """The tag with other axes in some places."""
        return Tag(tuple([changes.get(i, axis) for i, axis in enumerate(self.axes)]), self.picked)


@lru_cache(maxsize=4096)
def other(size: int) -> Axis:
    """An axis that holds no positions."""
    return Axis((Atom(OTHER, size),) if size != 1 else ())


def unknown(size: int) -> Axis:
    """An axis of which nothing is known."""
    return Axis((Atom(UNKNOWN, size),) if size != 1 else ())


@lru_cache(maxsize=4096)
def constant(shape: tuple[int, ...]) -> Tag:
    """The tag of a parameter."""
    return Tag(tuple(map(other, shape)))


def mystery(shape: Sequence[int], picked: bool = False) -> Tag:
    """The tag of a tensor of which nothing is known."""
    return Tag(tuple(map(unknown, shape)), picked)


def origin(shape: Sequence[int]) -> Tag:
    """The tag of the input (1, C, *S)."""
    places = (Axis((Atom(axis, size),) if size != 1 else ()) for axis, size in enumerate(shape[2:]))
    return Tag((Axis((Atom(ROWS, 1),)), other(shape[1]), *places))


def resized(axis: Axis, size: int, factor: float | None = None) -> Axis:
    """An axis after an operation that keeps the order of its entries but not their number.

    Args:
        factor: how many entries one step now covers; None where the ends stay where they were.
    """
    if axis.size == size and factor in (None, 1.0):
        return axis
    if axis.prefix or axis.suffix or len(axis.atoms) > 1 or axis.unknown or axis.has(ROWS):
        return unknown(size)
    if not axis.atoms or axis.atoms[0].of == OTHER or size == 1:
        return other(size)
    (atom,) = axis.atoms
    stride = atom.stride * (atom.size / size if factor is None else factor)
    return Axis((atom._replace(size=size, stride=stride),))


def ranged(axis: Axis, start: int, stop: int, step: int, extent: Sequence[int]) -> Axis:
    """A range of an axis."""
    size = max(0, -(-(stop - start) // step))
    if size == axis.size and step == 1:
        return axis
    inner = axis.size - axis.prefix - axis.suffix
    low, high = max(start, axis.prefix), min(stop, axis.prefix + inner)
    if not axis.positions or high <= low:
        lost = axis.unknown or axis.has(ROWS)
        return unknown(size) if lost else other(size)
    if step != 1 and (axis.prefix or axis.suffix):
        return unknown(size)
    prefix, suffix = max(0, axis.prefix - start), max(0, stop - axis.prefix - inner)
    kept = -(-(high - low) // step)
    if kept == inner:
        return axis.between(prefix, suffix)
    if len(axis.atoms) > 1:
        return unknown(size)
    (atom,) = axis.atoms
    span = min(extent[atom.of], atom.size * atom.stride)
    excess = atom.size * atom.stride - span  # padding, which may be cut off at either end
    aside = abs((low - axis.prefix) - (axis.prefix + inner - high)) * atom.stride - excess
    straight = aside / 2 <= max(1.5 * atom.stride, ASIDE * span)
    whole = atom.whole and straight and kept * step * atom.stride >= MOST_LOST * span
    return Axis((atom._replace(size=kept, stride=atom.stride * step, whole=whole),) if kept > 1 else (), prefix, suffix)


def joined(parts: Sequence[Tag], shape: Sequence[int]) -> Tag:
    """The tag of what an elementwise operation makes of tensors that are broadcast to a shape."""
    first = parts[0]
    if first.shape == tuple(shape) and all(part is first or not part.axes for part in parts):
        return first
    picked = any(part.picked for part in parts)
    axes = []
    for back in range(len(shape), 0, -1):
        here = [part.axes[-back] for part in parts if len(part.axes) >= back]
        axes.append(_meet(here, shape[-back]))
    return Tag(tuple(axes), picked)


def _meet(axes: Sequence[Axis], size: int) -> Axis:
    met: Axis | None = None
    for axis in axes:
        if axis.size != size:
            if axis.has(ROWS):
                return unknown(size)
            continue
        met = axis if met is None else _pair(met, axis, size)
    return unknown(size) if met is None else met


def _pair(a: Axis, b: Axis, size: int) -> Axis:
    if a is b or a == b or size == 1:
        return a if a.atoms else b
    if a.positions and b.positions:
        ends = (a.prefix, a.suffix) == (b.prefix, b.suffix)
        same = ends and [(m.of, m.size, m.rolled) for m in a.atoms] == [(m.of, m.size, m.rolled) for m in b.atoms]
        if same:
            return a if all(m.whole for m in a.atoms) else b
        return a if a.clean and not b.clean else b if b.clean and not a.clean else unknown(size)
    if a.positions or b.positions:
        return a if a.positions else b
    if a.has(ROWS) or b.has(ROWS):
        return a if a.has(ROWS) else b
    return a if a.unknown else b


def merged(atoms: Sequence[Atom]) -> tuple[Atom, ...]:
    """Atoms with neighbours put together that are the coarse and the fine part of one input axis."""
    parts: list[Atom] = []
    for atom in atoms:
        last = parts[-1] if parts else None
        if last is not None and last.of == atom.of and last.rolled == atom.rolled and last.of != ROWS:
            if atom.of in (OTHER, UNKNOWN):
                parts[-1] = last._replace(size=last.size * atom.size)
                continue
            if math.isclose(last.stride, atom.size * atom.stride, rel_tol=1e-6):
                parts[-1] = last._replace(size=last.size * atom.size, stride=atom.stride)
                continue
        parts.append(atom)
    return tuple(parts)


@dataclass
class _Flow:
    """Hands out the atoms of some axes, in their order, to axes of other sizes."""

    atoms: list[Atom]

    def take(self, size: int) -> tuple[Atom, ...] | None:
        """Atoms for an axis of this size; None where they cannot be divided so."""
        taken: list[Atom] = []
        while size > 1:
            if not self.atoms:
                return None
            atom = self.atoms.pop(0)
            if size % atom.size == 0:
                taken.append(atom)
                size //= atom.size
            elif atom.size % size == 0:
                inner = atom.size // size
                taken.append(atom._replace(size=size, stride=atom.stride * inner))
                self.atoms.insert(0, atom._replace(size=inner, whole=False))
                size = 1
            else:
                return None
        return merged(taken)


def reshaped(tag: Tag, shape: Sequence[int]) -> Tag:
    """The tag after a reshape: axes that merge, split, or stay; the row of the sample stays where it is in order."""
    axes: list[Axis] = []
    old = list(tag.axes)
    place, target = 0, 0
    while target < len(shape):
        if shape[target] == 1:
            axes.append(Axis())
            target += 1
            continue
        group, count, size = [], 1, 1
        sizes: list[int] = []
        while not sizes or count != size:
            if count <= size and place < len(old):
                if old[place].size != 1:
                    group.append(old[place])
                    count *= old[place].size
                place += 1
            elif target < len(shape):
                sizes.append(shape[target])
                size *= shape[target]
                target += 1
            else:
                return mystery(shape, tag.picked)
        axes += _divided(group, sizes)
    return Tag(_with_rows(tag, axes, shape), tag.picked)


def _divided(group: Sequence[Axis], sizes: Sequence[int]) -> list[Axis]:
    solid = [size for size in sizes if size != 1]
    if any(axis.prefix or axis.suffix for axis in group):
        if len(group) == len(solid) == 1:
            atoms = tuple(atom for atom in group[0].atoms if atom.of != ROWS)
            return [group[0].of(atoms) if size != 1 else Axis() for size in sizes]
        return [unknown(size) for size in sizes]
    flow = _Flow([atom for axis in group for atom in axis.atoms if atom.of != ROWS])
    parts = [flow.take(size) for size in sizes]
    if any(part is None for part in parts):
        return [unknown(size) for size in sizes]
    return [Axis(part or ()) for part in parts]


def _with_rows(tag: Tag, axes: list[Axis], shape: Sequence[int]) -> tuple[Axis, ...]:
    """Puts the row of the sample back, behind as many entries as lay before it."""
    lead = next((i for i, axis in enumerate(tag.axes) if axis.has(ROWS)), None)
    if lead is None or not shape:
        return tuple(axes)
    before = math.prod(axis.size for axis in tag.axes[:lead])
    for atom in tag.axes[lead].atoms:
        if atom.of == ROWS:
            break
        before *= atom.size
    index, count = 0, 1
    while index < len(shape) - 1 and count * shape[index] <= before and count < before:
        count *= shape[index]
        index += 1
    atoms, place = axes[index].atoms, 0
    while count < before and place < len(atoms):
        count *= atoms[place].size
        place += 1
    if count != before:
        return tuple(map(unknown, shape))
    axes[index] = axes[index].of((*atoms[:place], Atom(ROWS, 1), *atoms[place:]))
    return tuple(axes)


def _is_padded(atom: Atom, extent: Sequence[int]) -> bool:
    """Whether much of an axis lies beyond the input."""
    return atom.of >= 0 and atom.size * atom.stride > BEYOND * extent[atom.of] + 1.5 * atom.stride


@dataclass(frozen=True)
class Reading:
    """What a tag says of a layer's output: its layout, or why it has none.

    Attributes:
        layout: how to read it, or None. certain: whether the operations settle it. merged: whether its rows are
            more than samples.
    """

    layout: Layout | None
    certain: bool = True
    merged: bool = False


def reading(tag: Tag, extent: Sequence[int]) -> Reading:
    """How a tensor with this tag is read as channels and positions."""
    rows = [i for i, axis in enumerate(tag.axes) if axis.has(ROWS)]
    if len(rows) != 1:
        return Reading(None, certain=not rows and not any(axis.unknown for axis in tag.axes))
    if tag.axes[rows[0]] != Axis((Atom(ROWS, 1),)):
        return Reading(None, merged=True)
    places: list[tuple[int, ...]] = []
    grid: dict[int, int] = {}
    certain, prefix, suffix = True, 0, 0
    parts: set[int] = set()
    for axis in tag.axes:
        if axis.has(ROWS):
            places.append((ROWS,))
            continue
        if not axis.positions:
            places.append(())
            continue
        if not axis.clean:
            if axis.unknown or any(atom.of >= 0 and atom.whole for atom in axis.atoms):
                return Reading(None, certain=not axis.unknown)
            parts |= {atom.of for atom in axis.atoms if atom.of >= 0}  # what lies within a window or patch
            places.append(())
            continue
        if any(atom.rolled or _is_padded(atom, extent) for atom in axis.atoms):
            return Reading(None, certain=False)
        of = [atom.of for atom in axis.atoms]
        if len(set(of)) != len(of) or grid.keys() & set(of):
            return Reading(None, certain=len(set(of)) == len(of))
        prefix, suffix = (axis.prefix, axis.suffix) if axis.prefix or axis.suffix else (prefix, suffix)
        grid.update((atom.of, atom.size) for atom in axis.atoms)
        places.append(tuple(of))
    expected = {a for a, size in enumerate(extent) if size > 1}
    if not expected <= grid.keys() and (parts - grid.keys() or any(axis.unknown for axis in tag.axes)):
        certain = False
    held = [i for i, place in enumerate(places) if place and place != (ROWS,)]
    if len(held) == 1 and list(places[held[0]]) == sorted(places[held[0]]):
        places[held[0]] = tuple(range(len(extent)))  # axes of which one position is left lie there too
    several = len(held) > 1
    if not grid or not certain or ((prefix or suffix) and several):
        return Reading(None, certain=certain)
    return Reading(Layout.of(places, tuple(grid.get(a, 1) for a in range(len(extent))), prefix, suffix))
