"""What a probe says about a model, against the model itself; how much it runs; what it refuses."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from heatproof.errors import HeatproofError, InputError, UsageError
from heatproof.methods import explain
from heatproof.probe import Contrast, Goal, HeatproofWarning, Probe, Wants, as_probe
from heatproof.probe.optimisation import agree

from .toys import CLASSES, Plain, Residual, inputs, ready, same, snapshot

RANKS = pytest.mark.parametrize("rank", [1, 2, 3])


@RANKS
@pytest.mark.parametrize("batch", [None, 1, 2])
def test_scores_are_the_models(rank: int, batch: int | None) -> None:
    model, x = ready(Plain(rank)), inputs(rank, 5)
    z = model(x).detach()
    probe = Probe(model, batch=batch)
    torch.testing.assert_close(probe.logits(x), z)
    torch.testing.assert_close(probe.probabilities(x), z.softmax(1))
    torch.testing.assert_close(probe.scores(x), z.softmax(1).amax(1))
    torch.testing.assert_close(probe.scores(x, [0, 1, 2, 3, 0]), z.softmax(1)[range(5), [0, 1, 2, 3, 0]])
    logit = Probe(model, score="logit", batch=batch)
    torch.testing.assert_close(logit.scores(x, 2), z[:, 2])
    torch.testing.assert_close(logit.scores(x, Contrast(2, 0)), z[:, 2] - z[:, 0])
    torch.testing.assert_close(probe.scores(x, Contrast(2, 0)), (z[:, 2] - z[:, 0]).sigmoid())
    torch.testing.assert_close(probe.scores(x, lambda raw: raw[:, 3] ** 2), z[:, 3] ** 2)
    torch.testing.assert_close(probe.scored(x, probe.goal(x, 1)), z.softmax(1)[:, 1], rtol=1e-4, atol=1e-6)
    assert not probe.logits(x).requires_grad


@RANKS
@pytest.mark.parametrize("target", [None, 1, Contrast(0, 1)])
def test_gradient_is_the_slope(rank: int, target: Any) -> None:
    """Against differences in float64, in a random direction."""
    model, x = ready(Plain(rank)).double(), inputs(rank, 3)
    probe = Probe(model, score="logit", batch=2)
    goal = probe.goal(x.double(), target)
    step = torch.randn(x.shape, dtype=torch.float64)
    z = [model(x.double() + e * step).detach() for e in (1e-6, -1e-6)]
    slope = (goal.score(z[0], "logit") - goal.score(z[1], "logit")) / 2e-6
    gradient = probe.gradient(x.double(), target)
    assert gradient.dtype == torch.float32
    torch.testing.assert_close((gradient.double() * step).flatten(1).sum(1), slope, rtol=1e-4, atol=1e-4)


def test_gradients_are_those_of_the_logit_whatever_the_score() -> None:
    model, x = ready(Plain(2)), inputs(2)
    torch.testing.assert_close(Probe(model).gradient(x), Probe(model, score="logit").gradient(x))
    torch.testing.assert_close(
        Probe(model, layer="conv2").taps(x)[1], Probe(model, layer="conv2", score="logit").taps(x)[1]
    )


@RANKS
def test_taps_and_tail(rank: int) -> None:
    model, x = ready(Residual(rank)), inputs(rank, 3)
    probe = Probe(model, layer="conv2", score="logit", batch=2)
    A, G = probe.taps(x, 1)
    stem = model.relu(model.stem(x)).detach()
    torch.testing.assert_close(A, model.conv2(model.conv1(stem).relu()).detach())

    def behind(A: Tensor) -> Tensor:
        return model.dense(model.mean(model.conv3((A + stem).relu()).relu()).flatten(1))

    leaf = A.clone().requires_grad_()
    (want,) = torch.autograd.grad(behind(leaf)[:, 1].sum(), leaf)
    torch.testing.assert_close(G, want)
    changed = A + torch.randn_like(A)
    torch.testing.assert_close(probe.tail(changed, x, 1), behind(changed)[:, 1].detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("engine", ["auto", "plain", "optimised"])
@RANKS
def test_engines_agree(engine: Any, rank: int) -> None:
    model, x = ready(Plain(rank)), inputs(rank, 3)
    probe, want = Probe(model, engine=engine), Probe(model, engine="plain")
    torch.testing.assert_close(probe.logits(x), want.logits(x), rtol=1e-4, atol=1e-5)
    goal = want.goal(x)
    torch.testing.assert_close(probe.scored(x, goal), want.scored(x, goal), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("change", ["step", "data", "load"])
def test_the_optimised_copy_follows_the_model(change: str) -> None:
    model, x = ready(Plain(2)), inputs(2)
    probe = Probe(model, engine="optimised")
    probe.logits(x)
    with torch.no_grad():
        if change == "step":
            model.conv1.weight.mul_(2)
        elif change == "data":
            model.conv1.weight.data.mul_(2)
        else:
            model.load_state_dict(ready(Plain(2), seed=9).state_dict())
    torch.testing.assert_close(probe.logits(x), model(x).detach(), rtol=1e-4, atol=1e-5)


def test_a_model_that_no_copy_agrees_with() -> None:
    """A forward that looks at its own modules: the copy is not trusted, the model itself is used."""

    class Vain(Plain):
        def forward(self, x: Tensor) -> Any:
            return super().forward(x) * (1 + (type(self.norm) is not nn.BatchNorm2d))

    model, x = ready(Vain(2)), inputs(2)
    torch.testing.assert_close(Probe(model, engine="optimised").logits(x), model(x).detach(), rtol=1e-4, atol=1e-5)


@RANKS
def test_variants_are_streamed(rank: int) -> None:
    """n * count passes in batches of one size, whatever the number of samples and of variants."""
    model, x = ready(Plain(rank)), inputs(rank, 3)
    sizes: list[int] = []
    model.conv1.register_forward_pre_hook(lambda _, args: sizes.append(len(args[0])))
    probe = Probe(model, batch=4, engine="plain")
    goal = probe.goal(x, [0, 1, 2])
    sizes.clear()
    shift = torch.linspace(-1, 1, 7)

    def make(samples: Tensor, which: Tensor) -> Tensor:
        return x[samples] + shift[which].reshape(-1, *(1,) * (rank + 1))

    scores = probe.variants(x, goal, 7, make)
    assert sizes == [4, 4, 4, 4, 4, 1]
    assert scores.shape == (3, 7)
    for i in range(3):
        for j in range(7):
            want = model(x[i : i + 1] + shift[j]).softmax(1)[0, i].detach()
            torch.testing.assert_close(scores[i, j], want, rtol=1e-4, atol=1e-6)


def test_passes_are_counted() -> None:
    model, x = ready(Plain(2)), inputs(2, 5)
    probe = Probe(model, layer="relu2")
    probe.logits(x)
    assert probe.passes == {"forward": 6}  # the first pass of a model shows how to read it
    probe.gradient(x)
    assert probe.passes == {"forward": 11, "backward": 5}
    probe.taps(x, None)
    assert probe.passes == {"forward": 16, "backward": 10}
    other = Probe(model, layer="relu2")
    other.logits(x)
    assert other.passes == {"forward": 5}


def test_the_model_is_left_alone() -> None:
    model, x = ready(Plain(2)).train(), inputs(2)
    model.dense.bias.grad = torch.ones_like(model.dense.bias)
    before, state = snapshot(model), torch.random.get_rng_state()
    for engine in ("plain", "optimised"):
        probe = Probe(model, engine=engine)  # type: ignore[arg-type]
        probe.logits(x)
        probe.gradient(x)
        probe.tail(probe.taps(x)[0], x)
        probe.choice(x)
        probe.scores(x, [0, 1, 2])
    assert same(before, snapshot(model)) == []
    assert torch.equal(state, torch.random.get_rng_state())
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_the_input_is_brought_to_the_models_type(dtype: torch.dtype) -> None:
    model, x = ready(Plain(2)), inputs(2)
    want = Probe(model).logits(x)
    logits = Probe(model.to(dtype)).logits(x.double())
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, want, rtol=0.1, atol=0.1)


class Signals(nn.Module):
    """A convolution and a dense layer, joined by a function."""

    def __init__(self, run: Any) -> None:
        super().__init__()
        self.run, self.conv, self.head = run, nn.Conv1d(2, 6, 3, padding=1), nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.run(self.conv, x).mean(2))


@pytest.mark.parametrize(
    "change", [lambda x: x.mul_(0.5), lambda x: x.sub_(1).div_(2), nn.ReLU(inplace=True), lambda x: x.clamp_(-1, 1)]
)
def test_a_model_that_writes_into_its_input(change: Any) -> None:
    methods = ["saliency", "occlusion", "grad-cam", "rise:masks=20", "ablation-cam"]
    model = ready(Signals(lambda conv, x: conv(change(x)).relu()))
    twin = Signals(lambda conv, x: conv(change(x.clone())).relu()).eval()
    twin.load_state_dict(model.state_dict())
    x = torch.randn(3, 2, 20, generator=torch.Generator().manual_seed(1))
    before = x.clone()
    maps, want = explain(model, x, methods), explain(twin, x, methods)
    assert torch.equal(x, before)
    for method in methods:
        torch.testing.assert_close(maps[method], want[method], msg=method)
    torch.testing.assert_close(Probe(model).probabilities(x), Probe(twin).probabilities(x))
    assert torch.equal(x, before)


def test_a_model_that_draws_random_numbers_is_noticed() -> None:
    model = ready(Signals(lambda conv, x: nn.functional.dropout(conv(x), 0.5, True)))
    with pytest.warns(HeatproofWarning, match="draws random numbers in evaluation mode"):
        explain(model, torch.randn(2, 2, 20), "saliency")


def test_code_of_the_model_that_fails_for_a_batch_is_said() -> None:
    def run(conv: nn.Module, x: Tensor) -> Tensor:
        assert len(x) == 1, "one at a time"
        return conv(x)

    model, x = ready(Signals(run)), torch.randn(3, 2, 20)
    for method in ("saliency", "occlusion", "grad-cam"):
        with pytest.raises(InputError, match=r"failed for a batch of \d+ samples: one at a time; .*batch=1"):
            explain(model, x, method)
        assert explain(Probe(model, batch=1), x, method).shape == (3, 20)


def test_torch_can_swap_the_weights_of_a_model_that_was_explained() -> None:
    model, x = ready(Plain(2)), inputs(2)
    explain(model, x, "grad-cam")
    weight = next(model.parameters())
    torch.utils.swap_tensors(weight, nn.Parameter(weight.detach().clone() * 2))
    torch.testing.assert_close(explain(model, x, "grad-cam"), explain(copy.deepcopy(model), x, "grad-cam"))


def test_a_model_that_differentiates_itself() -> None:
    class Inner(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.energy, self.head = nn.Conv1d(2, 1, 3, padding=1), nn.Linear(20, CLASSES)

        def forward(self, x: Tensor) -> Tensor:
            with torch.enable_grad():
                y = x if x.requires_grad else x.detach().requires_grad_()
                (slope,) = torch.autograd.grad(self.energy(y).square().sum(), y, create_graph=True)
            return self.head(slope.sum(1))

    model, x = ready(Inner()), torch.randn(3, 2, 20)
    want = model(x).softmax(1).detach()
    torch.testing.assert_close(Probe(model).probabilities(x), want)
    assert explain(model, x, "occlusion").shape == (3, 20)


@pytest.mark.filterwarnings("ignore:None of the inputs")
def test_a_backward_pass_that_fails_is_said() -> None:
    from torch.utils.checkpoint import checkpoint

    model = ready(Signals(lambda conv, x: checkpoint(conv, x, use_reentrant=True).relu()))
    x = torch.randn(2, 2, 20)
    with pytest.raises(HeatproofError, match="no gradient of the model can be taken") as caught:
        explain(model, x, "saliency")
    assert "\n" not in str(caught.value)


def test_the_first_call_too_notices_what_a_model_writes_over() -> None:
    """The slope of a sigmoid is computed from what it returned, which is gone."""

    def run(conv: nn.Module, x: Tensor) -> Tensor:
        gate = conv(x).sigmoid()
        out = gate * 1.0
        gate.zero_()
        return out

    with pytest.raises(HeatproofError, match=r"no gradient of the model can be taken.*inplace"):
        explain(Probe(ready(Signals(run)), layer="conv"), torch.randn(1, 2, 20), "grad-cam")


@pytest.mark.parametrize("scale", [1.0, 1e-6])
def test_copies_agree_up_to_the_models_own_scale(scale: float) -> None:
    want = torch.tensor([[1.0, -2.0], [0.5, 0.1]]) * scale
    assert agree(want, want * (1 + 1e-6))
    assert not agree(want, want * 1.01)


def test_autocast() -> None:
    model, x = ready(Plain(2)), inputs(2)
    probe, want = Probe(model, autocast=torch.bfloat16), Probe(model)
    assert not torch.equal(probe.logits(x), want.logits(x))
    torch.testing.assert_close(probe.logits(x), want.logits(x), rtol=0.1, atol=0.1)
    assert not torch.is_autocast_enabled("cpu")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch": 0}, "batch"),
        ({"batch": -3}, "batch"),
        ({"score": "odds"}, "score: got 'odds', expected one of probability, logit"),
        ({"engine": "warp"}, "engine"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    import jaxtyping

    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        with pytest.raises(UsageError, match=message):
            Probe(ready(Plain(2)), **options)
        with pytest.raises(InputError, match="Module"):
            Probe("resnet18")  # type: ignore[arg-type]
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)


def test_a_model_without_parameters_and_one_that_ignores_its_input() -> None:
    class Sums(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([x.flatten(1).sum(1), -x.flatten(1).sum(1)], dim=1)

    x = inputs(2)
    torch.testing.assert_close(Probe(Sums()).gradient(x, 0), torch.ones_like(x))

    class Deaf(Plain):
        def forward(self, x: Tensor) -> Any:
            return self.dense.bias.expand(x.shape[0], -1)

    with pytest.raises(HeatproofError, match="depends on its input"):
        Probe(ready(Deaf(2))).gradient(x)


def test_goals() -> None:
    z = torch.tensor([[1.0, 3.0, 2.0], [5.0, 0.0, 4.0]])
    assert Goal.of(None, z).classes.tolist() == [1, 0]
    goal = Goal.of(Contrast(), z)
    assert (goal.classes.tolist(), goal.against.tolist()) == ([1, 0], [2, 2])  # type: ignore[union-attr]
    goal = goal.take(torch.tensor([1, 1, 0]))
    assert (goal.classes.tolist(), goal.against.tolist()) == ([0, 0, 1], [2, 2, 2])  # type: ignore[union-attr]
    assert Goal.of(2, z).score(z, "logit").tolist() == [2.0, 4.0]
    with pytest.raises(InputError, match="out of range"):
        Goal.of([0, 3], z)


def test_a_batch_dependent_model_is_told_once() -> None:
    class Batch(Plain):
        def forward(self, x: Tensor) -> Any:
            return super().forward(x - x.mean(0, keepdim=True))

    probe, x = Probe(ready(Batch(2))), inputs(2)
    with pytest.warns(HeatproofWarning, match="other samples in its batch"):
        probe.logits(x)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        probe.logits(x)


def test_as_probe() -> None:
    model = ready(Plain(2))
    probe = Probe(model)
    assert as_probe(probe) is probe
    assert as_probe(model).model is model
    assert len(inputs(2)) == 3
    assert CLASSES == 4


def test_another_sample_than_the_one_looked_at_first_is_no_sign_of_a_batch() -> None:
    probe, x = Probe(ready(Plain(1))), inputs(1, 4)
    probe.survey(x[:1])
    probe.logits(x[1:])


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@pytest.mark.parametrize(
    "layers",
    [
        [nn.Conv1d(2, 3, 3, padding="same"), nn.ReLU(), nn.Conv1d(3, 4, 4, padding="same")],
        [nn.Conv1d(2, 4, 5, stride=2, padding=1, groups=2), nn.ReLU(), nn.Conv1d(4, 4, 3, dilation=2, bias=False)],
        [nn.Conv1d(2, 3, 3, padding=1, padding_mode="circular"), nn.BatchNorm1d(3), nn.ReLU(), nn.Conv1d(3, 2, 1)],
        [nn.Conv1d(2, 3, 3, padding="valid"), nn.ReLU(), nn.MaxPool1d(2), *[nn.Conv1d(3, 3, 3, padding=1)] * 2],
    ],
    ids=["same", "grouped", "circular", "twice"],
)
def test_signals_are_laid_out_without_a_change(layers: list[nn.Module]) -> None:
    width = [layer for layer in layers if isinstance(layer, nn.Conv1d)][-1].out_channels
    model = ready(nn.Sequential(*layers, nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(width, CLASSES)))
    x = inputs(1, 6)
    before = snapshot(model)
    probe, plain = (Probe(model, engine=engine) for engine in ("optimised", "plain"))
    torch.testing.assert_close(probe.logits(x), plain.logits(x), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(probe.scored(x, Goal(torch.arange(6) % 3)), plain.scores(x, torch.arange(6) % 3))
    assert same(before, snapshot(model)) == []


class Reused(nn.Module):
    """The output of the convolution is needed again after its ReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.dense = nn.Conv1d(2, 4, 3, padding=1), nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        z = self.conv(x)
        return self.dense((torch.relu(z) + z).mean(2))


def test_a_relu_overwrites_nothing_that_is_needed() -> None:
    model, x = ready(Reused()), inputs(1, 3)
    torch.testing.assert_close(Probe(model, engine="optimised").logits(x), model(x).detach(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("layer", "text"),
    [(None, "last convolution"), ("conv2", "conv2"), (["conv1", "conv2"], "conv1, conv2")],
)
def test_a_probe_is_printed_without_its_model(layer: Any, text: str) -> None:
    model = ready(Plain(2))
    probe = Probe(model, layer=layer, score="logit")
    assert repr(probe) == f"Probe(Plain, layer={text!r}, score='logit')"
    assert probe._repr_html_().count("<tr>") == 3
    assert f"<td>{text}</td>" in probe._repr_html_()
    assert repr(Probe(model, layer=model.conv2)) == "Probe(Plain, layer='conv2', score='probability')"
    html = Probe(nn.Sequential(), layer="<b>")._repr_html_()
    assert "<b>" not in html


def test_no_order_of_calls_matters() -> None:
    """A model that ends in a softmax is read as such by whatever is called first."""
    inner, x = ready(Plain(2)), inputs(2, 3)
    model = nn.Sequential(inner, nn.Softmax(1))
    z = inner(x).detach()
    goal = Goal(torch.tensor([0, 1, 2]))
    first = {
        "scored": lambda probe: probe.scored(x, goal),
        "stream": lambda probe: next(probe.stream(x, 1, [(x, goal)])),
        "variants": lambda probe: probe.variants(x, goal, 1, lambda n, _: x[n])[:, 0],
        "shots": lambda probe: next(probe.shots(x, goal, probe.tapped(x), Wants(tail=True)))[0].score,
        "runner": lambda probe: probe.runner(x).scored(x, goal),
    }
    for name, call in first.items():
        got = call(Probe(model, layer="0.conv2", score="logit"))
        torch.testing.assert_close(got, z[range(3), range(3)], rtol=1e-4, atol=1e-4, msg=name)


def test_what_is_learnt_outlives_new_weights_and_no_new_part() -> None:
    model, x = ready(Plain(2)), inputs(2)
    probe = Probe(model, layer="conv2")
    prepared = probe.runner(x).prepared
    probe.tail(probe.taps(x)[0], x)
    with torch.no_grad():
        model.dense.weight.mul_(2)
    assert probe.runner(x).prepared is prepared
    assert list(prepared.cuts) == [("conv2", 1)]
    assert probe.runner(x[..., 1:]).prepared is not prepared
    model.dense = nn.Linear(model.dense.in_features, CLASSES + 3)
    assert probe.runner(x).prepared.outputs.classes == CLASSES + 3
    A, _ = probe.taps(x, CLASSES + 2)
    torch.testing.assert_close(probe.tail(A, x, CLASSES + 2), probe.scores(x, CLASSES + 2), rtol=1e-4, atol=1e-6)
    prepared = probe.runner(x).prepared
    model.double()
    assert probe.runner(x).prepared is not prepared
    torch.testing.assert_close(probe.logits(x), model(x.double()).detach().float())


def test_training_between_two_looks_is_no_sign_of_a_batch() -> None:
    model, x = ready(Plain(2)), inputs(2)
    probe = Probe(model)
    probe.survey(x)
    with torch.no_grad():
        model.dense.weight.mul_(3)
    probe.logits(x)


def test_out_of_memory_the_batch_is_halved_and_stays_so() -> None:
    model, x = ready(Plain(2)), inputs(2, 7)
    want, sizes = model(x).detach(), list[int]()

    def full(_: nn.Module, args: tuple[Tensor]) -> None:
        sizes.append(len(args[0]))
        if len(args[0]) > 2:
            raise torch.OutOfMemoryError("full")

    probe = Probe(model, engine="plain")
    model.conv1.register_forward_pre_hook(full)
    probe.survey(x)
    assert (sizes, probe.passes) == ([1], {"forward": 1})
    sizes.clear()
    probe.passes.clear()
    with pytest.warns(HeatproofWarning, match="out of memory"):
        torch.testing.assert_close(probe.logits(x), want)
    assert sizes == [7, 3, 1, 1, 1, 1, 1, 1, 1]
    assert probe.rows(x) == 1
    assert probe.passes == {"forward": 7}
    probe.gradient(x)
    assert probe.passes == {"forward": 14, "backward": 7}

    def always(_: nn.Module, args: tuple[Tensor]) -> None:
        raise torch.OutOfMemoryError("full")

    model.conv1.register_forward_pre_hook(always)
    with pytest.raises(HeatproofError, match="single sample"):
        probe.logits(x)
