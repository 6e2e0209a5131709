"""The model cut behind a layer: head and tail together are the model, for any rows; otherwise it is not cut."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from heatproof.probe import HeatproofWarning, Probe

from .toys import CLASSES, Branching, Functional, Plain, Residual, Tokens, Twice, cosine, inputs, ready, same, snapshot

NETS = {
    "plain": (lambda: Plain(2), ("conv1", "norm", "pool", "conv2", "relu2", "mean", "dense")),
    "functional": (lambda: Functional(2), ("conv1", "conv2")),
    "residual": (lambda: Residual(2), ("stem", "conv1", "conv2", "conv3", "relu@1", "relu@2")),
    "twice": (lambda: Twice(2), ("conv@1", "conv@2", "last")),
    "cosine": (lambda: cosine(2), ("conv1", "conv2")),
}
CASES = [(name, layer) for name, (_, layers) in NETS.items() for layer in layers if layer not in ("mean", "dense")]


def cut(model: nn.Module, layer: str, x: Tensor) -> Any:
    probe = Probe(model, layer=layer)
    return probe.runner(x).cut(probe.tapped(x)[0])


@pytest.mark.parametrize(("name", "layer"), CASES)
@pytest.mark.parametrize("n", [1, 2, CLASSES, 6])
def test_head_and_tail_are_the_model(name: str, layer: str, n: int) -> None:
    """Rows in any order and any number of times; neither half changes what it is given."""
    model, x = ready(NETS[name][0]()), inputs(2, n)
    halves = cut(model, layer, x)
    with torch.no_grad():
        out, live = halves.head(x)
        kept = [v.clone() if isinstance(v, Tensor) else v for v in live]
        for rows in (torch.arange(n), torch.zeros(2 * n + 1, dtype=torch.int64), torch.arange(n).repeat(2).flip(0)):
            logits = halves.tail(out[rows].clone(), *halves.live(live, rows))
            torch.testing.assert_close(logits, model(x[rows]), rtol=1e-4, atol=1e-5)
    for now, before in zip(live, kept, strict=True):
        assert torch.equal(now, before) if isinstance(now, Tensor) else now == before


def test_what_does_not_depend_on_the_layer_is_computed_once() -> None:
    """The tail of a residual block does not run the stem again."""
    halves = cut(ready(Residual(2)), "conv2", inputs(2))
    head, tail = (
        [node.target for node in half.graph.nodes if node.op == "call_module" and node.target != "relu"]
        for half in (halves.head, halves.tail)
    )
    assert head == ["stem", "conv1", "conv2"]
    assert tail == ["conv3", "mean", "dense"]


def test_weights_are_shared_not_copied() -> None:
    """A cut made once follows the model's training."""
    model, x = ready(Plain(2)), inputs(2)
    halves = cut(model, "conv2", x)
    with torch.no_grad():
        model.dense.weight.mul_(3)
        out, live = halves.head(x)
        torch.testing.assert_close(halves.tail(out, *live), model(x))


class Frames(nn.Module):
    """The batch size takes part in arithmetic."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.dense = nn.Conv1d(2, 6, 3, padding=1), nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        pairs = x.reshape(x.shape[0] * 2, 2, 12).mean((1, 2)).reshape(x.shape[0], 2)
        return self.dense(self.conv(x).mean(-1) + pairs.mean(1, keepdim=True))


class Constant(nn.Module):
    """Mixes in a tensor that is neither parameter nor buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.dense = nn.Conv1d(2, 6, 3), nn.Linear(6, CLASSES)
        self.table = {"shift": torch.linspace(-1, 1, 6)}

    def forward(self, x: Tensor) -> Tensor:
        return self.dense(F.relu(self.conv(x)).mean(-1) + self.table["shift"])


@pytest.mark.parametrize("kind", [Frames, Constant])
def test_left_as_it_was_by_tracing(kind: type[nn.Module]) -> None:
    model, x = ready(kind()), inputs(1)
    before = snapshot(model)
    halves = cut(model, "conv", x)
    assert same(before, snapshot(model)) == []
    with torch.no_grad():
        out, live = halves.head(x)
        torch.testing.assert_close(halves.tail(out, *live), model(x))


class Stashing(Plain):
    """Keeps a tensor of the last pass on itself."""

    def forward(self, x: Tensor) -> Any:
        self.kept = self.conv1(x)
        return super().forward(x)


def test_no_proxy_and_no_tensor_is_left_on_the_model() -> None:
    model, x = ready(Stashing(2)), inputs(2)
    cut(model, "conv2", x)
    assert "kept" not in vars(model)
    model.kept = torch.ones(3)
    cut(model, "conv2", x)
    assert torch.equal(model.kept, torch.ones(3))


class Aliasing(Residual):
    """Changes a tensor in place and goes on with its other name: the graph does not show it."""

    def forward(self, x: Tensor) -> Any:
        x = self.relu(self.stem(x))
        other = x
        x += self.conv2(x)
        return self.dense(self.mean(self.relu(self.conv3(F.relu(other)))).flatten(1))


class Lying(Plain):
    """Another result when traced."""

    def forward(self, x: Tensor) -> Any:
        h = super().forward(x)
        return h if isinstance(x, Tensor) else h * 2


def half(model: nn.Module, x: Tensor) -> Tensor:
    """The logit of class 1 with the output of conv2 halved."""
    handle = model.conv2.register_forward_hook(lambda _, __, out: out * 0.5)
    want = model(x)[:, 1].detach()
    handle.remove()
    return want


def test_a_graph_that_cannot_be_followed(capfd: pytest.CaptureFixture[str]) -> None:
    """Said once, in one line, with nothing on the standard error; the tail is then a full pass, and right."""
    model, x = ready(Branching(2)), inputs(2)
    before = snapshot(model)
    probe = Probe(model, layer="conv2", score="logit")
    A, _ = probe.taps(x, 1)
    with pytest.warns(HeatproofWarning, match="could not be followed behind 'conv2'") as seen:
        scores = probe.tail(A * 0.5, x, 1)
    probe.tail(A, x, 1)  # said once: a second warning would be an error here
    assert len(seen) == 1
    assert "\n" not in str(seen[0].message)
    assert capfd.readouterr().err == ""
    torch.testing.assert_close(scores, half(model, x), rtol=1e-4, atol=1e-5)
    assert same(before, snapshot(model)) == []


@pytest.mark.parametrize("kind", [Aliasing, Lying])
def test_a_graph_that_would_be_wrong_is_not_used(kind: Any) -> None:
    """Symbolic tracing succeeds and lies: that is noticed, and whatever is done instead is right."""
    model, x = ready(kind(2)), inputs(2)
    before = snapshot(model)
    probe = Probe(model, layer="conv2", score="logit")
    A, _ = probe.taps(x, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HeatproofWarning)
        scores = probe.tail(A * 0.5, x, 1)
    torch.testing.assert_close(scores, half(model, x), rtol=1e-4, atol=1e-5)
    assert same(before, snapshot(model)) == []


def test_tokens_keep_their_class_token() -> None:
    model, x = ready(Tokens()), inputs(2)[..., :8, :12].contiguous()
    probe = Probe(model, layer="blocks.1.norm", score="logit")
    A, _ = probe.taps(x, 1)
    torch.testing.assert_close(probe.tail(A, x, 1), model(x)[:, 1].detach(), rtol=1e-4, atol=1e-5)
