"""The rule for each operation of a pass: what it does to the axes of its inputs.

Module, function, method, in-place and fused forms are the same in the graph of autograd. An operation without a rule
makes a tensor of which nothing is known.
"""

from __future__ import annotations

import re
from functools import lru_cache

from heatproof.probe import changes, moves
from heatproof.probe.operations import Rule


@lru_cache(maxsize=1024)
def rule(name: str) -> Rule | None:
    """The rule for a node of the graph by the name of its type, or None."""
    plain = re.sub(r"Backwards?\d*$", "", name)
    if name == "CopySlices":
        return changes.written_into
    if name == "BackwardHookFunctionBackward":  # a module with a backward hook
        return changes.same
    if plain == name or not (name[-1].isdigit() or name.endswith("Backwards")):
        return None
    if plain.startswith("ScaledDotProduct") or "DotProductAttention" in plain:
        return changes.attention
    if plain.startswith("Upsample"):
        return changes.resampled
    return RULES.get(plain)


KEPT = """
    Abs Acos Acosh Add Addcdiv Addcmul Asin Asinh Atan Atan2 Atanh Ceil Celu Clamp ClampMax ClampMin Clip Clone
    Contiguous Cos Cosh Cummax Cumprod Cumsum Deg2Rad Digamma Div Elu Erf Erfc Erfinv Exp Exp2 Expm1 Floor Fmod Frac
    FusedDropout Gelu Hardshrink Hardsigmoid Hardswish Hardtanh Lerp LeakyRelu LeakyReluWithSelf Lgamma Log Log10 Log1P
    Log2 LogSigmoid Logaddexp Logaddexp2 Logcumsumexp LogSoftmax Logit MaskedFill Maximum Minimum Mish Mul NanToNum
    NativeDropout Neg Negative Pow Prelu PreluKernel Reciprocal Relu Relu6 Remainder Round RreluWithNoise Rsqrt Rsub
    Selu Sgn Sigmoid Sign Silu Sin Sinc Sinh SoftmaxData Softmax Softplus Softshrink Softsign Sqrt Square Sub Tan Tanh
    Threshold Tril Triu Trunc Where Xlogy SafeSoftmax
"""
SAME = """
    Alias BatchNormImplIndex CudnnBatchNorm FusedRmsNorm InstanceNorm MiopenBatchNorm NativeBatchNorm
    NativeGroupNorm NativeLayerNorm RmsNorm ToCopy To Detach ViewAsReal ViewAsComplex
    WeightNormInterface ChannelShuffle Renorm ToMkldnn ToDense
"""
RESAMPLED = """
    AdaptiveAvgPool1D AdaptiveAvgPool2D AdaptiveAvgPool3D AdaptiveMaxPool1D AdaptiveMaxPool2D AdaptiveMaxPool3D
    AvgPool2D AvgPool3D FractionalMaxPool2D FractionalMaxPool3D MaxPool2D MaxPool2DWithIndices MaxPool3DWithIndices
    MkldnnAdaptiveAvgPool2D MkldnnMaxPool2D MkldnnMaxPool3D PixelShuffle PixelUnshuffle MaxPool1D AvgPool1D
"""
PADDED = """
    ConstantPadNd ReflectionPad1D ReflectionPad2D ReflectionPad3D ReplicationPad1D ReplicationPad2D ReplicationPad3D
"""
CONVOLVED = (
    "Convolution ConvolutionOverrideable CudnnConvolution CudnnConvolutionTranspose MkldnnConvolution MpsConvolution"
)
REDUCED = (
    "Amax Amin Aminmax LinalgVectorNorm Logsumexp Max Mean Median Min Nanmean Norm Prod Std StdMean Sum Var VarMean"
)
VIEWED = "View UnsafeView ReshapeAlias Reshape Flatten"

RULES: dict[str, Rule] = {
    **dict.fromkeys(KEPT.split(), changes.kept),
    **dict.fromkeys(SAME.split(), changes.same),
    **dict.fromkeys(RESAMPLED.split(), changes.resampled),
    **dict.fromkeys(PADDED.split(), changes.padded),
    **dict.fromkeys(CONVOLVED.split(), changes.convolved),
    **dict.fromkeys(REDUCED.split(), changes.reduced),
    **dict.fromkeys(VIEWED.split(), moves.viewed),
    "AsStrided": changes.laid_out,
    "Addmm": changes.multiplied(1, 2),
    "Addmv": changes.by_vector,
    "Baddbmm": changes.multiplied(1, 2),
    "Bmm": changes.multiplied(0, 1),
    "Cat": moves.concatenated,
    "Col2Im": moves.folded,
    "Copy": changes.copied,
    "Expand": moves.expanded,
    "Flip": changes.shuffled_along("dims"),
    "Gather": moves.indexed,
    "Glu": changes.halved,
    "Im2Col": moves.patched,
    "Index": moves.indexed,
    "IndexSelect": changes.shuffled_along("dim"),
    "Linear": changes.linear,
    "MkldnnLinear": changes.linear,
    "Mm": changes.multiplied(0, 1),
    "Mv": changes.by_vector,
    "Permute": moves.permuted,
    "Repeat": moves.repeated,
    "Roll": changes.rolled,
    "Select": moves.selected,
    "Slice": moves.sliced,
    "Sort": changes.shuffled_along("dim"),
    "Split": moves.split,
    "SplitWithSizes": moves.split,
    "Squeeze": moves.squeezed,
    "Stack": moves.stacked,
    "T": moves.turned,
    "Topk": changes.shuffled_along("dim"),
    "Transpose": moves.transposed,
    "Unbind": moves.unbound,
    "Unfold": moves.windowed,
    "UnsafeSplit": moves.split,
    "UnsafeSplitWithSizes": moves.split,
    "Unsqueeze": moves.unsqueezed,
}
