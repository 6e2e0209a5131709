"""The score "margin", the methods that compare scores, and maps that the scale of the logits leaves alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from heatproof.errors import NotApplicable, UnknownName, UsageError
from heatproof.methods import explain, methods
from heatproof.metrics import score
from heatproof.probe import Contrast, Goal, Probe, Wants

from .toys import CLASSES, Plain, Residual, Tokens, Wrapped, inputs, ready

COMPARING = {
    "ablation-cam", "hsic", "is-cam", "kernel-shap", "lime", "occlusion", "recipro-cam", "rise", "score-cam",
    "segment-ablation", "shapley-sampling", "sobol", "ss-cam",
}  # fmt: skip
SCALED = {
    "finer-cam", "grad-cam-plus-plus", "is-cam", "score-cam", "shapley-cam", "smooth-grad-cam-plus-plus", "ss-cam",
    "transformer-attribution",
}  # fmt: skip
BRIEF = {
    "is-cam": "is-cam:steps=2",
    "occlusion": "occlusion:stride=1.0,window=0.4",
    "expected-gradients": "expected-gradients:baseline=noise,samples=4",
    "gradient-shap": "gradient-shap:baseline=noise,samples=4",
    "rise": "rise:cells=3,masks=30",
    "smooth-grad-cam-plus-plus": "smooth-grad-cam-plus-plus:samples=2",
    "ss-cam": "ss-cam:samples=2",
}
ATTENTION = {name for name in methods if "attention" in methods[name].needs}
Z = torch.tensor([[1.0, 3.0, 2.0], [5.0, 0.0, 4.0]])


def model_of(name: str, rank: int, gain: float = 1.0) -> nn.Module:
    """A small network in float64 whose logits are multiplied."""
    inner = ready(Tokens()) if name in ATTENTION else ready(Plain(rank), seed=rank)
    return Wrapped(inner.double(), lambda z: gain * z).eval()


def brief(name: str, kind: str = "") -> str:
    """The method with options that make it quick, and with a score."""
    text = BRIEF.get(name, name)
    return f"{text}{',' if ':' in text else ':'}score={kind}" if kind else text


def layer_of(name: str) -> str | None:
    return None if name in ATTENTION else "body.relu2"


# The score


def test_of_classes_it_is_the_logit_less_the_largest_other() -> None:
    assert Goal.of([1, 1], Z).score(Z, "margin").tolist() == [1.0, -5.0]
    assert Goal.of(None, Z).score(Z, "margin").tolist() == [1.0, 1.0]
    assert Goal.of([2, 0], Z).score(3 * Z, "margin").tolist() == [-3.0, 3.0]


def test_of_labels_it_is_the_labels_logit_and_of_a_regression_the_output() -> None:
    for task in ("labels", "regression"):
        goal = Goal.of([1, 2], Z, task)  # type: ignore[arg-type]
        assert goal.score(Z, "margin").tolist() == [3.0, 4.0]


def test_of_one_logit_it_is_that_logit() -> None:
    class One(Plain):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x)[:, :1]

    model, x = ready(One(2)), inputs(2)
    z = model(x)[:, 0].detach()
    for target, sign in ((1, 1.0), (0, -1.0)):
        assert_close(Probe(model, score="margin", outputs="binary-logit").scores(x, target), sign * z)


def test_of_contrasts_mixes_and_functions_it_is_what_the_logit_is() -> None:
    mixed = Goal(torch.tensor([0, 1]), mix=torch.tensor([[1.0, -0.5, 0.0], [0.0, 2.0, -1.0]]))
    assert mixed.score(Z, "margin").tolist() == [-0.5, -4.0]
    assert Goal.of(Contrast(0, 2), Z).score(Z, "margin").tolist() == [-1.0, 1.0]
    assert Goal.of(lambda raw: raw.sum(1), Z).score(Z, "margin", Z).tolist() == [6.0, 9.0]


def test_a_probe_compares_margins_everywhere() -> None:
    model, x = ready(Plain(2)), inputs(2)
    z, probe = model(x).detach(), Probe(model, layer="conv2", score="margin")
    want = z[:, 2] - z[:, [0, 1, 3]].amax(1)
    goal = probe.goal(x, 2)
    assert_close(probe.scores(x, 2), want, rtol=1e-4, atol=1e-5)
    assert_close(probe.variants(x, goal, 2, lambda n, _: x[n])[:, 1], want, rtol=1e-4, atol=1e-5)
    assert_close(probe.tail(probe.taps(x)[0], x, 2), want, rtol=1e-4, atol=1e-5)
    map = torch.rand(x[:, 0].shape, generator=torch.Generator().manual_seed(0))
    half = score(probe, x, map, "deletion", target=2)
    assert_close(
        half, score(Probe(Wrapped(model, lambda z: 30 * z), score="margin"), x, map, "deletion", target=2) / 30
    )


def test_a_metric_of_probabilities_says_what_the_score_is() -> None:
    model, x = ready(Plain(2)), inputs(2)
    with pytest.raises(NotApplicable, match="probabilities only, and the probe's score is a margin"):
        score(Probe(model, score="margin"), x, x[:, 0], "average-gain")


# The option


def test_methods_that_compare_scores_take_the_option() -> None:
    assert {name for name in methods if methods[name].compares} == COMPARING
    for name in methods:
        assert methods[name].options.get("score") == ("margin" if name in COMPARING else None)


@pytest.mark.parametrize("name", sorted(COMPARING))
def test_the_option_says_what_is_compared(name: str) -> None:
    """Whatever the probe's own score; the oracles say that it is compared rightly."""
    model, x, maps = ready(Plain(2), seed=1), inputs(2), {}
    for kind in ("margin", "probability", "logit"):
        maps[kind] = explain(Probe(model, layer="conv2"), x, brief(name, kind), target=1)
        other = explain(Probe(model, layer="conv2", score="logit"), x, brief(name, kind), target=1)
        assert torch.equal(maps[kind], other)
    for kind in ("probability", "logit"):
        assert not torch.allclose(maps["margin"], maps[kind], rtol=1e-2)
    drawing = {"hsic", "kernel-shap", "lime", "rise", "shapley-sampling", "sobol", "ss-cam"}
    if name not in drawing:  # what is drawn depends on the options as they are written
        assert torch.equal(explain(Probe(model, layer="conv2"), x, brief(name), target=1), maps["margin"])


def test_scores_of_several_kinds_in_one_call_are_those_of_calls_of_their_own() -> None:
    model, x = ready(Plain(2)), inputs(2)
    texts = ["ablation-cam", "ablation-cam:score=logit", "grad-cam", "recipro-cam:score=probability", "recipro-cam"]
    together = explain(Probe(model, layer="conv2"), x, texts, target=1)
    for text in texts:
        assert_close(together[text], explain(Probe(model, layer="conv2"), x, text, target=1))


def test_the_margin_costs_no_pass_more() -> None:
    for name in sorted(COMPARING):
        counts = []
        for kind in ("margin", "probability"):
            probe = Probe(ready(Plain(2)), layer="conv2")
            explain(probe, inputs(2), brief(name, kind), target=1)
            counts.append(dict(probe.passes))
        assert counts[0] == counts[1], name


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("occlusion:score=odds", UsageError, "one of probability, logit, margin"),
        ("ablation-cam:scores=logit", UnknownName, "did you mean 'score'"),
        ("grad-cam:score=logit", UnknownName, "unknown option of method 'grad-cam' 'score'"),
        ("saliency:score=margin", UnknownName, "'score'"),
    ],
)
def test_the_option_is_checked(text: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        methods.spec(text)


def test_the_option_goes_with_the_other_shared_ones() -> None:
    model, x = ready(Plain(2)), inputs(2)
    text = "ablation-cam:fuse=max,score=probability,smooth=augment"
    assert str(methods.spec("AblationCAM:Score=probability,Smooth=augment,fuse=max")) == text
    maps = explain(Probe(model, layer=["conv1", "conv2"]), x, text, target=1)
    assert bool(torch.isfinite(maps).all())


# Shares of a score


@pytest.mark.parametrize("kind", ["margin", "logit", "probability"])
def test_ablation_cam_of_a_class_that_is_not_predicted(kind: str) -> None:
    """A channel that speaks for the class has a positive weight, whatever the sign of the score."""
    model, x = ready(Plain(2)), inputs(2, 8)
    probe = Probe(model, layer="relu2", score=kind)  # type: ignore[arg-type]
    least = model(x).argmin(1).tolist()
    ((shot,),) = list(probe.shots(x, probe.goal(x, least), probe.tapped(x), Wants(tail=True)))
    drop = shot.score[:, None] - shot.ablated
    if kind == "margin":
        assert bool((shot.score < 0).all())
    weights = methods["ablation-cam"].function(shot.ablated, shot.score)
    assert torch.equal(weights.sign(), drop.sign())
    assert_close(weights * shot.score.abs()[:, None], drop, rtol=1e-4, atol=1e-6)


def test_ablation_cam_without_a_margin_divides_by_what_its_ablations_span() -> None:
    ablated = torch.tensor([[2.0, -3.0, 0.0], [0.0, 0.0, 0.0]])
    weights = methods["ablation-cam"].function(ablated, torch.zeros(2))
    assert_close(weights, torch.tensor([[-40.0, 60.0, 0.0], [0.0, 0.0, 0.0]]))
    for gain in (1e-6, 1e6):
        assert_close(methods["ablation-cam"].function(gain * ablated, torch.zeros(2)), weights)


# The scale of the logits


def same_order(map: Tensor, other: Tensor, *, within: float = 1e-4) -> bool:
    """Whether what is more relevant in one map is not less so in the other, up to ties within a share of the span."""
    for a, b in zip(map.flatten(1).double(), other.flatten(1).double(), strict=True):
        for one, two in ((a, b), (b, a)):
            above = one[:, None] - one[None] > within * (one.max() - one.min())
            if bool((above & (two[:, None] - two[None] < -within * (two.max() - two.min()))).any()):
                return False
    return True


def scaled_maps(name: str, rank: int) -> list[Tensor]:
    x, target = inputs(rank, 3).double(), [0, 1, 2]
    return [
        explain(Probe(model_of(name, rank, gain), layer=layer_of(name)), x, brief(name), target=target)
        for gain in (1.0, 30.0, 1 / 3)
    ]


@pytest.mark.parametrize(
    ("name", "rank"),
    [
        *((name, rank) for name in methods if not methods[name].scaled for rank in (1, 2) if (name, rank) not in
          {(attention, 1) for attention in ATTENTION}),
        *((name, 3) for name in ("grad-cam", "ablation-cam", "recipro-cam")),
    ],
)  # fmt: skip
def test_the_scale_of_the_logits_leaves_the_order_of_positions(name: str, rank: int) -> None:
    plain, *others = scaled_maps(name, rank)
    assert float(plain.abs().max()) > 0
    assert all(same_order(plain, other) for other in others)


@pytest.mark.parametrize("name", sorted(SCALED))
def test_methods_that_declare_it_depend_on_the_scale(name: str) -> None:
    """By definition: a softmax over scores, probabilities as weights, or derivatives of different powers."""
    assert methods[name].scaled
    maps = [scaled_maps(name, rank) for rank in ((2,) if name in ATTENTION else (1, 2))]
    unit = [[map / map.flatten(1).abs().amax(1).clamp_min(1e-12)[(..., *(None,) * (map.ndim - 1))] for map in several]
            for several in maps]  # fmt: skip
    assert any(not torch.allclose(several[0], other, rtol=1e-3, atol=1e-3) for several in unit for other in several[1:])


def test_no_other_method_declares_it() -> None:
    assert {name for name in methods if methods[name].scaled} == SCALED


@pytest.mark.parametrize("name", ["ablation-cam", "recipro-cam", "occlusion"])
def test_skip_connections_do_not_bring_the_scale_in(name: str) -> None:
    x = inputs(1, 3).double()
    maps = [
        explain(
            Probe(Wrapped(ready(Residual(1)).double(), lambda z, gain=gain: gain * z), layer="body.conv2"), x, name,
            target=[3, 0, 1],
        )
        for gain in (1.0, 30.0, 1 / 3)
    ]  # fmt: skip
    assert all(same_order(maps[0], other) for other in maps[1:])


def test_probabilities_depend_on_the_scale_where_margins_do_not() -> None:
    x = inputs(1, 6).double()
    asked = {"occlusion:score=margin": True, "occlusion:score=probability": False}
    for text, holds in asked.items():
        maps = [explain(Probe(model_of("occlusion", 1, gain)), x, text, target=0) for gain in (1.0, 30.0)]
        assert same_order(*maps) is holds, text


def test_labels_and_regressions_are_scaled_alike() -> None:
    x = inputs(2).double()
    for outputs in ("label-logits", "regression"):
        several: list[Any] = [
            explain(Probe(model_of("rise", 2, gain), layer="body.relu2", outputs=outputs), x,
                    ["ablation-cam", "occlusion:window=0.4,stride=1.0", "recipro-cam"], target=CLASSES - 1)
            for gain in (1.0, 30.0)
        ]  # fmt: skip
        assert all(same_order(several[0][name], several[1][name]) for name in several[0])
