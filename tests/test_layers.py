"""Which layer is looked at, how its output is read as positions, and what is said when it cannot be."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from heatproof.errors import LayerError
from heatproof.probe import Probe
from heatproof.probe.layout import Layout

from .toys import CONV, Deaf, Functional, Plain, Residual, Tokens, Twice, inputs, ready


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize(
    ("kind", "expected"), [(Plain, "relu2"), (Functional, "conv2"), (Twice, "last"), (Residual, "relu@2")]
)
def test_automatic_choice(kind: Any, expected: str, rank: int) -> None:
    """The last convolution and what follows it at the same positions; a call where a module runs twice."""
    model, x = ready(kind(rank)), inputs(rank)
    said = Probe(model).choice(x)
    assert said.startswith(f"{expected}: the last convolution")
    if "@" not in expected:
        assert Probe(model, layer=expected).choice(x).startswith(f"{expected}: as asked")
    (tap,) = Probe(model).tapped(x)
    assert tap.name == expected.partition("@")[0]


def test_the_last_layer_with_more_than_one_position() -> None:
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Conv2d(4, 4, 1), nn.Flatten())
    assert Probe(ready(model)).choice(inputs(2)).startswith("1: the last convolution")
    assert "last convolution being 0" in Probe(ready(model)).choice(inputs(2))


def test_transformers_are_read_as_grids() -> None:
    model, x = ready(Tokens()), inputs(2)[..., :8, :12]
    (tap,) = Probe(model, layer="blocks.1.norm").tapped(x)
    assert tap.layout == Layout("tokens", (2, 3), 1)
    (tap,) = Probe(ready(Tokens(prefix=0)), layer="blocks.1.norm").tapped(x)
    assert tap.layout == Layout("tokens", (2, 3), 0)


def test_transformers_are_explained_at_the_last_norm() -> None:
    """The patch embedding is a convolution too, and the last one; but it is no place to look at."""
    model, x = ready(Tokens()), inputs(2)[..., :8, :12]
    assert Probe(model).choice(x).startswith("norm:") or "blocks.1.norm" in Probe(model).choice(x)


@pytest.mark.parametrize(
    ("place", "shape"),
    [
        (Layout("first", (2, 3)), (4, 5, 2, 3)),
        (Layout("last", (2, 3)), (4, 2, 3, 5)),
        (Layout("tokens", (2, 3), 0), (4, 6, 5)),
        (Layout("tokens", (2, 3), 2), (4, 8, 5)),
        (Layout("tokens", (2, 1, 3), 1), (4, 7, 5)),
        (Layout("tokens", (2, 3), 1, 2), (4, 9, 5)),
    ],
)
def test_reading_and_writing(place: Layout, shape: tuple[int, ...]) -> None:
    """(N, K, *s) and back; what is no position is kept; each position is where it belongs."""
    out = torch.randn(shape)
    A = place.read(out)
    assert A.shape == (4, 5, *place.grid)
    torch.testing.assert_close(place.write(A, out), out)
    changed = place.write(A * 2, out)
    torch.testing.assert_close(place.read(changed), A * 2)
    ends = [*range(place.prefix), *range(out.shape[1] - place.suffix, out.shape[1])]
    torch.testing.assert_close(changed[:, ends], out[:, ends])
    if place.kind == "tokens" and len(place.grid) == 2:
        torch.testing.assert_close(A[1, 2, 1, 2], out[1, place.prefix + 1 * 3 + 2, 2])


def test_layers_by_name_by_module_and_by_call() -> None:
    model, x = ready(Twice(2)), inputs(2)
    for call in (1, 2):
        (tap,) = Probe(model, layer=f"conv@{call}").tapped(x)
        assert (tap.name, tap.call) == ("conv", call)
    first, second = (Probe(model, layer=f"conv@{c}").taps(x, 1)[0] for c in (1, 2))
    torch.testing.assert_close(first, model.conv(x).detach())
    torch.testing.assert_close(second, model.conv(model.conv(x).relu()).detach())
    (tap,) = Probe(model, layer=model.last).tapped(x)
    assert tap.name == "last"


def test_messages_offer_layers_that_fit() -> None:
    model, x = ready(Deaf(2)), inputs(2)
    with pytest.raises(LayerError, match=r"never runs for this input; choose one of: .*relu2"):
        Probe(model, layer="unused").tapped(x)
    with pytest.raises(LayerError, match=r"shape \(N, 4\).*no positions"):
        Probe(model, layer="dense").tapped(x)


def test_a_layer_that_sees_another_number_of_rows() -> None:
    """Bags of frames: the layer's rows are no samples."""

    class Bag(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.dense = CONV[1](2, 6, 3, padding=1), nn.Linear(6, 4)

        def forward(self, x: Tensor) -> Tensor:
            h = self.conv(x.reshape(-1, 2, 12)).relu().mean(-1)
            return self.dense(h.reshape(-1, 2, 6).mean(1))

    with pytest.raises(LayerError, match=r"conv.*row"):
        Probe(ready(Bag()), layer="conv").taps(inputs(1))
