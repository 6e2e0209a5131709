"""Reference maps that ignore the model, scored in every study beside the methods; never ranked, and they bar nobody."""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor

from heatproof import draws, spatial
from heatproof.methods.catalogue import control
from heatproof.probe import Probe


@control("random", description="random noise", by_default=True, range=(0, 1))
def random(probe: Probe, x: Float[Tensor, "n c *s"], _: object, *, seeds: Int[Tensor, " n"]) -> Float[Tensor, "n *s"]:
    """Uniform noise in (0, 1), drawn anew for each sample.

    Cost: no pass.
    """
    return draws.uniform(seeds, x.shape[2:])


@control("edge", description="an edge filter", by_default=True, range=(0, None))
def edge(probe: Probe, x: Float[Tensor, "n c *s"], _: object) -> Float[Tensor, "n *s"]:
    """The gradient magnitude of the input (Sobel), at least 0.

    Cost: no pass.
    """
    return spatial.edges(x)


@control("absolute-input", description="the absolute input values", by_default=True, range=(0, None))
def absolute_input(probe: Probe, x: Float[Tensor, "n c *s"], _: object) -> Float[Tensor, "n *s"]:
    """The mean absolute value of the input over channels, at least 0.

    Cost: no pass.
    """
    return x.abs().mean(1)


@control("centre", description="a blob in the middle", by_default=True, range=(0, 1), limits={"width": 1e-6})
def centre(probe: Probe, x: Float[Tensor, "n c *s"], _: object, *, width: float = 0.25) -> Float[Tensor, "n *s"]:
    """A Gaussian blob in the middle, the same for every sample, in (0, 1]; ``width`` is its deviation as a share.

    Cost: no pass.
    """
    return spatial.centre(x.shape[2:], width=width).to(x).expand(len(x), *x.shape[2:])
