"""Scores equal those of Quantus where Quantus is right; skipped where it is not installed.

`PAIRS` lists the metrics. What is left out on purpose: SSIM of flattened maps, ROAD and sensitivity-n (which count the
first batch only), and completeness as an exact comparison of floating-point numbers.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from heatproof.metrics import case, score
from heatproof.metrics.faithfulness import _drawn
from heatproof.probe import Probe

from .toys import SIZE, Plain, inputs, ready

N = 4
Toy = dict[str, Any]
Pair = tuple[np.ndarray, np.ndarray]

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    quantus = pytest.importorskip("quantus", reason="needs quantus (pip install heatproof[benchmark])")


class Softmaxed(nn.Module):
    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x).softmax(1)


@pytest.fixture(scope="module")
def toy() -> Toy:
    model, x = ready(Plain(1, channels=1)), inputs(1, N, channels=1)
    mask = torch.zeros(N, *SIZE[1], dtype=torch.bool)
    mask[:, 5:14] = True
    map = torch.randn(N, *SIZE[1], generator=torch.Generator().manual_seed(0))
    return {"model": model, "x": x, "map": map, "mask": mask, "target": model(x).argmax(1).detach()}


def theirs(
    name: str,
    toy: Toy,
    *,
    mask: bool = False,
    map: torch.Tensor | None = None,
    explain: Callable[..., np.ndarray] | None = None,
    **options: Any,
) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        metric = getattr(quantus, name)(
            disable_warnings=True, display_progressbar=False, normalise=False, abs=False, **options
        )
        values = metric(
            model=Softmaxed(toy["model"]).eval(),
            x_batch=toy["x"].numpy(),
            y_batch=toy["target"].numpy(),
            a_batch=(toy["map"] if map is None else map)[:, None].numpy(),
            device="cpu",
            softmax=False,
            **({"s_batch": toy["mask"][:, None].numpy()} if mask else {}),
            **({"explain_func": explain} if explain else {}),
        )
    return np.asarray(values, dtype=np.float64)


def ours(metric: str, toy: Toy, map: torch.Tensor | None = None, **options: Any) -> np.ndarray:
    map = toy["map"] if map is None else map
    return score(Probe(toy["model"]), toy["x"], map, metric, target=toy["target"], mask=toy["mask"], **options).numpy()


def of_map(metric: str, name: str, toy: Toy, _: pytest.MonkeyPatch, *, mask: bool = False, signed: bool) -> Pair:
    """Metrics that look at the map alone, and at the mask."""
    map = toy["map"] if signed else toy["map"].abs()
    return ours(metric, toy, map), theirs(name, toy, map=map, mask=mask)


def pixel_flipping(toy: Toy, _: pytest.MonkeyPatch) -> Pair:
    """Their curve starts after the first step, ours before it."""
    whole = case(Probe(toy["model"]), toy["x"], toy["map"], target=toy["target"], fill="black")
    scores = whole.removal_curve(first="most", steps=SIZE[1][0]).values[:, 1:]
    return scores.numpy(), theirs("PixelFlipping", toy, features_in_step=1, perturb_baseline=0.0)


def correlation_of_the_same_subsets(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> Pair:
    count, runs, size = SIZE[1][0], 30, 5
    whole = case(Probe(toy["model"]), toy["x"], toy["map"], target=toy["target"], fill="black")
    subsets = [
        removed[i].nonzero()[:, 0].numpy()
        for removed in _drawn(whole, runs, size, torch.arange(count), count)
        for i in range(N)
    ]
    waiting = iter(subsets)
    monkeypatch.setattr(np.random, "choice", lambda *_, **__: next(waiting))
    want = theirs(
        "FaithfulnessCorrelation", toy, nr_runs=runs, subset_size=size, perturb_baseline=0.0, return_aggregate=False
    )
    return ours(f"faithfulness-correlation:runs={runs},subset={size / count}", toy, fill="black"), want


def input_x_gradient(model: Any, x: torch.Tensor, *, target: Any, index: torch.Tensor, seed: int) -> torch.Tensor:
    return (model.gradient(x, target) * x).sum(1)


def random_logit(kind: str, toy: Toy, monkeypatch: pytest.MonkeyPatch) -> Pair:
    """Both against the same other class, which each side draws in its own way."""
    asked: list[torch.Tensor] = []

    def own(model: Any, x: torch.Tensor, *, target: Any, index: torch.Tensor, seed: int) -> torch.Tensor:
        asked.append(target.classes)
        return input_x_gradient(model, x, target=target, index=index, seed=seed)

    def other(model: Any, inputs: np.ndarray, targets: np.ndarray, **_: Any) -> np.ndarray:
        probe, x = Probe(toy["model"]), torch.as_tensor(inputs)
        goal = torch.as_tensor(np.asarray(targets), dtype=torch.int64)
        return input_x_gradient(probe, x, target=goal, index=torch.arange(len(x)), seed=0)[:, None].numpy()

    map = input_x_gradient(Probe(toy["model"]), toy["x"], target=toy["target"], index=torch.arange(N), seed=0)
    values = ours(f"random-logit:kind={kind}", toy, map, explain=own)
    (classes,) = asked
    place = (classes - (classes > toy["target"]).long()).numpy()  # among the classes that are not the target
    monkeypatch.setattr(np.random, "randint", lambda *_, **__: place)
    alike = getattr(quantus.similarity_func, f"correlation_{kind}")
    count = toy["model"](toy["x"]).shape[1]
    return values, theirs("RandomLogit", toy, map=map, explain=other, num_classes=count, similarity_func=alike)


def completeness(toy: Toy, _: pytest.MonkeyPatch) -> Pair:
    """They compare two numbers with ==; our residual is that of the same two numbers."""
    lost: list[np.ndarray] = []
    theirs("Completeness", toy, perturb_baseline=0.0, output_func=lambda change: lost.append(change) or change)
    total = toy["map"].double().flatten(1).sum(1).numpy()
    (change,) = lost
    return ours("completeness", toy, fill="black"), np.abs(total - change) / np.abs(change)


PAIRS: dict[str, Callable[[Toy, pytest.MonkeyPatch], Pair]] = {
    "pixel flipping": pixel_flipping,
    "faithfulness correlation": correlation_of_the_same_subsets,
    "Gini": partial(of_map, "gini-sparseness", "Sparseness", signed=False),
    "entropy": partial(of_map, "entropy", "Complexity", signed=False),
    "pointing game": partial(of_map, "pointing-game", "PointingGame", mask=True, signed=False),
    "relevance mass": partial(of_map, "relevance-mass", "RelevanceMassAccuracy", mask=True, signed=False),
    "relevance rank": partial(of_map, "relevance-rank", "RelevanceRankAccuracy", mask=True, signed=False),
    "ROC AUC": partial(of_map, "roc-auc", "AUC", mask=True, signed=True),
    "random logit, Pearson": partial(random_logit, "pearson"),
    "random logit, Spearman": partial(random_logit, "spearman"),
    "completeness, residual": completeness,
}


@pytest.mark.parametrize("name", PAIRS)
def test_the_scores_are_those_of_quantus(name: str, toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    values, want = PAIRS[name](toy, monkeypatch)
    np.testing.assert_allclose(values, want, rtol=1e-3, atol=1e-5)
    assert np.isfinite(values).all()


def test_where_they_find_completeness_the_residual_is_none(toy: Toy) -> None:
    lost: list[np.ndarray] = []
    options: dict[str, Any] = {"perturb_baseline": 0.0, "output_func": lambda change: lost.append(change) or change}
    assert not theirs("Completeness", toy, **options).any()
    map = torch.zeros_like(toy["map"])
    map[:, 3] = torch.from_numpy(lost[0])
    assert theirs("Completeness", toy, map=map, **options).all()
    np.testing.assert_allclose(ours("completeness", toy, map, fill="black"), 0, atol=1e-5)
