"""What metrics cost, in forward passes of the same rows, beside Quantus where it is installed.

    python benchmarks/metrics.py [--images] [--rounds 3] [--write]

Every round times the plain passes, heatproof and Quantus one after the other, so that a busy machine slows all three.
Processor time is taken on one thread, wall time on two. Quantus runs with its own batch size (64) and with ours. The
plain passes take all rows of the signals at once; a column says what the ratio is to passes in batches of 256, the
quickest for them. `--write` puts the table into docs/benchmarks.md. Exits with 1 where a bar is missed by the wall.
"""

from __future__ import annotations

import argparse
import functools
import os
import platform
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from page import write
from torch import Tensor, nn

import heatproof as hp
from heatproof.nets import build
from heatproof.probe import Goal

Work = Callable[[], object]
CLOCKS = (("CPU, 1 thread", 1, time.process_time), ("wall, 2 threads", 2, time.perf_counter))
THEIRS = 64  # the batch size that Quantus takes unless told otherwise
SMALL = 256  # the batch size at which plain passes over signals are quickest
PEERS = {"Quantus, its batch": THEIRS, "Quantus, our batch": 0}


@dataclass(frozen=True)
class Bar:
    """At most so many times the plain passes; at least so many times as fast as Quantus with its own batch size."""

    passes: float | None = None
    peer: float | None = None

    def __str__(self) -> str:
        parts = [f"at most {self.passes:g}"] if self.passes else []
        return ", ".join(parts + ([f"{self.peer:g} times as fast"] if self.peer else []))

    def met(self, taken: Mapping[str, float]) -> bool | None:
        """Whether the bar is met; None where that cannot be told."""
        found = [taken["own"] / taken["plain"] <= self.passes] if self.passes else []
        if self.peer:
            if "Quantus, its batch" not in taken:
                return None
            found.append(taken["Quantus, its batch"] / taken["own"] >= self.peer)
        return all(found) if found else None


@dataclass
class Row:
    """One line of the table."""

    label: str
    clock: str
    bar: Bar
    taken: Mapping[str, float]

    def __str__(self) -> str:
        taken = self.taken
        cells = [self.label, self.clock, f"{taken['own'] / taken['plain']:.2f}"]
        cells.append(f"{taken['own'] / taken['small']:.2f}" if "small" in taken else "")
        for name in PEERS:
            known = name in taken
            cells += [f"{taken[name] / taken['plain']:.1f}", f"{taken[name] / taken['own']:.1f}"] if known else ["", ""]
        met = self.bar.met(taken)
        return f"| {' | '.join([*cells, str(self.bar), '' if met is None else 'yes' if met else 'no'])} |"


HEAD = (
    f"| work | clock | heatproof / passes | heatproof / passes of {SMALL} | Quantus (batch {THEIRS}) / passes "
    "| Quantus / heatproof | Quantus (our batch) / passes | Quantus / heatproof | bar | met |\n"
    "|---|---|---:|---:|---:|---:|---:|---:|---|---|"
)


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


def compare(label: str, plain: Work, own: Work, others: Mapping[str, Work], bar: Bar, *, rounds: int) -> list[Row]:
    """Two rows of the table, one a clock, also printed."""
    found = timed({"plain": plain, "own": own, **others}, rounds)
    rows = [Row(label, clock, bar, taken) for clock, taken in found.items()]
    print(*rows, sep="\n", flush=True)
    return rows


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
    return {who: functools.partial(metric, **given, batch_size=size or batch) for who, size in PEERS.items()}


def signals(rounds: int) -> list[Row]:
    model, x = build("mnist1d-cnn").eval(), hp.data.load("mnist1d").test.x
    n = len(x)
    probe = hp.Probe(model)
    map = hp.explain(probe, x, "grad-cam")
    gradient = functools.partial(hp.explain, method="saliency")
    maps, classes = gradient(probe, x), probe.logits(x).argmax(1)
    run = functools.partial(hp.score, probe, x)
    plain, small = (functools.partial(passes, model, x, batch=size) for size in (n, SMALL))
    with torch.no_grad():
        flipping = quantus_of("PixelFlipping", model, x, map, batch=n, features_in_step=1, perturb_baseline="mean")
        correlation = quantus_of("FaithfulnessCorrelation", model, x, map, batch=n, nr_runs=100, subset_size=8)
        sensitivity = quantus_of("MaxSensitivity", model, x, maps, batch=n, nr_samples=10)
    told = functools.partial(compare, rounds=rounds)
    found = told(
        f"pixel flipping, {n} signals, 40 steps, over 41 passes",
        lambda: plain(count=41), lambda: run(map, "deletion:steps=40"),
        {"small": lambda: small(count=41), **flipping}, Bar(1.3, 5),
    )  # fmt: skip
    found += told(
        f"faithfulness correlation, {n} signals, 100 runs, over 101 passes",
        lambda: plain(count=101), lambda: run(map, "faithfulness-correlation:runs=100"),
        {"small": lambda: small(count=101), **correlation}, Bar(1.5, 5),
    )  # fmt: skip
    found += told(
        f"max-sensitivity of saliency, {n} signals, 10 draws, over 10 forward and backward passes",
        lambda: slopes(model, x, classes, 10),
        lambda: run(maps, "max-sensitivity:runs=10", explain=gradient, target=Goal(classes)), sensitivity,
        Bar(peer=3),
    )  # fmt: skip
    three = ["max-sensitivity", "average-sensitivity", "local-lipschitz"]
    found += told(
        "max- and average-sensitivity and local Lipschitz together, over max-sensitivity alone",
        lambda: run(maps, three[0], explain=gradient), lambda: run(maps, three, explain=gradient), {}, Bar(),
    )  # fmt: skip
    found += told(
        f"ROAD, {n} signals, over 9 passes", lambda: plain(count=9), lambda: run(map, "road"),
        {"small": lambda: small(count=9)}, Bar(2),
    )  # fmt: skip
    curves = ["deletion", "insertion", "insertion-minus-deletion", "morf-lerf-gap", "aopc", "comprehensiveness"]
    curves += ["sufficiency", "average-drop", "average-drop:keep=0.3", "increase-in-confidence", "average-gain"]
    found += told(
        "all curve metrics, over deletion and insertion",
        lambda: run(map, ["deletion", "insertion"]), lambda: run(map, curves), {}, Bar(1.2),
    )  # fmt: skip
    return found


def images(rounds: int) -> list[Row]:
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
    found = told(
        "pixel flipping, ResNet-18, 8 images, 28 steps, over 29 passes",
        lambda: plain(count=29), lambda: run("deletion:steps=28"), flipping, Bar(1.1, 3),
    )  # fmt: skip
    return found + told(
        "ROAD, ResNet-18, 8 images, over 9 passes", lambda: plain(count=9), lambda: run("road"), {}, Bar(2)
    )


def machine() -> str:
    """What the numbers were taken on, in a sentence."""
    return (
        f"torch {torch.__version__}, {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}; "
        "a bar is held against Quantus with its own batch size."
    )


def main() -> int:
    """Prints the table; 1 where a bar is missed by wall time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", action="store_true", help="also ResNet-18 on 8 images of 224 x 224")
    parser.add_argument("--rounds", type=int, default=3, help="how often each piece of work is timed")
    parser.add_argument("--write", action="store_true", help="put the table into docs/benchmarks.md")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    print(HEAD)
    rows = signals(options.rounds) + (images(options.rounds) if options.images else [])
    if options.write:
        table = "\n".join([HEAD, *map(str, rows)])
        write("metrics", f"### Metrics, beside forward passes and Quantus\n\n{table}\n\n{machine()}")
    return int(any(row.bar.met(row.taken) is False for row in rows if row.clock.startswith("wall")))


if __name__ == "__main__":
    sys.exit(main())
