"""Maps from backward passes by other rules than those of the gradient."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from heatproof import spatial
from heatproof.fills import Canvas, fills
from heatproof.methods.catalogue import method
from heatproof.probe import Goal, Probe, Wants, multiplied, rectified


@method("guided-backprop", paper="1412.6806", label="Guided backprop", needs=("gradient",))
def guided_backprop(probe: Probe, x: Float[Tensor, "n c *s"], goal: Goal) -> Float[Tensor, "n *s"]:
    """The gradient of the logit by the input, with only positive gradients passed where a ReLU is open (section 3.4).

    Summed over channels. Rectifiers are operations: ReLU, ReLU6, hardtanh and clamp from 0, threshold at 0, maximum
    with 0, in whatever way they are written. Smooth activations, for which the paper has no rule, have their gradient;
    so does a ReLU put together from other operations, such as ``torch.where`` or a product with a mask.
    Range: signed.
    Cost: one forward and one backward pass.
    Raises: NotApplicable for a model without rectifiers, or whose operations cannot be seen.
    """
    return rectified(probe.runner(x), x, goal, "guided-backprop").sum(1)


@method("deconvnet", paper="1311.2901", label="DeconvNet", needs=("gradient",))
def deconvnet(probe: Probe, x: Float[Tensor, "n c *s"], goal: Goal) -> Float[Tensor, "n *s"]:
    """The gradient of the logit by the input, with only positive ones passed at every ReLU, open or not (section 2.1).

    Summed over channels. Rectifiers are those of guided-backprop.
    Range: signed.
    Cost: one forward and one backward pass.
    Raises: NotApplicable for a model without rectifiers, or whose operations cannot be seen.
    """
    return rectified(probe.runner(x), x, goal, "deconvnet").sum(1)


@method("guided-grad-cam", paper="1610.02391", label="Guided Grad-CAM", needs=("layer", "gradient"))
def guided_grad_cam(probe: Probe, x: Float[Tensor, "n c *s"], goal: Goal) -> Float[Tensor, "n *s"]:
    """Grad-CAM, cut at zero and resized to the input, times guided backpropagation, summed over channels (section 3.2).

    Of several layers, the mean of their Grad-CAMs is taken.
    Range: signed.
    Cost: two forward passes, one whole backward pass, and one that stops at the layer.
    Raises: NotApplicable for a model without rectifiers, or whose operations cannot be seen.
    """
    guided = rectified(probe.runner(x), x, goal, "guided-backprop").sum(1)
    parts = []
    for shots in probe.shots(x, goal, None, Wants(gradient=True)):
        cams = [(spatial.like(spatial.mean(shot.G), shot.A) * shot.A).sum(1).relu() for shot in shots]
        parts.append(torch.stack([spatial.resize(map, x.shape[2:]) for map in cams]).mean(0))
    return guided * torch.cat(parts).to(guided)


@method("deep-lift", paper="1704.02685", label="DeepLIFT", needs=("gradient",))
def deep_lift(
    probe: Probe, x: Float[Tensor, "n c *s"], goal: Goal, *, seeds: Int[Tensor, " n"], baseline: str = "black"
) -> Float[Tensor, "n *s"]:
    """The share of each position in the logit less that of a baseline, by the rescale rule (equations 7 to 9).

    Summed over channels; the map sums to that difference, which is checked. ``baseline`` is any fill: black (0), mean,
    blur, noise. Max-pooling gives all to the place of the larger of the two maxima.
    Deviates: a product of two factors that both depend on the input (gates, attention, LayerNorm, softmax), for which
    the paper has no rule, gives each factor the mean of the other, its Shapley value.
    Range: signed.
    Cost: two forward passes and one backward pass.
    Raises: NotApplicable where an operation of the model has no rule or cannot be seen.
    """
    blank = Canvas(x, fills.spec(baseline), seeds).blank
    return multiplied(probe.runner(x), x, blank, goal).sum(1)


@method("deep-lift-shap", paper="1705.07874", label="DeepLIFT SHAP", needs=("gradient",), limits={"samples": 1})
def deep_lift_shap(
    probe: Probe,
    x: Float[Tensor, "n c *s"],
    goal: Goal,
    *,
    seeds: Int[Tensor, " n"],
    baseline: str = "noise",
    samples: int = 8,
) -> Float[Tensor, "n *s"]:
    """DeepLIFT averaged over several random baselines of each input (section 4.2).

    ``baseline`` is a fill that draws random numbers: noise with the mean and deviation of the input, by default.
    Deviates: baselines are drawn from the input's own noise, not from other samples; products as in deep-lift.
    Range: signed.
    Cost: ``samples`` times two forward passes and one backward pass.
    Raises: NotApplicable where an operation of the model has no rule or cannot be seen.
    """
    runner, fill = probe.runner(x), fills.spec(baseline)
    total = torch.zeros(len(x), *x.shape[2:])
    for turn in range(samples):
        blank = Canvas(x, fill, seeds * 1009 + turn).blank
        total += multiplied(runner, x, blank, goal).sum(1).cpu() / samples
    return total
