"""Models from Keras files in a study of every method and every metric: scores, or a skip with a reason that holds."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import heatproof as hp
from heatproof.methods import methods
from heatproof.metrics import metrics
from heatproof.records import Samples, Splits
from heatproof.registry import Entry, Spec
from heatproof.studies.options import StudyOptions

from .test_keras import FILES, randomised, save

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
OPTIONS = StudyOptions(controls=False, self_checks=False)
N = 3
# As little work as each option allows.
SMALL = {"steps": 2, "masks": 8, "samples": 2, "runs": 2, "stages": 2, "epochs": 1, "segments": 4, "cells": 3}
NO_ATTENTION = "the model has no attention over one grid of tokens"
NO_CAM = "cam needs a layer followed by global average pooling and one dense layer"
ATTENTION = {"attention-rollout", "le-grad", "transformer-attribution"}


def small(entry: Entry) -> Spec:
    options = {k: v for k, v in SMALL.items() if isinstance(entry.options.get(k), int)}
    if {"samples", "segments"} <= set(options):  # as many as there are sets of segments, so that all suffice
        options["samples"] = 2 ** (SMALL["segments"] + 2)
    return Spec(entry.name, tuple(sorted(options.items())))


def without_a_counterpart(keras: Any, folder: Path) -> Path:
    """A layer that Keras itself runs amid layers that torch runs, and an end as CAM asks for."""
    L = keras.layers
    i = keras.Input((12, 10, 2))
    x = L.Conv2D(4, 3, padding="same", activation="relu")(i)
    x = L.Conv2DTranspose(5, 3, strides=2, padding="same", activation="relu")(L.Resizing(7, 6)(x))
    x = L.GlobalAveragePooling2D()(x)
    path = folder / "resized.keras"
    save(randomised(keras, keras.Model(i, L.Dense(3, activation="softmax")(x))), path)
    return path


@pytest.mark.parametrize("name", ["keras2_signal.h5", "keras2_image.h5", "keras2_volume.h5", "resized.keras"])
def test_every_method_and_metric_takes_a_model_from_keras(keras: Any, tmp_path: Path, name: str) -> None:
    by_keras = name == "resized.keras"
    model = hp.load(without_a_counterpart(keras, tmp_path) if by_keras else FILES / name)
    assert any(type(part).__name__ == "KerasLayer" for part in model.modules()) == by_keras
    before = copy.deepcopy(model.state_dict())
    x = torch.rand(N, *model.input_shape) * (255 if "image" in name else 1)
    with torch.no_grad():
        scores = model(x)
    mask = torch.zeros(N, *x.shape[2:], dtype=torch.bool)
    mask[(slice(None), *(slice(1, 4) for _ in x.shape[2:]))] = True
    samples = Samples(x, scores.argmax(1), mask, tuple("abcdefg"[: scores.shape[1]]), "random")
    asked = [small(methods[m]) for m in methods if not methods[m].control]
    # Where all samples are predicted alike there are no donors; and heatproof has trained none of these.
    alike = {"evidence", "donors"} if len(scores.argmax(1).unique()) == 1 else set()
    judged = [small(metrics[m]) for m in metrics if not {"retrained", *alike} & {*metrics[m].needs}]
    results = hp.study(model, Splits(samples, samples), asked, judged, options=OPTIONS, progress=False)

    skipped = {Spec.parse(skip.method).name: skip.reason for skip in results.skips}
    assert set(skipped) == (ATTENTION if by_keras else {*ATTENTION, "cam"})
    assert all(reason.startswith(NO_CAM if m == "cam" else NO_ATTENTION) for m, reason in skipped.items())
    whole = {(m, k) for m in results.methods for k in results.metrics}
    assert set(results.scores) == {cell for cell in whole if Spec.parse(cell[0]).name not in skipped}
    nan = {cell for cell, values in results.scores.items() if np.isnan(values).all()}
    # With random weights a method may find nothing that speaks for the class.
    without = {"mosaic-localisation", "relevance-mass", "energy-pointing-game", "earth-movers-distance"}
    assert {Spec.parse(metric).name for _, metric in nan} <= without
    assert all(value.equal(before[key]) for key, value in model.state_dict().items())


def test_a_layer_of_keras_2_can_be_copied(keras: Any) -> None:
    """Its hard sigmoid is not that of Keras 3, and layers that Keras runs are copied by Keras's own means."""
    model = hp.load(FILES / "keras2_lstm.h5")
    copied = copy.deepcopy(model)
    x = torch.rand(2, *model.input_shape)
    with torch.no_grad():
        want = model(x)
        torch.testing.assert_close(copied(x), want)
        for value in (v for v in copied.parameters() if v.is_floating_point()):
            nn.init.normal_(value)
        assert not copied(x).allclose(want)
        torch.testing.assert_close(model(x), want, rtol=0, atol=0)
