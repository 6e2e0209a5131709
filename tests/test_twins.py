"""Networks trained like the model, on shuffled labels or from another seed, and what a study will cost."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

import heatproof as hp
from heatproof import nets
from heatproof.errors import FolderInUse, UsageError
from heatproof.models.card import Card, attach
from heatproof.records import Samples, Splits
from heatproof.registry import Spec
from heatproof.results.record import Results
from heatproof.studies.cost import cost
from heatproof.studies.skill import COPIES, SEEN
from heatproof.studies.twins import MEMORISE, Twin, retrained_model, shuffled_model, twins_of
from heatproof.training import Recipe, train

from .small_study import options, studies, study


def samples(n: int = 24) -> Samples:
    x = torch.randn(n, 1, 40, generator=torch.Generator().manual_seed(0))
    return Samples(x, torch.arange(n) % 10, None, tuple("abcdefghij"), name="toy")


def net() -> torch.nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nets.build("mnist1d-cnn").eval()


METRICS = ["deletion:steps=4", "label-randomisation:epochs=2"]
NAME = METRICS[1]


@pytest.fixture(scope="module")
def splits() -> Splits:
    return Splits(samples(32), samples(24))


@pytest.fixture(scope="module")
def results(splits: Splits) -> Results:
    return study(net(), splits, ["grad-cam"], METRICS)


def test_maps_are_compared_with_those_of_shuffled_labels(splits: Splits, results: Results) -> None:
    model = net()
    other = shuffled_model(model, splits.train, recipe=replace(MEMORISE, epochs=2))
    maps = [
        hp.explain(m, splits.test.x, "grad-cam", target=torch.from_numpy(results.predictions)) for m in (model, other)
    ]
    want = [spearmanr(*(m[i].numpy() for m in maps)).statistic if maps[0][i].any() else np.nan for i in range(24)]
    want = [0.0 if np.isnan(value) and maps[0][i].any() else value for i, value in enumerate(want)]
    np.testing.assert_allclose(results.scores["grad-cam", NAME], want, atol=1e-6)
    np.testing.assert_allclose(results.scores["edge", NAME], 1.0)
    alike = [finding for finding in results.verdict().findings if finding.kind == "maps-do-not-change"]
    limit = results.unchanged_above(NAME)
    assert bool(alike) == (results.estimates()["grad-cam", NAME].low > limit)


def test_neither_the_model_nor_the_random_state_is_touched(splits: Splits) -> None:
    model = net()
    weights, state = copy.deepcopy(model.state_dict()), torch.random.get_rng_state()
    study(model, splits, ["grad-cam"], METRICS, controls=False, self_checks=False)
    torch.testing.assert_close(model.state_dict(), weights, rtol=0, atol=0)
    assert not model.training
    assert all(p.grad is None for p in model.parameters())
    assert torch.equal(torch.random.get_rng_state(), state)


def test_the_other_model_is_trained_once_and_kept(
    splits: Splits, results: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = study(net(), splits, ["grad-cam"], METRICS, out=tmp_path)
    np.testing.assert_array_equal(trained.scores["grad-cam", NAME], results.scores["grad-cam", NAME])
    assert (tmp_path / "shuffled-labels" / "2-epochs" / "model" / "card.json").is_file()
    monkeypatch.setattr("heatproof.training.run._fit", lambda *_: pytest.fail("trained again"))
    again = studies(net(), splits, ["grad-cam"], METRICS, ["mean", "black"], out=tmp_path)
    np.testing.assert_array_equal(again[1].scores["grad-cam", NAME], results.scores["grad-cam", NAME])
    with pytest.raises(FolderInUse, match="learn"):
        study(net(), Splits(samples(20), splits.test), ["grad-cam"], METRICS, out=tmp_path)


def test_a_model_of_unknown_training_is_skipped_with_the_reason(splits: Splits) -> None:
    trained = study(net(), splits.test, ["grad-cam"], METRICS)
    assert {skip.metric for skip in trained.skips} == {NAME}
    assert "not known what the model was trained on" in trained.skips[0].reason
    assert trained.scores["grad-cam", METRICS[0]].shape == (24,)
    model = net()
    attach(model, Card(Spec("mnist1d-cnn"), (1, 40), splits.classes, data="folder"))
    reason = study(model, splits.test, ["grad-cam"], METRICS).skips[0].reason
    assert "'folder' cannot be loaded" in reason
    few = study(net(), Splits(samples(1), splits.test), ["grad-cam"], METRICS)
    assert "cannot be trained" in few.skips[0].reason


def test_training_samples_are_those_the_card_tells_of(monkeypatch: pytest.MonkeyPatch, splits: Splits) -> None:
    model = net()
    attach(model, Card(Spec("mnist1d-cnn"), (1, 40), splits.classes, data="mnist1d"))
    monkeypatch.setattr("heatproof.data.load", {"mnist1d": splits}.__getitem__)
    trained = study(model, splits.test, ["grad-cam"], METRICS, controls=False, self_checks=False)
    assert trained.skips == ()


def test_epochs_are_checked_before_anything_is_done(splits: Splits) -> None:
    with pytest.raises(UsageError, match="at least 1"):
        study(net(), splits, ["grad-cam"], ["label-randomisation:epochs=0"])


@pytest.mark.parametrize("n", [4, 100])
def test_the_estimated_cost_is_the_cost(n: int) -> None:
    model, data = net(), samples(n)
    methods, metrics = ["grad-cam", "ablation-cam"], ["deletion:steps=4", "mu-fidelity:runs=5", "random-logit"]
    estimate = cost(model, data, options(methods, metrics))
    probe = hp.Probe(model)
    study(probe, data, methods, metrics)
    passes = sum(probe.passes.values())
    assert estimate.passes == pytest.approx(passes, rel=0.02, abs=20)
    assert sum(estimate.self_checks.values()) == (1 + COPIES) * min(SEEN, n)
    assert f"{estimate.passes:,} passes" in str(estimate)


@pytest.mark.parametrize("n", [4, 100])
def test_self_checks_fills_and_training_are_part_of_the_cost(n: int) -> None:
    model, data = net(), samples(n)
    metrics = ["deletion:steps=4"]
    full, bare = (cost(model, data, options(["grad-cam"], metrics, self_checks=c)) for c in (True, False))
    assert full.scores == bare.scores
    assert sum(bare.self_checks.values()) == 0
    one, both = (
        cost(model, data, options(["ablation-cam"], metrics, fills, self_checks=False))
        for fills in (["mean"], ["mean", "black"])
    )
    assert both.scores["tail"] == one.scores["tail"]
    assert both.scores["forward"] > one.scores["forward"]
    splits, labels = Splits(samples(16), data), ["label-randomisation:epochs=3"]
    learning = cost(model, splits, options(["grad-cam"], labels, self_checks=False))
    assert learning.training == {"forward": 48, "backward": 48}
    assert "96 to train other networks" in str(learning)


def test_one_class_a_sample_has_a_cost(splits: Splits) -> None:
    chosen = options(["grad-cam"], ["deletion:steps=4"], target=splits.test.y, self_checks=False)
    assert cost(net(), splits.test, chosen).passes > 0


# Twins from other seeds

SHORT = Recipe("short", epochs=3, batch=8, learning_rate=0.01)
AGAIN = "retraining-consistency"


@pytest.fixture(scope="module")
def trained(splits: Splits) -> torch.nn.Module:
    return train(splits.train, recipe=SHORT, net="mnist1d-cnn", seed=4, quiet=True)


@pytest.fixture(scope="module")
def consistency(trained: torch.nn.Module, splits: Splits) -> Results:
    return study(trained, splits, ["grad-cam"], [f"{AGAIN}:twins=2"], self_checks=False)


def test_maps_are_compared_with_those_of_twins(trained: torch.nn.Module, splits: Splits, consistency: Results) -> None:
    """The mean over those twins that predict the same."""
    twins = [train(splits.train, recipe=SHORT, net="mnist1d-cnn", seed=seed, quiet=True) for seed in (5, 6)]
    x = splits.test.x
    with torch.no_grad():
        predictions = [model(x).argmax(1) for model in (trained, *twins)]
    maps = [hp.explain(model, x, "grad-cam", target=predictions[0]).numpy() for model in (trained, *twins)]
    want = np.full(24, np.nan)
    for i in range(24):
        alike = [
            spearmanr(maps[0][i], maps[k][i]).statistic if np.ptp(maps[k][i]) else 0.0
            for k in (1, 2)
            if predictions[0][i] == predictions[k][i] and np.ptp(maps[0][i])
        ]
        if alike:
            want[i] = np.mean(alike)
    assert 0 < np.isfinite(want).sum() < 24
    np.testing.assert_allclose(consistency.scores["grad-cam", f"{AGAIN}:twins=2"], want, atol=1e-6)
    edge = consistency.scores["edge", f"{AGAIN}:twins=2"]
    np.testing.assert_allclose(edge[np.isfinite(edge)], 1.0)
    assert consistency.skips == ()


def test_twins_are_trained_once_and_kept(
    trained: torch.nn.Module, splits: Splits, consistency: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    metric = f"{AGAIN}:twins=2"
    first = study(trained, splits, ["grad-cam"], [metric], out=tmp_path, self_checks=False)
    np.testing.assert_array_equal(first.scores["grad-cam", metric], consistency.scores["grad-cam", metric])
    assert sorted(path.name for path in (tmp_path / "retrained").iterdir()) == ["seed-5", "seed-6"]
    monkeypatch.setattr("heatproof.training.run._fit", lambda *_: pytest.fail("trained again"))
    fills = ["mean", "black"]
    again = studies(trained, splits, ["grad-cam"], [metric], fills, out=tmp_path, self_checks=False)
    for results in again:
        np.testing.assert_array_equal(results.scores["grad-cam", metric], consistency.scores["grad-cam", metric])


def test_a_twin_needs_to_know_how_the_model_was_trained(splits: Splits, trained: torch.nn.Module) -> None:
    def reason(card: Card | None, samples: Samples | Splits = splits) -> str:
        model = copy.deepcopy(trained)
        del model.card
        if card is not None:
            attach(model, card)
        results = study(model, samples, ["grad-cam"], [AGAIN, "deletion:steps=2"], controls=False, self_checks=False)
        (skip,) = results.skips
        assert skip.metric == AGAIN
        return skip.reason

    card, start = trained.card, "needs a model trained from another seed: "
    assert isinstance(card, Card)
    assert reason(None).startswith(start + "a model like this one cannot be trained (it is not recorded how")
    assert "give hp.study the training samples" in reason(None, splits.test)
    assert "'toy' cannot be loaded" in reason(card, splits.test)
    assert "recipe on the model's card is none of heatproof's" in reason(replace(card, recipe={"command": "make"}))
    assert "none that heatproof trains by name" in reason(replace(card, architecture=Spec("torch.nn:Linear")))


def test_one_kind_of_twin_does_without_the_other(splits: Splits) -> None:
    results = study(net(), splits, ["grad-cam"], [NAME, AGAIN], controls=False, self_checks=False)
    assert {skip.metric for skip in results.skips} == {AGAIN}
    assert np.isfinite(results.scores["grad-cam", NAME]).any()


def test_the_training_samples_may_be_those_of_the_card(
    trained: torch.nn.Module, splits: Splits, consistency: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("heatproof.data.load", {"toy": splits}.__getitem__)
    results = study(trained, splits.test, ["grad-cam"], [f"{AGAIN}:twins=2"], controls=False, self_checks=False)
    for cell, scores in results.scores.items():
        np.testing.assert_array_equal(scores, consistency.scores[cell])


def test_which_networks_metrics_ask_for() -> None:
    specs = [Spec.parse(text) for text in (f"{AGAIN}:twins=2", AGAIN, NAME, "deletion")]
    assert twins_of(specs) == [Twin("relearnt", 2), Twin("retrained", 1), Twin("retrained", 2)]
    with pytest.raises(UsageError, match="option twins got 0"):
        twins_of([Spec.parse(f"{AGAIN}:twins=0")])


def test_the_same_seed_gives_the_model_itself(trained: torch.nn.Module, splits: Splits) -> None:
    twin = retrained_model(trained, splits.train, number=0)
    torch.testing.assert_close(dict(twin.named_parameters()), dict(trained.named_parameters()))


def test_training_twins_is_part_of_the_cost(trained: torch.nn.Module, splits: Splits) -> None:
    estimate = cost(trained, splits, options(["grad-cam"], [f"{AGAIN}:twins=2"], self_checks=False))
    assert estimate.training == {"forward": 2 * 3 * 32, "backward": 2 * 3 * 32}
    unknown = cost(net(), splits, options(["grad-cam"], [AGAIN], self_checks=False))
    assert unknown.training == {"forward": 0, "backward": 0}
