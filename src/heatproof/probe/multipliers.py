"""DeepLIFT: multipliers in place of gradients, from what each operation makes of the input and of a baseline."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from heatproof.errors import NotApplicable
from heatproof.phrases import listed
from heatproof.probe import shares
from heatproof.probe.backward import Nodes, Substitution, changed, settled
from heatproof.probe.functions import named
from heatproof.probe.goals import Goal
from heatproof.probe.outputs import LOWEST
from heatproof.probe.products import attend, transparent
from heatproof.probe.runner import Runner
from heatproof.probe.shares import Pair

_ELEMENTWISE = frozenset({
    "relu", "relu6", "hardtanh", "clamp", "clip", "clamp_min", "clamp_max", "threshold", "_threshold", "leaky_relu",
    "prelu", "rrelu", "elu", "celu", "selu", "gelu", "silu", "mish", "softplus", "hardswish", "hardsigmoid", "sigmoid",
    "expit", "tanh", "tanhshrink", "softsign", "logsigmoid", "log_sigmoid", "hardshrink", "softshrink", "exp", "expm1",
    "log", "log1p", "sqrt", "rsqrt", "square", "pow", "ipow", "rpow", "reciprocal", "rdiv", "rtruediv", "abs", "sin",
    "cos", "erf",
})  # fmt: skip
_PRODUCTS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mul": torch.mul, "imul": torch.mul, "rmul": torch.mul, "multiply": torch.mul, "matmul": torch.matmul,
    "bmm": torch.matmul, "mm": torch.matmul, "linear": F.linear,
}  # fmt: skip
_QUOTIENTS = frozenset({"div", "truediv", "itruediv", "divide", "true_divide"})
_WHOLE: dict[str, Callable[..., Any]] = {
    "softmax": shares.softmax, "layer_norm": shares.layer_norm, "group_norm": shares.group_norm,
    "amax": shares.amax, "max": shares.maximum,
    **{f"max_pool{k}d": partial(shares.max_pool, rank=k) for k in (1, 2, 3)},
    **{f"adaptive_max_pool{k}d": partial(shares.adaptive_max_pool, rank=k) for k in (1, 2, 3)},
}  # fmt: skip
# Operations that are linear in what depends on the input, by their names in the graph; with * only in one operand.
_LINEAR = frozenset({
    "AccumulateGrad", "Add", "Sub", "Rsub", "Neg", "Mean", "Sum", "View", "UnsafeView", "ReshapeAlias", "Permute",
    "Transpose", "T", "Expand", "Cat", "Stack", "Slice", "Select", "Index", "IndexSelect", "Split", "SplitWithSizes",
    "Unbind", "Squeeze", "Unsqueeze", "Clone", "CopySlices", "ToCopy", "AsStrided", "ConstantPadNd",
    "ReflectionPad1D", "ReflectionPad2D", "ReflectionPad3D", "ReplicationPad1D", "ReplicationPad2D",
    "ReplicationPad3D", "AvgPool2D", "AvgPool3D", "AdaptiveAvgPool2D", "AdaptiveAvgPool3D", "MkldnnAdaptiveAvgPool2D",
    "UpsampleNearest1D", "UpsampleNearest2D", "UpsampleNearest3D", "UpsampleNearestExact1D", "UpsampleNearestExact2D",
    "UpsampleNearestExact3D", "UpsampleLinear1D", "UpsampleBilinear2D", "UpsampleBilinear2DAa", "UpsampleTrilinear3D",
    "UpsampleBicubic2D", "Roll", "Flip", "PixelShuffle", "PixelUnshuffle", "Repeat", "Unfold", "Im2Col", "Col2Im",
    "Alias", "NativeDropout", "Gather", "MaskedFill", "Cumsum", "Tril", "Triu", "Swapaxes", "Movedim", "Narrow",
    "Diagonal", "IndexPut", "IndexPutImpl", "Copy", "Unsafe", "UnsafeSplit", "FftR2C", "FftC2R", "FftC2C",
})  # fmt: skip
_ONCE = frozenset({
    "Mul", "Convolution", "ConvolutionOverrideable", "MkldnnConvolution", "CudnnConvolution", "SlowConv2D",
    "SlowConv3D", "Addmm", "Mm", "Bmm", "Baddbmm", "Linear", "NativeBatchNorm", "CudnnBatchNorm", "MiopenBatchNorm",
    "Mv", "Dot",
})  # fmt: skip
_RULED = frozenset({"_SlantBackward", "_SharedBackward", "_PeakBackward"})
_HEAD = transparent(F.multi_head_attention_forward)


def multiplied(
    runner: Runner, x: Float[Tensor, "n c *s"], base: Float[Tensor, "n c *s"], goal: Goal
) -> Float[Tensor, "n c *s"]:
    """The contributions of the input's elements to the logit less that of the baseline, by the rescale rule.

    Each elementwise operation f passes (f(x) - f(b)) / (x - b); max-pooling passes that of the largest element; a
    product passes to each factor the mean of the other. Both passes are observed operation by operation.

    Cost: two forward passes and one backward pass.
    Raises: NotApplicable where an operation has no rule, or the contributions do not add up.
    """

    def work(part: Tensor, rows: slice) -> Tensor:
        start = runner.prepared.bring(base[rows])
        here = goal.take(rows)
        mode = _Multiplied()
        with mode, runner.borrowed() as run:
            with mode.active():
                raw = runner.ask(start.clone())
            before = here.score(run.read(raw, len(start), here), "logit", raw)
        runner.count("forward", len(start))
        mode.turn = 0
        slope, value = changed(runner, part, here, mode, first=rows.start)
        share = (slope * (part - start).to(slope)).float()
        _check_sum(share, value - before, value.abs() + before.abs(), slope.dtype)
        return share

    goal = goal.for_task(runner.prepared.outputs.task)
    return torch.cat(list(runner.each(x, work)))


def _check_sum(share: Tensor, gap: Tensor, scale: Tensor, dtype: torch.dtype) -> None:
    """Contributions add up to the difference of the logits, but for rounding."""
    flat = share.flatten(1).double()
    off = (flat.sum(1) - gap.double()).abs()
    loose = max(1e-3, 16 * torch.finfo(dtype).eps)
    if bool((off > loose * (flat.abs().sum(1) + scale.double())).any()):
        worst = int(off.argmax())
        raise NotApplicable(f"deep-lift: the contributions add up to {float(flat[worst].sum()):.3g}, but the logit "
                            f"differs by {float(gap[worst]):.3g} from that of the baseline: the model holds an "
                            "operation without a rule; use integrated-gradients or occlusion")  # fmt: skip


class _Multiplied(Substitution):
    """First a pass of the baseline, whose operands are kept; then one of the input, whose gradients are replaced."""

    name = "deep-lift"

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[tuple[str, tuple[Tensor, ...]]] = []
        self.turn = -1  # of the pass of the input; before it -1, and after it, for checkpointed parts, their number
        self.again = False

    def check(self, nodes: Nodes) -> None:
        if self.turn != len(self.kept):
            raise self._apart()
        self.again = True
        self.kept.clear()
        lacking = dict.fromkeys(plain for node, operands in nodes.items() if (plain := _lacks_rule(node, operands)))
        if lacking:
            raise NotApplicable(
                f"deep-lift has no rule for {listed([*lacking])}; use integrated-gradients or occlusion"
            )

    def replaced(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        name, within = named(func)
        if func is F.multi_head_attention_forward:
            with self:
                return _HEAD(*args, **kwargs)
        if name == "scaled_dot_product_attention":
            with self:
                return attend(*args, **kwargs)
        within = within or bool(kwargs.get("inplace"))
        rule = None if "out" in kwargs else _rule(name, within, func, args, kwargs)
        if rule is None:
            return func(*args, **kwargs)
        operands, make = rule
        if self.turn < 0:
            self.kept.append((name, tuple(t.detach().clone() for t in operands)))
            return func(*args, **kwargs)
        pairs = self._pairs(name, operands)
        if not torch.is_grad_enabled() or not any(t.requires_grad for t in operands):
            return func(*args, **kwargs)
        out = make(*pairs)
        return settled(operands[0], out, True) if within else out

    def _pairs(self, name: str, operands: Sequence[Tensor]) -> list[Pair]:
        if self.again:
            return [Pair(t, t.detach()) for t in operands]
        before, bases = self.kept[self.turn] if self.turn < len(self.kept) else ("", ())
        if before != name or [t.shape for t in bases] != [t.shape for t in operands]:
            raise self._apart()
        self.turn += 1
        return [Pair(t, b) for t, b in zip(operands, bases, strict=True)]

    def _apart(self) -> NotApplicable:
        return NotApplicable("deep-lift compares the operations of two passes, and the model runs other ones for the "
                             "baseline than for the input; use integrated-gradients or occlusion")  # fmt: skip


def _rule(
    name: str, within: bool, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[list[Tensor], Callable[..., Any]] | None:
    """The operands of an operation that has a rule, and what makes its result of their pairs."""
    source, rest = (args[0], args[1:]) if args else (kwargs.get("input"), ())
    options = {key: value for key, value in kwargs.items() if key != "input"}
    if not isinstance(source, Tensor) or not source.is_floating_point():
        return None
    if name in _ELEMENTWISE:
        if any(isinstance(t, Tensor) and t.requires_grad and not isinstance(t, nn.Parameter)
               for t in (*rest, *options.values())):  # fmt: skip
            return None
        if "inplace" in options:
            options["inplace"] = False

        def plain(t: Tensor) -> Tensor:
            out: Tensor = func(t.clone() if within else t, *rest, **options)
            return out

        return [source], lambda pair: shares.slanted(plain, pair).live
    if name in _WHOLE and name in ("max", "softmax", "amax"):
        whole = (rest and isinstance(rest[0], (int, tuple, list))) or "dim" in options
        if not whole or (name == "softmax" and source.ndim == 2):  # that of the classes is read, not passed
            return None
    if name in _WHOLE:
        return [source], lambda pair: _WHOLE[name](pair, *rest, **options)
    other = rest[0] if rest else options.get("other", options.get("weight", options.get("mat2")))
    if not isinstance(other, Tensor) or not other.is_floating_point() or isinstance(other, nn.Parameter):
        return None
    if isinstance(source, nn.Parameter) or "rounding_mode" in options:
        return None
    if name in _QUOTIENTS:
        return [source, other], lambda a, b: shares.shared(torch.mul, a, shares.slanted(torch.reciprocal, b)).live
    if name == "linear":
        bias = rest[1] if len(rest) > 1 else options.get("bias")
        return [source, other], lambda a, b: _with(shares.shared(F.linear, a, b).live, bias)
    if name in _PRODUCTS:
        return [source, other], lambda a, b: shares.shared(_PRODUCTS[name], a, b).live
    return None


def _with(out: Tensor, bias: Tensor | None) -> Tensor:
    return out if bias is None else out + bias


def _lacks_rule(node: Any, operands: Sequence[bool]) -> str:
    """The name of a node of the graph that is neither linear nor has a rule, or nothing."""
    name = node.name().rpartition("::")[2]
    plain = name.partition("Backward")[0].lstrip("_")
    if plain == "ClampMin" and float(node._saved_min) == LOWEST:  # not of the model, but of how its output is read
        return ""
    times = sum(operands)
    if name in _RULED or plain in _LINEAR:
        return ""
    if (plain in _ONCE and times < 2) or (plain == "Div" and operands[1:2] != [True]):
        return ""
    return str(plain.lower())
