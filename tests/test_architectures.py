"""torchvision's and timm's networks, with random weights: the layer chosen, and what is read and cut there."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from heatproof.methods import explain
from heatproof.probe import Probe, Wants

from .toys import same, seeded, snapshot

tv = pytest.importorskip("torchvision.models")
timm = pytest.importorskip("timm")
CLASSES = 10


@dataclass(frozen=True)
class Net:
    """How to build a network, the input it takes, the layer expected, and that layer's channels and positions."""

    build: Callable[[], nn.Module]
    size: tuple[int, ...]
    layer: str
    grid: tuple[int, ...]


def tiny(name: str, **options: Any) -> Callable[[], nn.Module]:
    return lambda: timm.create_model(name, num_classes=CLASSES, **options)


def torchvision(name: str, **options: Any) -> Callable[[], nn.Module]:
    return lambda: tv.get_model(name, weights=None, num_classes=CLASSES, **options)


def vit() -> nn.Module:
    return tv.VisionTransformer(64, 16, 2, 4, hidden_dim=64, mlp_dim=96, num_classes=CLASSES)


def vgg() -> nn.Module:
    """VGG-11 with batch normalisation; its first dense layer, of 100 million weights, replaced by a small one."""
    model = tv.VGG(nn.Identity(), num_classes=CLASSES, init_weights=False)
    model.features = tv.vgg.make_layers(tv.vgg.cfgs["A"], batch_norm=True)
    model.classifier = nn.Sequential(nn.Linear(512 * 49, 32), nn.ReLU(True), nn.Dropout(), nn.Linear(32, CLASSES))
    return model


SMALL = (3, 64, 64)
NETS = {
    "resnet18": Net(torchvision("resnet18"), SMALL, "layer4", (512, 2, 2)),
    "vgg11_bn": Net(vgg, SMALL, "features.27", (512, 4, 4)),
    "densenet121": Net(torchvision("densenet121"), SMALL, "features", (1024, 2, 2)),
    "efficientnet_b0": Net(torchvision("efficientnet_b0"), SMALL, "features", (1280, 2, 2)),
    "mobilenet_v3_small": Net(torchvision("mobilenet_v3_small"), SMALL, "features", (576, 2, 2)),
    "convnext_tiny": Net(torchvision("convnext_tiny"), SMALL, "features", (768, 2, 2)),
    "inception_v3": Net(torchvision("inception_v3", init_weights=False), (3, 128, 128), "Mixed_7c", (2048, 2, 2)),
    "regnet_y_400mf": Net(torchvision("regnet_y_400mf"), SMALL, "trunk_output", (440, 2, 2)),
    "shufflenet_v2_x0_5": Net(torchvision("shufflenet_v2_x0_5"), SMALL, "conv5", (1024, 2, 2)),
    "squeezenet1_1": Net(torchvision("squeezenet1_1"), SMALL, "classifier.2", (CLASSES, 3, 3)),
    "r3d_18": Net(torchvision("r3d_18"), (3, 4, 32, 32), "layer4", (512, 1, 2, 2)),
    "mc3_18": Net(torchvision("mc3_18"), (3, 4, 32, 32), "layer4", (512, 4, 2, 2)),
    "vit": Net(vit, SMALL, "encoder.layers.encoder_layer_1.ln_1", (64, 4, 4)),
    "timm resnet18": Net(tiny("resnet18"), SMALL, "layer4", (512, 2, 2)),
    "timm efficientnet_b0": Net(tiny("efficientnet_b0"), SMALL, "bn2", (1280, 2, 2)),
    "timm convnext_atto": Net(tiny("convnext_atto"), SMALL, "stages", (320, 2, 2)),
    "timm deit_tiny": Net(
        tiny("deit_tiny_patch16_224", img_size=(64, 96), depth=2), (3, 64, 96), "blocks.1.norm1", (192, 4, 6)
    ),
    "timm swin_tiny": Net(
        tiny("swin_tiny_patch4_window7_224", img_size=64, window_size=2, depths=(1, 1, 1, 2), embed_dim=24),
        SMALL,
        "norm",
        (192, 2, 2),
    ),
}  # fmt: skip


def built(name: str) -> tuple[nn.Module, Tensor]:
    """The network with every flat parameter (biases, norms, heads that start at zero) made random, and two inputs."""
    with seeded(1), torch.no_grad():
        model = NETS[name].build().eval()
        for value in model.parameters():
            if value.ndim == 1 or not bool(value.any()):
                value.add_(torch.randn(value.shape) * 0.1)
        return model, torch.randn(2, *NETS[name].size)


@pytest.mark.parametrize("name", NETS)
def test_architecture(name: str) -> None:
    """The expected layer is chosen; A and G are right; the tail is the network; ablations are those of a hook."""
    model, x = built(name)
    before = snapshot(model)
    with torch.no_grad():
        logits = model(x)
    target = logits.argmax(1)
    probe = Probe(model, score="logit")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (tap,) = probe.tapped(x)
        ((shot,),) = list(probe.shots(x, None, [tap], Wants(gradient=True, tail=True)))
        maps = explain(probe, x, ["grad-cam", "hires-cam"])
    assert tap.name == NETS[name].layer
    assert tap.name in probe.choice(x)
    assert shot.A.shape == (2, *NETS[name].grid)
    assert all(m.shape == (2, *x.shape[2:]) for m in maps.values())
    assert float(maps["hires-cam"].flatten(1).std(1).min()) > 0
    torch.testing.assert_close(shot.logits, logits, rtol=1e-4, atol=1e-5)

    scale = float(logits.abs().max())
    noise = torch.randn(shot.A.shape, generator=torch.Generator().manual_seed(0)) * shot.A.std()
    want = replaced(model, tap, x, shot.A + noise).gather(1, target[:, None])[:, 0]
    torch.testing.assert_close(shot.tail(shot.A + noise, torch.arange(2)), want, rtol=1e-4, atol=1e-5 * scale)
    noise = noise * (shot.A != 0)  # a ReLU's zeros are ties for the pooling behind it
    slope = directional(model, tap, x, shot.A, noise, target)
    torch.testing.assert_close(
        (shot.G * noise).flatten(1).sum(1), slope, rtol=2e-2, atol=1e-3 * float(slope.abs().max())
    )

    if "swin" not in name:
        K = shot.A.shape[1]
        for k in (0, K // 2, K - 1):
            changed = shot.A.clone()
            changed[:, k] = 0
            want = replaced(model, tap, x, changed).gather(1, target[:, None])[:, 0]
            torch.testing.assert_close(shot.ablated[:, k], want, rtol=1e-4, atol=1e-5 * scale)
    assert same(before, snapshot(model)) == []


def replaced(model: nn.Module, tap: Any, x: Tensor, A: Tensor) -> Tensor:
    """The logits with the layer's output replaced by a hook."""
    calls = [0]

    def swap(_: nn.Module, __: Any, out: Tensor) -> Tensor | None:
        calls[0] += 1
        return tap.layout.write(A, out).clone() if calls[0] == tap.call else None

    handle = tap.module.register_forward_hook(swap)
    with torch.no_grad():
        maps = model(x)
    handle.remove()
    return maps


def directional(model: nn.Module, tap: Any, x: Tensor, A: Tensor, step: Tensor, target: Tensor) -> Tensor:
    """The derivative of the target's logit along a step in A, by central differences in float64."""
    model = copy.deepcopy(model).double()
    tap = replace(tap, module=model.get_submodule(tap.name))
    up, down = (replaced(model, tap, x.double(), A.double() + e * step.double()) for e in (1e-5, -1e-5))
    return ((up - down) / 2e-5).gather(1, target[:, None])[:, 0].float()


@pytest.mark.parametrize("name", ["resnet18", "densenet121", "vit", "r3d_18"])
def test_layers_by_name_and_by_module(name: str) -> None:
    model, x = built(name)
    layer = {
        "resnet18": "layer3",
        "densenet121": "features.transition2",
        "vit": "encoder.layers.encoder_layer_0",
        "r3d_18": "layer3",
    }[name]
    by_name = explain(Probe(model, layer=layer), x, "grad-cam")
    by_module = explain(Probe(model, layer=model.get_submodule(layer)), x, "grad-cam")
    torch.testing.assert_close(by_name, by_module)
    fused = explain(Probe(model, layer=[layer, NETS[name].layer]), x, "grad-cam")
    assert fused.shape == (2, *x.shape[2:])


@pytest.mark.parametrize("name", ["vit", "timm deit_tiny"])
@pytest.mark.parametrize("method", ["attention-rollout", "transformer-attribution", "le-grad"])
def test_attention_of_transformers(name: str, method: str) -> None:
    model, x = built(name)
    before = snapshot(model)
    maps = explain(model, x, method)
    assert maps.shape == (2, *x.shape[2:])
    assert float(maps.flatten(1).std(1).min()) > 0
    assert same(before, snapshot(model)) == []


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "timm convnext_atto"])
def test_the_optimised_engine_agrees(name: str) -> None:
    """Folded BatchNorm and channels-last: the same logits to 1e-5, the model untouched."""
    model, x = built(name)
    before = snapshot(model)
    plain, fast = (Probe(model, engine=engine).logits(x) for engine in ("plain", "optimised"))
    torch.testing.assert_close(fast, plain, rtol=1e-4, atol=1e-5 * (1 + float(plain.abs().max())))
    assert same(before, snapshot(model)) == []


def test_two_heads_in_train_mode() -> None:
    """Inception returns two heads in train mode; it is explained in evaluation mode and left in its own."""
    model, x = built("inception_v3")
    want = explain(model, x, "grad-cam")
    model.train()
    torch.testing.assert_close(explain(model, x, "grad-cam"), want)
    assert model.training
