"""How the positions of the input run through one pass: to which layers, and from which of them to the output."""

from __future__ import annotations

import heapq
import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from heatproof.probe.axes import Tag, constant, mystery, origin, other
from heatproof.probe.ends import Place, place
from heatproof.probe.operations import Operation, Use
from heatproof.probe.rules import rule

Flow = Literal["map", "one", "none"]
LEVELS: dict[Use, int] = {"read": 2, "one": 1, "none": 0}
FLOWS: tuple[Flow, ...] = ("none", "one", "map")


@dataclass(frozen=True, eq=False)
class Step:
    """One operation of the pass, followed.

    Attributes:
        name: of its node. tag: of its output. inputs, uses: where its inputs come from, and what it does with them.
        weighted: whether it multiplies by weights of the model. mixes: see `Operation`. order: when it ran; -1 for what
            does not depend on the input.
    """

    name: str
    tag: Tag
    inputs: tuple[Place | None, ...]
    uses: dict[int, Use]
    weighted: bool
    mixes: bool
    order: int


@dataclass(frozen=True)
class Fact:
    """What the operations say of one layer's output.

    Attributes:
        tag: its axes. flow: whether later operations look at all its positions, one or none; None where it does not
            reach the output. neck: whether all that the last reader of positions sees runs through it.
        projected: whether it is a linear map of what came before, and moves only. order: when it was computed.
        ahead: whether the last reader of positions depends on it. behind: whether it depends on that reader.
    """

    tag: Tag
    flow: Flow | None
    neck: bool
    projected: bool
    order: int
    ahead: bool
    behind: bool


@dataclass(frozen=True)
class Reader:
    """The last operation that reads positions together: a pooling, a dense layer or an attention.

    Attributes:
        mixes: whether it is an attention. order: when it ran. recurrent: whether it is a recurrent layer.
        anchor: when the last operation with weights before it ran. convolved: whether that is a convolution.
        pace: how many input positions one of its output covers along each axis that it has.
        beside: whether positions are read on other ways as well, of which it sees nothing.
    """

    mixes: bool
    order: int
    recurrent: bool = False
    anchor: int = 0
    convolved: bool = False
    pace: tuple[tuple[int, float], ...] = ()
    beside: bool = False


class Provenance:
    """The operations behind some tensors, followed from the input (1, C, *S) on.

    Args:
        x: the input. root: the class scores, or None. ends: where outputs of layers were computed.
        aliases: outputs of recurrent layers, with what went into them. added: the nodes at which a part of a tensor was
            only added to or scaled, as far as that was observed.
    """

    def __init__(
        self,
        x: Tensor,
        root: Tensor | None,
        ends: Sequence[Place],
        aliases: Sequence[tuple[Tensor, Tensor]] = (),
        added: Collection[Any] = (),
    ) -> None:
        self.added = added
        self.extent = tuple(x.shape[2:])
        self.steps: dict[Place, Step] = {}
        self.source: Place = (x.grad_fn, x.output_nr)
        self.aliases = {place(out): place(source) for out, source in aliases}
        top = place(root)
        self._walk(x, [*ends, *(() if top is None else (top,))])
        self.levels = self._levels(top)
        self.behind: set[Place] = set()
        self.reader, self.necks, self.ahead = self._last_reader()

    def fact(self, key: Place | None) -> Fact | None:
        """What is known of a tensor by its place; None where it cannot be followed."""
        if key is None or key not in self.steps:
            return None
        step, level = self.steps[key], self.levels.get(key)
        return Fact(
            step.tag, None if level is None else FLOWS[level], key in self.necks, self._projected(key), step.order,
            key in self.ahead, key in self.behind,
        )  # fmt: skip

    # Following

    def _walk(self, x: Tensor, ends: Sequence[Place]) -> None:
        stack: list[tuple[Place, bool]] = [(key, False) for key in ends]
        opened: set[Place] = set()
        while stack:
            key, ready = stack.pop()
            if key in self.steps:
                continue
            if ready or key == self.source:
                self.steps[key] = self._step(key, x)
                continue
            if key in opened:
                continue
            opened.add(key)
            stack.append((key, True))
            stack += [
                (source, False) for source in self._inputs(key) if source is not None and source not in self.steps
            ]

    def _inputs(self, key: Place) -> tuple[Place | None, ...]:
        if self.aliases.get(key) is not None:
            return (self.aliases[key],)
        if key == self.source:
            return ()
        return tuple(None if node is None else (node, number) for node, number in key[0].next_functions)

    def _step(self, key: Place, x: Tensor) -> Step:
        node, number = key
        name = type(node).__name__
        if key == self.source:
            return Step(name, origin(x.shape), (), {}, False, False, node._sequence_nr())
        if name == "AccumulateGrad":
            return Step(name, constant(tuple(node.variable.shape)), (), {}, False, False, -1)
        inputs = self._inputs(key)
        parts = [None if source is None else self.steps[source].tag for source in inputs]
        shape = _shape(node, number)
        if shape is None:
            return Step(name, mystery(()), inputs, {}, False, False, node._sequence_nr())
        if all(source is None or self.steps[source].order < 0 for source in inputs):
            return Step(name, constant(shape), inputs, {}, False, False, -1)
        op = Operation(node, parts, shape, number, self.extent, node not in self.added)
        tag = _recurrent(op) if self.aliases.get(key) is not None else _followed(op)
        uses = op.uses
        for i, part in enumerate(parts):
            if part is not None and i not in uses and (part.positions or any(axis.unknown for axis in part.axes)):
                uses[i] = "kept" if tag.positions and part.positions else "read"
        weights = [source for source in inputs if source is not None and self.steps[source].order < 0]
        many = self.aliases.get(key) is not None or (
            name.startswith(MULTIPLIED) and (bool(weights) or len([i for i in inputs if i is not None]) == 1)
        )
        return Step(name, tag, inputs, uses, many and not op.mixes, op.mixes, node._sequence_nr())

    # Reading

    def _levels(self, root: Place | None) -> dict[Place, int]:
        """For every tensor that reaches the output: 2 where all its positions are looked at, 1 where one, 0 none."""
        levels: dict[Place, int] = {}
        if root is None or root not in self.steps:
            return levels
        reached: set[Place] = {root}
        picks: dict[Place, set[int]] = {}  # the entries that are picked of a tensor
        levels[root] = 2
        for key in self._backwards():
            if key not in reached:
                continue
            step = self.steps[key]
            here = levels.get(key, 0)
            for i, source in enumerate(step.inputs):
                if source is None or source not in self.steps:
                    continue
                reached.add(source)
                use = step.uses.get(i)
                entries = picks.setdefault(source, set())
                if use == "kept":
                    entries |= picks.get(key, set())
                    level = 2 if len(entries) > 1 else here
                elif use == "spread":
                    level = 2 if here else 0
                else:
                    level = 0 if use is None else LEVELS[use]
                if use == "one":  # a loop over the positions picks them all
                    entries.add(_entry(key))
                    level = 2 if len(entries) > 1 else 1
                levels[source] = max(levels.get(source, 0), level)
        return levels

    def _backwards(self) -> Iterator[Place]:
        """All tensors, each before those that it was computed from."""
        yield from reversed(list(self.steps))

    def _last_reader(self) -> tuple[Reader | None, set[Place], set[Place]]:
        """The operation that reads positions together behind the most layers, the last of those.

        With the tensors that all it sees runs through.
        """
        place = {key: i for i, key in enumerate(self.steps)}
        deep: dict[Place, int] = {}  # operations with weights on the longest way to a tensor
        reads: list[tuple[int, int, int, Place]] = []
        for key, step in self.steps.items():
            before = max((deep[source] for source in step.inputs if source is not None), default=0)
            deep[key] = before + step.weighted
            if key in self.levels and any(
                use == "read" and (source := step.inputs[i]) is not None and _wide(self.steps[source].tag)
                for i, use in step.uses.items()
            ):
                reads.append((before, step.order, place[key], key))
        if not reads:
            return None, set(), set()
        last = max(reads, key=lambda read: read[:3])[3]
        step, self.behind = self.steps[last], {last}
        for key, later in self.steps.items():
            if any(source in self.behind for source in later.inputs):
                self.behind.add(key)
        necks: set[Place] = set()
        ahead: set[Place] = set()
        heap: list[tuple[int, int]] = []
        keys = list(self.steps)
        queued: set[Place] = set()

        def push(source: Place | None) -> None:
            if source is not None and source not in queued and _wide(self.steps[source].tag):
                queued.add(source)
                heapq.heappush(heap, (-place[source], place[source]))

        for i, use in step.uses.items():
            if use == "read":
                push(step.inputs[i])
        anchor: Step | None = None
        while heap:
            index = heapq.heappop(heap)[1]
            key = keys[index]
            ahead.add(key)
            if not heap:
                necks.add(key)
            here = self.steps[key]
            if anchor is None and here.weighted:
                anchor = here
            for i, use in here.uses.items():
                if use in ("kept", "spread"):
                    push(here.inputs[i])
        recurrent, beside = self.aliases.get(last) is not None, self._beside(last, [read[3] for read in reads])
        if anchor is None:
            return Reader(step.mixes, step.order, recurrent, beside=beside), necks, ahead
        convolved = "Convolution" in anchor.name
        return (
            Reader(step.mixes, step.order, recurrent, anchor.order, convolved, pace(anchor.tag), beside), necks, ahead
        )  # fmt: skip

    def _beside(self, last: Place, reads: Sequence[Place]) -> bool:
        """Whether something is read that the last reader does not depend on, nor it on that reader."""
        before, todo = {last}, [last]
        while todo:
            sources = [source for source in self.steps[todo.pop()].inputs if source is not None]
            todo += [source for source in sources if source not in before]
            before.update(sources)
        return any(
            use == "read" and (source := self.steps[key].inputs[i]) is not None
            and _wide(self.steps[source].tag) and source not in before
            for key in reads for i, use in self.steps[key].uses.items()
        )  # fmt: skip

    def _projected(self, key: Place) -> bool:
        """Whether only moves lie between it and a multiplication by weights."""
        for _ in range(8):
            step = self.steps[key]
            if step.weighted:
                return True
            moved = step.name.startswith(MOVES)
            added = step.name.startswith("Add") and sum(self._varies(source) for source in step.inputs) == 1
            sources = [source for source in step.inputs if self._varies(source)]
            if not (moved or added) or len(sources) != 1:
                return False
            key = sources[0]  # type: ignore[assignment]
        return False

    def _varies(self, source: Place | None) -> bool:
        return source is not None and self.steps[source].order >= 0


MULTIPLIED = ("Convolution", "Addmm", "Mm", "Bmm", "Baddbmm", "Mkldnn", "Cudnn", "Linear")
MOVES = ("View", "UnsafeView", "ReshapeAlias", "Permute", "Transpose", "Unbind", "Select", "Split", "Slice", "Squeeze",
         "Unsqueeze", "Clone", "Alias", "Expand", "T", "UnsafeSplit")  # fmt: skip


def sizes(tag: Tag) -> tuple[tuple[int, int], ...]:
    """The axes of positions in a tag with their sizes, in the order of the input."""
    return tuple(sorted((atom.of, atom.size) for axis in tag.axes for atom in axis.atoms if atom.of >= 0))


def pace(tag: Tag) -> tuple[tuple[int, float], ...]:
    """How many positions of the input one step covers, along each axis of positions in a tag."""
    return tuple(sorted((atom.of, round(atom.stride, 3)) for axis in tag.axes for atom in axis.atoms if atom.of >= 0))


def alike(one: tuple[tuple[int, float], ...], other: tuple[tuple[int, float], ...]) -> bool:
    """Whether two paces are those of the same stage of a network, up to padding."""
    same = [a for a, _ in one] == [a for a, _ in other]
    return same and all(2 * s < 3 * t and 2 * t < 3 * s for (_, s), (_, t) in zip(one, other, strict=True))


def _wide(tag: Tag) -> bool:
    return math.prod(size for _, size in sizes(tag)) > 1


def _followed(op: Operation) -> Tag:
    """The tag by the rule of the operation; of nothing known where there is none, or it does not fit."""
    apply = rule(type(op.node).__name__)
    if apply is None or not any(tag is not None for tag in op.tags):
        return mystery(op.shape, any(tag.picked for tag in op.parts))
    try:
        tag = apply(op)
    except (IndexError, ValueError, AttributeError, TypeError, ZeroDivisionError, RuntimeError):
        op.uses.clear()
        return mystery(op.shape)
    return tag if tag.shape == op.shape else mystery(op.shape, tag.picked)


def _recurrent(op: Operation) -> Tag:
    """A recurrent layer keeps all axes but the last."""
    tag = op.first
    op.uses[0] = "read"
    if len(tag.axes) != len(op.shape) or tag.shape[:-1] != op.shape[:-1]:
        return mystery(op.shape)
    return Tag((*tag.axes[:-1], other(op.shape[-1])), tag.picked)


def _entry(key: Place) -> int:
    """Which entry of an axis an operation picks."""
    node, number = key
    for name in ("_saved_index", "_saved_start"):
        if hasattr(node, name):
            return int(getattr(node, name))
    return number


def _shape(node: Any, number: int) -> tuple[int, ...] | None:
    metadata = getattr(node, "_input_metadata", None)
    return None if metadata is None or number >= len(metadata) else tuple(metadata[number].shape)
