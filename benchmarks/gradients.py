"""Methods that average or integrate gradients beside captum: one image, ResNet-18 with random weights, 50 steps.

    python benchmarks/gradients.py [--size 224] [--batch N] [--repeats 3]

Prints the median seconds of each, their ratio, and how far the maps of integrated gradients are apart. Both run in
turns in one process, with the same batch.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import captum.attr
import torch
import torchvision
from torch import Tensor

import heatproof as hp

STEPS = 50
ALONE, SHARED = "integrated-gradients", "smooth-grad, its square, var-grad"
PAIRS = {ALONE: "captum IntegratedGradients", SHARED: "captum NoiseTunnel, three times"}
NOISY = [f"{name}:samples={STEPS}" for name in ("smooth-grad", "smooth-grad-squared", "var-grad")]


def turns(calls: dict[str, Callable[[], Tensor]], repeats: int) -> dict[str, float]:
    """The median seconds of each call, the calls made in turns after one of each to warm up."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(repeats + 1):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if turn:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument(
        "--batch", type=int, default=None, help="rows a pass of both; by default heatproof's own choice"
    )
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = torchvision.models.resnet18(weights=None).eval().to(device)
    x = torch.randn(1, 3, options.size, options.size, device=device)
    probe = hp.Probe(model, batch=options.batch)
    rows = options.batch or min(probe.rows(x), STEPS)
    integrated = captum.attr.IntegratedGradients(model)
    tunnel = captum.attr.NoiseTunnel(captum.attr.Saliency(model))
    deviation = 0.15 * float(x.max() - x.min())

    def peer() -> Tensor:
        maps: Tensor = (
            integrated.attribute(x.detach(), target=1, n_steps=STEPS, internal_batch_size=rows).sum(1).detach().cpu()
        )
        return maps

    def noisy() -> Tensor:
        kinds = ("smoothgrad", "smoothgrad_sq", "vargrad")
        sizes = {"nt_samples": STEPS, "nt_samples_batch_size": rows, "stdevs": deviation, "abs": False}
        return torch.stack([tunnel.attribute(x.requires_grad_(), nt_type=kind, target=1, **sizes) for kind in kinds])

    def ours(name: str) -> Callable[[], Tensor]:
        return lambda: hp.explain(probe, x.detach(), name, target=1)

    seconds = turns(
        {
            ALONE: ours(f"integrated-gradients:steps={STEPS}"),
            PAIRS[ALONE]: peer,
            SHARED: lambda: torch.stack([*hp.explain(probe, x.detach(), NOISY, target=1).values()]),
            PAIRS[SHARED]: noisy,
            "blur-ig": ours(f"blur-ig:steps={STEPS}"),
        },
        options.repeats,
    )
    one, two = ours(f"integrated-gradients:steps={STEPS}")(), peer()
    for name, value in seconds.items():
        print(f"{name:36} {value:8.3f} s")
    for name, other in PAIRS.items():
        print(f"{name}: {seconds[name] / seconds[other]:.2f} of captum's time")
    gap = float((one - two).abs().max() / two.abs().max())
    print(f"integrated gradients differ by {gap:.1e} of their largest value")


if __name__ == "__main__":
    main()
