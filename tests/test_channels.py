"""Ablating every channel from one pass gives what zeroing each by a hook gives, for ordinary and odd networks."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from heatproof.probe import HeatproofWarning, Probe, Shot, Wants

from .toys import CLASSES, CONV, NORM, Functional, Plain, Residual, Tokens, cosine, inputs, ready


def ablated(
    model: nn.Module, layer: str, x: Tensor, *, score: str = "logit", quick: bool = False
) -> tuple[Tensor, Probe, Shot]:
    """The engine's (n, K); ``quick``: by arithmetic on channels, or the test fails."""
    probe = Probe(model, layer=layer, score=score)  # type: ignore[arg-type]
    ((shot,),) = list(probe.shots(x, None, probe.tapped(x), Wants(tail=True)))
    with pytest.MonkeyPatch.context() as patch:
        if quick:
            patch.setattr(Shot, "variants", lambda *_: pytest.fail("every channel cost a pass"))
        return shot.ablated, probe, shot


def by_hook(model: nn.Module, layer: str, x: Tensor, *, score: str = "logit", call: int = 1) -> Tensor:
    """The same by brute force: one full pass a channel, the channel zeroed by a hook."""
    module, chosen, count = model.get_submodule(layer), (-1), [0]

    def zero(_: nn.Module, __: Any, out: Tensor) -> Tensor | None:
        count[0] += 1
        if count[0] != call:
            return None
        width.append(out.shape[1])
        out = out.clone()
        if chosen >= 0:
            out[:, chosen] = 0
        return out

    def run() -> Tensor:
        count[0] = 0
        with torch.no_grad():
            z = model(x)
        return z.softmax(1) if score == "probability" else z

    width: list[int] = []
    handle = module.register_forward_hook(zero)
    try:
        target = run().argmax(1, keepdim=True)
        columns = []
        for k in range(width[0]):
            chosen = k
            columns.append(run().gather(1, target)[:, 0])
    finally:
        handle.remove()
    return torch.stack(columns, dim=1)


def agree(
    model: nn.Module, layer: str, x: Tensor, *, score: str = "logit", rtol: float = 1e-4, quick: bool = True
) -> tuple[Probe, Shot]:
    """The same numbers; ``quick``: by arithmetic on channels, not by the full passes that stand in where that fails."""
    scores, probe, shot = ablated(model, layer, x, score=score, quick=quick)
    want = by_hook(model, layer, x, score=score).float()
    assert float(want.std()) > 1e-4, "no channel matters: the comparison would prove nothing"
    torch.testing.assert_close(scores, want, rtol=rtol, atol=rtol * float(want.abs().max()))
    return probe, shot


@pytest.mark.parametrize("n", [1, 3, CLASSES])
@pytest.mark.parametrize("score", ["logit", "probability"])
@pytest.mark.parametrize("layer", ["conv1", "norm", "pool", "conv2", "relu2"])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_plain(rank: int, layer: str, score: str, n: int) -> None:
    agree(ready(Plain(rank)), layer, inputs(rank, n), score=score)


@pytest.mark.parametrize("layer", ["stem", "conv1", "conv2", "conv3"])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_skip_connections(rank: int, layer: str) -> None:
    agree(ready(Residual(rank)), layer, inputs(rank))


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_functional(rank: int) -> None:
    for layer in ("conv1", "conv2"):
        agree(ready(Functional(rank)), layer, inputs(rank))


def test_ablation_costs_no_full_pass() -> None:
    """Three samples open the model and are compared with the graph; one sample was looked at three times."""
    probe, _ = agree(ready(Plain(2)), "relu2", inputs(2))
    assert probe.passes["forward"] == 9


def body(function: Callable[[Any, Tensor], Tensor], *, rank: int = 2, base: type[nn.Module] = Plain) -> nn.Module:
    """A toy with another forward."""
    return ready(type("Odd", (base,), {"forward": function})(rank))


def test_weights_that_are_no_batch() -> None:
    """(classes, K) weights computed beside the layer, in a batch of as many samples as classes."""
    for n in (CLASSES, 2):
        agree(cosine(2), "conv2", inputs(2, n))

    class Free(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(2, 5, 3)
            self.w, self.b = nn.Parameter(torch.randn(CLASSES, 5)), nn.Parameter(torch.randn(CLASSES))

        def forward(self, x: Tensor) -> Tensor:
            return F.linear(F.relu(self.conv(x)).mean((2, 3)), self.w, self.b)

    for n in (CLASSES, 5, 2):
        agree(ready(Free()), "conv", inputs(2, n))


def stem(self: Any, x: Tensor) -> Tensor:
    return self.relu(self.stem(x))


def rest(self: Any, x: Tensor) -> Tensor:
    return self.dense(self.mean(self.relu(self.conv3(F.relu(x)))).flatten(1))


def added_by_method(self: Any, x: Tensor) -> Tensor:
    x = stem(self, x)
    x = x.add_(self.conv2(F.relu(self.conv1(x))))
    return rest(self, x)


def added_with_sign(self: Any, x: Tensor) -> Tensor:
    x = stem(self, x)
    x += self.conv2(F.relu(self.conv1(x)))
    return rest(self, x)


def added_and_kept(self: Any, x: Tensor) -> Tensor:
    x = stem(self, x)
    h = self.conv2(x)
    h.add_(x)
    return rest(self, h)


def added_to_the_skip(self: Any, x: Tensor) -> Tensor:
    x = stem(self, x)
    x.add_(self.conv2(x))
    return rest(self, x)


def relu_in_place(self: Any, x: Tensor) -> Tensor:
    x = stem(self, x)
    h = self.conv2(x)
    F.relu(h, inplace=True)
    return rest(self, h - 0.1)


def relu_then_add(self: Any, x: Tensor) -> Tensor:
    x = stem(self, x)
    return rest(self, self.relu(self.conv2(x) + 0).add_(x))


def twice_the_same(self: Any, x: Tensor) -> Tensor:
    x = self.conv2(stem(self, x))
    return rest(self, x + F.relu(x) * x - 0.5 * x)


def gated(self: Any, x: Tensor) -> Tensor:
    """Squeeze and excitation: every channel depends on all."""
    x = self.conv2(stem(self, x))
    return rest(self, x * torch.sigmoid(self.conv1(self.mean(x))))


def concatenated(self: Any, x: Tensor) -> Tensor:
    x = stem(self, x)
    h = torch.cat([self.conv2(x)[:, :3], x[:, 3:]], dim=1)
    return rest(self, h)


def shuffled(self: Any, x: Tensor) -> Tensor:
    h = self.conv2(stem(self, x))
    b, c = h.shape[0], h.shape[1]
    h = h.view(b, 2, c // 2, h.shape[2], h.shape[3]).transpose(1, 2).reshape(b, c, h.shape[2], h.shape[3])
    return rest(self, h)


@pytest.mark.parametrize(
    "forward",
    [added_by_method, added_with_sign, added_and_kept, relu_in_place, relu_then_add, twice_the_same, gated,
     concatenated, shuffled],
)  # fmt: skip
def test_odd_ways_to_write_a_block(forward: Callable[[Any, Tensor], Tensor]) -> None:
    agree(body(forward, base=Residual), "conv2", inputs(2), quick=forward is not added_and_kept)


@pytest.mark.filterwarnings("ignore:the model's graph could not be followed:heatproof.probe.HeatproofWarning")
def test_a_sum_that_only_its_side_effect_tells() -> None:
    agree(body(added_to_the_skip, base=Residual), "conv2", inputs(2), quick=False)


def flat_view(self: Any, x: Tensor) -> Tensor:
    h = self.mean(self.features(x))
    return self.dense(h.view(h.size(0), -1))


def flat_shape(self: Any, x: Tensor) -> Tensor:
    h = self.mean(self.features(x))
    return self.dense(h.reshape(h.shape[0], -1))


def flat_four(self: Any, x: Tensor) -> Tensor:
    b, c, h, w = (f := self.features(x)).shape
    return self.dense(f.view(b, c, h * w).mean(-1))


def flat_mean(self: Any, x: Tensor) -> Tensor:
    return self.dense(self.features(x).mean([-2, -1]))


def flat_kept(self: Any, x: Tensor) -> Tensor:
    return self.dense(self.features(x).mean((2, 3), keepdim=True).squeeze(-1).squeeze(-1))


def flat_pool(self: Any, x: Tensor) -> Tensor:
    return self.dense(torch.flatten(F.adaptive_avg_pool2d(self.features(x), 1), 1))


def flat_half(self: Any, x: Tensor) -> Tensor:
    """A mean over one axis only, then over the other."""
    return self.dense(self.features(x).mean(3).mean(2))


def flat_top(self: Any, x: Tensor) -> Tensor:
    return self.dense(self.features(x).flatten(2).topk(3, dim=2).values.mean(2))


@pytest.mark.parametrize(
    "forward", [flat_view, flat_shape, flat_four, flat_mean, flat_kept, flat_pool, flat_half, flat_top]
)
def test_ways_to_flatten(forward: Callable[[Any, Tensor], Tensor]) -> None:
    for n in (1, 3):
        agree(body(forward), "conv2", inputs(2, n))


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_flattened_positions_and_stacked_norms(rank: int) -> None:
    """Flattened into a dense layer, with batch normalisation after the flattening, and depthwise, strided, grouped."""
    x = inputs(rank, 3)
    tail = nn.Sequential(
        nn.MaxPool1d(2) if rank == 1 else nn.Identity(),
        NORM[rank](6),
        nn.GELU(),
        CONV[rank](6, 6, 3, padding=1, groups=6, stride=2),
        nn.Hardswish(inplace=True),
        nn.Flatten(),
    )
    with torch.no_grad():
        width = tail.eval()(torch.zeros(1, 6, *x.shape[2:])).shape[1]
    model = nn.Sequential(CONV[rank](2, 6, 3, padding=1), *tail, nn.BatchNorm1d(width), nn.Linear(width, CLASSES))
    agree(ready(model), "0", x)
    grouped = nn.Sequential(CONV[rank](2, 6, 3, padding=1), CONV[rank](6, 4, 3, groups=2), nn.Flatten(2))
    agree(ready(nn.Sequential(grouped, Mean(), nn.Linear(4, CLASSES))), "0.0", x)


class Mean(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean(-1)


@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("padding", [0, 1, "same"])
def test_the_first_convolution_behind(padding: Any, dilation: int) -> None:
    """Linear in each channel's change, with any padding and dilation; other padding modes are run in full."""
    for mode in ("zeros", "circular"):
        if mode == "circular" and padding == 0:
            continue
        behind = nn.Conv2d(6, 3, 3, padding=padding, dilation=dilation, padding_mode=mode)
        model = nn.Sequential(nn.Conv2d(2, 6, 1), nn.ReLU(), behind, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        agree(ready(nn.Sequential(model, nn.Linear(3, CLASSES))), "0.0", inputs(2))


def test_norms_that_mix_channels() -> None:
    for norm in (nn.GroupNorm(2, 6), nn.GroupNorm(1, 6), nn.InstanceNorm2d(6, affine=True), nn.LocalResponseNorm(3)):
        model = nn.Sequential(
            nn.Conv2d(2, 6, 3), norm, nn.ReLU(), nn.Conv2d(6, 4, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        )
        agree(ready(model), "0", inputs(2))


def test_shared_and_parametrised_weights() -> None:
    model = ready(Plain(2))
    nn.utils.parametrizations.weight_norm(model.dense)
    with pytest.warns(HeatproofWarning, match="dense is parametrised"):
        agree(model, "conv2", inputs(2, CLASSES), quick=False)
    agree(ready(nn.Sequential(Plain(2), nn.Linear(CLASSES, CLASSES, bias=False))), "0.conv2", inputs(2))


def test_recurrent_and_token_models() -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv1d(2, 6, 3)
            self.lstm = nn.LSTM(6, 5, num_layers=2, batch_first=True)
            self.dense = nn.Linear(5, CLASSES)

        def forward(self, x: Tensor) -> Tensor:
            _, (last, _) = self.lstm(F.relu(self.conv(x)).transpose(1, 2))
            return self.dense(last[-1])

    for n in (1, 2, 3):
        agree(ready(Recurrent()), "conv", inputs(1, n))
    for n in (1, 3):
        agree(ready(Tokens()), "patches", inputs(2, n)[..., :8, :12])


def test_a_layer_used_twice() -> None:
    from .toys import Twice

    model, x = ready(Twice(2)), inputs(2)
    for call in (1, 2):
        scores, _, _ = ablated(model, f"conv@{call}", x)
        torch.testing.assert_close(scores, by_hook(model, "conv", x, call=call), rtol=1e-4, atol=1e-5)


def test_two_names_of_one_layer() -> None:
    model = ready(Plain(2))
    model.add_module("again", model.conv2)
    agree(model, "again", inputs(2))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_precision(dtype: torch.dtype) -> None:
    agree(ready(Plain(2)).to(dtype), "conv2", inputs(2, dtype=dtype), rtol=3e-2 if dtype != torch.float64 else 1e-5)


def test_softmax_at_the_end_leaves_the_logits() -> None:
    """The logit is what stands before the softmax, in the score explained and in every ablation."""
    inner = ready(Plain(2))
    want = by_hook(inner, "conv2", inputs(2))
    for model, layer in (
        (nn.Sequential(inner, nn.Softmax(1)), "0.conv2"),
        (body(lambda self, x: F.softmax(Plain.forward(self, x), dim=1)), "conv2"),
    ):
        scores, probe, shot = ablated(model, layer, inputs(2))
        torch.testing.assert_close(scores, want, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(shot.score, inner(inputs(2)).amax(1).detach(), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(probe.scores(inputs(2)), shot.score, rtol=1e-4, atol=1e-4)


def test_small_batches_change_nothing() -> None:
    model, x = ready(Residual(2)), inputs(2)
    want, _, _ = ablated(model, "conv1", x)
    for batch in (1, 2, 5):
        probe = Probe(model, layer="conv1", score="logit", batch=batch)
        parts = [shot.ablated for (shot,) in probe.shots(x, None, probe.tapped(x), Wants(tail=True))]
        torch.testing.assert_close(torch.cat(parts), want, rtol=1e-5, atol=1e-5)


def test_models_that_cannot_be_traced_are_run_in_full() -> None:
    from .toys import Branching

    model, x = ready(Branching(2)), inputs(2)
    probe = Probe(model, layer="conv2", score="logit")
    with pytest.warns(HeatproofWarning, match="graph could not be followed") as seen:
        parts = [shot.ablated for (shot,) in probe.shots(x, None, probe.tapped(x), Wants(tail=True))]
    assert len(seen) == 1
    torch.testing.assert_close(parts[0], by_hook(model, "conv2", x), rtol=1e-4, atol=1e-4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        list(probe.shots(x, None, probe.tapped(x), Wants(tail=True)))
