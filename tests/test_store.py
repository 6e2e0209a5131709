"""Results on disk: what is loaded is what was saved; foreign, truncated and newer files are refused in one line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import heatproof as hp
from heatproof.errors import FileError
from heatproof.records import Samples
from heatproof.results import storage as store
from heatproof.results.record import Results

from .small_study import study
from .toys import SIZE, Plain, inputs, ready


@pytest.fixture(scope="module")
def results() -> Results:
    mask = torch.zeros(6, *SIZE[1], dtype=torch.bool)
    mask[:, 3] = True
    samples = Samples(inputs(1, 6), torch.arange(6) % 4, mask, classes=tuple("abcd"), ids=tuple("uvwxyz"))
    return study(ready(Plain(1)), samples, ["grad-cam"], ["deletion:steps=3", "pointing-game", "average-gain"])


def test_what_is_loaded_is_what_was_saved(results: Results, tmp_path: Path) -> None:
    assert results.save(tmp_path / "a") == tmp_path / "a"
    again = hp.load(tmp_path / "a")
    assert isinstance(again, Results)
    for name in ("methods", "controls", "metrics", "classes", "ids", "skips"):
        assert getattr(again, name) == getattr(results, name)
    assert dict(again.about) == dict(results.about)
    assert list(again.scores) == list(results.scores)
    for cell, values in results.scores.items():
        np.testing.assert_array_equal(again.scores[cell], values)
    for cell, band in results.curves.items():
        np.testing.assert_array_equal(again.curves[cell].values, band.values)
    assert again.gallery is not None
    assert results.gallery is not None
    np.testing.assert_array_equal(again.gallery.x, results.gallery.x)
    assert str(again.ranking()) == str(results.ranking())
    assert again.verdict().text == results.verdict().text
    assert (again.evidence is None) == (results.evidence is None)
    assert list(again.own_controls) == list(results.own_controls)


def test_every_score_stands_in_both_tables(results: Results, tmp_path: Path) -> None:
    import pandas as pd

    results.save(tmp_path)
    want = results.to_frame()
    for again in (pd.read_csv(tmp_path / "scores.csv"), pd.read_parquet(tmp_path / "scores.parquet")):
        assert list(again.columns) == list(want.columns)
        np.testing.assert_array_equal(again["value"], want["value"])
        assert list(again["id"]) == list(want["id"])


def test_nothing_but_the_files_is_left(results: Results, tmp_path: Path) -> None:
    results.save(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {store.MANIFEST, store.ARRAYS, store.CSV, store.PARQUET}


def damage(folder: Path, kind: str) -> None:
    manifest, arrays = folder / store.MANIFEST, folder / store.ARRAYS
    page = json.loads(manifest.read_text())
    if kind == "truncated arrays":
        arrays.write_bytes(arrays.read_bytes()[:500])
    elif kind == "no arrays":
        arrays.unlink()
    elif kind == "truncated manifest":
        manifest.write_text(manifest.read_text()[:100])
    elif kind == "foreign":
        manifest.write_text("{}")
    elif kind == "older":
        manifest.write_text(json.dumps({**page, "format": 1}))
    elif kind == "newer":
        manifest.write_text(json.dumps({**page, "format": 99}))
    elif kind == "missing score":
        manifest.write_text(json.dumps({**page, "cells": [*page["cells"], ["x", "y"]]}))
    elif kind == "pickle":
        np.savez(arrays, y=np.array([{}], dtype=object), allow_pickle=True)


@pytest.mark.parametrize(
    ("kind", "word"),
    [
        ("truncated arrays", "damaged"),
        ("no arrays", "missing"),
        ("truncated manifest", "truncated"),
        ("foreign", "does not belong"),
        ("older", "run the study again"),
        ("newer", "update heatproof"),
        ("missing score", "damaged"),
        ("pickle", "damaged"),
    ],
)
def test_unfit_files_are_refused_in_one_line(results: Results, tmp_path: Path, kind: str, word: str) -> None:
    results.save(tmp_path)
    damage(tmp_path, kind)
    with pytest.raises(FileError, match=word) as error:
        store.load(tmp_path)
    assert "\n" not in str(error.value)


def test_a_folder_without_results_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="no finished study"):
        store.load(tmp_path)


def test_a_place_that_cannot_be_written_is_one_line(results: Results, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError):
        results.save(tmp_path / "file" / "below")
