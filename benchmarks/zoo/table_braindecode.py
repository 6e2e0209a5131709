"""Networks of braindecode for recordings of several electrodes: what is right for them, written by hand.

They take (N, C, T), stand the electrodes along an axis and convolve over it once, so that later layers are (N, K, 1, T)
or (N, K, T, 1): signals in two-dimensional layers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

from benchmarks.zoo.entries import FIRST, LINE, Attention, Entry, Layout
from torch import nn


def make(name: str, **options: Any) -> Callable[[], nn.Module]:
    """Builds a network for eight electrodes, 512 steps at 128 Hz and four classes."""

    def build() -> nn.Module:
        from braindecode import models

        return getattr(models, name)(n_chans=8, n_outputs=4, n_times=512, sfreq=128, **options)

    return build


def net(
    name: str,
    layers: str,
    layout: Layout = LINE,
    *,
    others: Sequence[tuple[str, Layout]] = (),
    attention: Attention | Literal["none", "open"] = "none",
    note: str = "",
) -> Entry:
    """An entry."""
    return Entry("braindecode", name.lower(), name, make(name), (8, 512), layers, layout, others, attention, "logits",
                 note)  # fmt: skip


ENTRIES = [
    net("EEGNet", "elu_2|pool_2"),
    net("ShallowFBCSPNet", "pool_nonlin_exp|pool|conv_nonlin_exp|bnorm"),
    net("Deep4Net", r"nonlin_4|pool_3", note="the last pooling leaves one position"),
    net("EEGConformer", r"transformer(\.5)?", Layout("tokens", grid=(28,)), attention="open"),
    net("ATCNet", r"conv_block|temporal_conv_nets\.\d(\.0|\.1(\.(reshaping_conv|drop1|activation(@\d)?))?)?", FIRST,
        others=[("conv_block.*", LINE)], attention="open",
        note="five windows over time are read at their last step"),
    net("BDTCN", r"base_tcn|base_tcn\.temporal_blocks(\.temporal_block_2)?", FIRST),
    net("EEGInceptionERP", r"final_block(\.[789])?"),
    net("EEGInceptionMI", r"residual_block_2|intermediate_inception_modules_2\.2",
        note="the sum with the shortcut is no module's output"),
    net("EEGNeX", r"block_5\.[23]"),
    net("EEGITNet", r"dim_reduction(\.[23])?"),
    net("EEGTCNet", r"tcn_block|tcn_block\.layers\.1(\.4)?|tcn_block\.activation@4|eegnet_tc", FIRST,
        others=[("tcn_block", Layout("last")), ("eegnet_tc", LINE)], note="only the last step is read"),
    net("EEGSimpleConv", r"blocks\.1(\.6)?", FIRST),
    net("SCCNet", "activation|temporal_smoothing|batch_norm|dropout"),
    net("TIDNet", r"dscnn\.spatial|dscnn\.spatial\.channel_collapse|dscnn\.extract_features\.0", FIRST,
        others=[(r"dscnn\.spatial\.channel_collapse(\..*)?", LINE)]),
    net("CTNet", r"trans|trans\.layers(\.5(\.feed_forward(\.layernorm)?)?)?", Layout("tokens", grid=(8,)),
        attention="open"),
    net("MSVTNet", r"transformer\.trans\.layers\.(1\.norm1|0)", Layout("tokens", prefix=1, grid=(9,)),
        attention="open", note="only the class token is read behind the last attention"),
    net("SPARCNet", r"encoder\.transition7\.conv|encoder\.denseblock7", FIRST,
        note="the last pooling leaves one position"),
    net("TCFormer", r"tcn(\.blocks\.1(\.(act3|act1|drop1))?)?", FIRST, attention="open",
        note="only the last step is read, to which all steps before the last convolution run"),
    net("SincShallowNet", r"temporal_aggregation\.[12]"),
]  # fmt: skip
