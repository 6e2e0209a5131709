"""A model trained on shuffled labels, and what a study will cost."""

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
from heatproof.studies.run import study
from heatproof.studies.self_checks import SEEN, TRIED, TWINS
from heatproof.studies.shuffled_labels import MEMORISE, shuffled_model


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
def given() -> Splits:
    return Splits(samples(32), samples(24))


@pytest.fixture(scope="module")
def results(given: Splits) -> Results:
    return study(net(), given, ["grad-cam"], METRICS)


def test_maps_are_compared_with_those_of_shuffled_labels(given: Splits, results: Results) -> None:
    model = net()
    other = shuffled_model(model, given.train, recipe=replace(MEMORISE, epochs=2))
    maps = [
        hp.explain(m, given.test.x, "grad-cam", target=torch.from_numpy(results.predictions)) for m in (model, other)
    ]
    want = [spearmanr(*(m[i].numpy() for m in maps)).statistic if maps[0][i].any() else np.nan for i in range(24)]
    want = [0.0 if np.isnan(value) and maps[0][i].any() else value for i, value in enumerate(want)]
    np.testing.assert_allclose(results.scores["grad-cam", NAME], want, atol=1e-6)
    np.testing.assert_allclose(results.scores["edge", NAME], 1.0)
    check = results.verdict().methods[0]
    assert NAME in (*check.passed, *check.unmoved)


def test_neither_the_model_nor_the_random_state_is_touched(given: Splits) -> None:
    model = net()
    weights, state = copy.deepcopy(model.state_dict()), torch.random.get_rng_state()
    study(model, given, ["grad-cam"], METRICS, controls=False, trials=False)
    torch.testing.assert_close(model.state_dict(), weights, rtol=0, atol=0)
    assert not model.training
    assert all(p.grad is None for p in model.parameters())
    assert torch.equal(torch.random.get_rng_state(), state)


def test_the_other_model_is_trained_once_and_kept(
    given: Splits, results: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = study(net(), given, ["grad-cam"], METRICS, out=tmp_path)
    np.testing.assert_array_equal(found.scores["grad-cam", NAME], results.scores["grad-cam", NAME])
    assert (tmp_path / "shuffled-labels" / "2-epochs" / "model" / "card.json").is_file()
    monkeypatch.setattr("heatproof.training.run._fit", lambda *_: pytest.fail("trained again"))
    again = study(net(), given, ["grad-cam"], METRICS, out=tmp_path, fill=["mean", "black"])
    np.testing.assert_array_equal(again[1].scores["grad-cam", NAME], results.scores["grad-cam", NAME])
    with pytest.raises(FolderInUse, match="learn"):
        study(net(), Splits(samples(20), given.test), ["grad-cam"], METRICS, out=tmp_path)


def test_a_model_of_unknown_training_is_skipped_with_the_reason(given: Splits) -> None:
    found = study(net(), given.test, ["grad-cam"], METRICS)
    assert {skip.metric for skip in found.skips} == {NAME}
    assert "not known what the model was trained on" in found.skips[0].reason
    assert found.scores["grad-cam", METRICS[0]].shape == (24,)
    model = net()
    attach(model, Card(Spec("mnist1d-cnn"), (1, 40), given.classes, data="folder"))
    reason = study(model, given.test, ["grad-cam"], METRICS).skips[0].reason
    assert "'folder' cannot be loaded" in reason
    few = study(net(), Splits(samples(1), given.test), ["grad-cam"], METRICS)
    assert "cannot be trained" in few.skips[0].reason


def test_training_samples_are_those_the_card_tells_of(monkeypatch: pytest.MonkeyPatch, given: Splits) -> None:
    model = net()
    attach(model, Card(Spec("mnist1d-cnn"), (1, 40), given.classes, data="mnist1d"))
    monkeypatch.setattr("heatproof.data.load", {"mnist1d": given}.__getitem__)
    found = study(model, given.test, ["grad-cam"], METRICS, controls=False, trials=False)
    assert found.skips == ()


def test_epochs_are_checked_before_anything_is_done(given: Splits) -> None:
    with pytest.raises(UsageError, match="at least 1"):
        study(net(), given, ["grad-cam"], ["label-randomisation:epochs=0"])


@pytest.mark.parametrize("n", [4, 100])
def test_the_cost_told_is_the_cost_paid(n: int) -> None:
    model, data = net(), samples(n)
    given = (["grad-cam", "ablation-cam"], ["deletion:steps=4", "mu-fidelity:runs=5", "random-logit"])
    told = cost(model, data, *given)
    probe = hp.Probe(model)
    study(probe, data, *given)
    paid = sum(probe.passes.values()) + TWINS * min(SEEN, n)
    assert told.passes == pytest.approx(paid, rel=0.02, abs=20)
    assert sum(told.trying.values()) > (1 + TWINS) * min(SEEN, n) + min(TRIED, n)
    assert f"{told.passes:,} passes" in str(told)


@pytest.mark.parametrize("n", [4, 100])
def test_trials_fills_and_training_are_part_of_the_cost(n: int) -> None:
    model, data = net(), samples(n)
    full, bare = (cost(model, data, ["grad-cam"], ["deletion:steps=4"], trials=trials) for trials in (True, False))
    assert full.judging == bare.judging
    assert sum(bare.trying.values()) == 0
    both = cost(model, data, ["ablation-cam"], ["deletion:steps=4"], fill=["mean", "black"], trials=False)
    one = cost(model, data, ["ablation-cam"], ["deletion:steps=4"], trials=False)
    assert both.judging["tail"] == one.judging["tail"]
    assert both.judging["forward"] > one.judging["forward"]
    given = Splits(samples(16), data)
    learning = cost(model, given, ["grad-cam"], ["label-randomisation:epochs=3"], trials=False)
    assert learning.trying == {"forward": 48, "backward": 48}
