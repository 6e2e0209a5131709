"""What is remembered of a model is never stale, and the model is given back as it was."""

from __future__ import annotations

import copy
import gc
import threading
import types
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import heatproof as hp
from heatproof.errors import HeatproofError, InputError, LayerError
from heatproof.probe import Probe, duplicate
from heatproof.probe.prepared import memory_of
from heatproof.probe.weights import digest

from .toys import CLASSES, CONV, NORM, Plain, inputs, ready, same, snapshot

METHODS = ("occlusion", "ablation-cam", "rise:masks=40", "grad-cam", "saliency")
# The traced graph cannot be used where a hook is set, which is said in a warning.
pytestmark = pytest.mark.filterwarnings("ignore:the model's graph could not be followed")


class Warm(Plain):
    """A plain network with what a user may change besides weights."""

    table: Tensor

    def __init__(self, rank: int = 2) -> None:
        super().__init__(rank)
        self.temperature = 1.0
        self.options = {"shift": 0.0, "powers": [1.0, 1.0]}
        self.settings = types.SimpleNamespace(scale=1.0)
        self.activation = F.relu
        self.loose = {"gain": torch.ones(())}
        self.register_buffer("table", torch.ones(CLASSES))
        self.softmax = nn.Identity()

    def forward(self, x: Tensor) -> Any:
        h = self.activation(self.features(x) - self.options["shift"])  # type: ignore[operator]
        z = self.dense(self.mean(h).flatten(1)) * self.table * self.loose["gain"]
        return self.softmax(z * self.settings.scale / self.temperature * self.options["powers"][1])  # type: ignore[index]


def data(model: Any) -> None:
    model.conv1.weight.data[0, 0, 0] += 1.0


def numpy(model: Any) -> None:
    model.conv2.weight.detach().numpy()[0] *= -3


def in_place(model: Any) -> None:
    with torch.no_grad():
        model.norm.weight.mul_(-2)


def step(model: Any) -> None:
    optimiser = torch.optim.SGD(model.parameters(), lr=0.5)
    model(inputs(2)).square().sum().backward()
    optimiser.step()
    optimiser.zero_grad()


def load(model: Any) -> None:
    model.load_state_dict(ready(Warm(), seed=9).state_dict())


def swap(model: Any) -> None:
    """As averaged weights are swapped in for validation."""
    for mine, average in zip(model.parameters(), ready(Warm(), seed=5).parameters(), strict=True):
        kept = mine.data.clone()
        mine.data.copy_(average.data)
        average.data.copy_(kept)


def inference(model: Any) -> None:
    with torch.inference_mode():
        model.dense.weight.copy_(-2 * model.dense.weight)


def assigned(model: Any) -> None:
    model.conv1.weight.data = -model.conv1.weight.data * 2


def buffer(model: Any) -> None:
    model.norm.running_mean.add_(2.0)


def attribute_tensor(model: Any) -> None:
    model.loose["gain"].fill_(-2.0)


def exchanged(model: Any) -> None:
    """The sum of all weights stays as it was."""
    weight = model.conv2.weight.data
    weight[[0, 1]] = weight[[1, 0]]


def temperature(model: Any) -> None:
    model.temperature = 0.25


def eps(model: Any) -> None:
    model.norm.eps = 3.0


def momentary(model: Any) -> None:
    model.options["shift"] = 0.4


def nested(model: Any) -> None:
    model.options["powers"][1] = -2.0


def configured(model: Any) -> None:
    model.settings.scale = -3.0


def activation(model: Any) -> None:
    model.activation = torch.tanh


def module(model: Any) -> None:
    model.relu2 = nn.Tanh()


def head(model: Any) -> None:
    model.dense = ready(nn.Linear(6, CLASSES), seed=4)


def hook(model: Any) -> None:
    model.norm.register_forward_hook(lambda _, __, out: out * -2)


def pre_hook(model: Any) -> None:
    model.conv2.register_forward_pre_hook(lambda _, args: (args[0] * -2,))


def instance_forward(model: Any) -> None:
    old = model.forward
    model.forward = lambda x: -3 * old(x)


def class_forward(model: Any) -> None:
    class Other(type(model)):  # type: ignore[misc]
        def forward(self, x: Tensor) -> Any:
            return -2 * super().forward(x)

    model.__class__ = Other


def parametrised(model: Any) -> None:
    nn.utils.parametrizations.weight_norm(model.conv2)
    with torch.no_grad():
        model.conv2.parametrizations.weight.original0.mul_(-2)


def pruned(model: Any) -> None:
    import torch.nn.utils.prune as prune

    prune.l1_unstructured(model.conv2, "weight", amount=0.7)


def logits(model: Any) -> None:
    model.softmax = nn.Softmax(1)


CHANGES: list[Callable[[Any], None]] = [
    data, numpy, in_place, step, load, swap, inference, assigned, buffer, attribute_tensor, exchanged, temperature, eps,
    momentary, nested, configured, activation, module, head, hook, pre_hook, instance_forward, class_forward,
    parametrised, pruned, logits,
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
@pytest.mark.parametrize("engine", ["bare", "auto", "optimised"])
def test_every_change_of_the_model_is_seen(change: Callable[[Any], None], engine: Any) -> None:
    """Each method's map after a change is that of a new object with the same weights and attributes."""
    model, x = ready(Warm()), inputs(2)
    layer = "conv2" if change is not module else "relu2"
    asked: Any = Probe(model, layer=layer, engine=engine) if engine != "bare" else model
    before = hp.explain(asked, x, list(METHODS), target=1)
    change(model)
    after = hp.explain(asked, x, list(METHODS), target=1)
    fresh: Any = Probe(duplicate(model), layer=None if engine == "bare" else layer, engine="plain")
    if change is instance_forward:  # a copy of the model would still call the first
        fresh = Probe(Times(copy.deepcopy(ready(Warm())), -3), layer=None if engine == "bare" else f"body.{layer}")
    want = hp.explain(fresh, x, list(METHODS), target=1)
    for name in METHODS:
        scale = float(want[name].abs().max()) + 1e-6
        torch.testing.assert_close(after[name], want[name], rtol=1e-4, atol=1e-4 * scale, msg=name)
    assert change is logits or any(not torch.allclose(before[name], after[name], rtol=1e-3) for name in METHODS)


class Times(nn.Module):
    def __init__(self, body: nn.Module, factor: float) -> None:
        super().__init__()
        self.body, self.factor = body, factor

    def forward(self, x: Tensor) -> Any:
        return self.factor * self.body(x)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_a_softmax_taken_away_changes_what_the_output_is_taken_for(rank: int) -> None:
    model, x = ready(Warm(rank)), inputs(rank)
    z = model(x).detach()
    model.softmax = nn.Softmax(1)
    probe = Probe(model, score="logit")
    torch.testing.assert_close(probe.logits(x), z, rtol=1e-4, atol=1e-5)
    model.softmax = nn.Identity()
    torch.testing.assert_close(probe.logits(x), z, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(Probe(model, score="logit").logits(x), z, rtol=1e-4, atol=1e-5)


def test_frozen_weights_give_the_same_maps() -> None:
    model, x = ready(Warm()), inputs(2)
    before = hp.explain(model, x, list(METHODS))
    model.requires_grad_(False)
    for name, map in hp.explain(model, x, list(METHODS)).items():
        torch.testing.assert_close(map, before[name])


def test_a_digest_sees_every_bit() -> None:
    model = nn.Sequential(nn.Linear(700, 300), nn.Linear(3, 5)).double()
    seen = {digest(model)}
    for where in (0, 1, 699, 700, 209_999):
        flat = model[0].weight.data.view(-1)
        flat[where] = torch.nextafter(flat[where], torch.tensor(9.0).double())
        seen.add(digest(model))
    flat[[3, 4]] = flat[[4, 3]]
    seen.add(digest(model))
    flat[[3, 703]] = flat[[703, 3]]
    seen.add(digest(model))
    flat[5] = -flat[5]
    flat[1005] = -flat[1005]
    seen.add(digest(model))
    model[1].bias.data[4] += 1e-12
    seen.add(digest(model))
    assert len(seen) == 10
    assert digest(model) == digest(copy.deepcopy(model))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int8, torch.bool, torch.complex64])
def test_a_digest_reads_every_type(dtype: torch.dtype) -> None:
    model = nn.Linear(2, 2)
    model.register_buffer("more", torch.zeros(5, 3).to(dtype).T)
    before = digest(model)
    model.more[2, 4] = 1  # type: ignore[index]
    assert digest(model) != before


# No copy where one could differ


class Counted(nn.ReLU):
    """Counts the rows it sees; as a class of its own it is part of every copy."""

    rows = 0

    def forward(self, x: Tensor) -> Tensor:
        Counted.rows += len(x)
        return super().forward(x)


@pytest.mark.parametrize("method", ["occlusion", "rise:masks=40", "ablation-cam", "score-cam"])
@pytest.mark.parametrize("kind", ["forward", "pre", "backward"])
def test_a_hook_sees_every_pass(method: str, kind: str) -> None:
    """The passes of the hooked model itself, also where a copy would be quicker."""
    model, x, rows = ready(Plain(2)), inputs(2), list[int]()
    if kind == "forward":
        model.norm.register_forward_hook(lambda _, args, __: rows.append(len(args[0])))
    elif kind == "pre":
        model.norm.register_forward_pre_hook(lambda _, args: rows.append(len(args[0])))
    else:
        model.norm.register_full_backward_hook(lambda *_: None)
        model.norm.register_forward_hook(lambda _, args, __: rows.append(len(args[0])))
    probe = Probe(model, layer="conv2", engine="optimised")
    hp.explain(probe, x, method)
    assert sum(rows) == probe.passes["forward"] > 20


def test_a_hook_that_changes_one_sample_only_is_obeyed() -> None:
    """Rows three and later: a comparison of the first two samples would not see it."""
    model, x = ready(Plain(2)), inputs(2, 5)

    def change(_: nn.Module, __: Any, out: Tensor) -> Tensor:
        return torch.where(torch.arange(len(out)).reshape(-1, 1, 1, 1) > 2, -out, out)

    model.norm.register_forward_hook(change)
    want = hp.explain(Probe(model, engine="plain"), x, "occlusion", target=0)
    torch.testing.assert_close(hp.explain(model, x, "occlusion", target=0), want)


class Late(nn.Module):
    """The folding of its BatchNorm is right for the first samples only: a large offset cancels in float32."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.dense = nn.Conv2d(2, 4, 1), nn.BatchNorm2d(4), nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.dense(self.norm(self.conv(x)).mean((2, 3)))


def test_a_copy_is_compared_on_every_sample() -> None:
    model, x = ready(Late()), inputs(2, 4)
    with torch.no_grad():
        model.norm.running_var.fill_(1e-8)
    x[3] *= 1e4
    probe = Probe(model, score="logit")
    runner = probe.runner(x)
    chosen = runner.quickest(x, 50)
    if chosen is not model:
        with torch.no_grad():
            want, got = model(x), chosen(x)
        assert float((want - got).abs().max()) <= 1e-5 * (1 + float(want.abs().max()))
    assert runner.passes["forward"] == 1 + 2 * len(x)


def test_no_copy_is_made_for_few_passes() -> None:
    model, x = ready(Plain(2)), inputs(2)
    probe = Probe(model)
    assert probe.runner(x).quickest(x, 19) is model
    assert not memory_of(model).copies.whole
    assert probe.runner(x).quickest(x, 20) is not model


# The model is given back


class Caching(Plain):
    """Keeps what depends on its weights while it evaluates, and forgets it when it is put into training, as LeViT does.

    Also counts its calls in an attribute, in a list, in a dict and in a buffer, and makes a buffer anew.
    """

    calls: Tensor
    fresh: Tensor

    def __init__(self, rank: int = 2) -> None:
        super().__init__(rank)
        self.cache: dict[str, Tensor] = {}
        self.count, self.log, self.by_size = 0, list[int](), {"sizes": dict[int, int]()}
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        self.register_buffer("fresh", torch.zeros(2))

    def train(self, mode: bool = True) -> Caching:
        super().train(mode)
        if mode:
            self.cache = {}
        return self

    def forward(self, x: Tensor) -> Any:
        self.count += 1
        self.calls += 1
        self.log.append(len(x))
        self.by_size["sizes"][len(x)] = self.count
        self.fresh = self.fresh + 1
        self.last = x
        if self.training or "scale" not in self.cache:
            scale = self.dense.weight.abs().mean()
            if not self.training:
                self.cache["scale"] = scale
        else:
            scale = self.cache["scale"]
        return super().forward(x) * scale + torch.rand(()) * 0


ALL = ("grad-cam", "ablation-cam", "occlusion", "saliency")


@pytest.mark.filterwarnings("ignore:the model draws random numbers")
@pytest.mark.parametrize("mode", ["train", "eval", "mixed"])
@pytest.mark.parametrize("nest", [False, True])
def test_nothing_is_left_behind(mode: str, nest: bool) -> None:
    inner = ready(Caching())
    model: Any = nn.Sequential(inner, nn.Identity()) if nest else inner
    x, state = inputs(2), torch.random.get_rng_state()
    model.train(mode != "eval")
    if mode == "mixed":
        inner.norm.eval()
        inner.drop.eval()
    inner.dense.weight.grad = torch.ones_like(inner.dense.weight)
    before, held = snapshot(model), (inner.count, list(inner.log), dict(inner.cache), copy.deepcopy(inner.by_size))
    probe = Probe(model, layer="0.conv2" if nest else "conv2")
    for method in ALL:
        hp.explain(probe, x, method)
    assert same(before, snapshot(model)) in ([], [k for k in before if "calls" in k])
    assert (inner.count, inner.log, inner.cache, inner.by_size) == held
    assert int(inner.calls) == 0
    assert not hasattr(inner, "last")
    assert torch.equal(state, torch.random.get_rng_state())


@pytest.mark.filterwarnings("ignore:the model draws random numbers")
def test_a_cache_of_the_evaluation_mode_does_not_outlive_the_weights() -> None:
    model, x = ready(Caching()).train(), inputs(2)
    hp.explain(model, x, "grad-cam")
    with torch.no_grad():
        model.dense.weight.mul_(-3)
    want = hp.explain(copy.deepcopy(model), x, "hires-cam", target=0)
    torch.testing.assert_close(hp.explain(model, x, "hires-cam", target=0), want)
    torch.testing.assert_close(Probe(model).logits(x), copy.deepcopy(model).eval()(x).detach())


class Merging(nn.Linear):
    """Low-rank weights that are merged for evaluation and taken out again, which rounds."""

    merged = False

    def train(self, mode: bool = True) -> Merging:
        super().train(mode)
        if mode == self.merged:
            self.weight.data += (-1 if mode else 1) * 0.1 * self.weight.detach().sin()
            self.merged = not mode
        return self


def test_weights_that_are_merged_for_evaluation_come_back_to_the_bit() -> None:
    model, x = ready(Plain(2)), inputs(2)
    model.dense = Merging(6, CLASSES)
    model.train()
    before = model.dense.weight.detach().clone()
    z = hp.Probe(model).logits(x)
    assert torch.equal(model.dense.weight, before)
    assert not model.dense.merged
    assert all(module.training for module in model.modules())
    torch.testing.assert_close(z, copy.deepcopy(model).eval()(x).detach())


class Frozen(Plain):
    """Keeps its BatchNorm in evaluation mode, as fine-tuned backbones do."""

    def train(self, mode: bool = True) -> Frozen:
        super().train(mode)
        self.norm.eval()
        return self


def test_exact_flags_come_back() -> None:
    model, x = ready(Frozen(2)).train(), inputs(2)
    model.conv1.eval()
    flags = [module.training for module in model.modules()]
    hp.explain(model, x, "grad-cam")
    assert flags == [module.training for module in model.modules()]


@pytest.mark.filterwarnings("ignore:the model draws random numbers")
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("kind", [Plain, Caching])
def test_after_an_error_too(error: type[BaseException], kind: Any) -> None:
    model, x = ready(kind(2)).train(), inputs(2)
    probe = Probe(model, layer="conv2")
    probe.survey(x)

    class Breaking(nn.ReLU):
        def forward(self, x: Tensor) -> Tensor:
            raise error("stop")

    model.relu2 = Breaking()
    before = snapshot(model)
    with pytest.raises((error, InputError)):
        hp.explain(probe, x, "grad-cam")
    assert same(before, snapshot(model)) in ([], [k for k in before if "calls" in k])
    assert all(module.training for module in model.modules())


def test_a_model_is_not_kept_alive() -> None:
    model, x = ready(Warm()), inputs(2)
    model.itself = [model.features]  # a way back to the model from what it holds
    hp.explain(model, x, ["grad-cam", "ablation-cam", "occlusion"])
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None


def test_two_threads_may_ask_one_model() -> None:
    model, x = ready(Plain(2)).train(), inputs(2)
    probe = Probe(model, layer="conv2")
    want = hp.explain(Probe(copy.deepcopy(model), layer="conv2"), x, "grad-cam")
    maps: list[Tensor] = []

    def work() -> None:
        maps.extend(hp.explain(probe, x, "grad-cam") for _ in range(6))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(maps) == 24
    for map in maps:
        torch.testing.assert_close(map, want)
    assert all(module.training for module in model.modules())


# Forms of models


def test_compiled_models_are_read_as_they_were_written() -> None:
    plain, x = ready(Plain(2)), inputs(2)
    want = hp.explain(plain, x, "grad-cam")
    compiled: Any = torch.compile(plain, backend="eager")
    torch.testing.assert_close(hp.explain(compiled, x, "grad-cam"), want)
    for layer in ("relu2", "_orig_mod.relu2", compiled.relu2):
        torch.testing.assert_close(hp.explain(Probe(compiled, layer=layer), x, "grad-cam"), want)


def test_a_compiled_part() -> None:
    plain, x = nn.Sequential(ready(Plain(2)), nn.Identity()), inputs(2)
    want = hp.explain(Probe(plain, layer="0.conv2"), x, ["grad-cam", "occlusion"])
    plain[0] = torch.compile(plain[0], backend="eager")  # type: ignore[assignment]
    for layer in ("0.conv2", "0._orig_mod.conv2"):
        maps = hp.explain(Probe(plain, layer=layer), x, ["grad-cam", "occlusion"])
        for name, map in maps.items():
            torch.testing.assert_close(map, want[name], rtol=1e-4, atol=1e-6)


def test_data_parallel_models() -> None:
    plain, x = ready(Plain(2)), inputs(2)
    want = hp.explain(plain, x, "grad-cam")
    wrapped = nn.DataParallel(plain)
    for layer in (None, "relu2", "module.relu2"):
        torch.testing.assert_close(hp.explain(Probe(wrapped, layer=layer), x, "grad-cam"), want)
    wrapped.register_forward_hook(lambda *_: None)
    with pytest.raises(InputError, match="DataParallel with hooks"):
        Probe(wrapped)


@pytest.fixture
def made_under_inference() -> nn.Module:
    with torch.inference_mode():
        return ready(Plain(2))


@pytest.mark.parametrize("method", ["grad-cam", "saliency", "occlusion", "ablation-cam", "shapley-cam"])
def test_a_model_made_under_inference_mode(made_under_inference: nn.Module, method: str) -> None:
    x = inputs(2)
    want = hp.explain(ready(Plain(2)), x, method)
    torch.testing.assert_close(hp.explain(made_under_inference, x, method), want, rtol=1e-4, atol=1e-6)
    assert all(weight.is_inference() for weight in made_under_inference.parameters())


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_inside_no_grad_and_inference_mode(mode: Any) -> None:
    model, x = ready(Plain(2)), inputs(2)
    methods = ["grad-cam", "saliency", "occlusion", "ablation-cam"]
    metrics = ["deletion", "parameter-randomisation", "max-sensitivity", "effective-complexity", "infidelity"]

    def explain(model: Any, x: Tensor, **options: Any) -> Tensor:
        return hp.explain(model, x, "grad-cam", **options)

    want = hp.explain(model, x, methods)
    scores = hp.score(model, x, want["grad-cam"], metrics, explain=explain)
    with mode():
        inside = x + 0
        maps = hp.explain(model, inside, methods)
        again = hp.score(model, inside, maps["grad-cam"], metrics, explain=explain)
        gradient = Probe(model).gradient(inside)
        A, G = Probe(model, layer="conv2").taps(inside)
        tail = Probe(model, layer="conv2").tail(A, inside)
    for name in methods:
        torch.testing.assert_close(maps[name], want[name])
    for name in metrics:
        torch.testing.assert_close(again[name], scores[name])
    torch.testing.assert_close(gradient, Probe(model).gradient(x))
    assert len(G) == len(tail) == len(x)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype: torch.dtype) -> None:
    model, x = ready(Plain(2)), inputs(2)
    want = hp.explain(model, x, ["grad-cam", "occlusion", "ablation-cam"], target=0)
    for name, map in hp.explain(model.to(dtype), x, list(want), target=0).items():
        assert map.dtype == torch.float32
        torch.testing.assert_close(map, want[name], rtol=0.2, atol=0.1 * float(want[name].abs().max()))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Plain(2).to("meta"), "meta device"),
        (lambda: nn.Sequential(nn.LazyConv2d(4, 3), nn.Flatten(), nn.LazyLinear(3)), "lazy layer"),
    ],
    ids=["meta", "lazy"],
)
def test_models_without_values(build: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        hp.explain(build(), inputs(2), "grad-cam")


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("how", ["script", "trace"])
def test_scripted_models(how: str) -> None:
    plain, x = ready(Plain(2)), inputs(2)
    scripted: Any = torch.jit.trace(plain, x) if how == "trace" else torch.jit.script(nn.Sequential(*plain.children()))
    if how == "script":
        plain = ready(nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(240, CLASSES)))
        scripted = torch.jit.script(plain)
    for method in ("occlusion", "rise:masks=40", "saliency"):
        torch.testing.assert_close(hp.explain(scripted, x, method), hp.explain(plain, x, method), rtol=1e-4, atol=1e-6)
    with pytest.raises(LayerError, match="TorchScript"):
        hp.explain(scripted, x, "grad-cam")
    with torch.no_grad():
        next(scripted.parameters()).mul_(-2)
        next(plain.parameters()).copy_(next(scripted.parameters()))
    torch.testing.assert_close(
        hp.explain(scripted, x, "occlusion"), hp.explain(plain, x, "occlusion"), rtol=1e-4, atol=1e-6
    )


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")
def test_quantised_models() -> None:
    plain, x = ready(Plain(2)), inputs(2)
    quantised = torch.ao.quantization.quantize_dynamic(plain, {nn.Linear}, torch.qint8)
    hp.explain(quantised, x, "occlusion")
    for method in ("saliency", "grad-cam"):
        with pytest.raises(HeatproofError, match="quantised"):
            hp.explain(quantised, x, method)


def test_graph_modules_and_exported_programs() -> None:
    plain, x = ready(Plain(2)), inputs(2)
    want = hp.explain(plain, x, ["saliency", "occlusion"])
    graph = torch.fx.symbolic_trace(plain)
    program = torch.export.export(plain, (x,), dynamic_shapes=({0: torch.export.Dim("n", min=1)},)).module()
    for model in (graph, program):
        for name, map in hp.explain(model, x, ["saliency", "occlusion"]).items():
            torch.testing.assert_close(map, want[name], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(hp.explain(graph, x, "grad-cam"), hp.explain(plain, x, "grad-cam"))


class Keyword(Plain):
    def forward(self, x: Tensor, **options: Any) -> Any:
        return super().forward(x) * options.get("scale", 1.0)


class Dict(Plain):
    def forward(self, batch: dict[str, Tensor]) -> Any:
        return super().forward(batch["image"])


def test_other_ways_to_call() -> None:
    x = inputs(2)
    torch.testing.assert_close(hp.explain(ready(Keyword(2)), x, "grad-cam"), hp.explain(ready(Plain(2)), x, "grad-cam"))
    with pytest.raises(InputError, match="does not accept"):
        hp.explain(ready(Dict(2)), x, "grad-cam")


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("norm", ["weight_norm", "spectral_norm"])
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_parametrised_models(rank: int, norm: str) -> None:
    model, x = ready(Plain(rank)), inputs(rank)
    getattr(nn.utils.parametrizations, norm)(model.conv2)
    maps = hp.explain(model, x, ["grad-cam", "occlusion", "ablation-cam"])
    for name, map in hp.explain(Probe(model, engine="plain"), x, list(maps)).items():
        torch.testing.assert_close(map, maps[name])
    assert CONV[rank] is not NORM[rank]
