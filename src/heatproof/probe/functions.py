"""The functions of torch by their plain names, and what each does to the values of a tensor."""

from __future__ import annotations

import math
from typing import Any, Literal

from torch import Tensor

Operation = Literal["softmax", "log-softmax", "sigmoid", "log-sigmoid"]

SLACK = 1e-3  # how much a clamp may cut off the ends of [0, 1]
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
ADDED = {"add", "iadd", "sub", "isub", "mul", "imul", "div", "itruediv"}
JOINTS = {"cat", "concat", "concatenate", "stack", "hstack", "column_stack"}
CLAMPS = {"clamp", "clip", "clamp_min", "clamp_max"}
GATES = {"hardsigmoid"}
INVERSIONS = {"rsub"}
PRODUCTS = {"mul", "imul", "rmul", "multiply"}
DIVISIONS = {"div", "truediv", "itruediv", "divide", "true_divide"}
LINEAR = {
    "linear", "bilinear", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d",
    "convolution", "matmul", "rmatmul", "mm", "bmm", "addmm", "baddbmm", "einsum", "tensordot",
}  # fmt: skip
PASSING = {
    *SHAPES, *COPIES, "mean", "sum", "amax", "max", "median", "logsumexp", "add", "iadd", "radd", "sub", "isub", "rsub",
    *PRODUCTS, *DIVISIONS, "neg", "batch_norm", "layer_norm",
    "group_norm", "instance_norm", "rms_norm", "relu", "leaky_relu", "prelu", "elu", "celu", "selu", "gelu", "silu",
    "mish", "softplus", "hardswish", "avg_pool1d", "avg_pool2d", "avg_pool3d", "adaptive_avg_pool1d",
    "adaptive_avg_pool2d", "adaptive_avg_pool3d", "max_pool1d", "max_pool2d", "max_pool3d", "adaptive_max_pool1d",
    "adaptive_max_pool2d", "adaptive_max_pool3d", "interpolate", "upsample", "where", "masked_fill",
} - CLAMPS  # fmt: skip
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


def cuts(name: str, operation: Operation, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether a clamp cuts more than a little off probabilities, or may."""
    rest = {"clamp_min": ("min",), "clamp_max": ("max",)}.get(name, ("min", "max"))
    bounds = dict(zip(rest, args[1:], strict=False)) | {end: kwargs[end] for end in ("min", "max") if end in kwargs}
    if any(isinstance(bound, Tensor) and bound.ndim for bound in bounds.values()):
        return True
    low, high = (None if bounds.get(end) is None else float(bounds[end]) for end in ("min", "max"))
    if operation in EXPONENTIALS:
        low, high = (None if bound is None else math.exp(min(bound, 1.0)) for bound in (low, high))
    return (low is not None and low > SLACK) or (high is not None and high < 1 - SLACK)


def operands(values: tuple[Any, ...]) -> list[Tensor]:
    """The tensors among arguments, and in lists of them."""
    tensors: list[Tensor] = []
    for value in values:
        if isinstance(value, Tensor):
            tensors.append(value)
        elif isinstance(value, (tuple, list)):
            tensors += [part for part in value if isinstance(part, Tensor)]
    return tensors


def is_whole(index: Any) -> bool:
    """Whether an index means all of a tensor."""
    parts = index if isinstance(index, tuple) else (index,)
    return all(part is Ellipsis or (isinstance(part, slice) and part == slice(None)) for part in parts)


def memory(tensor: Tensor) -> Any:
    """What tells the memory of a tensor from that of others; its views have the same."""
    try:
        return tensor.untyped_storage()._cdata
    except RuntimeError:  # sparse, or of a transform
        return None
