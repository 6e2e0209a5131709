"""Which axes of a layer are positions, which layer is chosen, for networks that shapes alone would misread."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from heatproof.errors import InputError, LayerError
from heatproof.methods import explain
from heatproof.probe import Probe
from heatproof.probe.layout import Layout, parsed, written
from heatproof.probe.state import HeatproofWarning

from .toys import CLASSES, Block, Tokens, ready, same, seeded, snapshot


def sample(*shape: int, n: int = 2) -> Tensor:
    return torch.randn(n, *shape, generator=torch.Generator().manual_seed(3))


class Net(nn.Module):
    """Named parts and a function that joins them."""

    def __init__(self, run: Callable[[Any, Tensor], Any], **parts: nn.Module) -> None:
        super().__init__()
        self.run = run
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x: Tensor) -> Any:
        return self.run(self, x)


class Mix(nn.Module):
    """A mixer block: a dense layer over tokens, and one over channels."""

    def __init__(self, tokens: int, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.over = nn.Sequential(nn.Linear(tokens, 7), nn.GELU(), nn.Linear(7, tokens))
        self.along = nn.Linear(width, width)

    def forward(self, h: Tensor) -> Tensor:
        h = h + self.over(self.norm1(h).transpose(1, 2)).transpose(1, 2)
        return h + self.along(self.norm2(h))


class Windows(nn.Module):
    """Attention within windows of 2 x 2, shifted by one, channels last."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.attn = nn.LayerNorm(width), nn.MultiheadAttention(width, 2, batch_first=True)
        self.dense = nn.Linear(width, width)

    def forward(self, h: Tensor) -> Tensor:
        n, a, b, k = h.shape
        w = torch.roll(self.norm(h), (-1, -1), (1, 2)).reshape(n, a // 2, 2, b // 2, 2, k).permute(0, 1, 3, 2, 4, 5)
        w = w.reshape(-1, 4, k)
        w = self.attn(w, w, w, need_weights=False)[0]
        w = w.reshape(n, a // 2, b // 2, 2, 2, k).permute(0, 1, 3, 2, 4, 5).reshape(n, a, b, k)
        h = h + torch.roll(w, (1, 1), (1, 2))
        return h + self.dense(h)


class ECA(nn.Module):
    """Channel attention by a convolution over channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1, 1, 3, padding=1)

    def forward(self, h: Tensor) -> Tensor:
        s = self.conv(h.flatten(2).mean(-1)[:, None]).sigmoid()[:, 0]
        return h * s.reshape(*s.shape, *(1,) * (h.ndim - 2))


class Causal(nn.Module):
    """Two causal convolutions, cut at the end, with what came before added."""

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.pad = 2 * dilation
        self.conv = nn.Conv1d(width, width, 3, padding=self.pad, dilation=dilation)

    def forward(self, h: Tensor) -> Tensor:
        return F.relu(h + self.conv(h)[:, :, : -self.pad])


def encoder(width: int, **options: Any) -> nn.Module:
    layer = nn.TransformerEncoderLayer(width, 2, 2 * width, dropout=0.0, **options)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)


def with_token(h: Tensor, token: Tensor, *, last: bool = False) -> Tensor:
    parts = [token.expand(len(h), -1, -1), h]
    return torch.cat(parts[::-1] if last else parts, 1)


class Vit(nn.Module):
    """Patches of any shape, tokens that are no positions before and behind, and a head for either."""

    def __init__(self, patch: tuple[int, ...], *, prefix: int = 0, suffix: int = 0, pooled: bool = False) -> None:
        super().__init__()
        self.cut = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[len(patch)](2, 8, patch, stride=patch)
        self.before = nn.Parameter(torch.zeros(1, prefix, 8)) if prefix else None
        self.behind = nn.Parameter(torch.zeros(1, suffix, 8)) if suffix else None
        self.blocks = nn.ModuleList(Block(8) for _ in range(2))
        self.norm, self.head, self.pooled = nn.LayerNorm(8), nn.Linear(8, CLASSES), pooled

    def forward(self, x: Tensor) -> Tensor:
        h = self.cut(x).flatten(2).transpose(1, 2)
        before = 0 if self.before is None else self.before.shape[1]
        h = h if self.before is None else with_token(h, self.before)
        h = h if self.behind is None else with_token(h, self.behind, last=True)
        for block in self.blocks:
            h = block(h)
        h = self.norm(h)
        if self.pooled:
            return self.head(h[:, before : h.shape[1] - (0 if self.behind is None else self.behind.shape[1])].mean(1))
        return self.head(h[:, 0] if self.before is not None else h[:, -1])


def mean_head(width: int) -> nn.Module:
    return nn.Linear(width, CLASSES)


@dataclass(frozen=True)
class Case:
    """A network, its input, the layer that should be chosen, and by hand how that layer is read."""

    build: Callable[[], nn.Module]
    shape: tuple[int, ...]
    layer: str
    read: Callable[[Tensor], Tensor]
    grid: tuple[int, ...]


def tokens(*grid: int, prefix: int = 0) -> Callable[[Tensor], Tensor]:
    def read(out: Tensor) -> Tensor:
        count = torch.Size(grid).numel()
        return out[:, prefix : prefix + count].transpose(1, 2).unflatten(2, grid)

    return read


FIRST: Callable[[Tensor], Tensor] = lambda out: out  # noqa: E731
LAST: Callable[[Tensor], Tensor] = lambda out: out.movedim(-1, 1)  # noqa: E731


def recurrent(kind: Any, *, last: bool, first: bool = True, **options: Any) -> nn.Module:
    def run(m: Any, x: Tensor) -> Tensor:
        h = F.relu(m.conv(x))
        h = h.transpose(1, 2) if first else h.permute(2, 0, 1)
        out, _ = m.rnn(h)
        if last:
            return m.head(out[:, -1] if first else out[-1])
        return m.head(out.mean(1 if first else 0))

    width = 6 * (2 if options.get("bidirectional") else 1)
    return Net(
        run, conv=nn.Conv1d(2, 5, 3, padding=1), rnn=kind(5, 6, batch_first=first, **options), head=mean_head(width)
    )


def eegnet() -> nn.Module:
    """(N, C, T) seen as an image; the electrodes are an axis of it until a convolution joins them."""

    def run(m: Any, x: Tensor) -> Tensor:
        h = m.joint(m.norm(m.time(x[:, None])))
        h = m.pool(F.elu(h))
        return m.head(m.pool2(F.elu(m.separable(h))).flatten(1))

    return Net(
        run,
        time=nn.Conv2d(1, 4, (1, 9), padding=(0, 4)),
        norm=nn.BatchNorm2d(4),
        joint=nn.Conv2d(4, 8, (3, 1), groups=4),
        pool=nn.AvgPool2d((1, 2)),
        separable=nn.Conv2d(8, 8, (1, 5), padding=(0, 2)),
        pool2=nn.AvgPool2d((1, 4)),
        head=nn.Linear(8 * 4, CLASSES),
    )


def video() -> nn.Module:
    """(N, D, H, W, K) with K equal to D: channels last, as video transformers have it."""

    def run(m: Any, x: Tensor) -> Tensor:
        h = m.cut(x).permute(0, 2, 3, 4, 1)
        return m.head(m.norm(h + m.dense(h)).mean((1, 2, 3)))

    return Net(run, cut=nn.Conv3d(2, 4, (1, 4, 4), stride=(1, 4, 4)), dense=nn.Linear(4, 4), norm=nn.LayerNorm(4),
               head=mean_head(4))  # fmt: skip


def signal_patches() -> nn.Module:
    """Each channel by itself is cut into patches; channels are rows of the batch until the end."""

    def run(m: Any, x: Tensor) -> Tensor:
        n, c, _ = x.shape
        h = m.embed(x.unfold(-1, 4, 4))  # (N, C, patches, K)
        h = m.body(h.reshape(n * c, h.shape[2], -1))
        h = m.out(h.reshape(n, c, *h.shape[1:]).permute(0, 1, 3, 2))
        return m.head(h.flatten(1))

    return Net(run, embed=nn.Linear(4, 8), body=encoder(8, batch_first=True), out=nn.Identity(),
               head=nn.Linear(3 * 8 * 6, CLASSES))  # fmt: skip


CASES = {
    "class token, image wider than high": Case(
        lambda: Vit((4, 4), prefix=1), (2, 8, 24), "blocks.1.norm", tokens(2, 6, prefix=1), (2, 6)),
    "class token last": Case(
        lambda: Vit((4, 4), suffix=1), (2, 16, 16), "blocks.1.norm", tokens(4, 4), (4, 4)),
    "class, distillation and register tokens": Case(
        lambda: Vit((4, 4), prefix=2, suffix=4, pooled=True), (2, 16, 8), "norm", tokens(4, 2, prefix=2), (4, 2)),
    "4 x 16 tokens of flat patches, which 8 x 8 would be too": Case(
        lambda: Vit((8, 2), pooled=True), (2, 32, 32), "norm", tokens(4, 16), (4, 16)),
    "8 x 8 tokens and a class token": Case(
        lambda: Vit((2, 8), prefix=1), (2, 16, 64), "blocks.1.norm", tokens(8, 8, prefix=1), (8, 8)),
    "signal with a class token": Case(
        lambda: Vit((4,), prefix=1), (2, 24), "blocks.1.norm", tokens(6, prefix=1), (6,)),
    "volume": Case(
        lambda: Vit((2, 4, 4), prefix=1), (2, 8, 8, 12), "blocks.1.norm", tokens(4, 2, 3, prefix=1), (4, 2, 3)),
    "video, channels last": Case(video, (2, 4, 16, 16), "norm", LAST, (4, 4, 4)),
    "windows": Case(
        lambda: Net(lambda m, x: m.head(m.norm(m.blocks(m.cut(x).permute(0, 2, 3, 1))).mean((1, 2))),
                    cut=nn.Conv2d(2, 8, 4, stride=4), blocks=nn.Sequential(Windows(8), Windows(8)),
                    norm=nn.LayerNorm(8), head=mean_head(8)),
        (2, 16, 32), "norm", LAST, (4, 8)),
    "mixer": Case(
        lambda: Net(lambda m, x: m.head(m.norm(m.blocks(m.cut(x).flatten(2).transpose(1, 2))).mean(1)),
                    cut=nn.Conv2d(2, 8, 4, stride=4), blocks=nn.Sequential(Mix(12, 8), Mix(12, 8)),
                    norm=nn.LayerNorm(8), head=mean_head(8)),
        (2, 16, 12), "norm", tokens(4, 3), (4, 3)),
    "hybrid": Case(
        lambda: Net(lambda m, x: m.head(m.body(m.stem(x).flatten(2).transpose(1, 2)).mean(1)),
                    stem=nn.Sequential(nn.Conv2d(2, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 8, 3, 2, 1)),
                    body=encoder(8, batch_first=True), head=mean_head(8)),
        (2, 16, 24), "body", tokens(4, 6), (4, 6)),
    "transformer over time, rows first": Case(
        lambda: Net(lambda m, x: m.head(m.body(m.embed(x.transpose(1, 2))).mean(1)),
                    embed=nn.Linear(3, 8), body=encoder(8, batch_first=True), head=mean_head(8)),
        (3, 20), "body", LAST, (20,)),
    "transformer over time, time first": Case(
        lambda: Net(lambda m, x: m.head(m.body(m.embed(x.permute(2, 0, 1))).mean(0)),
                    embed=nn.Linear(3, 8), body=encoder(8), head=mean_head(8)),
        (3, 20), "body", lambda out: out.permute(1, 2, 0), (20,)),
    "dense over channels, as long as the signal": Case(
        lambda: Net(lambda m, x: m.head(F.relu(m.dense(x.transpose(1, 2))).mean(1)),
                    dense=nn.Linear(3, 20), head=mean_head(20)),
        (3, 20), "dense", LAST, (20,)),
    "patches of each channel": Case(
        signal_patches, (3, 24), "out", lambda out: out.flatten(1, 2), (6,)),
    "lstm, averaged": Case(lambda: recurrent(nn.LSTM, last=False), (2, 20), "rnn", LAST, (20,)),
    "gru both ways, time first": Case(
        lambda: recurrent(nn.GRU, last=False, first=False, bidirectional=True), (2, 20), "rnn",
        lambda out: out.permute(1, 2, 0), (20,)),
    "lstm, last step": Case(lambda: recurrent(nn.LSTM, last=True), (2, 20), "conv", FIRST, (20,)),
    "causal convolutions": Case(
        lambda: Net(lambda m, x: m.head(m.body(m.stem(x)).mean(-1)), stem=nn.Conv1d(2, 6, 1),
                    body=nn.Sequential(*(Causal(6, 2**i) for i in range(4))), head=mean_head(6)),
        (2, 16), "body", FIRST, (16,)),
    "eegnet": Case(eegnet, (3, 32), "separable", lambda out: out.flatten(1, 2), (16,)),
    "eegnet, all electrodes": Case(
        lambda: Net(lambda m, x: m.head(F.relu(m.norm(m.time(x[:, None]))).mean((2, 3))),
                    time=nn.Conv2d(1, 4, (1, 9), padding=(0, 4)), norm=nn.BatchNorm2d(4), head=mean_head(4)),
        (3, 32), "norm", lambda out: out.flatten(1, 2), (32,)),
    "channel attention": Case(
        lambda: Net(lambda m, x: m.head(m.eca(F.relu(m.conv(x))).mean(-1)),
                    conv=nn.Conv1d(2, 20, 3, padding=1), eca=ECA(), head=mean_head(20)),
        (2, 20), "eca", FIRST, (20,)),
    "one axis averaged, 64 x 64 x 4": Case(
        lambda: Net(lambda m, x: m.head(m.norm(m.cut(x).mean(2).permute(0, 2, 3, 1)).mean((1, 2))),
                    cut=nn.Conv3d(2, 4, 1), norm=nn.LayerNorm(4), head=mean_head(4)),
        (2, 3, 64, 64), "norm", lambda out: out.movedim(-1, 1)[:, :, None], (1, 64, 64)),
    "one axis averaged of an image": Case(
        lambda: Net(lambda m, x: m.head(m.out(F.relu(m.conv(x)).mean(2)).flatten(1)),
                    conv=nn.Conv2d(2, 5, 3, padding=1), out=nn.Conv1d(5, 4, 3), head=nn.Linear(4 * 10, CLASSES)),
        (2, 8, 12), "out", lambda out: out[:, :, None], (1, 10)),
    "norm over channels and time": Case(
        lambda: Net(lambda m, x: m.head(F.relu(m.norm(m.conv(x))).mean(-1)),
                    conv=nn.Conv1d(2, 6, 3, padding=1), norm=nn.LayerNorm([6, 20]), head=mean_head(6)),
        (2, 20), "norm", FIRST, (20,)),
}  # fmt: skip


def kept(model: nn.Module, name: str, x: Tensor) -> Tensor:
    """A layer's output by a plain hook; of a tuple the first part."""
    outs: list[Tensor] = []
    layer = model.get_submodule(name)
    handle = layer.register_forward_hook(lambda _, __, out: outs.append(out[0] if isinstance(out, tuple) else out))
    with torch.no_grad():
        model(x)
    handle.remove()
    return outs[0]


@pytest.mark.parametrize("name", CASES)
def test_layer_and_layout(name: str) -> None:
    """The layer that somebody who knows the network would take, read as by hand; written back; the model untouched."""
    case = CASES[name]
    with seeded():
        model = ready(case.build())
    x, before = sample(*case.shape), snapshot(model)
    probe = Probe(model)
    (tap,) = probe.tapped(x)
    assert tap.name == case.layer
    assert tap.layout.grid == case.grid
    out = kept(model, tap.name, x)
    want = case.read(out)
    torch.testing.assert_close(tap.layout.read(out), want)
    torch.testing.assert_close(tap.layout.write(want, out), out)
    assert "observed operations" in probe.choice(x)
    A, G = probe.taps(x, 1)
    torch.testing.assert_close(A, want)
    assert bool((G.flatten(2) != 0).any(1).float().mean(1).min() > 0.5)
    assert same(before, snapshot(model)) == []


@pytest.mark.parametrize("name", CASES)
def test_what_is_observed_is_what_a_disturbance_shows(name: str) -> None:
    """Where both kinds of evidence speak they agree, or the disturbance says nothing."""
    case = CASES[name]
    with seeded():
        model = ready(case.build())
    x = sample(*case.shape)
    probe = Probe(model)
    seen = probe.survey(x)
    assert seen.trial is not None
    seen.trial.asked = {c.index: c.shape for c in seen.calls if c.shape is not None}
    for call in seen.calls:
        layout = call.seen.layout
        shown = seen.trial.layout(call.index)
        if (
            layout is not None
            and shown is not None
            and 1 not in layout.grid
            and layout.count > 3
            and tuple(layout.grid) <= seen.size
        ):
            assert shown == layout, call.label


@pytest.mark.parametrize("name", ["lstm, averaged", "transformer over time, time first", "eegnet, all electrodes",
                                  "class token last", "gru both ways, time first"])  # fmt: skip
def test_layers_are_replaced_in_their_own_layout(name: str) -> None:
    """The score behind a layer whose output is written back changed, sample by sample, is that of a plain hook."""
    case = CASES[name]
    with seeded():
        model = ready(case.build())
    x = sample(*case.shape, n=3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HeatproofWarning)
        probe = Probe(model, score="logit")
        (tap,) = probe.tapped(x)
        A, _ = probe.taps(x, 2)
        got = probe.tail(A * 0.5, x, 2)
        maps = explain(probe, x, ["grad-cam", "ablation-cam", "score-cam", "hires-cam"], target=2)
    assert all(m.shape == (3, *x.shape[2:]) for m in maps.values())

    def halve(_: nn.Module, __: Any, out: Any) -> Any:
        first = out[0] if isinstance(out, tuple) else out
        changed = tap.layout.write(tap.layout.read(first) * 0.5, first)
        return (changed, *out[1:]) if isinstance(out, tuple) else changed

    handle = tap.module.register_forward_hook(halve)
    with torch.no_grad():
        want = model(x)[:, 2]
    handle.remove()
    torch.testing.assert_close(got, want)


# Which layer


def slices() -> nn.Module:
    """A volume whose slices are the channels of an image network."""
    return Net(lambda m, x: m.head(F.relu(m.conv(x[:, 0])).mean((2, 3))), conv=nn.Conv2d(6, 4, 3, padding=1),
               head=mean_head(4))  # fmt: skip


def test_channels_made_of_slices_are_no_slices() -> None:
    with seeded():
        model = ready(slices())
    for seed in range(4):
        x = torch.randn(2, 1, 6, 8, 10, generator=torch.Generator().manual_seed(seed))
        (tap,) = Probe(model).tapped(x)
        assert (tap.name, tap.layout.grid) == ("conv", (1, 8, 10))


@pytest.mark.parametrize("size", [(16, 16), (20, 20), (28, 28)])
def test_a_pooling_ends_the_stage_whatever_follows_it(size: tuple[int, int]) -> None:
    """As in VGG, whose pooled positions are brought to one number, which may be that of the layer before."""
    with seeded():
        model = ready(Net(lambda m, x: m.head(m.even(m.pool(F.relu(m.conv(x)))).flatten(1)), conv=nn.Conv2d(2, 4, 3,
                          padding=1), pool=nn.MaxPool2d(2), even=nn.AdaptiveAvgPool2d(14),
                          head=nn.Linear(4 * 14 * 14, CLASSES)))  # fmt: skip
    assert Probe(model).tapped(sample(2, *size))[0].name == "conv"


def test_what_is_added_to_a_part_in_place_leaves_its_positions_where_they_are() -> None:
    """A bias made in a way that cannot be followed, added to all tokens but the first."""

    def run(m: Any, x: Tensor) -> Tensor:
        h = with_token(m.cut(x).flatten(2).transpose(1, 2), m.token).clone()
        h[:, 1:] += Hidden.apply(h[:, 1:])
        return m.head(m.norm(h).mean(1))

    with seeded():
        model = ready(Net(run, cut=nn.Conv2d(2, 8, 4, stride=4), norm=nn.LayerNorm(8), head=mean_head(8)))
        model.token = nn.Parameter(torch.zeros(1, 1, 8))
    (tap,) = Probe(model).tapped(sample(2, 16, 24))
    assert (tap.name, tap.layout) == ("norm", Layout("tokens", (4, 6), 1))
    assert "observed operations" in Probe(model).choice(sample(2, 16, 24))


@pytest.mark.parametrize("last", [False, True])
def test_the_deepest_layer_is_chosen_whatever_is_read_last(last: bool) -> None:
    def run(m: Any, x: Tensor) -> Tensor:
        stem = m.stem(x)
        deep = F.relu(m.deep(stem))
        parts = [deep.mean(2), stem.mean(2)] if last else [stem.mean(2), deep.mean(2)]
        return m.head(torch.cat(parts, 1))

    with seeded():
        model = ready(Net(run, stem=nn.Conv1d(2, 3, 3, padding=1), deep=nn.Conv1d(3, 3, 3, padding=1),
                          head=mean_head(6)))  # fmt: skip
    assert Probe(model).tapped(sample(2, 20))[0].name == "deep"


@pytest.mark.parametrize("kind", [nn.RNN, nn.GRU, nn.LSTM])
@pytest.mark.parametrize(("depth", "both"), [(1, False), (2, True)])
def test_a_recurrent_layer_whose_state_alone_is_read(kind: Any, depth: int, both: bool) -> None:
    def run(m: Any, x: Tensor) -> Tensor:
        state = m.rnn(F.relu(m.conv(x)).transpose(1, 2))[1]
        return m.head((state[0] if isinstance(state, tuple) else state)[-1])

    with seeded():
        rnn = kind(6, 6, depth, batch_first=True, bidirectional=both)
        model = ready(Net(run, conv=nn.Conv1d(2, 6, 3, padding=1), rnn=rnn, head=mean_head(6)))
    x = sample(2, 20)
    assert Probe(model).tapped(x)[0].name == "conv"
    assert float(explain(model, x, "hires-cam").abs().amax(1).min()) > 0


def test_a_loop_over_time_looks_at_all_of_it() -> None:
    def run(m: Any, x: Tensor) -> Tensor:
        steps, state = F.relu(m.conv(x)), x.new_zeros(len(x), 6)
        for t in range(20):
            state = m.cell(steps[:, :, t], state)
        return m.head(state)

    with seeded():
        model = ready(Net(run, conv=nn.Conv1d(2, 6, 3, padding=1), cell=nn.GRUCell(6, 6), head=mean_head(6)))
    with warnings.catch_warnings():
        warnings.simplefilter("error", HeatproofWarning)
        probe = Probe(model, layer="conv")
        explain(probe, sample(2, 20), "hires-cam")
    assert Probe(model).tapped(sample(2, 20))[0].name == "conv"


def test_a_layer_that_hands_on_what_one_inside_it_made_is_not_chosen() -> None:
    """Others may read what the inner layer made, so that a change of the outer one's output changes nothing."""

    class Base(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(2, 4, 3, padding=1)

        def forward(self, x: Tensor) -> Any:
            last = self.conv(x)
            return {"last": last, "pooled": last.mean((2, 3))}

    with seeded():
        model = ready(Net(lambda m, x: m.head(m.base(x)["pooled"]), base=Base(), head=mean_head(4)))
    x = sample(2, 9, 9)
    assert Probe(model).tapped(x)[0].name == "base.conv"
    assert float(explain(model, x, "hires-cam").abs().max()) > 0


@pytest.mark.parametrize("layer", [None, "conv", "same"])
def test_the_first_call_gives_what_later_ones_give(layer: str | None) -> None:
    """Also at a layer that does nothing, on one of two ways."""

    def run(m: Any, x: Tensor) -> Tensor:
        h = m.conv(x)
        return m.head((m.same(h) + F.relu(m.after(h))).mean(2))

    with seeded():
        model = ready(Net(run, conv=nn.Conv1d(2, 6, 3, padding=1), same=nn.Identity(), head=mean_head(6),
                          after=nn.Conv1d(6, 6, 3, padding=1)))  # fmt: skip
    x = sample(2, 20, n=1)
    probe = Probe(model, layer=layer)
    first, later = (explain(probe, x, ["grad-cam", "hires-cam"]) for _ in range(2))
    for name in first:
        torch.testing.assert_close(first[name], later[name])
    assert Probe(model).tapped(x)[0].name == "after"


# What the operations leave open


class Hidden(torch.autograd.Function):
    """A step that nobody can follow."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad


def hidden(shape: tuple[int, ...], before: Callable[[Tensor], Tensor], width: int, axes: Any) -> nn.Module:
    """A convolution, a step that cannot be followed, and a layer that only a disturbance can tell the layout of."""
    rank = len(shape) - 1
    conv = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[rank](2, width, 4, stride=4)
    return Net(lambda m, x: m.head(m.out(before(Hidden.apply(m.conv(x)))).mean(axes)), conv=conv, out=nn.Tanh(),
               head=mean_head(width))  # fmt: skip


@pytest.mark.parametrize(
    ("shape", "before", "axes", "expected"),
    [
        ((2, 32, 32), lambda h: h, (2, 3), Layout("first", (8, 8))),
        ((2, 32, 48), lambda h: h.permute(0, 2, 3, 1), (1, 2), Layout("last", (8, 12))),
        ((2, 16, 64), lambda h: h.flatten(2).transpose(1, 2), 1, Layout("tokens", (4, 16))),
        ((2, 64, 16), lambda h: F.pad(h.flatten(2).transpose(1, 2), (0, 0, 1, 0)), 1, Layout("tokens", (16, 4), 1)),
        ((2, 32, 32), lambda h: F.pad(h.flatten(2).transpose(1, 2), (0, 0, 0, 1)), 1, Layout("tokens", (8, 8), 0, 1)),
        ((2, 64), lambda h: h.transpose(1, 2), 1, Layout("last", (16,))),
        ((2, 64), lambda h: h.permute(2, 0, 1), 0, Layout("axes", (16,), 0, 0, ((0,), (-1,), ()))),
        ((2, 16, 16, 32), lambda h: h.permute(0, 2, 3, 4, 1), (1, 2, 3), Layout("last", (4, 4, 8))),
    ],
)
def test_a_disturbed_input_tells_the_layout(shape: Any, before: Any, axes: Any, expected: Layout) -> None:
    with seeded():
        model = ready(hidden(shape, before, 6, axes))
    rows = counted(model)
    x, snap = sample(*shape), snapshot(model)
    probe = Probe(model, layer="out")
    (tap,) = probe.tapped(x)
    assert tap.layout == expected
    assert "disturbed input" in probe.choice(x)
    assert probe.passes["forward"] == 14
    assert rows() == 14
    Probe(model, layer="out").tapped(x)
    assert same(snap, snapshot(model)) == []


def counted(model: nn.Module) -> Callable[[], int]:
    """How many rows went through a model since."""
    count = [0]
    inner = model.run  # type: ignore[assignment]

    def run(m: Any, x: Tensor) -> Any:
        count[0] += len(x)
        return inner(m, x)  # type: ignore[operator]

    model.__dict__["run"] = run
    return lambda: count[0]


def test_a_transposed_grid_is_not_read_as_if_it_were_none() -> None:
    """Places along a diagonal could not tell the axes of a square grid apart."""
    for seed in range(4):
        torch.manual_seed(seed)
        model = ready(hidden((2, 48, 48), lambda h: h.transpose(2, 3), 6, (2, 3)), seed=seed)
        with pytest.raises(LayerError, match="nothing follows the place"):
            Probe(model, layer="out").tapped(sample(2, 48, 48))


def test_each_axis_must_follow_the_place_by_itself() -> None:
    """Four channels beside a grid that follows are no depth, whichever of them answers."""
    for seed in range(12):
        torch.manual_seed(seed)
        convs = {"a": nn.Conv2d(6, 4, 3, padding=1), "b": nn.Conv2d(4, 4, 3, padding=1)}
        model = Net(lambda m, x: m.head(F.relu(m.b(F.relu(m.a(Hidden.apply(x[:, 0]))))).mean((2, 3))), **convs,
                    head=mean_head(4)).eval()  # fmt: skip
        seen = Probe(model).survey(torch.randn(1, 1, 6, 8, 10))
        layouts = [call.layout(seen.size) for call in seen.calls]
        assert all(layout is None or layout.grid[0] == 1 for layout in layouts)


@pytest.mark.parametrize("size", [(96, 96), (160, 160), (24, 40), (300,)])
def test_circular_convolutions_are_read_by_a_disturbed_input(size: tuple[int, ...]) -> None:
    conv: Any = nn.Conv2d if len(size) == 2 else nn.Conv1d
    for seed in range(3):
        torch.manual_seed(seed)
        first, second = (conv(c, 6, 3, padding=1, padding_mode="circular") for c in (2, 6))
        model = Net(lambda m, x: m.head(F.relu(m.b(F.relu(m.a(x)))).flatten(2).mean(2)), a=first, b=second,
                    head=mean_head(6)).eval()  # fmt: skip
        (tap,) = Probe(model).tapped(torch.randn(1, 2, *size))
        assert (tap.name, tap.layout) == ("b", Layout("first", size))


def test_an_ordinary_network_costs_no_disturbed_pass() -> None:
    with seeded():
        model = ready(CASES["class token last"].build())
    probe = Probe(model)
    probe.tapped(sample(2, 16, 16))
    assert probe.passes["forward"] == 1


def test_a_layer_without_positions_is_refused() -> None:
    """A dense layer over all of time mixes it: nothing follows the place that is disturbed."""

    def run(m: Any, x: Tensor) -> Tensor:
        return m.head(F.relu(m.over(m.conv(x))).mean(1))

    model = ready(Net(run, conv=nn.Conv1d(2, 6, 3, padding=1), over=nn.Linear(20, 9), head=mean_head(9)))
    with pytest.raises(LayerError, match=r"'over' has an output of shape \(N, 6, 9\).*disturbed.*layout="):
        Probe(model, layer="over").tapped(sample(2, 20))
    assert Probe(model).choice(sample(2, 20)).startswith("conv: ")


def mirrored(h: Tensor) -> Tensor:
    """Written into a tensor the other way round."""
    out = h * 0
    out[:] = h.flip(-1)
    return out


def mirrored_in_part(h: Tensor) -> Tensor:
    """All but the first written over by what lies on the other side."""
    out = h.clone()
    out[..., 1:] = h[..., :-1].flip(-1)
    return out


MOVED: dict[str, Callable[[Tensor], Tensor]] = {
    "rolled": lambda h: torch.roll(h, 13, -1),
    "rolled within a grid": lambda h: torch.roll(h.reshape(*h.shape[:2], 8, 4), (3, 2), (2, 3)).flatten(2),
    "halves swapped": lambda h: torch.cat([h[..., 16:], h[..., :16]], -1),
    "mirrored": lambda h: h.flip(-1),
    "mirrored in place": mirrored,
    "mirrored in part": mirrored_in_part,
    "padded at one end": lambda h: F.pad(h, (0, 20)),
    "pushed aside": lambda h: F.pad(h, (8, -8)),
    "cut at one end": lambda h: h[..., 8:],
    "cut by padding": lambda h: F.pad(h, (-24, 0)),
}
KEPT: dict[str, Callable[[Tensor], Tensor]] = {
    "rolled back": lambda h: torch.roll(torch.roll(h, 9, -1), -9, -1),
    "cut to a multiple": lambda h: h[..., :30],
    "cut on both sides": lambda h: h[..., 3:-3],
    "padded in front": lambda h: F.pad(h, (2, 0)),
    "padded and cut": lambda h: F.pad(h, (12, 12))[..., 12:-12],
}


@pytest.mark.parametrize("name", MOVED)
def test_positions_that_were_moved_are_never_read_as_if_they_were_not(name: str) -> None:
    with seeded():
        model = ready(Net(lambda m, x: m.head(F.relu(m.conv(MOVED[name](x))).mean(-1)),
                          conv=nn.Conv1d(2, 6, 3, padding=1), head=mean_head(6)))  # fmt: skip
    with pytest.raises(LayerError, match="flipped, shifted or mixed"):
        Probe(model).tapped(sample(2, 32))


@pytest.mark.parametrize("name", KEPT)
def test_positions_that_stay_in_their_place_are_read(name: str) -> None:
    with seeded():
        model = ready(Net(lambda m, x: m.head(F.relu(m.conv(KEPT[name](x))).mean(-1)),
                          conv=nn.Conv1d(2, 6, 3, padding=1), head=mean_head(6)))  # fmt: skip
    (tap,) = Probe(model).tapped(sample(2, 32))
    assert (tap.name, tap.layout.kind) == ("conv", "first")


def test_rolled_back_they_are_where_they_were() -> None:
    with seeded():
        model = ready(Net(lambda m, x: m.head(
                              m.out(torch.roll(m.conv(torch.roll(x, (3, -5), (2, 3))), (-3, 5), (2, 3))).mean((2, 3))),
                          conv=nn.Conv2d(2, 6, 3, padding=1), out=nn.Tanh(), head=mean_head(6)))  # fmt: skip
    (tap,) = Probe(model).tapped(sample(2, 12, 12))
    assert (tap.name, tap.layout.grid) == ("out", (12, 12))


def test_rows_of_windows_are_no_samples() -> None:
    case = CASES["windows"]
    model = ready(case.build())
    with pytest.raises(LayerError, match="runs on 8 rows for one sample"):
        Probe(model, layer="blocks.0.attn").tapped(sample(*case.shape))


# Blind layers


def test_a_blind_layer_is_never_chosen_and_said_to_be_so() -> None:
    model, x = ready(Tokens()), sample(2, 8, 12)
    assert Probe(model).choice(x).startswith("blocks.1.norm: the tokens that enter the last attention, 2x3 positions")
    for layer in ("norm", "blocks.1", "blocks.1.dense"):
        probe = Probe(model, layer=layer)
        with pytest.warns(HeatproofWarning, match=rf"{layer}' is blind.*no position.*take 'blocks\.1\.norm'"):
            _, G = probe.taps(x, 0)
        assert not bool(G.any())
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            probe.taps(x, 0)
    for layer in ("blocks.0", "blocks.1.norm", "blocks.1.qkv"):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert bool(Probe(model, layer=layer).taps(x, 0)[1].any())


def test_the_last_step_of_a_recurrent_layer() -> None:
    case = CASES["lstm, last step"]
    model, x = ready(case.build()), sample(*case.shape)
    assert "only the last step is read" in Probe(model).choice(x)
    with pytest.warns(HeatproofWarning, match=r"'rnn' is blind.*one position.*take 'conv'"):
        Probe(model, layer="rnn").taps(x, 0)
    lone = Net(lambda m, x: m.head(m.rnn(x.transpose(1, 2))[0][:, -1]), rnn=nn.LSTM(2, 6, batch_first=True),
               head=mean_head(6))  # fmt: skip
    with pytest.raises(LayerError, match=r"only the last step of the recurrent layer is read.*saliency"):
        Probe(ready(lone)).tapped(x)


def test_coarse_and_early_layers_are_said_in_the_choice() -> None:
    dense = (nn.Linear(24, width) for width in (24, 24, 24, 24, 4))
    model = ready(nn.Sequential(nn.Conv2d(2, 4, 3, stride=4), nn.ReLU(), nn.Flatten(), *dense))
    said = Probe(model).choice(sample(2, 10, 12))
    assert "coarse, fewer than 4 positions along an axis" in said
    assert "early, 1 of 6 layers with weights" in said


# By hand


@pytest.mark.parametrize(
    ("text", "shape", "rank", "expected"),
    [
        ("nchw", (1, 8, 5, 6), 2, Layout("first", (5, 6))),
        ("N H W C", (1, 5, 6, 8), 2, Layout("last", (5, 6))),
        ("ntc", (1, 5, 8), 1, Layout("last", (5,))),
        ("nct", (1, 8, 5), 1, Layout("first", (5,))),
        ("tnc", (5, 1, 8), 1, Layout("axes", (5,), 0, 0, ((0,), (-1,), ()))),
        ("tokens:4x16", (1, 64, 8), 2, Layout("tokens", (4, 16))),
        ("tokens:1+14x14", (1, 197, 8), 2, Layout("tokens", (14, 14), 1)),
        ("tokens:8x8+1", (1, 65, 8), 2, Layout("tokens", (8, 8), 0, 1)),
        ("ncl:2+2x3+1", (1, 8, 9), 2, Layout("axes", (2, 3), 2, 1, ((-1,), (), (0, 1)))),
        ("ncct", (1, 8, 3, 5), 1, Layout("axes", (5,), 0, 0, ((-1,), (), (), (0,)))),
        ("nchw", (1, 8, 1, 6), 2, Layout("first", (1, 6))),
        ("ncw", (1, 8, 6), 2, Layout("axes", (1, 6), 0, 0, ((-1,), (), (1,)))),
        ("tokens:1+6", (1, 7, 8), 1, Layout("tokens", (6,), 1)),
    ],
)
def test_notation(text: str, shape: Any, rank: int, expected: Layout) -> None:
    layout = parsed(text, shape, rank, "layer")
    assert layout == expected
    assert parsed(written(layout), shape, rank, "layer") == expected


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        ("nhwc", LayerError, r"'nhwc' does not fit the output of 'blocks.0', of shape \(1, 7, 8\): it names 4 axes"),
        ("tokens:2x3", LayerError, r"it names 6 tokens, axis 1 has 7; write tokens:1\+2x3"),
        ("lnc:1+2x3", LayerError, r"n is axis 1, which has 7 rows"),
        ("tokens:7", InputError, "expected a grid of 2 numbers"),
        ("tokens", InputError, r"layout: got 'tokens', expected one letter an axis or tokens"),
        ("nchh", InputError, "expected one letter an axis"),
        ("nct", InputError, "expected one letter an axis"),
        ("channels-last", InputError, "expected one letter an axis"),
        ("nc", InputError, "names no axis of positions"),
    ],
)  # fmt: skip
def test_notation_that_does_not_fit(text: str, kind: Any, message: str) -> None:
    model, x = ready(Tokens()), sample(2, 8, 12)
    with pytest.raises(kind, match=message):
        Probe(model, layer="blocks.0", layout=text).tapped(x)


@pytest.mark.parametrize("axes", [((-1,), (1, 0), ()), ((-1,), (), (1, 0)), ((1, 0), (-1,), ())])
def test_the_order_of_tokens_is_part_of_the_notation(axes: Any) -> None:
    layout = Layout.of(axes, (4, 6), 1)
    shape = tuple(1 if place == (-1,) else 5 if not place else 25 for place in axes)
    assert parsed(written(layout), shape, 2, "norm") == layout
    with pytest.raises(InputError, match="each of h, w once"):
        parsed("tokens:w4xw6", (1, 24, 5), 2, "norm")


def test_layout_by_hand_wins() -> None:
    """Six tokens as 3 x 2 instead of 2 x 3, because somebody says so."""
    model, x = ready(Tokens(prefix=0)), sample(2, 8, 12)
    (tap,) = Probe(model, layer="blocks.0", layout="tokens:3x2").tapped(x)
    assert tap.layout.grid == (3, 2)
    assert "as layout= says" in Probe(model, layer="blocks.0", layout="tokens:3x2").choice(x)
    assert Probe(model, layer="blocks.0").tapped(x)[0].layout.grid == (2, 3)
