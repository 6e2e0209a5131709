"""Class activation maps whose weights are scores of inputs seen through a channel: one pass a channel, streamed."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from heatproof import draws, spatial
from heatproof.methods.catalogue import cam
from heatproof.methods.layer_cams import seeds_of
from heatproof.probe import Shot


def veils(shot: Shot, samples: Int[Tensor, " m"], channels: Int[Tensor, " m"]) -> Float[Tensor, "m 1 *s"]:
    """Channels enlarged to the input and stretched to [0, 1]; a constant channel lets nothing through."""
    maps = spatial.resize(shot.A[samples, channels], shot.x.shape[2:])
    low, high = torch.aminmax(maps.flatten(1), dim=1)
    span = torch.where(high > low, high - low, torch.inf)
    return maps.sub_(spatial.like(low, maps)).mul_(spatial.like(1 / span, maps))[:, None]


def through(shot: Shot, samples: Int[Tensor, " m"], masks: Float[Tensor, "m 1 *s"]) -> Float[Tensor, "m c *s"]:
    """The inputs of the given samples times their masks; images are laid out as convolutions on the CPU like them."""
    x = shot.x[samples[:1]] if bool((samples == samples[0]).all()) else shot.x[samples]
    if x.ndim != 4 or x.device.type != "cpu":
        return x * masks.to(x)
    seen = torch.empty((len(samples), *x.shape[1:]), dtype=x.dtype, memory_format=torch.channels_last)
    return torch.mul(x, masks.to(x), out=seen)


@cam("score-cam", label="Score-CAM", paper="1910.01279", compares=True, scaled=True)
def score_cam(shot: Shot) -> Float[Tensor, "n k"]:
    """Each channel weighted by the softmax over channels of the score of the input masked by it (algorithm 1).

    Deviates: the score is the margin unless ``score=probability``, the paper's, is asked for.
    Range: at least 0.
    Cost: K forward passes, in batches of one size.
    """
    count = shot.A.shape[1]
    scores = shot.runner.variants(shot.x, shot.goal, count, lambda n, k: through(shot, n, veils(shot, n, k)))
    return scores.softmax(1)


@cam("ss-cam", label="SS-CAM", paper="2006.14255", compares=True, scaled=True, limits={"samples": 1, "spread": 0})
def ss_cam(shot: Shot, *, samples: int = 10, spread: float = 0.2) -> Float[Tensor, "n k"]:
    """Score-CAM with each channel's score averaged over noisy masks (algorithm 1, smoothed activations).

    ``spread`` is the standard deviation of the noise on masks that reach from 0 to 1.
    Deviates: the score is the margin unless ``score=probability``, the paper's, is asked for.
    Range: at least 0.
    Cost: K * samples forward passes.
    """
    count, seeds = shot.A.shape[1], seeds_of(shot)

    def noisy(n: Tensor, which: Tensor) -> Tensor:
        masks = veils(shot, n, which // samples)
        noise = draws.normal(seeds[n] * 31 + which, masks.shape[1:]).to(masks)
        return through(shot, n, masks + spread * noise)

    scores = shot.runner.variants(shot.x, shot.goal, count * samples, noisy)
    return scores.reshape(-1, count, samples).mean(2).softmax(1)


@cam("is-cam", label="IS-CAM", paper="2010.03023", compares=True, scaled=True, limits={"steps": 1})
def is_cam(shot: Shot, *, steps: int = 10) -> Float[Tensor, "n k"]:
    """Score-CAM with each channel's score averaged while its mask is scaled from 0 to 1 (equations 4 and 5).

    Deviates: the score is the margin unless ``score=probability``, the paper's, is asked for.
    Range: at least 0.
    Cost: K * steps forward passes.
    """
    count = shot.A.shape[1]

    def growing(n: Tensor, which: Tensor) -> Tensor:
        share = spatial.like((which % steps + 1) / steps, shot.x)
        return through(shot, n, share * veils(shot, n, which // steps))

    scores = shot.runner.variants(shot.x, shot.goal, count * steps, growing)
    return scores.reshape(-1, count, steps).mean(2).softmax(1)
