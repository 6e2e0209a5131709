"""Networks for signals: what is right for them, written by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

from benchmarks.zoo import signal_nets as nets
from benchmarks.zoo.entries import FIRST, LAST, Attention, Entry, Layout, tokens
from torch import nn


def net(
    family: str,
    name: str,
    build: Callable[[], nn.Module],
    layers: str,
    layout: Layout = FIRST,
    *,
    others: Sequence[tuple[str, Layout]] = (),
    attention: Attention | Literal["none", "open"] = "none",
    note: str = "",
) -> Entry:
    """An entry for signals of three channels and 128 steps."""
    return Entry("signals", family, name, build, (nets.CHANNELS, nets.LENGTH), layers, layout, others, attention,
                 "logits", note)  # fmt: skip


MEAN = ("all",)
STEPS = Layout("tokens", grid=(31,))  # patches of 8 steps, 4 apart

ENTRIES = [
    net("fcn", "fcn", nets.fcn, r"features(\.2(\.2)?)?"),
    net("inception", "inception_time", nets.InceptionTime, r"blocks\.5|shortcuts\.1(\.1)?",
        note="the sum of the last module and its shortcut is no module's output"),
    net("resnet", "resnet_1d", nets.resnet, r"features(\.3(\.relu)?)?"),
    net("resnet", "xresnet_1d", nets.xresnet, r"features(\.2(\.relu)?)?"),
    net("tcn", "tcn_mean", nets.tcn, r"features(\.2(\.relu@3)?)?"),
    net("tcn", "tcn_last", nets.LastStep, r"tcn(\.2(\.relu(@\d)?)?)?",
        note="only the last step is read, to which all steps before the last convolution run"),
    net("lstm", "lstm_mean", partial(nets.Recurrent, nn.LSTM, "mean"), "rnn", LAST),
    net("lstm", "lstm_last", partial(nets.Recurrent, nn.LSTM, "last", embed=True), "rnn|embed", LAST,
        note="only the last step is read"),
    net("lstm", "lstm_state", partial(nets.Recurrent, nn.LSTM, "state", embed=True), "embed", LAST,
        note="the last state is read, which is no part of the outputs over time"),
    net("lstm", "bilstm_mean", partial(nets.Recurrent, nn.LSTM, "mean", both=True), "rnn", LAST),
    net("lstm", "cnn_lstm", nets.ConvRecurrent, r"lstm|features(\.1(\.2)?)?", FIRST, others=[("lstm", LAST)],
        note="only the last step is read"),
    net("gru", "gru_mean", partial(nets.Recurrent, nn.GRU, "mean"), "rnn", LAST),
    net("gru", "gru_state", partial(nets.Recurrent, nn.GRU, "state", embed=True), "embed", LAST,
        note="the last state is read, which is no part of the outputs over time"),
    net("transformer", "transformer_class_token", nets.Transformer, r"encoder\.layers\.(2\.norm1|1)", tokens(4, 1),
        attention=Attention(tokens(4, 1), 3)),
    net("transformer", "transformer_last_token", partial(nets.Transformer, token="last"),
        r"encoder\.layers\.(2\.norm1|1)", tokens(4, 0, 1),
        attention=Attention(tokens(4, 0, 1), 3, ("last",), optional=True), note="the class token stands at the end"),
    net("transformer", "transformer_post_norm", partial(nets.Transformer, norm_first=False),
        r"encoder\.layers\.1(\.norm2)?", tokens(4, 1), attention=Attention(tokens(4, 1), 3)),
    net("transformer", "transformer_mean", partial(nets.Transformer, token="", norm_first=False),
        r"encoder(\.layers\.2(\.norm2)?)?", tokens(4), attention=Attention(tokens(4), 3, MEAN)),
    net("transformer", "transformer_steps", partial(nets.Transformer, 1, 1, ""), r"encoder(\.layers\.2)?", tokens(1),
        attention=Attention(tokens(1), 3, MEAN), note="every step is a token"),
    net("transformer", "patch_tst", partial(nets.Transformer, 8, 4, "flat"), r"encoder(\.layers\.2)?", STEPS,
        attention=Attention(STEPS, 3, MEAN), note="patches that overlap"),
    net("mixer", "ts_mixer", nets.Mixing, r"channels\.1", LAST,
        others=[(r"times\.\d|norms\.\d", FIRST), (r"channels\.\d|embed", LAST)],
        note="dense layers over time and over channels in turn"),
    net("dense", "dense_over_time", nets.DenseOverTime, r"steps(\.3)?", LAST),
]  # fmt: skip
