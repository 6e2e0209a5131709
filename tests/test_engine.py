"""What every method can be asked for: smoothing, fused layers, several targets."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from heatproof.errors import UsageError
from heatproof.methods import explain
from heatproof.methods.engine import fuse
from heatproof.probe import Contrast, Probe


def net(rank: int) -> nn.Sequential:
    torch.manual_seed(rank)
    conv = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[rank]
    return nn.Sequential(
        conv(2, 6, 3, padding=1),
        nn.ReLU(),
        conv(6, 5, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(5 * 6**rank, 4),
    )


def inputs(rank: int) -> Tensor:
    return torch.randn(3, 2, *(6,) * rank, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("name", ["grad-cam", "saliency", "eigen-cam"])
def test_augment_smoothing_is_the_mean_over_mirrored_and_scaled_copies(rank: int, name: str) -> None:
    model, x = net(rank), inputs(rank)
    goal = model(x).argmax(1)
    copies = [explain(model, x * f, name, target=goal) for f in (0.9, 1.0, 1.1)]
    copies += [explain(model, x.flip(-1) * f, name, target=goal).flip(-1) for f in (0.9, 1.0, 1.1)]
    assert_close(explain(model, x, f"{name}:smooth=augment"), torch.stack(copies).mean(0))


def test_eigen_smoothing_keeps_the_direction_of_equal_copies() -> None:
    """Where all copies show the same map, the projection is that map."""
    linear = nn.Sequential(nn.Conv1d(1, 1, 1, bias=False), nn.Flatten(), nn.Linear(6, 2, bias=False))
    with torch.no_grad():
        linear[2].weight.copy_(torch.tensor([[1.0, 2, 3, 3, 2, 1], [0, 0, 0, 0, 0, 0]]))
    x = torch.ones(1, 1, 6)
    plain = explain(linear, x, "saliency", target=0)
    assert_close(explain(linear, x, "saliency:smooth=eigen", target=0), plain)


def test_layers_are_fused_after_scaling_each_to_its_own_peak() -> None:
    first, second = torch.tensor([[2.0, 0.0, -4.0]]), torch.tensor([[1.0, 5.0, 10.0]])
    assert_close(fuse([first, second]), torch.tensor([[0.3, 0.25, 0.0]]))
    assert_close(fuse([first, second], "max"), torch.tensor([[0.5, 0.5, 1.0]]))
    assert_close(fuse([first, second], "product"), torch.tensor([[0.05, 0.0, 0.0]]))
    assert_close(fuse([first]), first)


@pytest.mark.parametrize("how", ["mean", "max", "product"])
def test_several_layers_share_a_pass(how: str) -> None:
    model, x = net(2), inputs(2)
    single = [explain(Probe(model, layer=layer), x, "layer-cam") for layer in ("1", "3")]
    both = Probe(model, layer=["1", "3"])
    assert_close(explain(both, x, f"layer-cam:fuse={how}"), fuse(single, how))  # type: ignore[arg-type]
    assert both.passes["forward"] == both.passes["backward"] == len(x)


def test_gradient_cams_asked_for_together_share_one_forward_and_one_backward_pass() -> None:
    probe, x = Probe(net(2)), inputs(2)
    probe.survey(x)
    probe.passes.clear()
    explain(probe, x, ["grad-cam", "grad-cam-plus-plus", "layer-cam", "hires-cam", "xgrad-cam", "eigen-cam"])
    assert (probe.passes["forward"], probe.passes["backward"]) == (3, 3)


def test_a_table_of_targets_gives_a_map_each() -> None:
    model, x = net(1), inputs(1)
    top = model(x).topk(2, dim=1).indices
    maps = explain(model, x, "grad-cam", target=top)
    assert maps.shape == (3, 2, 6)
    assert_close(maps[:, 1], explain(model, x, "grad-cam", target=top[:, 1]))


def test_a_contrast_is_the_difference_of_two_classes_gradients() -> None:
    model, x = net(1), inputs(1)
    one, other = (explain(model, x, "hires-cam", target=t) for t in (1, 2))
    assert_close(explain(model, x, "hires-cam", target=Contrast(1, 2)), one - other)


@pytest.mark.parametrize("wrong", ["grad-cam:smooth=much", "grad-cam:fuse=sum", "ss-cam:samples=0"])
def test_options_outside_their_range_are_refused(wrong: str) -> None:
    with pytest.raises(UsageError, match="expected"):
        explain(net(1), inputs(1), wrong)
