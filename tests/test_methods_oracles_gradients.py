"""Methods that average or integrate gradients, against float64 loops from the papers' equations and captum."""

from __future__ import annotations

import math
from collections import Counter
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import heatproof as hp
from heatproof import draws, spatial
from heatproof.errors import InputError, NotApplicable, UnknownName
from heatproof.methods import explain, methods
from heatproof.methods.totals import streams
from heatproof.probe import Contrast, Probe

from .test_methods_oracles import ORACLES, SEED, Opened, compare, oracle, spec
from .toys import CLASSES, Plain, inputs, ready

NOISY = ("smooth-grad", "smooth-grad-squared", "var-grad")
PATHS = ("integrated-gradients", "expected-gradients", "gradient-shap")
POOLED = ("expected-gradients", "gradient-shap")
OPTIONS: dict[str, list[dict[str, Any]]] = {
    "integrated-gradients": [{"steps": 6}, {"baseline": "blur", "steps": 3}, {"baseline": "mean", "steps": 4}],
    "expected-gradients": [{"baseline": "noise", "samples": 4}, {"baseline": "black", "samples": 5}],
    "gradient-shap": [{"baseline": "noise", "samples": 4}, {"baseline": "mean", "samples": 3, "spread": 0.3}],
    "blur-ig": [{"steps": 5}, {"steps": 3, "width": 0.5}],
    "smooth-grad": [{"samples": 5}, {"samples": 3, "spread": 0.4}],
    "smooth-grad-squared": [{"samples": 5}, {"samples": 3, "spread": 0.4}],
    "var-grad": [{"samples": 5}, {"samples": 3, "spread": 0.4}],
}


def slope_at(o: Opened, x: Tensor) -> Tensor:
    """The gradient (C, *S) of the target's logit by an input (C, *S)."""
    leaf = x[None].clone().requires_grad_()
    (slope,) = torch.autograd.grad(o.model(leaf)[0, o.target], leaf)
    return slope[0]


def filled(o: Opened, fill: str, seed: Tensor) -> Tensor:
    """What stands in for the whole sample."""
    x = o.x[0]
    means = x.flatten(1).mean(1).reshape(-1, *(1,) * (x.ndim - 1))
    if fill == "noise":
        deviation = x.flatten(1).std(1, correction=0).reshape(means.shape)
        return means + deviation * draws.normal(draws.seeds(0, "noise", seed), x.shape)[0]
    if fill == "blur":
        return blurred(x, 0.05 * max(x.shape[1:]))
    return {"black": torch.zeros_like(x), "mean": means.expand_as(x)}[fill]


def blurred(x: Tensor, sigma: float) -> Tensor:
    """A Gaussian of that deviation along each axis in turn, to four deviations, edges repeated."""
    radius = max(1, int(4 * sigma + 0.5))
    weights = [math.exp(-0.5 * (step / sigma) ** 2) for step in range(-radius, radius + 1)]
    for axis in range(1, x.ndim):
        length, total = x.shape[axis], torch.zeros_like(x)
        for step, weight in zip(range(-radius, radius + 1), weights, strict=True):
            at = torch.tensor([min(max(p + step, 0), length - 1) for p in range(length)])
            total += weight / sum(weights) * x.index_select(axis, at)
        x = total
    return x


@oracle("integrated-gradients")
def integrated_gradients(o: Opened, steps: int = 50, baseline: str = "black") -> Tensor:
    """Equation 1, the integral by Gauss and Legendre's rule: its nodes are the roots of Legendre's polynomial."""
    start, total = filled(o, baseline, o.seeds("integrated-gradients")), torch.zeros_like(o.x[0])
    polynomial = np.polynomial.legendre.Legendre.basis(steps)
    for node in polynomial.roots():
        weight = 2 / ((1 - node**2) * polynomial.deriv()(node) ** 2)
        total += weight / 2 * slope_at(o, start + (node + 1) / 2 * (o.x[0] - start))
    return ((o.x[0] - start) * total).sum(0)


def diffused(x: Tensor, sigma: float) -> Tensor:
    """Each cosine along each axis, mirrored at the edges, damped as a Gaussian damps it."""
    for axis in range(1, x.ndim):
        length = x.shape[axis]
        B = torch.zeros(length, length, dtype=torch.float64)
        for k in range(length):
            wave = torch.tensor(
                [math.cos(math.pi * k * (p + 0.5) / length) for p in range(length)], dtype=torch.float64
            )
            B += (
                math.exp(-0.5 * (sigma * math.pi * k / length) ** 2)
                * torch.outer(wave, wave)
                * (2 if k else 1)
                / length
            )
        x = (x.movedim(axis, -1) @ B).movedim(-1, axis)
    return x


@oracle("blur-ig")
def blur_ig(o: Opened, steps: int = 50, width: float = 0.17) -> Tensor:
    """The integral over the path as a sum over its pieces."""
    widest, total = width * max(o.x.shape[2:]), torch.zeros(o.x.shape[2:], dtype=torch.float64)
    for k in range(steps):
        start, end = (diffused(o.x[0], widest * (1 - step / steps) ** 2) for step in (k, k + 1))
        total += (slope_at(o, (start + end) / 2) * (end - start)).sum(0)
    return total


def shap(o: Opened, samples: int, baseline: str, spread: float, name: str) -> Tensor:
    total, seeds, x = torch.zeros(o.x.shape[2:], dtype=torch.float64), o.seeds(name), o.x[0]
    for turn in range(samples):
        own = partial(streams, seeds, torch.tensor([0]), torch.tensor([turn]))
        noise = draws.normal(own("noise"), x.shape)[0] * spread * float(x.max() - x.min())
        start, end = filled(o, baseline, own("baseline")), x + noise
        at = (turn + float(draws.uniform(own("place"), ()))) / samples
        total += ((end - start) * slope_at(o, start + at * (end - start))).sum(0) / samples
    return total


@oracle("expected-gradients")
def expected_gradients(o: Opened, samples: int = 50, baseline: str = "noise") -> Tensor:
    return shap(o, samples, baseline, 0.0, "expected-gradients")


@oracle("gradient-shap")
def gradient_shap(o: Opened, samples: int = 50, baseline: str = "noise", spread: float = 0.1) -> Tensor:
    return shap(o, samples, baseline, spread, "gradient-shap")


def noisy(o: Opened, samples: int, spread: float) -> list[Tensor]:
    """Gradients at noisy copies; the noise is that of all methods with these options."""
    options = {"samples": samples} | ({} if spread == 0.15 else {"spread": spread})
    seeds = draws.seeds(SEED, spec("noisy-gradients", options), torch.tensor([o.seed]))
    deviation, slopes = spread * float(o.x.max() - o.x.min()), []
    for turn in range(samples):
        seed = streams(seeds, torch.tensor([0]), torch.tensor([turn]), "noise")
        slopes.append(slope_at(o, o.x[0] + deviation * draws.normal(seed, o.x.shape[1:])[0]))
    return slopes


@oracle("smooth-grad")
def smooth_grad(o: Opened, samples: int = 25, spread: float = 0.15) -> Tensor:
    return (sum(noisy(o, samples, spread)) / samples).abs().amax(0)


@oracle("smooth-grad-squared")
def smooth_grad_squared(o: Opened, samples: int = 25, spread: float = 0.15) -> Tensor:
    return (sum(g**2 for g in noisy(o, samples, spread)) / samples).sum(0)


@oracle("var-grad")
def var_grad(o: Opened, samples: int = 25, spread: float = 0.15) -> Tensor:
    slopes = noisy(o, samples, spread)
    mean = sum(slopes) / samples
    return (sum((g - mean) ** 2 for g in slopes) / samples).sum(0)


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize(("name", "options"), [(n, options) for n in OPTIONS for options in OPTIONS[n]])
def test_method_follows_its_paper(name: str, options: dict[str, Any], rank: int) -> None:
    assert name in ORACLES
    compare(ready(Plain(rank), seed=rank), "conv2", inputs(rank, 2), name, options)


# Integrated gradients


def gap(probe: Probe, x: Tensor, target: int, steps: int, baseline: str = "black") -> Tensor:
    """How far the sum of each map is from the logit less the baseline's, as a share of the largest such difference."""
    maps = explain(probe, x, f"integrated-gradients:steps={steps},baseline={baseline}", target=target)
    start = x.flatten(2).mean(2).reshape(*x.shape[:2], *(1,) * (x.ndim - 2)).expand_as(x)
    blank = torch.zeros_like(x) if baseline == "black" else start
    want = probe.logits(x)[:, target] - probe.logits(blank)[:, target]
    return (maps.flatten(1).sum(1) - want).abs() / want.abs().max()


@pytest.mark.parametrize("baseline", ["black", "mean"])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_integrated_gradients_sum_to_the_logit(rank: int, baseline: str) -> None:
    """Completeness (proposition 1), more nearly so with more steps, for a smooth model to rounding."""
    x = inputs(rank, 4)
    kinked = Probe(ready(Plain(rank)))
    few, many = (float(gap(kinked, x, 2, steps, baseline).mean()) for steps in (2, 200))
    assert many < 5e-3
    assert many < few / 3
    smooth = Probe(nn.Sequential(nn.Flatten(), nn.Linear(x[0].numel(), 6), nn.Tanh(), nn.Linear(6, CLASSES)).eval())
    errors = [float(gap(smooth, x, 2, steps, baseline).max()) for steps in (1, 3, 50)]
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 1e-5


def test_integrated_gradients_of_a_linear_model_are_exact_with_one_step() -> None:
    x = inputs(1, 3)
    model = nn.Sequential(nn.Flatten(), nn.Linear(x[0].numel(), CLASSES))
    maps = explain(model, x, "integrated-gradients:steps=1", target=1)
    want = (model[1].weight[1].reshape(x.shape[1:]) * x).sum(1).detach()
    torch.testing.assert_close(maps, want)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_blur_ig_sums_to_the_logit_above_the_blurred_input(rank: int) -> None:
    model, x = ready(Plain(rank)).double(), inputs(rank, 3).double()
    start = torch.stack([diffused(one, 0.17 * max(x.shape[2:])) for one in x])
    want = (model(x) - model(start))[:, 2].detach().float()
    gaps = []
    for steps in (3, 100):
        maps = explain(model, x, f"blur-ig:steps={steps}", target=2)
        gaps.append(float((maps.flatten(1).sum(1) - want).abs().mean() / want.abs().max()))
    assert gaps[1] < 5e-3
    assert gaps[1] < gaps[0]


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_diffusion_keeps_the_mean_and_ends_in_it(rank: int) -> None:
    x = inputs(rank, 3)
    smooth = spatial.diffuse(x, torch.tensor([0.0, 1.5, 1e4]))
    torch.testing.assert_close(spatial.mean(smooth), spatial.mean(x), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(smooth[0], x[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(smooth[1].double(), diffused(x[1].double(), 1.5), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(smooth[2], spatial.like(spatial.mean(x), x)[2].expand_as(x[2]),
                               rtol=1e-4, atol=1e-5)  # fmt: skip


@pytest.mark.parametrize("kind", ["binary-logit", "labels", "regression", "contrast", "function"])
@pytest.mark.parametrize("name", [*PATHS, "blur-ig", *NOISY])
def test_other_goals(name: str, kind: str) -> None:
    """Each is the map of the class whose logit is that goal."""
    x, body, brief = inputs(1, 3), ready(Plain(1)), spec(name, OPTIONS[name][0])
    ours, target, sign = Probe(body), 1, 1.0
    want = explain(ours, x, brief, target=1)
    if kind == "contrast":
        a, b = (explain(ours, x, brief, target=c) for c in (1, 2))
        maps = explain(ours, x, brief, target=Contrast(1, 2))
        assert not torch.allclose(maps, a)
        if name in (*PATHS, "blur-ig"):
            torch.testing.assert_close(maps, a - b, rtol=1e-4, atol=1e-5)
        return
    if kind == "function":
        maps = explain(ours, x, brief, target=lambda z: z[:, 1])
    elif kind == "binary-logit":
        one = nn.Sequential(body, Column(1)).eval()
        maps = explain(Probe(one, outputs="binary-logit"), x, brief, target=1)
        sign = 0.5 if name not in ("smooth-grad-squared", "var-grad") else 0.25
    else:
        outputs = "label-logits" if kind == "labels" else "regression"
        maps = explain(Probe(body, outputs=outputs), x, brief, target=target)
    torch.testing.assert_close(maps, sign * want, rtol=1e-4, atol=1e-6)


class Column(nn.Module):
    def __init__(self, column: int) -> None:
        super().__init__()
        self.column = column

    def forward(self, z: Tensor) -> Tensor:
        return z[:, self.column : self.column + 1]


# Baselines that are other samples


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("name", POOLED)
def test_donors_are_other_samples_of_the_pool(name: str, rank: int) -> None:
    """Each draw from its own donor, never from the sample itself; the same alone and in any batch."""
    model, pool, turns = ready(Plain(rank)).double(), inputs(rank, 6, seed=9), 4
    x, target = torch.cat([pool[:2], inputs(rank, 2)]), [0, 1, 2, 3]
    text = f"{name}:samples={turns}" + (",spread=0.0" if name == "gradient-shap" else "")
    maps = explain(Probe(model), x, text, target=target, seed=SEED, pool=pool)
    for i in range(4):
        o = Opened(model, "conv2", x[i : i + 1].double(), target[i], i, "logit")
        seeds = draws.seeds(SEED, text, torch.tensor([i]))
        total = torch.zeros(x.shape[2:], dtype=torch.float64)
        for turn in range(turns):
            own = partial(streams, seeds, torch.tensor([0]), torch.tensor([turn]))
            place = int(float(draws.uniform(draws.seeds(0, "donor", own("baseline")), ())) * len(pool))
            if torch.equal(pool[place], x[i]):
                place = (place + 1) % len(pool)
            start = pool[place].double()
            at = (turn + float(draws.uniform(own("place"), ()))) / turns
            total += ((o.x[0] - start) * slope_at(o, start + at * (o.x[0] - start))).sum(0) / turns
        torch.testing.assert_close(maps[i].double(), total, rtol=2e-4, atol=2e-5 * float(total.abs().max()))
        one = [target[i]]
        alone = explain(
            Probe(model, batch=3), x[i : i + 1], text, target=one, seed=SEED, index=torch.tensor([i]), pool=pool
        )
        torch.testing.assert_close(alone[0], maps[i], rtol=1e-5, atol=1e-6 * float(total.abs().max()))


@pytest.mark.parametrize("name", [*POOLED, "integrated-gradients:baseline=donor"])
def test_without_other_samples_they_say_what_is_missing(name: str) -> None:
    x = inputs(1, 3)
    with pytest.raises(NotApplicable, match=r"other samples and got 0 of them; pass at least 2 .* pool="):
        explain(ready(Plain(1)), x, name)
    with pytest.raises(NotApplicable, match="got 1 of them"):
        explain(ready(Plain(1)), x, name, pool=x[:1])
    with pytest.raises(InputError, match=r"pool: got samples of shape \(2, 9\), expected \(2, 24\)"):
        explain(ready(Plain(1)), x, name, pool=torch.zeros(4, 2, 9))
    with pytest.raises(UnknownName, match="blakc"):
        explain(ready(Plain(1)), x, f"{name.partition(':')[0]}:baseline=blakc")


def test_gradient_shap_without_noise_is_expected_gradients() -> None:
    """By their means over many draws, which differ."""
    model, x = ready(Plain(1)), inputs(1, 2)
    one, two = (explain(model, x, f"{name}:samples=800,baseline=noise{more}", target=1)
                for name, more in (("expected-gradients", ""), ("gradient-shap", ",spread=0.0")))  # fmt: skip
    assert float((one - two).norm() / one.norm()) < 0.1


@pytest.mark.parametrize("rank", [1, 2])
def test_expected_gradients_sum_to_the_logit_above_the_mean_of_the_pool(rank: int) -> None:
    model, x, pool = ready(Plain(rank)), inputs(rank, 3), inputs(rank, 5, seed=7)
    maps = explain(model, x, "expected-gradients:samples=2000", target=1, pool=pool)
    others = model(pool)[:, 1].detach()
    want = model(x)[:, 1].detach() - others.mean()
    torch.testing.assert_close(maps.flatten(1).sum(1), want, rtol=0, atol=0.1 * float(others.std()))


# Gradients at noisy copies


def test_noisy_gradients_are_shared() -> None:
    """Three methods for the price of one, and the same numbers as each by itself; other options are by themselves."""
    model, x = ready(Plain(2)), inputs(2, 5)
    probe = Probe(model, batch=4)
    probe.survey(x)
    probe.goal(x, 1)
    probe.passes.clear()
    together = explain(probe, x, [f"{name}:samples=3" for name in NOISY], target=1)
    assert probe.passes - Counter(forward=5) == {"forward": 15, "backward": 15}
    for text, maps in together.items():
        assert torch.equal(maps, explain(Probe(model, batch=4), x, text, target=1))
    mixed = explain(probe, x, ["smooth-grad:samples=3", "var-grad:samples=4"], target=1)
    assert torch.equal(mixed["smooth-grad:samples=3"], together["smooth-grad:samples=3"])


def test_no_noise_is_the_gradient_itself() -> None:
    model, x = ready(Plain(2)), inputs(2, 2)
    maps = explain(model, x, ["saliency", *(f"{name}:samples=2,spread=0" for name in NOISY)], target=1)
    plain, square, variance = (maps[f"{name}:samples=2,spread=0"] for name in NOISY)
    torch.testing.assert_close(plain, maps["saliency"])
    assert float(variance.max()) <= 1e-9 * float(square.max())
    torch.testing.assert_close(square, Probe(model).gradient(x, 1).square().sum(1))


@pytest.mark.parametrize("name", NOISY)
def test_the_noise_grows_with_the_sample(name: str) -> None:
    """A model of ten times the input, read through a tenth, has the same maps."""

    class Tenth(nn.Module):
        def __init__(self, body: nn.Module) -> None:
            super().__init__()
            self.body = body

        def forward(self, x: Tensor) -> Any:
            return self.body(x / 10)

    model, x = ready(Plain(1)), inputs(1, 2)
    one, two = (
        explain(model, x, f"{name}:samples=3", target=1),
        explain(Tenth(model), 10 * x, f"{name}:samples=3", target=1),
    )
    torch.testing.assert_close(
        two * (10 if name == "smooth-grad" else 100), one, rtol=1e-3, atol=1e-5 * float(one.max())
    )


# Beside captum


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("steps", [5, 50])
def test_integrated_gradients_agree_with_captum(rank: int, steps: int) -> None:
    captum = pytest.importorskip("captum.attr")
    model, x, target = ready(Plain(rank, inplace=False)).double(), inputs(rank, 3), [0, 1, 3]
    maps = explain(model, x, f"integrated-gradients:steps={steps}", target=target)
    theirs = captum.IntegratedGradients(model).attribute(x.double(), target=torch.tensor(target), n_steps=steps)
    torch.testing.assert_close(maps.double(), theirs.sum(1), rtol=1e-5, atol=1e-5 * float(theirs.abs().max()))


@pytest.mark.parametrize("name", POOLED)
def test_shap_agrees_with_captum_on_the_mean(name: str) -> None:
    captum = pytest.importorskip("captum.attr")
    model, x, pool = ready(Plain(1, inplace=False)), inputs(1, 1), inputs(1, 5, seed=7)
    spread = 0.1 if name == "gradient-shap" else 0.0
    maps = explain(model, x, f"{name}:samples=4000", target=1, pool=pool)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        stdev = spread * float(x.max() - x.min())
        theirs = captum.GradientShap(model).attribute(x, baselines=pool, n_samples=4000, stdevs=stdev, target=1)
    assert float((maps - theirs.sum(1)).norm() / maps.norm()) < 0.08


@pytest.mark.filterwarnings("ignore:Input Tensor 0 did not already require gradients:UserWarning")
@pytest.mark.parametrize("name", NOISY)
def test_noisy_gradients_agree_with_captum_on_the_mean(name: str) -> None:
    captum = pytest.importorskip("captum.attr")
    model, x = ready(Plain(1, inplace=False)), inputs(1, 1)
    kind = {"smooth-grad": "smoothgrad", "smooth-grad-squared": "smoothgrad_sq", "var-grad": "vargrad"}[name]
    maps = explain(model, x, f"{name}:samples=4000", target=1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        tunnel = captum.NoiseTunnel(captum.Saliency(model))
        stdevs = 0.15 * float(x.max() - x.min())
        theirs = tunnel.attribute(x, nt_type=kind, nt_samples=4000, stdevs=stdevs, target=1, abs=False)
    theirs = theirs.abs().amax(1) if name == "smooth-grad" else theirs.sum(1)
    assert float((maps - theirs).norm() / maps.norm()) < 0.05


# In a study


def test_a_study_hands_them_its_samples() -> None:
    x = inputs(1, 8)
    samples = hp.Samples(x, torch.arange(8) % CLASSES, classes=[f"c{i}" for i in range(CLASSES)])
    options = hp.StudyOptions(self_checks=False)
    results = hp.study(
        ready(Plain(1)), samples, methods=["expected-gradients:samples=2", *(f"{n}:samples=2" for n in NOISY)],
        metrics=["deletion"], options=options, progress=False,
    )  # fmt: skip
    assert not results.skips


def test_who_is_handed_a_pool_and_who_shares() -> None:
    assert set(PATHS) <= {name for name in methods if methods[name].pooled}
    assert {name for name in methods if methods[name].shares == "noisy-gradients"} == set(NOISY)
