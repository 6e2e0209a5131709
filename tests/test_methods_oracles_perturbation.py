"""Methods that keep and remove parts of the input, against float64 loops from their papers."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from heatproof import draws
from heatproof.errors import HeatproofError, NotApplicable, UsageError
from heatproof.methods import explain, methods
from heatproof.methods.coalitions import Estimates, Parts, cells, parts
from heatproof.methods.sensitivity import sobol_estimates
from heatproof.methods.shapley import kernel_estimates, shapley_estimates
from heatproof.methods.surrogates import lime_estimates
from heatproof.probe import Probe
from heatproof.segments import boxes
from heatproof.segments import segments as slic

from .test_methods_oracles import FEW, Opened, compare, oracle
from .toys import Plain, Tokens, inputs, ready

PERTURBING = ["segment-ablation", "shapley-sampling", "kernel-shap", "lime", "sobol", "hsic"]
SAMPLING = PERTURBING[1:]
FEW |= {"sobol": {"samples": 85}, "hsic": {"samples": 40}, "shapley-sampling": {"samples": 130}}


class Cut:
    """The sample of an oracle, cut into parts: position by position, and set by set."""

    def __init__(self, o: Opened, labels: Tensor, fill: str) -> None:
        self.o, self.labels, self.fill = o, labels, fill
        self.k = len(set(labels.flatten().tolist()))
        self.places = list(itertools.product(*map(range, labels.shape)))
        self.scores: dict[tuple[float, ...], float] = {}

    def score(self, shares: tuple[float, ...]) -> float:
        """The score with each part kept to a share, the rest from the fill."""
        if shares not in self.scores:
            x = self.o.x.clone()
            for c in range(x.shape[1]):
                values = [float(self.o.x[(0, c, *p)]) for p in self.places]
                blank = sum(values) / len(values) if self.fill == "mean" else 0.0
                for p, value in zip(self.places, values, strict=True):
                    share = shares[int(self.labels[p])]
                    x[(0, c, *p)] = share * value + (1 - share) * blank
            self.scores[shares] = self.o.value(self.o.model(x)[0])
        return self.scores[shares]

    def of(self, members: set[int]) -> float:
        """The score with these parts kept."""
        return self.score(tuple(float(i in members) for i in range(self.k)))

    def map(self, values: Any) -> Tensor:
        map = torch.zeros(self.labels.shape, dtype=torch.float64)
        for p in self.places:
            map[p] = float(values[int(self.labels[p])])
        return map

    def everything(self) -> list[set[int]]:
        return [set(members) for size in range(self.k + 1) for members in itertools.combinations(range(self.k), size)]

    def shapley(self) -> list[float]:
        """Shapley's own formula: the sum over the sets without a part."""
        values = []
        for i in range(self.k):
            total = 0.0
            for members in self.everything():
                if i not in members:
                    size = len(members)
                    weight = math.factorial(size) * math.factorial(self.k - size - 1) / math.factorial(self.k)
                    total += weight * (self.of(members | {i}) - self.of(members))
            values.append(total)
        return values


def superpixels(o: Opened, segments: int, fill: str) -> Cut:
    return Cut(o, slic(o.x.float(), segments)[0], fill)


def grid(o: Opened, segments: int, fill: str) -> Cut:
    return Cut(o, boxes(o.x.shape[2:], segments), fill)


@oracle("segment-ablation")
def segment_ablation(o: Opened, segments: int = 16, fill: str = "mean") -> Tensor:
    cut = superpixels(o, segments, fill)
    whole = set(range(cut.k))
    return cut.map([cut.of(whole) - cut.of(whole - {i}) for i in range(cut.k)])


@oracle("shapley-sampling")
def shapley_sampling(o: Opened, segments: int = 16, samples: int = 400, fill: str = "mean") -> Tensor:
    """The mean over orders of what a part adds to those before it; each order and its reverse."""
    cut = superpixels(o, segments, fill)
    if samples >= 2**cut.k - 2:
        return cut.map(cut.shapley())
    values, orders = [0.0] * cut.k, []
    for number in range(samples // (2 * (cut.k - 1))):
        places = draws.permutation(o.seeds("shapley-sampling") * 1009 + number, cut.k)[0].tolist()
        order = sorted(range(cut.k), key=lambda i, places=places: places[i])
        orders += [order, order[::-1]]
    for order in orders:
        before: set[int] = set()
        for i in order:
            values[i] += (cut.of(before | {i}) - cut.of(before)) / len(orders)
            before = before | {i}
    return cut.map(values)


def least_squares(rows: list[list[float]], want: list[float], weights: list[float]) -> np.ndarray:
    root = np.sqrt(np.array(weights))
    return np.linalg.lstsq(np.array(rows) * root[:, None], np.array(want) * root, rcond=None)[0]


@oracle("kernel-shap")
def kernel_shap(o: Opened, segments: int = 16, samples: int = 400, fill: str = "mean") -> Tensor:
    """Theorem 2, the last value replaced by what the constraint leaves for it."""
    cut = superpixels(o, segments, fill)
    k = cut.k
    if samples >= 2**k - 2:
        return cut.map(cut.shapley())

    def kernel(size: int) -> float:
        return (k - 1) / (math.comb(k, size) * size * (k - size))

    halves = [{size, k - size} for size in range(1, k // 2 + 1)]
    masses = [sum(kernel(s) * math.comb(k, s) for s in half) for half in halves]
    sets: list[tuple[set[int], float]] = []
    left, begun = samples, 0
    for number, half in enumerate(halves):
        count = sum(math.comb(k, s) for s in half)
        if number and left * masses[number] / sum(masses[number:]) < count:
            break
        sets += [(set(members), kernel(s)) for s in half for members in itertools.combinations(range(k), s)]
        left, begun = left - count, number + 1
    pairs, rest = left // 2, sum(masses[begun:])
    for row in draws.uniform(o.seeds("kernel-shap"), (pairs, k + 1))[0].tolist():
        size, below = begun + 1, masses[begun]
        while row[0] > below / rest:
            size, below = size + 1, below + masses[size]
        members = set(sorted(range(k), key=lambda i, row=row: row[1 + i])[:size])
        sets += [(members, rest / (2 * pairs)), (set(range(k)) - members, rest / (2 * pairs))]
    empty, whole = cut.of(set()), cut.of(set(range(k)))
    rows, want = [], []
    for members, _ in sets:
        z = [float(i in members) for i in range(k)]
        rows.append([z[i] - z[-1] for i in range(k - 1)])
        want.append(cut.of(members) - empty - z[-1] * (whole - empty))
    values = least_squares(rows, want, [weight for _, weight in sets]).tolist()
    return cut.map([*values, whole - empty - sum(values)])


@oracle("lime")
def lime(
    o: Opened,
    segments: int = 16,
    samples: int = 400,
    width: float = 0.25,
    ridge: float = 1.0,
    fill: str = "mean",
) -> Tensor:
    """Equation 1 with a squared loss and a penalty that spares the intercept: further rows for the least squares."""
    cut = superpixels(o, segments, fill)
    sets = cut.everything()
    if samples < 2**cut.k:
        drawn = draws.uniform(o.seeds("lime"), (samples // 2, cut.k))[0].tolist()
        sets = [{i for i in range(cut.k) if (row[i] < 0.5) is side} for side in (True, False) for row in drawn]
    rows, want, weights = [], [], []
    for members in sets:
        z = [float(i in members) for i in range(cut.k)]
        cosine = sum(z) / (math.sqrt(sum(z)) * math.sqrt(cut.k)) if members else 0.0
        rows.append([1.0, *z])
        want.append(cut.of(members))
        weights.append(math.exp(-((1 - cosine) ** 2) / (2 * width**2)))
    for i in range(cut.k):
        rows.append([0.0, *(float(i == j) for j in range(cut.k))])
        want.append(0.0)
        weights.append(ridge)
    return cut.map(least_squares(rows, want, weights)[1:])


@oracle("sobol")
def sobol(o: Opened, segments: int = 16, samples: int = 544, fill: str = "mean") -> Tensor:
    """Jansen's estimator of the total index: points of A, and each with one coordinate from B."""
    cut = grid(o, segments, fill)
    points, k = samples // (cut.k + 1), cut.k
    sequence = torch.quasirandom.SobolEngine(2 * k).draw(points, dtype=torch.float64).tolist()
    shift = draws.uniform(o.seeds("sobol"), (2 * k,))[0].tolist()
    both = [[math.fmod(a + b, 1) for a, b in zip(row, shift, strict=True)] for row in sequence]
    scores = [cut.score(tuple(row[:k])) for row in both]
    mean = sum(scores) / points
    variance = sum((s - mean) ** 2 for s in scores) / (points - 1)
    values = []
    for i in range(k):
        changed = [cut.score(tuple(row[k + i] if j == i else row[j] for j in range(k))) for row in both]
        squares = sum((a - b) ** 2 for a, b in zip(scores, changed, strict=True))
        values.append(squares / (2 * points) / variance)
    return cut.map(values)


@oracle("hsic")
def hsic(o: Opened, segments: int = 16, samples: int = 400, fill: str = "mean") -> Tensor:
    """tr(K H L H) / (samples - 1)^2, with matrices as they are written."""
    cut = grid(o, segments, fill)
    drawn = draws.uniform(o.seeds("hsic"), (samples, cut.k))[0].numpy()
    kept = np.zeros((samples, cut.k))
    for i in range(cut.k):
        for row in sorted(range(samples), key=lambda r, i=i: drawn[r, i])[: samples // 2]:
            kept[row, i] = 1
    scores = [cut.score(tuple(row.tolist())) for row in kept]
    apart = sorted(abs(a - b) for a, b in itertools.permutations(scores, 2) if a != b)
    median = apart[(len(apart) - 1) // 2]
    L = np.array([[math.exp(-((a - b) ** 2) / (2 * median**2)) for b in scores] for a in scores])
    H = np.eye(samples) - np.ones((samples, samples)) / samples
    values = []
    for i in range(cut.k):
        K = np.array([[float(a == b) for b in kept[:, i]] for a in kept[:, i]])
        values.append(np.trace(K @ H @ L @ H) / (samples - 1) ** 2)
    return cut.map(values)


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("name", PERTURBING)
def test_method_follows_its_paper(name: str, rank: int) -> None:
    compare(ready(Plain(rank), seed=rank), "conv2", inputs(rank, 2), name, FEW.get(name, {}))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("segment-ablation", {"fill": "black", "segments": 5}),
        ("shapley-sampling", {"fill": "black", "samples": 40, "segments": 12}),
        ("shapley-sampling", {"samples": 300, "segments": 8}),
        ("kernel-shap", {"fill": "black", "samples": 90, "segments": 9}),
        ("kernel-shap", {"samples": 61, "segments": 6}),
        ("lime", {"fill": "black", "ridge": 0.1, "samples": 71, "segments": 9, "width": 0.5}),
        ("lime", {"samples": 300, "segments": 6}),
        ("sobol", {"fill": "black", "samples": 60, "segments": 6}),
        ("hsic", {"fill": "black", "samples": 31, "segments": 6}),
    ],
)
@pytest.mark.parametrize("rank", [1, 2])
def test_options_do_what_they_say(name: str, options: dict[str, Any], rank: int) -> None:
    compare(ready(Plain(rank), seed=5), "conv2", inputs(rank, 2), name, options)


# Properties


def cut_of(model: nn.Module, x: Tensor, segments: int, seed: int = 0, cutter: Callable[..., Parts] = parts) -> Parts:
    probe = Probe(model, score="margin")
    return cutter(probe, x, probe.goal(x, 1), draws.seeds(seed, "test", torch.arange(len(x))), segments, "mean")


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("estimates", [kernel_estimates, shapley_estimates])
@pytest.mark.parametrize("samples", [150, 10_000])
def test_values_add_up(estimates: Callable[[Parts, int], Estimates], rank: int, samples: int) -> None:
    """Efficiency: the score of the input less that of the fill, for drawn sets and for all of them."""
    model = ready(Plain(rank)).double()
    cut = cut_of(model, inputs(rank), 10)
    ends = cut.scores([torch.tensor([[True], [False]]).expand(2, k) for k in cut.counts])
    for values, (whole, empty) in zip(estimates(cut, samples).values, ends, strict=True):
        assert float(values.sum()) == pytest.approx(float(whole - empty), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("name", ["segment-ablation", "kernel-shap", "shapley-sampling"])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_a_linear_model_has_exact_values(name: str, rank: int) -> None:
    """A segment is worth its part of the sum; the map of `lime` is shrunk by its penalty."""
    x = inputs(rank, 3)
    model = nn.Sequential(nn.Flatten(), nn.Linear(x[0].numel(), 3)).double().eval()
    maps = explain(model, x, f"{name}:score=logit,samples=90" if name != "segment-ablation" else f"{name}:score=logit",
                   target=1)  # fmt: skip
    labels, weight = slic(x, 16), model[1].weight[1].detach().reshape(x.shape[1:])
    mean = x.double().flatten(2).mean(2).reshape(*x.shape[:2], *(1,) * rank)
    worth = (weight * (x - mean)).sum(1)
    for i in range(3):
        want = torch.zeros_like(worth[i])
        for label in range(int(labels[i].max()) + 1):
            want[labels[i] == label] = worth[i][labels[i] == label].sum()
        torch.testing.assert_close(maps[i].double(), want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("estimates", "cutter"),
    [
        (lambda cut: kernel_estimates(cut, 90), parts),
        (lambda cut: shapley_estimates(cut, 180), parts),
        (lambda cut: lime_estimates(cut, 100), parts),
    ],
)
def test_standard_errors_are_those_of_repeated_draws(
    estimates: Callable[[Parts], Estimates], cutter: Callable[..., Parts]
) -> None:
    model, x = ready(Plain(1)).double(), inputs(1, 1).expand(300, -1, -1)
    repeats = estimates(cut_of(model, x, 12, cutter=cutter))
    values, errors = torch.stack(repeats.values), torch.stack(repeats.errors)
    ratio = errors.square().mean(0).sqrt() / values.std(0)
    assert float(ratio.min()) > 0.75, ratio
    assert float(ratio.max()) < 1.35, ratio


def test_estimates_come_nearer_to_the_exact_values() -> None:
    model, x = ready(Plain(2)).double(), inputs(2, 8)
    cut = cut_of(model, x, 12)
    want = torch.stack(kernel_estimates(cut, 10_000).values)
    torch.testing.assert_close(torch.stack(shapley_estimates(cut, 10_000).values), want)
    assert float(torch.stack(kernel_estimates(cut, 10_000).errors).abs().max()) == 0
    for estimates in (kernel_estimates, shapley_estimates):
        coarse, fine = (float((torch.stack(estimates(cut, m).values) - want).square().mean()) for m in (100, 1600))
        assert fine < coarse / 6


def test_sobol_of_an_additive_score() -> None:
    """The total index of a linear model is the share of each part's variance; a point's error shrinks with points."""
    x = inputs(1, 2)
    model = nn.Sequential(nn.Flatten(), nn.Linear(x[0].numel(), 3)).double().eval()
    probe = Probe(model, score="logit")
    cut = cells(probe, x, probe.goal(x, 1), draws.seeds(0, "t", torch.arange(2)), 6, "mean")
    worth = model[1].weight[1].detach().reshape(x.shape[1:]) * (x - x.mean(2, keepdim=True))
    share = worth.sum(1).unflatten(1, (6, 4)).sum(2).square()
    for values, want in zip(sobol_estimates(cut, 7 * 512).values, share / share.sum(1, keepdim=True), strict=True):
        torch.testing.assert_close(values, want.double(), rtol=0.05, atol=0.01)


@pytest.mark.parametrize("name", ["sobol", "hsic"])
def test_a_score_that_does_not_vary_gives_zeros(name: str) -> None:
    model = ready(Plain(2))
    with torch.no_grad():
        model.dense.weight.zero_()
    assert float(explain(model, inputs(2), name, target=1).abs().max()) < 1e-9


def test_samples_with_different_numbers_of_segments() -> None:
    """Alone and together the same, where samples fall into different numbers of segments."""
    x = torch.zeros(3, 2, 10, 12)
    x[1] = inputs(2, 1)
    x[2, :, 3:5, 3:7] = 4.0
    model = ready(Plain(2))
    cut = cut_of(model, x, 30)
    cut.labels[2].clamp_(max=6)
    object.__setattr__(cut, "counts", [int(labels.max()) + 1 for labels in cut.labels])
    assert len(set(cut.counts)) > 1
    for estimates in (kernel_estimates, shapley_estimates, lime_estimates):
        together = estimates(cut, 140).values
        for i in range(3):
            alone = Parts(cut.probe, x[i : i + 1], cut.goal.take(slice(i, i + 1)), cut.labels[i : i + 1], cut.fill,
                          cut.seeds[i : i + 1])  # fmt: skip
            torch.testing.assert_close(estimates(alone, 140).values[0], together[i], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("fill", ["black", "blur", "noise", "noisy-linear"])
@pytest.mark.parametrize("name", PERTURBING)
def test_fills_by_name(name: str, fill: str) -> None:
    model, x = ready(Plain(2)), inputs(2)
    text = f"{name}:fill={fill}" + ("" if name == "segment-ablation" else ",samples=100")
    if fill == "noisy-linear" and name in ("sobol", "hsic"):
        with pytest.raises(NotApplicable, match="cannot fade"):
            explain(model, x, text)
        return
    whole = explain(model, x, text, target=1)
    for i in range(3):
        alone = explain(Probe(model, batch=7), x[i : i + 1], text, target=1, index=torch.tensor([i]))
        torch.testing.assert_close(alone[0], whole[i], rtol=1e-3, atol=1e-4 * float(whole.abs().max()))


@pytest.mark.parametrize(
    ("text", "passes"),
    [
        ("segment-ablation", 17),
        ("kernel-shap", 402),
        ("shapley-sampling", 392),
        ("lime", 400),
        ("sobol", 544),
        ("hsic", 400),
        ("kernel-shap:segments=6", 64),
        ("lime:segments=6", 64),
    ],
)
def test_passes_are_what_the_docstring_says(text: str, passes: int) -> None:
    probe = Probe(ready(Plain(1)), engine="plain")
    x = inputs(1)
    probe.survey(x)
    goal = probe.goal(x, 1)
    probe.passes.clear()
    explain(probe, x, text, target=goal)
    assert probe.passes == {"forward": 3 * passes}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("segment-ablation:segments=1", "at least 2"),
        ("kernel-shap:segments=25", "25 for inputs of 24 positions, expected at most 24"),
        ("sobol:segments=25", "at most 24"),
        ("kernel-shap:samples=63", "63 for 16 segments, expected at least 64"),
        ("kernel-shap:samples=5,segments=3", "expected at least 6"),
        ("shapley-sampling:samples=29", "29 for 16 segments, expected at least 30"),
        ("lime:samples=33", "33 for 16 segments, expected at least 34"),
        ("lime:width=0.0", "width"),
        ("lime:ridge=0.0", "ridge"),
        ("sobol:samples=33", "33 for 16 segments, expected at least 34"),
        ("hsic:samples=15", "expected at least 16"),
        ("kernel-shap:fill=grey", "grey"),
        ("kernel-shap:fill=donor", "other samples"),
    ],
)
def test_bad_options(text: str, message: str) -> None:
    with pytest.raises(HeatproofError, match=message) as caught:
        explain(ready(Plain(1)), inputs(1), text)
    assert "\n" not in str(caught.value)


def test_two_segments_of_a_volume_are_none() -> None:
    x = torch.randn(2, 2, 6, 6, 6, generator=torch.Generator().manual_seed(0))
    with pytest.raises(UsageError, match="one segment for inputs of 6x6x6 positions; expected at least 4"):
        explain(ready(Plain(3)), x, "kernel-shap:segments=2")


def test_transformers_are_explained_without_a_layer() -> None:
    maps = explain(ready(Tokens()), inputs(2)[..., :8, :12].contiguous(), PERTURBING, target=1)
    for map in maps.values():
        assert bool(torch.isfinite(map).all())
        assert float(map.abs().max()) > 0


def test_all_are_registered() -> None:
    assert set(PERTURBING) <= set(methods)
    assert all(methods[name].compares and methods[name].seeded for name in PERTURBING)
