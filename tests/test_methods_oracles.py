"""Every method against a slow oracle in float64, written from the paper's equation, sample by sample."""

from __future__ import annotations

import importlib
import itertools
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from heatproof import draws
from heatproof.methods import explain, methods
from heatproof.probe import Probe

from .toys import CLASSES, Plain, Residual, Tokens, inputs, ready

SEED = 3
Oracle = Callable[..., Tensor]
ORACLES: dict[str, Oracle] = {}
ATTENTION = ("attention-rollout", "transformer-attribution", "le-grad")  # compared by test_attention


def oracle(name: str) -> Callable[[Oracle], Oracle]:
    """Marks ``(Opened, **options) -> map`` as the oracle of a method; the map may have the layer's size."""

    def register(function: Oracle) -> Oracle:
        ORACLES[name] = function
        return function

    return register


class Opened:
    """One sample in a float64 model: the layer's output A (K, *s), the logits, and what follows the layer."""

    def __init__(self, model: nn.Module, layer: str, x: Tensor, target: int, seed: int, score: str) -> None:
        self.model, self.layer, self.x, self.target, self.seed, self.score = model, layer, x, target, seed, score
        with self._hooked(lambda out: out.clone()) as seen:
            self.logits = model(x)[0].detach()
        self.A = seen[0][0].detach()
        self.a = self.A.numpy()
        self.K, self.size = len(self.A), tuple(self.A.shape[1:])
        self.places = list(itertools.product(*map(range, self.size)))

    @contextmanager
    def _hooked(self, change: Callable[[Tensor], Tensor]) -> Iterator[list[Tensor]]:
        seen: list[Tensor] = []

        def hook(module: nn.Module, _: Any, out: Tensor) -> Tensor:
            seen.append(out.clone())
            return change(out)

        handle = self.model.get_submodule(self.layer).register_forward_hook(hook)
        try:
            yield seen
        finally:
            handle.remove()

    def behind(self, A: Tensor) -> Tensor:
        """The logits with the layer's output replaced."""
        with self._hooked(lambda _: A[None].clone()):
            return self.model(self.x)[0]

    def value(self, logits: Tensor) -> float:
        """The score of the target."""
        logits = logits.detach()
        if self.score == "margin":
            return float(logits[self.target]) - max(float(z) for c, z in enumerate(logits) if c != self.target)
        return float(logits.softmax(0)[self.target] if self.score == "probability" else logits[self.target])

    def slope(self, weights: Tensor | None = None, x: Tensor | None = None) -> Tensor:
        """The gradient by A of the target's logit, or of a weighted sum of logits."""
        A = self.A if x is None else Opened(self.model, self.layer, x, self.target, self.seed, self.score).A
        leaf = A.clone().requires_grad_()
        logits = self.behind(leaf) if x is None else self._behind(leaf, x)
        value = logits[self.target] if weights is None else (logits * weights).sum()
        (G,) = torch.autograd.grad(value, leaf)
        return G

    def _behind(self, A: Tensor, x: Tensor) -> Tensor:
        with self._hooked(lambda _: A[None].clone()):
            return self.model(x)[0]

    def seeds(self, spec: str) -> Tensor:
        return draws.seeds(SEED, spec, torch.tensor([self.seed]))

    def weighted(self, weights: list[float] | Tensor, *, relu: bool = True) -> Tensor:
        """relu(sum of w_k A_k), element by element."""
        ours = torch.zeros(self.size, dtype=torch.float64)
        for place in self.places:
            total = sum(float(weights[k]) * self.a[(k, *place)] for k in range(self.K))
            ours[place] = max(total, 0.0) if relu else total
        return ours


@oracle("grad-cam")
def grad_cam(o: Opened) -> Tensor:
    G = o.slope().numpy()
    return o.weighted([sum(G[(k, *p)] for p in o.places) / len(o.places) for k in range(o.K)])


def plus_plus(o: Opened, first: Tensor, second: Tensor, third: Tensor) -> Tensor:
    weights = []
    for k in range(o.K):
        mass = sum(o.a[(k, *p)] for p in o.places)
        total = 0.0
        for p in o.places:
            g1, g2, g3 = (float(g[(k, *p)]) for g in (first.numpy(), second.numpy(), third.numpy()))
            bottom = 2 * g2 + mass * g3
            total += (g2 / bottom if bottom else 0.0) * max(g1, 0.0)
        weights.append(total)
    return o.weighted(weights)


@oracle("grad-cam-plus-plus")
def grad_cam_plus_plus(o: Opened) -> Tensor:
    G = o.slope()
    return plus_plus(o, G, G**2, G**3)


@oracle("smooth-grad-cam-plus-plus")
def smooth_grad_cam_plus_plus(o: Opened, samples: int = 8, spread: float = 0.15) -> Tensor:
    sums = [torch.zeros_like(o.A) for _ in range(3)]
    deviation = spread * float(o.x.max() - o.x.min())
    for turn in range(samples):
        noise = draws.normal(o.seeds("smooth-grad-cam-plus-plus") + turn, o.x.shape[1:])
        G = o.slope(x=o.x + deviation * noise)
        for power in range(3):
            sums[power] += G ** (power + 1) / samples
    return plus_plus(o, *sums)


@oracle("cam")
def cam(o: Opened) -> Tensor:
    return o.weighted(o.model.dense.weight[o.target].detach(), relu=False)


@oracle("xgrad-cam")
def xgrad_cam(o: Opened) -> Tensor:
    G, weights = o.slope().numpy(), []
    for k in range(o.K):
        mass = sum(o.a[(k, *p)] for p in o.places)
        weights.append(sum(o.a[(k, *p)] / mass * G[(k, *p)] for p in o.places) if mass else 0.0)
    return o.weighted(weights)


def elementwise(o: Opened, rule: Callable[[float, float], float], *, relu: bool) -> Tensor:
    G, map = o.slope().numpy(), torch.zeros(o.size, dtype=torch.float64)
    for p in o.places:
        total = sum(rule(o.a[(k, *p)], G[(k, *p)]) for k in range(o.K))
        map[p] = max(total, 0.0) if relu else total
    return map


@oracle("hires-cam")
def hires_cam(o: Opened) -> Tensor:
    return elementwise(o, lambda a, g: a * g, relu=False)


@oracle("layer-cam")
def layer_cam(o: Opened) -> Tensor:
    return elementwise(o, lambda a, g: a * max(g, 0.0), relu=True)


@oracle("elementwise-grad-cam")
def elementwise_grad_cam(o: Opened) -> Tensor:
    return elementwise(o, lambda a, g: max(a * g, 0.0), relu=True)


def signed_like(component: np.ndarray, sums: np.ndarray, size: tuple[int, ...]) -> Tensor:
    """The sign that makes the covariance with the sum over channels positive."""
    if np.mean(component * (sums - sums.mean())) < 0:
        component = -component
    return torch.from_numpy(component.reshape(size).copy())


def first_projection(values: Tensor) -> Tensor:
    rows = values.flatten(1).T.numpy()
    _, _, V = np.linalg.svd(rows, full_matrices=False)
    return signed_like(rows @ V[0], rows.sum(1), tuple(values.shape[1:]))


@oracle("eigen-cam")
def eigen_cam(o: Opened) -> Tensor:
    return first_projection(o.A)


@oracle("eigen-grad-cam")
def eigen_grad_cam(o: Opened) -> Tensor:
    return first_projection(o.A * o.slope())


@oracle("kpca-cam")
def kpca_cam(o: Opened, kernel: str = "sigmoid", gamma: float | None = None) -> Tensor:
    rows = o.A.flatten(1).T.numpy()
    gamma = 1 / o.K if gamma is None else gamma
    P = len(rows)
    K = np.zeros((P, P))
    for i in range(P):
        for j in range(P):
            if kernel == "sigmoid":
                K[i, j] = math.tanh(gamma * float(rows[i] @ rows[j]) + 1)
            else:
                K[i, j] = math.exp(-gamma * float(((rows[i] - rows[j]) ** 2).sum()))
    centre = np.eye(P) - np.ones((P, P)) / P
    values, vectors = np.linalg.eigh(centre @ K @ centre)
    return signed_like(vectors[:, -1] * math.sqrt(max(values[-1], 0)), rows.sum(1), o.size)


def veil(o: Opened, k: int) -> Tensor:
    """Channel k at the input's size, from 0 to 1."""
    mode = {1: "linear", 2: "bilinear", 3: "trilinear"}[len(o.size)]
    large = F.interpolate(o.A[None, k : k + 1], tuple(o.x.shape[2:]), mode=mode, align_corners=False)[0, 0]
    low, high = float(large.min()), float(large.max())
    return (large - low) / (high - low) if high > low else torch.zeros_like(large)


def softmax(values: list[float]) -> list[float]:
    return [math.exp(v - max(values)) / sum(math.exp(u - max(values)) for u in values) for v in values]


@oracle("score-cam")
def score_cam(o: Opened) -> Tensor:
    return o.weighted(softmax([o.value(o.model(o.x * veil(o, k))[0]) for k in range(o.K)]))


@oracle("ss-cam")
def ss_cam(o: Opened, samples: int = 10, spread: float = 0.2) -> Tensor:
    seeds, means = o.seeds("ss-cam"), []
    for k in range(o.K):
        total = 0.0
        for i in range(samples):
            noise = draws.normal(seeds * 31 + (k * samples + i), (1, *o.x.shape[2:]))[0, 0]
            total += o.value(o.model(o.x * (veil(o, k) + spread * noise))[0])
        means.append(total / samples)
    return o.weighted(softmax(means))


@oracle("is-cam")
def is_cam(o: Opened, steps: int = 10) -> Tensor:
    means = []
    for k in range(o.K):
        parts = [o.value(o.model(o.x * veil(o, k) * (i / steps))[0]) for i in range(1, steps + 1)]
        means.append(sum(parts) / steps)
    return o.weighted(softmax(means))


@oracle("ablation-cam")
def ablation_cam(o: Opened) -> Tensor:
    y, weights = o.value(o.logits), []
    for k in range(o.K):
        A = o.A.clone()
        A[k] = 0
        weights.append(y - o.value(o.behind(A)))
    scores = [y, *(y - lost for lost in weights)]
    whole = max(abs(y), 0.01 * (max(scores) - min(scores)))
    return o.weighted([lost / whole for lost in weights])


@oracle("recipro-cam")
def recipro_cam(o: Opened, window: str = "gaussian") -> Tensor:
    map = torch.zeros(o.size, dtype=torch.float64)
    for p in o.places:
        mask = torch.zeros(o.size, dtype=torch.float64)
        for q in o.places:
            steps = [abs(a - b) for a, b in zip(p, q, strict=True)]
            if window == "dirac":
                mask[q] = float(p == q)
            elif max(steps) <= 1:
                mask[q] = math.prod(0.5 if s == 0 else 0.25 for s in steps)
        map[p] = o.value(o.behind(o.A * mask))
    return map


@oracle("fem")
def fem(o: Opened, deviations: float = 2.0) -> Tensor:
    map = torch.zeros(o.size, dtype=torch.float64)
    for k in range(o.K):
        values = o.A[k].numpy()
        limit = values.mean() + deviations * values.std()
        for p in o.places:
            map[p] += values.mean() if values[p] > limit else 0.0
    return map


@oracle("shapley-cam")
def shapley_cam(o: Opened) -> Tensor:
    def utility(flat: Tensor) -> Tensor:
        logits = o.behind(flat.reshape(o.A.shape))
        return logits[o.target] + torch.log_softmax(logits, 0)[o.target]

    flat = o.A.flatten()
    slope = torch.autograd.functional.jacobian(utility, flat)
    H = torch.autograd.functional.hessian(utility, flat)
    share = (slope - 0.5 * (H @ flat)).reshape(o.A.shape)
    return o.weighted([float(share[k].mean()) for k in range(o.K)])


@oracle("finer-cam")
def finer_cam(o: Opened, alpha: float = 1.0, classes: int = 3) -> Tensor:
    others = [c for c in range(len(o.logits)) if c != o.target]
    near = sorted(others, key=lambda c: abs(float(o.logits[c] - o.logits[o.target])))[:classes]
    p = o.logits.softmax(0)
    mass = sum(float(p[c]) for c in near)
    total = torch.zeros_like(o.A)
    for c in near:
        pair = torch.zeros(len(o.logits), dtype=torch.float64)
        pair[o.target], pair[c] = 1.0, -alpha
        total += float(p[c]) / mass * o.slope(pair)
    return o.weighted([float(total[k].mean()) for k in range(o.K)])


@oracle("mean-activation")
def mean_activation(o: Opened) -> Tensor:
    return o.weighted([1 / o.K] * o.K, relu=False)


@oracle("saliency")
def saliency(o: Opened) -> Tensor:
    return input_slope(o).abs().max(0).values


@oracle("input-x-gradient")
def input_x_gradient(o: Opened) -> Tensor:
    return (input_slope(o) * o.x[0]).sum(0)


def input_slope(o: Opened) -> Tensor:
    leaf = o.x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(o.model(leaf)[0, o.target], leaf)
    return slope[0]


@oracle("full-grad")
def full_grad(o: Opened) -> Tensor:
    """For `Plain`: input, convolutions and batch normalisation, whose bias is beta - gamma mean / sd."""
    norm = o.model.norm
    bias = {"conv1": o.model.conv1.bias, "conv2": o.model.conv2.bias,
            "norm": norm.bias - norm.weight * norm.running_mean / (norm.running_var + norm.eps).sqrt()}  # fmt: skip
    bias = {name: values.detach() for name, values in bias.items()}
    mode = {1: "linear", 2: "bilinear", 3: "trilinear"}[o.x.ndim - 2]

    def stretched(share: Tensor) -> Tensor:
        return (share - share.min()) / (share.max() - share.min())

    map = stretched((input_slope(o) * o.x[0]).abs()).sum(0)
    left_over = float((input_slope(o) * o.x[0]).sum() + o.model.dense.bias.detach()[o.target])
    for name, values in bias.items():
        at = Opened(o.model, name, o.x, o.target, o.seed, o.score)
        share = at.slope() * values.reshape(-1, *(1,) * len(at.size))
        left_over += float(share.sum())
        large = F.interpolate(share.abs()[None], tuple(o.x.shape[2:]), mode=mode, align_corners=False)[0]
        map = map + stretched(large).sum(0)
    assert left_over == pytest.approx(float(o.logits[o.target]), abs=1e-9)  # equation 4: the shares add up to the logit
    return map


@oracle("random")
def random(o: Opened) -> Tensor:
    return draws.uniform(o.seeds("random"), o.x.shape[2:])[0]


@oracle("edge")
def edge(o: Opened) -> Tensor:
    """Central differences along one axis, smoothed by (1, 2, 1) / 4 along the others; edges repeated."""
    size, x = tuple(o.x.shape[2:]), o.x[0].numpy()
    ours = torch.zeros(size, dtype=torch.float64)
    for p in itertools.product(*map(range, size)):
        for c, axis in itertools.product(range(o.x.shape[1]), range(len(size))):
            slope = 0.0
            for step in itertools.product((-1, 0, 1), repeat=len(size)):
                q = tuple(min(max(a + b, 0), s - 1) for a, b, s in zip(p, step, size, strict=True))
                smooth = math.prod(0.5 if b == 0 else 0.25 for i, b in enumerate(step) if i != axis)
                slope += step[axis] / 2 * smooth * x[(c, *q)]
            ours[p] += slope**2
    return ours.sqrt()


@oracle("absolute-input")
def absolute_input(o: Opened) -> Tensor:
    return sum(o.x[0, c].abs() for c in range(o.x.shape[1])) / o.x.shape[1]


@oracle("centre")
def centre(o: Opened, width: float = 0.25) -> Tensor:
    size = tuple(o.x.shape[2:])
    ours = torch.zeros(size, dtype=torch.float64)
    for p in itertools.product(*map(range, size)):
        ours[p] = math.exp(-sum(((a - (s - 1) / 2) / (width * s)) ** 2 / 2 for a, s in zip(p, size, strict=True)))
    return ours


def enlarged(cells: np.ndarray, width: list[int], place: tuple[int, ...]) -> float:
    """The value at a place of cells enlarged by linear interpolation, each to so many positions an axis."""
    ends = []
    for p, w, count in zip(place, width, cells.shape, strict=True):
        at = max((p + 0.5) / w - 0.5, 0.0)
        low = math.floor(at)
        ends.append(((low, 1 - at + low), (min(low + 1, count - 1), at - low)))
    return sum(
        math.prod(w for _, w in corner) * cells[tuple(i for i, _ in corner)] for corner in itertools.product(*ends)
    )


@oracle("rise")
def rise(o: Opened, masks: int = 400, cells: int = 7, keep: float = 0.5) -> Tensor:
    """Equation 6: the sum over masks of the score times the mask, divided by the sum of the masks at the position.

    Section 3.2: cells on or off, one more an axis than fit, enlarged, and cut out with a shift of less than a cell.
    """
    size = tuple(o.x.shape[2:])
    fit = [min(cells, s) for s in size]
    width = [math.ceil(s / g) for s, g in zip(size, fit, strict=True)]
    count = math.prod(g + 1 for g in fit)
    places = list(itertools.product(*map(range, size)))
    importance, shown, scores = torch.zeros(size, dtype=torch.float64), torch.zeros(size, dtype=torch.float64), []
    for number in range(masks):
        drawn = draws.uniform(o.seeds("rise") * 1009 + number, (count + len(size),))[0].tolist()
        shift = [int(d * w) for d, w in zip(drawn, width, strict=False)]
        on = np.array([float(d < keep) for d in drawn[len(size) :]]).reshape([g + 1 for g in fit])
        mask = torch.zeros(size, dtype=torch.float64)
        for p in places:
            mask[p] = enlarged(on, width, tuple(a + b for a, b in zip(p, shift, strict=True)))
        scores.append(o.value(o.model(o.x * mask)[0]))
        importance += scores[-1] * mask
        shown += mask
    return torch.where(shown > 0, importance / shown, sum(scores) / masks)


@oracle("occlusion")
def occlusion(o: Opened, window: float = 0.15, stride: float = 0.5, fill: float = 0.0) -> Tensor:
    """Section 4.2: the score lost by covering a window, each position the mean over the windows that cover it."""
    size = tuple(o.x.shape[2:])
    width = [max(1, round(window * s)) for s in size]
    starts = []
    for s, w in zip(size, width, strict=True):
        places = list(range(0, s - w + 1, max(1, round(stride * w))))
        starts.append(places if places[-1] == s - w else [*places, s - w])
    whole = o.value(o.logits)
    lost: dict[tuple[int, ...], list[float]] = {p: [] for p in itertools.product(*map(range, size))}
    for corner in itertools.product(*starts):
        covered = list(itertools.product(*(range(a, a + w) for a, w in zip(corner, width, strict=True))))
        x = o.x.clone()
        for p in covered:
            x[(0, slice(None), *p)] = fill
        drop = whole - o.value(o.model(x)[0])
        for p in covered:
            lost[p].append(drop)
    mean = torch.zeros(size, dtype=torch.float64)
    for p, drops in lost.items():
        mean[p] = sum(drops) / len(drops)
    return mean


# Comparison

FEW = {"rise": {"masks": 40}}  # options that spare time
LAYERS = {"cam": ("relu2",), "fem": ("conv2", "relu2"), "eigen-cam": ("conv2", "relu1")}
OPTIONS = {
    "smooth-grad-cam-plus-plus": {"samples": 2, "spread": 0.3},
    "ss-cam": {"samples": 2, "spread": 0.4},
    "is-cam": {"steps": 3},
    "kpca-cam": {"kernel": "rbf", "gamma": 0.2},
    "recipro-cam": {"window": "dirac"},
    "fem": {"deviations": 1.0},
    "finer-cam": {"alpha": 0.6, "classes": 2},
    "centre": {"width": 0.1},
    "rise": {"cells": 3, "keep": 0.7, "masks": 20},
    "occlusion": {"fill": 0.5, "stride": 0.7, "window": 0.4},
}


def spec(name: str, options: dict[str, Any]) -> str:
    return f"{name}:{','.join(f'{k}={v}' for k, v in options.items())}" if options else name


def compare(
    model: nn.Module, layer: str, x: Tensor, name: str, options: dict[str, Any], *, score: str = "margin"
) -> None:
    """Ours for the batch, float64 weights, against the oracle sample by sample; each sample explains another class."""
    model = model.double()
    target = [(i + 1) % CLASSES for i in range(len(x))]
    text = spec(name, options | ({} if score == "margin" else {"score": score}))
    ours = explain(Probe(model, layer=layer), x, text, target=target, seed=SEED)
    mode = {1: "linear", 2: "bilinear", 3: "trilinear"}[x.ndim - 2]
    full = 0
    for i in range(len(x)):
        opened = Opened(model, layer, x[i : i + 1].double(), target[i], i, score)
        if ":" in text:
            opened.seeds = lambda _, i=i: draws.seeds(SEED, str(methods.spec(text)), torch.tensor([i]))  # type: ignore[method-assign]
        want = ORACLES[name](opened, **options).detach()
        if want.shape != x.shape[2:]:
            want = F.interpolate(want[None, None], tuple(x.shape[2:]), mode=mode, align_corners=False)[0, 0]
        scale = float(want.abs().max())
        full += scale > 0
        torch.testing.assert_close(ours[i].double(), want, rtol=2e-4, atol=2e-5 * scale)
    assert full, "the oracle's maps are empty: the comparison would prove nothing"


CAMS = [name for name in methods if methods[name].family == "cam"]
OTHERS = [name for name in ORACLES if name not in CAMS]


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("name", CAMS)
def test_cam_follows_its_paper(name: str, rank: int) -> None:
    for layer in LAYERS.get(name, ("conv2", "relu2")):
        compare(ready(Plain(rank), seed=rank), layer, inputs(rank, 2), name, {})


@pytest.mark.parametrize("name", [n for n in OTHERS if n in methods])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_method_follows_its_paper(name: str, rank: int) -> None:
    compare(ready(Plain(rank), seed=rank), "conv2", inputs(rank, 2), name, FEW.get(name, {}))


@pytest.mark.parametrize("name", [n for n in OPTIONS if n in methods])
def test_options_do_what_they_say(name: str) -> None:
    for layer in LAYERS.get(name, ("conv2",))[:1]:
        compare(ready(Plain(2), seed=5), layer, inputs(2, 2), name, OPTIONS[name])


@pytest.mark.parametrize("name", [name for name in methods if methods[name].compares])
@pytest.mark.parametrize("score", ["logit", "probability"])
def test_scores_may_be_logits_or_probabilities(name: str, score: str) -> None:
    few = {"ss-cam": {"samples": 2}, "is-cam": {"steps": 2}, **FEW}.get(name, {})
    compare(ready(Plain(2), seed=2), "relu2", inputs(2, 2), name, few, score=score)


@pytest.mark.parametrize("name", ["ablation-cam", "recipro-cam"])
def test_scores_of_volumes_may_be_logits(name: str) -> None:
    compare(ready(Plain(3), seed=2), "relu2", inputs(3, 2), name, {}, score="logit")


@pytest.mark.parametrize("name", [n for n in CAMS if n != "cam"])
@pytest.mark.parametrize("layer", ["stem", "conv2"])
def test_skip_connections(name: str, layer: str) -> None:
    """Layers of mixed sign whose gradient is not zero where they are negative."""
    compare(ready(Residual(1), seed=2), layer, inputs(1, 2), name, {})


def test_every_method_has_an_oracle() -> None:
    for file in Path(__file__).parent.glob("test_methods_oracles_*.py"):
        importlib.import_module(f"{__package__}.{file.stem}")
    assert sorted(methods) == sorted({*ORACLES, *ATTENTION})


def test_no_noise_is_grad_cam_plus_plus() -> None:
    model, x = ready(Plain(2)), inputs(2)
    a, b = (
        explain(Probe(model, layer="conv2"), x, n)
        for n in ("smooth-grad-cam-plus-plus:spread=0.0", "grad-cam-plus-plus")
    )
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6 * float(b.max()))


def test_cam_sums_to_the_logit() -> None:
    model, x = ready(Plain(2)), inputs(2)
    A = model.features(x)
    maps = explain(Probe(model, layer="relu2"), nn.functional.interpolate(x, tuple(x.shape[2:])), "cam", target=2)
    want = (model.dense.weight[2][None, :, None, None] * A).sum(1)
    assert maps.shape == (3, 10, 12)
    torch.testing.assert_close(want.mean((1, 2)), model(x)[:, 2] - model.dense.bias[2])


@pytest.mark.parametrize("name", [n for n in CAMS if n not in ("cam",)])
def test_a_dead_layer_gives_a_finite_map(name: str) -> None:
    """Every channel zero: nothing to explain, and nothing to divide by."""
    model = ready(Plain(2))
    with torch.no_grad():
        model.conv2.weight.zero_()
        model.conv2.bias.fill_(-1.0)
    maps = explain(Probe(model, layer="relu2"), inputs(2), name)
    assert bool(torch.isfinite(maps).all())
    if name != "recipro-cam":
        assert float(maps.abs().max()) < 1e-6


# Attention: a transformer that computes its attention in the open, so that the oracle can read it


@pytest.mark.parametrize("name", ATTENTION)
@pytest.mark.parametrize("prefix", [0, 1])
def test_attention(name: str, prefix: int) -> None:
    model = ready(Tokens(prefix=prefix), seed=4).double()
    x = inputs(2, 2)[..., :8, :12].contiguous()
    target = [1, 3]
    maps = explain(model, x, name, target=target)
    for i in range(2):
        logits, layers = model.open(x[i : i + 1].double())
        slopes = torch.autograd.grad(logits[0, target[i]], layers, allow_unused=True)
        T = layers[0].shape[-1]
        total, shares = torch.eye(T, dtype=torch.float64), torch.zeros(T, dtype=torch.float64)
        for A, G in zip(layers, slopes, strict=True):
            G = torch.zeros_like(A) if G is None else G
            step = torch.zeros(T, T, dtype=torch.float64)
            for h, q, k in itertools.product(range(A.shape[1]), range(T), range(T)):
                a, g = float(A.detach()[0, h, q, k]), float(G[0, h, q, k])
                step[q, k] += (a if name == "attention-rollout" else max(a * g, 0.0)) / A.shape[1]
                shares[k] += max(g, 0.0) / (A.shape[1] * T * len(layers))
            step = step + torch.eye(T, dtype=torch.float64)
            if name == "attention-rollout":
                step = step / step.sum(1, keepdim=True)
            total = step @ total
        arrives = total[0] if prefix else total.mean(0)
        want = (shares if name == "le-grad" else arrives)[prefix:].reshape(2, 3)
        want = F.interpolate(want[None, None], (8, 12), mode="bilinear", align_corners=False)[0, 0]
        torch.testing.assert_close(maps[i].double(), want.detach(), rtol=1e-4, atol=1e-5 * float(want.max()))
