"""Class activation maps: functions from what one pass shows at a layer to weights.

A is the layer's output (n, K, *s) and G the gradient of the target's logit by it. A weight a channel (n, K) or a weight
an element (n, K, *s) is all that tells most of these methods apart.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from heatproof import draws, spatial
from heatproof.errors import NotApplicable
from heatproof.methods.catalogue import cam
from heatproof.probe import Shot, Wants

LEAST = 0.01  # of the span of a sample's scores: what a share of its score is at least a share of


@cam("grad-cam", label="Grad-CAM", paper="1610.02391")
def grad_cam(A: Float[Tensor, "n k *s"], G: Float[Tensor, "n k *s"]) -> Float[Tensor, "n k"]:
    """Each channel weighted by its mean gradient (equations 1 and 2).

    Range: at least 0.
    """
    return spatial.mean(G)


@cam("grad-cam-plus-plus", label="Grad-CAM++", paper="1710.11063", scaled=True)
def grad_cam_plus_plus(A: Float[Tensor, "n k *s"], G: Float[Tensor, "n k *s"]) -> Float[Tensor, "n k"]:
    """Each channel weighted by its positive gradients, each position by its own coefficient (equation 19).

    Deviates: without the factor exp(score) of equation 8, one positive number a sample that overflows. The coefficient
    G**2 / (2 G**2 + sum(A) G**3) is shortened by G**2, which keeps small gradients from vanishing.
    Range: at least 0.
    """
    positive = G.relu()
    bottom = 2 + spatial.like(spatial.total(A), A) * positive
    return spatial.total(positive / torch.where(bottom == 0, torch.inf, bottom))


def _weigh(A: Tensor, first: Tensor, second: Tensor, third: Tensor) -> Float[Tensor, "n k"]:
    bottom = 2 * second + spatial.like(spatial.total(A), A) * third
    alpha = torch.where(bottom == 0, 0, second / torch.where(bottom == 0, 1, bottom))
    return spatial.total(alpha * first.relu())


@cam(
    "smooth-grad-cam-plus-plus",
    needs=("gradient",),
    label="Smooth Grad-CAM++",
    paper="1908.01224",
    scaled=True,
    limits={"samples": 1, "spread": 0},
)
def smooth_grad_cam_plus_plus(shot: Shot, *, samples: int = 8, spread: float = 0.15) -> Float[Tensor, "n k"]:
    """Grad-CAM++ with the derivatives averaged over noisy copies of the input (equations 8 and 9).

    The noise's standard deviation is ``spread`` times the range of the sample's own values.
    Range: at least 0.
    Cost: ``samples`` forward and backward passes more.
    """
    flat = shot.x.flatten(1)
    deviation = spread * (flat.amax(1) - flat.amin(1))
    sums = [torch.zeros_like(shot.A) for _ in range(3)]
    for turn in range(samples):
        noise = draws.normal(seeds_of(shot) + turn, shot.x.shape[1:]).to(shot.x)
        noisy = shot.x + spatial.like(deviation, shot.x) * noise
        other = shot.of(noisy, Wants(gradient=True))
        for power, total in enumerate(sums, start=1):
            total += other.G**power / samples
    return _weigh(shot.A, *sums)


@cam("cam", label="CAM", paper="1512.04150", relu=False)
def cam_(A: Float[Tensor, "n k *s"], G: Float[Tensor, "n k *s"]) -> Float[Tensor, "n k"]:
    """Each channel weighted by its weight in the dense layer for the class (equation 2).

    That weight is the sum of its gradient, which global average pooling spreads evenly.
    Range: signed; the map's mean over positions is the logit without its bias.
    Raises: NotApplicable where the layer is not followed by global average pooling and one dense layer.
    """
    flat = G.flatten(2)
    if not torch.allclose(flat, flat[..., :1].expand_as(flat), rtol=1e-3, atol=1e-6 * float(flat.abs().max())):
        raise NotApplicable("cam needs a layer followed by global average pooling and one dense layer; use grad-cam")
    return spatial.total(G)


@cam("xgrad-cam", label="XGrad-CAM", paper="2008.02312")
def xgrad_cam(A: Float[Tensor, "n k *s"], G: Float[Tensor, "n k *s"]) -> Float[Tensor, "n k"]:
    """Each channel weighted by the activation-weighted mean of its gradient (equation 8).

    Range: at least 0.
    """
    mass = spatial.total(A)
    return torch.where(mass == 0, 0, spatial.total(A * G) / torch.where(mass == 0, 1, mass))


@cam("hires-cam", label="HiRes-CAM", paper="2011.08891", relu=False)
def hires_cam(A: Float[Tensor, "n k *s"], G: Float[Tensor, "n k *s"]) -> Float[Tensor, "n k *s"]:
    """Each element weighted by its own gradient (equation 5).

    Range: signed; the paper has no ReLU.
    """
    return G


@cam("layer-cam", label="Layer-CAM", paper="10.1109/TIP.2021.3089943")
def layer_cam(A: Float[Tensor, "n k *s"], G: Float[Tensor, "n k *s"]) -> Float[Tensor, "n k *s"]:
    """Each element weighted by its own gradient where that is positive (equations 5 to 7).

    Range: at least 0.
    """
    return G.relu()


@cam("elementwise-grad-cam", label="Element-wise Grad-CAM")
def elementwise_grad_cam(A: Float[Tensor, "n k *s"], G: Float[Tensor, "n k *s"]) -> Float[Tensor, "n k *s"]:
    """Each element weighted by its own gradient where their product is positive.

    Range: at least 0.
    """
    return torch.where(A * G > 0, G, 0)


@cam("shapley-cam", label="Shapley-CAM", paper="2501.06261", scaled=True)
def shapley_cam(curved: tuple[Float[Tensor, "n k *s"], Float[Tensor, "n k *s"]]) -> Float[Tensor, "n k"]:
    """Each channel weighted by its mean approximate Shapley value (second order) of the utility z + log p.

    Range: at least 0.
    Cost: one forward pass and two backward passes to the layer.
    """
    slope, product = curved
    return spatial.mean(slope - product / 2)


@cam("finer-cam", label="Finer-CAM", paper="2501.11309", limits={"classes": 1}, again=True, scaled=True)
def finer_cam(shot: Shot, *, alpha: float = 1.0, classes: int = 3) -> Float[Tensor, "n k"]:
    """Grad-CAM of the difference between the target and the ``classes`` classes with the nearest logits.

    The target's logit less ``alpha`` times each of theirs, weighted by their probabilities.
    Range: at least 0.
    Cost: one backward pass to the layer more.
    Raises: NotApplicable for a target that is no class.
    """
    if shot.goal.function is not None or shot.goal.against is not None:
        raise NotApplicable(
            "finer-cam sets a class apart from others itself; its target must be a class, not a function or a contrast"
        )
    task = shot.goal.task
    if task == "regression":
        raise NotApplicable("finer-cam sets a class apart from others; a regression has none")
    logits, target = shot.logits, shot.goal.classes[:, None]
    count = min(classes, logits.shape[1] - 1)
    distance = (logits - logits.gather(1, target)).abs().scatter(1, target, float("inf"))
    near = distance.topk(count, dim=1, largest=False).indices
    share = (logits.sigmoid() if task == "labels" else logits.softmax(1)).gather(1, near)
    share = share / share.sum(1, keepdim=True).clamp_min(torch.finfo(share.dtype).tiny)
    mix = torch.zeros_like(logits).scatter(1, near, -alpha * share).scatter(1, target, 1.0)
    return spatial.mean(shot.gradient_of(replace(shot.goal, mix=mix)))


@cam("ablation-cam", label="Ablation-CAM", paper="10.1109/WACV45572.2020.9093360")
def ablation_cam(ablated: Float[Tensor, "n k"], score: Float[Tensor, " n"]) -> Float[Tensor, "n k"]:
    """Each channel weighted by the share of the score that is lost when it is set to zero (equation 3).

    Deviates: the score is the margin unless ``score=logit``, the paper's, is asked for. Divides by the score's absolute
    value, so that a loss counts as a loss for negative scores too, but at least by a hundredth of what the sample's
    scores span.
    Range: at least 0.
    Cost: one forward pass; of the K ablations, only what follows the first layer that mixes channels.
    """
    y = score[:, None]
    low, high = torch.aminmax(torch.cat([y, ablated], dim=1), dim=1, keepdim=True)
    least = (LEAST * (high - low)).clamp_min(torch.finfo(y.dtype).tiny)
    return (y - ablated) / y.abs().maximum(least)


@cam("recipro-cam", label="Recipro-CAM", paper="2209.14074", relu=False, gives="map", tail=True)
def recipro_cam(shot: Shot, *, window: Literal["gaussian", "dirac"] = "gaussian") -> Float[Tensor, "n *s"]:
    """The score when the layer keeps only what is at, or (Gaussian) around, each position (equations 1 to 4).

    Deviates: the score is the margin unless ``score=probability`` is asked for.
    Range: that of the score.
    Cost: one pass of what follows the layer for each of its positions.
    """
    size = shot.A.shape[2:]
    count = size.numel()
    spots = torch.eye(count, device=shot.A.device).reshape(count, 1, *size)
    if window == "gaussian":
        side = torch.tensor([0.25, 0.5, 0.25])
        spots = spatial.separable(spots, [side] * len(size), edges="zero")
    return shot.variants(count, lambda n, p: shot.A[n] * spots[p]).reshape(-1, *size)


@cam("fem", label="FEM", paper="10.1109/IPTA50016.2020.9286629", relu=False, gives="map")
def fem(A: Float[Tensor, "n k *s"], *, deviations: float = 2.0) -> Float[Tensor, "n *s"]:
    """The sum of the channel means, each where the channel exceeds it by ``deviations`` standard deviations.

    Range: that of the layer's means; the same for every class.
    """
    mean = spatial.mean(A)
    limit = mean + deviations * A.flatten(2).std(2, correction=0)
    return (spatial.like(mean, A) * (spatial.like(limit, A) < A)).sum(1)


@cam("mean-activation", relu=False)
def mean_activation(A: Float[Tensor, "n k *s"]) -> Float[Tensor, "n k"]:
    """The mean of the layer's channels; the same for every class.

    Range: that of the layer.
    """
    return torch.full(A.shape[:2], 1 / A.shape[1], dtype=A.dtype, device=A.device)


def seeds_of(shot: Shot) -> Int[Tensor, " n"]:
    """One seed a sample; drawn from the layer's name where the engine set none."""
    if shot.seeds is None:
        return draws.seeds(0, shot.tap.name, torch.arange(len(shot.x), device=shot.x.device))
    return shot.seeds.to(shot.x.device)
