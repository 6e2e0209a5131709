"""Class activation maps that need one forward and at most one backward pass: functions from a layer to weights.

A is the layer's output (n, K, *s) and G the gradient of the target's logit by it. A weight a channel (n, K) or a weight
an element (n, K, *s) is all that tells these methods apart.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from heatproof import spatial
from heatproof.methods.engine import cam


@cam("grad-cam", paper="1610.02391")
def grad_cam(A: Float[Tensor, "n k *s"], G: Float[Tensor, "n k *s"]) -> Float[Tensor, "n k"]:
    """Each channel weighted by its mean gradient (equations 1 and 2).

    Range: at least 0.
    """
    return spatial.mean(G)


@cam("grad-cam-plus-plus", paper="1710.11063")
def grad_cam_plus_plus(A: Float[Tensor, "n k *s"], G: Float[Tensor, "n k *s"]) -> Float[Tensor, "n k"]:
    """Each channel weighted by its positive gradients, each position by its own coefficient (equation 19).

    Deviates: without the factor exp(score) of equation 8, one positive number a sample, which overflows.
    Range: at least 0.
    """
    bottom = 2 * G**2 + spatial.like(spatial.total(A), G) * G**3
    alpha = torch.where(bottom == 0, 0, G**2 / torch.where(bottom == 0, 1, bottom))
    return spatial.total(alpha * G.relu())


@cam("ablation-cam", paper="10.1109/WACV45572.2020.9093360")
def ablation_cam(ablated: Float[Tensor, "n k"], score: Float[Tensor, " n"]) -> Float[Tensor, "n k"]:
    """Each channel weighted by the share of the score that is lost when it is set to zero (equation 3).

    Deviates: divides by the score's absolute value, so that a loss counts as a loss for negative logits too.
    Range: at least 0.
    Cost: one forward pass; of the K ablations, only what follows the first layer that mixes channels.
    """
    y = score[:, None]
    return (y - ablated) / y.abs().clamp_min(torch.finfo(y.dtype).tiny)


@cam("mean-activation", relu=False)
def mean_activation(A: Float[Tensor, "n k *s"]) -> Float[Tensor, "n k"]:
    """The mean of the layer's channels; the same for every class.

    Range: that of the layer.
    """
    return torch.full(A.shape[:2], 1 / A.shape[1], dtype=A.dtype, device=A.device)
