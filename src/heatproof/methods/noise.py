"""Maps from the gradients at noisy copies of the input; methods that run together share the copies."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from heatproof import draws, spatial
from heatproof.methods.catalogue import Once, method
from heatproof.methods.totals import streams, totals
from heatproof.probe import Goal, Probe

SHARES = "noisy-gradients"


@method(
    "smooth-grad",
    paper="1706.03825",
    label="SmoothGrad",
    range=(0, None),
    needs=("gradient",),
    shares=SHARES,
    limits={"samples": 1, "spread": 0},
)
def smooth_grad(
    probe: Probe,
    x: Float[Tensor, "n c *s"],
    goal: Goal,
    *,
    seeds: Int[Tensor, " n"],
    once: Once,
    samples: int = 25,
    spread: float = 0.15,
) -> Float[Tensor, "n *s"]:
    """The gradient averaged over noisy copies of the input; its largest absolute value over channels.

    Section 3; the standard deviation of the noise is ``spread`` of the sample's range (largest less smallest value).
    Without noise it is saliency.
    Range: at least 0.
    Cost: ``samples`` forward and backward passes, shared by smooth-grad, smooth-grad-squared and var-grad where their
    options are equal.
    """
    mean, _ = once(lambda: _moments(probe, x, goal, seeds, samples, spread))
    return mean.abs().amax(1)


@method(
    "smooth-grad-squared",
    paper="1806.10758",
    label="SmoothGrad squared",
    range=(0, None),
    needs=("gradient",),
    shares=SHARES,
    limits={"samples": 1, "spread": 0},
)
def smooth_grad_squared(
    probe: Probe,
    x: Float[Tensor, "n c *s"],
    goal: Goal,
    *,
    seeds: Int[Tensor, " n"],
    once: Once,
    samples: int = 25,
    spread: float = 0.15,
) -> Float[Tensor, "n *s"]:
    """The squared gradient averaged over noisy copies of the input, summed over channels.

    The noise is that of smooth-grad.
    Range: at least 0.
    Cost: ``samples`` forward and backward passes, shared as those of smooth-grad.
    """
    _, square = once(lambda: _moments(probe, x, goal, seeds, samples, spread))
    return square.sum(1)


@method(
    "var-grad",
    paper="1810.03307",
    label="VarGrad",
    range=(0, None),
    needs=("gradient",),
    shares=SHARES,
    limits={"samples": 2, "spread": 0},
)
def var_grad(
    probe: Probe,
    x: Float[Tensor, "n c *s"],
    goal: Goal,
    *,
    seeds: Int[Tensor, " n"],
    once: Once,
    samples: int = 25,
    spread: float = 0.15,
) -> Float[Tensor, "n *s"]:
    """The variance of the gradient over noisy copies of the input, summed over channels.

    The noise is that of smooth-grad; the variance is divided by the number of copies.
    Range: at least 0.
    Cost: ``samples`` forward and backward passes, shared as those of smooth-grad.
    """
    mean, square = once(lambda: _moments(probe, x, goal, seeds, samples, spread))
    return (square - mean.square()).clamp_min(0).sum(1)


def jitter(x: Float[Tensor, "n c *s"], seeds: Int[Tensor, " n"], spread: float) -> Float[Tensor, "n c *s"]:
    """Each sample with normal noise whose deviation is ``spread`` of its range."""
    low, high = torch.aminmax(x.flatten(1), dim=1)
    return x + spatial.like(spread * (high - low), x) * draws.normal(seeds.to(x.device), x.shape[1:]).to(x)


def _moments(
    probe: Probe, x: Tensor, goal: Goal, seeds: Tensor, samples: int, spread: float
) -> tuple[Float[Tensor, "n c *s"], Float[Tensor, "n c *s"]]:
    """The means of the gradient and of its square over noisy copies, float64."""
    first, second = totals(
        probe,
        x,
        goal,
        samples,
        lambda n, k: jitter(x[n], streams(seeds, n, k, "noise"), spread),
        lambda _, __, slope: (slope, slope.square()),
    )
    return first / samples, second / samples
