"""Guided backpropagation, deconvnet and DeepLIFT of ResNet-18 beside captum: seconds, and how far the maps differ.

captum's hooks need a module a call: its ResNet-18 has every activation as a module of its own, not in place. Ours is
the network as torchvision has it. Weights are random.

    python benchmarks/backward.py
"""

from __future__ import annotations

import copy
import time
import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torchvision.models import resnet18
from torchvision.models.resnet import BasicBlock

from heatproof.probe import Probe, multiplied, rectified

SAMPLES, TIMES, TARGET = 4, 2, 5


class Block(BasicBlock):
    """torchvision's block with a module for each of its two rectifiers."""

    def forward(self, x: Tensor) -> Tensor:
        """As there."""
        skip = x if self.downsample is None else self.downsample(x)
        return self.last(self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x))))) + skip)


def single(model: nn.Module) -> nn.Module:
    """A copy with each activation a module of its own."""
    model = copy.deepcopy(model)
    model.relu = nn.ReLU()
    for block in [m for m in model.modules() if isinstance(m, BasicBlock)]:
        block.__class__, block.relu, block.last = Block, nn.ReLU(), nn.ReLU()
    return model


def quickest(work: Callable[[], Tensor]) -> tuple[float, Tensor]:
    """The least seconds of several runs, and what came out."""
    seconds, out = [], work()
    for _ in range(TIMES):
        start = time.perf_counter()
        out = work()
        seconds.append(time.perf_counter() - start)
    return min(seconds), out.detach()


def main() -> None:
    """Prints one line a method."""
    warnings.simplefilter("ignore")
    from captum.attr import Deconvolution, DeepLift, GuidedBackprop

    torch.manual_seed(0)
    model = resnet18().eval()
    x = torch.randn(SAMPLES, 3, 224, 224)
    base, alone, probe = torch.zeros_like(x), single(model), Probe(model)
    goal, runner = probe.goal(x, TARGET), probe.runner(x)
    pairs: dict[str, tuple[Callable[[], Tensor], Callable[[nn.Module], Tensor]]] = {
        "guided-backprop": (lambda: rectified(runner, x, goal, "guided-backprop"),
                            lambda m: GuidedBackprop(m).attribute(x, target=TARGET)),
        "deconvnet": (lambda: rectified(runner, x, goal, "deconvnet"),
                      lambda m: Deconvolution(m).attribute(x, target=TARGET)),
        "deep-lift": (lambda: multiplied(runner, x, base, goal),
                      lambda m: DeepLift(m).attribute(x, base, target=TARGET)),
    }  # fmt: skip
    with torch.no_grad():
        gap = (model(x) - model(base))[:, TARGET]
    for name, (ours, theirs) in pairs.items():
        seconds, map = quickest(ours)
        other, want = quickest(lambda theirs=theirs: theirs(alone))
        apart = float((map - want).norm() / want.norm())
        line = f"{name:16} ours {seconds:.2f} s  captum {other:.2f} s  apart {apart:.1e}"
        if name == "deep-lift":
            off = [float((m.flatten(1).sum(1) - gap).abs().max() / gap.abs().max()) for m in (map, want)]
            line += f"  residual {off[0]:.1e}, captum {off[1]:.1e}"
        print(line, flush=True)


if __name__ == "__main__":
    main()
