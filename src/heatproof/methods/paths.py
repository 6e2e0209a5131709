"""Maps from gradients along paths that lead from a baseline to the input."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from heatproof import draws, spatial
from heatproof.errors import NotApplicable
from heatproof.fills import Canvas, fills
from heatproof.methods.catalogue import method
from heatproof.methods.noise import jitter
from heatproof.methods.totals import streams, totals
from heatproof.probe import Goal, Probe
from heatproof.registry import Spec


@method("integrated-gradients", paper="1703.01365", needs=("gradient",), limits={"steps": 1})
def integrated_gradients(
    probe: Probe,
    x: Float[Tensor, "n c *s"],
    goal: Goal,
    *,
    seeds: Int[Tensor, " n"],
    pool: Float[Tensor, "p c *s"] | None,
    steps: int = 50,
    baseline: str = "black",
) -> Float[Tensor, "n *s"]:
    """The mean gradient on the straight line from a baseline to the input, times their difference (equation 1).

    Summed over channels; the map sums to the logit less that of the baseline. ``steps`` Gauss-Legendre nodes;
    ``baseline`` is any fill: black (0), mean, blur, noise, donor.
    Range: signed.
    Cost: ``steps`` forward and backward passes; memory for one batch.
    Raises: NotApplicable for ``baseline=donor`` without other samples to draw from.
    """
    start = Canvas(x, _checked("integrated-gradients", baseline, pool), seeds, pool).blank
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    at, share = (torch.from_numpy((values + shift) / 2) for values, shift in ((nodes, 1.0), (weights, 0.0)))
    (slope,) = totals(
        probe,
        x,
        goal,
        steps,
        lambda n, k: torch.lerp(start[n], x[n], spatial.like(at[k].to(x), x)),
        lambda _, k, slope: (slope * spatial.like(share[k].to(slope), slope),),
    )
    return (slope * (x.to(slope) - start.to(slope))).sum(1)


@method("blur-ig", paper="2004.03383", label="Blur IG", needs=("gradient",), limits={"steps": 1, "width": 1e-6})
def blur_ig(
    probe: Probe, x: Float[Tensor, "n c *s"], goal: Goal, *, steps: int = 50, width: float = 0.17
) -> Float[Tensor, "n *s"]:
    """The gradient along the path from the blurred input to the input, times the change on that path.

    Section 3: integrated over the deviation of a Gaussian that shrinks from ``width`` of the longest axis (the paper's
    50 pixels of 299) to 0; summed over channels. The map sums to the logit less that of the blurred input.
    Deviates: the integral is a sum over ``steps`` pieces of the path, each the gradient in its middle times its ends'
    difference; the deviations fall as squares, so that fine detail has small steps too. Edges are mirrored.
    Range: signed.
    Cost: ``steps`` forward and backward passes; memory for one batch.
    """
    change: list[Tensor] = []  # of the batch at hand, along the piece of the path

    def make(n: Tensor, k: Tensor) -> Tensor:
        levels = [width * max(x.shape[2:]) * (1 - (k + step) / steps).square() for step in (0, 1)]
        start, end = (spatial.diffuse(x[n], level.to(x.device)) for level in levels)
        change[:] = [end - start]
        return (start + end) / 2

    (product,) = totals(probe, x, goal, steps, make, lambda _, __, slope: (slope * change[0].to(slope),))
    return product.sum(1)


@method("expected-gradients", paper="1906.10670", needs=("gradient",), limits={"samples": 1})
def expected_gradients(
    probe: Probe,
    x: Float[Tensor, "n c *s"],
    goal: Goal,
    *,
    seeds: Int[Tensor, " n"],
    pool: Float[Tensor, "p c *s"] | None,
    samples: int = 50,
    baseline: str = "donor",
) -> Float[Tensor, "n *s"]:
    """The gradient at a random place on the line from a random baseline, times the difference (equation 4).

    Averaged over ``samples`` draws, summed over channels. Each draw has its own baseline, by default another sample of
    the same data: those of the study, or ``pool`` of hp.explain. ``baseline`` names another fill; noise needs no other
    samples.
    Deviates: the places are drawn one from each of as many equal parts of the line, which lessens the noise.
    Range: signed.
    Cost: ``samples`` forward and backward passes; memory for one batch.
    Raises: NotApplicable without other samples, for the donors.
    """
    fill = _checked("expected-gradients", baseline, pool)
    return _expected(probe, x, goal, seeds, pool, samples, fill, 0.0)


@method(
    "gradient-shap",
    paper="1705.07874",
    label="GradientSHAP",
    needs=("gradient",),
    limits={"samples": 1, "spread": 0},
)
def gradient_shap(
    probe: Probe,
    x: Float[Tensor, "n c *s"],
    goal: Goal,
    *,
    seeds: Int[Tensor, " n"],
    pool: Float[Tensor, "p c *s"] | None,
    samples: int = 50,
    baseline: str = "donor",
    spread: float = 0.1,
) -> Float[Tensor, "n *s"]:
    """Expected gradients of the input with noise: the definition of captum and of the shap package.

    In each draw the input has normal noise, whose standard deviation is ``spread`` of the sample's range; the gradient
    is multiplied by the difference of the noisy input and the baseline. Without noise it is expected-gradients.
    Deviates: the places on the line are drawn as for expected-gradients.
    Range: signed.
    Cost: ``samples`` forward and backward passes; memory for one batch.
    Raises: NotApplicable without other samples, for the donors.
    """
    return _expected(probe, x, goal, seeds, pool, samples, _checked("gradient-shap", baseline, pool), spread)


def _checked(name: str, baseline: str, pool: Tensor | None) -> Spec:
    """The fill that the baselines come from.

    Raises: NotApplicable where they are other samples and there are none.
    """
    fill = fills.spec(baseline)
    if fills[fill.name].donors and (pool is None or len(pool) < 2):
        raise NotApplicable(
            f"{name} draws its baselines from other samples and got {0 if pool is None else len(pool)} of them; "
            "pass at least 2 of the same data as pool= (K, C, *S), or name another fill (baseline=noise)"
        )
    return fill


def _expected(
    probe: Probe,
    x: Float[Tensor, "n c *s"],
    goal: Goal,
    seeds: Int[Tensor, " n"],
    pool: Float[Tensor, "p c *s"] | None,
    count: int,
    fill: Spec,
    spread: float,
) -> Float[Tensor, "n *s"]:
    away: list[Tensor] = []  # of the batch at hand, the noisy inputs less their baselines

    def make(n: Tensor, k: Tensor) -> Tensor:
        start = Canvas(x[n], fill, streams(seeds, n, k, "baseline"), pool).blank
        end = jitter(x[n], streams(seeds, n, k, "noise"), spread) if spread else x[n]
        away[:] = [end - start]
        at = (k + draws.uniform(streams(seeds, n, k, "place"), ())) / count
        return start + spatial.like(at.to(x), x) * away[0]

    (product,) = totals(probe, x, goal, count, make, lambda _, __, slope: (slope * away[0].to(slope),))
    return product.sum(1) / count
