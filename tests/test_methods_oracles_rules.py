"""Methods with a backward pass of their own against float64 loops, captum, and the same network written otherwise."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from heatproof import draws
from heatproof.errors import NotApplicable
from heatproof.fills import Canvas, fills
from heatproof.methods import explain
from heatproof.probe import Probe, multiplied

from .test_methods_oracles import Opened, compare, grad_cam, oracle
from .toys import CLASSES, CONV, MAXPOOL, POOL, Plain, Residual, Tokens, Twice, inputs, ready, same, snapshot

NAMES = ("guided-backprop", "deconvnet", "guided-grad-cam", "deep-lift", "deep-lift-shap")
RULES = ("guided-backprop", "deconvnet", "deep-lift")


# Oracles


def matrix(layer: Callable[[Tensor], Tensor], size: tuple[int, ...]) -> tuple[Tensor, Tensor, tuple[int, ...]]:
    """The matrix and the offset of an affine layer, one unit vector after the other, and the size of its output."""
    count = int(torch.tensor(size).prod())
    with torch.no_grad():
        offset = layer(torch.zeros(1, *size, dtype=torch.float64))
        units = layer(torch.eye(count, dtype=torch.float64).reshape(count, *size)) - offset
    return units.reshape(count, -1), offset.flatten(), tuple(offset.shape[1:])


def windows(size: tuple[int, ...]) -> tuple[list[list[int]], tuple[int, ...]]:
    """The places, in a flat tensor, of each window of pooling by 2, and the size of the result."""
    places = torch.arange(int(torch.tensor(size).prod())).reshape(size)
    half = (size[0], *(s // 2 for s in size[1:]))
    groups = []
    for at in itertools.product(*map(range, half)):
        corner = itertools.product(*((2 * a, 2 * a + 1) for a in at[1:]))
        groups.append([int(places[(at[0], *c)]) for c in corner])
    return groups, half


Step = tuple[str, Any]


def steps(o: Opened) -> list[Step]:
    """`Plain`, operation by operation."""
    m, size = o.model, tuple(o.x.shape[1:])
    M1, b1, size = matrix(lambda t: m.norm(m.conv1(t)), size)
    groups, size = windows(size)
    M2, b2, size = matrix(m.conv2, size)
    M3, b3, _ = matrix(lambda t: m.dense(m.mean(t).flatten(1)), size)
    return [("affine", (M1, b1)), ("relu", None), ("pool", groups), ("affine", (M2, b2)), ("relu", None),
            ("affine", (M3, b3))]  # fmt: skip


def forward(chain: list[Step], x: Tensor) -> list[Tensor]:
    """The operand of each operation."""
    values = [x.flatten()]
    for kind, what in chain:
        v = values[-1]
        if kind == "affine":
            values.append(v @ what[0] + what[1])
        elif kind == "relu":
            values.append(torch.tensor([max(float(a), 0.0) for a in v], dtype=torch.float64))
        else:
            values.append(torch.tensor([max(float(v[i]) for i in group) for group in what], dtype=torch.float64))
    return values


def largest(v: Tensor, group: list[int]) -> int:
    return max(group, key=lambda i: float(v[i]))


def backward(o: Opened, rule: str) -> Tensor:
    """The signal that reaches the input: a rectifier passes what the rule lets through."""
    chain = steps(o)
    values = forward(chain, o.x[0])
    torch.testing.assert_close(values[-1], o.logits)
    g = torch.zeros_like(values[-1])
    g[o.target] = 1
    for (kind, what), v in reversed(list(zip(chain, values, strict=False))):
        if kind == "affine":
            g = what[0] @ g
        elif kind == "relu":
            opened = [rule == "deconvnet" or float(a) > 0 for a in v]
            g = torch.tensor([max(float(s), 0.0) if up else 0.0 for s, up in zip(g, opened, strict=True)]).double()
        else:
            back = torch.zeros_like(v)
            for s, group in zip(g, what, strict=True):
                back[largest(v, group)] += s
            g = back
    return g.reshape(o.x.shape[1:]).sum(0)


@oracle("guided-backprop")
def guided_backprop(o: Opened) -> Tensor:
    return backward(o, "guided-backprop")


@oracle("deconvnet")
def deconvnet(o: Opened) -> Tensor:
    return backward(o, "deconvnet")


@oracle("guided-grad-cam")
def guided_grad_cam(o: Opened) -> Tensor:
    mode = {1: "linear", 2: "bilinear", 3: "trilinear"}[o.x.ndim - 2]
    cam = F.interpolate(grad_cam(o)[None, None], tuple(o.x.shape[2:]), mode=mode, align_corners=False)[0, 0]
    return backward(o, "guided-backprop") * cam


def contributions(o: Opened, base: Tensor) -> Tensor:
    """Equations 3 to 9: multipliers by the chain rule, the rescale rule at rectifiers, times the difference."""
    chain = steps(o)
    values, before = forward(chain, o.x[0]), forward(chain, base)
    m = torch.zeros_like(values[-1])
    m[o.target] = 1
    for (kind, what), v, b in reversed(list(zip(chain, values, before, strict=False))):
        if kind == "affine":
            m = what[0] @ m
        elif kind == "relu":
            rescaled = [
                (max(float(a), 0.0) - max(float(c), 0.0)) / (float(a) - float(c)) if a != c else float(a > 0)
                for a, c in zip(v, b, strict=True)
            ]
            m = m * torch.tensor(rescaled, dtype=torch.float64)
        else:
            back = torch.zeros_like(v)
            for s, group in zip(m, what, strict=True):
                i, j = largest(v, group), largest(b, group)
                change = float(v[i] - b[j])
                at = i if change >= 0 else j
                back[at] += s * (change / float(v[at] - b[at]) if v[at] != b[at] else 1.0)
            m = back
    share = m * (o.x[0] - base).flatten()
    assert float(share.sum()) == pytest.approx(float((values[-1] - before[-1])[o.target]), abs=1e-9)
    return share.reshape(o.x.shape[1:]).sum(0)


@oracle("deep-lift")
def deep_lift(o: Opened, baseline: str = "black") -> Tensor:
    base = torch.zeros_like(o.x[0])
    if baseline == "mean":
        for c in range(len(base)):
            base[c] = sum(o.x[0, c].flatten()) / o.x[0, c].numel()
    return contributions(o, base)


@oracle("deep-lift-shap")
def deep_lift_shap(o: Opened, samples: int = 8) -> Tensor:
    name = "deep-lift-shap" if samples == 8 else f"deep-lift-shap:samples={samples}"
    total = torch.zeros(tuple(o.x.shape[2:]), dtype=torch.float64)
    for turn in range(samples):
        seeds = draws.seeds(0, "noise", o.seeds(name) * 1009 + turn)
        grain = draws.normal(seeds, o.x.shape[1:])[0].double()
        base = torch.stack([o.x[0, c].mean() + o.x[0, c].std(correction=0) * grain[c] for c in range(len(grain))])
        total += contributions(o, base) / samples
    return total


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("name", NAMES)
def test_method_follows_its_paper(name: str, rank: int) -> None:
    compare(ready(Plain(rank), seed=rank), "conv2", inputs(rank, 2), name, {})


def test_options_do_what_they_say() -> None:
    compare(ready(Plain(2), seed=5), "conv2", inputs(2, 2), "deep-lift", {"baseline": "mean"})
    compare(ready(Plain(1), seed=5), "conv2", inputs(1, 2), "deep-lift-shap", {"samples": 2})


# The same network written otherwise


class Written(Plain):
    """`Plain`, its activations being any function; a skip and side branches as in an inception block."""

    def __init__(self, rank: int, activation: Callable[[Tensor], Any]) -> None:
        super().__init__(rank)
        self.rank = rank
        self.side = CONV[rank](5, 4, 1)
        self.other = CONV[rank](5, 2, 3, padding=1)
        self.activation = activation

    def forward(self, x: Tensor) -> Any:
        h = self.activation(self.norm(self.conv1(x)))
        h = MAXPOOL[self.rank](2)(h) if self.rank != 2 else F.max_pool2d(h, 2)
        wide = torch.cat([self.activation(self.side(h)), self.activation(self.other(h))], dim=1)
        h = self.activation(self.conv2(h) + wide)
        return self.dense(self.mean(h).flatten(1))


def in_place(t: Tensor) -> Tensor:
    t.relu_()
    return t


def of_a_view(t: Tensor) -> Tensor:
    whole = t.clone()
    half = t.shape[1] // 2
    whole[:, :half].relu_()
    F.relu(whole[:, half:], inplace=True)
    return whole


SHARED = nn.ReLU(inplace=True)
WAYS: dict[str, Callable[[Tensor], Any]] = {
    "function": F.relu,
    "torch": torch.relu,
    "method": lambda t: t.relu(),
    "in place": in_place,
    "in place, function": lambda t: F.relu(t, inplace=True),
    "torch, in place": torch.relu_,
    "one module, many times": SHARED,
    "clamp": lambda t: t.clamp(min=0),
    "clamp, in place": lambda t: t.clamp_(min=0),
    "clamp_min": lambda t: torch.clamp_min(t, 0),
    "threshold": lambda t: F.threshold(t, 0, 0),
    "maximum": lambda t: torch.maximum(t, torch.zeros(())),
    "hardtanh": lambda t: F.hardtanh(t, 0, 1e6),
    "halves": of_a_view,
    "checkpoint": lambda t: checkpoint(F.relu, t, use_reentrant=False),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", RULES)
def test_the_operation_counts_and_not_how_it_is_written(name: str, way: str) -> None:
    if name == "deep-lift" and way == "maximum":
        pytest.skip("the maximum of two tensors has no rule there")
    x = inputs(2)
    want = explain(ready(Written(2, nn.ReLU())), x, name, target=1)
    model = ready(Written(2, WAYS[way]))
    before = snapshot(model)
    torch.testing.assert_close(explain(model, x, name, target=1), want, rtol=1e-4, atol=1e-5 * float(want.abs().max()))
    assert same(before, snapshot(model)) == []


@pytest.mark.parametrize("name", RULES)
def test_checkpointed_blocks(name: str) -> None:
    class Blocks(Plain):
        def forward(self, x: Tensor) -> Any:
            h = checkpoint(lambda t: self.pool(self.relu1(self.norm(self.conv1(t)))), x, use_reentrant=False)
            h = checkpoint(lambda t: F.relu(self.conv2(t)) * torch.sigmoid(self.conv2(t)), h, use_reentrant=False)
            return self.dense(self.mean(h).flatten(1))

    class Open(Plain):
        def forward(self, x: Tensor) -> Any:
            h = self.pool(self.relu1(self.norm(self.conv1(x))))
            return self.dense(self.mean(F.relu(self.conv2(h)) * torch.sigmoid(self.conv2(h))).flatten(1))

    maps, want = (explain(ready(kind(2)), inputs(2), name, target=1) for kind in (Blocks, Open))
    torch.testing.assert_close(maps, want, rtol=1e-4, atol=1e-6 * float(want.abs().max()))


def test_relu6_is_closed_above_six() -> None:
    class Scaled(Plain):
        def forward(self, x: Tensor) -> Any:
            return self.dense(self.mean(F.relu6(20 * self.conv1(x))).flatten(1)[:, [0, 1, 2, 3, 4, 0]])

    model, x = ready(Scaled(2)).double(), inputs(2).double()
    h = (20 * model.conv1(x)).detach().requires_grad_()
    opened = (h > 0) & (h < 6)
    slope = model.dense.weight[1].detach()[:5].clone()
    slope[0] += model.dense.weight[1, 5].detach()
    slope = slope.relu()[None, :, None, None] / h[0, 0].numel()
    for name, signal in (("guided-backprop", slope * opened), ("deconvnet", slope.expand_as(h))):
        want = 20 * F.conv_transpose2d(signal, model.conv1.weight.detach(), padding=1).sum(1)
        torch.testing.assert_close(explain(model, x, name, target=1).double(), want, rtol=1e-4, atol=1e-6)


# What cannot be done is said


class Hidden(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.relu()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad


@pytest.mark.parametrize("name", RULES)
def test_what_cannot_be_seen(name: str) -> None:
    x = inputs(2)
    with pytest.raises(NotApplicable, match="inside Hidden cannot be seen"):
        explain(ready(Written(2, Hidden.apply)), x, name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scripted = torch.jit.script(ready(Plain(2)))
        part = ready(Plain(2))
        part.relu2 = torch.jit.script(nn.ReLU())
    for model in (scripted, part):
        with pytest.raises(NotApplicable, match="TorchScript"):
            explain(model, x, name)


@pytest.mark.parametrize("name", ["guided-backprop", "deconvnet", "guided-grad-cam"])
@pytest.mark.parametrize("activation", [F.gelu, torch.tanh, lambda t: t.clamp(-1, 1), F.leaky_relu])
def test_no_rectifier(name: str, activation: Any) -> None:
    with pytest.raises(NotApplicable, match=r"at rectifiers .* the model has none"):
        explain(Probe(ready(Written(2, activation)), layer="conv2"), inputs(2), name)


def test_operations_without_a_rule_are_named() -> None:
    with pytest.raises(NotApplicable, match="deep-lift has no rule for cumprod"):
        explain(ready(Written(2, lambda t: t.cumprod(1))), inputs(2), "deep-lift")
    with pytest.raises(NotApplicable, match="deep-lift has no rule for where"):
        explain(ready(Written(2, lambda t: torch.where(t > 0, t + 1, t))), inputs(2), "deep-lift")
    with pytest.raises(NotApplicable, match="add up to"):
        explain(ready(Written(2, lambda t: t * (t > 0) + (t > 0.1))), inputs(2), "deep-lift")


def test_a_model_that_runs_other_operations_for_the_baseline() -> None:
    class Fickle(Plain):
        def forward(self, x: Tensor) -> Any:
            h = self.norm(self.conv1(x))
            h = F.relu(h) if bool(x.any()) else torch.tanh(h)
            return self.dense(self.mean(self.conv2(h)).flatten(1))

    with pytest.raises(NotApplicable, match="other ones for the baseline"):
        explain(ready(Fickle(2)), inputs(2), "deep-lift")


# Completeness


class Gated(nn.Module):
    """A gate by squeeze and excitation, normalisations, and a largest value over positions."""

    def __init__(self, rank: int) -> None:
        super().__init__()
        self.conv = CONV[rank](2, 6, 3, padding=1)
        self.group = nn.GroupNorm(2, 6)
        self.squeeze, self.excite = nn.Linear(6, 3), nn.Linear(3, 6)
        self.norm, self.dense = nn.LayerNorm(6), nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Any:
        h = F.silu(self.group(self.conv(x)))
        gate = torch.sigmoid(self.excite(F.gelu(self.squeeze(h.flatten(2).mean(2)))))
        h = h * gate.reshape(*gate.shape, *(1,) * (x.ndim - 2))
        h = h / (1 + h.abs())
        return self.dense(self.norm(h.flatten(2).amax(2)) ** 2)


COMPLETE: dict[str, Callable[[], nn.Module]] = {
    "gates 1": lambda: Gated(1),
    "gates 2": lambda: Gated(2),
    "gates 3": lambda: Gated(3),
    "attention": lambda: Tokens(),
    "open attention": lambda: Tokens(prefix=0, fused=False),
    "residual": lambda: Residual(2),
    "twice": lambda: Twice(2),
    "elu": lambda: Written(2, F.elu),
    "prelu": lambda: Written(2, nn.PReLU()),
    "softplus": lambda: Written(2, F.softplus),
    "mish, in place": lambda: Written(2, lambda t: F.mish(t, inplace=True)),
    "swish by hand": lambda: Written(2, lambda t: t * torch.sigmoid(t)),
    "overlapping windows": lambda: Written(2, lambda t: F.max_pool2d(t, 3, 1, 1)),
    "adaptive windows": lambda: Written(3, lambda t: F.relu(t) + F.adaptive_max_pool3d(t, 1)),
    "multi-head": lambda: Heads(),
}


class Heads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(2, 8, 2, stride=2)
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.dense = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Any:
        return self.dense(self.layer(self.patches(x).flatten(2).transpose(1, 2)).mean(1))


@pytest.mark.parametrize("kind", COMPLETE)
@pytest.mark.parametrize("baseline", ["black", "blur"])
def test_deep_lift_is_complete(kind: str, baseline: str) -> None:
    """The residual is that of rounding in float64, also where products of two parts of the pass stand."""
    model = ready(COMPLETE[kind]()).double()
    x = (inputs(1, 2) if "1" in kind else inputs(3, 2) if "3" in kind or "adaptive" in kind else inputs(2, 2)).double()
    x = x[..., :8, :12] if x.ndim == 4 else x
    maps = explain(model, x, f"deep-lift:baseline={baseline}", target=1).double()
    with torch.no_grad():
        gap = model(x)[:, 1] - model(Canvas(x, fills.spec(baseline)).blank)[:, 1]
    torch.testing.assert_close(maps.flatten(1).sum(1), gap, rtol=1e-5, atol=1e-5 * float(maps.abs().sum()))


def test_ties_of_max_pooling() -> None:
    """Equal elements: the first has it, as in the gradient; an input equal to the baseline has nothing."""
    model = nn.Sequential(nn.MaxPool1d(4), nn.Flatten(), nn.Linear(2, 2)).eval()
    x = torch.tensor([[[1.0, 1, 1, 1, 0, 2, 2, 0]]])
    weight = model[2].weight.detach()[1]
    want = torch.tensor([[weight[0], 0, 0, 0, 0, 2 * weight[1], 0, 0]])
    torch.testing.assert_close(explain(model, x, "deep-lift", target=1), want)
    assert float(explain(model, torch.zeros_like(x), "deep-lift", target=1).abs().max()) == 0


# Beside captum, on networks of modules each used once


class Modules(nn.Module):
    """No rectifier beside a pooling: there captum's shares do not add up."""

    def __init__(self, rank: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            CONV[rank](2, 5, 3, padding=1), nn.ReLU(), CONV[rank](5, 5, 3, padding=1), MAXPOOL[rank](2),
            CONV[rank](5, 6, 3, padding=1), nn.ELU(), POOL[rank](1), nn.Flatten(), nn.Linear(6, 8), nn.ReLU(),
            nn.Linear(8, CLASSES),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Any:
        return self.body(x)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_captum_agrees_on_networks_of_modules(rank: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        attr = pytest.importorskip("captum.attr")
    model, x = ready(Modules(rank)).double(), inputs(rank).double()
    base = inputs(rank, seed=7).double()
    probe = Probe(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = {
            "guided-backprop": attr.GuidedBackprop(model).attribute(x, target=1),
            "deconvnet": attr.Deconvolution(model).attribute(x, target=1),
            "deep-lift": attr.DeepLift(model).attribute(x, base, target=1),
        }
    for name, want in theirs.items():
        want = want.detach().sum(1)
        if name == "deep-lift":
            ours = multiplied(probe.runner(x), x, base, probe.goal(x, 1)).double().sum(1)
        else:
            ours = explain(model, x, name, target=1).double()
        torch.testing.assert_close(ours, want, rtol=1e-5, atol=1e-6 * float(want.abs().max()))


def test_captum_agrees_on_several_baselines() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        attr = pytest.importorskip("captum.attr")
    model, x = ready(Modules(2)).double(), inputs(2, 1).double()
    seeds = draws.seeds(0, "deep-lift-shap", torch.tensor([0]))
    blanks = torch.cat([Canvas(x, fills.spec("noise"), seeds * 1009 + turn).blank for turn in range(8)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        want = attr.DeepLiftShap(model).attribute(x, blanks, target=1).detach().sum(1)
    ours = explain(model, x, "deep-lift-shap", target=1).double()
    torch.testing.assert_close(ours, want, rtol=1e-5, atol=1e-6 * float(want.abs().max()))


def test_captum_misses_operations_that_are_no_modules() -> None:
    """Why the operations count: hooks on modules leave the functional network's gradient as it is."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        attr = pytest.importorskip("captum.attr")
        model, x = ready(Written(2, F.relu)), inputs(2)
        theirs = attr.GuidedBackprop(model).attribute(x, target=1).detach().sum(1)
    want = explain(ready(Written(2, nn.ReLU())), x, "guided-backprop", target=1)
    assert float((theirs - want).norm() / want.norm()) > 0.1
    torch.testing.assert_close(explain(model, x, "guided-backprop", target=1), want)


def test_captum_loses_the_rule_of_a_pooling_behind_a_relu() -> None:
    """Its contributions then do not add up to the difference of the logits; ours do."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        attr = pytest.importorskip("captum.attr")
        model = nn.Sequential(nn.ReLU(), nn.MaxPool1d(2), nn.Flatten(), nn.Linear(24, CLASSES))
        model, x, base = ready(model).double(), inputs(1, 1).double(), inputs(1, 1, seed=7).double()
        theirs = attr.DeepLift(model).attribute(x, base, target=1).detach()
    probe = Probe(model)
    ours = multiplied(probe.runner(x), x, base, probe.goal(x, 1)).double()
    with torch.no_grad():
        gap = float((model(x) - model(base))[0, 1])
    assert float(ours.sum()) == pytest.approx(gap, rel=1e-5)
    assert abs(float(theirs.sum()) - gap) > 0.05 * abs(gap)
