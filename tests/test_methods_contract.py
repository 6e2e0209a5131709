"""What every registered method promises, for signals, images and volumes, in three precisions, on awkward models."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import jaxtyping
import pytest
import torch
from torch import Tensor, nn

from heatproof.errors import HeatproofError, InputError, LayerError, NotApplicable, UnknownName, UsageError
from heatproof.methods import default_controls, explain, methods, names, parse
from heatproof.probe import Contrast, HeatproofWarning, Probe

from .toys import (
    CLASSES,
    Branching,
    Deaf,
    Functional,
    Mixing,
    Plain,
    Residual,
    Tokens,
    Twice,
    Wrapped,
    inputs,
    ready,
    same,
    snapshot,
)

ATTENTION = [name for name in methods if "attention" in methods[name].needs]
EVERY = [name for name in methods if name not in ATTENTION]
CAMS = [name for name in EVERY if methods[name].family == "cam"]
CLASS_FREE = {"mean-activation", "eigen-cam", "kpca-cam", "fem"} | set(names(control=True))
SLOW = {
    "blur-ig": "blur-ig:steps=4",
    "expected-gradients": "expected-gradients:baseline=noise,samples=4",
    "gradient-shap": "gradient-shap:baseline=noise,samples=4",
    "integrated-gradients": "integrated-gradients:steps=4",
    "smooth-grad": "smooth-grad:samples=4",
    "smooth-grad-squared": "smooth-grad-squared:samples=4",
    "var-grad": "var-grad:samples=4",
    "hsic": "hsic:samples=20",
    "deep-lift-shap": "deep-lift-shap:samples=2",
    "is-cam": "is-cam:steps=2",
    "kernel-shap": "kernel-shap:samples=72",
    "lime": "lime:samples=38",
    "occlusion": "occlusion:stride=1.0,window=0.4",
    "rise": "rise:cells=3,masks=6",
    "shapley-sampling": "shapley-sampling:samples=34",
    "smooth-grad-cam-plus-plus": "smooth-grad-cam-plus-plus:samples=2",
    "sobol": "sobol:samples=57",
    "ss-cam": "ss-cam:samples=2",
}


def brief(name: str) -> str:
    """The method with options that make it quick."""
    return SLOW.get(name, name)


def toy(name: str, rank: int) -> tuple[nn.Module, str]:
    """A network and a layer that the method can explain."""
    return ready(Plain(rank)), "relu2"


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("name", EVERY)
def test_shape_range_and_repeatability(name: str, rank: int) -> None:
    model, layer = toy(name, rank)
    x = inputs(rank, 3)
    before, original = snapshot(model), x.clone()
    maps = explain(Probe(model, layer=layer), x, brief(name), seed=1)
    assert maps.shape == (3, *x.shape[2:])
    assert maps.dtype == torch.float32
    assert maps.device.type == "cpu"
    assert not maps.requires_grad
    assert bool(torch.isfinite(maps).all())
    low, high = methods[name].range
    assert low is None or float(maps.min()) >= low
    assert high is None or float(maps.max()) <= high
    assert torch.equal(maps, explain(Probe(model, layer=layer), x, brief(name), seed=1))
    assert same(before, snapshot(model)) == []
    assert torch.equal(x, original)


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("name", EVERY)
def test_batch_size_and_chunks_do_not_matter(name: str, rank: int) -> None:
    model, layer = toy(name, rank)
    x, target, index = inputs(rank, 4), torch.tensor([0, 1, 2, 1]), torch.tensor([5, 0, 9, 7])
    whole = explain(Probe(model, layer=layer), x, brief(name), target=target, index=index)
    scale = float(whole.abs().max())
    close = {"rtol": 1e-4, "atol": 2e-5 * scale + 1e-12}
    for batch in (1, 3):
        maps = explain(Probe(model, layer=layer, batch=batch), x, brief(name), target=target, index=index)
        torch.testing.assert_close(maps, whole, **close)
    for i in range(4):
        maps = explain(
            Probe(model, layer=layer), x[i : i + 1], brief(name), target=target[i : i + 1], index=index[i : i + 1]
        )
        torch.testing.assert_close(maps[0], whole[i], **close)
    order = torch.tensor([2, 0, 3, 1])
    maps = explain(Probe(model, layer=layer), x[order], brief(name), target=target[order], index=index[order])
    torch.testing.assert_close(maps, whole[order], **close)


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_precisions(name: str, dtype: torch.dtype) -> None:
    """A model in another precision: float32 maps that resemble those of the float32 model."""
    model, layer = toy(name, 2)
    x = inputs(2)
    want = explain(Probe(model, layer=layer), x, brief(name), target=1)
    model = model.to(dtype)
    before = snapshot(model)
    maps = explain(Probe(model, layer=layer), x, brief(name), target=1)
    assert maps.dtype == torch.float32
    assert bool(torch.isfinite(maps).all())
    assert same(before, snapshot(model)) == []
    if dtype == torch.float64:
        torch.testing.assert_close(maps, want, rtol=2e-3, atol=1e-4 * float(want.abs().max()))
    elif name not in ("ablation-cam", "grad-cam-plus-plus", "smooth-grad-cam-plus-plus", "xgrad-cam", "fem"):
        # the others divide by, or count beyond, small numbers that bfloat16 does not resolve
        least = 0.95 if name in ("smooth-grad-squared", "var-grad") else 0.97  # these two square gradients
        assert float(torch.corrcoef(torch.stack([maps.flatten(), want.flatten()]))[0, 1]) > least


@pytest.mark.parametrize("name", EVERY)
def test_the_target_matters(name: str) -> None:
    model, layer = toy(name, 2)
    x = inputs(2)
    by_class = [explain(Probe(model, layer=layer), x, brief(name), target=c) for c in range(CLASSES)]
    differ = any(not torch.allclose(by_class[0], other, rtol=1e-3) for other in by_class[1:])
    assert differ is (name not in CLASS_FREE)
    predicted = model(x).argmax(1)
    auto = explain(Probe(model, layer=layer), x, brief(name))
    for i, c in enumerate(predicted.tolist()):
        torch.testing.assert_close(auto[i], by_class[c][i], rtol=1e-4, atol=1e-5 * float(auto.abs().max() + 1e-9))


# Together, and at what price


def test_one_forward_and_one_backward_pass_for_all_gradient_cams() -> None:
    model, x = ready(Plain(2)), inputs(2, 5)
    gradient = [n for n in CAMS if set(methods[n].asks) <= {"A", "G"} and "G" in methods[n].asks]
    assert len(gradient) >= 8
    probe = Probe(model, layer="relu2")
    probe.survey(x)
    probe.passes.clear()
    together = explain(probe, x, gradient)
    assert probe.passes == {"forward": 5, "backward": 5}
    for name in gradient:
        torch.testing.assert_close(together[name], explain(Probe(model, layer="relu2"), x, name))


def test_all_methods_in_one_call_are_the_same_as_alone() -> None:
    model, x = ready(Plain(1)), inputs(1, 3)
    together = explain(Probe(model, layer="relu2"), x, [brief(n) for n in EVERY], seed=4)
    assert list(together) == [brief(n) for n in EVERY]
    for text, maps in together.items():
        torch.testing.assert_close(maps, explain(Probe(model, layer="relu2"), x, text, seed=4), rtol=1e-4, atol=1e-5)


def test_no_gradient_is_computed_before_the_layer() -> None:
    class Deep(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: Any, grad: Tensor) -> Tensor:
            raise AssertionError("the backward pass went past the layer")

    class Guarded(Plain):
        def forward(self, x: Tensor) -> Any:
            return super().forward(Deep.apply(x))

    model, x = ready(Guarded(2)), inputs(2)
    for name in CAMS:
        explain(Probe(model, layer="conv2"), x, brief(name)) if name != "cam" else None


@pytest.mark.parametrize("name", CAMS)
def test_several_layers_are_fused(name: str) -> None:
    model, x = ready(Plain(2)), inputs(2)
    if name == "cam":
        with pytest.raises(NotApplicable, match="global average pooling"):
            explain(Probe(model, layer=["relu1", "relu2"]), x, name)
        return
    alone = [explain(Probe(model, layer=layer), x, brief(name), target=1) for layer in ("relu1", "relu2")]
    scaled = [m / m.flatten(1).abs().amax(1).clamp_min(1e-30)[:, None, None] for m in alone]
    maps = explain(Probe(model, layer=["relu1", "relu2"]), x, brief(name), target=1)
    torch.testing.assert_close(maps, sum(scaled) / 2, rtol=1e-3, atol=1e-4)


# The model is left as it was


@pytest.mark.parametrize("name", EVERY)
def test_train_mode_with_batch_norm_and_dropout(name: str) -> None:
    """Explained in evaluation mode, left in its own; running statistics untouched; frozen and .grad kept."""
    model, layer = toy(name, 2)
    want = explain(Probe(model, layer=layer), inputs(2), brief(name), target=1)
    model.train()
    model.norm.eval()
    model.conv1.weight.requires_grad_(False)
    model.dense.weight.grad = torch.ones_like(model.dense.weight)
    before, state = snapshot(model), torch.random.get_rng_state()
    torch.testing.assert_close(explain(Probe(model, layer=layer), inputs(2), brief(name), target=1), want)
    assert same(before, snapshot(model)) == []
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("name", [n for n in EVERY if n not in names(control=True) and n != "cam"])
@pytest.mark.parametrize("after", [1, 3, 5])
def test_left_alone_after_an_exception(name: str, after: int) -> None:
    """The model fails in the middle of a long piece of work, behind the layer."""
    left, own = [10**9], FloatingPointError("the user's own model failed")

    def fail(_: nn.Module, __: Any) -> None:
        left[0] -= 1
        if left[0] <= 0:
            raise own

    model = ready(Plain(2)).train()
    model.conv1.weight.grad = torch.zeros_like(model.conv1.weight)
    model.mean.register_forward_pre_hook(fail)
    before = snapshot(model)
    probe = Probe(model, layer="conv1", batch=2)
    explain(probe, inputs(2), "grad-cam")
    left[0] = after
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HeatproofWarning)
        with pytest.raises(InputError, match="own model") as caught:
            explain(probe, inputs(2, 12), brief(name))
    assert caught.value.__cause__ is own
    assert "\n" not in str(caught.value)
    left[0] = 10**9
    assert same(before, snapshot(model)) == []
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("name", EVERY)
def test_interrupted_by_the_keyboard(name: str) -> None:
    class Interrupted(Plain):
        def forward(self, x: Tensor) -> Any:
            super().forward(x)
            raise KeyboardInterrupt

    if methods[name].control:
        pytest.skip("controls do not run the model")
    model = ready(Interrupted(2)).train()
    before = snapshot(model)
    with pytest.raises(KeyboardInterrupt):
        explain(Probe(model, layer="relu2"), inputs(2), brief(name))
    assert same(before, snapshot(model)) == []
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode, lambda: torch.autocast("cpu")])
def test_inside_other_contexts(context: Callable[[], Any]) -> None:
    model, x = ready(Plain(2)), inputs(2)
    want = explain(Probe(model, layer="relu2"), x, ["grad-cam", "ablation-cam", "saliency", "score-cam"], target=1)
    with context():
        leaf = inputs(2) + 0
        map = explain(
            Probe(model, layer="relu2"), leaf, ["grad-cam", "ablation-cam", "saliency", "score-cam"], target=1
        )
    for name, maps in map.items():
        close = 0.05 if context not in (torch.no_grad, torch.inference_mode) else 1e-5
        torch.testing.assert_close(maps, want[name], rtol=close, atol=close * float(want[name].abs().max()))
    again = explain(Probe(model, layer="relu2"), leaf, "grad-cam", target=1)
    torch.testing.assert_close(again, want["grad-cam"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", EVERY)
def test_inputs_that_want_a_gradient(name: str) -> None:
    model, layer = toy(name, 2)
    x = inputs(2).requires_grad_()
    maps = explain(Probe(model, layer=layer), x, brief(name), target=1)
    assert not maps.requires_grad
    assert x.grad is None
    torch.testing.assert_close(maps, explain(Probe(model, layer=layer), x.detach(), brief(name), target=1))


@pytest.mark.parametrize("name", EVERY)
def test_channels_last(name: str) -> None:
    model, layer = toy(name, 2)
    want = explain(Probe(model, layer=layer), inputs(2), brief(name), target=1)
    model = model.to(memory_format=torch.channels_last)
    x = inputs(2).to(memory_format=torch.channels_last)
    maps = explain(Probe(model, layer=layer), x, brief(name), target=1)
    torch.testing.assert_close(maps, want, rtol=1e-3, atol=1e-4 * float(want.abs().max()))


@pytest.mark.parametrize("name", EVERY)
def test_empty_batch(name: str) -> None:
    model, layer = toy(name, 2)
    with pytest.raises(InputError, match="empty batch"):
        explain(Probe(model, layer=layer), inputs(2)[:0], brief(name))


# Ways to write a model


@pytest.mark.parametrize("name", CAMS)
@pytest.mark.parametrize("layer", ["conv1", "norm", "conv2"])
def test_a_relu_in_place_behind_the_layer(name: str, layer: str) -> None:
    """What the layer gave out must be kept as it was: with and without ``inplace`` is one and the same network."""
    if name == "cam":
        pytest.skip("needs the last layer")
    x = inputs(2)
    maps, want = (
        explain(Probe(ready(Plain(2, inplace=flag)), layer=layer), x, brief(name), target=1) for flag in (True, False)
    )
    torch.testing.assert_close(maps, want, rtol=1e-4, atol=1e-5 * float(want.abs().max()))


@pytest.mark.parametrize("name", [n for n in CAMS if n != "cam"])
def test_functional_relu_and_residual_sums(name: str) -> None:
    """The same network written with modules and with functions."""

    class Modules(Functional):
        def forward(self, x: Tensor) -> Any:
            h = self.relu1(self.norm(self.conv1(x)))
            h = self.relu2(self.conv2(h).add_(h[:, :1]))
            return self.dense(self.mean(h).flatten(1))

    maps, want = (
        explain(Probe(ready(kind(2)), layer="conv2"), inputs(2), brief(name), target=1)
        for kind in (Functional, Modules)
    )
    torch.testing.assert_close(maps, want, rtol=1e-3, atol=1e-4 * float(want.abs().max()))


class ByKeyword(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.softmax = nn.Softmax(1)

    def forward(self, z: Tensor) -> Tensor:
        return self.softmax(input=z)


class Record:
    def __init__(self, logits: Tensor) -> None:
        self.logits = logits


RETURNS: dict[str, Callable[[Tensor], Any]] = {
    "tuple": lambda z: (z, z[:, :1, None, None].expand(-1, 2, 3, 3)),
    "list": lambda z: [z],
    "dict": lambda z: {"features": z[:, :2], "logits": z},
    "record": Record,
    "trailing axes": lambda z: z[:, :, None, None],
    "softmax": lambda z: z.softmax(1),
    "softmax in a dict": lambda z: {"prob": torch.softmax(z, dim=1)},
    "softmax by keyword": lambda z: nn.functional.softmax(input=z, dim=-1),
}


@pytest.mark.parametrize("name", [n for n in EVERY if n != "full-grad"])
@pytest.mark.parametrize("kind", RETURNS)
def test_what_a_model_returns(name: str, kind: str) -> None:
    plain = ready(Plain(2))
    want = explain(Probe(plain, layer="relu2"), inputs(2), brief(name), target=1)
    model = Wrapped(plain, RETURNS[kind]).eval()
    with warnings.catch_warnings():
        if kind == "record" and name in ("ablation-cam", "recipro-cam"):
            warnings.filterwarnings("ignore", "the model's graph", HeatproofWarning)
        maps = explain(Probe(model, layer="body.relu2"), inputs(2), brief(name), target=1)
    torch.testing.assert_close(maps, want, rtol=1e-3, atol=1e-4 * float(want.abs().max()))


@pytest.mark.parametrize("kind", ["module", "by keyword", "log", "functional"])
@pytest.mark.parametrize("score", ["probability", "logit", "margin"])
def test_softmax_at_the_end(kind: str, score: Any) -> None:
    plain = ready(Plain(2))
    model = {
        "module": nn.Sequential(plain, nn.Softmax(1)),
        "by keyword": Wrapped(plain, ByKeyword()),
        "log": Wrapped(plain, lambda z: z.log_softmax(1)),
        "functional": Wrapped(plain, lambda z: z.softmax(-1)),
    }[kind].eval()
    layer = "0.relu2" if kind == "module" else "body.relu2"
    comparing = [f"{name}:score={score}" for name in ("ablation-cam", "recipro-cam", "score-cam")]
    for name in ("grad-cam", "hires-cam", *comparing, "saliency"):
        want = explain(Probe(plain, layer="relu2"), inputs(2), name, target=1)
        maps = explain(Probe(model, layer=layer), inputs(2), name, target=1)
        torch.testing.assert_close(maps, want, rtol=1e-3, atol=1e-4 * float(want.abs().max()))


def test_one_output_is_two_classes() -> None:
    """A single column z is read as [-z/2, z/2]: the two classes' gradients are opposite."""
    for out in (nn.Identity(), nn.Flatten(0)):
        model = nn.Sequential(ready(Plain(2, classes=1)), out).eval()
        probe = Probe(model, layer="0.conv2", outputs="binary-logit")
        one, zero = (explain(probe, inputs(2), "hires-cam", target=c) for c in (1, 0))
        assert float(one.abs().max()) > 0
        torch.testing.assert_close(zero, -one)


@pytest.mark.parametrize("name", [n for n in CAMS if n != "cam"])
def test_a_layer_used_twice(name: str) -> None:
    model, x = ready(Twice(2)), inputs(2)
    with pytest.raises(LayerError, match=r"runs 2 times.*conv@1"):
        explain(Probe(model, layer="conv"), x, brief(name))
    first, second = (explain(Probe(model, layer=f"conv@{c}"), x, brief(name), target=1) for c in (1, 2))
    assert not torch.allclose(first, second)
    with pytest.raises(LayerError, match="conv"):
        explain(Probe(model, layer="conv@3"), x, brief(name))


@pytest.mark.parametrize("name", [n for n in CAMS if n != "cam"])
def test_a_graph_that_cannot_be_traced(name: str) -> None:
    """Control flow: said once where it costs something, and the maps are those of the traceable twin."""

    class Straight(Branching):
        def forward(self, x: Tensor) -> Any:
            return self.dense(self.mean(self.features(x) * 1.5).flatten(1))

    want = explain(Probe(ready(Straight(2)), layer="conv2"), inputs(2), brief(name), target=1)
    probe = Probe(ready(Branching(2)), layer="conv2")
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        maps = explain(probe, inputs(2), brief(name), target=1)
        explain(probe, inputs(2), brief(name), target=1)
    warned = [w for w in seen if issubclass(w.category, HeatproofWarning)]
    assert len(warned) == (1 if name in ("ablation-cam", "recipro-cam") else 0)
    torch.testing.assert_close(maps, want, rtol=1e-3, atol=1e-4 * float(want.abs().max()))


def test_a_model_that_depends_on_its_batch() -> None:
    model = ready(Mixing(2))
    probe = Probe(model, layer="conv2")
    with pytest.warns(HeatproofWarning, match="depends on the other samples"):
        explain(probe, inputs(2), "grad-cam")
    explain(probe, inputs(2), "grad-cam")  # said once: a second warning would be an error here


# Memory


def tight(limit: int = 4) -> nn.Module:
    """Raises what a GPU raises where a batch has more than ``limit`` rows."""

    def refuse(_: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        if len(arguments[0]) > limit:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    model = ready(Plain(2))
    for module in (model.conv1, model.conv2, model.dense):
        module.register_forward_pre_hook(refuse)
    return model


@pytest.mark.parametrize("name", [n for n in EVERY if not methods[n].control])
def test_out_of_memory_halves_the_batch(name: str) -> None:
    x = inputs(2, 10)
    want = explain(Probe(ready(Plain(2)), layer="relu2"), x, brief(name), target=1)
    model = tight()
    before = snapshot(model)
    probe = Probe(model, layer="relu2")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        maps = explain(probe, x, brief(name), target=1)
    assert any("out of memory" in str(w.message) for w in caught)
    torch.testing.assert_close(maps, want, rtol=1e-4, atol=2e-5 * float(want.abs().max()) + 1e-12)
    assert same(before, snapshot(model)) == []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        explain(probe, x, brief(name), target=1)  # what was learnt is remembered


def test_out_of_memory_with_one_sample() -> None:
    class Full(Plain):
        def forward(self, x: Tensor) -> Any:
            raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(HeatproofError, match="out of memory"):
        explain(Probe(ready(Full(2)), layer="relu2"), inputs(2, 1), "grad-cam")


# Bad input


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Without the tests' type checks, which would speak before heatproof can."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


BAD_INPUTS: dict[str, tuple[Callable[[Tensor], Any], str]] = {
    "nan": (lambda x: x.index_fill(0, torch.tensor([1]), float("nan")), "NaN or infinite.*1 of 3.*number 1"),
    "inf": (lambda x: x / 0, "NaN or infinite"),
    "no batch axis": (lambda x: x[0, 0], "expected"),
    "six axes": (lambda x: x[None, None], "expected"),
    "integers": (lambda x: x.to(torch.int64), "floating point"),
    "bool": (lambda x: x > 0, "floating point"),
    "complex": (lambda x: x.to(torch.complex64), "floating point"),
    "a string": (lambda x: "x.png", "expected a tensor"),
    "nothing": (lambda x: None, "expected a tensor"),
    "wrong channels": (lambda x: x[:, :1], "does not accept"),
    "no positions": (lambda x: x[..., :0], "empty"),
    "too small": (lambda x: x[..., :1, :1], "does not accept"),
}


@pytest.mark.parametrize("kind", BAD_INPUTS)
@pytest.mark.parametrize("name", ["grad-cam", "ablation-cam", "score-cam", "saliency"])
def test_bad_inputs(name: str, kind: str, unchecked: None) -> None:
    make, message = BAD_INPUTS[kind]
    model = ready(Plain(2))
    before = snapshot(model)
    with pytest.raises(InputError, match=message) as caught:
        explain(model, make(inputs(2)), name)
    assert "\n" not in str(caught.value)
    assert same(before, snapshot(model)) == []


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ([0, 1], "shape.*3 samples"),
        ([0, 1, 2, 3], "shape.*3 samples"),
        (torch.zeros(4, dtype=torch.int64), "shape.*3 samples"),
        (CLASSES, "out of range"),
        (-1, "out of range"),
        ([0, 1, 9], "class 9 is out of range.*0 to 3"),
        (1.0, "whole class numbers"),
        (torch.tensor([0.0, 1.0, 2.0]), "whole class numbers"),
        (True, "whole class numbers"),
        ("cat", "expected"),
        (torch.zeros(3, 0, dtype=torch.int64), "targets of shape"),
        (torch.zeros(2, 2, dtype=torch.int64), "shape.*3 samples"),
        (torch.zeros(3, 2, 2, dtype=torch.int64), "shape"),
        (Contrast(1, 1), "against itself"),
        (Contrast(1, 7), "out of range"),
        (Contrast([0, 1], 2), "shape.*3 samples"),
        (lambda raw: raw.sum(), "one number a sample"),
        (lambda raw: raw, "one number a sample"),
        (lambda raw: 1.0, "one number a sample"),
    ],
)
@pytest.mark.parametrize("name", ["grad-cam", "ablation-cam", "saliency"])
def test_bad_targets(name: str, target: Any, message: str, unchecked: None) -> None:
    model = ready(Plain(2))
    before = snapshot(model)
    with pytest.raises(InputError, match=message) as caught:
        explain(Probe(model, layer="relu2"), inputs(2), name, target=target)
    assert "\n" not in str(caught.value)
    assert same(before, snapshot(model)) == []


@pytest.mark.parametrize("name", CAMS)
def test_bad_layers(name: str) -> None:
    model, x = ready(Deaf(2)), inputs(2)
    for layer, error, message in (
        ("unused", LayerError, "never runs"),
        ("dense", LayerError, "no positions"),
        ("conv9", UnknownName, "did you mean 'conv1'|'conv2'"),
        ("", UnknownName, "unknown layer"),
        ("conv2@x", UsageError, "conv2"),
        ("conv2@0", UsageError, "conv2"),
        ("conv2@-1", UsageError, "conv2"),
        ([], LayerError, "empty list"),
        (nn.Conv2d(1, 1, 1), LayerError, "not part of this model"),
    ):
        with pytest.raises(error, match=message) as caught:
            explain(Probe(model, layer=layer), x, brief(name))  # type: ignore[arg-type]
        assert "\n" not in str(caught.value)
    with pytest.raises(LayerError, match="no convolution"):
        explain(nn.Sequential(nn.Flatten(), nn.Linear(240, CLASSES)), x, brief(name))


@pytest.mark.parametrize("name", [n for n in CAMS if "G" in methods[n].asks or n in ("finer-cam", "shapley-cam")])
def test_a_layer_that_no_gradient_reaches(name: str) -> None:
    class Cold(Plain):
        def forward(self, x: Tensor) -> Any:
            return self.dense(self.mean(self.features(x)).detach().flatten(1))

    model = ready(Cold(2))
    before = snapshot(model)
    with pytest.raises(LayerError, match="no gradient reaches"):
        explain(Probe(model, layer="relu2"), inputs(2), brief(name))
    assert same(before, snapshot(model)) == []


NO_SCORES: dict[str, Callable[[Tensor], Any]] = {
    "a string": lambda z: "cat",
    "nothing": lambda z: None,
    "segmentation": lambda z: z[:, :, None, None].expand(-1, -1, 4, 4),
    "boxes": lambda z: [{"boxes": z}],
    "integers": lambda z: z.argmax(1),
    "two heads": lambda z: (z, z[:, :3]),
}


@pytest.mark.parametrize("kind", NO_SCORES)
@pytest.mark.parametrize("name", ["grad-cam", "ablation-cam", "score-cam", "saliency", "finer-cam"])
def test_models_that_score_no_classes(name: str, kind: str) -> None:
    model = Wrapped(ready(Plain(2)), NO_SCORES[kind]).eval()
    with pytest.raises(InputError, match=r"the model returned (.*; expected class scores|several outputs)"):
        explain(Probe(model, layer="body.relu2"), inputs(2), name)


def test_bad_names_and_options(unchecked: None) -> None:
    model, x = ready(Plain(2)), inputs(2)
    with pytest.raises(UnknownName, match="did you mean 'grad-cam'"):
        explain(model, x, "gradcm")
    with pytest.raises(UnknownName, match="option"):
        explain(model, x, "is-cam:step=3")
    with pytest.raises(UsageError, match="expected int"):
        explain(model, x, "is-cam:steps=many")
    with pytest.raises(UsageError, match="empty list"):
        explain(model, x, [])
    with pytest.raises(InputError, match="index"):
        explain(model, x, "random", index=torch.arange(2))
    with pytest.raises(InputError, match=r"torch\.nn\.Module"):
        explain("resnet18", x, "grad-cam")  # type: ignore[call-overload]


@pytest.mark.parametrize(
    "text",
    [
        "is-cam:steps=0",
        "ss-cam:samples=0",
        "smooth-grad-cam-plus-plus:samples=0",
        "smooth-grad-cam-plus-plus:spread=-1.0",
        "finer-cam:classes=0",
        "centre:width=0.0",
    ],
)
def test_options_out_of_range_are_refused(text: str) -> None:
    """No NaN map, no raw error from torch."""
    with pytest.raises(UsageError) as caught:
        explain(Probe(ready(Plain(2)), layer="relu2"), inputs(2), text)
    assert "\n" not in str(caught.value)


# Targets


def test_top_classes_and_per_sample_targets() -> None:
    model, x = ready(Plain(2)), inputs(2)
    top = model(x).topk(2, dim=1).indices
    maps = explain(Probe(model, layer="relu2"), x, ["grad-cam", "edge"], target=top)
    assert maps["grad-cam"].shape == (3, 2, 10, 12)
    for column in range(2):
        want = explain(Probe(model, layer="relu2"), x, "grad-cam", target=top[:, column])
        torch.testing.assert_close(maps["grad-cam"][:, column], want)


def test_contrast_is_the_difference_of_logits() -> None:
    model, x = ready(Plain(2)), inputs(2)
    one, two = (explain(Probe(model, layer="relu2"), x, "hires-cam", target=c) for c in (1, 2))
    maps = explain(Probe(model, layer="relu2"), x, "hires-cam", target=Contrast(1, 2))
    torch.testing.assert_close(maps, one - two, rtol=1e-4, atol=1e-5)
    first, second = model(x).topk(2, dim=1).indices.T
    torch.testing.assert_close(
        explain(Probe(model, layer="relu2"), x, "hires-cam", target=Contrast()),
        explain(Probe(model, layer="relu2"), x, "hires-cam", target=Contrast(first, second)),
    )


@pytest.mark.parametrize("kind", ["tensor", "tuple", "boxes", "segmentation"])
def test_a_function_of_the_output(kind: str) -> None:
    """Detection, segmentation and regression: the user says which number."""
    plain, x = ready(Plain(2)), inputs(2)
    returns, pick = {
        "tensor": (lambda z: z, lambda raw: raw[:, 1]),
        "tuple": (lambda z: (z, z), lambda raw: raw[1][:, 1]),
        "boxes": (lambda z: [{"boxes": z}], lambda raw: raw[0]["boxes"][:, 1]),
        "segmentation": (lambda z: z[:, :, None, None].expand(-1, -1, 4, 4), lambda raw: raw[:, 1].mean((1, 2))),
    }[kind]
    model = Wrapped(plain, returns).eval()
    for name in ("grad-cam", "layer-cam", "ablation-cam", "score-cam", "saliency", "recipro-cam"):
        logit = f"{name}:score=logit" if methods[name].compares else name
        want = explain(Probe(plain, layer="relu2"), x, logit, target=1)
        maps = explain(Probe(model, layer="body.relu2"), x, name, target=pick)
        torch.testing.assert_close(maps, want, rtol=1e-4, atol=1e-5 * float(want.abs().max()))
        assert not maps.requires_grad
    for name in ("finer-cam", "shapley-cam"):
        with pytest.raises(NotApplicable, match="function"):
            explain(Probe(model, layer="body.relu2"), x, name, target=pick)


# Transformers


@pytest.mark.parametrize("name", EVERY)
def test_transformers(name: str) -> None:
    if name == "cam":
        pytest.skip("needs global average pooling behind the layer")
    if name in ("guided-backprop", "deconvnet", "guided-grad-cam"):
        pytest.skip("needs rectifiers")
    model, x = ready(Tokens()), inputs(2)[..., :8, :12].contiguous()
    before = snapshot(model)
    maps = explain(model, x, brief(name), target=1)
    assert maps.shape == (3, 8, 12)
    assert bool(torch.isfinite(maps).all())
    assert same(before, snapshot(model)) == []


@pytest.mark.parametrize("name", ATTENTION)
@pytest.mark.parametrize("fused", [True, False])
def test_attention(name: str, fused: bool) -> None:
    model, x = ready(Tokens(fused=fused)).train(), inputs(2, 4)[..., :8, :12].contiguous()
    before, attend = snapshot(model), nn.functional.scaled_dot_product_attention
    maps = explain(model, x, name, target=[0, 1, 2, 3])
    assert bool(torch.isfinite(maps).all())
    assert float(maps.std()) > 0
    for batch in (1, 3):
        torch.testing.assert_close(explain(Probe(model, batch=batch), x, name, target=[0, 1, 2, 3]), maps)
    torch.testing.assert_close(explain(ready(Tokens(fused=not fused)), x, name, target=[0, 1, 2, 3]), maps)
    assert same(before, snapshot(model)) == []
    assert nn.functional.scaled_dot_product_attention is attend
    with pytest.raises(NotApplicable, match="attention"):
        explain(ready(Plain(2)), inputs(2), name)


# The registry


def test_registry() -> None:
    assert default_controls() == ("random", "edge", "absolute-input", "centre")
    assert set(names(control=True)) == set(default_controls())
    assert set(ATTENTION) == {"attention-rollout", "transformer-attribution", "le-grad"}
    assert "grad-cam" in names(family="cam", control=False)
    assert len(CAMS) >= 20
    assert [str(s) for s in parse(["grad-cam", "is-cam:steps=3", "grad-cam"])] == ["grad-cam", "is-cam:steps=3"]
    for name in methods:
        entry = methods[name]
        assert entry.summary.endswith((".", ")")), name
        assert len(entry.options) <= 6, name
        assert len((entry.function.__doc__ or "").splitlines()) <= 20, name
        assert bool(entry.description) is entry.control, name
        assert entry.range[0] == 0 or "at least 0" not in entry.notes.get("Range", ""), name


def test_residual_blocks_need_no_layer() -> None:
    """One ReLU module shared by the whole network: the automatic choice must not trip over it."""
    model, x = ready(Residual(2)), inputs(2)
    maps = explain(model, x, ["grad-cam", "ablation-cam"])
    assert bool(torch.isfinite(maps["grad-cam"]).all())
