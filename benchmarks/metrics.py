"""What metrics cost, in forward passes of the same rows, beside Quantus where it is installed.

    python benchmarks/metrics.py [--images]

Each line is measured in turn with the plain passes it is compared with, so that a busy machine slows both.
"""

from __future__ import annotations

import argparse
import functools
import statistics
import time
import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn

import heatproof as hp
from heatproof.nets import build

ROUNDS = 3


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def passes(model: nn.Module, x: Tensor, count: int, batch: int) -> None:
    """``count`` plain forward passes over all of ``x``."""
    with torch.inference_mode():
        for _ in range(count):
            for part in x.split(batch):
                model(part)


def compare(
    label: str, work: Callable[[], object], plain: Callable[[], object], other: Callable[[], object] | None
) -> None:
    """Prints the median ratio of ``work`` to the plain passes, and how many times as long Quantus takes."""
    work()
    ratios, against = [], []
    for _ in range(ROUNDS):
        base, own = seconds(plain), seconds(work)
        ratios.append(own / base)
        if other is not None and not against:
            against.append(seconds(other) / own)
    tail = f"   Quantus takes {against[0]:6.1f} x as long" if against else ""
    print(f"{label:55s} {statistics.median(ratios):6.2f} x the passes{tail}", flush=True)


def quantus_of(name: str, model: nn.Module, x: Tensor, map: Tensor, **options: object) -> Callable[[], object] | None:
    """The same metric in Quantus, ready to run; None where it is not installed."""
    try:
        import quantus
    except ImportError:
        return None
    labels = model(x).argmax(1).numpy()
    metric = getattr(quantus, name)(disable_warnings=True, display_progressbar=False, **options)
    given = {"model": model, "x_batch": x.numpy(), "y_batch": labels, "a_batch": map[:, None].numpy(), "device": "cpu"}
    if "Sensitivity" in name:
        given |= {"explain_func": quantus.explain, "explain_func_kwargs": {"method": "Saliency"}}
    return lambda: metric(**given, batch_size=256)


def signals() -> None:
    model, samples = build("mnist1d-cnn").eval(), hp.data.load("mnist1d").test
    x, batch = samples.x, 1000
    probe = hp.Probe(model)
    map = hp.explain(probe, x, "grad-cam")
    run = functools.partial(hp.score, probe, x, map)
    plain = functools.partial(passes, model, x)
    with torch.no_grad():
        flipping = quantus_of("PixelFlipping", model, x, map, features_in_step=1, perturb_baseline="mean")
        correlation = quantus_of("FaithfulnessCorrelation", model, x, map, nr_runs=100, subset_size=8)
        sensitivity = quantus_of("MaxSensitivity", model, x, map, nr_samples=10)
    compare(
        "pixel flipping, 1000 signals, 40 steps", lambda: run("deletion:steps=40"), lambda: plain(41, batch), flipping
    )
    compare(
        "faithfulness correlation, 1000 signals, 100 runs",
        lambda: run("faithfulness-correlation:runs=100"), lambda: plain(101, batch), correlation,
    )  # fmt: skip
    compare("ROAD, 1000 signals, 9 percentages", lambda: run("road"), lambda: plain(9, batch), None)
    if "saliency" in hp.methods.names():
        gradient = functools.partial(hp.explain, method="saliency")
        maps = gradient(probe, x)
        compare(
            "max-sensitivity of saliency, 1000 signals, 10 draws",
            lambda: hp.score(probe, x, maps, "max-sensitivity:runs=10", explain=gradient),
            lambda: plain(10, batch), sensitivity,
        )  # fmt: skip
    two = seconds(lambda: run(["deletion", "insertion"]))
    curves = ["deletion", "insertion", "insertion-minus-deletion", "morf-lerf-gap", "aopc", "comprehensiveness"]
    curves += ["sufficiency", "average-drop", "average-drop:keep=0.3", "increase-in-confidence", "average-gain"]
    print(f"{'all curve metrics':55s} {seconds(lambda: run(curves)) / two:6.2f} x MoRF and LeRF alone")


def images() -> None:
    from torchvision.models import resnet18

    model, x = resnet18().eval(), torch.rand(8, 3, 224, 224)
    probe = hp.Probe(model, batch=8)
    map = hp.explain(probe, x, "grad-cam")
    run = functools.partial(hp.score, probe, x, map)
    with torch.no_grad():
        flipping = quantus_of("PixelFlipping", model, x, map, features_in_step=224 * 8, perturb_baseline="mean")
    compare("pixel flipping, ResNet-18, 8 images, 28 steps", lambda: run("deletion:steps=28"),
            lambda: passes(model, x, 29, 8), flipping)  # fmt: skip
    compare("ROAD, ResNet-18, 8 images, 9 percentages", lambda: run("road"), lambda: passes(model, x, 9, 8), None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", action="store_true", help="also ResNet-18 on 8 images of 224 x 224")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    signals()
    if options.images:
        images()


if __name__ == "__main__":
    main()
