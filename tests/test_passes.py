"""Every pass through the model or a copy of it is counted: against an observer that sees the operations themselves."""

from __future__ import annotations

import copy
import functools
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import heatproof as hp
from heatproof.errors import NotApplicable
from heatproof.methods import methods
from heatproof.metrics import metrics
from heatproof.probe import Probe
from heatproof.records import Samples
from heatproof.registry import Spec

from .toys import CLASSES, CONV, NORM, ready

CHANNELS, WIDTH = 3, 5  # of the input and before the last layer: no other layer has as many
pytestmark = pytest.mark.filterwarnings("ignore:the model's graph could not be followed")


class Net(nn.Module):
    """conv, norm, ReLU, conv, ReLU, mean, dense: first and last layer are told by their widths."""

    def __init__(self, rank: int) -> None:
        super().__init__()
        self.first = CONV[rank](CHANNELS, 8, 3, padding=1)
        self.norm, self.relu = NORM[rank](8), nn.ReLU()
        self.last = CONV[rank](8, WIDTH, 3, padding=1)
        self.dense = nn.Linear(WIDTH, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.dense(self.relu(self.last(self.relu(self.norm(self.first(x))))).flatten(2).mean(2))


class Observer(TorchDispatchMode):
    """Rows that reach the first convolution and the last layer, of whichever object, by their shapes."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = Counter[str]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket._qualified_op_name.removeprefix("aten::")
        shapes = [tuple(arg.shape) for arg in args if isinstance(arg, Tensor)]
        if name in ("convolution", "conv1d", "conv2d", "conv3d") and shapes[1][1] == CHANNELS:
            self.rows["first"] += shapes[0][0]
        elif (name, shapes[1:2]) == ("linear", [(CLASSES, WIDTH)]) or (name, shapes[2:]) == (
            "addmm",
            [(WIDTH, CLASSES)],
        ):
            self.rows["last"] += shapes[name == "addmm"][0]
        elif name == "bmm" and shapes[1][1:] == (1, CLASSES):  # one channel of the last layer switched off at a time
            self.rows["last"] += shapes[0][0] * shapes[0][1]
        return func(*args, **(kwargs or {}))


@contextmanager
def observed(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[str]]:
    """What goes through the first and the last layer in the block, and what gradients are asked for."""
    observer, grad, within = Observer(), torch.autograd.grad, [False]

    def counted(outputs: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        first = inputs if isinstance(inputs, Tensor) else inputs[0]
        outer, within[0] = within[0], True  # a function mode has torch call it once more
        observer.rows["backward"] += 0 if outer else len(first)
        try:
            return grad(outputs, inputs, *args, **kwargs)
        finally:
            within[0] = outer

    with monkeypatch.context() as patch, observer:
        patch.setattr(torch.autograd, "grad", counted)
        yield observer.rows


def check(probe: Probe, rows: Counter[str]) -> None:
    """Passes that begin at the first layer are forward ones; what reaches the last layer besides are tails."""
    assert probe.passes["forward"] == rows["first"]
    assert probe.passes["backward"] == rows["backward"]
    assert probe.passes["forward"] + probe.passes["tail"] == rows["last"]


def net(rank: int) -> tuple[nn.Module, Tensor]:
    x = torch.randn(3, CHANNELS, *(12,) * rank, generator=torch.Generator().manual_seed(rank))
    return ready(Net(rank)), x


@pytest.mark.parametrize("rank", [1, 2])
@pytest.mark.parametrize("name", list(methods))
def test_methods(rank: int, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = net(rank)
    probe = Probe(model, layer="last", engine="auto")
    options = {"masks": 40, "segments": 6, "samples": 70 if "segments" in methods[name].options else 5}
    spec = Spec(name, tuple(sorted((k, v) for k, v in options.items() if k in methods[name].options)))
    with observed(monkeypatch) as rows:
        try:
            hp.explain(probe, x, spec)
        except NotApplicable as reason:
            pytest.skip(str(reason))
    assert rows["first"] > 0 or probe.passes.total() == 0
    check(probe, rows)


@pytest.mark.parametrize("rank", [1, 2])
@pytest.mark.parametrize("name", list(metrics))
def test_metrics(rank: int, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of randomised copies and of a model trained on other labels too."""
    model, x = net(rank)
    other = copy.deepcopy(model)
    probe = Probe(model, layer="last", engine="auto")
    explain = functools.partial(hp.explain, method="grad-cam")
    map = hp.explain(Probe(copy.deepcopy(model), layer="last"), x, "grad-cam")
    mask = torch.zeros(len(x), *x.shape[2:], dtype=torch.bool)
    mask[:, 3:6] = True
    more = {"fill": torch.cat([x, 3 - 2 * x])} if "evidence" in metrics[name].needs else {}
    with observed(monkeypatch) as rows:
        try:
            hp.score(
                probe, x, map, name, explain=explain, mask=mask, relearnt=lambda _: other, retrained=lambda _: other,
                seed=1, **more,
            )  # fmt: skip
        except NotApplicable as reason:
            pytest.skip(str(reason))
    check(probe, rows)


@pytest.mark.parametrize("engine", ["auto", "optimised", "plain"])
def test_first_and_later_calls(engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = net(2)
    for asked in (model, model):
        probe = Probe(asked, layer="last", engine=engine)
        with observed(monkeypatch) as rows:
            hp.explain(probe, x, ["grad-cam", "ablation-cam", "occlusion", "score-cam", "recipro-cam"])
            probe.logits(x)
        check(probe, rows)


def test_a_study(monkeypatch: pytest.MonkeyPatch) -> None:
    """Predictions, maps, scores, self-checks, randomised copies."""
    model, x = net(1)
    x = x.repeat(2, 1, 1) + torch.linspace(0, 1, 6)[:, None, None]
    samples = Samples(x, torch.tensor([0, 1, 2, 3, 0, 1]), classes=tuple("abcd"))
    probe = Probe(model, layer="last")
    with observed(monkeypatch) as rows:
        found = hp.study(
            probe, samples, ["grad-cam", "occlusion", "random"], ["deletion", "parameter-randomisation"], progress=False
        )
    check(probe, rows)
    counted = Counter({kind: int(count) for kind, count in found.about["passes"].items()})
    assert probe.passes - counted == {"forward": 1}  # to see how the model is to be asked, before the study begins
