"""Tissue: mosaics of tiles, a quarter of one class in another, and the shipped network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from benchmarks.bed import truths
from benchmarks.bed.answers import answer
from benchmarks.bed.candidates import declared
from benchmarks.bed.page import table
from benchmarks.bed.trials import judged, margins
from torch import Tensor, nn

import heatproof as hp
from heatproof import draws
from heatproof.methods import explain
from heatproof.nets import weights
from heatproof.probe import Probe
from heatproof.records import Samples

HMT = Path(__file__).parents[3] / "shared" / "data" / "hmt"
TILES, TAU, RISE = 80, 0.6, 1.0
METHODS = ("grad-cam", "grad-cam-plus-plus", "layer-cam", "ablation-cam", "hires-cam", "saliency", "input-x-gradient",
           "full-grad")  # fmt: skip
BLOB = "fake-centre"


def mosaics(
    model: nn.Module, samples: Samples, x: Tensor, *, seed: int = 0, rise: float = RISE
) -> tuple[Tensor, Tensor, Tensor]:
    """Inputs, masks and classes: a quarter of a tile, half of each side, in a tile of another class.

    Only correctly classified tiles are cut, and only mosaics count in which the piece raises the margin of its class
    by at least ``rise`` above that of the tile around it.
    """
    with torch.no_grad():
        predicted = torch.cat([model(part).argmax(1) for part in x.split(16)])
    numbers = torch.arange(len(x))
    order = draws.permutation(draws.seeds(seed, "mosaic donor", numbers), len(x))
    donor = order.gather(1, (predicted[order] != predicted[:, None]).double().argmax(1, keepdim=True))[:, 0]
    half = [length // 2 for length in x.shape[2:]]
    corner = draws.uniform(draws.seeds(seed, "mosaic place", numbers), (2, len(half)))
    mixed, mask = x[donor].clone(), torch.zeros(len(x), *x.shape[2:], dtype=torch.bool)
    for i in range(len(x)):
        # The piece goes into a corner: anywhere else half a side would nearly always cover the middle.
        start = [int(c * (n - h + 1)) for c, n, h in zip(corner[i, 0], x.shape[2:], half, strict=True)]
        stop = [int(c > 0.5) * (n - h) for c, n, h in zip(corner[i, 1], x.shape[2:], half, strict=True)]
        here = tuple(slice(a, a + h) for a, h in zip(stop, half, strict=True))
        there = tuple(slice(a, a + h) for a, h in zip(start, half, strict=True))
        mixed[(i, slice(None), *here)] = x[(i, slice(None), *there)]
        mask[(i, *here)] = True
    margin = margins(model, predicted)
    raised = torch.cat([
        margin(mixed[rows], rows) - margin(x[donor][rows], rows) for rows in numbers.split(16)
    ])  # fmt: skip
    keep = (raised >= rise) & (predicted == samples.y)
    return mixed[keep], mask[keep], predicted[keep]


def tissue(path: Path = HMT, tiles: int = TILES) -> tuple[str, bool]:
    """The order of the methods by mosaics, and by the scores that the verdict of the plain tiles rests on."""
    if not path.is_dir():
        return f"Left out: no tiles at {path}.", True
    test = hp.data.load("hmt", path=path).test
    samples = test.take(torch.linspace(0, len(test) - 1, tiles).round().long())
    x = samples.x[:tiles]
    model = hp.load(weights("tissue-resnet"))
    if not isinstance(model, nn.Module):
        raise TypeError("the shipped network is no module")
    pictures, mask, classes = mosaics(model, samples, x)
    everyone = [*METHODS, BLOB]
    with declared():
        maps = explain(model, pictures, everyone, target=classes)
        truth = {
            name: float(torch.stack(list(truths.where(map, mask).values())[:2]).mean()) for name, map in maps.items()
        }
        results = judged(Probe(model), samples, everyone, 0)
        reply = answer(results)
    score = {
        name: float(np.mean([np.nanmean(results.scores[name, metric]) for metric in results.metrics]))
        for name in everyone
        if all((name, metric) in results.scores for metric in results.metrics)
    }
    tau = kendall([truth[name] for name in METHODS], [score.get(name, 0.0) for name in METHODS])
    rows = [
        [name, f"{truth[name]:.3f}", f"{score.get(name, float('nan')):.3f}", "yes" if name in reply.eligible else "no"]
        for name in sorted(everyone, key=lambda name: -truth[name])
    ]
    text = table(["method", "mosaics", "verdict's scores", "eligible"], rows)
    held = tau >= TAU and BLOB not in reply.eligible
    return (
        f"{text}\n\n{len(pictures)} mosaics of {tiles} tiles; Kendall's tau {tau:.2f} (required: at least {TAU}). The "
        f"verdict: {reply.text}"
    ), held


def kendall(a: list[float], b: list[float]) -> float:
    """Kendall's tau of two lists without ties."""
    first, second = np.subtract.outer(a, a), np.subtract.outer(b, b)
    upper = np.triu_indices(len(a), 1)
    return float(np.mean(np.sign(first[upper]) * np.sign(second[upper])))
