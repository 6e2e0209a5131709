"""Scores equal those of Quantus where Quantus is right; skipped where it is not installed."""

from __future__ import annotations

import warnings
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
def given() -> dict[str, Any]:
    model, x = ready(Plain(1, channels=1)), inputs(1, N, channels=1)
    mask = torch.zeros(N, *SIZE[1], dtype=torch.bool)
    mask[:, 5:14] = True
    map = torch.randn(N, *SIZE[1], generator=torch.Generator().manual_seed(0))
    return {"model": model, "x": x, "map": map, "mask": mask, "target": model(x).argmax(1).detach()}


def theirs(
    name: str, given: dict[str, Any], *, mask: bool = False, map: torch.Tensor | None = None, **options: Any
) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        metric = getattr(quantus, name)(
            disable_warnings=True, display_progressbar=False, normalise=False, abs=False, **options
        )
        found = metric(
            model=Softmaxed(given["model"]).eval(),
            x_batch=given["x"].numpy(),
            y_batch=given["target"].numpy(),
            a_batch=(given["map"] if map is None else map)[:, None].numpy(),
            device="cpu",
            softmax=False,
            **({"s_batch": given["mask"][:, None].numpy()} if mask else {}),
        )
    return np.asarray(found, dtype=np.float64)


def ours(metric: str, given: dict[str, Any], map: torch.Tensor | None = None, **options: Any) -> np.ndarray:
    map = given["map"] if map is None else map
    return score(
        Probe(given["model"]), given["x"], map, metric, target=given["target"], mask=given["mask"], **options
    ).numpy()


def test_gini_and_entropy(given: dict[str, Any]) -> None:
    map = given["map"].abs()
    np.testing.assert_allclose(ours("gini-sparseness", given, map), theirs("Sparseness", given, map=map), rtol=1e-5)
    np.testing.assert_allclose(ours("entropy", given, map), theirs("Complexity", given, map=map), rtol=1e-5)


def test_localisation(given: dict[str, Any]) -> None:
    map = given["map"].abs()
    np.testing.assert_allclose(ours("pointing-game", given, map), theirs("PointingGame", given, mask=True, map=map))
    np.testing.assert_allclose(
        ours("relevance-rank", given, map), theirs("RelevanceRankAccuracy", given, mask=True, map=map)
    )
    np.testing.assert_allclose(
        ours("relevance-mass", given, map), theirs("RelevanceMassAccuracy", given, mask=True, map=map), rtol=1e-5
    )
    np.testing.assert_allclose(ours("roc-auc", given), theirs("AUC", given, mask=True), rtol=1e-6)


def test_pixel_flipping(given: dict[str, Any]) -> None:
    """Their curve starts after the first step, ours before it."""
    want = theirs("PixelFlipping", given, features_in_step=1, perturb_baseline=0.0)
    whole = case(Probe(given["model"]), given["x"], given["map"], target=given["target"], fill="black")
    found = whole.removal_curve(first="most", steps=SIZE[1][0]).values[:, 1:]
    np.testing.assert_allclose(found.numpy(), want, rtol=1e-4, atol=1e-6)


def test_faithfulness_correlation_of_the_same_subsets(given: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    count, runs, size = SIZE[1][0], 30, 5
    whole = case(Probe(given["model"]), given["x"], given["map"], target=given["target"], fill="black")
    subsets = [
        removed[i].nonzero()[:, 0].numpy()
        for removed in _drawn(whole, runs, size, torch.arange(count), count)
        for i in range(N)
    ]
    waiting = iter(subsets)
    monkeypatch.setattr(np.random, "choice", lambda *_, **__: next(waiting))
    want = theirs(
        "FaithfulnessCorrelation", given, nr_runs=runs, subset_size=size, perturb_baseline=0.0, return_aggregate=False
    )
    found = ours(f"faithfulness-correlation:runs={runs},subset={size / count}", given, fill="black")
    np.testing.assert_allclose(found, want, rtol=1e-3, atol=1e-5)
