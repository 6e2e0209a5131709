"""Samples of one patient or slide: read from arrays, columns and names of files, split whole, and judged together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import heatproof as hp
from heatproof.data.groups import set_aside, with_groups
from heatproof.errors import FolderInUse, InputError, UsageError
from heatproof.records import Samples

from .small_study import study
from .toys import Plain, inputs, ready

PATIENTS = ["p1"] * 4 + ["p2"] * 4 + ["p3"] * 4


def arrays() -> dict[str, np.ndarray]:
    """Twelve signals of three patients and two classes."""
    rng = np.random.default_rng(0)
    return {"x": rng.normal(size=(12, 2, 20)), "y": np.arange(12) % 2, "patient": np.array(PATIENTS)}


def test_groups_of_samples_are_one_each_and_go_with_them() -> None:
    samples = Samples(torch.zeros(3, 1, 4), [0, 1, 0], groups=[7, 7, 9])
    assert samples.groups == ("7", "7", "9")
    assert samples.take([2, 0]).groups == ("9", "7")
    with pytest.raises(InputError, match="got 2 groups for 3 samples"):
        Samples(torch.zeros(3, 1, 4), [0, 1, 0], groups=["a", "b"])


def test_an_array_names_the_patient_and_patients_are_split_whole() -> None:
    splits = hp.data.arrays(arrays(), group="patient", test=0.3)
    assert len(splits.test) == 4
    assert not {*splits.train.groups} & {*splits.test.groups}
    with pytest.raises(InputError, match="expected 'slide' too"):
        hp.data.arrays(arrays(), group="slide")
    with pytest.raises(InputError, match="all samples are of the group"):
        hp.data.arrays({**arrays(), "patient": np.array(["p1"] * 12)}, group="patient")


def test_a_column_of_a_csv_file_names_the_patient(tmp_path: Path) -> None:
    rows = ["a,b,c,patient,label", *(f"{i},{i + 1},{i * 2},{PATIENTS[i]},{'ab'[i % 2]}" for i in range(12))]
    (tmp_path / "signals.csv").write_text("\n".join(rows), encoding="utf-8")
    splits = hp.data.load("arrays:test=0.3", tmp_path / "signals.csv", group="patient")
    assert {*splits.train.groups, *splits.test.groups} == {"p1", "p2", "p3"}
    assert tuple(splits.test.x.shape[1:]) == (1, 3)


def test_the_column_of_the_labels_names_no_patient(tmp_path: Path) -> None:
    rows = ["a,b,c,label", *(f"{i},{i + 1},{i * 2},{'ab'[i % 2]}" for i in range(12))]
    (tmp_path / "signals.csv").write_text("\n".join(rows), encoding="utf-8")
    with pytest.raises(InputError, match="'label' holds the labels"):
        hp.data.load("arrays", tmp_path / "signals.csv", group="label")


def test_a_study_in_a_folder_is_another_one_with_other_groups(tmp_path: Path) -> None:
    data = Samples(inputs(1, 12), torch.arange(12) % 4, classes=tuple("abcd"))
    study(ready(Plain(1)), data, ["grad-cam"], ["deletion:steps=4"], out=tmp_path)
    grouped = Samples(data.x, data.y, classes=data.classes, groups=PATIENTS)
    with pytest.raises(FolderInUse, match="samples"):
        study(ready(Plain(1)), grouped, ["grad-cam"], ["deletion:steps=4"], out=tmp_path)


def test_a_regular_expression_finds_the_patient_in_the_name() -> None:
    samples = Samples(torch.zeros(2, 1, 4), [0, 1], ids=["a/p1_tile3.png", "b/p22_tile1.png"])
    assert with_groups(samples, r"p\d+").groups == ("p1", "p22")
    assert with_groups(samples, r"p(\d+)_").groups == ("1", "22")
    with pytest.raises(InputError, match=r"does not match the name 'a/p1_tile3\.png'"):
        with_groups(samples, "slide")
    with pytest.raises(UsageError, match="no regular expression"):
        with_groups(samples, "(")


def test_data_without_groups_refuse_the_option() -> None:
    with pytest.raises(UsageError, match="mnist1d has no groups"):
        hp.data.load("mnist1d:samples=100", group="patient")


@pytest.mark.parametrize("share", [0.05, 0.3, 0.9])
def test_about_a_share_of_the_samples_is_set_aside_and_a_group_is_left(share: float) -> None:
    chosen = set_aside([f"g{i // 3}" for i in range(60)], share, seed=1)
    assert 0 < int(chosen.sum()) < 60
    assert abs(float(chosen.double().mean()) - share) <= 0.08


def test_a_study_keeps_the_groups_and_its_intervals_use_them() -> None:
    data = Samples(inputs(1, 12), torch.arange(12) % 4, classes=tuple("abcd"), groups=PATIENTS)
    results = study(ready(Plain(1)), data, ["grad-cam"], ["deletion:steps=4"])
    assert results.groups is not None
    assert results.groups.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    alone = study(ready(Plain(1)), Samples(data.x, data.y, classes=data.classes), ["grad-cam"], ["deletion:steps=4"])
    cell = ("grad-cam", "deletion:steps=4")
    together, apart = results.estimates()[cell], alone.estimates()[cell]
    assert together.mean == apart.mean
    assert (together.low, together.high) != (apart.low, apart.high)
