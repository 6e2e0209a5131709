"""What metrics cost, in forward passes of the same rows, beside Quantus where it is installed.

    python benchmarks/metrics.py [--images] [--rounds 3]

Every round times the plain passes, heatproof and Quantus one after the other, so that a busy machine slows all three.
Processor time is taken on one thread, wall time on two. Quantus runs with its own batch size (64) and with ours.
"""

from __future__ import annotations

import argparse
import functools
import statistics
import time
import warnings
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

import heatproof as hp
from heatproof.nets import build
from heatproof.probe import Goal

Work = Callable[[], object]
CLOCKS = (("CPU, 1 thread", 1, time.process_time), ("wall, 2 threads", 2, time.perf_counter))
THEIRS = 64  # the batch size that Quantus takes unless told otherwise


def passes(model: nn.Module, x: Tensor, count: int, batch: int) -> None:
    """``count`` plain forward passes over all of ``x``."""
    with torch.inference_mode():
        for _ in range(count):
            for part in x.split(batch):
                model(part)


def slopes(model: nn.Module, x: Tensor, classes: Tensor, count: int) -> None:
    """``count`` plain forward and backward passes."""
    for _ in range(count):
        leaf = x.clone().requires_grad_()
        torch.autograd.grad(model(leaf).gather(1, classes[:, None]).sum(), leaf)


def timed(works: Mapping[str, Work], rounds: int) -> dict[str, dict[str, float]]:
    """The median seconds of each piece of work by each clock; the works take turns."""
    found: dict[str, dict[str, float]] = {}
    for label, threads, clock in CLOCKS:
        torch.set_num_threads(threads)
        taken: dict[str, list[float]] = {name: [] for name in works}
        for number in range(rounds + 1):
            for name, work in works.items():
                if number != 1 and name.startswith("Quantus"):  # slow, and timed once
                    continue
                start = clock()
                work()
                if number:  # the first round warms up
                    taken[name].append(clock() - start)
        found[label] = {name: statistics.median(values) for name, values in taken.items()}
    return found


def compare(label: str, plain: Work, own: Work, others: Mapping[str, Work], *, rounds: int) -> None:
    """Prints two rows of the table: the ratio to the plain passes, and how many times as long Quantus takes."""
    found = timed({"plain": plain, "own": own, **others}, rounds)
    for clock, taken in found.items():
        cells = [f"{taken['own'] / taken['plain']:.2f}"]
        for name in ("Quantus, its batch", "Quantus, our batch"):
            known = name in taken
            cells += [f"{taken[name] / taken['plain']:.1f}", f"{taken[name] / taken['own']:.1f}"] if known else ["", ""]
        print(f"| {label} | {clock} | {' | '.join(cells)} |", flush=True)


def quantus_of(
    name: str, model: nn.Module, x: Tensor, map: Tensor, *, batch: int, **options: object
) -> dict[str, Work]:
    """The same metric in Quantus, ready to run with its own batch size and with ours; empty where not installed."""
    try:
        import quantus
    except ImportError:
        return {}
    labels = model(x).argmax(1).numpy()
    metric = getattr(quantus, name)(disable_warnings=True, display_progressbar=False, **options)
    given = {"model": model, "x_batch": x.numpy(), "y_batch": labels, "a_batch": map[:, None].numpy(), "device": "cpu"}
    if "Sensitivity" in name:
        given |= {"explain_func": quantus.explain, "explain_func_kwargs": {"method": "Saliency"}}
    sizes = {"Quantus, its batch": THEIRS, "Quantus, our batch": batch}
    return {who: functools.partial(metric, **given, batch_size=size) for who, size in sizes.items()}


def signals(rounds: int) -> None:
    model, x = build("mnist1d-cnn").eval(), hp.data.load("mnist1d").test.x
    n = len(x)
    probe = hp.Probe(model)
    map = hp.explain(probe, x, "grad-cam")
    gradient = functools.partial(hp.explain, method="saliency")
    maps, classes = gradient(probe, x), probe.logits(x).argmax(1)
    run = functools.partial(hp.score, probe, x)
    plain = functools.partial(passes, model, x, batch=n)
    with torch.no_grad():
        flipping = quantus_of("PixelFlipping", model, x, map, batch=n, features_in_step=1, perturb_baseline="mean")
        correlation = quantus_of("FaithfulnessCorrelation", model, x, map, batch=n, nr_runs=100, subset_size=8)
        sensitivity = quantus_of("MaxSensitivity", model, x, maps, batch=n, nr_samples=10)
    told = functools.partial(compare, rounds=rounds)
    told(
        f"pixel flipping, {n} signals, 40 steps, over 41 passes",
        lambda: plain(count=41), lambda: run(map, "deletion:steps=40"), flipping,
    )  # fmt: skip
    told(
        f"faithfulness correlation, {n} signals, 100 runs, over 101 passes",
        lambda: plain(count=101), lambda: run(map, "faithfulness-correlation:runs=100"), correlation,
    )  # fmt: skip
    told(
        f"max-sensitivity of saliency, {n} signals, 10 draws, over 10 forward and backward passes",
        lambda: slopes(model, x, classes, 10),
        lambda: run(maps, "max-sensitivity:runs=10", explain=gradient, target=Goal(classes)), sensitivity,
    )  # fmt: skip
    three = ["max-sensitivity", "average-sensitivity", "local-lipschitz"]
    told(
        "max- and average-sensitivity and local Lipschitz together, over max-sensitivity alone",
        lambda: run(maps, three[0], explain=gradient), lambda: run(maps, three, explain=gradient), {},
    )  # fmt: skip
    told(f"ROAD, {n} signals, over 9 passes", lambda: plain(count=9), lambda: run(map, "road"), {})
    curves = ["deletion", "insertion", "insertion-minus-deletion", "morf-lerf-gap", "aopc", "comprehensiveness"]
    curves += ["sufficiency", "average-drop", "average-drop:keep=0.3", "increase-in-confidence", "average-gain"]
    told(
        "all curve metrics, over deletion and insertion",
        lambda: run(map, ["deletion", "insertion"]), lambda: run(map, curves), {},
    )  # fmt: skip


def images(rounds: int) -> None:
    from torchvision.models import resnet18

    model, x = resnet18().eval(), torch.rand(8, 3, 224, 224)
    probe = hp.Probe(model, batch=8)
    map = hp.explain(probe, x, "grad-cam")
    run = functools.partial(hp.score, probe, x, map)
    plain = functools.partial(passes, model, x, batch=8)
    with torch.no_grad():
        flipping = quantus_of(
            "PixelFlipping", model, x, map, batch=8, features_in_step=224 * 8, perturb_baseline="mean"
        )
    told = functools.partial(compare, rounds=rounds)
    told(
        "pixel flipping, ResNet-18, 8 images, 28 steps, over 29 passes",
        lambda: plain(count=29), lambda: run("deletion:steps=28"), flipping,
    )  # fmt: skip
    told("ROAD, ResNet-18, 8 images, over 9 passes", lambda: plain(count=9), lambda: run("road"), {})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", action="store_true", help="also ResNet-18 on 8 images of 224 x 224")
    parser.add_argument("--rounds", type=int, default=3, help="how often each piece of work is timed")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    print(f"| work | clock | heatproof / passes | Quantus (batch {THEIRS}) / passes | Quantus / heatproof "
          "| Quantus (our batch) / passes | Quantus / heatproof |")  # fmt: skip
    print("| --- | --- | --- | --- | --- | --- | --- |")
    signals(options.rounds)
    if options.images:
        images(options.rounds)


if __name__ == "__main__":
    main()
