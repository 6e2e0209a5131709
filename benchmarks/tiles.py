"""How fast tiles of tissue are explained at the course's VGG-7, beside a plain forward pass, and in how much memory.

    python benchmarks/tiles.py                       496 tiles of 224 x 224 of random numbers
    python benchmarks/tiles.py --path hmt/test       those of a folder of class folders, read from disk

Grad-CAM, Grad-CAM++ and Ablation-CAM together at conv2d_3; the bars are 1.5 forward passes and 2 GiB. Both take turns
chunk by chunk, in changing order; a ratio is the median over chunks, of the process's CPU time and of wall time.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from heatproof.data.folder import folders, samples
from heatproof.data.images import Transform
from heatproof.methods import explain
from heatproof.nets import build
from heatproof.probe import Probe
from heatproof.records import Lazy

METHODS = ("grad-cam", "grad-cam-plus-plus", "ablation-cam")
LAYER, SIDE, CHUNK = "conv2d_3", 224, 31


def main() -> None:
    """Time both and print a table."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--path", type=Path)
    asked.add_argument("--tiles", type=int, default=496)
    given = asked.parse_args()
    torch.manual_seed(0)
    x = read(given.path) if given.path is not None else None
    probe = Probe(build("vgg-7"), layer=LAYER)
    seconds: dict[str, list[tuple[float, float]]] = {"forward": [], "explain": []}
    for turn, start in enumerate(range(-CHUNK, given.tiles, CHUNK)):  # the first chunk warms up
        rows = slice(max(start, 0), min(max(start, 0) + CHUNK, given.tiles))
        tiles = torch.rand(rows.stop - rows.start, 3, SIDE, SIDE) if x is None else x[rows]
        jobs: dict[str, Callable[[], object]] = {
            "forward": partial(probe.logits, tiles),
            "explain": partial(explain, probe, tiles, METHODS),
        }
        for name in sorted(jobs, reverse=bool(turn % 2)):
            taken = timed(jobs[name])
            if start >= 0:
                seconds[name].append(taken)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    for i, kind in enumerate(("CPU", "wall")):
        plain, maps = ([taken[i] for taken in seconds[name]] for name in ("forward", "explain"))
        ratio = statistics.median(b / a for a, b in zip(plain, maps, strict=True))
        print(f"{kind:5} forward {sum(plain):7.1f} s   explain {sum(maps):7.1f} s   median ratio {ratio:.2f} (bar 1.5)")
    print(
        f"peak memory of the process {peak:.2f} GiB (bar 2) for {given.tiles} tiles, {torch.get_num_threads()} threads"
    )


def read(path: Path) -> Tensor | Lazy:
    """The tiles in a folder of class folders, read as they are asked for."""
    return samples(path, [folder.name for folder in folders(path)], Transform((SIDE, SIDE))).x


def timed(job: Callable[[], object]) -> tuple[float, float]:
    """Seconds of CPU and of wall time."""
    cpu, wall = time.process_time(), time.perf_counter()
    job()
    return time.process_time() - cpu, time.perf_counter() - wall


if __name__ == "__main__":
    main()
