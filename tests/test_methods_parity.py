"""Our maps beside those of captum and pytorch-grad-cam, before either is normalised for display.

Where the others differ, the difference is a defect of theirs or another reading of the paper; each is written down in
``DIFFERENT`` and shown by a test of its own.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from heatproof.methods import explain, methods
from heatproof.probe import Probe

from .toys import CLASSES, Plain, inputs, ready

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # both import deprecated names of NumPy, SciPy or matplotlib
    pytorch_grad_cam = pytest.importorskip("pytorch_grad_cam")
    captum_attr = pytest.importorskip("captum.attr")
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

PAIRS = {
    "grad-cam": "GradCAM",
    "grad-cam-plus-plus": "GradCAMPlusPlus",
    "xgrad-cam": "XGradCAM",
    "hires-cam": "HiResCAM",
    "layer-cam": "LayerCAM",
    "elementwise-grad-cam": "GradCAMElementWise",
    "eigen-cam:centred=true": "EigenCAM",
    "eigen-grad-cam:centred=true": "EigenGradCAM",
    "ablation-cam": "AblationCAM",
    "score-cam": "ScoreCAM",
    "fem": "FEM",
    "shapley-cam": "ShapleyCAM",
    "finer-cam": "FinerCAM",
    "kpca-cam": "KPCA_CAM",
}
DIFFERENT = {
    "grad-cam-plus-plus": "adds 1e-6 to a denominator of squared gradients, which drowns small gradients",
    "eigen-cam": "subtracts each channel's mean first, which the paper does not; the sign is left to chance",
    "kpca-cam": "subtracts each channel's mean first, which changes the sigmoid kernel; the sign is left to chance",
    "ablation-cam": "a layer that is not rectified is set to its minimum less 1e7 (the next to 2e7, ...), not to 0",
    "score-cam": "enlarges the masks with corners aligned, but not the final map",
    "finer-cam": "differentiates the probabilities that weigh the classes as well",
    "fem": "weighs activations by the share above the limit; the paper weighs the binary maps by the channel means",
}


def peer(name: str, model: nn.Module, layer: str, x: Tensor, target: list[int], **options: Any) -> Tensor:
    """pytorch-grad-cam's map at the layer's own size, before it is cut at zero, stretched and enlarged."""
    kept: list[np.ndarray] = []
    module = model.get_submodule(layer)
    with getattr(pytorch_grad_cam, name)(model, [module], **options) as cam:
        make = cam.get_cam_image

        def keep(*args: Any) -> np.ndarray:
            kept.append(make(*args))
            return kept[-1]

        cam.get_cam_image = keep
        cam(x, [ClassifierOutputTarget(c) for c in target])
    return torch.from_numpy(np.ascontiguousarray(kept[0])).double()


def ours(spec: str, model: nn.Module, layer: str, x: Tensor, target: list[int]) -> Tensor:
    """Our map, scores being logits as in the peer; the layer has the input's size, so that nothing is enlarged."""
    if methods[spec.partition(":")[0]].compares:
        spec = f"{spec}{',' if ':' in spec else ':'}score=logit"
    map: Tensor = explain(Probe(model, layer=layer), x, spec, target=target)
    return map.double()


class Wide(nn.Module):
    """A network whose layers keep the input's size; ``gain`` scales the logits, and so the gradients."""

    def __init__(self, rank: int = 2, gain: float = 1.0) -> None:
        super().__init__()
        toy = Plain(rank, inplace=False)
        self.conv1, self.norm, self.relu1 = toy.conv1, toy.norm, toy.relu1
        self.conv2, self.relu2, self.mean, self.dense = toy.conv2, toy.relu2, toy.mean, toy.dense
        self.gain = gain

    def forward(self, x: Tensor) -> Tensor:
        h = self.relu2(self.conv2(self.relu1(self.norm(self.conv1(x)))))
        h = h * (1 + 0.3 * torch.sin(3 * h))  # the gradient differs from place to place
        return self.gain * self.dense(self.mean(h).flatten(1))


def positive(model: nn.Module, x: Tensor) -> list[int]:
    """The predicted classes, whose logits must be above zero: the peer divides by them."""
    z = model(x)
    assert float(z.detach().amax(1).min()) > 0
    return z.argmax(1).tolist()


@pytest.mark.parametrize("layer", ["conv2", "relu2"])
@pytest.mark.parametrize("rank", [2, 3])
@pytest.mark.parametrize("name", ["grad-cam", "xgrad-cam", "hires-cam", "layer-cam", "elementwise-grad-cam"])
def test_gradient_cams_agree_with_grad_cam(name: str, rank: int, layer: str) -> None:
    model, x, target = ready(Wide(rank)), inputs(rank), [0, 1, 3]
    want = peer(PAIRS[name], model, layer, x, target)
    if methods[name].relu:
        want = want.relu()
    close(ours(name, model, layer, x, target), want)


@pytest.mark.parametrize("rank", [2, 3])
def test_grad_cam_plus_plus_agrees_where_gradients_are_large(rank: int) -> None:
    model, x, target = ready(Wide(rank, gain=1e4)), inputs(rank), [0, 1, 3]
    close(
        ours("grad-cam-plus-plus", model, "relu2", x, target), peer("GradCAMPlusPlus", model, "relu2", x, target).relu()
    )


def test_grad_cam_plus_plus_of_grad_cam_drowns_small_gradients() -> None:
    """Small logits: their epsilon outweighs the denominator, and weights come out far too small."""
    x, target = inputs(2), [0, 1, 3]
    model = ready(Wide(gain=1e-2))
    theirs, mine = (
        peer("GradCAMPlusPlus", model, "relu2", x, target).relu(),
        ours("grad-cam-plus-plus", model, "relu2", x, target),
    )
    assert float(theirs.sum() / mine.sum()) < 0.8
    oracle = without_epsilon(model, x, target)
    close(mine, oracle)


def without_epsilon(model: Wide, x: Tensor, target: list[int]) -> Tensor:
    A, G = Probe(model, layer="relu2").taps(x, target)
    A, G = A.double(), G.double()
    mass = A.sum((2, 3), keepdim=True)
    alpha = torch.nan_to_num(1 / (2 + mass * G)) * (G != 0)  # numerator and denominator divided by G squared
    weights = (alpha * G.relu()).sum((2, 3), keepdim=True)
    return (weights * A).sum(1).relu()


@pytest.mark.parametrize("name", ["eigen-cam", "eigen-grad-cam"])
def test_eigen_cams_agree_up_to_sign(name: str) -> None:
    model, x, target = ready(Wide()), inputs(2), [0, 1, 3]
    theirs = peer(PAIRS[f"{name}:centred=true"], model, "relu2", x, target)
    mine = ours(f"{name}:centred=true", model, "relu2", x, target)
    signs = torch.sign((theirs * mine).sum((1, 2), keepdim=True))
    close(mine, signs * theirs)
    if name == "eigen-cam":
        not_centred = ours(name, model, "relu2", x, target)
        assert not torch.allclose(not_centred.abs(), theirs.abs(), rtol=1e-2)


def test_the_sign_of_eigen_cam_follows_the_activation() -> None:
    """Where a layer is more active its map is higher, for the layer and for the layer turned round alike."""
    model, x = ready(Wide()), inputs(2, 8)
    A = Probe(model, layer="relu2").taps(x)[0].sum(1).double()
    mine = ours("eigen-cam", model, "relu2", x, [0] * 8)
    centred = A - A.mean((1, 2), keepdim=True)
    assert bool(((mine * centred).sum((1, 2)) > 0).all())


def test_ablation_cam_agrees_behind_a_relu() -> None:
    model, x = ready(Wide()), inputs(2, 2)
    target = positive(model, x)
    theirs = peer("AblationCAM", model, "relu2", x, target, batch_size=6)
    close(ours("ablation-cam", model, "relu2", x, target), theirs.relu())


def test_ablation_cam_of_grad_cam_sets_negative_layers_to_minus_ten_million() -> None:
    """Its weights for a layer that is not rectified are those of an absurd activation."""
    parts = (
        nn.Conv2d(2, 6, 3, padding=1),
        nn.LeakyReLU(0.2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(6, CLASSES),
    )
    model, x = ready(nn.Sequential(*parts)), inputs(2, 2)
    with torch.no_grad():
        model[4].bias.add_(5)
    target = positive(model, x)
    theirs = peer("AblationCAM", model, "0", x, target, batch_size=1).relu()
    A, z = model[0](x).detach(), model(x).detach()
    lows = A.flatten(1).amin(1)[:, None, None]
    for lowest, same in ((torch.zeros_like(lows), "ours"), (lows - 1e7, "theirs")):
        weights = torch.zeros(2, 6)
        for k in range(6):
            changed = A.clone()
            changed[:, k] = lowest
            ablated = model[1:](changed).detach()
            for i, c in enumerate(target):
                weights[i, k] = (z[i, c] - ablated[i, c]) / z[i, c]
        want = (weights[:, :, None, None] * A).sum(1).relu().double()
        close(ours("ablation-cam", model, "0", x, target) if same == "ours" else theirs, want)


def test_score_cam_agrees_where_nothing_is_enlarged() -> None:
    model, x = ready(Wide()), inputs(2, 2)
    target = positive(model, x)
    theirs = peer("ScoreCAM", model, "relu2", x, target)
    close(ours("score-cam", model, "relu2", x, target), theirs.relu())


def test_score_cam_of_grad_cam_aligns_corners_in_its_masks() -> None:
    """On a pooled layer the masks differ: theirs are enlarged with corners aligned, unlike their own final map."""
    model, x = ready(Plain(2)), inputs(2, 2)
    A, _ = Probe(model, layer="relu2").taps(x)
    for align in (True, False):
        masks = nn.functional.interpolate(A, (10, 12), mode="bilinear", align_corners=align).flatten(2)
        low, high = masks.amin(2, keepdim=True), masks.amax(2, keepdim=True)
        masks = ((masks - low) / (high - low + 1e-8)).reshape(2, -1, 10, 12)
        scores = torch.stack([model(x * masks[:, k : k + 1])[:, 1] for k in range(masks.shape[1])], dim=1)
        low_map = (scores.softmax(1)[:, :, None, None] * A).sum(1).detach().double()
        theirs = peer("ScoreCAM", model, "relu2", x, [1, 1])
        assert torch.allclose(low_map, theirs, rtol=1e-4) is align
        if not align:
            large = nn.functional.interpolate(low_map[:, None], (10, 12), mode="bilinear", align_corners=False)[:, 0]
            close(ours("score-cam", model, "relu2", x, [1, 1]), large)


def test_kpca_cam_agrees_up_to_sign() -> None:
    """With the Gaussian kernel, which no shift of the channels changes."""
    model, x, target = ready(Wide()), inputs(2), [0, 1, 3]
    theirs = peer("KPCA_CAM", model, "relu2", x, target, kernel="rbf")
    mine = ours("kpca-cam:kernel=rbf", model, "relu2", x, target)
    close(mine, torch.sign((theirs * mine).sum((1, 2), keepdim=True)) * theirs)
    theirs, mine = peer("KPCA_CAM", model, "relu2", x, target), ours("kpca-cam", model, "relu2", x, target)
    assert not torch.allclose(theirs.abs(), mine.abs(), rtol=1e-2)


def test_fem_of_grad_cam_swaps_mask_and_mean() -> None:
    model, x, target = ready(Wide()), inputs(2), [0, 1, 3]
    A = Probe(model, layer="relu2").taps(x)[0].double()
    mean, limit = (
        A.mean((2, 3), keepdim=True),
        A.mean((2, 3), keepdim=True) + 2 * A.flatten(2).std(2, correction=0)[..., None, None],
    )
    above = (limit < A).double()
    close(ours("fem", model, "relu2", x, target), (mean * above).sum(1))
    close(peer("FEM", model, "relu2", x, target), (above.mean((2, 3), keepdim=True) * A).sum(1))


@pytest.mark.parametrize("alpha", [1.0, 0.5])
def test_finer_cam_of_grad_cam_differentiates_its_weights(alpha: float) -> None:
    model, x = ready(Wide()), inputs(2)
    kept: list[np.ndarray] = []
    with pytorch_grad_cam.FinerCAM(model, [model.relu2]) as cam:
        make = cam.base_cam.get_cam_image

        def keep(*args: Any) -> np.ndarray:
            kept.append(make(*args))
            return kept[-1]

        cam.base_cam.get_cam_image = keep
        cam(x, alpha=alpha)
    theirs = torch.from_numpy(np.ascontiguousarray(kept[0])).double().relu()
    target = model(x).argmax(1)
    for constant in (True, False):

        def utility(z: Tensor, constant: bool = constant) -> Tensor:
            best = z.argmax(1, keepdim=True)
            p = z.softmax(1).scatter(1, best, 0)
            p = p.detach() if constant else p
            return ((z.gather(1, best) - alpha * z) * p).sum(1) / p.sum(1)

        A, G = Probe(model, layer="relu2").taps(x, utility)
        want = (G.mean((2, 3), keepdim=True) * A).sum(1).relu().double()
        close(ours(f"finer-cam:alpha={alpha}", model, "relu2", x, target.tolist()) if constant else theirs, want)


def test_shapley_cam_agrees() -> None:
    if "shapley-cam" not in methods:
        pytest.skip("not registered")
    model, x, target = ready(Wide()), inputs(2, 2), [0, 1]
    for i in range(2):
        with pytorch_grad_cam.ShapleyCAM(model, [model.relu2]) as cam:
            kept: list[np.ndarray] = []
            make = cam.get_cam_image

            def keep(*args: Any, make: Any = make, kept: list[np.ndarray] = kept) -> np.ndarray:
                kept.append(make(*args))
                return kept[-1]

            cam.get_cam_image = keep
            cam(x[i : i + 1].clone().requires_grad_(), [Residual(target[i])])
        want = torch.from_numpy(np.ascontiguousarray(kept[0])).double().relu()
        close(ours("shapley-cam", model, "relu2", x[i : i + 1], target[i : i + 1]), want)


class Residual:
    """The utility of the paper: the logit plus its log-probability."""

    def __init__(self, target: int) -> None:
        self.target = target

    def __call__(self, out: Tensor) -> Tensor:
        return out[self.target] + out.log_softmax(0)[self.target]


@pytest.mark.parametrize("layer", ["conv2", "relu2"])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_grad_cam_agrees_with_captum(rank: int, layer: str) -> None:
    model, x, target = ready(Wide(rank)), inputs(rank), [0, 1, 3]
    cam = captum_attr.LayerGradCam(model, model.get_submodule(layer))
    want = cam.attribute(x, torch.tensor(target), relu_attributions=True)[:, 0].detach()
    close(ours("grad-cam", model, layer, x, target), want.double())


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_hires_cam_agrees_with_captum(rank: int) -> None:
    model, x, target = ready(Wide(rank)), inputs(rank), [0, 1, 3]
    cam = captum_attr.LayerGradientXActivation(model, model.conv2)
    want = cam.attribute(x, torch.tensor(target)).sum(1).detach()
    close(ours("hires-cam", model, "conv2", x, target), want.double())


@pytest.mark.filterwarnings("ignore:Input Tensor 0 did not already require gradients:UserWarning")
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_gradients_agree_with_captum(rank: int) -> None:
    model, x, target = ready(Wide(rank)), inputs(rank), [0, 1, 3]
    want = captum_attr.Saliency(model).attribute(x, torch.tensor(target), abs=True).amax(1)
    close(ours("saliency", model, "relu2", x, target), want.double())
    want = captum_attr.InputXGradient(model).attribute(x, torch.tensor(target)).sum(1).detach()
    close(ours("input-x-gradient", model, "relu2", x, target), want.double())


def test_pitfall_relu_in_place() -> None:
    """grad-cam and captum's own hooks read the layer after the ReLU has written over it; we do not."""
    model, x, target = ready(Plain(2)), inputs(2), [0, 1, 3]
    safe = ready(Plain(2, inplace=False))
    mine = ours("grad-cam", model, "norm", x, target)
    close(mine, ours("grad-cam", safe, "norm", x, target))
    theirs = peer("GradCAM", model, "norm", x, target).relu()
    want = peer("GradCAM", safe, "norm", x, target).relu()
    close(mine, want)
    assert not torch.allclose(theirs, want, rtol=1e-2)


def test_pitfall_short_targets() -> None:
    """grad-cam leaves the maps without a target empty; we refuse."""
    model, x = ready(Wide()), inputs(2)
    theirs = peer("GradCAM", model, "relu2", x, [0])
    assert float(theirs[1:].abs().max()) == 0
    with pytest.raises(ValueError, match="3 samples"):
        explain(model, x, "grad-cam", target=[0])


def test_every_difference_names_a_method() -> None:
    assert {name.partition(":")[0] for name in DIFFERENT} <= set(methods)
    assert {name.partition(":")[0] for name in PAIRS} <= set(methods)
    assert CLASSES == 4


def close(map: Tensor, want: Tensor) -> None:
    """To 1e-4 of each map's largest value."""
    scale = want.flatten(1).abs().amax(1)
    assert float(scale.max()) > 0
    gap = (map - want).flatten(1).abs().amax(1)
    assert bool((gap <= 1e-4 * scale + 1e-12).all()), (gap / scale).tolist()
