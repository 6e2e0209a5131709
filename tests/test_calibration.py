"""Calibration by planted truth, how many samples separate two methods, and trials on a model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import kendalltau, spearmanr

from heatproof import nets
from heatproof.facade import Results, study
from heatproof.records import Samples
from heatproof.stats import samples_needed
from heatproof.verdict.agreement import calibrate, tau

from .levels import CONTROLS, built, learnt

LEVELS = {"a": 1.0, "b": 0.0, "c": -0.5, **CONTROLS}


def planted(metric_level: float, **extra: Any) -> Results:
    """Pointing tells the truth; deletion agrees with it to the given degree, aopc is the opposite."""
    levels = {
        name: {"pointing": level, "deletion": metric_level * level, "aopc": -level} for name, level in LEVELS.items()
    }
    return built(levels, **extra)


def test_metrics_that_agree_with_the_mask_come_first_and_opposites_are_named() -> None:
    found = planted(1.0, noise=0.1).calibration()
    assert found.truth == ("pointing",)
    assert [row.metric for row in found.rows] == ["deletion", "aopc"]
    assert found.rows[0].agrees
    assert found.rows[0].methods.mean == pytest.approx(1.0)
    assert found.rows[1].methods.mean == pytest.approx(-1.0)
    assert not found.rows[1].agrees
    assert found.agreeing == ("deletion",)
    assert found.opposed == ("aopc",)


def test_a_metric_of_noise_is_not_said_to_agree() -> None:
    results = planted(0.0, noise=1.0)
    found = calibrate(results, results.judgement.comparable)
    assert not any(row.agrees for row in found.rows)
    assert found.agreeing == ()


def test_correlations_are_those_of_scipy() -> None:
    results = planted(0.5, noise=1.0)
    row = next(r for r in results.calibration().rows if r.metric == "deletion")
    ranks, truth = results.family_ranks(("deletion",)), results.family_ranks(("pointing",))
    assert row.methods.mean == pytest.approx(kendalltau(ranks.mean(0), truth.mean(0)).statistic)
    within = [spearmanr(a, b).statistic for a, b in zip(ranks, truth, strict=True)]
    assert row.samples.mean == pytest.approx(np.mean(within))
    assert row.methods.low <= row.methods.mean <= row.methods.high


def test_tied_orders_have_no_tau() -> None:
    assert np.isnan(tau(np.ones(3), np.arange(3.0)))
    a, b = np.array([1.0, 1.0, 2.0, 3.0]), np.array([1.0, 2.0, 2.0, 0.0])
    assert tau(a, b) == pytest.approx(kendalltau(a, b).statistic)


def test_without_masks_there_is_nothing_to_calibrate_by() -> None:
    results = built(LEVELS, families={"pointing": "faithfulness"})
    assert results.calibration().rows == ()
    assert results.calibration().reason == "no-truth"


def test_the_samples_needed_are_those_of_each_pair() -> None:
    results = built({"a": 0.2, "b": 0.0, "c": -1.0}, noise=0.5)
    table = results.table("deletion", controls=False)
    found = results.samples_needed(table)
    assert set(found) == {("a", "b"), ("a", "c"), ("b", "c")}
    assert found["a", "b"] == samples_needed(table[:, 0] - table[:, 1])
    assert found["a", "c"] < found["a", "b"]
    rows = results.ranking("deletion").rows
    assert rows[0].needed == 0
    assert rows[2].needed == found["a", "c"]


def test_an_untrained_net_gets_no_verdict() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(60, 1, 40, generator=generator)
    y = torch.arange(60) % 10
    x[torch.arange(60), 0, 4 * y] += 4
    samples = Samples(x, y, None, tuple("abcdefghij"))
    for seed in range(3):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = nets.build("mnist1d-cnn").eval()
        results = study(model, samples, ["grad-cam", "saliency"], ["deletion:steps=5", "insertion:steps=5"])
        found = results.verdict()
        assert (found.kind, found.trusted) == ("none", ())
        assert "learnt anything" in found.text
        knowing = learnt(results, correct=1.0)
        assert knowing.verdict().decision.reason != "model-has-not-learnt"
