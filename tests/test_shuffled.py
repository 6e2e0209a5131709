"""A model trained on shuffled labels, and what a study will cost."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import heatproof as hp
from heatproof import nets
from heatproof.errors import InputError
from heatproof.records import Samples
from heatproof.studying import cost, label_randomisation, shuffled_model, study
from heatproof.studying.trials import SEEN, TRIED, TWINS
from heatproof.training import Recipe

QUICK = Recipe("quick", epochs=2, batch=16, learning_rate=0.01)


def samples(n: int = 24) -> Samples:
    x = torch.randn(n, 1, 40, generator=torch.Generator().manual_seed(0))
    return Samples(x, torch.arange(n) % 10, None, tuple("abcdefghij"), name="toy")


def net() -> torch.nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nets.build("mnist1d-cnn").eval()


def test_maps_are_compared_with_those_of_shuffled_labels(tmp_path: Path) -> None:
    model, data = net(), samples()
    weights = {k: v.clone() for k, v in model.state_dict().items()}
    results = study(model, data, ["grad-cam"], ["deletion:steps=4"])
    other = shuffled_model(model, data, recipe=QUICK, out=tmp_path)
    again = shuffled_model(model, data, recipe=QUICK, out=tmp_path)
    for name, value in other.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], value)
    torch.testing.assert_close(model.state_dict(), weights)
    found = label_randomisation(results, model, data, other)
    assert found.metrics == ("deletion:steps=4", "label-randomisation")
    np.testing.assert_allclose(found.scores["edge", "label-randomisation"], 1.0)
    alike = found.scores["grad-cam", "label-randomisation"]
    assert np.nanmean(np.abs(alike)) < 1
    same = label_randomisation(results, model, data, model).scores["grad-cam", "label-randomisation"]
    np.testing.assert_allclose(same[np.isfinite(same)], 1.0)
    found.save(tmp_path / "study")
    assert hp.load(tmp_path / "study").metrics == found.metrics
    with pytest.raises(InputError, match="the 24 of the study"):
        label_randomisation(results, model, data.take(range(5)), other)


@pytest.mark.parametrize("n", [4, 40])
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
