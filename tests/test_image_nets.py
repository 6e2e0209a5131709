"""Networks for tissue and planted tasks: sizes, names, and what the rest of the package relies on."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from heatproof.errors import UsageError
from heatproof.nets import build, nets, summary

NETS = {"vgg-7": (3, 32, 32), "tissue-resnet": (3, 32, 32), "small-cnn:rank=1": (1, 16), "small-cnn": (1, 8, 8, 8)}


def multiply_adds(model: nn.Module, shape: tuple[int, ...]) -> int:
    """Counted layer by layer from the outputs' sizes."""
    total = 0

    def count(layer: nn.Module, _: object, out: torch.Tensor) -> None:
        nonlocal total
        total += layer.weight[0].numel() * out[0].numel()

    handles = [m.register_forward_hook(count) for m in model.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    with torch.inference_mode():
        model.eval()(torch.zeros(1, *shape))
    for handle in handles:
        handle.remove()
    return total


def test_vgg_7_is_the_course_network() -> None:
    table = summary(build("vgg-7"), (3, 224, 224))
    assert [(row.layer, row.parameters) for row in table.rows] == [
        ("conv2d", 896),
        ("conv2d_1", 9_248),
        ("max_pooling2d", 0),
        ("conv2d_2", 18_496),
        ("conv2d_3", 36_928),
        ("max_pooling2d_1", 0),
        ("global_average_pooling2d", 0),
        ("dense", 520),
    ]
    assert table.parameters == 66_088
    assert table.rows[4].shape == (64, 112, 112)


def test_tissue_resnet_is_small() -> None:
    model = build("tissue-resnet")
    assert sum(p.numel() for p in model.parameters()) == 775_320
    assert multiply_adds(model, (3, 128, 128)) * 2 < 0.3e9
    assert summary(model, (3, 128, 128)).rows[8].shape == (128, 8, 8)


@pytest.mark.parametrize(("spec", "shape"), NETS.items())
class TestEvery:
    def test_traces_and_names_its_layer(self, spec: str, shape: tuple[int, ...]) -> None:
        model = build(spec).eval()
        layer = nets[spec.partition(":")[0]].layer
        assert layer in dict(model.named_modules())
        x = torch.rand(2, *shape)
        torch.testing.assert_close(torch.fx.symbolic_trace(model)(x), model(x))

    def test_samples_do_not_touch_each_other(self, spec: str, shape: tuple[int, ...]) -> None:
        model, x = build(spec).eval(), torch.rand(5, *shape)
        singles = torch.cat([model(one[None]) for one in x])
        torch.testing.assert_close(model(x), singles)

    def test_no_layer_is_used_twice(self, spec: str, shape: tuple[int, ...]) -> None:
        model, calls = build(spec).eval(), []
        leaves = [m for m in model.modules() if not list(m.children())]
        for leaf in leaves:
            leaf.register_forward_hook(lambda module, *_: calls.append(module))
        model(torch.rand(1, *shape))
        assert len(calls) == len(set(calls)) == len(leaves)

    def test_learns(self, spec: str, shape: tuple[int, ...]) -> None:
        model, x = build(spec), torch.rand(4, *shape)
        nn.functional.cross_entropy(model(x), torch.tensor([0, 1, 2, 0])).backward()
        assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in model.parameters())

    def test_options(self, spec: str, shape: tuple[int, ...]) -> None:
        more = build(f"{spec}{',' if ':' in spec else ':'}classes=5,channels=2").eval()
        assert more(torch.rand(1, 2, *shape[1:])).shape == (1, 5)


@pytest.mark.parametrize(
    "spec", ["vgg-7:classes=0", "tissue-resnet:depth=2+2", "tissue-resnet:filters=0+1+1+1", "small-cnn:rank=4"]
)
def test_impossible_options_are_refused(spec: str) -> None:
    with pytest.raises(UsageError):
        build(spec)
