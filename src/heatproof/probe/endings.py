"""The operation that made a tensor, observed in the pass itself: a softmax, a sigmoid, or the logarithm of either.

An operation is recognised in every form that torch offers (module, function, method, in place, ``out=``, exported), and
its trace follows the tensor through what only reshapes, copies or casts it. Scripted code cannot be observed.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from heatproof.probe.functions import (
    ADDED,
    CLAMPS,
    COPIES,
    DIVISIONS,
    EXPONENTIALS,
    GATES,
    INVERSIONS,
    JOINTS,
    LINEAR,
    LOGARITHMS,
    OPERATIONS,
    PASSING,
    PRODUCTS,
    SHAPES,
    SLACK,
    Operation,
    cuts,
    is_whole,
    memory,
    named,
    operands,
)

Bounds = Literal["open", "bounded", "unknown", "raw"]
Step = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Ending:
    """What made a tensor.

    Attributes:
        operation: what was applied last, but for steps that only reshape. before: what went into it.
        axis: that of a softmax, from the front; -1 for a sigmoid.
        number: which operation of its kind it was in the pass, from 1. steps: how to shape ``before`` like the tensor.
        version: of ``before`` at that time, None where there is none.
        parts: what made each of several tensors side by side, which were put together by ``joint``.
        rowwise: whether the samples of a batch were put together one by one.
    """

    operation: Operation
    before: Tensor
    axis: int
    number: int
    steps: tuple[Step, ...] = ()
    version: int | None = None
    parts: tuple[Ending, ...] = ()
    joint: Callable[[list[Tensor]], Tensor] | None = None
    rowwise: bool = False

    def replayed(self, tensor: Tensor | None = None) -> Tensor | None:
        """``before``, or a tensor in its place, in the shape of the output; None where it was written over since."""
        if tensor is None:
            if self.version is not None and self.before._version != self.version:
                return None
            tensor = self.before
        for step in self.steps:
            tensor = step(tensor)
        return tensor

    @property
    def lone(self) -> bool:
        """Whether a softmax was taken over a single number, which makes it one whatever that number is."""
        return self.axis >= 0 and (self.before.ndim == 0 or self.before.shape[self.axis] == 1)

    def is_second(self) -> bool:
        """Whether a softmax of two was cut down to the second probability."""
        if self.parts or self.before.shape[self.axis] != 2:
            return False
        numbers = torch.zeros_like(self.before)
        numbers.select(self.axis, 1).fill_(1)
        left = self.replayed(numbers)
        return left is not None and bool((left == 1).all())

    def spans(self) -> bool:
        """Whether the columns of the output are those that a softmax was taken over, each once, of one sample."""
        if self.parts or self.axis < 0 or self.before.ndim == 0:
            return False
        size, shape = self.before.shape[self.axis], list(self.before.shape)
        shape[self.axis] = 1
        places = torch.arange(self.before.numel(), dtype=torch.float32, device=self.before.device)
        columns, rows = places[:size], places[: len(places) // size].reshape(shape).expand_as(self.before)
        left = self.replayed(columns.reshape([-1 if axis == self.axis else 1 for axis in range(len(shape))]) + 0 * rows)
        others = self.replayed(rows)
        if left is None or others is None or left.numel() != size:
            return False
        whole = torch.equal(left.abs().flatten().sort().values.to(columns), columns)
        return whole and bool((others == others.flatten()[0]).all())

    def is_pair(self) -> bool:
        """Whether the output is one sigmoid and what it lacks of one, side by side."""
        if len(self.parts) != 2 or self.parts[0].before is not self.parts[1].before:
            return False
        numbers = torch.arange(1, self.parts[0].before.numel() + 1, device=self.before.device)
        left, right = (part.replayed(numbers.reshape(part.before.shape)) for part in self.parts)
        return left is not None and right is not None and left.numel() == 1 and torch.equal(left, -right)

    def odds(self) -> Tensor | None:
        """The logit of each probability of a softmax of two, in the shape of the output; None for any other."""
        if self.parts and self.joint is not None:
            odds = [part.odds() for part in self.parts]
            whole = [z for z in odds if z is not None]
            return self.replayed(self.joint(whole)) if len(whole) == len(odds) else None
        if self.operation not in ("softmax", "log-softmax") or self.before.shape[self.axis] != 2:
            return None
        z = self.before
        return self.replayed(z - z.flip(self.axis))


class EndingWatch(TorchFunctionMode):
    """Remembers what made the tensors of a pass, as far as that was a softmax, a sigmoid or the logarithm of either.

    Args:
        keep: how many of these operations to remember, the last ones; None for all.
    """

    def __init__(self, keep: int | None = None) -> None:
        super().__init__()
        self.keep = keep
        self.count = 0
        self._endings: dict[int, tuple[weakref.ref[Tensor], Ending, int | None]] = {}

    def of(self, tensor: Any) -> Ending | None:
        """What made this very tensor; None where it was written over since."""
        place, ending, version = self._endings.get(id(tensor), (None, None, None))
        held = None if place is None else place()
        return ending if held is not None and held is tensor and version == _version(held) else None

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name, within = named(func)
        if name in OPERATIONS:
            return self._operation(OPERATIONS[name], name, within, func, args, kwargs)
        source = args[0] if args else kwargs.get("input", kwargs.get("tensors"))
        if isinstance(source, (tuple, list)):
            source = source[0] if len(source) == 1 else None
        ending = self.of(source) if self._endings else None
        out = func(*args, **kwargs)
        if self._endings and name not in SHAPES:
            self._overwritten(name, within, args, kwargs, out)
        if name in JOINTS and self._endings and isinstance(out, Tensor) and source is None:
            self._join(out, func, args, kwargs)
        elif name in ("copy", "setitem") and args:
            self._copied(name, args)
        elif ending is not None:
            self._follow(name, ending, func, args, kwargs, out)
        elif out is not None and id(out) in self._endings:
            self._endings.pop(id(out), None)
        return out

    def _operation(
        self, operation: Operation, name: str, within: bool, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        source = args[0] if args else kwargs.get("input", kwargs.get("self"))
        if not isinstance(source, Tensor):
            return func(*args, **kwargs)
        over = within or kwargs.get("out") is source
        before = source.clone() if over else source
        out = func(*args, **kwargs)
        if isinstance(out, tuple):
            out, whole = out[0], out
        else:
            whole = out
        if self._endings:
            self._overwritten(name, within, args, kwargs, out)
        self.count += 1
        axis = -1
        if operation in ("softmax", "log-softmax"):
            dim = args[1] if len(args) > 1 else kwargs.get("dim")
            axis = (0 if source.ndim in (0, 1, 3) else 1) if dim is None else dim % max(1, source.ndim)
        ending = Ending(operation, before, axis, self.count, version=_version(before))
        self._keep(out, replace(ending, steps=(torch.neg,)) if name == "softmin" else ending)
        return whole

    def _keep(self, out: Any, ending: Ending) -> None:
        if not isinstance(out, Tensor):
            return
        self._endings[id(out)] = weakref.ref(out), ending, _version(out)
        if self.keep is not None:
            oldest = self.count - self.keep
            for key in [key for key, (_, other, _) in self._endings.items() if other.number <= oldest]:
                del self._endings[key]

    def _overwritten(self, name: str, within: bool, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
        """Forgets the endings of all tensors that share memory with one that was written into, views too."""
        first = args[0] if args else kwargs.get("input", kwargs.get("self"))
        targets = operands((kwargs.get("out"), first if within or (out is first and name not in COPIES) else None))
        places = {place for target in targets if (place := memory(target)) is not None}
        if places:
            for key, (place, _, _) in list(self._endings.items()):
                tensor = place()
                if tensor is None or memory(tensor) in places:
                    del self._endings[key]

    def _join(self, out: Tensor, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """The same operation side by side is one of what went into each: of several labels, or sample by sample."""
        tensors = args[0] if args else kwargs.get("tensors", ())
        parts = tuple(ending for tensor in tensors if (ending := self.of(tensor)) is not None)
        before = [z for part in parts if (z := part.replayed()) is not None]
        if len(before) != len(tensors) or len({part.operation for part in parts}) != 1:
            return
        options = {name: value for name, value in kwargs.items() if name not in ("tensors", "out")}

        def joint(columns: list[Tensor]) -> Tensor:
            whole: Tensor = func(columns, *args[1:], **options)
            return whole

        together, number = joint(before), min(part.number for part in parts)
        ending = Ending(parts[0].operation, together, -1, number, version=_version(together), parts=parts, joint=joint)
        self._keep(out, ending)

    def _copied(self, name: str, args: tuple[Any, ...]) -> None:
        """A tensor written over with another: it is what the other is where all of it was."""
        target, source = args[0], args[-1]
        ending = self.of(source)
        whole = name == "copy" or (len(args) == 3 and is_whole(args[1]))
        if ending is not None and whole and target.shape == source.shape:
            self._keep(target, ending)
        else:
            self._endings.pop(id(target), None)

    def _follow(
        self,
        name: str,
        ending: Ending,
        func: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        out: Any,
    ) -> None:
        if name == "log" and ending.operation in LOGARITHMS:
            self._keep(out, replace(ending, operation=LOGARITHMS[ending.operation]))
        elif name == "exp" and ending.operation in EXPONENTIALS:
            self._keep(out, replace(ending, operation=EXPONENTIALS[ending.operation]))
        elif name in INVERSIONS and ending.operation == "sigmoid" and args[1:] in ((1,), (1.0,)) and not kwargs:
            self._keep(out, replace(ending, steps=(*ending.steps, torch.neg)))
        elif name in COPIES and not (name in CLAMPS and cuts(name, ending.operation, args, kwargs)):
            if isinstance(out, Tensor):
                device = out.device
                moved = device != ending.before.device
                steps = (*ending.steps, lambda z: z.to(device)) if moved else ending.steps
                self._keep(out, replace(ending, steps=steps))
        elif name in SHAPES:
            parts = out if isinstance(out, (tuple, list)) else (out,)
            for i, part in enumerate(parts):
                step = _step(func, args, kwargs, i if parts is out else None)
                rowwise = ending.rowwise or (name in JOINTS and (*args[1:], *kwargs.values())[:1] in ((), (0,)))
                self._keep(part, replace(ending, steps=(*ending.steps, step), rowwise=rowwise))
        elif isinstance(out, Tensor):
            self._endings.pop(id(out), None)


def _step(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], part: int | None) -> Step:
    """The same change of shape for another tensor."""
    rest = args[1:] if args else ()
    options = {name: value for name, value in kwargs.items() if name not in ("input", "tensors", "out")}
    first = args[0] if args else kwargs.get("input", kwargs.get("tensors"))

    def step(z: Tensor) -> Tensor:
        z = z.clone() if named(func)[1] else z
        out: Any = func([z] if isinstance(first, (tuple, list)) else z, *rest, **options)
        chosen: Tensor = out if part is None else out[part]
        return chosen

    return step


def _version(tensor: Tensor) -> int | None:
    return None if tensor.is_inference() else tensor._version


class Range(NamedTuple):
    """What operations say of the values of a tensor.

    Attributes:
        bounds: ``open`` where they may be anything; ``bounded`` where a softmax or sigmoid went in and nothing open;
            ``raw`` where they are the input or whole numbers, as they were; else ``unknown``.
        data: whether they depend on the input. version: of the tensor at that time.
    """

    place: weakref.ref[Tensor]
    bounds: Bounds
    data: bool
    version: int | None


class Observation(EndingWatch):
    """Remembers, besides, the range of tensors, as far as operations show it.

    A linear operation on open values leaves it open, and much of what follows keeps it so. Arithmetic with a softmax or
    sigmoid has bounds, and weights may keep them: a mean is linear. Of that, of a hand-written softmax and of a clipped
    output nothing is known here; their numbers must tell.

    Attributes:
        added: the nodes of the gradient graph at which a part of a tensor was added to or scaled in place.
    """

    def __init__(self) -> None:
        super().__init__()
        self.added: set[Any] = set()
        self._ranges: dict[int, Range] = {}

    def bounds(self, tensor: Any) -> Bounds:
        """What the operations that made this very tensor say of the range of its values."""
        seen = self._range(tensor) if id(tensor) in self._ranges else None
        return "unknown" if seen is None or seen.bounds == "raw" else seen.bounds

    def _range(self, tensor: Tensor) -> Range | None:
        """The range of a tensor; None of a weight or constant that no operation made."""
        held = self._ranges.get(id(tensor))
        same = held is not None and held.place() is tensor
        if held is not None and same and held.version == _version(tensor):
            return held
        if not same and tensor.grad_fn is None:
            return None
        bounds: Bounds = "raw" if not same and type(tensor.grad_fn).__name__ == "CloneBackward0" else "unknown"
        return Range(weakref.ref(tensor), bounds, True, _version(tensor))

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name, within = named(func)
        values = operands((*args, *(kwargs or {}).values()))
        sources = [(t, seen) for t in values if (seen := self._range(t)) is not None]
        data = any(seen.data for _, seen in sources)
        sources = [(t, seen) for t, seen in sources if seen.data] or sources
        bounds: Bounds = "bounded" if name in GATES else "unknown"
        if name in PASSING:
            bounds = self._passed(name, args, kwargs or {}, sources)
        if self._endings or name in OPERATIONS:
            out = super().__torch_function__(func, types, args, kwargs)
        else:
            out = func(*args, **(kwargs or {}))
        if name in LINEAR and isinstance(out, Tensor):
            bounds = self._mixed(sources, out)
        for part in operands((out,)):
            whole = not part.is_floating_point() and not part.is_complex() and part.dtype is not torch.bool
            self._ranges[id(part)] = Range(weakref.ref(part), "raw" if whole else bounds, data, _version(part))
        if name == "setitem":
            self._ranges[id(args[0])] = Range(weakref.ref(args[0]), "unknown", True, _version(args[0]))
        if within and (name in ADDED or (name == "setitem" and values[-1:] and memory(args[0]) == memory(values[-1]))):
            self.added.add((args[0] if args[0]._base is None else args[0]._base).grad_fn)  # h[:, 1:] += g does both
        return out

    def _passed(
        self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], sources: list[tuple[Tensor, Range]]
    ) -> Bounds:
        """What becomes of the range: a gate puts no bounds on open values, a divisor made of them may."""
        if len(sources) > 1:  # a number beside others is a scale or an offset
            sources = [(t, seen) for t, seen in sources if t.numel() != 1 or t.ndim > 1] or sources
        ranges: set[Bounds] = {self._limits(t, seen) for t, seen in sources}
        divisor = args[1] if len(args) > 1 else kwargs.get("other")
        if name in DIVISIONS and any(t is divisor for t, _ in sources):
            return "unknown"
        if name in PRODUCTS and ranges & {"unknown", "raw"}:
            return "unknown"
        if ranges == {"raw"}:
            return "raw" if name in SHAPES or name in COPIES else "unknown"
        return "open" if "open" in ranges else "bounded" if "bounded" in ranges else "unknown"

    def _mixed(self, sources: list[tuple[Tensor, Range]], out: Tensor) -> Bounds:
        """The range of a linear operation: open where open values go in, or where negative ones show that it is."""
        limits = [(t, self._limits(t, seen)) for t, seen in sources]
        ranges = {bounds for _, bounds in limits}
        if not ranges or "open" in ranges or ranges == {"raw"}:
            return "open"
        negative = _is_negative(out) or any(_is_negative(t) for t, bounds in limits if bounds == "unknown")
        return "open" if negative else "unknown"

    def _limits(self, tensor: Tensor, seen: Range) -> Bounds:
        return "bounded" if self.of(tensor) is not None else seen.bounds


def _is_negative(tensor: Tensor) -> bool:
    """Whether some values of a tensor are below zero, by more than rounding; those of a transform cannot be asked."""
    try:
        return not tensor.is_floating_point() or bool((tensor < -SLACK).any())
    except (RuntimeError, TypeError):
        return True
