"""Maps from gradients by the input, and from the gradients of every bias on the way."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from heatproof import spatial
from heatproof.methods.catalogue import method
from heatproof.probe import Goal, Probe, Wants


@method("saliency", paper="1312.6034", range=(0, None), needs=("gradient",))
def saliency(probe: Probe, x: Float[Tensor, "n c *s"], goal: Goal) -> Float[Tensor, "n *s"]:
    """The largest absolute gradient over the channels of the input (section 3.1).

    Range: at least 0.
    Cost: one forward and one backward pass.
    """
    return probe.gradient(x, goal).abs().amax(1)


@method("input-x-gradient", paper="1605.01713", label="Input x gradient", needs=("gradient",))
def input_x_gradient(probe: Probe, x: Float[Tensor, "n c *s"], goal: Goal) -> Float[Tensor, "n *s"]:
    """Input times gradient, summed over the channels.

    Range: signed.
    Cost: one forward and one backward pass.
    """
    slope = probe.gradient(x, goal)
    return (slope * x.to(slope)).sum(1)


@method("full-grad", paper="1905.00780", label="FullGrad", range=(0, None), needs=("gradient",))
def full_grad(probe: Probe, x: Float[Tensor, "n c *s"], goal: Goal) -> Float[Tensor, "n *s"]:
    """The contributions of the input and of every bias to the logit, resized to the input and added (equation 6).

    Each layer's shares are made absolute and stretched to [0, 1] before they are added; biases of dense layers have no
    position and are left out, as in the paper.
    Range: at least 0.
    Cost: two forward and two backward passes.
    """
    slope = probe.gradient(x, goal)
    total = _stretch((slope * x.to(slope)).abs()).sum(1)
    layers = probe.biases(x)
    if layers:
        start = 0
        for shots in probe.shots(x, goal, [tap for tap, _ in layers], Wants(gradient=True)):
            rows = slice(start, start := start + len(shots[0].x))
            for shot, (_, bias) in zip(shots, layers, strict=True):
                share = (shot.G * spatial.like(bias.float()[None], shot.G)).abs()
                large = spatial.resize(share.flatten(0, 1), x.shape[2:]).unflatten(0, share.shape[:2])
                total[rows] += _stretch(large).sum(1)
    return total


def _stretch(share: Float[Tensor, "n k *s"]) -> Float[Tensor, "n k *s"]:
    flat = share.flatten(1)
    low, high = flat.amin(1), flat.amax(1)
    span = torch.where(high > low, high - low, torch.inf)
    return (share - spatial.like(low, share)) / spatial.like(span, share)
