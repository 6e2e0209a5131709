"""A run from the data to the report for signals, images and volumes, small enough to be quick."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from heatproof import data, nets, pipeline
from heatproof.cli import main
from heatproof.errors import FileError, UnknownName, UsageError
from heatproof.models.card import Card
from heatproof.models.folder import save
from heatproof.nets import build
from heatproof.pipeline import Plan, defaults
from heatproof.pipeline import cases as worked
from heatproof.pipeline import completion as past
from heatproof.probe import HeatproofWarning
from heatproof.registry import Spec
from heatproof.report import choose
from heatproof.report.facts import Told
from heatproof.results.record import Results
from heatproof.verdict.fill_dependence import dependence

METHODS, METRICS = ("grad-cam", "layer-cam"), ("average-drop", "deletion")


def plan_for(name: str, **more: Any) -> Plan:
    plan = Plan(data=name, recipe="fast:epochs=1", net="small-cnn", methods=METHODS, metrics=METRICS, limit=6)
    return replace(plan, **more)


@pytest.fixture(scope="module", autouse=True)
def no_figure_files() -> Iterator[None]:
    """Figures are drawn into the page only: as files beside it they take half of a small run's time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("heatproof.report.page._files", lambda *_, **__: None)
        yield


@pytest.fixture(scope="module")
def image_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, pipeline.Outcome]:
    folder = tmp_path_factory.mktemp("image") / "run"
    found = pipeline.run(plan_for("synthetic-2d:samples=40,size=16"), folder)
    shutil.copytree(folder, folder.parent / "as finished")
    return folder, found


@pytest.mark.parametrize(("rank", "size"), [(1, 24), (3, 12)])
def test_signals_and_volumes_run_from_data_to_report(rank: int, size: int, tmp_path: Path) -> None:
    found = pipeline.run(plan_for(f"synthetic-{rank}d:samples=40,size={size}", trials=False), tmp_path / "run")
    page = found.report.read_text(encoding="utf-8")
    assert found.results.about["fill"] == "mean"
    assert found.others == ()
    assert found.results.trials is None
    assert found.results.metrics[0] == {1: "average-drop:keep=0.3", 3: "average-drop"}[rank]
    assert found.results.gallery is not None
    assert found.results.gallery.x.shape[2:] == (size,) * rank
    assert 'id="heatmaps"' in page
    assert 'id="baselines"' not in page
    assert 'id="cases"' not in page
    assert all(math.isfinite(e.mean) for e in found.results.estimates().values() if e.n)


class TestImages:
    def test_are_judged_with_three_baselines_at_nine_tenths(self, image_run: tuple[Path, pipeline.Outcome]) -> None:
        _, found = image_run
        studies = (found.results, *found.others)
        assert [study.about["fill"] for study in studies] == ["black", "blur", "mean"]
        assert all(study.metrics == ("average-drop:keep=0.9", "deletion") for study in studies)
        cell = (found.results.methods[0], "deletion")
        assert not np.array_equal(studies[0].scores[cell], studies[1].scores[cell])

    def test_maps_are_the_same_with_every_baseline(self, image_run: tuple[Path, pipeline.Outcome]) -> None:
        _, found = image_run
        assert found.results.gallery is not None
        for other in found.others:
            assert other.gallery is not None
            for name, maps in found.results.gallery.maps.items():
                np.testing.assert_array_equal(maps, other.gallery.maps[name])

    def test_report_shows_baselines_and_worked_cases(self, image_run: tuple[Path, pipeline.Outcome]) -> None:
        folder, found = image_run
        page = (folder / pipeline.REPORT).read_text(encoding="utf-8")
        assert 'id="baselines"' in page
        assert 'id="cases"' in page
        assert Told(found.results, found.others).dependence.text in page
        (folder / pipeline.REPORT).unlink()
        assert pipeline.report(folder).read_text(encoding="utf-8").count("<figure") == page.count("<figure")

    def test_labels_can_be_shuffled(self, image_run: tuple[Path, pipeline.Outcome]) -> None:
        folder, _ = image_run
        plan = replace(
            pipeline.plan_of(folder), metrics=("label-randomisation:epochs=1",), fill=("mean",), trials=False
        )
        model = pipeline.classifier(plan, out=folder)
        (found,) = pipeline.judge(plan, model, pipeline.splits(plan, model))
        assert found.skips == ()
        assert np.isfinite(found.scores["edge", "label-randomisation:epochs=1"]).all()
        (known,) = pipeline.judge(plan, model, pipeline.splits(plan, model).test)  # by the model's card
        for cell, scores in found.scores.items():
            np.testing.assert_array_equal(known.scores[cell], scores)

    def test_cases_keep_exactly_the_most_relevant_positions(self) -> None:
        samples = data.load("synthetic-2d:samples=40,size=16").test
        plan, model = plan_for("synthetic-2d:samples=40,size=16", fill=("black:value=7",)), build("small-cnn:rank=2")
        found = worked.cases(replace(plan, case_class="coarse"), model, samples, pipeline.assess(model, samples))
        assert found is not None
        assert found.label == "coarse"
        assert list(found.confidence) == sorted(found.confidence, reverse=True)
        for name in METHODS:
            gone = (found.kept[name] == 7).all(axis=1)
            assert gone.reshape(len(gone), -1).sum(axis=1).tolist() == [256 - round(0.9 * 256)] * len(gone)
            for removed, heat in zip(gone, found.maps[name], strict=True):
                assert heat[removed].max() <= heat[~removed].min()

    def test_a_class_that_is_not_there_is_refused_before_training(self, tmp_path: Path) -> None:
        with pytest.raises(UnknownName, match="coarse"):
            pipeline.run(plan_for("synthetic-2d:samples=40,size=16", case_class="course"), tmp_path / "run")
        assert not (tmp_path / "run" / pipeline.MODEL).exists()


class TestFinished:
    WORK = ("training.run._fit", "performance.evaluate", "studies.run._chunk", "report.write", "data.load")

    @pytest.fixture
    def folder(self, image_run: tuple[Path, pipeline.Outcome], tmp_path: Path) -> Path:
        """A copy of the finished run."""
        return Path(shutil.copytree(image_run[0].parent / "as finished", tmp_path / "run"))

    @staticmethod
    def refuse(monkeypatch: pytest.MonkeyPatch, *work: str) -> None:
        for name in work:
            monkeypatch.setattr(f"heatproof.{name}", lambda *_, name=name, **__: pytest.fail(f"{name} once more"))

    def test_run_is_read_from_its_files(
        self, image_run: tuple[Path, pipeline.Outcome], folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.refuse(monkeypatch, *self.WORK)
        first, again = image_run[1], pipeline.run(pipeline.plan_of(folder), folder)
        assert again.report == folder / pipeline.REPORT
        assert len(again.performance) == len(first.performance)
        assert dict(again.performance.intervals) == dict(first.performance.intervals)
        for old, new in zip((first.results, *first.others), (again.results, *again.others), strict=True):
            assert old.metrics == new.metrics
            for cell, scores in old.scores.items():
                np.testing.assert_array_equal(new.scores[cell], scores)

    def test_what_is_missing_alone_is_done_again(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.refuse(monkeypatch, "training.run._fit", "studies.run._chunk", "methods.explain")
        (folder / pipeline.REPORT).write_text("changed", encoding="utf-8")
        monkeypatch.setattr("heatproof.pipeline.stages.cases", lambda *_, **__: None)
        assert "changed" not in pipeline.run(pipeline.plan_of(folder), folder).report.read_text(encoding="utf-8")[:20]
        self.refuse(monkeypatch, "report.write")
        pipeline.run(pipeline.plan_of(folder), folder)

    def test_another_version_trains_nothing_but_judges_anew(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.refuse(monkeypatch, "training.run._fit")
        monkeypatch.setattr("heatproof.__version__", "99")
        monkeypatch.setattr("heatproof.report.write", lambda _, path, **__: path)
        found = pipeline.run(pipeline.plan_of(folder), folder)
        assert {study.about["version"] for study in (found.results, *found.others)} == {"99"}
        assert json.loads((folder / past.DONE).read_text(encoding="utf-8"))["version"] == "99"

    def test_files_that_it_was_made_from_are_watched(self, tmp_path: Path) -> None:
        (tmp_path / "tiles" / "a").mkdir(parents=True)
        tile = tmp_path / "tiles" / "a" / "1.png"
        tile.write_bytes(b"one")
        plan = Plan(data="folder", path=str(tmp_path / "tiles"))
        before = past.made_from(plan)
        assert past.made_from(plan) == before
        os.utime(tile, ns=(1, 1))
        assert past.made_from(plan) != before
        assert past.made_from(replace(plan, seed=1))["plan"] != before["plan"]


def test_trials_can_be_left_out_by_word_and_by_file(tmp_path: Path) -> None:
    assert Plan(trials=False).command() == "heatproof run --no-trials"
    (tmp_path / "study.yaml").write_text("trials: false\n", encoding="utf-8")
    assert pipeline.read_plan(tmp_path / "study.yaml", Plan()).trials is False
    (tmp_path / "study.yaml").write_text("trials: maybe\n", encoding="utf-8")
    with pytest.raises(UsageError, match="trials: got 'maybe'"):
        pipeline.read_plan(tmp_path / "study.yaml", Plan())


def test_cases_are_the_surest_the_middle_and_the_least_sure() -> None:
    assert choose(np.array([0.2, 0.9, 0.55, 0.7])) == [1, 2, 0]
    assert choose(np.array([0.4])) == [0]
    assert choose(np.array([])) == []


def results(fill: str, quality: Sequence[float]) -> Results:
    """A study in which two methods score as given, with little noise."""
    noise = np.random.default_rng(0).normal(size=(2, 30)) * 0.02
    return Results(
        scores={(m, "deletion"): q + e for m, q, e in zip("ab", quality, noise, strict=True)},
        methods=("a", "b"),
        controls=(),
        metrics=("deletion",),
        y=np.zeros(30, dtype=np.int64),
        predictions=np.zeros(30, dtype=np.int64),
        confidence=np.ones(30),
        classes=("one", "two"),
        about={"fill": fill, "metrics": {"deletion": {"better": "lower", "family": "faithfulness"}}},
    )


def test_dependence_on_the_baseline_is_said() -> None:
    same = (results("black", (0.1, 0.5)), results("blur", (0.2, 0.5)))
    found = dependence(same, "ab")
    assert found.leaders == {"black": "a", "blur": "a"}
    assert found.shared == ("a",)
    assert found.text == "The baseline does not change who leads: a is first with black and blur."
    other = dependence((same[0], results("blur", (0.5, 0.1))), "ab")
    assert other.changes
    assert other.shared == ()
    assert "changes who leads (black: a; blur: b); no method" in other.text


def test_dependence_on_the_baseline_is_that_of_the_methods_that_count() -> None:
    studies = (results("black", (0.1, 0.5)), results("blur", (0.5, 0.1)))
    assert dependence(studies, "b").text.startswith("The baseline does not change who leads among the methods that")
    assert "who leads, though no method counts (black: a; blur: b)" in dependence(studies, ()).text


@pytest.fixture
def tiles(tmp_path: Path) -> Path:
    """A tree of two classes of small images, one file in each part damaged."""
    random = np.random.default_rng(0)
    for part, count in (("train", 4), ("test", 3)):
        for label, name in enumerate(("dark", "light")):
            folder = tmp_path / "tiles" / part / name
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = random.integers(100 * label, 100 * label + 100, size=(20, 20, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{i}.png")
        (tmp_path / "tiles" / part / "dark" / "broken.png").write_bytes(b"\x89PNG\r\n")
    return tmp_path / "tiles"


class TestFolder:
    WORDS = ("run", "--data", "folder:size=16", "--net", "small-cnn", "--recipe", "fast:epochs=1", "--methods",
             "grad-cam", "--metrics", "average-drop", "--fill", "black,blur", "--quiet")  # fmt: skip

    def test_bad_files_are_skipped_and_listed(
        self, tiles: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main([*self.WORDS, "--path", str(tiles), "--out", str(tmp_path / "run")]) == 0
        shown = capsys.readouterr().out
        page = (tmp_path / "run" / pipeline.REPORT).read_text(encoding="utf-8")
        for file in ("train/dark/broken.png", "test/dark/broken.png"):
            assert f"Skipped {file}: " in shown
            assert file in page

    def test_strict_stops_at_a_bad_file(self, tiles: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main([*self.WORDS, "--path", str(tiles), "--out", str(tmp_path / "run"), "--strict"]) == 1
        assert "broken.png" in capsys.readouterr().err


class TestShipped:
    @pytest.fixture
    def shipped(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
        """One shipped network, untrained."""
        card = Card(Spec("tissue-resnet"), (3, 128, 128), tuple("abcdefgh"), data="hmt:size=128")
        save(build("tissue-resnet"), tmp_path / "net", card)
        monkeypatch.setattr(nets, "shipped", lambda: ("net",))
        monkeypatch.setattr(nets, "weights", lambda name: tmp_path / name)
        return "net"

    def test_is_taken_where_nothing_else_is_asked_for(self, shipped: str) -> None:
        assert defaults.shipped_for(Plan(data="hmt")) == shipped
        assert defaults.shipped_for(Plan(data="hmt:size=96", strict=True)) == shipped
        assert defaults.shipped_for(Plan(data="hmt", net="tissue-resnet")) == shipped
        assert pipeline.classifier(Plan(data="hmt")).training is False

    @pytest.mark.parametrize(
        "plan",
        [
            Plan(),
            Plan(data="synthetic-2d"),
            Plan(data="hmt:test=3"),
            Plan(data="hmt", recipe="fast"),
            Plan(data="hmt", net="vgg-7"),
            Plan(data="hmt", net="tissue-resnet:dropout=0.5"),
            Plan(data="hmt", model="other"),
        ],
    )
    def test_is_not_taken_where_it_may_not_be_meant(self, plan: Plan, shipped: str) -> None:
        assert defaults.shipped_for(plan) is None

    def test_the_most_accurate_is_taken_unless_one_is_named(self) -> None:
        assert defaults.shipped_for(Plan(data="hmt")) == "tissue-resnet"
        assert defaults.shipped_for(Plan(data="hmt", net="vgg-7")) == "vgg-7"

    def test_says_so_where_test_samples_were_trained_on(self) -> None:
        samples = data.load("synthetic-2d:samples=10").test
        with pytest.warns(HeatproofWarning) as told:
            defaults.tell_shipped("net", replace(samples, ids=("01_TUMOR/seen.tif",) * len(samples)))
        assert [f"trained on {len(samples)} of these" in str(w.message) for w in told] == [False, True]


def test_recipes_suit_their_data() -> None:
    assert [defaults.recipe_for(name) for name in (None, "mnist1d", "hmt:size=64")] == ["fast", "fast", "hmt"]


def test_networks_suit_their_inputs() -> None:
    nothing = data.load("synthetic-1d:samples=10").train
    for shape, name in (
        ((1, 40), None),
        ((3, 20, 20), "small-cnn"),
        ((3, 64, 80), "tissue-resnet"),
        ((1, 8, 8, 8), "small-cnn"),
    ):
        samples = replace(nothing, x=torch.zeros(len(nothing), *shape), mask=None)
        assert defaults.net_of(Plan(), samples) == name


def test_hmt_tiles_run_with_the_shipped_network(shared: Path, tmp_path: Path) -> None:
    if not (shared / "data" / "hmt").is_dir():
        pytest.skip("needs the HMT tiles in the shared data folder")
    if "tissue-resnet" not in nets.shipped():
        pytest.skip("needs the weights of the shipped network")
    (tmp_path / "hmt").mkdir()
    (tmp_path / "hmt" / "train").symlink_to(shared / "data" / "hmt" / "test")  # read once more rather than 4000 tiles
    (tmp_path / "hmt" / "test").symlink_to(shared / "data" / "hmt" / "test")
    plan = Plan(data="hmt:size=64", path=str(tmp_path / "hmt"), methods=METHODS, metrics=METRICS, limit=8)
    with pytest.warns(HeatproofWarning, match="comes with heatproof"):
        found = pipeline.run(plan, tmp_path / "run")
    page = found.report.read_text(encoding="utf-8")
    assert "CC BY 4.0" in page
    assert "Kather et al. (2016)" in page
    assert "test samples of class TUMOR" in page


def test_strict_is_an_error_for_the_data_itself(tiles: Path) -> None:
    with pytest.raises(FileError, match=r"broken\.png"):
        pipeline.splits(Plan(data="folder", path=str(tiles), strict=True))
