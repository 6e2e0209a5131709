"""The operation that made a tensor, observed in the pass itself: a softmax, a sigmoid, or the logarithm of either.

An operation is recognised in every form that torch offers (module, function, method, in place, ``out=``, exported), and
its trace follows the tensor through what only reshapes, copies or casts it. Scripted code cannot be observed.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

Operation = Literal["softmax", "log-softmax", "sigmoid", "log-sigmoid"]
Bounds = Literal["open", "bounded", "unknown"]
Step = Callable[[Tensor], Tensor]

OPERATIONS: dict[str, Operation] = {
    "softmax": "softmax", "_softmax": "softmax", "softmin": "softmax", "log_softmax": "log-softmax",
    "_log_softmax": "log-softmax", "sigmoid": "sigmoid", "expit": "sigmoid", "logsigmoid": "log-sigmoid",
    "log_sigmoid": "log-sigmoid",
}  # fmt: skip
LOGARITHMS: dict[Operation, Operation] = {"softmax": "log-softmax", "sigmoid": "log-sigmoid"}
EXPONENTIALS: dict[Operation, Operation] = {"log-softmax": "softmax", "log-sigmoid": "sigmoid"}
SHAPES = {
    "flatten", "squeeze", "unsqueeze", "view", "_unsafe_view", "reshape", "view_as", "reshape_as", "expand",
    "expand_as", "clone", "contiguous", "detach", "alias", "data", "T", "mT", "transpose", "permute", "movedim",
    "moveaxis", "swapaxes", "swapdims", "t", "getitem", "select", "narrow", "slice", "index_select", "unflatten",
    "chunk", "split", "split_with_sizes", "unbind", "atleast_2d", "atleast_1d", "adjoint", "positive", "real",
    "requires_grad", "tensor_split", "ravel", "cat", "concat", "concatenate", "stack", "repeat", "tile",
}  # fmt: skip
COPIES = {
    "to", "float", "double", "half", "bfloat16", "type", "type_as", "cpu", "cuda", "dropout", "alpha_dropout",
    "feature_dropout", "feature_alpha_dropout", "dropout1d", "dropout2d", "dropout3d", "native_dropout", "clamp",
    "clip", "clamp_min", "clamp_max", "nan_to_num", "_to_copy",
}  # fmt: skip
JOINTS = {"cat", "concat", "concatenate", "stack", "hstack", "column_stack"}
INVERSIONS = {"rsub"}
DIVISIONS = {"div", "truediv", "itruediv", "divide", "true_divide"}
LINEAR = {
    "linear", "bilinear", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d",
    "convolution", "matmul", "rmatmul", "mm", "bmm", "addmm", "baddbmm", "einsum", "tensordot",
}  # fmt: skip
PASSING = {
    *SHAPES, *COPIES, "mean", "sum", "amax", "max", "median", "logsumexp", "add", "iadd", "radd", "sub", "isub", "rsub",
    "mul", "imul", "rmul", "multiply", *DIVISIONS, "neg", "batch_norm", "layer_norm",
    "group_norm", "instance_norm", "rms_norm", "relu", "leaky_relu", "prelu", "elu", "celu", "selu", "gelu", "silu",
    "mish", "softplus", "hardswish", "avg_pool1d", "avg_pool2d", "avg_pool3d", "adaptive_avg_pool1d",
    "adaptive_avg_pool2d", "adaptive_avg_pool3d", "max_pool1d", "max_pool2d", "max_pool3d", "adaptive_max_pool1d",
    "adaptive_max_pool2d", "adaptive_max_pool3d", "interpolate", "upsample", "where", "masked_fill",
} - {"clamp", "clip", "clamp_min", "clamp_max"}  # fmt: skip
_KINDS: dict[Any, tuple[str, bool]] = {}


def named(func: Any) -> tuple[str, bool]:
    """The plain name of a torch function, and whether it works in place: ``sigmoid`` for all forms of a sigmoid."""
    if func in _KINDS:
        return _KINDS[func]
    name = str(getattr(func, "__name__", "")).split(".")[0]
    if name == "__get__":
        name = str(getattr(getattr(func, "__self__", None), "__name__", ""))
    if name.startswith("__") and name.endswith("__"):
        plain = name[2:-2]
        within = plain in ("setitem", "iadd", "isub", "imul", "itruediv", "ipow", "iand", "ior")
    else:
        plain = name.rstrip("_").removeprefix("special_")
        within = name.endswith("_")
    _KINDS[func] = plain, within
    return plain, within


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
        return self.axis >= 0 and self.before.shape[self.axis] == 1

    def is_second(self) -> bool:
        """Whether a softmax of two was cut down to the second probability."""
        if self.parts or self.before.shape[self.axis] != 2:
            return False
        numbers = torch.zeros_like(self.before)
        numbers.select(self.axis, 1).fill_(1)
        left = self.replayed(numbers)
        return left is not None and bool((left == 1).all())

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
        self._endings: dict[int, tuple[weakref.ref[Tensor], Ending]] = {}

    def of(self, tensor: Any) -> Ending | None:
        """What made this very tensor."""
        held = self._endings.get(id(tensor))
        return held[1] if held is not None and held[0]() is tensor else None

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
        self._endings[id(out)] = weakref.ref(out), ending
        if self.keep is not None:
            oldest = self.count - self.keep
            for key in [key for key, (_, other) in self._endings.items() if other.number <= oldest]:
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
        whole = name == "copy" or (len(args) == 3 and _is_whole(args[1]))
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
        elif name in COPIES:
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


def _is_whole(index: Any) -> bool:
    parts = index if isinstance(index, tuple) else (index,)
    return all(part is Ellipsis or (isinstance(part, slice) and part == slice(None)) for part in parts)


def _version(tensor: Tensor) -> int | None:
    return None if tensor.is_inference() else tensor._version


class Observation(EndingWatch):
    """Remembers, besides, the range of tensors, as far as operations show it.

    A linear operation leaves it open, and much of what follows keeps it so. Arithmetic with a softmax or sigmoid has
    bounds. Of a hand-written softmax or a clipped output nothing is known here; their numbers must tell.
    """

    def __init__(self) -> None:
        super().__init__()
        self._ranges: dict[int, tuple[weakref.ref[Tensor], Bounds]] = {}

    def bounds(self, tensor: Any) -> Bounds:
        """What the operations that made this very tensor say of the range of its values."""
        return self._bounds(tensor) or "unknown"

    def _bounds(self, tensor: Any) -> Bounds | None:
        held = self._ranges.get(id(tensor))
        return held[1] if held is not None and held[0]() is tensor else None

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = named(func)[0]
        bounds: Bounds = "open" if name in LINEAR else "unknown"
        if name in PASSING:
            bounds = self._passed(name, args, kwargs or {})
        if self._endings or name in OPERATIONS:
            out = super().__torch_function__(func, types, args, kwargs)
        else:
            out = func(*args, **(kwargs or {}))
        if isinstance(out, Tensor):
            self._ranges[id(out)] = weakref.ref(out), bounds
        elif isinstance(out, (tuple, list)):
            for part in out:
                if isinstance(part, Tensor):
                    self._ranges[id(part)] = weakref.ref(part), bounds
        if name == "setitem":
            self._ranges.pop(id(args[0]), None)
        return out

    def _passed(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Bounds:
        """What becomes of the range: a gate puts no bounds on open values, a divisor made of them may."""
        sources = [t for t in _parts((*args, *kwargs.values())) if self._bounds(t) is not None]
        if len(sources) > 1:  # a number beside others is a scale or an offset
            sources = [t for t in sources if t.numel() != 1] or sources
        ranges: list[Bounds] = ["bounded" if self.of(t) is not None else self.bounds(t) for t in sources]
        if name in DIVISIONS and any(t is args[1] for t in sources if len(args) > 1):
            return "unknown"
        if name in ("mul", "multiply") and "unknown" in ranges:
            return "unknown"
        return "open" if "open" in ranges else "bounded" if "bounded" in ranges else "unknown"


def _parts(values: tuple[Any, ...]) -> list[Tensor]:
    tensors: list[Tensor] = []
    for value in values:
        if isinstance(value, Tensor):
            tensors.append(value)
        elif isinstance(value, (tuple, list)):
            tensors += [part for part in value if isinstance(part, Tensor)]
    return tensors
