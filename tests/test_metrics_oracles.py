"""Each metric against a slow, loop-like float64 oracle written from its equation, on signals, images and volumes."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import pearsonr, rankdata, spearmanr, wasserstein_distance
from sklearn.metrics import average_precision_score, roc_auc_score
from torch import Tensor, nn

from heatproof import draws, spatial
from heatproof.fills import Canvas
from heatproof.metrics import Case, case, metrics, score
from heatproof.metrics.faithfulness import _drawn
from heatproof.probe import Goal, Probe
from heatproof.probe.worth import Windows, donors_of
from heatproof.registry import Spec
from heatproof.segments import boxes as equal_boxes
from heatproof.segments import segments as slic

from .toys import CLASSES, SIZE, Plain, inputs, others, ready

N = 3
ORACLES: dict[str, Callable[..., float]] = {}


def oracle(name: str) -> Callable[[Callable[..., float]], Callable[..., float]]:
    def register(function: Callable[..., float]) -> Callable[..., float]:
        ORACLES[name] = function
        return function

    return register


def explain(model: Any, x: Tensor, *, target: Any, index: Tensor, seed: int) -> Tensor:
    """A method that depends on the model, the input, the class and the seed."""
    probe = model if isinstance(model, Probe) else Probe(model)
    goal = probe.goal(x, target)
    noise = draws.uniform(draws.seeds(seed, "explain", index), x.shape[2:]).to(x)
    return (probe.gradient(x, goal) * x).sum(1) + 0.02 * noise


@dataclass
class One:
    """One sample, and the model in float64."""

    number: int
    model: nn.Module
    x: Tensor
    target: int
    map: np.ndarray
    mask: np.ndarray
    probe: Probe
    whole: Case
    pool: Tensor

    @torch.no_grad()
    def f(self, x: Tensor) -> float:
        return float(self.model(x[None].double()).softmax(1)[0, self.target])

    @torch.no_grad()
    def z(self, x: Tensor) -> Tensor:
        return self.model(x[None].double())[0]

    @property
    def p(self) -> int:
        return self.map.size

    @property
    def flat(self) -> np.ndarray:
        return self.map.ravel()

    @property
    def order(self) -> list[int]:
        """From the most to the least relevant; the maps here have no ties."""
        return sorted(range(self.p), key=lambda i: -self.flat[i])

    def filled(self, places: Any, fill: Tensor | None = None) -> Tensor:
        """The input with some flat positions at their channel's mean."""
        x = self.x.double().flatten(1).clone()
        other = x.mean(1, keepdim=True).expand_as(x) if fill is None else fill.double().flatten(1)
        for place in places:
            x[:, place] = other[:, place]
        return x.reshape(self.x.shape)

    def again(self, x: Tensor, *, probe: Probe | None = None, target: int | None = None, seed: int = 0) -> np.ndarray:
        goal = Goal(torch.tensor([self.target if target is None else target]))
        probe = Probe(self.probe.model) if probe is None else probe
        map = explain(probe, x[None].float(), target=goal, index=torch.tensor([self.number]), seed=seed)
        return map[0].double().numpy()

    def curve(self, order: list[int], counts: list[int]) -> list[float]:
        return [self.f(self.filled(order[:count])) for count in counts]


def area(at: list[float], values: list[float]) -> float:
    return sum((b - a) * (u + v) / 2 for a, b, u, v in zip(at, at[1:], values, values[1:], strict=False))


def counted(one: One, steps: int = 20) -> list[int]:
    return sorted({round(one.p * step / steps) for step in range(steps + 1)})


def correlation(a: Any, b: Any) -> float:
    return float(pearsonr(a, b)[0])


# Curves


@oracle("deletion")
def deletion(one: One) -> float:
    counts = counted(one)
    return area([c / one.p for c in counts], one.curve(one.order, counts))


@oracle("insertion")
def insertion(one: One) -> float:
    counts = counted(one)
    values = [one.f(one.filled(one.order[count:])) for count in counts]
    return area([c / one.p for c in counts], values)


@oracle("insertion-minus-deletion")
def insertion_minus_deletion(one: One) -> float:
    return insertion(one) - deletion(one)


@oracle("morf-lerf-gap")
def morf_lerf_gap(one: One) -> float:
    counts = counted(one)
    at = [c / one.p for c in counts]
    return area(at, one.curve(one.order[::-1], counts)) - area(at, one.curve(one.order, counts))


@oracle("aopc")
def aopc(one: One) -> float:
    return one.f(one.x) - deletion(one)


def boxes(one: One, count: int) -> list[list[int]]:
    labels = equal_boxes(one.map.shape, count).flatten().tolist()
    return [[i for i, label in enumerate(labels) if label == box] for box in sorted(set(labels))]


@oracle("irof")
def irof(one: One) -> float:
    labels = slic(one.x[None], 50)[0].flatten().tolist()
    groups = [[i for i, label in enumerate(labels) if label == segment] for segment in sorted(set(labels))]
    return removed_by_segment(one, groups, len(boxes(one, 50)))


def removed_by_segment(one: One, groups: list[list[int]], points: int) -> float:
    groups = sorted(groups, key=lambda places: -one.flat[places].mean())
    gone = [[i for places in groups[:k] for i in places] for k in range(len(groups) + 1)]
    values = [one.f(one.filled(places)) / one.f(one.x) for places in gone]
    at, own = np.linspace(0, 1, points + 1), np.linspace(0, 1, len(groups) + 1)
    return 1 - area(list(at), list(np.interp(at, own, values)))


@oracle("road")
def road(one: One) -> float:
    canvas = Canvas(one.x[None], Spec("noisy-linear"), one.whole.seeds("fill")[one.number][None])
    values = []
    for share in range(1, 10):
        removed = torch.zeros(one.p, dtype=torch.bool)
        removed[one.order[: round(one.p * share / 10)]] = True
        values.append(one.f(canvas.without(removed.reshape(1, 1, *one.map.shape))[0]))
    return float(np.mean(values))


def half(one: One) -> float:
    return one.f(one.filled(one.order[round(one.p / 2) :]))


@oracle("average-drop")
def average_drop(one: One) -> float:
    return max(0.0, one.f(one.x) - half(one)) / one.f(one.x)


@oracle("increase-in-confidence")
def increase_in_confidence(one: One) -> float:
    return float(half(one) > one.f(one.x))


@oracle("average-gain")
def average_gain(one: One) -> float:
    return max(0.0, half(one) - one.f(one.x)) / (1 - one.f(one.x))


BINS = (0.05, 0.1, 0.2, 0.5)


@oracle("comprehensiveness")
def comprehensiveness(one: One) -> float:
    return float(np.mean([one.f(one.x) - one.f(one.filled(one.order[: max(1, round(b * one.p))])) for b in BINS]))


@oracle("sufficiency")
def sufficiency(one: One) -> float:
    return float(np.mean([one.f(one.x) - one.f(one.filled(one.order[max(1, round(b * one.p)) :])) for b in BINS]))


@oracle("effective-complexity")
def effective_complexity(one: One) -> float:
    score, best = one.f(one.x), 1.0
    for count in reversed(counted(one)):
        if abs(one.f(one.filled(one.order[count:])) - score) > 0.1 * score:
            break
        best = count / one.p
    return best


# Correlations


def subsets(one: One, runs: int, share: float, segments: int = 0) -> tuple[list[float], list[float]]:
    groups = boxes(one, segments or one.p)
    labels = equal_boxes(one.map.shape, segments or one.p)
    size = round(share * len(groups))
    lost, held = [], []
    for removed in _drawn(one.whole, runs, size, labels, len(groups)):
        places = removed[one.number].flatten().nonzero()[:, 0].tolist()
        assert len(places) == size or segments
        lost.append(one.f(one.x) - one.f(one.filled(places)))
        held.append(sum(one.flat[place] for place in places))
    return lost, held


@oracle("faithfulness-correlation")
def faithfulness_correlation(one: One) -> float:
    return correlation(*subsets(one, 100, 0.2))


@oracle("mu-fidelity")
def mu_fidelity(one: One) -> float:
    return float(spearmanr(*subsets(one, 100, 0.2, 50))[0])


@oracle("infidelity")
def infidelity(one: One) -> float:
    lost, held = (np.array(v) for v in subsets(one, 100, 0.2))
    return min(float(np.mean((beta * held - lost) ** 2)) for beta in [lost @ held / (held @ held)])


@oracle("sensitivity-n")
def sensitivity_n(one: One) -> float:
    return float(np.mean([correlation(*subsets(one, 20, share)) for share in (0.1, 0.3, 0.5, 0.7, 0.9)]))


@oracle("monotonicity-correlation")
def monotonicity_correlation(one: One) -> float:
    effects, groups = [], boxes(one, 64)
    for places in groups:
        squares = []
        for run in range(5):
            seeds = draws.seeds(run, "effects", one.whole.seeds("fill"))[one.number][None]
            noise = Canvas(one.x[None], Spec("noise"), seeds).blank[0]
            squares.append((one.f(one.x) - one.f(one.filled(places, noise))) ** 2)
        effects.append(np.mean(squares))
    return float(spearmanr([abs(one.flat[places].mean()) for places in groups], effects)[0])


def faded(one: One) -> tuple[np.ndarray, Tensor]:
    share = (one.map - one.map.min()) / (one.map.max() - one.map.min())
    mean = one.x.double().flatten(1).mean(1).reshape(-1, *(1,) * one.map.ndim)
    return share, mean + torch.from_numpy(share) * (one.x.double() - mean)


@oracle("coherency")
def coherency(one: One) -> float:
    return (1 + correlation(one.flat, one.again(faded(one)[1]).ravel())) / 2


@oracle("adcc")
def adcc(one: One) -> float:
    share, x = faded(one)
    drop = max(0.0, one.f(one.x) - one.f(x)) / one.f(one.x)
    return 3 / (1 / coherency(one) + 1 / (1 - share.mean()) + 1 / (1 - drop))


# Complexity


@oracle("gini-sparseness")
def gini_sparseness(one: One) -> float:
    """Half the relative mean absolute difference."""
    a = np.abs(one.flat)
    return float(np.abs(a[:, None] - a[None]).mean() / a.mean() / 2)


@oracle("entropy")
def entropy(one: One) -> float:
    share = np.abs(one.flat) / np.abs(one.flat).sum()
    return -sum(float(s) * math.log(s) for s in share if s > 0)


# Localisation


@oracle("pointing-game")
def pointing_game(one: One) -> float:
    return float(one.mask.ravel()[int(one.flat.argmax())])


@oracle("relevance-mass")
def relevance_mass(one: One) -> float:
    mass = np.maximum(one.map, 0)
    return float(mass[one.mask].sum() / mass.sum())


@oracle("energy-pointing-game")
def energy_pointing_game(one: One) -> float:
    box = np.zeros_like(one.mask)
    inside = np.argwhere(one.mask)
    box[tuple(slice(a, b + 1) for a, b in zip(inside.min(0), inside.max(0), strict=True))] = True
    mass = np.maximum(one.map, 0)
    return float(mass[box].sum() / mass.sum())


@oracle("relevance-rank")
def relevance_rank(one: One) -> float:
    size = int(one.mask.sum())
    return sum(bool(one.mask.ravel()[i]) for i in one.order[:size]) / size


@oracle("roc-auc")
def roc_auc(one: One) -> float:
    return float(roc_auc_score(one.mask.ravel(), one.flat))


@oracle("average-precision")
def average_precision(one: One) -> float:
    return float(average_precision_score(one.mask.ravel(), one.flat))


@oracle("best-iou")
def best_iou(one: One) -> float:
    cuts = [one.map >= value for value in one.flat]
    return max(float((cut & one.mask).sum() / (cut | one.mask).sum()) for cut in cuts)


@oracle("earth-movers-distance")
def earth_movers_distance(one: One) -> float:
    far = []
    for axis, length in enumerate(one.map.shape):
        others = tuple(a for a in range(one.map.ndim) if a != axis)
        mass, goal = np.maximum(one.map, 0).sum(others), one.mask.sum(others)
        far.append(wasserstein_distance(range(length), range(length), mass, goal) / (length - 1))
    return float(np.mean(far))


# Robustness


def neighbours(one: One) -> list[tuple[float, float, float]]:
    """Norms of the change of the map, the input and the logits, where the class stays."""
    changes = []
    reach = 0.02 * float(one.x.max() - one.x.min())
    for run in range(10):
        seeds = draws.seeds(run, "run", one.whole.seeds("around 0.02"))[one.number][None]
        x = one.x.double() + (2 * draws.uniform(seeds, one.x.shape)[0] - 1) * reach
        if int(one.z(x).argmax()) == int(one.z(one.x).argmax()):
            change = float(np.linalg.norm(one.again(x) - one.map))
            changes.append((change, float((x - one.x).norm()), float((one.z(x) - one.z(one.x)).norm())))
    return changes


@oracle("max-sensitivity")
def max_sensitivity(one: One) -> float:
    return max(change for change, _, _ in neighbours(one)) / float(np.linalg.norm(one.map))


@oracle("average-sensitivity")
def average_sensitivity(one: One) -> float:
    return float(np.mean([change for change, _, _ in neighbours(one)]) / np.linalg.norm(one.map))


@oracle("local-lipschitz")
def local_lipschitz(one: One) -> float:
    return max(change / step for change, step, _ in neighbours(one))


@oracle("relative-input-stability")
def relative_input_stability(one: One) -> float:
    return local_lipschitz(one) / float(np.linalg.norm(one.map)) * float(one.x.double().norm())


@oracle("relative-output-stability")
def relative_output_stability(one: One) -> float:
    return max(change / out for change, _, out in neighbours(one)) / float(np.linalg.norm(one.map))


@oracle("shift-equivariance")
def shift_equivariance(one: One) -> float:
    alike = []
    for axis, length in enumerate(one.map.shape):
        by = max(1, round(0.05 * length))
        moved = torch.stack([one.x.select(axis + 1, max(0, i - by)) for i in range(length)], dim=axis + 1)
        if int(one.z(moved).argmax()) == int(one.z(one.x).argmax()):
            after = np.take(one.again(moved), range(by, length), axis)
            alike.append(correlation(np.take(one.map, range(length - by), axis).ravel(), after.ravel()))
    return float(np.mean(alike)) if alike else math.nan


@oracle("seed-repeatability")
def seed_repeatability(one: One) -> float:
    return float(np.mean([spearmanr(one.flat, one.again(one.x, seed=s).ravel())[0] for s in (1, 2, 3)]))


def donors_at(one: One) -> list[int]:
    """The places of the sample's donors in the pool; `donors_of` has tests of its own."""
    goal, index = Goal(torch.tensor([one.target])), torch.tensor([one.number])
    logits = one.probe.logits(one.x[None]), one.probe.logits(one.pool)
    return donors_of(goal, *logits, draws.seeds(0, "donors", index))[0].tolist()


# Mosaics


@oracle("mosaic-localisation")
def mosaic_localisation(one: One) -> float:
    """A quarter, half or eighth at a corner, in the first donor."""
    donor = one.pool[donors_at(one)[0]]
    last = (draws.uniform(one.whole.seeds("mosaic corner"), (one.map.ndim,))[one.number] < 0.5).tolist()
    mosaic, inside = donor.clone(), []
    for place in product(*map(range, one.map.shape)):
        sides = zip(place, one.map.shape, last, strict=True)
        if all(p >= length - length // 2 if end else p < length // 2 for p, length, end in sides):
            inside.append(place)
            mosaic[(slice(None), *place)] = one.x[(slice(None), *place)]

    def margin(x: Tensor) -> float:
        z = one.z(x).tolist()
        return z.pop(one.target) - max(z)

    gap = margin(one.x) - margin(donor)
    if gap <= 0 or margin(mosaic) - margin(donor) < 0.5 * len(inside) / one.p * gap:
        return math.nan
    positive = np.maximum(one.again(mosaic), 0)
    share, chance = sum(positive[place] for place in inside) / positive.sum(), len(inside) / one.p
    return float((share - chance) / (1 - chance))


# Randomisation


def redrawn(model: nn.Module, names: list[str]) -> nn.Module:
    model = copy.deepcopy(model)
    for name in names:
        for key, value in model.get_submodule(name).named_parameters(recurse=False):
            seed = draws.seeds(0, f"0:{name}:{key}", torch.tensor([0]))
            fresh = draws.normal(seed, (value.numel(),)).reshape(value.shape).numpy()
            old = value.detach().double().numpy()
            value.data = torch.from_numpy(old.mean() + old.std() * fresh).to(value)
    return model


@oracle("parameter-randomisation")
def parameter_randomisation(one: One) -> float:
    layers = ["dense", "conv2", "norm", "conv1"]
    models = [redrawn(one.probe.model, layers[: k + 1]) for k in range(4)]
    return float(np.mean([spearmanr(one.flat, one.again(one.x, probe=Probe(m)).ravel())[0] for m in models]))


@oracle("efficient-parameter-randomisation")
def efficient_parameter_randomisation(one: One) -> float:
    def complexity(map: np.ndarray) -> float:
        share = np.histogram(map.astype(np.float64), bins=100)[0] / map.size
        return -sum(s * math.log(s) for s in share if s > 0)

    after = one.again(one.x, probe=Probe(redrawn(one.probe.model, ["dense", "conv2", "norm", "conv1"])))
    return complexity(after) / complexity(one.map) - 1


def structural(a: np.ndarray, b: np.ndarray) -> float:
    a, b = ((m - m.min()) / (m.max() - m.min()) for m in (a, b))
    window = spatial.gaussian(1.5, truncate=3.5).numpy()
    radius, local = len(window) // 2, []
    padded = [np.pad(m, radius, mode="edge") for m in (a, b)]
    weight = window
    for _ in range(a.ndim - 1):
        weight = np.multiply.outer(weight, window)
    for place in product(*map(range, a.shape)):
        u, v = (m[tuple(slice(p, p + 2 * radius + 1) for p in place)] for m in padded)
        mu, nu = (weight * u).sum(), (weight * v).sum()
        uu, vv, uv = (weight * u * u).sum() - mu**2, (weight * v * v).sum() - nu**2, (weight * u * v).sum() - mu * nu
        top = (2 * mu * nu + 1e-4) * (2 * uv + 9e-4)
        local.append(top / ((mu**2 + nu**2 + 1e-4) * (uu + vv + 9e-4)))
    return float(np.mean(local))


@oracle("random-logit")
def random_logit(one: One) -> float:
    drawn = float(draws.uniform(one.whole.seeds("other class"), ())[one.number])
    other = (one.target + 1 + int(drawn * (CLASSES - 1))) % CLASSES
    return structural(one.map, one.again(one.x, target=other))


@oracle("label-randomisation")
def label_randomisation(one: One) -> float:
    return float(spearmanr(one.flat, one.again(one.x, probe=Probe(shuffled(one.probe.model))).ravel())[0])


def shuffled(model: nn.Module) -> nn.Module:
    """Stands in for a model that was trained on shuffled labels."""
    return redrawn(model, ["dense"])


@oracle("retraining-consistency")
def retraining_consistency(one: One) -> float:
    twin = retrained(one.probe.model, 1)
    with torch.no_grad():
        prediction = int(copy.deepcopy(twin).double()(one.x[None].double()).argmax())
    if prediction != int(one.z(one.x).argmax()):
        return math.nan
    return float(spearmanr(one.flat, one.again(one.x, probe=Probe(twin)).ravel())[0])


def retrained(model: nn.Module, number: int) -> nn.Module:
    """Stands in for a model that was trained from another seed: weights changed by a fifth of their deviation."""
    twin, drawn = copy.deepcopy(model), torch.Generator().manual_seed(number)
    for value in twin.parameters():
        value.data.add_(0.2 * value.data.std(correction=0) * torch.randn(value.shape, generator=drawn))
    return twin


# Axioms


@oracle("completeness")
def completeness(one: One) -> float:
    lost = one.f(one.x) - one.f(one.filled(range(one.p)))
    return abs(one.map.sum() - lost) / abs(lost)


@oracle("input-shift-invariance")
def input_shift_invariance(one: One) -> float:
    """The gradient at the input taken back, times the input with the constant."""
    shifted = one.x.double() + 1.0
    x = (shifted - 1.0).requires_grad_()
    (slope,) = torch.autograd.grad(one.model(x[None])[0, one.target], x)
    noise = draws.uniform(draws.seeds(0, "explain", torch.tensor([one.number])), one.map.shape)[0]
    map = (slope * shifted).sum(0) + 0.02 * noise
    return float(np.linalg.norm(map.numpy() - one.map) / np.linalg.norm(one.map))


@oracle("non-sensitivity")
def non_sensitivity(one: One) -> float:
    groups = boxes(one, 64)
    effect = np.array([abs(one.f(one.x) - one.f(one.filled(places))) for places in groups])
    relevance = np.array([np.abs(one.flat[places]).mean() for places in groups])
    return float(np.mean((effect <= 0.01 * effect.max()) != (relevance <= 0.01 * relevance.max())))


# The comparison


@pytest.fixture(scope="module", params=[1, 2, 3])
def cases(request: pytest.FixtureRequest) -> tuple[list[One], dict[str, Any]]:
    rank = request.param
    model = ready(Plain(rank))
    x, probe = inputs(rank, N), Probe(model)
    pool = torch.cat([inputs(rank, 6, seed=9), others(model, rank)])
    target = probe.logits(x).argmax(1)
    map = explain(probe, x, target=Goal(target), index=torch.arange(N), seed=0)
    mask = torch.zeros(N, *SIZE[rank], dtype=torch.bool)
    mask[(slice(None), *(slice(s // 4, s // 2 + 1) for s in SIZE[rank]))] = True
    mask[:, ..., 0] ^= map[..., 0] > 0
    whole = case(probe, x, map, mask=mask)
    double = copy.deepcopy(model).double()
    with torch.no_grad():
        ones = [
            One(i, double, x[i], int(target[i]), map[i].double().numpy(), mask[i].numpy(), probe, whole, pool)
            for i in range(N)
        ]
    return ones, {"model": probe, "x": x, "map": map, "mask": mask, "explain": explain}


# Evidence


def worths_of(one: One) -> list[tuple[int, list[int], float]]:
    """The size, the flat positions and the worth of every window, one exchange after the other."""
    size = one.map.shape
    pool = one.pool
    places, windows = donors_at(one), Windows.over(size, draws.seeds(0, "windows", torch.tensor([one.number])))

    def margin(x: Tensor) -> float:
        z = one.z(x)
        return float(z[one.target] - max(z[k] for k in range(len(z)) if k != one.target))

    rows = []
    for k in range(len(windows)):
        corner, width = windows.starts[0, k].tolist(), windows.widths[k].tolist()
        place = list(product(*(range(a, a + w) for a, w in zip(corner, width, strict=True))))
        flat = [int(np.ravel_multi_index(at, size)) for at in place]
        rest = [i for i in range(one.p) if i not in set(flat)]
        gains = [margin(one.filled(rest, pool[d])) - margin(one.filled(flat, pool[d])) for d in places]
        rows.append((int(windows.scale[k]), flat, sum(gains) / len(gains)))
    return rows


@oracle("window-correlation")
def window_correlation(one: One) -> float:
    rows = worths_of(one)
    parts = []
    for scale in sorted({scale for scale, _, _ in rows}):
        pairs = [(one.flat[flat].mean(), worth) for s, flat, worth in rows if s == scale]
        if len(pairs) > 2:
            parts.append(correlation(*zip(*pairs, strict=True)))
    return sum(parts) / len(parts)


@oracle("window-localisation")
def window_localisation(one: One) -> float:
    rows, pointing = worths_of(one), []
    for scale in sorted({scale for scale, _, _ in rows}):
        _, flat, _ = max((row for row in rows if row[0] == scale), key=lambda row: row[2])
        area = len(flat) / one.p
        pointing.append((float(one.order[0] in flat) - area) / (1 - area))
    over = [[worth for scale, flat, worth in rows if scale == 0 and at in flat] for at in range(one.p)]
    worth = np.array([sum(values) / len(values) for values in over])
    worth -= worth.mean()
    reached = (np.maximum(one.flat, 0) * worth).sum() / np.maximum(one.flat, 0).sum()
    most = (np.maximum(worth, 0) * worth).sum() / np.maximum(worth, 0).sum()
    return (sum(pointing) / len(pointing) + min(1.0, max(-1.0, reached / most))) / 2


def test_every_metric_has_an_oracle() -> None:
    assert sorted(ORACLES) == sorted(metrics)


@pytest.mark.parametrize("name", sorted(ORACLES))
def test_metric_equals_its_oracle(name: str, cases: tuple[list[One], dict[str, Any]]) -> None:
    ones, arguments = cases
    model, more = arguments["model"].model, {key: arguments[key] for key in ("mask", "explain")}
    if "evidence" in metrics[name].needs:
        more["fill"] = ones[0].pool
    ours = score(
        arguments["model"], arguments["x"], arguments["map"], name, relearnt=lambda _: shuffled(model),
        retrained=lambda number: retrained(model, number), **more,
    )  # fmt: skip
    want = torch.tensor([ORACLES[name](one) for one in ones], dtype=torch.float64)
    torch.testing.assert_close(ours, want, rtol=2e-3, atol=2e-4, equal_nan=True)
    assert ours.isfinite().any()


def test_rank_ties_are_averaged() -> None:
    from heatproof.metrics.similarity import average_ranks

    values = torch.tensor([[2.0, 1, 2, 0, 1, 1], [0, 0, 0, 0, 0, 0]])
    want = np.stack([rankdata(row) for row in values.numpy()])
    np.testing.assert_allclose(average_ranks(values).numpy(), want)
