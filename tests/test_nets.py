"""The course network and the summary table."""

from __future__ import annotations

import pytest
import torch
from torch import fx, nn
from torch.nn import functional

import heatproof as hp
from heatproof.errors import InputError, UnknownName, UsageError


def test_the_course_network_has_the_course_table() -> None:
    table = hp.nets.summary(hp.nets.build("mnist1d-cnn"), (1, 40))
    assert [row.layer for row in table.rows] == ["conv1d", "conv1d_1", "conv1d_2", "flatten", "dense"]
    assert [row.shape for row in table.rows] == [(25, 40), (25, 40), (25, 40), (1000,), (10,)]
    assert [row.parameters for row in table.rows] == [150, 1900, 1900, 0, 10010]
    assert (table.parameters, table.trainable) == (13960, 13960)
    text = str(table)
    assert "(N, 25, 40)" in text
    assert "10,010" in text
    assert text.splitlines()[-1].startswith("Total 13,960")


def test_the_network_computes_what_its_layers_say() -> None:
    net = hp.nets.build("mnist1d-cnn").double()
    x = torch.randn(3, 1, 40, dtype=torch.float64)
    weights = dict(net.named_parameters())
    out = x
    for layer, kernel in (("conv1d", 5), ("conv1d_1", 3), ("conv1d_2", 3)):
        before = out
        padded = functional.pad(out, (kernel // 2, kernel // 2))
        windows = padded.unfold(2, kernel, 1)
        filters, bias = weights[f"{layer}.conv.weight"], weights[f"{layer}.conv.bias"]
        out = (torch.einsum("nctk,fck->nft", windows, filters) + bias[:, None]).clamp_min(0)
        torch.testing.assert_close(getattr(net, layer)(before), out)
    expected = out.reshape(3, 1000) @ weights["dense.weight"].T + weights["dense.bias"]
    torch.testing.assert_close(net(x), expected)


def test_weights_start_as_the_course_started_them() -> None:
    net = hp.nets.build("mnist1d-cnn")
    assert float(net.dense.weight.detach().std()) == pytest.approx(0.5, rel=0.03)
    for name, parameter in net.named_parameters():
        if name.endswith("bias"):
            assert not parameter.any()
    for layer, fan in (("conv1d", (1 + 25) * 5), ("conv1d_1", (25 + 25) * 3)):
        limit = (6 / fan) ** 0.5
        largest = float(getattr(net, layer).conv.weight.detach().abs().max())
        assert 0.9 * limit < largest <= limit


def test_the_network_can_be_traced() -> None:
    net = hp.nets.build("mnist1d-cnn").eval()
    x = torch.randn(2, 1, 40)
    torch.testing.assert_close(fx.symbolic_trace(net)(x), net(x))


def test_options_change_the_sizes() -> None:
    net = hp.nets.build("mnist1d-cnn:classes=3,length=16,channels=2,filters=4,kernels=3+3")
    assert net(torch.zeros(5, 2, 16)).shape == (5, 3)
    with pytest.raises(UsageError, match="classes"):
        hp.nets.build("mnist1d-cnn:classes=0")
    with pytest.raises(UsageError, match="kernels"):
        hp.nets.build("mnist1d-cnn:kernels=3+0")
    with pytest.raises(UnknownName, match="mnist1d-cnn"):
        hp.nets.build("mnist1d-rnn")


class Forked(nn.Module):
    """A layer used twice, one never used, one that gives no tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Linear(7, 7)
        self.head = nn.Sequential(nn.Linear(4, 2), nn.ReLU())
        self.twice = nn.Linear(4, 4, bias=False)
        self.pair = Pair()
        self.twice.requires_grad_(False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first, second = self.pair(self.twice(self.twice(x)))
        return self.head(first + second)


class Pair(nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x, x


def test_summary_of_any_module() -> None:
    model = Forked().train()
    table = hp.nets.summary(model, (4,))
    assert [(row.layer, row.shape, row.parameters) for row in table.rows] == [
        ("twice", (4,), 16),
        ("pair", None, 0),
        ("head", (2,), 10),
        ("unused", None, 56),
    ]
    assert (table.parameters, table.trainable) == (82, 66)
    assert "frozen 16" in str(table)
    deep = hp.nets.summary(model, (4,), depth=2)
    assert [row.layer for row in deep.rows] == ["twice", "pair", "head.0", "head.1", "unused"]
    assert model.training
    assert not any(module._forward_hooks for module in model.modules())


def test_summary_of_a_module_without_layers_and_of_an_unfit_input() -> None:
    (row,) = hp.nets.summary(nn.Linear(4, 3), (4,)).rows
    assert (row.layer, row.shape, row.parameters) == ("linear", (3,), 15)
    model = nn.Sequential(nn.Linear(4, 3))
    with pytest.raises(InputError, match=r"\(N, 5\)"):
        hp.nets.summary(model, (5,))
    assert model.training
    assert not model[0]._forward_hooks
