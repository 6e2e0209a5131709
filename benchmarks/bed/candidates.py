"""The candidates of a trial: real methods, and fakes that must never be eligible, declared as methods for its time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float, Int
from torch import Tensor

from heatproof import draws, spatial
from heatproof.methods import explain, method, methods
from heatproof.probe import Goal, Probe

REAL = (
    "grad-cam", "grad-cam-plus-plus", "layer-cam", "ablation-cam", "score-cam", "full-grad", "saliency",
    "input-x-gradient", "hires-cam", "occlusion", "rise:masks=100",
)  # fmt: skip
FAKES = (
    "fake-inverted", "fake-other-class", "fake-other-sample", "fake-moved:share=0.1", "fake-moved:share=0.25",
    "fake-edges", "fake-noise", "fake-centre", "fake-input",
)  # fmt: skip
BASE = "grad-cam"


def real(rank: int) -> list[str]:
    """The real methods for inputs of so many axes; windows of volumes are larger, as there are many of them."""
    return [f"{name}:window=0.25" if rank == 3 and name == "occlusion" else name for name in REAL]


def twin_spec(name: str) -> str:
    """The spec of the twin of a method that has no options."""
    return f"twin:of={name}"


def _base(probe: Probe, x: Tensor, goal: Goal, name: str = BASE) -> Tensor:
    return explain(probe, x, name, target=goal)


def _drawn(label: str, x: Tensor) -> Int[Tensor, " n"]:
    """One seed a sample, from the values of the input."""
    return draws.seeds(1, label, x.double().flatten(1).sum(1).mul(1e6).long())


def fake_inverted(probe: Probe, x: Float[Tensor, "n c *s"], goal: Goal) -> Float[Tensor, "n *s"]:
    """Grad-CAM reflected within its range."""
    map = _base(probe, x, goal)
    return spatial.like(map.flatten(1).amax(1) + map.flatten(1).amin(1), map) - map


def fake_other_class(probe: Probe, x: Float[Tensor, "n c *s"], goal: Goal) -> Float[Tensor, "n *s"]:
    """Grad-CAM of the class after the one that is explained."""
    count = probe.logits(x).shape[1]
    return explain(probe, x, BASE, target=(goal.classes + 1) % count)


def fake_other_sample(probe: Probe, x: Float[Tensor, "n c *s"], goal: Goal) -> Float[Tensor, "n *s"]:
    """Grad-CAM of the next sample of the batch; of a sample by itself the map turned round."""
    map = _base(probe, x, goal)
    return map.roll(1, 0) if len(map) > 1 else map.flip(tuple(range(1, map.ndim)))


def fake_moved(probe: Probe, x: Float[Tensor, "n c *s"], goal: Goal, *, share: float = 0.1) -> Float[Tensor, "n *s"]:
    """Grad-CAM moved along every axis by a share of its length."""
    map = _base(probe, x, goal)
    axes = tuple(range(1, map.ndim))
    return map.roll([max(1, round(share * map.shape[axis])) for axis in axes], axes)


def fake_edges(_probe: Probe, x: Float[Tensor, "n c *s"], _goal: Goal) -> Float[Tensor, "n *s"]:
    """An edge filter."""
    return spatial.blur(spatial.edges(x)[:, None], 0.7)[:, 0]


def fake_noise(_probe: Probe, x: Float[Tensor, "n c *s"], _goal: Goal) -> Float[Tensor, "n *s"]:
    """Random numbers."""
    return draws.normal(_drawn("noise", x), x.shape[2:])


def fake_centre(_probe: Probe, x: Float[Tensor, "n c *s"], _goal: Goal) -> Float[Tensor, "n *s"]:
    """A blob in the middle."""
    return spatial.centre(x.shape[2:]).to(x).expand(len(x), *x.shape[2:])


def fake_input(_probe: Probe, x: Float[Tensor, "n c *s"], _goal: Goal) -> Float[Tensor, "n *s"]:
    """The absolute input."""
    return x.abs().mean(1)


def twin(
    probe: Probe, x: Float[Tensor, "n c *s"], goal: Goal, *, of: str = BASE, noise: float = 0.01
) -> Float[Tensor, "n *s"]:
    """The map of another method and noise of a hundredth of its range."""
    map = _base(probe, x, goal, of)
    spread = map.flatten(1).amax(1) - map.flatten(1).amin(1)
    return map + noise * spatial.like(spread, map) * draws.normal(_drawn(f"twin {of}", x), map.shape[1:]).to(map)


def held(probe: Probe, x: Float[Tensor, "n c *s"], goal: Goal, *, of: str = BASE) -> Float[Tensor, "n *s"]:
    """The map of another method for the network inside a `Scaled` one: it stays as it is when the logits are scaled."""
    inner = getattr(probe.model, "inner", probe.model)
    return explain(Probe(inner, outputs=probe.outputs), x, of, target=goal.classes)


def equal(probe: Probe, x: Float[Tensor, "n c *s"], goal: Goal, *, draw: int = 0) -> Float[Tensor, "n *s"]:
    """Grad-CAM and noise of its own draw: such maps are equal in distribution."""
    map = _base(probe, x, goal)
    spread = map.flatten(1).amax(1) - map.flatten(1).amin(1)
    rough = spatial.blur(draws.normal(_drawn(f"equal {draw}", x), map.shape[1:])[:, None].float(), 1.0)[:, 0]
    return map + 0.3 * spatial.like(spread, map) * rough


class Scaled(torch.nn.Module):
    """A network whose logits are multiplied by a factor."""

    def __init__(self, inner: torch.nn.Module, factor: float) -> None:
        super().__init__()
        self.inner, self.factor = inner, factor

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * self.inner(x)


DECLARED = {
    "fake-inverted": fake_inverted, "fake-other-class": fake_other_class, "fake-other-sample": fake_other_sample,
    "fake-moved": fake_moved, "fake-edges": fake_edges, "fake-noise": fake_noise, "fake-centre": fake_centre,
    "fake-input": fake_input, "twin": twin, "held": held, "equal": equal,
}  # fmt: skip


@contextmanager
def declared() -> Iterator[None]:
    """Fakes and twins are methods within the block."""
    with methods.temporarily():  # type: ignore[attr-defined]
        for name, function in DECLARED.items():
            method(name)(function)
        yield
